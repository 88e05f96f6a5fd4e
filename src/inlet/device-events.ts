/**
 * `events/{type}`: what a device reports once, for the sinks of the event log. Told as `device.event` with `{ deviceId, type, payload }`;
 * a payload that is no JSON is given as base64 with `contentEncoding`. Its id is the message's place in the journal, so a repeat
 * is the same event.
 */
import type { EventLog, OutEvent } from '../store/event-log.js'
import type { DeviceMessage, MessageHandler, MessageOutcome } from './device-message.js'

/** Of the event's data, base64 and names included; the event log takes 256 KiB. */
const payloadBytesMax = 180 * 1024
const prefix = 'events/'

export class DeviceEvents implements MessageHandler {
  readonly #events: Pick<EventLog, 'appendEvents'>

  constructor (events: Pick<EventLog, 'appendEvents'>) { this.#events = events }

  takes (path: string): boolean { return path.startsWith(prefix) }

  async apply (messages: readonly DeviceMessage[]): Promise<readonly MessageOutcome[]> {
    const taken = messages.filter(({ payload }) => payload.length <= payloadBytesMax)
    if (taken.length > 0) await this.#events.appendEvents(taken.map(eventOf))
    return messages.map(({ payload }) => payload.length <= payloadBytesMax
      ? { kind: 'applied' }
      : { kind: 'refused', code: 'payload_too_large', detail: `an event has at most ${payloadBytesMax} bytes` })
  }
}

function eventOf ({ journalId, position, stamp, tenant, device, path, payload }: DeviceMessage): OutEvent {
  const body = bodyOf(payload)
  return { id: `${journalId}/${position}`, tenant, device, type: 'device.event', stamp, data: `{"deviceId":${JSON.stringify(device)},"type":${JSON.stringify(path.slice(prefix.length))},${body}}` }
}

function bodyOf (payload: Uint8Array): string {
  const bytes = Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength)
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(bytes)
    JSON.parse(text)
    // As it was sent, numbers to the digit; line breaks stand between its tokens only.
    return `"payload":${text.replace(/[\r\n]+/g, ' ')}`
  } catch {
    return `"payload":"${bytes.toString('base64')}","contentEncoding":"base64"`
  }
}
