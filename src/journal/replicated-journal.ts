/**
 * `ack: replicated` (INVARIANTS 1): the journal as the edges see it when an acknowledgement means "in Cassandra at the
 * configured consistency" as well. A waiter is told `committed` only when the packer's cursor has passed its record, which is
 * when the rows of its slice, or the dead letters of what was wrong in it, are written; for what is the applier's (reported state, answers,
 * events) when that has applied it. In the order of the records, as
 * the edges expect; a record that the journal refused waits for its turn, too.
 *
 * While a slice cannot be written everything behind it waits; the packer repeats it for as long as it takes. What waits is
 * bounded by the edges' limits for what is in flight (`mqttInflightMax`, `mqttInflightBytesMax`, bytes of HTTP bodies), by the
 * pressure that slows senders when packing lags, and in the last resort by `waitingMax`. After `stop` nobody is told
 * anything: what waits is not acknowledged, and its senders send it again.
 */
import { TwinfoldError } from '../core/errors.js'
import { RecordKind, type SliceMark } from './record.js'
import type { AppendOptions, CommitWaiter, Journal, SegmentRef } from './journal-types.js'

export interface ReplicatedJournalOptions {
  readonly journal: Journal
  /** Records that wait for their acknowledgement; one more is refused with `journal_unavailable`. Default 1,000,000. */
  readonly waitingMax?: number
}

/** One record; pooled by the garbage collector, one small object a record (a run of publishes or a body). */
interface Waiting {
  readonly waiter: CommitWaiter
  readonly token: number
  readonly end: number
  /** The applier's, not the packer's. */
  readonly applied: boolean
  /** null while the journal has not answered. */
  outcome: 'durable' | Error | null
}

export class ReplicatedJournal implements Journal {
  readonly #journal: Journal
  readonly #waitingMax: number
  /** In the order of the records; those before `#head` are done with, those before `#answered` the journal has answered. */
  #queue: Waiting[] = []
  #head = 0
  #answered = 0
  #packedEnd = 0
  #appliedEnd = 0
  #stopped = false
  /** One waiter for all records: the journal answers in their order. */
  readonly #fromJournal: CommitWaiter = {
    committed: () => { this.#answer('durable') },
    failed: (_token, error) => { this.#answer(error) }
  }

  constructor (options: ReplicatedJournalOptions) {
    this.#journal = options.journal
    this.#waitingMax = options.waitingMax ?? 1_000_000
  }

  get journalId (): string { return this.#journal.journalId }
  get unmarkedBytes (): number { return this.#journal.unmarkedBytes }
  get durableEnd (): number { return this.#journal.durableEnd }
  get appendedEnd (): number { return this.#journal.appendedEnd }
  get diskBytes (): number { return this.#journal.diskBytes }
  get state (): Journal['state'] { return this.#journal.state }

  /** Records that are not acknowledged yet. */
  get waiting (): number { return this.#queue.length - this.#head }

  append (options: AppendOptions, waiter: CommitWaiter | null, token: number): number {
    if (waiter === null) return this.#journal.append(options, null, token)
    if (this.waiting >= this.#waitingMax) {
      throw new TwinfoldError('journal_unavailable', `${this.waiting} records wait to be written to Cassandra; nothing was accepted`, { retryAfterMs: 5000 })
    }
    const stamp = this.#journal.append(options, this.#fromJournal, 0)
    this.#queue.push({ waiter, token, end: this.#journal.appendedEnd, applied: options.kind === RecordKind.deviceMessages, outcome: null })
    return stamp
  }

  async mark (): Promise<SliceMark | null> { return await this.#journal.mark() }
  segmentsFor (from: number, to: number): readonly SegmentRef[] { return this.#journal.segmentsFor(from, to) }
  async releaseBefore (position: number): Promise<void> { await this.#journal.releaseBefore(position) }
  takeStamps (count: number): number { return this.#journal.takeStamps(count) }
  observeStamp (stampUs: number): void { this.#journal.observeStamp(stampUs) }

  /** Everything before the position is written to the store. To be called whenever the packer's cursor moves. */
  packedUpTo (position: number): void {
    if (position <= this.#packedEnd) return
    this.#packedEnd = position
    this.#release()
  }

  /** Everything for the applier before the position is applied. To be called after every batch of it. */
  appliedUpTo (position: number): void {
    if (position <= this.#appliedEnd) return
    this.#appliedEnd = position
    this.#release()
  }

  /** From now on nobody is told anything. */
  stop (): void {
    this.#stopped = true
    this.#queue = []
    this.#head = this.#answered = 0
  }

  #answer (outcome: 'durable' | Error): void {
    if (this.#stopped) return
    this.#queue[this.#answered++].outcome = outcome
    this.#release()
  }

  #release (): void {
    while (this.#head < this.#answered) {
      const { waiter, token, end, applied, outcome } = this.#queue[this.#head]
      if (outcome === 'durable' && end > (applied ? this.#appliedEnd : this.#packedEnd)) break
      this.#head++
      if (outcome === 'durable') waiter.committed(token)
      else waiter.failed(token, outcome as Error)
      // The waiter may have stopped everything.
      if (this.#stopped) return
    }
    if (this.#head > 4096 && this.#head * 2 > this.#queue.length) {
      this.#queue = this.#queue.slice(this.#head)
      this.#answered -= this.#head
      this.#head = 0
    }
  }
}
