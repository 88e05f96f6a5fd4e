/**
 * MQTT 3.1.1 packets as bytes, made once and sent many times: a generator that encodes per message would measure itself.
 * Clause numbers are those of the MQTT 3.1.1 standard (OASIS, 2014).
 */

/** Remaining length as a variable byte integer (2.2.3), at most 268,435,455. */
function encodeLength (length: number): number[] {
  const bytes: number[] = []
  let rest = length
  do {
    const low = rest % 128
    rest = Math.floor(rest / 128)
    bytes.push(rest > 0 ? low | 0x80 : low)
  } while (rest > 0)
  return bytes
}

function encodeText (text: string): Buffer {
  const bytes = Buffer.from(text, 'utf8')
  return Buffer.concat([Buffer.from([bytes.length >> 8, bytes.length & 0xff]), bytes])
}

export interface ConnectOptions {
  readonly clientId: string
  /** User name (the token); none when undefined. */
  readonly username?: string
  readonly password?: string
  /** Seconds; 0 switches keep-alive off (3.1.2.10). */
  readonly keepAliveSeconds?: number
  readonly cleanSession?: boolean
}

/** CONNECT (3.1). */
export function encodeConnect (options: ConnectOptions): Buffer {
  const { clientId, username, password, keepAliveSeconds = 0, cleanSession = true } = options
  const flags = (username === undefined ? 0 : 0x80) | (password === undefined ? 0 : 0x40) | (cleanSession ? 0x02 : 0)
  const parts = [encodeText('MQTT'), Buffer.from([4, flags, keepAliveSeconds >> 8, keepAliveSeconds & 0xff]), encodeText(clientId)]
  if (username !== undefined) parts.push(encodeText(username))
  if (password !== undefined) parts.push(encodeText(password))
  const body = Buffer.concat(parts)
  return Buffer.concat([Buffer.from([0x10, ...encodeLength(body.length)]), body])
}

/** PUBLISH with QoS 1 (3.3). @param packetId 1 to 65,535 */
export function encodePublish (topic: string, packetId: number, payload: Buffer, { duplicate = false } = {}): Buffer {
  const head = encodeText(topic)
  return Buffer.concat([
    Buffer.from([duplicate ? 0x3a : 0x32, ...encodeLength(head.length + 2 + payload.length)]), head, Buffer.from([packetId >> 8, packetId & 0xff]), payload
  ])
}

/** SUBSCRIBE to one filter (3.8). */
export function encodeSubscribe (packetId: number, filter: string, qos: 0 | 1 | 2): Buffer {
  const body = Buffer.concat([Buffer.from([packetId >> 8, packetId & 0xff]), encodeText(filter), Buffer.from([qos])])
  return Buffer.concat([Buffer.from([0x82, ...encodeLength(body.length)]), body])
}

/** Largest packet id (2.3.1). */
export const packetIdMax = 65_535
