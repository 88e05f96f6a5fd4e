/**
 * The values of the broker's database (format 1). Fixed fields first, what is rare last; every read checks its
 * bounds, and a value that does not fit its layout is `corrupt_data`, never a wrong packet.
 *
 *     packet     flags16 topicLength16 topic [brokerIdLength16 brokerId] [counter64] [extrasLength32 extras] payload
 *     reference  kind8 qosAndRetain8 copies8 0 messageId16 size32 brokerHash32 counter64
 *     session    firstNumber64 disconnectedAt64
 *     options    one byte (two bits each for qos, rh, rap, nl; 3 is "absent") [subscriptionIdentifier32]
 *
 * 64-bit fields are IEEE doubles; extras are CBOR (RFC 8949) of the packet's remaining fields.
 */
import { Encoder } from 'cbor-x'
import { TwinfoldError } from '../../core/errors.js'
import type { BrokerPacket, BrokerSubscription } from './types.js'

const flag = { retain: 4, hasDup: 8, dup: 16, hasBrokerId: 32, hasCounter: 64, textPayload: 128, hasExtras: 256, publish: 512 } as const

/** Fields with a place of their own, and those that belong to one delivery only. */
const ownFields = new Set(['cmd', 'topic', 'payload', 'qos', 'retain', 'dup', 'brokerId', 'brokerCounter', 'messageId', 'length', 'writeCallback'])
/** What Aedes keeps of a packet on its way to a queue (aedes-packet). */
const queuedExtras = ['clientId', 'nl', 'properties', 'messageExpiry'] as const

const cbor = new Encoder({ useRecords: false, mapsAsObjects: true })

const corrupt = (what: string): TwinfoldError => new TwinfoldError('corrupt_data', `the broker database holds a damaged ${what}`)

export interface EncodeOptions {
  /** `all`: every field that can be stored (retained, wills). `queued`: what Aedes keeps in queues. */
  readonly extras: 'all' | 'queued'
  /** A longer payload is stored as an empty one. */
  readonly payloadBytesMax?: number
}

function extrasOf (packet: BrokerPacket, which: 'all' | 'queued'): Buffer | null {
  const fields = packet as unknown as Record<string, unknown>
  let extras: Record<string, unknown> | null = null
  for (const name of which === 'all' ? Object.keys(fields) : queuedExtras) {
    const value = fields[name]
    if (value === undefined || typeof value === 'function' || (which === 'all' && ownFields.has(name))) continue
    extras ??= {}
    extras[name] = value
  }
  if (packet.cmd !== undefined && packet.cmd !== 'publish') extras = { ...extras, cmd: packet.cmd }
  return extras === null ? null : cbor.encode(extras)
}

/** RangeError for topics of more than 65,535 bytes, which MQTT cannot carry. */
export function encodePacket (packet: BrokerPacket, options: EncodeOptions): Buffer {
  const whole = packet.payload ?? ''
  const payloadBytes = typeof whole === 'string' ? Buffer.byteLength(whole) : whole.length
  const payload = payloadBytes > (options.payloadBytesMax ?? Infinity) ? '' : whole
  const storedBytes = payload === whole ? payloadBytes : 0
  const topicBytes = Buffer.byteLength(packet.topic)
  const hasBrokerId = typeof packet.brokerId === 'string'
  const brokerIdBytes = hasBrokerId ? Buffer.byteLength(packet.brokerId as string) : 0
  const hasCounter = typeof packet.brokerCounter === 'number'
  const extras = extrasOf(packet, options.extras)

  let flags = packet.qos & 3
  if (packet.retain) flags |= flag.retain
  if (packet.dup !== undefined) flags |= flag.hasDup
  if (packet.dup) flags |= flag.dup
  if (hasBrokerId) flags |= flag.hasBrokerId
  if (hasCounter) flags |= flag.hasCounter
  if (typeof whole === 'string') flags |= flag.textPayload
  if (extras !== null) flags |= flag.hasExtras
  if (packet.cmd === 'publish') flags |= flag.publish

  const bytes = Buffer.allocUnsafe(4 + topicBytes + (hasBrokerId ? 2 + brokerIdBytes : 0) + (hasCounter ? 8 : 0) +
    (extras === null ? 0 : 4 + extras.length) + storedBytes)
  bytes.writeUInt16BE(flags, 0)
  let at = bytes.writeUInt16BE(topicBytes, 2)
  at += bytes.write(packet.topic, at)
  if (hasBrokerId) {
    at = bytes.writeUInt16BE(brokerIdBytes, at)
    at += bytes.write(packet.brokerId as string, at)
  }
  if (hasCounter) at = bytes.writeDoubleBE(packet.brokerCounter as number, at)
  if (extras !== null) {
    at = bytes.writeUInt32BE(extras.length, at)
    at += extras.copy(bytes, at)
  }
  if (typeof payload === 'string') bytes.write(payload, at)
  else payload.copy(bytes, at)
  return bytes
}

/** Only the fields that were there are set. The payload shares the memory of `bytes`. */
export function decodePacket (bytes: Buffer): BrokerPacket {
  try {
    const flags = bytes.readUInt16BE(0)
    let at = 4
    const text = (length: number): string => {
      if (at + length > bytes.length) throw corrupt('packet')
      at += length
      return bytes.toString('utf8', at - length, at)
    }
    const packet: Partial<BrokerPacket> = {}
    if (flags & flag.publish) packet.cmd = 'publish'
    packet.topic = text(bytes.readUInt16BE(2))
    packet.qos = flags & 3
    packet.retain = (flags & flag.retain) !== 0
    if (flags & flag.hasDup) packet.dup = (flags & flag.dup) !== 0
    if (flags & flag.hasBrokerId) {
      at += 2
      packet.brokerId = text(bytes.readUInt16BE(at - 2))
    }
    if (flags & flag.hasCounter) {
      packet.brokerCounter = bytes.readDoubleBE(at)
      at += 8
    }
    if (flags & flag.hasExtras) {
      const length = bytes.readUInt32BE(at)
      at += 4
      if (at + length > bytes.length) throw corrupt('packet')
      Object.assign(packet, cbor.decode(bytes.subarray(at, at + length)))
      at += length
    }
    packet.payload = flags & flag.textPayload ? bytes.toString('utf8', at) : bytes.subarray(at)
    return packet as BrokerPacket
  } catch (error) {
    throw error instanceof TwinfoldError ? error : corrupt('packet')
  }
}

/** One message in one session's queue. */
export interface Reference {
  /** `pubrel`: the subscriber has the message (PUBREC came); its content is gone, the PUBREL is still owed. */
  pubrel: boolean
  qos: number
  retain: boolean
  /** Subscriptions of the session that matched: Aedes takes back all but one of overlapping ones. */
  copies: number
  /** Packet identifier it was sent under, 0 when it never was. */
  messageId: number
  /** Bytes of the stored message, 0 once it is a PUBREL. */
  size: number
  brokerHash: number
  brokerCounter: number
}

export const referenceBytes = 22

export function encodeReference (reference: Reference): Buffer {
  const bytes = Buffer.allocUnsafe(referenceBytes)
  bytes[0] = reference.pubrel ? 1 : 0
  bytes[1] = (reference.qos & 3) | (reference.retain ? 4 : 0)
  bytes[2] = Math.min(255, reference.copies)
  bytes[3] = 0
  bytes.writeUInt16BE(reference.messageId, 4)
  bytes.writeUInt32BE(reference.size, 6)
  bytes.writeUInt32BE(reference.brokerHash, 10)
  bytes.writeDoubleBE(reference.brokerCounter, 14)
  return bytes
}

export function decodeReference (bytes: Buffer): Reference {
  if (bytes.length !== referenceBytes) throw corrupt('queue entry')
  return {
    pubrel: bytes[0] === 1,
    qos: bytes[1] & 3,
    retain: (bytes[1] & 4) !== 0,
    copies: bytes[2],
    messageId: bytes.readUInt16BE(4),
    size: bytes.readUInt32BE(6),
    brokerHash: bytes.readUInt32BE(10),
    brokerCounter: bytes.readDoubleBE(14)
  }
}

/** Two doubles: a session (first number, disconnect in µs) or a tenant's retained count and bytes. */
export function encodePair (first: number, second: number): Buffer {
  const bytes = Buffer.allocUnsafe(16)
  bytes.writeDoubleBE(first, 0)
  bytes.writeDoubleBE(second, 8)
  return bytes
}

export function decodePair (bytes: Buffer): [number, number] {
  if (bytes.length !== 16) throw corrupt('counter')
  return [bytes.readDoubleBE(0), bytes.readDoubleBE(8)]
}

export type SubscriptionOptions = Omit<BrokerSubscription, 'topic'>

const absent = 3
const bitOf = (value: boolean | undefined): number => value === undefined ? absent : value ? 1 : 0

export function encodeOptions (options: SubscriptionOptions): Buffer {
  const packed = (options.qos & 3) | ((options.rh ?? absent) & 3) << 2 | bitOf(options.rap) << 4 | bitOf(options.nl) << 6
  if (options.subscriptionIdentifier === undefined) return Buffer.from([packed])
  const bytes = Buffer.allocUnsafe(5)
  bytes[0] = packed
  bytes.writeUInt32BE(options.subscriptionIdentifier, 1)
  return bytes
}

export function decodeOptions (bytes: Buffer): SubscriptionOptions {
  if (bytes.length !== 1 && bytes.length !== 5) throw corrupt('subscription')
  const two = (shift: number): number => bytes[0] >> shift & 3
  const flagAt = (shift: number): boolean | undefined => two(shift) === absent ? undefined : two(shift) === 1
  const options = { qos: two(0), rh: two(2) === absent ? undefined : two(2), rap: flagAt(4), nl: flagAt(6) }
  return bytes.length === 5 ? { ...options, subscriptionIdentifier: bytes.readUInt32BE(1) } : options
}
