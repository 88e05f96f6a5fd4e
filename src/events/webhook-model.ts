/** What a webhook is, how it is kept (collection `webhook`, format 1) and what of it is shown. */
import { TwinfoldError } from '../core/errors.js'
import { webhookHeadersMax } from '../core/limits.js'
import type { SinkStart } from './lane-state.js'

export interface WebhookSecret {
  readonly secret: string
  /** µs; until then it signs beside the newer one; null: it is the newest. */
  readonly untilUs: number | null
}

export interface Webhook {
  readonly id: string
  readonly url: string
  readonly description: string
  /** The newest first. */
  readonly secrets: readonly WebhookSecret[]
  /** As chosen, with wildcards; none: all types. */
  readonly types: readonly string[]
  /** Device ids; none: every device, and events of none. */
  readonly devices: readonly string[]
  /** '' for none. */
  readonly filter: string
  readonly content: 'thin' | 'state'
  readonly mode: 'structured' | 'binary'
  readonly headers: Readonly<Record<string, string>>
  readonly enabled: boolean
  readonly paused: boolean
  readonly maxBatch: number
  readonly createdAt: number
  readonly updatedAt: number
  readonly start: SinkStart
  /** The target answered 410: it was switched off then. */
  readonly gone: { readonly at: number, readonly reason: string } | null
}

/** What a user gives; what is absent stays as it is, or has its default. */
export interface WebhookInput {
  readonly url?: string
  readonly description?: string
  readonly secret?: string
  readonly types?: readonly string[]
  readonly devices?: readonly string[]
  readonly filter?: string
  readonly content?: Webhook['content']
  readonly mode?: Webhook['mode']
  readonly headers?: Readonly<Record<string, string>>
  readonly enabled?: boolean
  readonly maxBatch?: number
}

/** The MQTT topics of a tenant, kept beside its webhooks under this id. */
export const mqttEventsId = 'mqtt-events'

export interface MqttEvents {
  readonly enabled: boolean
  readonly types: readonly string[]
  readonly start: SinkStart
  readonly updatedAt: number
}

const headerNamePattern = /^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}$/
const headerValuePattern = /^[\x20-\x7e]{0,1024}$/
/** Set by the server or by HTTP itself. */
const headersReserved = /^(webhook-.*|ce-.*|content-.*|host|connection|transfer-encoding|te|trailer|upgrade|expect|keep-alive|proxy-.*|date|via)$/i

/** @throws TwinfoldError `invalid_field` (field `headers`) */
export function checkHeaders (headers: Readonly<Record<string, string>>): void {
  const refuse = (detail: string): TwinfoldError => new TwinfoldError('invalid_field', `'headers' ${detail}`, { field: 'headers' })
  if (Object.keys(headers).length > webhookHeadersMax) throw refuse(`has at most ${webhookHeadersMax}`)
  for (const [name, value] of Object.entries(headers)) {
    if (!headerNamePattern.test(name)) throw refuse('has a name that is no HTTP header name')
    if (headersReserved.test(name)) throw refuse(`must not set ${name}`)
    if (!headerValuePattern.test(value)) throw refuse(`has a value for ${name} that is not up to 1,024 printable ASCII characters`)
  }
}

export function encodeDocument (value: Webhook | MqttEvents): string { return JSON.stringify({ v: 1, ...value }) }

/** @throws TwinfoldError `corrupt_data`, `format_newer` */
export function decodeDocument<T extends Webhook | MqttEvents> (body: string): T {
  const { v, ...value } = JSON.parse(body) as { v: number } & T
  if (typeof v !== 'number') throw new TwinfoldError('corrupt_data', 'a webhook as it is stored is not complete')
  if (v > 1) throw new TwinfoldError('format_newer', 'a webhook was written by a newer version')
  return value as unknown as T
}
