/**
 * Schedules the merging of slabs into device chunks: those whose slice is older than `afterMs`, one task at a time, so that
 * packing always finds a free thread where there are two.
 *
 * Late readings do not wait for that: where packing met some, slabs of past minutes alone are merged `lateAfterMs` later, so that the
 * sealer hears of their buckets in time (INVARIANTS 4: in the tiers within two minutes). What is current stays together until its turn.
 */
import type { Clock } from '../core/clock.js'
import type { Log } from '../core/log.js'
import type { LateSlabs } from '../store/raw-store.js'
import type { MergeResult, MergeTask, PackResult } from '../../workers/protocol.js'
import { lateMinutes } from './late-buckets.js'

export interface SlabMergerOptions {
  readonly journalId: string
  readonly pool: { merge(task: MergeTask): Promise<MergeResult> }
  /** Merging pauses while this is true: packing goes first. */
  readonly busy: () => boolean
  readonly clock: Clock
  readonly log: Log
  readonly afterMs: number
  readonly intervalMs: number
  /** How long late slabs are gathered, ms. Default 15,000. */
  readonly lateAfterMs?: number
  readonly slabsPerTaskMax: number
  /** Reserves that many consecutive stamps of the journal, which number the merges in the outbox. Absent: none is followed. */
  readonly takeStamps?: (count: number) => number
  /** Told of the buckets that merged chunks came into, as far as the sealer wants to know. */
  readonly onLate?: (buckets: NonNullable<MergeResult['late']>) => void
  /** Told of open buckets that hold much by now. */
  readonly onGrowing?: (buckets: NonNullable<MergeResult['growing']>) => void
}

/** How long a merge waits for packing to catch up before it looks again. */
const busyPauseMs = 200
const lateAfterMsDefault = 15_000

export class SlabMerger {
  readonly #options: SlabMergerOptions
  #timer: NodeJS.Timeout | null = null
  #running: Promise<void> | null = null
  #closing = false
  /** Packed positions that are not old enough yet: one entry a second at most. */
  readonly #recent: { to: number, atMs: number }[] = []
  #before = 0
  #packed = 0
  #mergedAtMs = 0
  /** Late slabs that are not merged yet: the least stamp and greatest mark of the slices that brought them. One entry a second at most. */
  #late: { atMs: number, stamp: number, mark: number }[] = []
  readonly stats = { tasks: 0, lateTasks: 0, lateSlabs: 0, slabs: 0, chunkRows: 0, readings: 0, busyMs: 0, failures: 0 }

  constructor (options: SlabMergerOptions) {
    this.#options = options
  }

  open (): void {
    const { clock, intervalMs, lateAfterMs = lateAfterMsDefault } = this.#options
    this.#mergedAtMs = clock.monotonicMs()
    // A run before this one may have been ended with late slabs that were not merged.
    this.noteLate({ stamp: 0, mark: this.#packed })
    this.#timer = setInterval(() => { this.#running ??= this.#run().finally(() => { this.#running = null }) }, Math.min(intervalMs, lateAfterMs / 5))
  }

  async close (): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer)
    this.#closing = true
    await this.#running
  }

  /** Everything up to the position is packed. */
  notePacked (position: number): void {
    const atMs = this.#options.clock.monotonicMs()
    this.#packed = Math.max(this.#packed, position)
    const last = this.#recent[this.#recent.length - 1]
    if (last !== undefined && atMs - last.atMs < 1000) last.to = position
    else this.#recent.push({ to: position, atMs })
  }

  /** A slice with late slabs was packed. */
  noteLate ({ stamp, mark }: NonNullable<PackResult['lateSlabs']>): void {
    const atMs = this.#options.clock.monotonicMs()
    const last = this.#late.at(-1)
    if (last === undefined || atMs - last.atMs >= 1000) {
      this.#late.push({ atMs, stamp, mark })
      return
    }
    last.stamp = Math.min(last.stamp, stamp)
    last.mark = Math.max(last.mark, mark)
  }

  async #run (): Promise<void> {
    const { clock, afterMs, intervalMs, lateAfterMs = lateAfterMsDefault } = this.#options
    const now = clock.monotonicMs()
    while (this.#recent.length > 0 && now - this.#recent[0].atMs >= afterMs) this.#before = Math.max(this.#before, (this.#recent.shift() as { to: number }).to)
    if (this.#late.length > 0 && now - this.#late[0].atMs >= lateAfterMs) await this.#mergeLate()
    if (now - this.#mergedAtMs < intervalMs) return
    this.#mergedAtMs = now
    if (this.#before > 0) await this.mergeBefore(this.#before)
  }

  async #mergeLate (): Promise<void> {
    const packed = this.#packed
    // A slice may be packed before those in front of it: its turn comes with theirs.
    const noted = this.#late.filter(({ mark }) => mark <= packed)
    if (noted.length === 0) return
    const done = await this.mergeBefore(packed, { beforeMinute: lateMinutes(this.#options.clock.nowUs()), sinceStamp: Math.min(...noted.map(({ stamp }) => stamp)) })
    if (done) this.#late = this.#late.filter(({ mark }) => mark > packed)
  }

  /** Merges all slabs of slices up to the position, or the late ones of them. Returns whether it came to the end. */
  async mergeBefore (position: number, late?: LateSlabs): Promise<boolean> {
    const { pool, journalId, slabsPerTaskMax, busy, log } = this.#options
    for (;;) {
      while (busy() && !this.#closing) await new Promise(resolve => setTimeout(resolve, busyPauseMs))
      if (this.#closing) return false
      let result: MergeResult
      try {
        // The mark of a slice is where it ends: the last one that is packed counts.
        result = await pool.merge({ kind: 'merge', journalId, before: position + 1, slabsMax: slabsPerTaskMax, firstSequence: this.#options.takeStamps?.(slabsPerTaskMax), ...(late === undefined ? {} : { late }) })
      } catch (error) {
        this.stats.failures++
        log.warn({ error: (error as Error).message }, 'merging slabs failed; it is tried again later')
        return false
      }
      if (result.late !== undefined) this.#options.onLate?.(result.late)
      if (result.growing !== undefined) this.#options.onGrowing?.(result.growing)
      this.stats.tasks++
      if (late !== undefined) {
        this.stats.lateTasks++
        this.stats.lateSlabs += result.slabs
      }
      this.stats.slabs += result.slabs
      this.stats.chunkRows += result.chunkRows
      this.stats.readings += result.readings
      this.stats.busyMs += result.cpuMs
      if (result.slabs < slabsPerTaskMax) return true
    }
  }
}
