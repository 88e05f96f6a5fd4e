/**
 * Live readings of a node: who watches, what the packers look for, and which text goes to whom. A watcher gets the latest values
 * first and then every accepted reading, without a gap between: its wants are in force in every slice (on every node) before the
 * latest values are asked for. A reading may come twice. Nothing here is done per point: the packers wrote the text.
 *
 * Bounds: watchers per tenant and node, devices of one, what may be watched at all, and what each may have waiting (INVARIANTS 8);
 * a slow one loses readings and is told how many, and slows nobody.
 */
import type { Clock } from '../core/clock.js'
import { TwinfoldError } from '../core/errors.js'
import { inParallel } from '../core/in-parallel.js'
import { liveLimits, type LiveLimits } from '../core/limits.js'
import type { Log } from '../core/log.js'
import type { LiveBus } from '../store/live-bus.js'
import type { Principal } from '../tenancy/model.js'
import type { LiveFilter, LiveGroup, LiveReadings } from '../../workers/live-protocol.js'
import type { LatestValues } from './latest-values.js'
import { LiveNodes } from './live-nodes.js'
import { LiveSubscriber, type LiveShared, type LiveSink } from './live-subscriber.js'
import { LiveTap, type TappedPool } from './live-tap.js'
import { ReplayRing } from './replay-ring.js'
import { WantTable } from './want-table.js'

export interface WatchRequest {
  readonly principal: Principal
  readonly tenant: string
  /** null: every device of the tenant, those made later too. */
  readonly devices: readonly string[] | null
  /** Devices whose latest values come first; asked for when nothing is missed any more. */
  readonly latestOf: readonly string[] | (() => Promise<readonly string[]>)
  readonly filter: LiveFilter
  readonly sink: LiveSink
  /** Id of the last reading that the watcher has got. */
  readonly lastId?: string
}

/** What the edges need of it. */
export type LiveSource = Pick<LiveHub, 'limits' | 'admit' | 'watch' | 'end' | 'endAll'>

export interface LiveHubOptions {
  readonly clock: Clock
  readonly log: Log
  /** Those not named have the default. */
  readonly limits?: Partial<LiveLimits>
}

interface Target {
  deliver(group: LiveGroup): void
  readonly subscriber: LiveSubscriber | null
}

/** Slices that are under way are waited for so long; then the watcher is told of a gap. */
const settleMsMax = 2000
const announceMsMax = 1000
const latestAtOnce = 4
/** Share of the main thread's time that may go into telling the packers what is wanted: one in so many. */
const encodeShare = 20

export class LiveHub {
  readonly #clock: Clock
  readonly #log: Log
  readonly #limits: LiveLimits
  readonly #local = new WantTable<Target>()
  readonly #tap = new LiveTap(readings => { this.#packed(readings) })
  readonly #targets = new Map<LiveSubscriber, Target>()
  readonly #byTenant = new Map<string, number>()
  readonly #ring: ReplayRing
  readonly #shared: LiveShared
  readonly #lingering = new Set<NodeJS.Timeout>()
  #latest: LatestValues | null = null
  #nodes: LiveNodes | null = null
  #encodedLocal = 0
  #encodedNodes = 0
  #version = 0
  #encoding: Promise<number> | null = null
  #encodeAfterMs = 0
  #timer: NodeJS.Timeout | null = null
  #closing = false
  readonly stats = { subscribers: 0, subscribed: 0, refused: 0, delivered: 0, dropped: 0, gaps: 0, revoked: 0, stalled: 0, resumed: 0, groups: 0 }

  constructor ({ clock, log, limits = {} }: LiveHubOptions) {
    this.#clock = clock
    this.#log = log
    this.#limits = { ...liveLimits, ...limits }
    this.#ring = new ReplayRing(this.#limits.replayCharsMax)
    this.#shared = { queuedChars: 0, queuedCharsMax: this.#limits.nodeQueueCharsMax, stats: this.stats, nowMs: () => clock.monotonicMs() }
  }

  get limits (): LiveLimits { return this.#limits }

  /** What goes between the nodes; null where there is one node only. */
  get nodeStats (): LiveNodes['stats'] | null { return this.#nodes?.stats ?? null }

  /** The pool as the packer uses it. */
  on (pool: TappedPool): TappedPool { return this.#tap.on(pool) }

  /** @param bus null: there is one node only */
  open ({ latest, bus }: { readonly latest: LatestValues, readonly bus: LiveBus | null }): void {
    this.#latest = latest
    this.#timer = setInterval(() => { this.#tick() }, this.#limits.keepAliveMs / 3).unref()
    if (bus === null) return
    this.#nodes = new LiveNodes({
      bus,
      clock: this.#clock,
      log: this.#log,
      own: this.#local,
      changed: async () => await this.#tap.settled(await this.#tell(), settleMsMax),
      received: readings => { this.#route(readings) },
      gap: began => { this.#nodesGap(began) }
    })
    this.#nodes.open()
  }

  /** @throws TwinfoldError `throttled` at a bound, `not_ready` when it closes */
  watch (request: WatchRequest): LiveSubscriber {
    this.admit(request)
    const { tenant, devices, filter } = request
    const subscriber = new LiveSubscriber(request, this.#limits, this.#shared)
    const target: Target = { subscriber, deliver: group => { subscriber.deliver(group) } }
    const replay = this.#replayFor(request)
    this.#targets.set(subscriber, target)
    this.#byTenant.set(this.#countKey(tenant, filter), (this.#byTenant.get(this.#countKey(tenant, filter)) ?? 0) + 1)
    this.#want(devices, tenant, filter, target)
    this.stats.subscribed++
    this.stats.subscribers = this.#targets.size
    this.#start(subscriber, request, replay).catch((error: Error) => {
      this.#log.warn({ tenant, error: error.message }, 'a live subscription could not begin')
      this.end(subscriber, true)
    })
    return subscriber
  }

  #countKey (tenant: string, filter: LiveFilter): string { return `${tenant}\0${filter.form}` }

  /** @throws TwinfoldError as `watch` */
  admit ({ tenant, devices, filter }: Pick<WatchRequest, 'tenant' | 'devices' | 'filter'>): void {
    if (this.#closing || this.#latest === null) throw new TwinfoldError('not_ready', 'the server is starting or stopping')
    const { subscribersPerTenantMax, subscribersPerNodeMax, mqttFiltersPerTenantMax, mqttFiltersPerNodeMax, wantsPerNodeMax } = this.#limits
    const mine = this.#byTenant.get(this.#countKey(tenant, filter)) ?? 0
    let all = 0
    for (const [key, count] of this.#byTenant) if (key.endsWith(`\0${filter.form}`)) all += count
    const [tenantMax, nodeMax] = filter.form === 'sse' ? [subscribersPerTenantMax, subscribersPerNodeMax] : [mqttFiltersPerTenantMax, mqttFiltersPerNodeMax]
    let full: string | null = null
    if (mine >= tenantMax) full = `the tenant has ${tenantMax} live subscriptions on this node already`
    else if (all >= nodeMax) full = 'this node has as many live subscriptions as it takes'
    else if (this.#local.pairs + (devices?.length ?? 1) > wantsPerNodeMax) full = 'this node has as many devices in live subscriptions as it takes'
    if (full === null) return
    this.stats.refused++
    throw new TwinfoldError('throttled', full, { retryAfterMs: 5000 })
  }

  #want (devices: readonly string[] | null, tenant: string, filter: LiveFilter, target: Target): void {
    for (const device of devices ?? [null]) this.#local.add(tenant, device, filter, target)
  }

  #unwant (devices: readonly string[] | null, tenant: string, filter: LiveFilter, target: Target): void {
    for (const device of devices ?? [null]) this.#local.remove(tenant, device, filter, target)
    void this.#tell()
    if (this.#nodes !== null) void this.#nodes.announce(0)
  }

  /** What the watcher has missed since `lastId`; null where that is not known. Before its wants are added. */
  #replayFor ({ lastId, tenant, devices, filter }: WatchRequest): readonly LiveGroup[] | null {
    if (lastId === undefined) return null
    const kept = this.#ring.from(lastId)
    if (kept === null) return null
    const unbroken = (devices ?? [null]).every(device => (this.#local.since(tenant, device, filter) ?? Infinity) <= kept.version)
    if (!unbroken) return null
    const wanted = devices === null ? null : new Set(devices)
    return kept.groups.filter(group => group.tenant === tenant && group.filter === filter.key && (wanted === null || wanted.has(group.device)))
  }

  async #start (subscriber: LiveSubscriber, { tenant, latestOf, filter, lastId }: WatchRequest, replay: readonly LiveGroup[] | null): Promise<void> {
    if (replay !== null) {
      this.stats.resumed++
      for (const group of replay) subscriber.deliver(group)
      subscriber.begin()
      return
    }
    if (lastId !== undefined) subscriber.gap('what came after Last-Event-ID is not kept any more')
    const version = await this.#tell()
    const [settled, announced] = await Promise.all([this.#tap.settled(version, settleMsMax), this.#nodes?.announce(announceMsMax) ?? true])
    if (!settled) subscriber.gap('readings that are being packed are not in the latest values')
    if (!announced) subscriber.gap('another node does not answer')
    await inParallel(typeof latestOf === 'function' ? await latestOf() : latestOf, async device => {
      if (subscriber.ended) return
      try {
        await subscriber.sendLatest(device, await (this.#latest as LatestValues).read(tenant, device, filter))
      } catch (error) {
        this.#log.debug({ tenant, device, error: (error as Error).message }, 'latest values for a live subscription')
        subscriber.gap(`the latest values of ${device} cannot be read now`)
      }
    }, latestAtOnce)
    subscriber.begin()
  }

  /** Tells the packers what is wanted; resolves with the version that holds everything wanted until now. */
  async #tell (): Promise<number> {
    if (this.#encodedLocal === this.#local.version && this.#encodedNodes === (this.#nodes?.wants.version ?? 0)) return this.#version
    // Wants that gather before the encoding begins are part of it.
    this.#encoding ??= this.#encodeSoon()
    return await this.#encoding
  }

  async #encodeSoon (): Promise<number> {
    const waitMs = this.#encodeAfterMs - this.#clock.monotonicMs()
    if (waitMs > 0) await new Promise<void>(resolve => { setTimeout(resolve, waitMs) })
    else await Promise.resolve()
    // What is wanted from here on is part of the next one.
    this.#encoding = null
    const startMs = this.#clock.monotonicMs()
    this.#encodedLocal = this.#local.version
    this.#encodedNodes = this.#nodes?.wants.version ?? 0
    this.#version++
    if (this.#local.empty && this.#nodes?.wants.empty !== false) {
      this.#tap.want(null)
    } else {
      const text = Buffer.from(JSON.stringify(this.#local.wanted(this.#limits.devicesNamedMax, ...(this.#nodes === null ? [] : [this.#nodes.wants]))))
      const bytes = new SharedArrayBuffer(text.length)
      new Uint8Array(bytes).set(text)
      this.#tap.want({ version: this.#version, bytes })
    }
    const endMs = this.#clock.monotonicMs()
    this.#encodeAfterMs = endMs + (endMs - startMs) * encodeShare
    return this.#version
  }

  /** What this node has packed. */
  #packed (readings: LiveReadings): void {
    this.#nodes?.forward(readings)
    this.#route(readings)
  }

  #route ({ groups, lossy }: LiveReadings): void {
    const touched: LiveSubscriber[] = []
    const touch = (subscriber: LiveSubscriber | null): void => {
      if (subscriber === null || subscriber.touched) return
      subscriber.touched = true
      touched.push(subscriber)
    }
    let wanted: LiveGroup[] | null = null
    for (const group of groups) {
      let any = false
      this.#local.eachTarget(group, target => {
        any = true
        target.deliver(group)
        touch(target.subscriber)
      })
      if (any) (wanted ??= []).push(group)
    }
    for (const tenant of lossy) {
      this.#local.eachTargetOfTenant(tenant, ({ subscriber }) => {
        subscriber?.gap('more came than is passed on')
        touch(subscriber)
      })
    }
    if (wanted !== null) {
      this.stats.groups += wanted.length
      this.#ring.add(wanted, this.#local.version)
    }
    for (const subscriber of touched) {
      subscriber.touched = false
      subscriber.flush()
    }
  }

  #nodesGap (began: boolean): void {
    this.#ring.clear()
    for (const subscriber of this.#targets.keys()) {
      subscriber.gap(began ? 'readings of other nodes are not heard now' : 'readings of other nodes are heard again')
      subscriber.flush()
    }
  }

  #tick (): void {
    const nowMs = this.#clock.monotonicMs()
    for (const subscriber of [...this.#targets.keys()]) {
      const quietMs = nowMs - subscriber.progressMs
      if (!subscriber.sink.writable) {
        if (quietMs < this.#limits.stalledMsMax) continue
        this.stats.stalled++
        this.end(subscriber, true)
      } else if (quietMs >= this.#limits.keepAliveMs * 2 / 3) {
        subscriber.keepAlive()
      }
    }
  }

  /** The watcher is gone, or is to go (`hard`: its connection ends at once). */
  end (subscriber: LiveSubscriber, hard = false): void { this.#end(subscriber, null, hard) }

  #end (subscriber: LiveSubscriber, last: 'revoked' | 'closing' | null, hard = false): void {
    const target = this.#targets.get(subscriber)
    if (target === undefined) return
    this.#targets.delete(subscriber)
    this.stats.subscribers = this.#targets.size
    const { tenant, devices, filter } = subscriber
    const key = this.#countKey(tenant, filter)
    const left = (this.#byTenant.get(key) as number) - 1
    if (left === 0) this.#byTenant.delete(key)
    else this.#byTenant.set(key, left)
    subscriber.end(last, hard)
    if (!this.#closing && last === null && filter.form === 'sse' && this.#local.pairs < this.#limits.wantsPerNodeMax / 2) this.#linger(devices, tenant, filter)
    this.#unwant(devices, tenant, filter, target)
  }

  /** Goes on for a while, so that a watcher that comes back misses nothing. */
  #linger (devices: readonly string[] | null, tenant: string, filter: LiveFilter): void {
    const nobody: Target = { subscriber: null, deliver: () => {} }
    this.#want(devices, tenant, filter, nobody)
    const timer = setTimeout(() => {
      this.#lingering.delete(timer)
      this.#unwant(devices, tenant, filter, nobody)
    }, this.#limits.lingerMs).unref()
    this.#lingering.add(timer)
  }

  /** Ends the watchers whose principal the predicate names; returns how many. */
  disconnect (wanted: (principal: Principal) => boolean): number {
    let count = 0
    for (const subscriber of [...this.#targets.keys()]) {
      if (!wanted(subscriber.principal)) continue
      this.#end(subscriber, 'revoked')
      count++
    }
    this.stats.revoked += count
    return count
  }

  /** Tells the watchers that the server stops, and ends them. */
  endAll (): void {
    this.#closing = true
    for (const subscriber of [...this.#targets.keys()]) this.#end(subscriber, 'closing')
  }

  async close (): Promise<void> {
    this.endAll()
    if (this.#timer !== null) clearInterval(this.#timer)
    for (const timer of this.#lingering) clearTimeout(timer)
    await this.#nodes?.close()
  }
}
