/**
 * CONNECT, SUBSCRIBE and UNSUBSCRIBE, read strictly: every rule that MQTT 3.1.1 says must close the connection is a
 * `fault` here, by name, so that it can be counted. Pure; answers are values.
 */
import { filterFault, isMqttText, topicNameFault } from './topic-grammar.js'
import { headerBytes, ReturnCode, type Will } from './wire.js'

/** Longest client id in bytes (MQTT 3.1.1 demands 23). */
export const clientIdBytesMax = 256

export interface ConnectRequest {
  readonly kind: 'connect'
  /** 4 for MQTT 3.1.1, 3 for MQTT 3.1. */
  readonly level: number
  readonly clean: boolean
  readonly keepAliveSeconds: number
  readonly clientId: string
  /** Topic as sent: relative to the tenant. */
  readonly will: Will | null
  readonly userName: string | null
  readonly password: string | null
}

export type ConnectOutcome =
  | ConnectRequest
  /** To be answered with this CONNACK return code. */
  | { readonly kind: 'refused', readonly returnCode: number, readonly reason: string }
  /** To be closed without an answer (MQTT-4.8.0-1). */
  | { readonly kind: 'fault', readonly reason: string }

const fault = (reason: string): { readonly kind: 'fault', readonly reason: string } => ({ kind: 'fault', reason })

/** Reads length-prefixed fields; `failed` when one reaches past the end. */
class Fields {
  failed = false
  readonly #packet: Buffer
  #at: number

  constructor (packet: Buffer, at: number) {
    this.#packet = packet
    this.#at = at
  }

  byte (): number {
    if (this.#at + 1 > this.#packet.length) { this.failed = true; return 0 }
    return this.#packet[this.#at++]
  }

  uint16 (): number {
    return (this.byte() << 8) | this.byte()
  }

  bytes (): Buffer {
    const length = this.uint16()
    if (this.failed || this.#at + length > this.#packet.length) { this.failed = true; return this.#packet.subarray(0, 0) }
    return this.#packet.subarray(this.#at, this.#at += length)
  }

  get ended (): boolean { return this.#at === this.#packet.length }
}

/** Reads a whole CONNECT packet (MQTT 3.1.1 section 3.1). */
export function readConnect (packet: Buffer): ConnectOutcome {
  if (packet[0] !== 0x10) return fault('reserved_flags')
  const fields = new Fields(packet, headerBytes(packet, 0))
  const name = fields.bytes().toString('latin1')
  const level = fields.byte()
  const flags = fields.byte()
  const keepAliveSeconds = fields.uint16()
  if (fields.failed) return fault('connect_truncated')
  if (!(name === 'MQTT' && level === 4) && !(name === 'MQIsdp' && level === 3)) {
    return { kind: 'refused', returnCode: ReturnCode.protocolVersion, reason: 'protocol_version' }
  }
  if ((flags & 1) !== 0) return fault('connect_flags')
  const willQos = (flags >> 3) & 3
  const hasWill = (flags & 4) !== 0
  if (willQos === 3 || (!hasWill && (flags & 0x38) !== 0)) return fault('will_flags')
  const hasUserName = (flags & 0x80) !== 0
  const hasPassword = (flags & 0x40) !== 0
  if (hasPassword && !hasUserName) return fault('password_without_user_name')

  const clientId = fields.bytes()
  const willTopic = hasWill ? fields.bytes() : null
  const willPayload = hasWill ? fields.bytes() : null
  const userName = hasUserName ? fields.bytes() : null
  const password = hasPassword ? fields.bytes() : null
  if (fields.failed) return fault('connect_truncated')
  if (!fields.ended) return fault('connect_trailing_bytes')
  if (!isMqttText(clientId)) return fault('client_id_not_utf8')
  if (userName !== null && !isMqttText(userName)) return fault('user_name_not_utf8')

  let will: Will | null = null
  if (willTopic !== null && willPayload !== null) {
    const wrong = topicNameFault(willTopic)
    if (wrong !== null) return fault(`will_${wrong}`)
    will = { topic: willTopic.toString(), payload: Buffer.from(willPayload), qos: willQos, retain: (flags & 0x20) !== 0 }
  }
  const clean = (flags & 2) !== 0
  if (clientId.length > clientIdBytesMax || (clientId.length === 0 && (!clean || level === 3))) {
    return { kind: 'refused', returnCode: ReturnCode.identifierRejected, reason: 'client_id' }
  }
  return {
    kind: 'connect',
    level,
    clean,
    keepAliveSeconds,
    clientId: clientId.toString(),
    will,
    userName: userName === null ? null : userName.toString(),
    password: password === null ? null : password.toString('latin1')
  }
}

export interface RequestedFilter {
  readonly filter: string
  readonly bytes: Buffer
  readonly qos: number
}

export type FiltersOutcome =
  | { readonly kind: 'filters', readonly packetId: number, readonly filters: readonly RequestedFilter[] }
  | { readonly kind: 'fault', readonly reason: string }

/** Reads a SUBSCRIBE (`withQos`) or UNSUBSCRIBE (MQTT 3.1.1 sections 3.8 and 3.10). */
export function readFilters (packet: Buffer, withQos: boolean): FiltersOutcome {
  if ((packet[0] & 15) !== 2) return fault('reserved_flags')
  const fields = new Fields(packet, headerBytes(packet, 0))
  const packetId = fields.uint16()
  if (fields.failed) return fault('packet_truncated')
  if (packetId === 0) return fault('packet_id_zero')
  if (fields.ended) return fault('no_filters')
  const filters: RequestedFilter[] = []
  while (!fields.ended) {
    const bytes = fields.bytes()
    const qos = withQos ? fields.byte() : 0
    if (fields.failed) return fault('packet_truncated')
    if (qos > 2) return fault('subscribe_qos')
    const wrong = filterFault(bytes)
    if (wrong !== null) return fault(wrong)
    filters.push({ filter: bytes.toString(), bytes, qos })
  }
  return { kind: 'filters', packetId, filters }
}

/** What is wrong with PUBACK, PUBREC, PUBREL, PUBCOMP, PINGREQ or DISCONNECT; null when nothing is. */
export function shortPacketFault (packet: Buffer, flags: number, hasPacketId: boolean): string | null {
  if ((packet[0] & 15) !== flags) return 'reserved_flags'
  if (packet.length !== (hasPacketId ? 4 : 2)) return 'packet_length'
  if (hasPacketId && packet.readUInt16BE(2) === 0) return 'packet_id_zero'
  return null
}
