/**
 * The key layout of the broker's database (format 1). A key is one tag byte and its fields:
 *
 *     f                                format version
 *     n                                number of openings
 *     t tenant                         retained count and bytes of a tenant
 *     r topic                          retained message; UTF-8 order, so a filter's literal prefix is a range
 *     c clientId                       session
 *     s length16 clientId filter       subscription
 *     q length16 clientId number64     reference to a queued message
 *     m number64                       queued message, stored once for all its sessions
 *     i length16 clientId messageId16  incoming QoS 2 message that waits for its PUBREL
 *     w clientId                       will
 *
 * Numbers are big-endian, so that key order is queue order. A client id that is not the last field carries its
 * length, so no id is a prefix of another's range, whatever bytes it has.
 */
export const tags = {
  format: 0x66,
  run: 0x6e,
  tenant: 0x74,
  retained: 0x72,
  session: 0x63,
  subscription: 0x73,
  reference: 0x71,
  message: 0x6d,
  incoming: 0x69,
  will: 0x77
} as const

export interface KeyRange {
  readonly gte: Buffer
  readonly lt: Buffer
}

const number64Bytes = 8

function textKey (tag: number, text: string): Buffer {
  const key = Buffer.allocUnsafe(1 + Buffer.byteLength(text))
  key[0] = tag
  key.write(text, 1)
  return key
}

/** A key of a client with room for `extraBytes` more at its end. RangeError for ids of more than 65,535 bytes. */
function clientKey (tag: number, clientId: string, extraBytes: number): Buffer {
  const length = Buffer.byteLength(clientId)
  const key = Buffer.allocUnsafe(3 + length + extraBytes)
  key[0] = tag
  key.writeUInt16BE(length, 1)
  key.write(clientId, 3)
  return key
}

function writeNumber64 (key: Buffer, at: number, value: number): void {
  key.writeUInt32BE(Math.floor(value / 0x1_0000_0000), at)
  key.writeUInt32BE(value >>> 0, at + 4)
}

function readNumber64 (key: Buffer, at: number): number {
  return key.readUInt32BE(at) * 0x1_0000_0000 + key.readUInt32BE(at + 4)
}

/** The end of the range of all keys that begin with `prefix`. Tags are below 0xff, so there always is one. */
function after (prefix: Buffer): Buffer {
  let length = prefix.length
  while (prefix[length - 1] === 0xff) length--
  const end = Buffer.from(prefix.subarray(0, length))
  end[length - 1]++
  return end
}

export const formatKey = Buffer.from([tags.format])
export const runKey = Buffer.from([tags.run])
export const tenantKey = (tenant: string): Buffer => textKey(tags.tenant, tenant)
export const retainedKey = (topic: string): Buffer => textKey(tags.retained, topic)
export const sessionKey = (clientId: string): Buffer => textKey(tags.session, clientId)
export const willKey = (clientId: string): Buffer => textKey(tags.will, clientId)

/** The last text field of a tenant, retained, session or will key. */
export const textOf = (key: Buffer): string => key.toString('utf8', 1)

export function subscriptionKey (clientId: string, filter: string): Buffer {
  const filterBytes = Buffer.byteLength(filter)
  const key = clientKey(tags.subscription, clientId, filterBytes)
  key.write(filter, key.length - filterBytes)
  return key
}

export function referenceKey (clientId: string, number: number): Buffer {
  const key = clientKey(tags.reference, clientId, number64Bytes)
  writeNumber64(key, key.length - number64Bytes, number)
  return key
}

export function incomingKey (clientId: string, messageId: number): Buffer {
  const key = clientKey(tags.incoming, clientId, 2)
  key.writeUInt16BE(messageId & 0xffff, key.length - 2)
  return key
}

export function messageKey (number: number): Buffer {
  const key = Buffer.allocUnsafe(1 + number64Bytes)
  key[0] = tags.message
  writeNumber64(key, 1, number)
  return key
}

/** The client id of a subscription, reference or incoming key. */
export function clientIdOf (key: Buffer): string {
  return key.toString('utf8', 3, 3 + key.readUInt16BE(1))
}

/** The filter of a subscription key. */
export function filterOf (key: Buffer): string {
  return key.toString('utf8', 3 + key.readUInt16BE(1))
}

/** The number at the end of a reference or message key. */
export const numberOf = (key: Buffer): number => readNumber64(key, key.length - number64Bytes)

/** The packet identifier at the end of an incoming key. */
export const messageIdOf = (key: Buffer): number => key.readUInt16BE(key.length - 2)

export function tableRange (tag: number): KeyRange {
  return { gte: Buffer.from([tag]), lt: Buffer.from([tag + 1]) }
}

/** References of a client with numbers in [from, to). */
export function referenceRange (clientId: string, from: number, to: number): KeyRange {
  return { gte: referenceKey(clientId, from), lt: referenceKey(clientId, to) }
}

/** Retained topics that begin with the prefix. */
export function retainedRange (prefix: string): KeyRange {
  const gte = retainedKey(prefix)
  return { gte, lt: after(gte) }
}
