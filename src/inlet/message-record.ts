/**
 * Records of kind 7 (journal/FORMAT.md): PUBLISH packets of MQTT 3.1.1 one after the other, with written-out topics
 * `devices/{id}/{path}`, whoever sent them: so one reader serves MQTT, HTTP, wills and replays. Pure.
 */
import type { RecordIdentity } from '../journal/record.js'
import type { DeviceMessage } from './device-message.js'

/** A record of the journal that is for the applier. */
export interface InletRecord {
  readonly kind: number
  readonly position: number
  /** Position after it. */
  readonly end: number
  /** Of its first message, µs. */
  readonly stamp: number
  readonly messages: number
  readonly identity: RecordIdentity
  readonly body: Buffer
  /** It was in the journal when the process started. */
  readonly replayed: boolean
}

/** A PUBLISH of QoS 0. */
export function encodeMessage (topic: string, payload: Uint8Array): Buffer {
  const topicBytes = Buffer.byteLength(topic)
  const remaining = 2 + topicBytes + payload.length
  const length: number[] = []
  for (let rest = remaining; ;) {
    length.push((rest & 127) | (rest > 127 ? 128 : 0))
    rest >>>= 7
    if (rest === 0) break
  }
  const packet = Buffer.allocUnsafe(1 + length.length + remaining)
  packet[0] = 0x30
  packet.set(length, 1)
  let at = packet.writeUInt16BE(topicBytes, 1 + length.length)
  at += packet.write(topic, at)
  packet.set(payload, at)
  return packet
}

/** What a record holds; what follows a packet that does not add up is left out, and its offset told. */
export interface RecordMessages {
  readonly messages: readonly DeviceMessage[]
  /** -1: all of it was read. */
  readonly brokenAt: number
}

export function messagesIn (record: InletRecord, journalId: string): RecordMessages {
  const { body, identity, position, stamp, replayed } = record
  const messages: DeviceMessage[] = []
  for (let at = 0; at < body.length;) {
    const packet = packetAt(body, at)
    if (packet === null) return { messages, brokenAt: at }
    const topic = body.toString('utf8', packet.topicAt, packet.topicEnd)
    const slash = topic.indexOf('/', 8)
    if (!topic.startsWith('devices/') || slash === -1) return { messages, brokenAt: at }
    const index = messages.length
    messages.push({
      journalId, position: position + index, stamp: stamp + index, tenant: identity.tenant, device: topic.slice(8, slash), path: topic.slice(slash + 1),
      payload: body.subarray(packet.payloadAt, packet.end), replayed
    })
    at = packet.end
  }
  return { messages, brokenAt: -1 }
}

function packetAt (body: Buffer, start: number): { topicAt: number, topicEnd: number, payloadAt: number, end: number } | null {
  const qos = (body[start] >> 1) & 3
  if (body[start] >> 4 !== 3 || qos === 3) return null
  let at = start + 1
  let remaining = 0
  for (let shift = 0; ; shift += 7) {
    if (at >= body.length || shift > 21) return null
    const byte = body[at++]
    remaining |= (byte & 127) << shift
    if (byte < 128) break
  }
  const end = at + remaining
  if (end > body.length || remaining < 2) return null
  const topicEnd = at + 2 + body.readUInt16BE(at)
  const payloadAt = qos === 0 ? topicEnd : topicEnd + 2
  return payloadAt > end ? null : { topicAt: at + 2, topicEnd, payloadAt, end }
}
