/** What the documents say of webhooks, and how webhooks, deliveries and dead letters are shown: ISO times, no secrets. */
import { webhookBatchEventsMax, webhookHeadersMax } from '../../core/limits.js'
import type { Letter } from '../../events/letters.js'
import type { Webhook } from '../../events/webhook-model.js'
import type { DeliveryReport } from '../../events/webhook-service.js'
import { isoTime } from './query-time.js'
import type { Schema } from './schema-check.js'

const hidden = '***'

export const typesSchema: Schema = {
  type: 'array', items: { type: 'string', maxLength: 32 }, maxItems: 32, description: 'Types of events: twin.changed, or all of a family: twin.*; none: all.', examples: [['twin.*', 'alarm.raised']]
}

/** What may be given when one is made or changed. */
export const inputSchemas: Readonly<Record<string, Schema>> = {
  url: { type: 'string', minLength: 8, maxLength: 2048, description: 'https or http; a public address, unless the server\'s settings allow others. Redirects are not followed.' },
  description: { type: 'string', maxLength: 500 },
  types: typesSchema,
  devices: { type: 'array', items: { type: 'string', minLength: 1, maxLength: 128 }, maxItems: 1000, uniqueItems: true, description: 'Events of these devices only; none: of all, and those of no device.' },
  filter: { type: 'string', maxLength: 2000, description: 'Over id, type, name, gateway, createdAt and tags of the device, as in `type eq "pump" and tags.site eq "berlin"`. Empty: none.' },
  content: { type: 'string', enum: ['thin', 'state'], description: 'state: twin events carry the whole twin, as it is when they are sent, as `twin`.' },
  mode: { type: 'string', enum: ['structured', 'binary'], description: 'CloudEvents mode. binary: attributes in ce-… headers, the data alone in the body.' },
  headers: { type: 'object', maxProperties: webhookHeadersMax, additionalProperties: { type: 'string', maxLength: 1024 }, description: 'Sent with every delivery; shown without their values.' },
  enabled: { type: 'boolean', description: 'Switched off, nothing is kept for it; switched on again, it begins at that moment. To keep events for it, pause it.' },
  maxBatch: { type: 'integer', minimum: 1, maximum: webhookBatchEventsMax, description: '1: a delivery is one event. More: an array of up to so many (application/cloudevents-batch+json).' }
}
export const secretInputSchema: Schema = { type: 'string', maxLength: 100, description: 'whsec_ and 24 to 64 bytes in base64; made up where none is given.' }

const timeSchema: Schema = { type: 'string', format: 'date-time' }
const viewProperties: Readonly<Record<string, Schema>> = {
  id: { type: 'string' }, ...inputSchemas, paused: { type: 'boolean' }, createdAt: timeSchema, updatedAt: timeSchema,
  gone: { type: ['object', 'null'], description: 'The target answered 410 Gone: it was switched off then.', properties: { at: timeSchema, reason: { type: 'string' } } },
  secrets: { type: 'array', items: { type: 'object', properties: { validUntil: { type: ['string', 'null'], format: 'date-time' } } }, description: 'How many sign; the one before a rotation until then.' }
}
export const webhookSchema: Schema = { type: 'object', properties: viewProperties }
export const createdSchema: Schema = { type: 'object', properties: { ...viewProperties, secret: { type: 'string', description: 'Shown this once.' } } }

export function webhookView ({ id, url, description, types, devices, filter, content, mode, headers, enabled, paused, maxBatch, createdAt, updatedAt, gone, secrets }: Webhook): object {
  return {
    id, url, description, types, devices, filter, content, mode, enabled, paused, maxBatch,
    headers: Object.fromEntries(Object.keys(headers).map(name => [name, hidden])),
    createdAt: isoTime(createdAt),
    updatedAt: isoTime(updatedAt),
    gone: gone === null ? null : { at: isoTime(gone.at), reason: gone.reason },
    secrets: secrets.map(({ untilUs }) => ({ validUntil: untilUs === null ? null : isoTime(untilUs) }))
  }
}

const attemptSchema: Schema = {
  type: 'object',
  properties: { at: timeSchema, durationMs: { type: 'integer' }, lane: { type: 'integer' }, events: { type: 'integer' }, firstId: { type: 'string' }, outcome: { type: 'string', enum: ['delivered', 'again', 'refused', 'gone'] }, reason: { type: 'string' } }
}
export const deliveriesSchema: Schema = {
  type: 'object',
  properties: {
    state: { type: 'string', enum: ['up', 'retrying', 'paused', 'disabled', 'gone'] },
    waiting: { type: 'integer', description: 'Events in the log that are not delivered yet; at least so many where `waitingMore`.' },
    waitingMore: { type: 'boolean' },
    lagMs: { type: 'integer', description: 'Age of the oldest that waits; 0: none.' },
    delivered: { type: 'integer' },
    failedAttempts: { type: 'integer' },
    deadLettered: { type: 'integer' },
    agedOut: { type: 'integer', description: 'Of the dead letters: events that became too old to be kept.' },
    retryingLanes: { type: 'array', items: { type: 'object', properties: { lane: { type: 'integer' }, attempts: { type: 'integer' }, since: timeSchema, nextAttempt: timeSchema } } },
    attempts: { type: 'array', items: attemptSchema, description: 'The newest first: up to ten of each of 16 lanes, stored every half second.' }
  }
}

function stateOf ({ webhook, lanes }: DeliveryReport): string {
  if (webhook.gone !== null) return 'gone'
  if (!webhook.enabled) return 'disabled'
  if (webhook.paused) return 'paused'
  return lanes.some(({ failingSinceUs }) => failingSinceUs > 0) ? 'retrying' : 'up'
}

export function deliveriesView (report: DeliveryReport, nowUs: number): object {
  const { lanes, waiting, more, oldestUs } = report
  const sum = (count: (lane: DeliveryReport['lanes'][number]) => number): number => lanes.reduce((total, lane) => total + count(lane), 0)
  return {
    state: stateOf(report),
    waiting,
    waitingMore: more,
    lagMs: oldestUs === 0 ? 0 : Math.max(0, Math.round((nowUs - oldestUs) / 1000)),
    delivered: sum(({ delivered }) => delivered),
    failedAttempts: sum(({ failedAttempts }) => failedAttempts),
    deadLettered: sum(({ deadLettered }) => deadLettered),
    agedOut: sum(({ agedOut }) => agedOut),
    retryingLanes: lanes.filter(({ failingSinceUs }) => failingSinceUs > 0).map(({ lane, attempts, failingSinceUs, nextAtUs }) => ({ lane, attempts, since: isoTime(failingSinceUs), nextAttempt: isoTime(Math.max(nextAtUs, failingSinceUs)) })),
    attempts: lanes.flatMap(({ lane, recent }) => recent.map(attempt => ({ lane, attempt }))).sort((a, b) => b.attempt.at - a.attempt.at)
      .map(({ lane, attempt: { at, ms, events, id, outcome, reason } }) => ({ at: isoTime(at), durationMs: ms, lane, events, firstId: id, outcome, reason }))
  }
}

export const letterSchema: Schema = {
  type: 'object',
  properties: { id: { type: 'string' }, at: timeSchema, reason: { type: 'string' }, attempts: { type: 'integer' }, cut: { type: 'boolean', description: 'The data was too large to be kept.' }, event: { type: 'object', description: 'The CloudEvent.' } }
}

export function letterView ({ id, at, reason, attempts, cut, cloudEvent }: Letter & { readonly cloudEvent: string }): object {
  return { id, at: isoTime(at), reason, attempts, cut, event: JSON.parse(cloudEvent) as object }
}
