/**
 * Applies what devices say beside telemetry (reported state, answers to commands, events) in the order of the journal (DESIGN 3.1, 3.6).
 * What is durable comes by `offer`; after a start the journal's segments are read from the cursor on. INVARIANTS 1: the cursor never
 * passes a message that is not applied or in the dead letters, and no segment is released before it.
 *
 * Bounded: beyond `waitingBytesMax` or `waitingMax` nothing more is kept in memory; when what was kept is applied it goes on reading
 * from the segments until it has caught up. The gate slows while the oldest waits longer than `lagMsMax` (`behind`).
 */
import type { Clock } from '../core/clock.js'
import type { Log } from '../core/log.js'
import type { Journal } from '../journal/journal-types.js'
import { RecordKind } from '../journal/record.js'
import type { DeadLetter } from '../store/dead-letter-store.js'
import type { CursorStore } from '../store/small-stores.js'
import { ApplyBatch, ApplyStopped, type BatchItem, type Refused } from './apply-batch.js'
import { appliedCursor, appliedDurablyCursor } from './applied-start.js'
import type { DeviceMessage, IntentHandler, MessageHandler, MessageOutcome } from './device-message.js'
import { IntentHold, intentKeyOf } from './intents.js'
import { JournalReader } from './journal-reader.js'
import { messagesIn, type InletRecord } from './message-record.js'
import { refusedLetter } from './refused-letter.js'

export interface ApplierOptions {
  readonly journal: Pick<Journal, 'journalId' | 'durableEnd' | 'segmentsFor'>
  readonly cursors: CursorStore
  /** Position of the journal up to which everything is applied (`appliedStart`). */
  readonly from: number
  readonly handlers: readonly MessageHandler[]
  /** Repeats changes that were noted before a crash; null where commits and their events are one write. */
  readonly intents: IntentHandler | null
  readonly deadLetters: { add(letters: readonly DeadLetter[]): Promise<void> }
  readonly clock: Clock
  readonly log: Log
  /** Told after every batch of the position up to which everything is applied. */
  readonly onApplied?: (position: number) => void
  readonly waitingBytesMax?: number
  readonly waitingMax?: number
  readonly lagMsMax?: number
  /** How often the cursor is written. */
  readonly cursorEveryMs?: number
  readonly pauseMs?: readonly [number, number]
}

const MIB = 1024 * 1024
const batchMessagesMax = 512
/** What a waiting message costs beside its bytes. */
const overheadBytes = 256

export class Applier {
  readonly stats = { offered: 0, applied: 0, unchanged: 0, refused: 0, retries: 0, poisoned: 0, intents: 0, batches: 0, spills: 0, replayed: 0 }
  readonly #options: ApplierOptions
  readonly #reader: JournalReader
  readonly #batch: ApplyBatch
  readonly #hold: IntentHold
  readonly #limits: { readonly bytes: number, readonly messages: number, readonly lagMs: number }
  /** In order of the journal, with the time they came, monotonic ms. */
  #queue: { readonly record: InletRecord, readonly atMs: number }[] = []
  #queuedBytes = 0
  #queuedMessages = 0
  /** What is offered is kept; else it is read back later, from `#readAt` up to `#spilledTo`. */
  #keeping = false
  #readAt: number
  #spilledTo: number
  #spilledAtMs: number
  /** Where the process found the journal. */
  readonly #replayedBefore: number
  /** Where the running batch begins. */
  #batchFrom = 0
  #busy = false
  #busySinceMs = 0
  #written = -1
  #wake: (() => void) | null = null
  #closing = false
  #running: Promise<void> | null = null
  #timer: NodeJS.Timeout | null = null
  readonly #waiters = new Map<number, (outcome: MessageOutcome) => void>()

  constructor (options: ApplierOptions) {
    const { journal, log, clock } = options
    this.#options = options
    this.#reader = new JournalReader(journal)
    this.#hold = new IntentHold(clock)
    this.#limits = { bytes: options.waitingBytesMax ?? 32 * MIB, messages: options.waitingMax ?? 50_000, lagMs: options.lagMsMax ?? 2000 }
    this.#readAt = options.from
    this.#spilledTo = this.#replayedBefore = journal.durableEnd
    this.#spilledAtMs = clock.monotonicMs()
    this.#batch = new ApplyBatch({
      handlers: options.handlers,
      intents: options.intents,
      keepRefused: async refused => { await this.#keepRefused(refused) },
      outcome: (message, outcome) => { this.#tell(message, outcome) },
      log,
      stats: this.stats,
      ...(options.pauseMs === undefined ? {} : { pauseMs: options.pauseMs })
    })
  }

  /** Begins to apply; what the journal holds from the cursor on comes first. */
  open (): void {
    this.#running = this.#run()
    this.#timer = setInterval(() => { void this.#writeCursor() }, this.#options.cursorEveryMs ?? 1000).unref()
  }

  /** Lets the running batch end, unless a store is away, and writes the cursor. What waits is applied after the next start. */
  async close (): Promise<void> {
    this.#closing = true
    if (this.#timer !== null) clearInterval(this.#timer)
    this.#batch.stop()
    this.#wake?.()
    await this.#running
    await this.#writeCursor()
    this.#waiters.clear()
  }

  /** Resolves to true when all that was offered is applied; to false after `timeoutMs`. */
  async drain (timeoutMs: number): Promise<boolean> {
    const { clock } = this.#options
    for (const untilMs = clock.monotonicMs() + timeoutMs; !this.idle; await new Promise(resolve => { setTimeout(resolve, 5) })) {
      if (clock.monotonicMs() >= untilMs) return false
    }
    return true
  }

  get idle (): boolean { return this.#keeping && this.#queue.length === 0 && !this.#busy }

  /** A record is durable. Called in the order of the journal. */
  offer (record: InletRecord): void {
    if (record.kind === RecordKind.intent) {
      this.#hold.noted(record.position)
      return
    }
    this.stats.offered += record.messages
    const nowMs = this.#options.clock.monotonicMs()
    if (this.#keeping && (this.#queuedBytes >= this.#limits.bytes || this.#queuedMessages >= this.#limits.messages)) {
      this.#keeping = false
      this.#readAt = record.position
      this.#spilledAtMs = nowMs
      this.stats.spills++
    }
    if (this.#keeping) this.#push(record, nowMs)
    else this.#spilledTo = record.end
    this.#wake?.()
  }

  /** Everything of the journal before this is applied; it only grows. */
  get appliedTo (): number { return Math.min(this.passedTo, this.#hold.position) }

  /** As `appliedTo`, whatever notes of changes hold the cursor back. */
  get passedTo (): number {
    if (this.#busy) return this.#batchFrom
    if (this.#queue.length > 0) return this.#queue[0].record.position
    return this.#keeping ? this.#options.journal.durableEnd : this.#readAt
  }

  /** The stores hold on stable storage what was applied up to here. */
  async flushed (position: number): Promise<void> {
    await this.#options.cursors.putCursor(this.#options.journal.journalId, appliedDurablyCursor, position, true)
  }

  /** How long the oldest message has waited, ms. */
  get lagMs (): number {
    const nowMs = this.#options.clock.monotonicMs()
    if (this.#busy) return nowMs - this.#busySinceMs
    if (this.#queue.length > 0) return nowMs - this.#queue[0].atMs
    return this.#keeping ? 0 : nowMs - this.#spilledAtMs
  }

  /** Senders are to be slowed: it is not the store that is away, they are too many. */
  get behind (): boolean { return !this.#batch.stuck && this.lagMs > this.#limits.lagMs }

  /** A store does not answer, and messages wait for it. */
  get stuck (): boolean { return this.#batch.stuck }

  /** Messages kept in memory. */
  get waiting (): number { return this.#queuedMessages }

  /** Told once of what became of the message at a position. Returns how to stop waiting. */
  whenApplied (position: number, told: (outcome: MessageOutcome) => void): () => void {
    this.#waiters.set(position, told)
    return () => { this.#waiters.delete(position) }
  }

  #push (record: InletRecord, atMs: number): void {
    this.#queue.push({ record, atMs })
    this.#queuedBytes += record.body.length + overheadBytes
    this.#queuedMessages += record.messages
  }

  async #run (): Promise<void> {
    while (!this.#closing) {
      try {
        if (this.#queue.length > 0) await this.#applyNext()
        else if (this.#keeping) await new Promise<void>(resolve => { this.#wake = resolve })
        else await this.#readOn()
      } catch (error) {
        if (error instanceof ApplyStopped) return
        this.#options.log.error({ error: (error as Error).message }, 'messages of devices could not be read from the journal; it is tried again')
        await new Promise(resolve => { setTimeout(resolve, 1000) })
      }
    }
  }

  async #applyNext (): Promise<void> {
    let count = 0
    let messages = 0
    while (count < this.#queue.length && messages < batchMessagesMax) messages += this.#queue[count++].record.messages
    const taken = this.#queue.splice(0, count)
    const items: BatchItem[] = []
    for (const { record } of taken) this.#addItems(record, items)
    this.#busySinceMs = taken[0].atMs
    this.#batchFrom = taken[0].record.position
    this.#busy = true
    await this.#batch.run(items)
    // Where it was stopped the batch stays unapplied, and the cursor before it.
    this.#busy = false
    this.stats.batches++
    for (const { record } of taken) {
      this.#queuedBytes -= record.body.length + overheadBytes
      this.#queuedMessages -= record.messages
    }
    this.#options.onApplied?.(this.passedTo)
  }

  #addItems (record: InletRecord, items: BatchItem[]): void {
    const { journal, log } = this.#options
    if (record.kind === RecordKind.intent) {
      const key = intentKeyOf(record)
      if (record.replayed && key !== null) items.push({ kind: 'intent', key })
      return
    }
    const { messages, brokenAt } = messagesIn(record, journal.journalId)
    if (brokenAt >= 0) log.error({ position: record.position, brokenAt }, 'the journal holds no whole message here; the rest of the record was passed over')
    if (record.replayed) this.stats.replayed += messages.length
    for (const message of messages) items.push({ kind: 'message', message })
  }

  async #readOn (): Promise<void> {
    const { records, next } = await this.#reader.read(this.#readAt, this.#spilledTo, this.#replayedBefore)
    for (const record of records) this.#push(record, this.#spilledAtMs)
    this.#readAt = next
    // Nothing is awaited between this look and the next offer.
    if (next >= this.#spilledTo) this.#keeping = true
  }

  async #keepRefused (refused: readonly Refused[]): Promise<void> {
    await this.#options.deadLetters.add(refused.map(refusedLetter))
  }

  #tell (message: DeviceMessage, outcome: MessageOutcome): void {
    if (this.#waiters.size === 0) return
    const told = this.#waiters.get(message.position)
    this.#waiters.delete(message.position)
    told?.(outcome)
  }

  async #writeCursor (): Promise<void> {
    const { cursors, journal, log } = this.#options
    const position = this.appliedTo
    if (position <= this.#written) return
    try {
      await cursors.putCursor(journal.journalId, appliedCursor, position, false)
      this.#written = position
    } catch (error) {
      log.debug({ error: (error as Error).message }, 'the cursor of the applier could not be written; it is tried again')
    }
  }
}
