/**
 * The one way by which this process changes twins. What waits for a twin shares a commit, one event each; twins that are ready share a call of
 * the store. A commit that another node was faster than is planned again on the newer state, so conditions always hold for the state
 * that is committed upon (INVARIANTS 5).
 *
 * A fault of the store rejects what was in that commit and everything that waited behind it: whether it was committed is not known, and
 * nothing may be applied before it is tried again.
 */
import { TwinfoldError } from '../core/errors.js'
import { inParallel } from '../core/in-parallel.js'
import type { Device } from '../tenancy/model.js'
import type { EntityCommit, EntityEvent, EntityKey, EntityStore } from '../store/entity-store.js'
import type { EventLog, OutEvent } from '../store/event-log.js'
import { decodeEvent, encodeEvent, type StoredTwinEvent } from './event-codec.js'
import { outEvent } from './out-events.js'
import type { PlanContext, ReportPlan } from './plan-change.js'
import { eventOf, reduce } from './reduce.js'
import { encodeState } from './state-codec.js'
import { keyText, type CachedTwin, type TwinCache } from './twin-cache.js'
import type { TwinLimits } from './twin-limits.js'
import type { TwinId, TwinRulesSource } from './twin-model.js'
import type { TwinState } from './twin-state.js'

/** What became of a work: the plan that was carried out, and the twin after it. */
export interface WorkResult {
  readonly plan: ReportPlan | { readonly kind: 'no_device' } | { readonly kind: 'repeated' }
  readonly state: TwinState
}

export interface Work {
  /** On stable storage before it resolves. */
  readonly sync: boolean
  /** Makes the twin where there is none; then the device must be registered. */
  readonly creates: boolean
  /** Lower bound of the event's stamp, µs. */
  readonly stamp?: number
  /** Applied before. */
  readonly isRepeat?: (state: TwinState) => boolean
  readonly plan: (state: TwinState, context: PlanContext) => ReportPlan
}

export interface TwinWriterOptions {
  readonly store: Pick<EntityStore, 'commitEntities' | 'readEntityEvents'>
  readonly events: Pick<EventLog, 'appendEvents'>
  readonly cache: TwinCache
  readonly getDevice: (tenant: string, device: string) => Promise<Device | null>
  readonly rules: TwinRulesSource
  readonly limits: TwinLimits
  /** Id of this node's journal. */
  readonly writer: string
  /** No other process writes: what is cached is the truth, and commit and outbox are one write. */
  readonly authoritative: boolean
  readonly nowStamp: () => number
  readonly random: () => number
  /** In version order for each twin, before the works of the commit resolve. Must not throw. */
  readonly onCommitted: (key: EntityKey, before: TwinState, after: TwinState, events: readonly StoredTwinEvent[]) => void
}

interface Waiting { readonly work: Work, readonly resolve: (result: WorkResult) => void, readonly reject: (error: unknown) => void }

interface Lane {
  readonly key: EntityKey
  readonly text: string
  waiting: Waiting[]
  running: boolean
  conflicts: number
}

interface Prepared {
  readonly lane: Lane
  readonly taken: readonly Waiting[]
  readonly results: readonly (WorkResult | Error)[]
  readonly base: CachedTwin
  readonly after: TwinState
  readonly events: readonly StoredTwinEvent[]
  readonly commit: EntityCommit | null
}

/** Calls of the store at once, and twins in one. */
const roundsMax = 8
const lanesPerRound = 128
/** Events and bytes of them in one commit. */
const eventsPerCommit = 64
const bytesPerCommit = 512 * 1024
/** Commits of a twin that others were faster than, in a row; then its works are told to come again. */
const conflictsMax = 30
const backoffMsMax = 100
/** Of more, the oldest are told with the next change of the twin, or after a restart from the journal. */
const untoldMax = 10_000
/** Works that may wait; one more is refused. */
const waitingMax = 50_000

export class TwinWriter {
  readonly #options: TwinWriterOptions
  readonly #lanes = new Map<string, Lane>()
  #ready: Lane[] = []
  #rounds = 0
  #scheduled = false
  /** Twins whose last commit by this process may not have been told to the event log; bounded by `untoldMax`. */
  readonly #untold = new Map<string, EntityKey>()
  readonly stats = { commits: 0, events: 0, conflicts: 0, faults: 0, retold: 0, waiting: 0 }

  constructor (options: TwinWriterOptions) {
    this.#options = options
  }

  /**
   * @throws TwinfoldError `store_unavailable` (whether it was done is not known), `throttled` (too much waits), `format_newer`, `corrupt_data`
   */
  async submit (id: TwinId, work: Work): Promise<WorkResult> {
    if (this.stats.waiting >= waitingMax) throw new TwinfoldError('throttled', 'too many changes of twins wait; slow down', { retryAfterMs: 1000 })
    const key: EntityKey = { tenant: id.tenant, device: id.device, kind: 'twin', name: id.name }
    const text = keyText(key)
    let lane = this.#lanes.get(text)
    if (lane === undefined) {
      lane = { key, text, waiting: [], running: false, conflicts: 0 }
      this.#lanes.set(text, lane)
    }
    this.stats.waiting++
    const { waiting } = lane
    const result = new Promise<WorkResult>((resolve, reject) => { waiting.push({ work, resolve, reject }) })
    if (!lane.running) this.#start(lane)
    return await result
  }

  /** Several of one twin, in order, side by side: as `submit` for each, settled when all are. @throws what the first of them threw */
  async submitAll (id: TwinId, works: readonly Work[]): Promise<readonly WorkResult[]> {
    if (works.length === 1) return [await this.submit(id, works[0])]
    const settled = await Promise.allSettled(works.map(async work => await this.submit(id, work)))
    return settled.map(result => {
      if (result.status === 'rejected') throw result.reason as Error
      return result.value
    })
  }

  /** Rules, registry and stamp for planning on a state. */
  async context (id: TwinId, state: TwinState, device?: Device | null): Promise<PlanContext> {
    const { limits, rules } = this.#options
    return { id, stamp: this.#stampAfter(state, 0), rules: await rules.rulesOf(id.tenant, id.device), limits, tagsBefore: id.name === '' ? device?.tags ?? {} : {} }
  }

  /** The last commit may not have been told: a repeat tells it once more. */
  isUntold (text: string): boolean { return this.#untold.has(text) }

  get untold (): readonly EntityKey[] { return [...this.#untold.values()] }

  /** Tells the last commit of the twin again, where this node made it. @throws TwinfoldError `store_unavailable` */
  async tellAgain (key: EntityKey, { state, writer, writerFrom }: CachedTwin): Promise<void> {
    if (state.version === 0 || writer !== this.#options.writer) {
      this.#untold.delete(keyText(key))
      return
    }
    await this.#options.events.appendEvents(await this.#lastCommit(key, state.version, writerFrom))
    this.#untold.delete(keyText(key))
    this.stats.retold++
  }

  /** Resolves when nothing waits any more. */
  async close (): Promise<void> {
    while (this.#lanes.size > 0) await new Promise(resolve => { setTimeout(resolve, 5) })
  }

  #start (lane: Lane): void {
    lane.running = true
    this.#ready.push(lane)
    if (this.#scheduled) return
    this.#scheduled = true
    queueMicrotask(() => { this.#scheduled = false; this.#pump() })
  }

  #pump (): void {
    while (this.#rounds < roundsMax && this.#ready.length > 0) {
      // Works that need a sync do not slow those that need none.
      const sync = needsSync(this.#ready[0])
      const lanes = this.#ready.filter(lane => needsSync(lane) === sync).slice(0, lanesPerRound)
      const taken = new Set(lanes)
      this.#ready = this.#ready.filter(lane => !taken.has(lane))
      this.#rounds++
      void this.#round(lanes, sync).finally(() => {
        this.#rounds--
        this.#pump()
      })
    }
  }

  async #round (lanes: readonly Lane[], sync: boolean): Promise<void> {
    const prepared = (await inParallel(lanes, async lane => {
      try {
        return await this.#prepare(lane)
      } catch (error) {
        this.#fail(lane, error)
        return null
      }
    })).filter(one => one !== null)
    const commits = prepared.map(one => one.commit).filter(commit => commit !== null)
    let committed: readonly boolean[] = []
    try {
      if (commits.length > 0) committed = await this.#options.store.commitEntities(commits, sync)
    } catch (error) {
      this.stats.faults++
      for (const one of prepared) {
        if (one.commit === null) this.#settle(one)
        else this.#fail(one.lane, error)
      }
      return
    }
    let next = 0
    for (const one of prepared) {
      if (one.commit === null || committed[next++]) this.#settle(one)
      else this.#again(one.lane)
    }
  }

  /** Plans what waits for the twin on its newest known state. */
  async #prepare (lane: Lane): Promise<Prepared> {
    const { cache, getDevice } = this.#options
    const { key, text } = lane
    const base = (lane.conflicts === 0 ? cache.peek(text) : undefined) ?? await cache.read(text, key)
    const device = base.state.alive ? undefined : await getDevice(key.tenant, key.device)
    const context = await this.context(key, base.state, device)
    // Taken only now: what came meanwhile shares the commit.
    const taken = lane.waiting.slice(0, eventsPerCommit)
    const results: (WorkResult | Error)[] = []
    const events: StoredTwinEvent[] = []
    const stored: EntityEvent[] = []
    let state = base.state
    let bytes = 0
    for (const { work } of taken) {
      if (bytes > bytesPerCommit) break
      const planned = this.#planned(state, work, context, device === null)
      if (!(planned instanceof Error) && planned.kind === 'step') {
        const event = eventOf(state, planned.draft)
        const encoded = encodeEvent(event)
        bytes += encoded.body.length
        state = reduce(state, event)
        events.push(event)
        stored.push(encoded)
      }
      results.push(planned instanceof Error ? planned : { plan: planned, state })
    }
    const commit = events.length === 0 ? null : await this.#commitOf(lane, base, state, events, stored)
    return { lane, taken: taken.slice(0, results.length), results, base, after: state, events, commit }
  }

  #planned (state: TwinState, work: Work, context: PlanContext, noDevice: boolean): WorkResult['plan'] | Error {
    if (work.isRepeat?.(state) === true) return { kind: 'repeated' }
    if (!state.alive && work.creates && noDevice) return { kind: 'no_device' }
    try {
      return work.plan(state, { ...context, stamp: this.#stampAfter(state, work.stamp ?? 0) })
    } catch (error) {
      return error as Error
    }
  }

  #stampAfter (state: TwinState, atLeast: number): number {
    return Math.max(atLeast === 0 ? this.#options.nowStamp() : atLeast, state.updatedAt + 1)
  }

  async #commitOf ({ key, text }: Lane, base: CachedTwin, after: TwinState, events: readonly StoredTwinEvent[], stored: readonly EntityEvent[]): Promise<EntityCommit> {
    const { writer, authoritative } = this.#options
    const { version } = base.state
    // Who made the last commit may have died before it told of it.
    const unsure = !authoritative && version > 0 && (base.writer !== writer || this.#untold.has(text))
    const before = unsure ? await this.#lastCommit(key, version, base.writerFrom) : []
    if (unsure) this.stats.retold++
    return {
      key, writer, expected: version, version: after.version, state: encodeState(after), events: stored, outbox: [...before, ...events.map(event => outEvent(key, event))]
    }
  }

  async #lastCommit (key: EntityKey, version: number, from: number): Promise<OutEvent[]> {
    const events = await this.#options.store.readEntityEvents(key, from > 0 ? from : version, version, 2 * eventsPerCommit)
    return events.map(event => outEvent(key, decodeEvent(event)))
  }

  #settle ({ lane, taken, results, base, after, events, commit }: Prepared): void {
    const { cache, writer, onCommitted } = this.#options
    lane.conflicts = 0
    if (commit !== null) {
      cache.put(lane.text, { state: after, writer, writerFrom: events[0].version }, commit.state?.length ?? 0)
      this.#untold.delete(lane.text)
      this.stats.commits++
      this.stats.events += events.length
      onCommitted(lane.key, base.state, after, events)
    }
    lane.waiting.splice(0, taken.length)
    this.stats.waiting -= taken.length
    taken.forEach(({ resolve, reject }, i) => {
      const result = results[i]
      if (result instanceof Error) reject(result)
      else resolve(result)
    })
    this.#goOn(lane)
  }

  /** Another node was first. */
  #again (lane: Lane): void {
    this.stats.conflicts++
    lane.conflicts++
    if (lane.conflicts > conflictsMax) {
      this.#fail(lane, new TwinfoldError('store_unavailable', 'too many nodes change this twin at once; nothing was changed', { retryAfterMs: 500 }))
      return
    }
    const waitMs = this.#options.random() * Math.min(backoffMsMax, 2 ** Math.min(lane.conflicts, 10))
    setTimeout(() => { this.#goOn(lane) }, waitMs)
  }

  #fail (lane: Lane, error: unknown): void {
    this.#options.cache.drop(lane.text)
    if (!this.#options.authoritative) this.#noteUntold(lane)
    lane.conflicts = 0
    const failed = lane.waiting.splice(0)
    this.stats.waiting -= failed.length
    for (const { reject } of failed) reject(error)
    this.#goOn(lane)
  }

  #noteUntold ({ key, text }: Lane): void {
    if (this.#untold.size >= untoldMax) this.#untold.delete(this.#untold.keys().next().value as string)
    this.#untold.set(text, key)
  }

  #goOn (lane: Lane): void {
    lane.running = false
    if (lane.waiting.length > 0) this.#start(lane)
    else this.#lanes.delete(lane.text)
  }
}

function needsSync (lane: Lane): boolean {
  return lane.waiting.some(({ work }) => work.sync)
}
