/**
 * Follows the outbox of a journal into the analytics store (DESIGN 3.5): the main thread's part, which hands out tasks,
 * keeps the cursors, and measures the lag. It holds nothing up: while analytics is away it retries with a growing pause, and
 * the journal, the packer and device queries do not notice.
 *
 * Why there can be no gap. A round is: (1) stream `pack` from its cursor to P, where P was the packer's cursor when the round
 * began; (2) stream `merge` from its cursor to its end as it then is; (3) `whole` becomes P; (4) stream `seal`, whose entries name
 * buckets: what their tier rows are now becomes their hours in analytics.
 * - An entry of `pack` is visible before the packer's cursor passes it, and the packer's cursor passes slices in order; so at (1)
 *   every slice up to P has its entry, and every entry is read. The rows that it names were visible before it.
 * - A slab that it names and that is gone was merged: the merge wrote its chunks, then its entry, then removed the slab. So the entry
 *   is visible at (2), which comes later. Merges of a journal are written one after the other by this node, numbered by reserved
 *   stamps of the journal, so they become visible in order; the cursor of `merge` moves to entries that were seen in an earlier
 *   look than the one that read them (project-task.ts), so none is passed unread.
 * - Seals run side by side and become visible in any order; `sealsSettled` gives a bound below which none is under way, and nothing
 *   beyond it is read. What is read is the state of the bucket then, so that several seals of it need no order.
 * - A chunk that is gone was sealed or has expired; the sealed rows were written before it went, and are read after (sealed-rows.ts).
 * - A cursor is written after analytics has answered for every point up to it, and that answer means stable storage. A crash
 *   anywhere leaves a cursor that is too low, never one too high; what is done again changes nothing, because analytics keeps
 *   of each (tenant, device, metric, timestamp) the value with the greatest (stamp, journal).
 * - `whole` spares work only: merged rows whose newest slice is not above it hold points that are in. It moves after (2), when what
 *   (1) found missing has been found in merges, and starts from its stored value, which is never too high.
 * - After a power failure the packer may stand behind the projection's cursor. It packs the same slices into the same rows.
 * - Entries expire after `outboxKeptUs`. `seenUpTo` is a time before which nothing was written that is not projected; where it
 *   falls too far behind while something is unprojected, or analytics begins with a journal that was packed without an
 *   outbox, the state is `gap`, kept with the cursors until analytics is rebuilt. So it is when analytics has lost data: what was
 *   brought over is marked there, and a mark behind the one that this node remembers shows it (projection-mark.ts).
 */
import type { Clock } from '../core/clock.js'
import type { Log } from '../core/log.js'
import { usPerDay, usPerHour, usPerSecond } from '../core/reading.js'
import type { AnalyticsStore } from '../store/analytics-store.js'
import type { CursorStore, SettingsStore } from '../store/small-stores.js'
import type { ProjectResult, ProjectTask } from '../../workers/protocol.js'
import { ProjectionMark } from './projection-mark.js'

export interface ProjectorOptions {
  readonly journalId: string
  /** `cursor`: everything up to it is packed. */
  readonly packer: { readonly cursor: number, readonly stats: { readonly slices: number } }
  /** A stamp above every sequence that a merge of the journal has had so far. */
  readonly stampNow: () => number
  /** A stamp such that no seal with a lower sequence is still to come (core/pending-stamps.ts). */
  readonly sealsSettled: () => number
  readonly cursors: CursorStore & Pick<SettingsStore, 'getSetting'>
  /** Where marks are kept. Absent: lost data is not noticed. */
  readonly marks?: Pick<AnalyticsStore, 'getMark' | 'putMark'>
  readonly pool: { project(task: ProjectTask): Promise<ProjectResult> }
  readonly clock: Clock
  readonly log: Log
  /** Between two rounds of an idle projector: few large inserts rather than many small ones. */
  readonly intervalMs: number
  /** How long the outbox keeps an entry; default 7 days. */
  readonly outboxKeptUs?: number
}

export type ProjectionState = 'up' | 'down' | 'gap'

export interface ProjectionStatus {
  readonly state: ProjectionState
  /** For people; '' where there is nothing to say. Says nothing about any tenant. */
  readonly reason: string
  /** Since the oldest entry that is not projected; 0 where all are. */
  readonly lagSeconds: number
}

/** Names of what is kept beside the packer's cursors. */
export const projectionCursors = {
  pack: 'analytics-pack', merge: 'analytics-merge', seal: 'analytics-seal', whole: 'analytics-whole', seenUpTo: 'analytics-seen', gap: 'analytics-gap', gapAt: 'analytics-gap-at', mark: 'analytics-mark'
} as const

/** Setting: when the last complete rebuild of all tenants began, µs. A gap that was there before it is closed. */
export const rebuiltSetting = 'analytics-rebuilt'

const outboxKeptUsDefault = 7 * usPerDay
/** A gap is declared this long before entries expire: reading them takes time, and clocks differ. */
const expiryMarginUs = usPerHour
const retryPauseMsMax = 15_000
/** How often a projector with a gap looks whether it is closed. */
const gapAskEveryMs = 5000
/** How often the time up to which all is projected is written while nothing else is. */
const seenUpToEveryUs = 60 * usPerSecond

const gapReasons: Readonly<Record<number, string>> = {
  1: 'analytics was turned on after data had been packed without it: older points are missing until analytics is rebuilt',
  2: 'analytics fell further behind than the outbox reaches: points are missing until analytics is rebuilt',
  3: 'ClickHouse has lost data that was brought over (it came back empty, or from an older backup): points are missing until analytics is rebuilt'
}
const howToRebuild = ' (twinfold rebuild analytics)'

function newStats () {
  return { rounds: 0, entries: 0, points: 0, batches: 0, rowsPassed: 0, rowsMissing: 0, damagedRows: 0, hours: 0, failures: 0, busyMs: 0, lagSeconds: 0, sealLagSeconds: 0, entriesBehind: 0, bytesBehind: 0 }
}

export type ProjectionStats = ReturnType<typeof newStats>

export class Projector {
  readonly #options: ProjectorOptions
  readonly #startPosition: number
  #timer: NodeJS.Timeout | null = null
  #running: Promise<void> | null = null
  #closing = false
  #opened = false
  #pack = 0
  #merge = 0
  #seal = 0
  /** Up to when every seal is brought over, µs. */
  #sealsSeenUpTo: number
  #whole = 0
  /** µs, wall clock. */
  #seenUpTo: number
  #seenUpToWritten = 0
  #gap = 0
  #gapAt = 0
  #gapAskedMs = -Infinity
  readonly #mark: ProjectionMark | null
  #failuresInRow = 0
  #failure: { code: string, detail: string } | null = null
  #slicesSeen = 0
  readonly #stats = newStats()

  /** Made before the packer packs anything: what it packed in earlier runs tells whether analytics was there then. */
  constructor (options: ProjectorOptions) {
    this.#options = options
    this.#startPosition = options.packer.cursor
    this.#seenUpTo = options.clock.nowUs()
    this.#sealsSeenUpTo = this.#seenUpTo
    const { journalId, cursors, marks, clock } = options
    this.#mark = marks === undefined ? null : new ProjectionMark({ journalId, cursors, marks, clock, cursorName: projectionCursors.mark })
  }

  /** Starts to follow. Does not wait for analytics, nor for the store. */
  open (): void {
    this.#schedule(0)
  }

  /** Waits for the task in flight for at most `timeoutMs`. */
  async close (timeoutMs = 5000): Promise<void> {
    this.#closing = true
    if (this.#timer !== null) clearTimeout(this.#timer)
    const timer = new Promise<void>(resolve => { setTimeout(resolve, timeoutMs).unref() })
    await Promise.race([this.#running, timer])
  }

  get status (): ProjectionStatus {
    const { lagSeconds } = this.stats
    const gap = this.#gap === 0 ? '' : gapReasons[this.#gap] + howToRebuild
    if (this.#failure !== null) {
      const reason = [this.#failure.detail, gap].filter(text => text !== '').join('; ')
      if (this.#failure.code === 'analytics_unavailable') return { state: 'down', reason, lagSeconds }
      // Details of the store name its addresses; they are in the log.
      const waiting = this.#failure.code === 'store_unavailable' ? 'the store does not answer' : `the projection fails (${this.#failure.code})`
      return { state: gap === '' ? 'up' : 'gap', reason: gap === '' ? `points are waiting: ${waiting}` : gap, lagSeconds }
    }
    return { state: gap === '' ? 'up' : 'gap', reason: gap, lagSeconds }
  }

  /** Counters since the start, and the gauges `lagSeconds`, `entriesBehind` (packed by this run) and `bytesBehind` (of journal) as of now. */
  get stats (): Readonly<ProjectionStats> {
    const { packer, clock } = this.#options
    const behind = this.#whole < packer.cursor
    this.#stats.lagSeconds = behind ? Math.max(0, clock.nowUs() - this.#seenUpTo) / usPerSecond : 0
    this.#stats.sealLagSeconds = Math.max(0, clock.nowUs() - this.#sealsSeenUpTo) / usPerSecond
    this.#stats.bytesBehind = Math.max(0, packer.cursor - this.#pack)
    this.#stats.entriesBehind = behind ? Math.max(1, packer.stats.slices - this.#slicesSeen) : 0
    return this.#stats
  }

  /** One round; resolves to what ended it early, null where nothing did. Never beside another one. */
  async runOnce (): Promise<ProjectResult['failure']> {
    try {
      if (!this.#opened) await this.#readCursors()
      return await this.#round()
    } catch (error) {
      const { code = 'internal', message } = error as { code?: string, message: string }
      return { code, detail: message }
    }
  }

  #schedule (pauseMs: number): void {
    if (this.#closing) return
    this.#timer = setTimeout(() => {
      this.#running = this.#attempt().finally(() => { this.#running = null })
    }, pauseMs)
  }

  async #attempt (): Promise<void> {
    const failed = await this.runOnce()
    if (failed === null) {
      if (this.#failure !== null) this.#options.log.info({ attempts: this.#failuresInRow }, 'the projection into analytics goes on')
      this.#failuresInRow = 0
      this.#failure = null
      this.#schedule(this.#options.intervalMs)
      return
    }
    this.#stats.failures++
    this.#failuresInRow++
    if (this.#failure?.detail !== failed.detail) this.#options.log.warn({ code: failed.code, error: failed.detail }, 'the projection into analytics waits; nothing is lost')
    this.#failure = failed
    this.#schedule(Math.min(retryPauseMsMax, 250 * 2 ** Math.min(this.#failuresInRow, 10)))
  }

  async #readCursors (): Promise<void> {
    const { cursors, journalId, clock } = this.#options
    const read = async (name: keyof typeof projectionCursors): Promise<number | null> => await cursors.getCursor(journalId, projectionCursors[name])
    const pack = await read('pack')
    this.#pack = pack ?? 0
    this.#whole = await read('whole') ?? 0
    this.#gap = await read('gap') ?? 0
    this.#gapAt = await read('gapAt') ?? 0
    const stored = await read('seenUpTo')
    // Where all that earlier runs packed is in, what is unprojected was written by this run.
    this.#seenUpTo = stored === null || this.#whole >= this.#startPosition ? this.#seenUpTo : stored
    // Merges that are older than the outbox reaches are not there to be read.
    const oldest = clock.nowUs() - this.#keptUs - usPerDay
    this.#merge = Math.max(await read('merge') ?? 0, oldest)
    this.#seal = Math.max(await read('seal') ?? 0, oldest)
    if (pack === null) {
      if (this.#startPosition > 0) await this.#declareGap(1)
      await this.#put('pack', 0)
    }
    this.#opened = true
  }

  async #round (): Promise<ProjectResult['failure']> {
    const { packer, clock } = this.#options
    const startedAt = clock.nowUs()
    const packedTo = packer.cursor
    const { slices } = packer.stats
    await this.#watchGap()
    if (this.#whole < packedTo && startedAt - this.#seenUpTo > this.#keptUs - expiryMarginUs) await this.#declareGap(2)
    while (this.#pack < packedTo) {
      const result = await this.#task('pack', this.#pack, packedTo)
      const reached = result.atEnd ? packedTo : result.cursor
      if (reached > this.#pack) await this.#put('pack', this.#pack = reached)
      if (result.newestStamp > this.#seenUpTo) this.#seenUpTo = Math.min(result.newestStamp, startedAt)
      if (result.failure !== null || this.#closing) return result.failure
    }
    // Taken after (1): what (1) found missing was merged before.
    const mergedTo = this.#options.stampNow()
    for (let atEnd = false; !atEnd;) {
      const result = await this.#task('merge', this.#merge, mergedTo)
      if (result.cursor > this.#merge) await this.#put('merge', this.#merge = result.cursor)
      if (result.failure !== null || this.#closing) return result.failure
      ;({ atEnd } = result)
    }
    this.#slicesSeen = slices
    if (packedTo > this.#whole) await this.#put('whole', this.#whole = packedTo)
    this.#seenUpTo = startedAt
    const settledTo = this.#options.sealsSettled()
    for (let atEnd = false; !atEnd;) {
      const result = await this.#task('seal', this.#seal, settledTo)
      if (result.cursor > this.#seal) await this.#put('seal', this.#seal = result.cursor)
      if (result.failure !== null || this.#closing) return result.failure
      ;({ atEnd } = result)
    }
    this.#sealsSeenUpTo = Math.min(startedAt, settledTo)
    if (this.#gap === 0) await this.#mark?.advance(this.#whole)
    if (startedAt - this.#seenUpToWritten > seenUpToEveryUs) {
      await this.#put('seenUpTo', startedAt)
      this.#seenUpToWritten = startedAt
    }
    this.#stats.rounds++
    return null
  }

  async #task (stream: ProjectTask['stream'], after: number, upTo: number): Promise<ProjectResult> {
    const result = await this.#options.pool.project({ kind: 'project', journalId: this.#options.journalId, stream, after, upTo, whole: this.#whole })
    const stats = this.#stats
    stats.entries += result.entries
    stats.points += result.points
    stats.batches += result.inserts
    stats.rowsPassed += result.rowsPassed
    stats.rowsMissing += result.rowsMissing
    stats.damagedRows += result.damaged.length
    stats.hours += result.hours
    stats.busyMs += result.cpuMs
    for (const row of result.damaged) this.#options.log.error({ row }, 'a damaged row was left out of analytics')
    return result
  }

  async #declareGap (kind: number): Promise<void> {
    if (this.#gap !== 0) return
    this.#gapAt = this.#options.clock.nowUs()
    await this.#put('gapAt', this.#gapAt)
    await this.#put('gap', kind)
    this.#gap = kind
    this.#options.log.error({ reason: gapReasons[kind] }, 'analytics has a gap')
  }

  /** Has ClickHouse lost what it had, or was a gap closed by a rebuild, on whatever node? */
  async #watchGap (): Promise<void> {
    if (this.#gap === 0) {
      if (await this.#mark?.isLost() === true) await this.#declareGap(3)
      return
    }
    const { cursors, clock } = this.#options
    if (clock.monotonicMs() - this.#gapAskedMs < gapAskEveryMs) return
    this.#gapAskedMs = clock.monotonicMs()
    const rebuiltUs = Number(await cursors.getSetting(rebuiltSetting) ?? 0)
    if (rebuiltUs <= this.#gapAt) return
    // All that was stored before the rebuild is in: what is not projected is younger.
    this.#seenUpTo = Math.max(this.#seenUpTo, rebuiltUs)
    await this.#mark?.restart(this.#whole)
    await this.#put('gap', this.#gap = 0)
    this.#options.log.info({}, 'the gap in analytics is closed by a rebuild')
  }

  async #put (name: keyof typeof projectionCursors, position: number): Promise<void> {
    await this.#options.cursors.putCursor(this.#options.journalId, projectionCursors[name], position, false)
  }

  get #keptUs (): number { return this.#options.outboxKeptUs ?? outboxKeptUsDefault }
}
