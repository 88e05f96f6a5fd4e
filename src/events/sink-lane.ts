/**
 * One sink in one lane: reads, delivers, remembers how far it got. A delivery that fails is tried again with the same events while all
 * later ones of the lane wait in the log, so order per device holds; other lanes go on. What a sink refuses for good, or what could not
 * be delivered in time, becomes a dead letter (letters.ts) before the cursor passes it: nothing is left out silently.
 *
 * At least once: the cursor is stored after the delivery, a little later where much goes out; a crash in between delivers again. It is
 * stored on condition of its revision, so a node that lost the lane without knowing cannot set it back.
 */
import type { Clock } from '../core/clock.js'
import type { Log } from '../core/log.js'
import type { DocumentStore } from '../store/document-store.js'
import { eventsKeptUs, type LoggedEvent, type OutEvent } from '../store/event-log.js'
import type { EventTails } from './event-tails.js'
import { attemptsKept, decodeLaneState, encodeLaneState, laneStateId, newLaneState, type LaneState } from './lane-state.js'
import type { Letters } from './letters.js'
import { delayMs, type Verdict } from './retry-policy.js'
import type { Sink } from './sink.js'
import type { Slots } from './slots.js'

export interface SinkStats {
  /** Events. */
  delivered: number
  /** Attempts. */
  failed: number
  /** Attempts after a failed one. */
  retried: number
  deadLettered: number
  agedOut: number
  takenOver: number
  lost: number
}

export interface SinkLaneContext {
  readonly tails: EventTails
  readonly documents: DocumentStore
  readonly letters: Letters
  readonly clock: Clock
  readonly log: Log
  /** In [0, 1). */
  readonly random: () => number
  readonly stats: SinkStats
  /** Deliveries of all sinks of this node. */
  readonly slots: Slots
}

const pageMax = 256
/** Characters of the events of one delivery; a larger event goes alone. */
const batchCharsMax = 512 * 1024
const collection = 'webhook-state'
/** After a fault of ours (the store does not answer). */
const faultWaitMs = 1000
/** Events this much younger than the oldest that the log keeps are given up when they are still not delivered. */
const agingMarginUs = 3600 * 1e6

interface Batch {
  readonly events: readonly LoggedEvent[]
  /** Where it ends: the position after its last event, or after what was looked through. */
  readonly end: string
  /** Nothing more could be read. */
  readonly last: boolean
}

export class SinkLane {
  readonly lane: number
  readonly #context: SinkLaneContext
  readonly #holds: () => boolean
  readonly #slots: Slots
  #sink: Sink
  #state: LaneState | null = null
  #revision = 0
  #dirty = false
  #unsure = false
  /** It stopped as the claim had run out: another node may have served the lane since. */
  #lapsed = false
  #running: Promise<void> | null = null
  #again = false
  #stopped = false
  #timer: NodeJS.Timeout | null = null
  #saving: Promise<void> = Promise.resolve()

  /** @param slots of the sink; @param holds is the lane still this node's? */
  constructor (sink: Sink, lane: number, { context, slots, holds }: { readonly context: SinkLaneContext, readonly slots: Slots, readonly holds: () => boolean }) {
    this.#sink = sink
    this.lane = lane
    this.#context = context
    this.#slots = slots
    this.#holds = holds
  }

  /** null: not read yet. */
  get state (): Readonly<LaneState> | null { return this.#state }
  get paused (): boolean { return this.#sink.paused }

  /** A changed definition: what waits is tried at once. */
  redefine (sink: Sink): void {
    if (sink.revision === this.#sink.revision) return
    const resumed = this.#sink.paused && !sink.paused
    this.#sink = sink
    if (this.#state !== null) {
      this.#state.nextAtUs = 0
      if (resumed) Object.assign(this.#state, { failingSinceUs: 0, attempts: 0, refusals: 0 })
    }
    this.kick()
  }

  /** Looks for events to deliver, now or when the run under way is done. */
  kick (): void {
    if (this.#stopped) return
    if (this.#running !== null) { this.#again = true; return }
    this.#clearTimer()
    this.#running = this.#run().catch((error: Error) => {
      this.#context.log.debug({ tenant: this.#sink.tenant, sink: this.#sink.id, lane: this.lane, error: error.message }, 'a sink of events waits')
      this.#kickIn(faultWaitMs)
    }).finally(() => {
      this.#running = null
      if (!this.#again) return
      this.#again = false
      this.kick()
    })
  }

  /** The claim was renewed: where it had run out for a while, it goes on from what is stored. */
  wake (): void {
    if (this.#lapsed && this.#holds()) this.kick()
  }

  /** The lane brought nothing for this tenant between the two positions. */
  pass (since: string, end: string): void {
    if (this.#running !== null) { this.#again = true; return }
    if (this.#state === null || this.#state.batchEnd !== '' || this.#state.position < since || this.#state.position >= end || this.#sink.paused) return
    Object.assign(this.#state, { position: end, done: [] })
  }

  /** Gives up what the log will not keep much longer, where the sink is paused or fails. Looks at the store. */
  async age (): Promise<void> {
    if (this.#state === null || this.#running !== null || this.#stopped || (!this.#sink.paused && this.#state.failingSinceUs === 0)) return
    this.#running = this.#giveUpOld(this.#state).catch((error: Error) => {
      this.#context.log.debug({ tenant: this.#sink.tenant, sink: this.#sink.id, error: error.message }, 'old events of a sink could not be looked at')
    }).finally(() => { this.#running = null; if (this.#again) { this.#again = false; this.kick() } })
    await this.#running
  }

  /** Begins nothing more, waits for what is under way, stores how far it got. */
  async stop ({ save }: { readonly save: boolean }): Promise<void> {
    this.#stopped = true
    this.#clearTimer()
    await this.#running
    if (save && this.#state !== null && this.#holds()) await this.save(true).catch(() => {})
    await this.#saving.catch(() => {})
  }

  /** @param always also where only positions without events of this sink were passed */
  async save (always = false): Promise<void> {
    const run = async (): Promise<void> => {
      if (this.#state !== null && this.#holds() && (this.#dirty || always)) await this.#save(this.#state)
    }
    this.#saving = this.#saving.catch(() => {}).then(run)
    await this.#saving
  }

  async #save (state: LaneState): Promise<void> {
    const { documents, stats, clock } = this.#context
    const { tenant, id } = this.#sink
    const name = laneStateId(id, this.lane)
    if (this.#unsure) {
      // The write before may have been made or not.
      const stored = await documents.getDocument(collection, tenant, name)
      if (stored !== null && stored.revision === this.#revision + 1 && decodeLaneState(stored.body).savedUs === state.savedUs) this.#revision++
      this.#unsure = false
    }
    this.#dirty = false
    state.savedUs = clock.nowUs()
    try {
      if (await documents.putDocument(collection, tenant, name, encodeLaneState(state), this.#revision)) {
        this.#revision++
        return
      }
    } catch (error) {
      this.#dirty = true
      this.#unsure = true
      throw error
    }
    // Another node served the lane meanwhile, or the sink is gone.
    stats.lost++
    this.#state = null
  }

  async #load (): Promise<LaneState> {
    const { documents, tails } = this.#context
    const { tenant, id, start } = this.#sink
    const stored = await documents.getDocument(collection, tenant, laneStateId(id, this.lane))
    this.#revision = stored?.revision ?? 0
    this.#unsure = false
    this.#dirty = false
    this.#state = stored === null ? newLaneState(tails.positionAt(this.lane, start.fromUs), start) : decodeLaneState(stored.body)
    this.#context.stats.takenOver++
    return this.#state
  }

  get #mayRun (): boolean { return !this.#stopped && !this.#sink.paused && this.#holds() }

  async #run (): Promise<void> {
    if (this.#lapsed && this.#holds()) {
      this.#lapsed = false
      this.#state = null
    }
    await this.#goOn()
    if (!this.#holds()) this.#lapsed = true
  }

  async #goOn (): Promise<void> {
    while (this.#mayRun) {
      const state = this.#state ?? await this.#load()
      if (state.start.number < this.#sink.start.number) this.#restart(state)
      const waitUs = state.nextAtUs - this.#context.clock.nowUs()
      if (waitUs > 0) { this.#kickIn(waitUs / 1000); return }
      const batch = await this.#gather(state)
      if (batch.events.length === 0) {
        if (batch.end > state.position) Object.assign(state, { position: batch.end, done: [] })
        if (state.batchEnd !== '' && state.position >= state.batchEnd) state.batchEnd = ''
        if (batch.last) return
        continue
      }
      await this.#slots.run(async () => { await this.#context.slots.run(async () => { await this.#deliver(state, batch) }) })
    }
  }

  #restart (state: LaneState): void {
    const { start } = this.#sink
    Object.assign(state, { start, position: this.#context.tails.positionAt(this.lane, start.fromUs), done: [], attempts: 0, refusals: 0, failingSinceUs: 0, nextAtUs: 0, batchEnd: '', singleUntil: '' })
    this.#dirty = true
  }

  async #gather (state: LaneState): Promise<Batch> {
    const { tails } = this.#context
    const max = state.singleUntil !== '' && state.position <= state.singleUntil ? 1 : this.#sink.batchMax
    const events: LoggedEvent[] = []
    let chars = 0
    let end = state.position
    for (;;) {
      const page = await tails.read(this.lane, end, pageMax)
      for (const logged of page.events) {
        if (state.batchEnd !== '' && logged.position > state.batchEnd) return { events, end: state.batchEnd, last: false }
        const { event } = logged
        if (event.tenant === this.#sink.tenant && event.stamp >= state.start.fromUs && !state.done.includes(event.id) && await this.#sink.wants(event)) {
          if (events.length > 0 && chars + event.data.length > batchCharsMax) return { events, end, last: false }
          events.push(logged)
          chars += event.data.length
        }
        end = logged.position
        if (events.length >= max) return { events, end, last: false }
      }
      if (page.position > end) end = page.position
      // A long way without one of this sink's: the position is remembered in between.
      if (!page.more || events.length === 0) return { events, end, last: !page.more }
    }
  }

  async #deliver (state: LaneState, { events, end }: Batch): Promise<void> {
    // A place came free late: the lane may be another node's now.
    if (!this.#mayRun || this.#state !== state) return
    const { clock, stats } = this.#context
    if (state.attempts > 0) stats.retried++
    const startUs = clock.nowUs()
    const startMs = clock.monotonicMs()
    const verdict = await this.#sink.deliver(events.map(({ event }) => event))
    this.#note(state, verdict, { at: startUs, ms: Math.round(clock.monotonicMs() - startMs), events: events.length, id: events[0].event.id })
    if (verdict.kind === 'delivered') {
      state.delivered += events.length
      stats.delivered += events.length
      this.#pass(state, events, end)
      state.failingSinceUs = 0
      return
    }
    stats.failed++
    state.failedAttempts++
    await this.#failed(state, { events, end, last: false }, verdict)
    await this.save()
  }

  async #failed (state: LaneState, { events, end }: Batch, verdict: Exclude<Verdict, { kind: 'delivered' }>): Promise<void> {
    const { clock, random } = this.#context
    const { policy } = this.#sink
    const nowUs = clock.nowUs()
    state.attempts++
    if (verdict.kind === 'refused') state.refusals++
    state.batchEnd = end
    if (state.failingSinceUs === 0) state.failingSinceUs = nowUs
    state.nextAtUs = nowUs + delayMs(policy, state.attempts, verdict.kind === 'again' ? verdict.retryAfterMs : null, random()) * 1000
    this.#dirty = true
    if (verdict.kind === 'gone') {
      await this.#sink.gone(verdict.reason)
      return
    }
    if (verdict.kind === 'refused' && state.refusals >= policy.refusedAttemptsMax) {
      if (events.length === 1) { await this.#giveUp(state, events, end, verdict.reason); return }
      // One of them is to blame: each alone, so that only that one is given up.
      Object.assign(state, { singleUntil: end, attempts: 0, refusals: 0, batchEnd: '', nextAtUs: 0 })
      return
    }
    const oldest = events[0].event.stamp
    if (nowUs > Math.max(oldest, state.failingSinceUs) + policy.giveUpMs * 1000) await this.#giveUp(state, events, end, verdict.reason)
  }

  /** The letters first, the cursor then. */
  async #giveUp (state: LaneState, events: readonly LoggedEvent[], end: string, reason: string): Promise<void> {
    const { letters, stats, clock } = this.#context
    for (const { event } of events) await letters.add(this.#sink.id, event, { reason, attempts: state.attempts, at: clock.nowUs() })
    state.deadLettered += events.length
    stats.deadLettered += events.length
    this.#pass(state, events, end)
  }

  #pass (state: LaneState, events: readonly LoggedEvent[], end: string): void {
    const done = end > state.position ? [] : [...state.done, ...events.map(({ event }) => event.id)]
    Object.assign(state, { position: end, done, attempts: 0, refusals: 0, nextAtUs: 0, batchEnd: '' })
    if (state.singleUntil !== '' && end > state.singleUntil) state.singleUntil = ''
    this.#dirty = true
  }

  #note (state: LaneState, verdict: Verdict, attempt: { readonly at: number, readonly ms: number, readonly events: number, readonly id: string }): void {
    state.recent.push({ ...attempt, outcome: verdict.kind, reason: verdict.kind === 'delivered' ? '' : verdict.reason })
    if (state.recent.length > attemptsKept) state.recent.shift()
  }

  async #giveUpOld (state: LaneState): Promise<void> {
    const { tails, clock, letters, stats } = this.#context
    const beforeUs = clock.nowUs() - eventsKeptUs + agingMarginUs
    const isOld = (event: OutEvent): boolean => event.stamp < beforeUs
    while (!this.#stopped && this.#holds() && this.#state === state) {
      const page = await tails.read(this.lane, state.position, pageMax)
      const old = page.events.findIndex(({ event }) => !isOld(event))
      const passed = old === -1 ? page.events : page.events.slice(0, old)
      if (passed.length === 0) return
      for (const { event } of passed) {
        if (event.tenant !== this.#sink.tenant || event.stamp < state.start.fromUs || state.done.includes(event.id) || !await this.#sink.wants(event)) continue
        await letters.add(this.#sink.id, event, { reason: 'too old: the log keeps events for 7 days', attempts: state.attempts, at: clock.nowUs() })
        state.deadLettered++
        state.agedOut++
        stats.deadLettered++
        stats.agedOut++
      }
      const { position } = state
      this.#pass(state, passed, passed[passed.length - 1].position)
      await this.save()
      if (state.position === position) return
    }
  }

  #kickIn (ms: number): void {
    if (this.#stopped) return
    this.#clearTimer()
    this.#timer = setTimeout(() => { this.kick() }, Math.min(ms, 3_600_000)).unref()
  }

  #clearTimer (): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
  }
}
