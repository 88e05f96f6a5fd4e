/**
 * Turns the journal into rows: closes slices, hands them to the packer threads, advances the cursor over what is done
 * without gaps, and releases segments (DESIGN 3.1). At most `threads` slices are packed side by side; a slice that fails is
 * repeated with a growing pause for as long as it takes, because what it holds was acknowledged (INVARIANTS 1).
 *
 * While the store does not take slices, they are still closed about once a second, so that the hot state can follow
 * (hot-follower.ts) and what waits is packed in pieces later; at most `stuckSlicesMax` of them wait, then they grow instead.
 *
 * A slice takes what has gathered since the last one: when idle a slice is closed every `sliceIntervalMs`, under load as
 * soon as a thread is free, so slices grow with the load and rows per point fall.
 */
import type { Clock } from '../core/clock.js'
import { TwinfoldError } from '../core/errors.js'
import type { Log } from '../core/log.js'
import type { Journal } from '../journal/journal-types.js'
import type { SliceMark } from '../journal/record.js'
import type { CursorStore } from '../store/small-stores.js'
import type { PackResult, PackTask } from '../../workers/protocol.js'

export interface PackerOptions {
  readonly journal: Journal & { onMark(listener: (mark: SliceMark) => void): void }
  readonly cursors: CursorStore
  readonly pool: { readonly threads: number, pack(task: PackTask): Promise<PackResult> }
  readonly clock: Clock
  readonly log: Log
  /** Shortest time between two slices while threads are idle, milliseconds. */
  readonly sliceIntervalMs: number
  /** Called on the main thread after each packed slice. */
  readonly onPacked: (result: PackResult, mark: SliceMark) => void
}

const retryPauseMsMax = 5000
/** Between two slices, and most that wait, while the store does not take them. */
const stuckSliceIntervalMs = 1000
const stuckSlicesMax = 3600
/** Name of the cursor that survives SIGKILL; `packedDurably` additionally survives power loss. */
export const packedCursor = 'packed'

export class Packer {
  readonly #options: PackerOptions
  readonly #pending: SliceMark[] = []
  readonly #running = new Set<number>()
  /** Running slices that the store did not take at the last attempt, by position. */
  readonly #refused = new Set<number>()
  /** Marks that are done while an earlier one is not, by position. */
  readonly #done = new Map<number, SliceMark>()
  /** Order in which the cursor passes the marks. */
  readonly #order: SliceMark[] = []
  #cursor: number
  #cursorStamp = 0
  #timer: NodeJS.Timeout | null = null
  #marking = false
  #closing = false
  #lastMarkMs = 0
  #idleWaiters: (() => void)[] = []
  readonly stats = {
    slices: 0, retries: 0, messages: 0, readings: 0, points: 0, bytesIn: 0, bytesOut: 0, chunkRows: 0, slabRows: 0,
    busyMs: 0, damagedRecords: 0, lastSliceMs: 0
  }

  /** Bytes a second that a thread packs, smoothed; what the allowance for backlog is made of. */
  bytesPerSecond = 30e6

  constructor (options: PackerOptions, start: { cursor: number, marks: readonly SliceMark[] }) {
    this.#options = options
    this.#cursor = start.cursor
    options.journal.onMark(mark => { this.#queue(mark) })
    for (const mark of start.marks) this.#queue(mark)
  }

  /** Position up to which everything is packed. */
  get cursor (): number { return this.#cursor }

  /** Every record with a smaller accept stamp is packed. */
  get cursorStamp (): number { return this.#cursorStamp }

  /** Bytes of the journal that are not packed yet. */
  get backlogBytes (): number {
    const { journal } = this.#options
    // The last mark's own bytes lie behind the cursor and are nothing to pack.
    if (this.#order.length === 0 && !this.#marking && journal.unmarkedBytes === 0) return 0
    return Math.max(0, journal.durableEnd - this.#cursor)
  }

  /** The store does not take slices now: of those that run, none got through at its last attempt, and not for a fault of ours. */
  get stuck (): boolean { return this.#running.size > 0 && this.#refused.size === this.#running.size }

  /** Closed slices after the position that are not packed, in order of the journal. */
  unpackedAfter (position: number): readonly SliceMark[] {
    return this.#order.filter(mark => mark.to > position && !this.#done.has(mark.to))
  }

  open (): void {
    this.#timer = setInterval(() => { this.#tick() }, Math.max(5, this.#options.sliceIntervalMs / 4))
    this.#start()
  }

  #queue (mark: SliceMark): void {
    this.#pending.push(mark)
    this.#order.push(mark)
    this.#start()
  }

  #tick (): void {
    if (this.#marking || this.#options.journal.unmarkedBytes === 0) return
    const idleMs = this.#options.clock.monotonicMs() - this.#lastMarkMs
    if (this.stuck) {
      if (idleMs < stuckSliceIntervalMs || this.#pending.length >= stuckSlicesMax) return
    } else if (this.#pending.length > 0 || this.#running.size >= this.#options.pool.threads || idleMs < this.#options.sliceIntervalMs) {
      return
    }
    this.#closeSlice()
  }

  #closeSlice (): void {
    this.#marking = true
    this.#lastMarkMs = this.#options.clock.monotonicMs()
    this.#options.journal.mark().catch((error: Error) => {
      // The journal cannot be written now: its own state says so and it retries; so does the next tick.
      this.#options.log.debug({ error: error.message }, 'a slice could not be closed')
    }).finally(() => { this.#marking = false })
  }

  #start (): void {
    while (this.#pending.length > 0 && this.#running.size < this.#options.pool.threads) {
      const mark = this.#pending.shift() as SliceMark
      this.#running.add(mark.to)
      void this.#packUntilDone(mark)
    }
  }

  async #packUntilDone (mark: SliceMark): Promise<void> {
    const { journal, pool, clock, log } = this.#options
    for (let attempt = 1; ; attempt++) {
      const start = clock.monotonicMs()
      try {
        const segments = journal.segmentsFor(mark.from, mark.to)
        const result = await pool.pack({ kind: 'pack', journalId: journal.journalId, mark, segments })
        this.#finished(mark, result, clock.monotonicMs() - start)
        return
      } catch (error) {
        if (this.#closing) { this.#stopped(mark); this.#wakeIdle(); return }
        this.stats.retries++
        if (error instanceof TwinfoldError && error.code === 'store_unavailable') this.#refused.add(mark.to)
        else this.#refused.delete(mark.to)
        const pauseMs = Math.min(retryPauseMsMax, 50 * 2 ** Math.min(attempt, 10))
        log.warn({ error: (error as Error).message, slice: mark.to, attempt, pauseMs }, 'packing a slice failed; it is repeated')
        await new Promise(resolve => setTimeout(resolve, pauseMs))
      }
    }
  }

  #stopped (mark: SliceMark): void {
    this.#running.delete(mark.to)
    this.#refused.delete(mark.to)
  }

  #finished (mark: SliceMark, result: PackResult, wallMs: number): void {
    this.#stopped(mark)
    this.#done.set(mark.to, mark)
    this.#count(result, wallMs)
    for (const { path, position } of result.damaged) {
      this.#options.log.error({ path, position }, 'a damaged record was passed over')
    }
    this.#advance()
    this.#options.onPacked(result, mark)
    this.#start()
    // Under load the next slice is closed at once; the interval only spaces slices of an idle server.
    if (this.#pending.length === 0 && !this.#marking && this.#options.journal.unmarkedBytes > 0) this.#tick()
    this.#wakeIdle()
  }

  #count (result: PackResult, wallMs: number): void {
    const { stats } = this
    stats.slices++
    stats.messages += result.messages
    stats.readings += result.readings
    stats.points += result.points
    stats.bytesIn += result.bytesIn
    stats.bytesOut += result.bytesOut
    stats.chunkRows += result.chunkRows
    stats.slabRows += result.slabRows
    stats.busyMs += result.cpuMs
    stats.damagedRecords += result.damaged.length
    stats.lastSliceMs = wallMs
    if (result.bytesIn > 100_000 && wallMs > 0) {
      const rate = result.bytesIn / wallMs * 1000 * this.#options.pool.threads
      this.bytesPerSecond += (rate - this.bytesPerSecond) * 0.2
    }
  }

  /** The cursor passes every mark in order; a done one behind a running one waits. */
  #advance (): void {
    let moved = false
    while (this.#order.length > 0 && this.#done.delete(this.#order[0].to)) {
      const mark = this.#order.shift() as SliceMark
      this.#cursor = mark.to
      this.#cursorStamp = mark.stamp
      moved = true
    }
    if (!moved) return
    this.#options.cursors.putCursor(this.#options.journal.journalId, packedCursor, this.#cursor, false)
      .catch((error: Error) => { this.#options.log.warn({ error: error.message }, 'the cursor could not be written; slices may be packed again after a restart') })
  }

  #wakeIdle (): void {
    const waiters = this.#idleWaiters
    this.#idleWaiters = []
    for (const wake of waiters) wake()
  }

  /** Closes the running slice and resolves when everything accepted so far is packed, or after `timeoutMs`. */
  async drain (timeoutMs: number): Promise<boolean> {
    const deadline = this.#options.clock.monotonicMs() + timeoutMs
    if (this.#options.journal.unmarkedBytes > 0 && !this.#marking) this.#closeSlice()
    while (this.#pending.length > 0 || this.#running.size > 0 || this.#marking || this.#options.journal.unmarkedBytes > 0) {
      if (this.#options.clock.monotonicMs() > deadline) return false
      await new Promise<void>(resolve => {
        const timer = setTimeout(resolve, 20)
        this.#idleWaiters.push(() => { clearTimeout(timer); resolve() })
      })
      if (this.#options.journal.unmarkedBytes > 0 && !this.#marking && this.#pending.length === 0) this.#closeSlice()
    }
    return true
  }

  async close (): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer)
    this.#closing = true
    this.#pending.length = 0
    while (this.#running.size > 0) {
      await new Promise<void>(resolve => { this.#idleWaiters.push(resolve); setTimeout(resolve, 50) })
    }
  }
}
