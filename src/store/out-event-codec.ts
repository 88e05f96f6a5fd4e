/**
 * Events of the event log as bytes (format 1), the same in both stores:
 *
 *     format8 { headBytes32 head dataBytes32 data }...
 *
 * `head` is JSON of everything but the data; the data stays as it came, so that nobody parses and writes it again.
 */
import { TwinfoldError } from '../core/errors.js'
import type { OutEvent } from './event-log.js'

const format = 1
const sizeBytes = 4

/** Bytes that `encodeEvents` gives for one event, about; never fewer than there are characters. */
export function eventSize ({ id, tenant, device, data, sequence }: OutEvent): number {
  return 128 + id.length + tenant.length + device.length + data.length + (sequence?.of.length ?? 0)
}

export function encodeEvents (events: readonly OutEvent[]): Buffer {
  const heads = events.map(({ id, tenant, device, type, stamp, sequence }) => JSON.stringify(sequence === undefined ? { id, tenant, device, type, stamp } : { id, tenant, device, type, stamp, sequence }))
  let length = 1
  for (let i = 0; i < events.length; i++) length += 2 * sizeBytes + Buffer.byteLength(heads[i]) + Buffer.byteLength(events[i].data)
  const bytes = Buffer.allocUnsafe(length)
  let at = bytes.writeUInt8(format, 0)
  for (let i = 0; i < events.length; i++) {
    for (const text of [heads[i], events[i].data]) {
      const written = bytes.write(text, at + sizeBytes)
      bytes.writeUInt32BE(written, at)
      at += sizeBytes + written
    }
  }
  return bytes
}

/** @throws TwinfoldError `corrupt_data`, or `format_newer` for a format that this version does not know. */
export function decodeEvents (bytes: Buffer): OutEvent[] {
  if (bytes.length > 0 && bytes[0] > format) throw new TwinfoldError('format_newer', `an event of the event log has format ${bytes[0]}; this version of Twinfold reads up to ${format}`)
  const events: OutEvent[] = []
  let at = 1
  const text = (): string => {
    const from = at + sizeBytes
    const to = from <= bytes.length ? from + bytes.readUInt32BE(at) : Infinity
    if (to > bytes.length) throw new TwinfoldError('corrupt_data', 'an event of the event log is cut off')
    at = to
    return bytes.toString('utf8', from, to)
  }
  while (at < bytes.length) {
    const head = JSON.parse(text()) as Omit<OutEvent, 'data'>
    events.push({ ...head, data: text() })
  }
  return events
}
