/**
 * What a connection may publish where. A decision is made once per (connection, topic), kept as a `TopicEntry` and
 * found again by comparing bytes. Decisions that rest on the registry (a gateway's children, devices named by an
 * application) are leases: they are made anew after `leaseTicks`, refusals after two seconds. While the registry is away, what
 * it allowed stays allowed (src/gate/lease-cache.ts).
 */
import { registryStaleMsMax, unknownLeaseMsMax } from '../../core/limits.js'
import { parseDeviceTopic, publishTarget } from '../../gate/access.js'
import { LeaseCache } from '../../gate/lease-cache.js'
import type { DeadLetterReason } from '../../store/dead-letter-store.js'
import type { RegistryStore } from '../../store/registry.js'
import type { Principal } from '../../tenancy/model.js'
import type { TelemetryWatch } from './telemetry-watch.js'
import { exceedsTopicLimits } from './topic-grammar.js'

/** `message`: reported state, answers, events, for the applier; `question`: `twin/get`. */
export const TopicKind = { telemetry: 0, plain: 1, refused: 2, message: 3, question: 4 } as const

export class TopicEntry {
  /** The topic as sent: relative to the tenant. A small typed array lives on the JS heap, without a buffer. */
  readonly bytes: Uint8Array
  kind: number = TopicKind.refused
  /** The topic in the broker: `tenant/…`, short forms written out. */
  brokerTopic = ''
  /** Of a question: the twin's name. */
  twinName = ''
  /** The device that the topic speaks for, '' where none. */
  device = ''
  reason: DeadLetterReason = 'topic_invalid'
  detail = ''
  /** Tick at which the decision must be made anew. */
  validUntil = Infinity
  tenantSlot = 0
  deviceSlot = 0
  /** Epoch of the watch of its kind at which `watched` was found out; -1: never. */
  epoch = -1
  /** Somebody subscribes to this topic, or that is not known yet: it goes through the broker as well. */
  watched = true
  /** Tick at which `watched` is found out anew. */
  watchedUntil = 0

  constructor (bytes: Uint8Array) { this.bytes = bytes }
}

/** What the registry says about speaking for a device. */
type DeviceAnswer = 'allowed' | 'unknown' | 'foreign'

export type TopicDecision = TopicEntry | { readonly ask: string }

export class TopicDirectory {
  readonly #registry: RegistryStore
  readonly #watch: TelemetryWatch
  readonly #answers: LeaseCache<DeviceAnswer>
  readonly #leaseTicks: number
  readonly #unknownLeaseTicks: number

  constructor (registry: RegistryStore, watch: TelemetryWatch, options: { leaseMs: number, leaseTicks: number, answersMax: number, nowMs: () => number }) {
    this.#registry = registry
    this.#watch = watch
    this.#leaseTicks = options.leaseTicks
    this.#unknownLeaseTicks = Math.max(1, Math.ceil(options.leaseTicks * Math.min(1, unknownLeaseMsMax / options.leaseMs)))
    this.#answers = new LeaseCache({
      leaseMs: options.leaseMs, rememberedMax: options.answersMax, monotonicMs: options.nowMs, staleMsMax: registryStaleMsMax, isUnknown: answer => answer !== 'allowed'
    })
  }

  /** Decides on a topic that is valid by the standard; `{ask}` names the device to `ask` about first. */
  decide (principal: Principal, topicBytes: Uint8Array, tick: number): TopicDecision {
    const entry = new TopicEntry(Uint8Array.from(topicBytes))
    if (exceedsTopicLimits(topicBytes)) {
      entry.detail = 'the topic is longer or deeper than allowed'
      return entry
    }
    const tenant = principal.tenant as string
    const topic = Buffer.from(topicBytes).toString()
    const target = publishTarget(principal, topic)
    const parsed = parseDeviceTopic(topic)
    entry.device = parsed === null ? '' : parsed.device ?? principal.device ?? ''
    if (target.kind === 'refused') {
      entry.detail = target.reason
      if (principal.role !== 'device' || parsed === null || parsed.device === null || parsed.device === principal.device) return entry
      entry.reason = 'device_forbidden'
      return entry
    }
    const foreign = principal.role === 'device' ? entry.device !== principal.device : target.kind !== 'plain'
    if (foreign) {
      const answer = this.#answers.peek(this.#key(principal, entry.device))
      if (answer === undefined) return { ask: entry.device }
      entry.validUntil = tick + (answer === 'allowed' ? this.#leaseTicks : this.#unknownLeaseTicks)
      if (answer !== 'allowed') {
        entry.reason = answer === 'unknown' ? 'device_unknown' : 'device_forbidden'
        entry.detail = answer === 'unknown' ? `there is no device ${entry.device}` : `device ${entry.device} is not registered under this gateway`
        return entry
      }
    }
    if (target.kind === 'plain') {
      entry.kind = TopicKind.plain
      entry.brokerTopic = `${tenant}/${topic}`
      return entry
    }
    if (target.kind === 'message') {
      entry.kind = TopicKind.message
      entry.brokerTopic = `${tenant}/devices/${target.device}/${target.path}`
      entry.device = target.device
      this.#setSlots(entry, tenant)
      return entry
    }
    if (target.kind === 'question') {
      entry.kind = TopicKind.question
      entry.twinName = target.name
      return entry
    }
    entry.kind = TopicKind.telemetry
    entry.brokerTopic = `${tenant}/devices/${target.device}/telemetry`
    entry.device = target.device
    this.#setSlots(entry, tenant)
    return entry
  }

  /** The same in every watch. */
  #setSlots (entry: TopicEntry, tenant: string): void {
    entry.tenantSlot = this.#watch.tenantSlot(tenant)
    entry.deviceSlot = this.#watch.deviceSlot(tenant, entry.device)
  }

  /** May a gateway listen for the device? undefined: `ask` first. */
  mayHear (principal: Principal, deviceId: string): boolean | undefined {
    const answer = this.#answers.peek(this.#key(principal, deviceId))
    return answer === undefined ? undefined : answer === 'allowed'
  }

  /** Asks the registry, so that `decide` can answer. Rejects where the registry does not answer. */
  async ask (principal: Principal, deviceId: string): Promise<void> {
    await this.#answers.get(this.#key(principal, deviceId), async () => {
      const device = await this.#registry.getDevice(principal.tenant as string, deviceId)
      if (device === null) return 'unknown'
      return principal.role !== 'device' || device.gatewayId === principal.device ? 'allowed' : 'foreign'
    })
  }

  /** Forgets what the registry said, after a device was changed on this node. Entries live on until their lease ends. */
  forget (): void { this.#answers.forget() }

  #key (principal: Principal, device: string): string {
    return `${principal.tenant as string}/${principal.role === 'device' ? principal.device as string : ''}/${device}`
  }
}
