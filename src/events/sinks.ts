/**
 * All sinks on the lanes that this node serves: which there are (read every few seconds, so that a change made through another node is
 * followed), which lanes are this node's, and when each is looked at. One slow or dead sink delays no other: each has its own places.
 */
import type { Clock } from '../core/clock.js'
import { inParallel } from '../core/in-parallel.js'
import type { Log } from '../core/log.js'
import type { DocumentStore } from '../store/document-store.js'
import type { EventTails, LaneNews } from './event-tails.js'
import type { LaneClaims } from './lane-claims.js'
import type { Letters } from './letters.js'
import type { Sink } from './sink.js'
import { SinkLane, type SinkLaneContext, type SinkStats } from './sink-lane.js'
import { Slots } from './slots.js'

export interface SinksOptions {
  readonly tails: EventTails
  readonly claims: LaneClaims
  readonly documents: DocumentStore
  readonly letters: Letters
  readonly clock: Clock
  readonly log: Log
  readonly random: () => number
  /** Sinks of a tenant, running or paused. */
  readonly sinksOf: (tenant: string) => Promise<readonly Sink[]>
  readonly tenants: () => Promise<readonly string[]>
  /** A sink is gone: what it holds (connections) may go. */
  readonly forget: (sink: Sink) => void
  readonly refreshMs?: number
  readonly stepMs?: number
}

interface Running {
  sink: Sink
  readonly slots: Slots
  /** By lane. */
  readonly lanes: Map<number, SinkLane>
}

/** Deliveries of one sink at once, over different lanes. */
const perSinkMax = 4
/** Deliveries of the node at once. */
const perNodeMax = 512
const saveEveryMs = 500
/** Positions that only moved past events of others are stored this often. */
const saveIdleEveryMs = 300_000
const ageEveryMs = 60_000

const keyOf = ({ tenant, id }: Pick<Sink, 'tenant' | 'id'>): string => `${tenant}\0${id}`

export class Sinks {
  readonly #options: SinksOptions
  readonly #context: SinkLaneContext
  readonly #running = new Map<string, Running>()
  /** Of the lanes that are served: how to stop following. */
  readonly #followed = new Map<number, () => void>()
  readonly #timers: NodeJS.Timeout[] = []
  #stopNews: (() => void) | null = null
  #refreshTimer: NodeJS.Timeout | null = null
  #step: Promise<void> | null = null
  #refreshing: Promise<void> | null = null
  #closed = false
  readonly stats: SinkStats = { delivered: 0, failed: 0, retried: 0, deadLettered: 0, agedOut: 0, takenOver: 0, lost: 0 }

  constructor (options: SinksOptions) {
    this.#options = options
    this.#context = { ...options, stats: this.stats, slots: new Slots(perNodeMax) }
  }

  open (): void {
    const { tails, stepMs = 1000 } = this.#options
    this.#stopNews = tails.onNews(news => { this.#news(news) })
    const every = (ms: number, action: () => void): void => { this.#timers.push(setInterval(action, ms).unref()) }
    every(stepMs, () => { void this.step() })
    every(saveEveryMs, () => { this.#eachLane(lane => { lane.save().catch((error: Error) => { this.#failed(error) }) }) })
    every(saveIdleEveryMs, () => { this.#saveIdle() })
    every(ageEveryMs, () => { void this.age() })
    this.#refreshLater(0)
  }

  /** A round that takes long is made more rarely: a tenth of the time at most goes into it. */
  #refreshLater (waitMs: number): void {
    const { clock, refreshMs = 3000 } = this.#options
    this.#refreshTimer = setTimeout(() => {
      const beganMs = clock.monotonicMs()
      void this.refresh().then(() => {
        if (!this.#closed) this.#refreshLater(Math.max(refreshMs, (clock.monotonicMs() - beganMs) * 10))
      })
    }, waitMs).unref()
  }

  /** Lanes whose claim is this node's at this moment, and sinks. */
  get lanes (): number { return this.#options.claims.held.length }
  get sinks (): number { return this.#running.size }

  /** Lanes of sinks by state, and the age of what waits longest in each, ms. */
  get states (): Record<'up' | 'retrying' | 'paused', number> {
    const states = { up: 0, retrying: 0, paused: 0 }
    this.#eachLane(lane => { states[lane.paused ? 'paused' : (lane.state?.failingSinceUs ?? 0) > 0 ? 'retrying' : 'up']++ })
    return states
  }

  /** Reads which sinks there are. Never rejects. @param tenant this one only */
  async refresh (tenant?: string): Promise<void> {
    if (tenant !== undefined) {
      // After the one under way, which may have read what was before.
      await this.#refreshing
      await this.#refreshTenant(tenant).catch((error: Error) => { this.#failed(error) })
      await this.step()
      return
    }
    this.#refreshing ??= this.#refreshAll().catch((error: Error) => { this.#failed(error) }).finally(() => { this.#refreshing = null })
    await this.#refreshing
  }

  /** Takes, renews and gives up claims. Never rejects. */
  async step (): Promise<void> {
    this.#step ??= this.#claim().catch((error: Error) => { this.#failed(error) }).finally(() => { this.#step = null })
    await this.#step
  }

  /** Stores how far a sink has got on this node. Rejects as the store does. */
  async save ({ tenant, id }: Pick<Sink, 'tenant' | 'id'>): Promise<void> {
    await Promise.all([...this.#running.get(keyOf({ tenant, id }))?.lanes.values() ?? []].map(async lane => { await lane.save() }))
  }

  async age (): Promise<void> {
    const lanes: SinkLane[] = []
    this.#eachLane(lane => { lanes.push(lane) })
    await inParallel(lanes, async lane => { await lane.age() }, 4)
  }

  async close (): Promise<void> {
    this.#closed = true
    for (const timer of this.#timers) clearInterval(timer)
    if (this.#refreshTimer !== null) clearTimeout(this.#refreshTimer)
    this.#stopNews?.()
    await this.#refreshing
    await this.#step
    await Promise.all([...this.#followed.keys()].map(async lane => { await this.#leave(lane) }))
  }

  async #refreshAll (): Promise<void> {
    const { tenants } = this.#options
    const named = new Set(await tenants())
    for (const { sink } of this.#running.values()) named.add(sink.tenant)
    await inParallel([...named], async tenant => { await this.#refreshTenant(tenant) }, 4)
    await this.step()
  }

  async #refreshTenant (tenant: string): Promise<void> {
    const sinks = await this.#options.sinksOf(tenant)
    if (this.#closed) return
    const known = new Set(sinks.map(keyOf))
    for (const [key, running] of this.#running) {
      if (running.sink.tenant !== tenant || known.has(key)) continue
      this.#running.delete(key)
      this.#options.forget(running.sink)
      await Promise.all([...running.lanes.values()].map(async lane => { await lane.stop({ save: false }) }))
    }
    for (const sink of sinks) {
      const running = this.#running.get(keyOf(sink))
      if (running === undefined) {
        const added: Running = { sink, slots: new Slots(perSinkMax), lanes: new Map() }
        this.#running.set(keyOf(sink), added)
        for (const lane of this.#followed.keys()) this.#serve(added, lane)
      } else if (sink.revision !== running.sink.revision) {
        running.sink = sink
        for (const lane of running.lanes.values()) lane.redefine(sink)
      }
    }
  }

  #serve (running: Running, lane: number): void {
    const served = new SinkLane(running.sink, lane, { context: this.#context, slots: running.slots, holds: () => this.#options.claims.holds(lane) })
    running.lanes.set(lane, served)
    served.kick()
  }

  async #claim (): Promise<void> {
    const { claims } = this.#options
    if (this.#closed) return
    // Without sinks there is nothing to serve.
    const surplus = this.#running.size === 0 ? claims.held : claims.surplus()
    for (const lane of surplus) await this.#leave(lane)
    const failure = this.#running.size === 0 ? null : await claims.renew().then(() => null, (error: Error) => error)
    for (const lane of [...this.#followed.keys()]) if (!claims.holds(lane)) await this.#leave(lane)
    this.#eachLane(lane => { lane.wake() })
    if (failure !== null) throw failure
    for (const lane of claims.held) {
      if (this.#followed.has(lane)) continue
      this.#followed.set(lane, this.#options.tails.follow(lane))
      for (const running of this.#running.values()) this.#serve(running, lane)
    }
  }

  /** Stops what runs on the lane, and gives it back where it is still held. */
  async #leave (lane: number): Promise<void> {
    const lanes = [...this.#running.values()].flatMap(running => {
      const served = running.lanes.get(lane)
      running.lanes.delete(lane)
      return served === undefined ? [] : [served]
    })
    this.#followed.get(lane)?.()
    this.#followed.delete(lane)
    await inParallel(lanes, async served => { await served.stop({ save: true }) })
    await this.#options.claims.release(lane)
  }

  #news ({ lane, tenants, since, end }: LaneNews): void {
    for (const { sink, lanes } of this.#running.values()) {
      const served = lanes.get(lane)
      if (served === undefined) continue
      if (tenants.has(sink.tenant)) served.kick()
      else served.pass(since, end)
    }
  }

  #saveIdle (): void {
    const lanes: SinkLane[] = []
    this.#eachLane(lane => { lanes.push(lane) })
    inParallel(lanes, async lane => { await lane.save(true) }, 4).catch((error: Error) => { this.#failed(error) })
  }

  #eachLane (action: (lane: SinkLane) => void): void {
    for (const { lanes } of this.#running.values()) for (const lane of lanes.values()) action(lane)
  }

  #failed (error: Error): void {
    this.#options.log.debug({ error: error.message }, 'sinks of events: the store does not answer; it is tried again')
  }
}
