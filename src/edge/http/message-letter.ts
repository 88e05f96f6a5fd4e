/** Dead letters of what devices say beside telemetry: kept as the PUBLISH that the journal held, shown and corrected without its header. */
import { RecordKind } from '../../journal/record.js'
import type { DeadLetter } from '../../store/dead-letter-store.js'
import { encodePublish, headerBytes } from '../mqtt/wire.js'

export interface LetterMessage {
  readonly topic: string
  /** Where the message's own bytes begin in the letter's payload. */
  readonly payloadAt: number
}

/** null for letters of telemetry. */
export function letterMessage (letter: DeadLetter): LetterMessage | null {
  const { format, payload } = letter
  if (format !== RecordKind.deviceMessages || payload.length < 4) return null
  const packet = Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength)
  const at = headerBytes(packet, 0)
  const payloadAt = at + 2 + packet.readUInt16BE(at)
  return payloadAt > packet.length ? null : { topic: packet.toString('utf8', at + 2, payloadAt), payloadAt }
}

/** The record's body for another payload of the same message. */
export function correctedMessage ({ topic }: LetterMessage, payload: Uint8Array): Buffer {
  return encodePublish(topic, payload, 0, 0, false)
}
