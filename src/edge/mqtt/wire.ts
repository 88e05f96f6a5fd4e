/**
 * The bytes of MQTT 3.1.1 packets: lengths, and the few packets that the stage writes itself. Pure. Nothing here
 * allocates on the way of a PUBLISH; encoders serve the control packets only.
 */

/** MQTT 3.1.1 table 2.1. */
export const PacketType = {
  connect: 1,
  connack: 2,
  publish: 3,
  puback: 4,
  pubrec: 5,
  pubrel: 6,
  pubcomp: 7,
  subscribe: 8,
  suback: 9,
  unsubscribe: 10,
  unsuback: 11,
  pingreq: 12,
  pingresp: 13,
  disconnect: 14
} as const

/** First bytes of the packets that carry a packet id and nothing else. */
export const pubackByte = 0x40
export const pubrecByte = 0x50
export const pubcompByte = 0x70
/** Size of such a packet. */
export const acknowledgementBytes = 4

/** CONNACK return codes (MQTT 3.1.1 table 3.1). */
export const ReturnCode = {
  accepted: 0,
  protocolVersion: 1,
  identifierRejected: 2,
  serverUnavailable: 3,
  badUserNameOrPassword: 4,
  notAuthorized: 5
} as const

/** `packetBytes`: the fixed header is not there in full yet. */
export const headerIncomplete = -1
/** `packetBytes`: the remaining length has more than four bytes (MQTT 3.1.1 section 2.2.3). */
export const headerMalformed = -2

/** Bytes of the whole packet that starts at `at`, or one of the two negative answers above. */
export function packetBytes (bytes: Uint8Array, at: number, end: number): number {
  if (end - at < 2) return headerIncomplete
  const low = bytes[at + 1]
  if (low < 128) return 2 + low
  let remaining = low & 127
  for (let i = 2; i <= 4; i++) {
    if (at + i >= end) return headerIncomplete
    const byte = bytes[at + i]
    remaining |= (byte & 127) << (7 * (i - 1))
    if (byte < 128) return i + 1 + remaining
  }
  return headerMalformed
}

/** Bytes of the fixed header of a packet whose `packetBytes` is known. */
export function headerBytes (bytes: Uint8Array, at: number): number {
  if (bytes[at + 1] < 128) return 2
  if (bytes[at + 2] < 128) return 3
  return bytes[at + 3] < 128 ? 4 : 5
}

function lengthBytes (remaining: number): number {
  if (remaining < 128) return 1
  if (remaining < 16_384) return 2
  return remaining < 2_097_152 ? 3 : 4
}

/** A packet with room for `remaining` bytes; `at` is where they start. */
export function newPacket (first: number, remaining: number): { packet: Buffer, at: number } {
  const at = 1 + lengthBytes(remaining)
  const packet = Buffer.allocUnsafe(at + remaining)
  packet[0] = first
  let rest = remaining
  for (let i = 1; i < at; i++) {
    packet[i] = (rest & 127) | (i < at - 1 ? 128 : 0)
    rest >>>= 7
  }
  return { packet, at }
}

function writeText (packet: Buffer, at: number, text: string): number {
  const bytes = packet.write(text, at + 2, 'utf8')
  packet.writeUInt16BE(bytes, at)
  return at + 2 + bytes
}

export function encodeConnack (returnCode: number, sessionPresent: boolean): Buffer {
  return Buffer.from([0x20, 2, sessionPresent ? 1 : 0, returnCode])
}

/** PUBACK, PUBREC, PUBREL (first byte 0x62), PUBCOMP, UNSUBACK (0xb0). */
export function encodeAcknowledgement (first: number, packetId: number): Buffer {
  return Buffer.from([first, 2, packetId >>> 8, packetId & 255])
}

export function encodeSuback (packetId: number, codes: readonly number[]): Buffer {
  const { packet, at } = newPacket(0x90, 2 + codes.length)
  packet.writeUInt16BE(packetId, at)
  for (let i = 0; i < codes.length; i++) packet[at + 2 + i] = codes[i]
  return packet
}

export function encodeSubscribe (packetId: number, subscriptions: readonly { readonly filter: string, readonly qos: number }[]): Buffer {
  let remaining = 2
  for (const { filter } of subscriptions) remaining += 3 + Buffer.byteLength(filter)
  const { packet, at } = newPacket(0x82, remaining)
  let next = packet.writeUInt16BE(packetId, at)
  for (const { filter, qos } of subscriptions) {
    next = writeText(packet, next, filter)
    packet[next++] = qos
  }
  return packet
}

export function encodeUnsubscribe (packetId: number, filters: readonly string[]): Buffer {
  let remaining = 2
  for (const filter of filters) remaining += 2 + Buffer.byteLength(filter)
  const { packet, at } = newPacket(0xa2, remaining)
  let next = packet.writeUInt16BE(packetId, at)
  for (const filter of filters) next = writeText(packet, next, filter)
  return packet
}

/** A PUBLISH; `packetId` is written for QoS 1 and 2 only. */
export function encodePublish (topic: string, payload: Uint8Array, qos: number, packetId: number, retain: boolean): Buffer {
  const { packet, at } = newPacket(0x30 | (qos << 1) | (retain ? 1 : 0), 2 + Buffer.byteLength(topic) + (qos > 0 ? 2 : 0) + payload.length)
  let next = writeText(packet, at, topic)
  if (qos > 0) next = packet.writeUInt16BE(packetId, next)
  packet.set(payload, next)
  return packet
}

export interface Will {
  readonly topic: string
  readonly payload: Buffer
  readonly qos: number
  readonly retain: boolean
}

/** The CONNECT that the broker gets: already authenticated, keep-alive off (the stage enforces it). */
export function encodeConnect (clientId: string, clean: boolean, will: Will | null): Buffer {
  const remaining = 10 + 2 + Buffer.byteLength(clientId) + (will === null ? 0 : 4 + Buffer.byteLength(will.topic) + will.payload.length)
  const { packet, at } = newPacket(0x10, remaining)
  let next = writeText(packet, at, 'MQTT')
  packet[next++] = 4
  let flags = clean ? 2 : 0
  if (will !== null) flags |= 4 | (will.qos << 3) | (will.retain ? 32 : 0)
  packet[next++] = flags
  next = packet.writeUInt16BE(0, next)
  next = writeText(packet, next, clientId)
  if (will !== null) {
    next = writeText(packet, next, will.topic)
    next = packet.writeUInt16BE(will.payload.length, next)
    packet.set(will.payload, next)
  }
  return packet
}
