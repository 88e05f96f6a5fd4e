/** A webhook as a sink: what goes into one POST, signed, and what its answer means. */
import { createHash } from 'node:crypto'
import type { Clock } from '../core/clock.js'
import { isoTime } from '../core/iso-time.js'
import type { OutEvent } from '../store/event-log.js'
import { batchMediaType, cloudEventHeaders, cloudEventJson, singleMediaType, typePrefix } from './cloud-event.js'
import { chooses, parseEventFilter, type DeviceFacts, type EventChoice } from './device-facts.js'
import { chosenTypes, eventTypes } from './event-types.js'
import type { HttpSender } from './http-sender.js'
import { judge, type Answer, type RetryPolicy, type Verdict } from './retry-policy.js'
import { signatures } from './signature.js'
import type { Sink } from './sink.js'
import type { Webhook } from './webhook-model.js'

/** The twin as it is shown over HTTP; null: there is none. May reject with `store_unavailable`. */
export type TwinState = (tenant: string, device: string, name: string) => Promise<object | null>

export interface WebhookSinkOptions {
  readonly sender: HttpSender
  readonly facts: DeviceFacts
  readonly clock: Clock
  readonly policy: RetryPolicy
  /** Absent: no state is added. */
  readonly twinState?: TwinState
}

interface Delivery {
  readonly id: string
  readonly contentType: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: Buffer
}

export function choiceOf ({ types, devices, filter }: Pick<Webhook, 'types' | 'devices' | 'filter'>): EventChoice {
  return { types: chosenTypes(types) ?? new Set(eventTypes), devices: devices.length === 0 ? null : new Set(devices), filter: filter === '' ? null : parseEventFilter(filter) }
}

/** Connections of one webhook. A changed URL is another target. */
export function senderKey (tenant: string, { id, url }: Pick<Webhook, 'id' | 'url'>): string { return `${tenant}/${id}/${new URL(url).host}` }

export function webhookSink (tenant: string, webhook: Webhook, { options, gone }: { readonly options: WebhookSinkOptions, readonly gone: Sink['gone'] }): Sink {
  const choice = choiceOf(webhook)
  return {
    tenant,
    id: webhook.id,
    revision: webhook.updatedAt,
    start: webhook.start,
    paused: webhook.paused,
    policy: options.policy,
    batchMax: webhook.maxBatch,
    wants: event => chooses(choice, event, options.facts),
    deliver: async events => await deliver(tenant, webhook, events, options),
    gone
  }
}

/** Sends the events in one POST. Rejects where the state to be added cannot be read. */
export async function deliver (tenant: string, webhook: Webhook, events: readonly OutEvent[], options: WebhookSinkOptions): Promise<Verdict> {
  return judge(await post(tenant, webhook, await deliveryOf(webhook, events, options), options))
}

async function deliveryOf (webhook: Webhook, events: readonly OutEvent[], { twinState }: WebhookSinkOptions): Promise<Delivery> {
  const datas = webhook.content === 'state' && twinState !== undefined ? await withStates(events, twinState) : events.map(({ data }) => data)
  const [first] = events
  if (webhook.maxBatch > 1) {
    // The same events have the same id, whenever they are sent again.
    const id = events.length === 1 ? first.id : `batch_${createHash('sha256').update(events.map(event => event.id).join('\n')).digest('base64url').slice(0, 32)}`
    return { id, contentType: batchMediaType, headers: {}, body: Buffer.from(`[${events.map((event, index) => cloudEventJson(event, datas[index])).join(',')}]`) }
  }
  if (webhook.mode === 'binary') {
    const { 'content-type': contentType, ...headers } = cloudEventHeaders(first)
    return { id: first.id, contentType, headers, body: Buffer.from(datas[0]) }
  }
  return { id: first.id, contentType: singleMediaType, headers: {}, body: Buffer.from(cloudEventJson(first, datas[0])) }
}

/** The data of each, twin events with the twin as it is now as `twin` (null: it is gone). */
async function withStates (events: readonly OutEvent[], twinState: TwinState): Promise<string[]> {
  const states = new Map<string, Promise<string>>()
  return await Promise.all(events.map(async ({ tenant, device, type, data }) => {
    if (!type.startsWith('twin.')) return data
    const { name } = JSON.parse(data) as { name?: unknown }
    const twinName = typeof name === 'string' ? name : ''
    const key = `${device}\0${twinName}`
    let state = states.get(key)
    if (state === undefined) {
      state = twinState(tenant, device, twinName).then(twin => JSON.stringify(twin))
      states.set(key, state)
    }
    return data === '{}' ? `{"twin":${await state}}` : `${data.trimEnd().slice(0, -1)},"twin":${await state}}`
  }))
}

async function post (tenant: string, webhook: Webhook, { id, contentType, headers, body }: Delivery, { sender, clock }: Pick<WebhookSinkOptions, 'sender' | 'clock'>): Promise<Answer> {
  const nowUs = clock.nowUs()
  const timestampS = Math.floor(nowUs / 1e6)
  const messageId = id.replace(/[^\x21-\x7e]/g, '_')
  const active = webhook.secrets.filter(({ untilUs }) => untilUs === null || untilUs > nowUs).map(({ secret }) => secret)
  return await sender.post(senderKey(tenant, webhook), new URL(webhook.url), {
    'user-agent': 'Twinfold',
    ...webhook.headers,
    ...headers,
    'content-type': contentType,
    'webhook-id': messageId,
    'webhook-timestamp': String(timestampS),
    'webhook-signature': signatures(active, messageId, timestampS, body)
  }, body)
}

export interface TestResult {
  readonly delivered: boolean
  /** null: there was none. */
  readonly status: number | null
  readonly reason: string
  readonly durationMs: number
}

/** Sends an event of type `io.twinfold.webhook.test` now, past everything that waits. */
export async function sendTest (tenant: string, webhook: Webhook, testId: string, { sender, clock }: WebhookSinkOptions): Promise<TestResult> {
  const event = JSON.stringify({
    specversion: '1.0', id: testId, source: `/tenants/${tenant}`, type: `${typePrefix}webhook.test`, time: isoTime(clock.nowUs()), datacontenttype: 'application/json', tenant, data: { webhook: webhook.id }
  })
  const batched = webhook.maxBatch > 1
  const startMs = clock.monotonicMs()
  const answer = await post(tenant, webhook, { id: testId, contentType: batched ? batchMediaType : singleMediaType, headers: {}, body: Buffer.from(batched ? `[${event}]` : event) }, { sender, clock })
  const verdict = judge(answer)
  return {
    delivered: verdict.kind === 'delivered',
    status: answer.kind === 'status' ? answer.status : null,
    reason: verdict.kind === 'delivered' ? '' : verdict.reason,
    durationMs: Math.round(clock.monotonicMs() - startMs)
  }
}
