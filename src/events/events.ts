/**
 * Events out: webhooks, streams, MQTT topics, and the upkeep of the log they read. This is where the parts are put together; `app.ts`
 * makes one, opens it after the store and closes it before.
 */
import { randomBytes } from 'node:crypto'
import type { Clock } from '../core/clock.js'
import { TwinfoldError } from '../core/errors.js'
import type { Log } from '../core/log.js'
import type { ClaimStore } from '../store/claim-store.js'
import type { DocumentStore } from '../store/document-store.js'
import { eventLanes, type EventLog } from '../store/event-log.js'
import type { RegistryStore } from '../store/registry.js'
import type { Principal } from '../tenancy/model.js'
import { AddressGuard, type AddressGuardOptions } from './address-guard.js'
import { DeadLetterEvents } from './dead-letter-events.js'
import { DeviceFacts, parseEventFilter } from './device-facts.js'
import { EventStreams, type EventStreamLimits } from './event-streams.js'
import { EventTails } from './event-tails.js'
import { EventUpkeep } from './event-upkeep.js'
import { chosenTypes, typePatterns } from './event-types.js'
import { HttpSender } from './http-sender.js'
import { LaneClaims } from './lane-claims.js'
import { Letters } from './letters.js'
import { mqttSink, type PublishEvent } from './mqtt-sink.js'
import { retryPolicyDefault, type RetryPolicy } from './retry-policy.js'
import type { Sink } from './sink.js'
import { Sinks } from './sinks.js'
import type { Webhook } from './webhook-model.js'
import { WebhookService } from './webhook-service.js'
import { senderKey, webhookSink, type TwinState, type WebhookSinkOptions } from './webhook-sink.js'
import { WebhookStore } from './webhook-store.js'

export interface EventsOptions {
  readonly store: EventLog & DocumentStore & ClaimStore & Pick<RegistryStore, 'getDevice'>
  readonly clock: Clock
  readonly log: Log
  /** Never the same for two servers that may run at once, nor for two starts of one: the boot id. */
  readonly owner: string
  /** This node's name, and the names of those that run; null: this one has the store to itself. */
  readonly node: string
  readonly live: (() => readonly string[]) | null
  /** Where webhooks may go. */
  readonly targets: Pick<AddressGuardOptions, 'allowPrivate' | 'allow' | 'lookup'>
  /** For webhooks with content `state`. */
  readonly twinState?: TwinState
  /** To the broker, QoS 1; absent: no MQTT topics. */
  readonly publish?: PublishEvent
  /** Those not named have the default. */
  readonly policy?: Partial<RetryPolicy>
  readonly streamLimits?: Partial<EventStreamLimits>
  /** Of a claim on a lane: how long the lanes of a node that died wait at most. Default 10,000. */
  readonly leaseMs?: number
  /** How often webhooks are read that other nodes may have changed. Default 3000. */
  readonly refreshMs?: number
  /** Until a webhook must have answered. Default 10,000. */
  readonly timeoutMs?: number
  /** PEM of certificates that are trusted beside the system's, for webhooks. */
  readonly ca?: string
  readonly lettersPerLaneMax?: number
}

export class Events {
  readonly webhooks: WebhookService
  readonly streams: EventStreams
  readonly deadLetters: DeadLetterEvents
  readonly upkeep: EventUpkeep
  readonly sinks: Sinks
  readonly tails: EventTails
  readonly letters: Letters
  readonly guard: AddressGuard
  /** What edges are asked for, read. @throws TwinfoldError `invalid_field` */
  readonly parse = {
    types: (patterns: readonly string[]): ReadonlySet<string> => {
      const types = chosenTypes(patterns)
      if (types === null) throw new TwinfoldError('invalid_field', `'types' may hold ${typePatterns.join(', ')}`, { field: 'types' })
      return types
    },
    filter: parseEventFilter
  }
  readonly #sender: HttpSender
  readonly #stopCounting: () => void
  readonly #options: EventsOptions
  readonly #store: WebhookStore
  readonly #sinkOptions: WebhookSinkOptions
  #appended = 0

  constructor (options: EventsOptions) {
    const { store, clock, log, owner, node, live } = options
    this.#options = options
    this.guard = new AddressGuard(options.targets)
    this.#sender = new HttpSender({ guard: this.guard, timeoutMs: options.timeoutMs ?? 10_000, nowMs: () => clock.nowUs() / 1000, ...(options.ca === undefined ? {} : { ca: options.ca }) })
    this.tails = new EventTails({ log: store, clock, logger: log })
    this.letters = new Letters(store, options.lettersPerLaneMax)
    this.#store = new WebhookStore(store)
    const facts = new DeviceFacts(store, clock)
    this.#sinkOptions = { sender: this.#sender, facts, clock, policy: { ...retryPolicyDefault, ...options.policy }, ...(options.twinState === undefined ? {} : { twinState: options.twinState }) }
    this.sinks = new Sinks({
      tails: this.tails,
      claims: new LaneClaims({ store, owner, node, live, clock, leaseMs: options.leaseMs ?? 10_000 }),
      documents: store,
      letters: this.letters,
      clock,
      log,
      random: Math.random,
      sinksOf: async tenant => await this.#sinksOf(tenant),
      tenants: async () => await this.#store.tenants(),
      forget: sink => { this.#sender.forget(`${sink.tenant}/${sink.id}`) },
      ...(options.refreshMs === undefined ? {} : { refreshMs: options.refreshMs })
    })
    this.webhooks = new WebhookService({
      webhooks: this.#store, documents: store, letters: this.letters, tails: this.tails, guard: this.guard, sinkOptions: this.#sinkOptions, clock, random: randomBytes,
      changed: async tenant => { await this.sinks.refresh(tenant) },
      save: async (tenant, id) => { await this.sinks.save({ tenant, id }) }
    })
    this.streams = new EventStreams({ tails: this.tails, facts, clock, log, ...(options.streamLimits === undefined ? {} : { limits: options.streamLimits }) })
    this.deadLetters = new DeadLetterEvents({ log: store, owner, clock, logger: log })
    this.upkeep = new EventUpkeep({ store, owner, clock, log })
    this.#stopCounting = store.onAppended(lanes => { this.#appended += lanes.size })
  }

  /** What the metrics read. `appends`: lanes that were written to, by call. */
  get stats (): { readonly appends: number, readonly sinks: Sinks['stats'], readonly states: Sinks['states'], readonly lanes: number, readonly webhooks: number, readonly streams: EventStreams['stats'], readonly letters: Letters['stats'], readonly refusedTargets: number, readonly deadLetterEvents: DeadLetterEvents['stats'], readonly trims: EventUpkeep['stats'], readonly laneCount: number } {
    return {
      appends: this.#appended, sinks: this.sinks.stats, states: this.sinks.states, lanes: this.sinks.lanes, webhooks: this.sinks.sinks, streams: this.streams.stats, letters: this.letters.stats,
      refusedTargets: this.guard.stats.refused, deadLetterEvents: this.deadLetters.stats, trims: this.upkeep.stats, laneCount: eventLanes
    }
  }

  open (): void {
    this.tails.open()
    this.streams.open()
    this.sinks.open()
    this.deadLetters.open()
    this.upkeep.open()
  }

  /** Ends the streams of revoked principals; returns how many. */
  disconnect (wanted: (principal: Principal) => boolean): number { return this.streams.disconnect(wanted) }

  /** Waits for deliveries under way (as long as a webhook may take to answer), stores the cursors, gives the lanes back. */
  async close (): Promise<void> {
    this.#stopCounting()
    this.streams.close()
    await this.upkeep.close()
    await this.deadLetters.close()
    await this.sinks.close()
    await this.tails.close()
    this.#sender.close()
  }

  async #sinksOf (tenant: string): Promise<Sink[]> {
    const { webhooks, mqtt } = await this.#store.all(tenant)
    const sinks = webhooks.filter(({ value }) => value.enabled).map(({ value }) => this.#webhookSink(tenant, value))
    const { publish } = this.#options
    if (mqtt?.value.enabled === true && publish !== undefined) sinks.push(mqttSink(tenant, mqtt.value, publish))
    return sinks
  }

  #webhookSink (tenant: string, webhook: Webhook): Sink {
    return webhookSink(tenant, webhook, {
      options: this.#sinkOptions,
      gone: async reason => {
        await this.#store.change(tenant, webhook.id, now => {
          const at = this.#options.clock.nowUs()
          // What answered was the target of before.
          return !now.enabled || now.url !== webhook.url ? null : { ...now, enabled: false, gone: { at, reason }, updatedAt: Math.max(at, now.updatedAt + 1) }
        })
        this.#sender.forget(senderKey(tenant, webhook))
        // Not waited for: it ends the delivery that calls this.
        void this.sinks.refresh(tenant)
      }
    })
  }
}
