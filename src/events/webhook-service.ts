/**
 * What operators do with webhooks: make, change, test, pause, replay, look at. Every change is a conditional write of the webhook's
 * document; the node that serves a lane follows it within seconds, this one at once (`changed`).
 */
import type { Clock } from '../core/clock.js'
import { TwinfoldError } from '../core/errors.js'
import { KeyedLock } from '../core/keyed-lock.js'
import { webhooksPerTenantMax } from '../core/limits.js'
import type { DocumentStore } from '../store/document-store.js'
import { eventLanes, eventsKeptUs } from '../store/event-log.js'
import type { Page } from '../store/registry.js'
import type { AddressGuard } from './address-guard.js'
import { cloudEventJson } from './cloud-event.js'
import { chooses, parseEventFilter } from './device-facts.js'
import type { EventTails } from './event-tails.js'
import { chosenTypes, typePatterns } from './event-types.js'
import { decodeLaneState, laneStateId, newLaneState, type LaneState } from './lane-state.js'
import type { Letter, Letters } from './letters.js'
import { isSecret, newSecret } from './signature.js'
import { checkHeaders, mqttEventsId, type MqttEvents, type Webhook, type WebhookInput } from './webhook-model.js'
import { choiceOf, deliver, sendTest, type TestResult, type WebhookSinkOptions } from './webhook-sink.js'
import type { WebhookStore } from './webhook-store.js'

export interface WebhookServiceOptions {
  readonly webhooks: WebhookStore
  readonly documents: DocumentStore
  readonly letters: Letters
  readonly tails: EventTails
  readonly guard: AddressGuard
  readonly sinkOptions: WebhookSinkOptions
  readonly clock: Clock
  readonly random: (bytes: number) => Buffer
  /** A tenant's sinks have changed. */
  readonly changed: (tenant: string) => Promise<void>
  /** Stores how far this node has got with it. */
  readonly save: (tenant: string, id: string) => Promise<void>
}

/** How a webhook does: what its lanes have stored, and what waits in the log now. */
export interface DeliveryReport {
  readonly webhook: Webhook
  readonly lanes: readonly (LaneState & { readonly lane: number })[]
  /** Events that wait, at least; exact unless `more`. */
  readonly waiting: number
  readonly more: boolean
  /** µs; stamp of the oldest that waits; 0: none. */
  readonly oldestUs: number
}

export interface ReplayResult { readonly id: string, readonly result: 'delivered' | 'failed' | 'not_found' | 'cut' | 'not_tried', readonly reason?: string }

/** How long the secret before still signs after a rotation. */
export const oldSecretUs = 24 * 3600 * 1e6
/** Events of a lane that are looked through for what waits. */
const waitingPageMax = 500
/** A replay of dead letters stops at so many failures, and after so long. */
const replayFailuresMax = 3
const replayMsMax = 30_000

export class WebhookService {
  readonly #options: WebhookServiceOptions
  /** Of a tenant, on this node: so that the limit holds against one caller's burst. */
  readonly #creating = new KeyedLock()

  constructor (options: WebhookServiceOptions) { this.#options = options }

  async list (tenant: string): Promise<Webhook[]> { return (await this.#options.webhooks.list(tenant)).map(({ value }) => value) }

  /** @throws TwinfoldError `not_found` */
  async get (tenant: string, id: string): Promise<Webhook> { return (await this.#options.webhooks.get(tenant, id)).value }

  /** @returns with the secret, which is shown this once; @throws TwinfoldError `invalid_field`, `already_exists`, `limit_reached` */
  async create (tenant: string, input: WebhookInput & { readonly id?: string, readonly url: string }): Promise<{ readonly webhook: Webhook, readonly secret: string }> {
    const { webhooks, random, clock, changed } = this.#options
    const id = input.id ?? `wh_${random(12).toString('hex')}`
    if (id === mqttEventsId) throw new TwinfoldError('invalid_field', `'id' must not be ${mqttEventsId}`, { field: 'id' })
    const fields = await this.#checked(input, { maxBatch: input.maxBatch ?? 1, mode: input.mode ?? 'structured' })
    const secret = input.secret ?? newSecret(random)
    const nowUs = clock.nowUs()
    const webhook: Webhook = {
      id, url: '', description: '', secrets: [{ secret, untilUs: null }], types: [], devices: [], filter: '', content: 'thin', mode: 'structured', headers: {}, enabled: true, paused: false, maxBatch: 1,
      ...fields,
      createdAt: nowUs, updatedAt: nowUs, start: { number: nowUs, fromUs: nowUs }, gone: null
    }
    await this.#creating.run(tenant, async () => {
      if ((await webhooks.list(tenant)).length >= webhooksPerTenantMax) throw new TwinfoldError('limit_reached', `a tenant has at most ${webhooksPerTenantMax} webhooks`)
      if (!await webhooks.create(tenant, webhook)) throw new TwinfoldError('already_exists', `there is a webhook '${id}' already`)
    })
    await changed(tenant)
    return { webhook, secret }
  }

  /** @throws TwinfoldError `not_found`, `invalid_field` */
  async update (tenant: string, id: string, input: WebhookInput): Promise<Webhook> {
    const before = await this.get(tenant, id)
    const fields = await this.#checked(input, { maxBatch: input.maxBatch ?? before.maxBatch, mode: input.mode ?? before.mode })
    return await this.#change(tenant, id, webhook => ({
      ...webhook,
      ...fields,
      // Switched on again: from now on. What happened meanwhile was not kept for it.
      ...(input.enabled === true && !webhook.enabled ? { gone: null, paused: false, start: this.#startAt(webhook, this.#options.clock.nowUs()) } : {})
    }))
  }

  /** With its state and dead letters. @throws TwinfoldError `not_found` */
  async delete (tenant: string, id: string): Promise<void> {
    const { webhooks, documents, letters, changed } = this.#options
    await webhooks.delete(tenant, id)
    await changed(tenant)
    const { items } = await documents.listDocuments('webhook-state', tenant, `${id}/`, null, eventLanes)
    for (const state of items) await documents.deleteDocument('webhook-state', tenant, state.id, state.revision)
    await letters.deleteAll(tenant, id)
  }

  /** A second secret signs beside the one before for a day. @returns the new one, shown this once */
  async rotateSecret (tenant: string, id: string, given?: string): Promise<{ readonly secret: string, readonly oldUntilUs: number }> {
    const secret = given ?? newSecret(this.#options.random)
    const oldUntilUs = this.#options.clock.nowUs() + oldSecretUs
    await this.#change(tenant, id, webhook => ({ ...webhook, secrets: [{ secret, untilUs: null }, { ...webhook.secrets[0], untilUs: oldUntilUs }] }))
    return { secret, oldUntilUs }
  }

  async setPaused (tenant: string, id: string, paused: boolean): Promise<Webhook> {
    return await this.#change(tenant, id, webhook => webhook.paused === paused ? null : { ...webhook, paused })
  }

  /** Everything from that time on goes out again. @throws TwinfoldError `invalid_field` where the log does not reach back so far */
  async replay (tenant: string, id: string, fromUs: number): Promise<Webhook> {
    const nowUs = this.#options.clock.nowUs()
    if (fromUs < nowUs - eventsKeptUs) throw new TwinfoldError('invalid_field', `'from' must lie within the last 7 days: events are kept that long`, { field: 'from' })
    if (fromUs > nowUs) throw new TwinfoldError('invalid_field', `'from' must not lie in the future`, { field: 'from' })
    return await this.#change(tenant, id, webhook => {
      if (!webhook.enabled) throw new TwinfoldError('invalid_request', 'the webhook is switched off; enable it first')
      return { ...webhook, start: this.#startAt(webhook, fromUs) }
    })
  }

  async test (tenant: string, id: string): Promise<TestResult> {
    return await sendTest(tenant, await this.get(tenant, id), `test_${this.#options.random(12).toString('hex')}`, this.#options.sinkOptions)
  }

  async report (tenant: string, id: string): Promise<DeliveryReport> {
    const webhook = await this.get(tenant, id)
    const { documents, tails, sinkOptions, save } = this.#options
    await save(tenant, id)
    const choice = choiceOf(webhook)
    const { items } = await documents.listDocuments('webhook-state', tenant, `${id}/`, null, eventLanes)
    const stored = new Map(items.map(item => [item.id, item.body]))
    const lanes = Array.from({ length: eventLanes }, (_, lane) => {
      const body = stored.get(laneStateId(id, lane))
      const state = body === undefined ? null : decodeLaneState(body)
      // An order to begin elsewhere that its lane has not followed yet.
      if (state !== null && state.start.number >= webhook.start.number) return { ...state, lane }
      return { ...(state ?? newLaneState('', webhook.start)), position: tails.positionAt(lane, webhook.start.fromUs), start: webhook.start, lane }
    })
    let waiting = 0
    let more = false
    let oldestUs = 0
    if (!webhook.enabled) return { webhook, lanes, waiting, more, oldestUs }
    await Promise.all(lanes.map(async ({ lane, position, start, done }) => {
      const page = await tails.read(lane, position, waitingPageMax)
      for (const { event } of page.events) {
        if (event.tenant !== tenant || event.stamp < start.fromUs || done.includes(event.id) || !await chooses(choice, event, sinkOptions.facts)) continue
        waiting++
        if (oldestUs === 0 || event.stamp < oldestUs) oldestUs = event.stamp
      }
      if (page.events.length >= waitingPageMax) more = true
    }))
    return { webhook, lanes, waiting, more, oldestUs }
  }

  /** Oldest first within a lane, each with its event as a CloudEvent. @throws TwinfoldError `not_found` */
  async deadLetters (tenant: string, id: string, cursor: string | null, limit: number): Promise<Page<Letter & { readonly cloudEvent: string }>> {
    await this.get(tenant, id)
    const { items, next } = await this.#options.letters.list(tenant, id, cursor, limit)
    return { items: items.map(letter => ({ ...letter, cloudEvent: cloudEventJson(letter.event) })), next }
  }

  /** @param ids null: all of them; @returns how many there were; @throws TwinfoldError `not_found` */
  async deleteDeadLetters (tenant: string, id: string, ids: readonly string[] | null): Promise<number> {
    await this.get(tenant, id)
    const { letters } = this.#options
    if (ids === null) return await letters.deleteAll(tenant, id)
    const deleted = await Promise.all(ids.map(async letter => letter.startsWith(`${id}/`) && await letters.delete(tenant, letter)))
    return deleted.filter(Boolean).length
  }

  /** Sends dead letters now, in the order given; one that is delivered is deleted. */
  async replayLetters (tenant: string, id: string, ids: readonly string[]): Promise<ReplayResult[]> {
    const webhook = await this.get(tenant, id)
    const { letters, sinkOptions, clock } = this.#options
    const untilMs = clock.monotonicMs() + replayMsMax
    const results: ReplayResult[] = []
    let failures = 0
    for (const letterId of ids) {
      if (failures >= replayFailuresMax || clock.monotonicMs() > untilMs) { results.push({ id: letterId, result: 'not_tried' }); continue }
      const letter = letterId.startsWith(`${id}/`) ? await letters.get(tenant, letterId) : null
      if (letter === null) { results.push({ id: letterId, result: 'not_found' }); continue }
      if (letter.cut) { results.push({ id: letterId, result: 'cut', reason: 'its data was too large to be kept; replay from a time instead' }); continue }
      const verdict = await deliver(tenant, webhook, [letter.event], sinkOptions)
      if (verdict.kind === 'delivered') {
        await letters.delete(tenant, letterId)
        results.push({ id: letterId, result: 'delivered' })
      } else {
        failures++
        results.push({ id: letterId, result: 'failed', reason: verdict.reason })
      }
    }
    return results
  }

  async mqtt (tenant: string): Promise<MqttEvents> {
    return (await this.#options.webhooks.getMqtt(tenant))?.value ?? { enabled: false, types: [], start: { number: 0, fromUs: 0 }, updatedAt: 0 }
  }

  async setMqtt (tenant: string, { enabled, types }: { readonly enabled: boolean, readonly types?: readonly string[] }): Promise<MqttEvents> {
    checkTypes(types)
    const set = await this.#options.webhooks.setMqtt(tenant, before => {
      const nowUs = this.#options.clock.nowUs()
      const updatedAt = Math.max(nowUs, (before?.updatedAt ?? 0) + 1)
      const start = before?.enabled === true ? before.start : { number: updatedAt, fromUs: nowUs }
      return { enabled, types: types ?? before?.types ?? [], start, updatedAt }
    })
    await this.#options.changed(tenant)
    return set
  }

  #startAt (webhook: Webhook, fromUs: number): Webhook['start'] {
    return { number: Math.max(this.#options.clock.nowUs(), webhook.start.number + 1), fromUs }
  }

  async #change (tenant: string, id: string, step: (webhook: Webhook) => Webhook | null): Promise<Webhook> {
    const changed = await this.#options.webhooks.change(tenant, id, webhook => {
      const next = step(webhook)
      return next === null ? null : { ...next, updatedAt: Math.max(this.#options.clock.nowUs(), webhook.updatedAt + 1) }
    })
    await this.#options.changed(tenant)
    return changed
  }

  /** The fields that are given, without the secret. @throws TwinfoldError `invalid_field` */
  async #checked (input: WebhookInput, { maxBatch, mode }: Pick<Webhook, 'maxBatch' | 'mode'>): Promise<Partial<Webhook>> {
    const { secret, url, types, filter, headers } = input
    if (secret !== undefined) checkSecret(secret)
    checkTypes(types)
    if (filter !== undefined && filter !== '') parseEventFilter(filter)
    if (headers !== undefined) checkHeaders(headers)
    if (mode === 'binary' && maxBatch > 1) throw new TwinfoldError('invalid_field', `'mode' binary sends one event at a time: set maxBatch to 1`, { field: 'mode' })
    const fields: Record<string, unknown> = {}
    for (const name of ['description', 'types', 'devices', 'filter', 'content', 'mode', 'headers', 'enabled', 'maxBatch'] as const) if (input[name] !== undefined) fields[name] = input[name]
    if (url !== undefined) fields.url = await this.#options.guard.checkUrl(url)
    return fields as Partial<Webhook>
  }
}

/** @throws TwinfoldError `invalid_field` (field `secret`) */
export function checkSecret (secret: string): void {
  if (!isSecret(secret)) throw new TwinfoldError('invalid_field', `'secret' must be whsec_ and 24 to 64 bytes in base64`, { field: 'secret' })
}

function checkTypes (types: readonly string[] | undefined): void {
  if (types !== undefined && chosenTypes(types) === null) throw new TwinfoldError('invalid_field', `'types' may hold ${typePatterns.join(', ')}`, { field: 'types' })
}

