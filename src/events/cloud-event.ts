/**
 * An event of the log as a CloudEvent (CloudEvents 1.0.2, JSON format 1.0.2, HTTP binding 1.0.2), for every sink the same. Pure.
 *
 * `sequence` and `sequencetype` are the documented extension of that name: numbers of one device's twin (or of one command book) grow
 * by one (a repeat has one that came before). `tenant` is an extension of ours.
 */
import { isoTime } from '../core/iso-time.js'
import type { OutEvent } from '../store/event-log.js'

export const typePrefix = 'io.twinfold.'

/** Attributes of the context, in the order they are written. */
export interface CloudContext {
  readonly specversion: '1.0'
  readonly id: string
  readonly source: string
  readonly type: string
  readonly time: string
  readonly subject?: string
  readonly datacontenttype: 'application/json'
  readonly tenant: string
  readonly sequence?: string
  readonly sequencetype?: 'Integer'
}

export const singleMediaType = 'application/cloudevents+json; charset=utf-8'
export const batchMediaType = 'application/cloudevents-batch+json; charset=utf-8'

export function cloudContext ({ id, tenant, device, type, stamp, sequence }: OutEvent): CloudContext {
  return {
    specversion: '1.0',
    id,
    source: device === '' ? `/tenants/${tenant}` : `/tenants/${tenant}/devices/${device}`,
    type: typePrefix + type,
    time: isoTime(stamp),
    ...(device === '' ? {} : { subject: device }),
    datacontenttype: 'application/json',
    tenant,
    ...(sequence === undefined ? {} : { sequence: String(sequence.number), sequencetype: 'Integer' as const })
  }
}

/** JSON of the whole event. @param data JSON object instead of the event's own, as where the state is added to it */
export function cloudEventJson (event: OutEvent, data = event.data): string {
  return `${JSON.stringify(cloudContext(event)).slice(0, -1)},"data":${data}}`
}

/** The attributes as headers of the binary mode (HTTP binding, section 3.1); the body is the data alone. */
export function cloudEventHeaders (event: OutEvent): Record<string, string> {
  const headers: Record<string, string> = { 'content-type': 'application/json' }
  for (const [name, value] of Object.entries(cloudContext(event))) if (name !== 'datacontenttype') headers[`ce-${name}`] = headerText(value as string)
  return headers
}

/** Section 3.1.3.2: what is no printable ASCII, and space, quote and percent, are percent-encoded. */
function headerText (value: string): string {
  return value.replace(/[^\x21\x23\x24\x26-\x7e]/gu, character => encodeURIComponent(character).replace(/^[^%]$/, one => `%${one.charCodeAt(0).toString(16).padStart(2, '0').toUpperCase()}`))
}
