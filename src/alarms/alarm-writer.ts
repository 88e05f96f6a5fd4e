/**
 * Writes alarms. A change is worked out on what is remembered, written on the revision that was seen, and worked out anew on what
 * another node wrote where that was first; after the write its events are told. Whatever dies in between: the document names what was
 * not told, and an event told twice has one id (the cause's). So an alarm is raised once for one cause.
 */
import type { Clock } from '../core/clock.js'
import { TwinfoldError } from '../core/errors.js'
import { inParallel } from '../core/in-parallel.js'
import { KeyedLock } from '../core/keyed-lock.js'
import type { Log } from '../core/log.js'
import { Side } from '../core/threshold.js'
import type { DocumentStore } from '../store/document-store.js'
import type { EventLog } from '../store/event-log.js'
import { alarmId, cleared, emptyAlarm, mustWrite, raised, type AlarmDocument, type ClearReason, type StoredAlarm } from './alarm-document.js'
import { afterManualClear, type Advanced, type AlarmStep, type Track } from './alarm-machine.js'
import { adopt, type Pair, type RuleState } from './pair.js'

/** Active alarms of one tenant; one more is not raised, and counted. */
export const activeAlarmsMax = 100_000
const attemptsMax = 50
const markedAtOnce = 200

export interface AlarmWriterOptions {
  readonly documents: DocumentStore
  readonly events: Pick<EventLog, 'appendEvents'>
  readonly clock: Clock
  readonly log: Log
  /** The version of the rule is in force and the device exists. Asked before every raise. */
  readonly mayRaise: (pair: Pair) => Promise<boolean>
  readonly activeMax?: number
}

export class AlarmWriter {
  readonly #options: AlarmWriterOptions
  readonly #lock = new KeyedLock()
  /** Pairs that somebody is changing now. */
  readonly #held = new Map<Pair, number>()
  readonly #active = new Map<string, number>()
  readonly #refused = new Map<string, number>()
  /** Alarms with events that the log did not take; then those whose documents do not say yet that it did. */
  readonly #untold = new Set<Pair>()
  readonly #unmarked = new Set<Pair>()
  readonly stats = { raised: 0, cleared: 0, acknowledged: 0, writes: 0, conflicts: 0, notRaised: 0, retold: 0 }

  constructor (options: AlarmWriterOptions) { this.#options = options }

  /** Active alarms of a tenant as this node knows them. */
  activeOf (tenant: string): number { return this.#active.get(tenant) ?? 0 }

  /** Alarms of a tenant that were not raised since the start, because it had too many. */
  notRaisedOf (tenant: string): number { return this.#refused.get(tenant) ?? 0 }

  get untold (): number { return this.#untold.size }

  /** One change of a pair at a time. */
  async #alone<T> (pair: Pair, action: () => Promise<T>): Promise<T> {
    this.#held.set(pair, (this.#held.get(pair) ?? 0) + 1)
    try {
      return await this.#lock.run(`${pair.tenant}\0${alarmId(pair.state.rule.id, pair.device)}`, action)
    } finally {
      const count = this.#held.get(pair) as number
      if (count > 1) this.#held.set(pair, count - 1)
      else this.#held.delete(pair)
    }
  }

  /** What is stored was read: it counts, and what it has not told is told. */
  found (pair: Pair, stored: StoredAlarm | null): void {
    const before = isActive(pair)
    const revision = pair.stored?.revision ?? 0
    if (stored !== null && stored.revision < revision) return
    adopt(pair, stored)
    this.#count(pair, before)
    if (stored !== null && stored.document.untold.some(({ sequence }) => (sequence?.number ?? 0) > pair.told)) this.#untold.add(pair)
  }

  /** Alarms of the rule count no more: it is over. */
  uncount (state: RuleState): void {
    state.counted = false
    let active = 0
    for (const pair of state.pairs.values()) if (isActive(pair)) active++
    this.#active.set(state.tenant, this.activeOf(state.tenant) - active)
  }

  #count (pair: Pair, before: boolean): void {
    const now = isActive(pair)
    if (now !== before && pair.state.counted) this.#active.set(pair.tenant, this.activeOf(pair.tenant) + (now ? 1 : -1))
  }

  /** Does it at once where nothing is to be written, as nearly always; false: `advance` must. */
  quick (pair: Pair, work: (track: Track) => Advanced): boolean {
    if (this.#held.has(pair)) return false
    const { track, steps } = settled(work(pair.track))
    if (mustWrite(ofThisRule(pair).document, track, steps)) return false
    pair.track = track
    return true
  }

  /**
   * Durable when it resolves.
   * @param work what became of the track; called again where another node was first
   */
  async advance (pair: Pair, work: (track: Track) => Advanced): Promise<void> {
    await this.#alone(pair, async () => {
      await this.#change(pair, async () => {
        const { track, steps } = settled(work(pair.track))
        const { document } = ofThisRule(pair)
        if (!mustWrite(document, track, steps)) {
          pair.track = track
          return null
        }
        if (pair.state.over) return null
        if (!steps.some(({ kind }) => kind === 'raise')) return this.#next(pair, track, steps)
        if (await this.#room(pair) && await this.#options.mayRaise(pair)) return this.#next(pair, track, steps)
        pair.track = { ...track, active: false, spent: track.side === Side.beyond ? track.since : track.spent }
        return null
      })
    })
  }

  /** Changes the alarm itself; null: nothing is to be changed. Resolves to what is stored then. */
  async edit (pair: Pair, change: (alarm: AlarmDocument) => AlarmDocument | null): Promise<AlarmDocument | null> {
    return await this.#alone(pair, async () => {
      await this.#change(pair, async () => {
        if (pair.stored === null) return null
        const alarm = this.#withoutTold(pair, pair.stored.document)
        return change(alarm.ruleStamp === pair.state.rule.stamp ? { ...alarm, track: pair.track } : alarm)
      })
      return pair.stored?.document ?? null
    })
  }

  /** Ends the alarm, and the streak with it. */
  async end (pair: Pair, reason: ClearReason): Promise<void> {
    await this.edit(pair, alarm => alarm.state === 'active' || alarm.track.active || alarm.track.side === Side.beyond
      ? this.#ended(pair, alarm, reason)
      : null)
  }

  #ended (pair: Pair, alarm: AlarmDocument, reason: ClearReason): AlarmDocument {
    const nowUs = this.#options.clock.nowUs()
    // Whoever clears by hand has seen this streak; what no rule watches any more has none.
    const track = reason === 'manual' ? afterManualClear(alarm.track) : { ...alarm.track, active: false, side: Side.clear }
    const over: AlarmDocument = { ...alarm, changedAt: nowUs, track }
    if (alarm.state !== 'active') return over
    return cleared(pair.tenant, over, nowUs, reason, nowUs)
  }

  async #room ({ tenant, device, state }: Pair): Promise<boolean> {
    if (this.activeOf(tenant) < (this.#options.activeMax ?? activeAlarmsMax)) return true
    this.stats.notRaised++
    const refused = this.notRaisedOf(tenant) + 1
    this.#refused.set(tenant, refused)
    if (refused === 1) this.#options.log.warn({ tenant, device, rule: state.rule.id }, 'the tenant has as many active alarms as are kept; no more are raised')
    return false
  }

  #next (pair: Pair, track: Track, steps: readonly AlarmStep[]): AlarmDocument {
    const { tenant, state, device } = pair
    const { document, carried } = ofThisRule(pair)
    const nowUs = this.#options.clock.nowUs()
    let alarm: AlarmDocument = { ...this.#withoutTold(pair, document ?? { ...emptyAlarm(state.rule, device, track), ...carried }), changedAt: nowUs }
    for (const step of steps) {
      alarm = step.kind === 'raise' ? raised(tenant, alarm, state.rule, step, nowUs) : cleared(tenant, alarm, step.at, 'condition', nowUs)
    }
    return { ...alarm, track }
  }

  #withoutTold (pair: Pair, alarm: AlarmDocument): AlarmDocument {
    return { ...alarm, untold: alarm.untold.filter(({ sequence }) => (sequence?.number ?? 0) > pair.told) }
  }

  async #change (pair: Pair, next: () => Promise<AlarmDocument | null>): Promise<void> {
    const { documents } = this.#options
    const id = alarmId(pair.state.rule.id, pair.device)
    for (let attempt = 0; attempt < attemptsMax; attempt++) {
      const document = await next()
      if (document === null) break
      const before = isActive(pair)
      const revision = pair.stored?.revision ?? 0
      if (await documents.putDocument('alarm', pair.tenant, id, JSON.stringify(document), revision)) {
        this.#wrote(pair, { document, revision: revision + 1 }, before)
        break
      }
      this.stats.conflicts++
      const found = await documents.getDocument('alarm', pair.tenant, id)
      // Deleted meanwhile: it begins anew.
      if (found === null) pair.stored = null
      this.found(pair, found === null ? null : { document: JSON.parse(found.body) as AlarmDocument, revision: found.revision })
      if (attempt === attemptsMax - 1) throw new TwinfoldError('store_unavailable', 'an alarm is written by others all the time')
    }
    await this.#tell(pair)
  }

  #wrote (pair: Pair, stored: StoredAlarm, before: boolean): void {
    for (const { type, sequence } of stored.document.untold) {
      if ((sequence?.number ?? 0) <= (pair.stored?.document.events ?? 0)) continue
      if (type === 'alarm.raised') this.stats.raised++
      else if (type === 'alarm.cleared') this.stats.cleared++
      else this.stats.acknowledged++
    }
    this.stats.writes++
    pair.stored = stored
    if (stored.document.ruleStamp === pair.state.rule.stamp) pair.track = stored.document.track
    this.#count(pair, before)
  }

  /** Events that were not told are told; what the log does not take now is told later. */
  async #tell (pair: Pair): Promise<void> {
    const untold = pair.stored?.document.untold.filter(({ sequence }) => (sequence?.number ?? 0) > pair.told) ?? []
    if (untold.length === 0) {
      this.#untold.delete(pair)
      return
    }
    try {
      await this.#options.events.appendEvents(untold)
    } catch (error) {
      this.#options.log.debug({ tenant: pair.tenant, error: (error as Error).message }, 'events of an alarm are told later')
      this.#untold.add(pair)
      return
    }
    pair.told = pair.stored?.document.events ?? 0
    this.#untold.delete(pair)
    this.#unmarked.add(pair)
  }

  /** Tells what could not be told, and writes down what was told. Called now and then. */
  async tidy (): Promise<void> {
    await inParallel([...this.#untold].slice(0, markedAtOnce), async pair => {
      this.stats.retold++
      await this.#alone(pair, async () => { await this.#tell(pair) })
    })
    const unmarked = [...this.#unmarked].slice(0, markedAtOnce)
    await inParallel(unmarked, async pair => {
      await this.edit(pair, alarm => pair.stored !== null && pair.stored.document.untold.length > alarm.untold.length ? alarm : null)
      this.#unmarked.delete(pair)
    })
  }
}

function isActive (pair: Pair): boolean { return pair.stored?.document.state === 'active' }

/** Another node saw the alarm rise while this one saw the value go: it is over since then. */
function settled ({ track, steps }: Advanced): Advanced {
  if (!track.active || track.side !== Side.clear) return { track, steps }
  return { track: { ...track, active: false }, steps: [...steps, { kind: 'clear', at: track.lastTs, value: track.sinceValue }] }
}

/** What is stored where it is of this version of the rule; else what goes on from the version before. */
function ofThisRule (pair: Pair): { readonly document: AlarmDocument | null, readonly carried: Partial<AlarmDocument> } {
  const document = pair.stored?.document ?? null
  if (document === null || document.ruleStamp === pair.state.rule.stamp) return { document, carried: {} }
  const { events, untold, count } = document
  return { document: null, carried: { events, untold, count } }
}
