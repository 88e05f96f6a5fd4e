/**
 * Deadlines of commands: enforced at their moment by the node that made the command or has loaded it, and by the node that holds the
 * claim for all others. Both may try: the commit is conditional, one wins, and the result is the same. Memory is bounded: the heap holds
 * what is due within a few minutes, the rest waits in the index. Where a node dies and does not come back, what it alone had in memory is
 * looked at when the minute of its row is over: three and a half minutes after the deadline at the latest.
 *
 * A deadline of a command that was handed over waits until every answer that this node has on stable storage from before it is applied:
 * an answer that was accepted in time is never called missing because the server was slow, or was killed and came back.
 */
import type { Clock } from '../core/clock.js'
import { inParallel } from '../core/in-parallel.js'
import type { Log } from '../core/log.js'
import type { ClaimStore } from '../store/claim-store.js'
import type { Book, BookDraft } from './book.js'
import type { BookKeeper } from './book-keeper.js'
import { DeadlineHeap, type DueBook } from './deadline-heap.js'
import { deadlineShards, endOfMinute, minuteOf, type DeadlineIndex, type FoundRow } from './deadline-index.js'

export interface DeadlinesOptions {
  readonly keeper: BookKeeper
  readonly index: DeadlineIndex
  readonly claims: ClaimStore
  readonly owner: string
  readonly clock: Clock
  readonly log: Log
  /** Resolves when every answer that this node accepted before the call is applied. */
  readonly answersApplied: () => Promise<void>
  readonly heapMax?: number
  readonly tickMs?: number
}

export interface DeadlineStats {
  /** Books in the heap. */
  scheduled: number
  /** Not taken into the heap because it was full: looked at when their minute is over. */
  overflowed: number
  enforced: number
  /** Of the last deadline that was enforced, ms after it. */
  lastLateMs: number
}

/** A deadline that is nearer gets a row of the minute then, which serves the next commands of the device as well; read ahead as far. */
const aheadUs = 120e6
/**
 * Whoever makes a command that is due within this has it in its heap. More than `aheadUs` and a minute: what is due later has its row in
 * a minute that the reader of the index has not loaded yet.
 */
const windowUs = 200e6
/** A minute's rows are taken away this long after its end; a commit that relies on one ends sooner. */
const marginUs = 30e6
/** How far behind what was swept rows are looked for again: those of writers that were slow. */
const slowWriterMinutes = 15
const retryUs = 50e3
const failedRetryUs = 1e6
const claimName = 'commands/deadlines'
const claimLeaseMs = 15_000
const claimRenewMs = 5000
const pageRows = 500
const atOnce = 32

export class Deadlines {
  readonly stats: DeadlineStats = { scheduled: 0, overflowed: 0, enforced: 0, lastLateMs: 0 }
  readonly #options: DeadlinesOptions
  readonly #heap: DeadlineHeap
  #timer: NodeJS.Timeout | undefined
  #tick: NodeJS.Timeout | undefined
  #enforcing = false
  #looking: Promise<void> | null = null
  #open = false
  #close: () => void = () => {}
  readonly #closed = new Promise<void>(resolve => { this.#close = resolve })
  /** Minutes up to this one are in the heap; −1: none are, nothing is known yet. */
  #loaded = -1
  #swept = -1
  #holds = false
  #claimedMs = -Infinity

  constructor (options: DeadlinesOptions) {
    this.#options = options
    this.#heap = new DeadlineHeap(options.heapMax ?? 300_000)
  }

  /** Returns at once: what is due is found in the background. */
  open (): void {
    this.#open = true
    this.#tick = setInterval(() => { this.#look() }, this.#options.tickMs ?? 1000)
    this.#look()
  }

  async close (): Promise<void> {
    this.#open = false
    this.#close()
    clearInterval(this.#tick)
    clearTimeout(this.#timer)
    await this.#looking
    while (this.#enforcing) await new Promise(resolve => { setTimeout(resolve, 5) })
    await this.#options.claims.releaseClaim(claimName, this.#options.owner).catch(() => {})
  }

  /**
   * Before a commit: writes the index row that the draft needs, where none is there. Returns its minute for the book; null: none is needed.
   * A row whose minute is nearly over counts as gone: it may be taken away before the commit is made.
   */
  async require (tenant: string, device: string, draft: BookDraft): Promise<number | null> {
    const due = earliest(draft)
    if (due === null) return null
    const nowUs = this.#options.clock.nowUs()
    const minute = minuteOf(Math.max(due, nowUs + aheadUs))
    if (draft.lookAtMinute !== 0 && draft.lookAtMinute <= minute && endOfMinute(draft.lookAtMinute) > nowUs + marginUs) return null
    await this.#options.index.add({ minute, tenant, device })
    return minute
  }

  /** The book has changed here. */
  note (tenant: string, device: string, book: Book): void {
    const due = earliest(book)
    if (due !== null && due <= this.#options.clock.nowUs() + windowUs) this.#schedule({ dueUs: due, tenant, device })
  }

  #schedule (entry: DueBook): void {
    if (!this.#open) return
    if (!this.#heap.add(entry)) this.stats.overflowed++
    this.stats.scheduled = this.#heap.size
    this.#arm()
  }

  #arm (): void {
    const { next } = this.#heap
    if (next === null || this.#enforcing || !this.#open) return
    clearTimeout(this.#timer)
    const delayMs = Math.max(0, Math.ceil((next - this.#options.clock.nowUs()) / 1000))
    this.#timer = setTimeout(() => { void this.#enforce() }, Math.min(delayMs, 60_000))
  }

  async #enforce (): Promise<void> {
    if (this.#enforcing) return
    this.#enforcing = true
    for (let due = this.#takeDue(); due.length > 0 && this.#open; due = this.#takeDue()) {
      const answeredUpTo = await this.#answersApplied()
      if (!this.#open) break
      await inParallel(due, async ({ tenant, device }) => { await this.#settleLater(tenant, device, answeredUpTo) }, atOnce)
    }
    this.#enforcing = false
    this.stats.scheduled = this.#heap.size
    this.#arm()
  }

  #takeDue (): DueBook[] {
    return this.#heap.take(this.#options.clock.nowUs(), pageRows)
  }

  /** Until when every answer is known now, µs. */
  async #answersApplied (): Promise<number> {
    const nowUs = this.#options.clock.nowUs()
    await Promise.race([this.#options.answersApplied(), this.#closed])
    return nowUs
  }

  async #settleLater (tenant: string, device: string, answeredUpTo: number): Promise<void> {
    const nowUs = this.#options.clock.nowUs()
    try {
      const next = await this.settle(tenant, device, answeredUpTo, 0)
      if (next !== null && next <= nowUs + windowUs) this.#heap.add({ dueUs: Math.max(next, nowUs + retryUs), tenant, device })
    } catch (error) {
      this.#options.log.warn({ error, tenant, device }, 'the deadline of a command could not be written; it is tried again')
      this.#heap.add({ dueUs: nowUs + failedRetryUs, tenant, device })
    }
  }

  /**
   * Ends what is overdue; returns when the next of the book is due.
   * @param answeredUpTo a command that was handed over is not ended where its deadline is later, µs. @param sweptMinute its row is about to be taken away
   */
  async settle (tenant: string, device: string, answeredUpTo: number, sweptMinute: number): Promise<number | null> {
    return await this.#options.keeper.apply(tenant, device, {
      sync: true,
      run: draft => {
        for (const command of [...draft.pending.values()]) {
          if (command.expiresAt > draft.nowUs || (command.attempts.length > 0 && command.expiresAt > answeredUpTo)) continue
          draft.change(command.id, { kind: 'deadline', at: draft.nowUs })
          this.stats.enforced++
          this.stats.lastLateMs = (draft.nowUs - command.expiresAt) / 1000
        }
        if (draft.pending.size > 0 && draft.lookAtMinute <= sweptMinute) draft.lookAt(0)
        return earliest(draft)
      }
    })
  }

  #look (): void {
    // The wall clock may have been set forward since the timer was.
    this.#arm()
    if (this.#looking !== null || !this.#open) return
    this.#looking = this.#lookOnce()
      .catch((error: unknown) => { this.#options.log.warn({ error }, 'the index of deadlines cannot be read; it is tried again') })
      .finally(() => { this.#looking = null })
  }

  /** One node reads the index; another takes over when its claim ends, from the oldest row that is left. */
  async #lookOnce (): Promise<void> {
    const { claims, owner, clock, index } = this.#options
    if (clock.monotonicMs() - this.#claimedMs > claimRenewMs) {
      this.#holds = await claims.takeClaim(claimName, owner, claimLeaseMs) !== null
      this.#claimedMs = clock.monotonicMs()
      if (!this.#holds) this.#loaded = this.#swept = -1
    }
    if (!this.#holds) return
    const ahead = minuteOf(clock.nowUs() + aheadUs)
    const past = minuteOf(clock.nowUs() - marginUs) - 1
    if (this.#loaded < ahead) {
      for (let shard = 0; shard < deadlineShards && this.#open; shard++) {
        await this.#load(shard, this.#loaded === -1 ? await index.sweptUpTo(shard) - slowWriterMinutes : this.#loaded + 1, ahead)
      }
      this.#loaded = ahead
    }
    if (this.#swept >= past) return
    for (let shard = 0; shard < deadlineShards && this.#open; shard++) await this.#sweep(shard, await index.sweptUpTo(shard) - slowWriterMinutes, past)
    this.#swept = past
  }

  async #load (shard: number, from: number, to: number): Promise<void> {
    await this.#eachPage(shard, from, to, async rows => {
      await inParallel(rows, async ({ tenant, device }) => {
        const due = earliest(await this.#options.keeper.read(tenant, device, true))
        if (due !== null) this.#schedule({ dueUs: due, tenant, device })
      }, atOnce)
    })
  }

  async #sweep (shard: number, from: number, to: number): Promise<void> {
    await this.#eachPage(shard, from, to, async rows => {
      const answeredUpTo = await this.#answersApplied()
      await inParallel(rows, async ({ tenant, device, minute }) => { await this.settle(tenant, device, answeredUpTo, minute) }, atOnce)
      await this.#options.index.remove(rows)
    })
    this.#options.index.noteSwept(shard, to)
  }

  async #eachPage (shard: number, from: number, to: number, visit: (rows: FoundRow[]) => Promise<void>): Promise<void> {
    for (let after: FoundRow | null = null; this.#open;) {
      const rows: FoundRow[] = await this.#options.index.read(shard, Math.max(0, from), to, after, pageRows)
      if (rows.length === 0) return
      await visit(rows)
      after = rows[rows.length - 1]
    }
  }
}

function earliest ({ pending }: { readonly pending: Book['pending'] }): number | null {
  let due: number | null = null
  for (const { expiresAt } of pending.values()) if (due === null || expiresAt < due) due = expiresAt
  return due
}
