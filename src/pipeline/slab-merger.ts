/**
 * Schedules the merging of slabs into device chunks: those whose slice is older than `afterMs`, one task at a time, so that
 * packing always finds a free thread where there are two.
 */
import type { Clock } from '../core/clock.js'
import type { Log } from '../core/log.js'
import type { MergeResult, MergeTask } from '../../workers/protocol.js'

export interface SlabMergerOptions {
  readonly journalId: string
  readonly pool: { merge(task: MergeTask): Promise<MergeResult> }
  /** Merging pauses while this is true: packing goes first. */
  readonly busy: () => boolean
  readonly clock: Clock
  readonly log: Log
  readonly afterMs: number
  readonly intervalMs: number
  readonly slabsPerTaskMax: number
  /** Reserves that many consecutive stamps of the journal, which number the merges in the outbox. Absent: none is followed. */
  readonly takeStamps?: (count: number) => number
  /** Told of the buckets that merged chunks came into, as far as the sealer wants to know. */
  readonly onLate?: (buckets: NonNullable<MergeResult['late']>) => void
}

/** How long a merge waits for packing to catch up before it looks again. */
const busyPauseMs = 200

export class SlabMerger {
  readonly #options: SlabMergerOptions
  #timer: NodeJS.Timeout | null = null
  #running: Promise<void> | null = null
  #closing = false
  /** Packed positions that are not old enough yet: one entry a second at most. */
  readonly #recent: { to: number, atMs: number }[] = []
  #before = 0
  readonly stats = { tasks: 0, slabs: 0, chunkRows: 0, readings: 0, busyMs: 0, failures: 0 }

  constructor (options: SlabMergerOptions) {
    this.#options = options
  }

  open (): void {
    this.#timer = setInterval(() => { this.#running ??= this.#run().finally(() => { this.#running = null }) }, this.#options.intervalMs)
  }

  async close (): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer)
    this.#closing = true
    await this.#running
  }

  /** Everything up to the position is packed. */
  notePacked (position: number): void {
    const atMs = this.#options.clock.monotonicMs()
    const last = this.#recent[this.#recent.length - 1]
    if (last !== undefined && atMs - last.atMs < 1000) last.to = position
    else this.#recent.push({ to: position, atMs })
  }

  async #run (): Promise<void> {
    const now = this.#options.clock.monotonicMs()
    while (this.#recent.length > 0 && now - this.#recent[0].atMs >= this.#options.afterMs) this.#before = Math.max(this.#before, (this.#recent.shift() as { to: number }).to)
    if (this.#before > 0) await this.mergeBefore(this.#before)
  }

  /** Merges all slabs of slices before the position. */
  async mergeBefore (before: number): Promise<void> {
    const { pool, journalId, slabsPerTaskMax, busy, log } = this.#options
    for (;;) {
      while (busy() && !this.#closing) await new Promise(resolve => setTimeout(resolve, busyPauseMs))
      if (this.#closing) return
      let result: MergeResult
      try {
        result = await pool.merge({ kind: 'merge', journalId, before, slabsMax: slabsPerTaskMax, firstSequence: this.#options.takeStamps?.(slabsPerTaskMax) })
      } catch (error) {
        this.stats.failures++
        log.warn({ error: (error as Error).message }, 'merging slabs failed; it is tried again later')
        return
      }
      if (result.late !== undefined) this.#options.onLate?.(result.late)
      this.stats.tasks++
      this.stats.slabs += result.slabs
      this.stats.chunkRows += result.chunkRows
      this.stats.readings += result.readings
      this.stats.busyMs += result.cpuMs
      if (result.slabs < slabsPerTaskMax) return
    }
  }
}
