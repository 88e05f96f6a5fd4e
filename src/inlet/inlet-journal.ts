/**
 * The journal as everybody appends to it: whatever is for the applier reaches it when it is durable, in the order of the journal, and
 * before whoever sent it is told. All else passes through.
 */
import type { AppendOptions, CommitWaiter, Journal, SegmentRef } from '../journal/journal-types.js'
import { decodeIdentity, RecordKind, recordHeaderBytes, type SliceMark } from '../journal/record.js'
import type { InletRecord } from './message-record.js'

/** Takes what is durable. Must not throw. */
export interface RecordSink {
  offer (record: InletRecord): void
}

class Pending implements CommitWaiter {
  /** Known when the journal has placed it, which is before it answers. */
  record: InletRecord | null = null
  readonly #sink: RecordSink
  readonly #waiter: CommitWaiter | null

  constructor (sink: RecordSink, waiter: CommitWaiter | null) {
    this.#sink = sink
    this.#waiter = waiter
  }

  committed (token: number): void {
    if (this.record !== null) this.#sink.offer(this.record)
    this.#waiter?.committed(token)
  }

  failed (token: number, error: Error): void { this.#waiter?.failed(token, error) }
}

export class InletJournal implements Journal {
  readonly #journal: Journal
  readonly #sink: RecordSink

  constructor (journal: Journal, sink: RecordSink) {
    this.#journal = journal
    this.#sink = sink
  }

  append (options: AppendOptions, waiter: CommitWaiter | null, token: number): number {
    const { kind } = options
    if (kind !== RecordKind.deviceMessages && kind !== RecordKind.intent) return this.#journal.append(options, waiter, token)
    const pending = new Pending(this.#sink, waiter)
    const stamp = this.#journal.append(options, pending, token)
    const end = this.#journal.appendedEnd
    const { identity, body, messages } = options
    const position = end - recordHeaderBytes - identity.length - body.length
    pending.record = { kind, position, end, stamp, messages, identity: decodeIdentity(identity), body, replayed: false }
    return stamp
  }

  get journalId (): string { return this.#journal.journalId }
  get unmarkedBytes (): number { return this.#journal.unmarkedBytes }
  get durableEnd (): number { return this.#journal.durableEnd }
  get appendedEnd (): number { return this.#journal.appendedEnd }
  get diskBytes (): number { return this.#journal.diskBytes }
  get state (): Journal['state'] { return this.#journal.state }
  async mark (): Promise<SliceMark | null> { return await this.#journal.mark() }
  segmentsFor (from: number, to: number): readonly SegmentRef[] { return this.#journal.segmentsFor(from, to) }
  async releaseBefore (position: number): Promise<void> { await this.#journal.releaseBefore(position) }
  takeStamps (count: number): number { return this.#journal.takeStamps(count) }
  observeStamp (stampUs: number): void { this.#journal.observeStamp(stampUs) }
}
