/**
 * The journal: the one durable inlet for everything that devices send (DESIGN 3.1). Takes records, gives them stamps and
 * positions, closes slices by marks, tells waiters when their record is durable, and keeps its files within a bound.
 * Promises: INVARIANTS 1 (a waiter is told `committed` only after fdatasync), 8 (bytes on disk and bytes that wait are
 * bounded, and it says so by `state`). Bytes on disk: FORMAT.md.
 */
import { randomBytes } from 'node:crypto'
import { StampClock, type Clock } from '../core/clock.js'
import { TwinfoldError } from '../core/errors.js'
import { invariant } from '../core/invariant.js'
import { recordBytesMax, segmentBytesMax, sliceBytesMax } from '../core/limits.js'
import type { Log } from '../core/log.js'
import { assertNotAdopted } from './adoption.js'
import type { CommitGroup } from './commit-group.js'
import { nodeFileSystem, type JournalFileSystem } from './file-system.js'
import { GroupCommit, type GroupCommitOwner } from './group-commit.js'
import { JournalStats } from './journal-stats.js'
import type { AppendOptions, CommitWaiter, Journal, SegmentRef } from './journal-types.js'
import { encodeMarkBody, markRecordBytes } from './mark-record.js'
import { RecordKind, recordHeaderBytes, type SliceMark } from './record.js'
import { recoverJournal, type CursorOf, type Recovered, type RecoveredJournal } from './recover.js'
import { keysIn, type RecoveredKey } from './recover-keys.js'
import { SegmentSet } from './segment-set.js'
import { SliceTracker, type SliceState } from './slice-tracker.js'

/** Bytes of records that may wait for their commit; beyond, `append` refuses. Connections are limited one by one before. */
const waitingBytesMaxDefault = 256 * 1024 * 1024
/** Bytes of one group; bounds what one write takes and what one failure refuses. */
const groupBytesMaxDefault = 16 * 1024 * 1024
/** Room that a new segment must have after a failure before appending is allowed again. */
const probeBytesDefault = 1024 * 1024
/** A segment takes at most this part of the disk bound, so that releasing closed segments always makes room. */
const segmentsPerDiskMin = 4
/** Failures at the first open that time may mend: the server starts and packs what it has. */
const passingFailures = new Set(['ENOSPC', 'EDQUOT', 'EIO'])

export type JournalState = Journal['state']

export interface JournalOptions {
  readonly directory: string
  readonly clock: Clock
  readonly log: Log
  /** Bound of all segments together; `append` throws `journal_full` beyond it. Marks are exempt (56 bytes each). */
  readonly diskBytesMax: number
  /** Part of `diskBytesMax` from which `state` is 'slow'. Default 0.8. */
  readonly slowAtFraction?: number
  /** Stamps start above this, and above all that the journal holds, µs. */
  readonly stampFloor?: number
  /** Position up to which the packer is done, of the journal with this id; null where nothing is packed. Default: nothing. */
  readonly cursorOf?: CursorOf
  /** A segment is closed at this size; at most a quarter of `diskBytesMax`. A larger record gets a segment of its own. */
  readonly segmentBytesMax?: number
  readonly sliceBytesMax?: number
  readonly waitingBytesMax?: number
  readonly groupBytesMax?: number
  /** Pause between attempts to write again after a failure. Default 1000. */
  readonly retryMs?: number
  readonly probeBytes?: number
  readonly fileSystem?: JournalFileSystem
  /** Opens a journal that is being adopted as well. Default false: it is refused (adoption.ts). */
  readonly adopting?: boolean
  /** Source of the journal's id. */
  readonly random?: (bytes: number) => Buffer
}

/**
 * Recovers the journal in a directory, or begins one, and opens a new segment.
 * @throws TwinfoldError `format_newer`, `corrupt_data`, `already_exists` (it was adopted); the file system's error where the directory cannot be used. When
 * the disk is full or fails, the journal opens in state 'failed' and tries again.
 */
export async function openJournal (options: JournalOptions): Promise<JournalFiles> {
  if (options.adopting !== true) assertNotAdopted(options.directory)
  const random = options.random ?? randomBytes
  const found = await recoverJournal(options.directory, options.cursorOf ?? (() => null), () => random(8).toString('hex'), options.log)
  const journal = new JournalFiles(options, found)
  await journal.open()
  return journal
}

export class JournalFiles implements Journal {
  readonly journalId: string
  readonly recovered: Recovered
  readonly stats = new JournalStats()
  readonly #log: Log
  readonly #commit: GroupCommit
  readonly #segments: SegmentSet
  readonly #system: JournalFileSystem
  readonly #stamps: StampClock
  readonly #slice: SliceTracker
  /** The open slice as it is on stable storage. */
  #durableSlice: SliceState
  readonly #empty: RecoveredJournal['empty']
  readonly #limits: { readonly disk: number, readonly slow: number, readonly slice: number, readonly waiting: number, readonly retryMs: number, readonly probe: number }
  #state: JournalState = 'failed'
  /** A record was refused for the bound on disk, and nothing was released since. */
  #full = false
  #closed = false
  #releasing: Promise<void> = Promise.resolve()
  readonly #stateListeners: ((state: JournalState) => void)[] = []
  readonly #markListeners: ((mark: SliceMark) => void)[] = []

  constructor (options: JournalOptions, found: RecoveredJournal) {
    const disk = options.diskBytesMax
    this.journalId = found.journalId
    this.recovered = found.recovered
    this.#log = options.log
    this.#empty = found.empty
    this.#system = options.fileSystem ?? nodeFileSystem
    this.#stamps = new StampClock(options.clock, Math.max(options.stampFloor ?? 0, found.stampFloor))
    this.#slice = new SliceTracker(found.slice)
    this.#durableSlice = found.slice
    this.#limits = {
      disk,
      slow: disk * (options.slowAtFraction ?? 0.8),
      slice: options.sliceBytesMax ?? sliceBytesMax,
      waiting: options.waitingBytesMax ?? waitingBytesMaxDefault,
      retryMs: options.retryMs ?? 1000,
      probe: options.probeBytes ?? probeBytesDefault
    }
    this.#segments = new SegmentSet(options.directory, found.journalId, found.segments)
    this.#commit = new GroupCommit({
      system: this.#system,
      segments: this.#segments,
      journalId: found.journalId,
      segmentBytesMax: Math.min(options.segmentBytesMax ?? segmentBytesMax, Math.floor(disk / segmentsPerDiskMin)),
      groupBytesMax: options.groupBytesMax ?? groupBytesMaxDefault,
      retryMs: this.#limits.retryMs,
      probeBytes: this.#limits.probe,
      nowUs: () => options.clock.nowUs(),
      monotonicMs: () => options.clock.monotonicMs(),
      stats: this.stats,
      log: options.log,
      owner: this.#owner(),
      end: found.end,
      nextBase: found.nextBase
    })
  }

  /** Opens the first segment; called once, by `openJournal`. */
  async open (): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#commit.open(0, error => {
        if (error === null) {
          this.#setState(this.#level())
          resolve()
        } else if (passingFailures.has((error as NodeJS.ErrnoException).code ?? '')) {
          this.#log.error({ error: error.message }, 'the journal cannot be written; it is tried again')
          this.#commit.retryLater()
          resolve()
        } else {
          reject(error)
        }
      })
    })
    // Only now: until the new segment stands, an empty one may be all that says which journal this is.
    if (this.#state !== 'failed') for (const { path } of this.#empty) await this.#remove(path)
  }

  get state (): JournalState { return this.#state }
  get unmarkedBytes (): number { return this.#slice.bytes }
  get durableEnd (): number { return this.#commit.durableEnd }
  get appendedEnd (): number { return this.#commit.position }
  get diskBytes (): number { return this.#segments.bytes }
  /** Bytes of records that are appended and not durable yet. */
  get waitingBytes (): number { return this.#commit.waitingBytes }
  /** Greatest stamp given out, µs. */
  get stampLast (): number { return this.#stamps.last }

  takeStamps (count: number): number { return this.#stamps.take(count) }

  /** Moves the stamps past one seen from another node (DESIGN 3.8). */
  observeStamp (stampUs: number): void { this.#stamps.observe(stampUs) }

  /**
   * See `Journal.append`. Also throws `payload_too_large` for a record above `recordBytesMax`, and `journal_unavailable`
   * when more bytes wait for their commit than `waitingBytesMax`, or after `close`.
   */
  append (options: AppendOptions, waiter: CommitWaiter | null, token: number): number {
    const { kind, flags, identity, body, messages } = options
    const recordBytes = recordHeaderBytes + identity.length + body.length
    if (this.#state === 'failed' || this.#state === 'full' || this.#closed) this.#refuse()
    this.#checkRoom(recordBytes)
    if (this.#slice.bytes > 0 && this.#slice.bytes + recordBytes > this.#limits.slice) this.#appendMark(null, null)
    let stamp = options.stamp
    if (stamp === undefined) stamp = this.#stamps.take(messages)
    else this.#stamps.observe(stamp + Math.max(messages - 1, 0))
    const group = this.#commit.groupFor(recordBytes)
    group.add(kind, flags, identity, body, messages, stamp, this.#commit.seed)
    if (waiter !== null) {
      group.waiters.push(waiter)
      group.tokens.push(token)
    }
    this.#commit.added(recordBytes)
    this.#slice.add(recordBytes, body.length)
    return stamp
  }

  async mark (): Promise<SliceMark | null> {
    if (this.#state === 'failed' || this.#closed) throw this.#unavailable()
    if (this.#slice.records === 0) return null
    return await new Promise<SliceMark>((resolve, reject) => { this.#appendMark(resolve, reject) })
  }

  /** The listener is told of every mark, explicit or automatic, in order, once it is durable. */
  onMark (listener: (mark: SliceMark) => void): void { this.#markListeners.push(listener) }

  onState (listener: (state: JournalState) => void): void { this.#stateListeners.push(listener) }

  segmentsFor (from: number, to: number): readonly SegmentRef[] {
    return this.#segments.covering(from, to)
  }

  /** Idempotency keys of durable records at or after the cursor, in order; reads the segments while it is iterated. */
  recoverKeys (cursor: number): Iterable<RecoveredKey> {
    const to = this.#commit.durableEnd
    return keysIn(this.#segments.covering(cursor, to), cursor, to, this.journalId)
  }

  async releaseBefore (position: number): Promise<void> {
    this.#releasing = this.#releasing.then(() => this.#release(position))
    await this.#releasing
  }

  /** Commits what waits, then closes the files. Appending is refused from now on. */
  async close (): Promise<void> {
    this.#closed = true
    await this.#releasing
    await this.#commit.close()
  }

  #owner (): GroupCommitOwner {
    return {
      closing: group => { group.after = this.#slice.state() },
      committed: group => { this.#committed(group) },
      failed: (groups, cause) => { this.#failed(groups, cause) },
      reopened: () => { this.#setState(this.#level()) },
      stampFloor: () => this.#stamps.last
    }
  }

  #committed (group: CommitGroup): void {
    invariant(group.after !== null, 1, 'a journal group was committed that was never closed')
    this.#durableSlice = group.after
    const { waiters, tokens } = group
    for (let i = 0; i < waiters.length; i++) waiters[i].committed(tokens[i])
    for (const { mark, resolve } of group.marks) {
      this.stats.marks++
      for (const listener of this.#markListeners) listener(mark)
      resolve?.(mark)
    }
    if (this.#state === 'ok' && this.#usedBytes() >= this.#limits.slow) this.#settleState()
  }

  #failed (groups: readonly CommitGroup[], cause: Error): void {
    // What is not durable leaves no trace: the next mark begins where the last durable one ended.
    this.#slice.restore(this.#durableSlice)
    this.#setState('failed')
    const error = this.#unavailable(cause)
    for (const { waiters, tokens, marks } of groups) {
      this.stats.recordsFailed += waiters.length
      for (let i = 0; i < waiters.length; i++) waiters[i].failed(tokens[i], error)
      for (const { reject } of marks) reject?.(error)
    }
  }

  #appendMark (resolve: ((mark: SliceMark) => void) | null, reject: ((error: Error) => void) | null): void {
    this.#stamps.observe(this.#stamps.last + this.#slice.stampsToSkip)
    const stamp = this.#stamps.take(1)
    const group = this.#commit.groupFor(markRecordBytes)
    const mark = this.#slice.markAt(this.#commit.position, stamp)
    group.add(RecordKind.mark, 0, noIdentity, encodeMarkBody(mark, this.#slice.markStamp), 0, stamp, this.#commit.seed)
    group.marks.push({ mark, resolve, reject })
    this.#commit.added(markRecordBytes)
    this.#slice.marked(mark)
  }

  #usedBytes (): number {
    return this.#segments.bytes + this.#commit.waitingBytes
  }

  #checkRoom (recordBytes: number): void {
    if (recordBytes > recordBytesMax) throw new TwinfoldError('payload_too_large', `a journal record of ${recordBytes} bytes; at most ${recordBytesMax} are taken`)
    if (this.#commit.waitingBytes + recordBytes > this.#limits.waiting) {
      throw new TwinfoldError('journal_unavailable', 'too much waits for its commit; the disk is slower than the senders', { retryAfterMs: this.#limits.retryMs })
    }
    if (this.#usedBytes() + recordBytes > this.#limits.disk) {
      this.#full = true
      this.#settleState()
      this.#refuse()
    }
  }

  #refuse (): never {
    if (this.#state === 'full' && !this.#closed) {
      throw new TwinfoldError('journal_full', `the journal takes ${this.#segments.bytes} of ${this.#limits.disk} bytes`, { retryAfterMs: this.#limits.retryMs })
    }
    throw this.#unavailable()
  }

  #unavailable (cause?: Error): TwinfoldError {
    const detail = this.#closed && cause === undefined ? 'the journal is closed' : 'the journal cannot be written; nothing was accepted'
    return new TwinfoldError('journal_unavailable', detail, { retryAfterMs: this.#limits.retryMs, cause })
  }

  #settleState (): void {
    if (this.#state !== 'failed') this.#setState(this.#level())
  }

  #level (): JournalState {
    if (this.#full) return 'full'
    return this.#usedBytes() >= this.#limits.slow ? 'slow' : 'ok'
  }

  #setState (state: JournalState): void {
    if (state === this.#state) return
    this.#state = state
    for (const listener of this.#stateListeners) listener(state)
  }

  async #release (position: number): Promise<void> {
    for (;;) {
      const oldest = this.#segments.oldestBefore(position)
      if (oldest === null || !await this.#remove(oldest.path)) break
      this.stats.segmentsReleased++
      this.#full = false
    }
    this.#settleState()
  }

  async #remove (path: string): Promise<boolean> {
    const error = await new Promise<NodeJS.ErrnoException | null>(resolve => { this.#system.remove(path, resolve) })
    if (error !== null && error.code !== 'ENOENT') {
      this.#log.warn({ path, error: error.message }, 'a segment could not be deleted; it is tried again at the next release')
      return false
    }
    this.#segments.forget(path)
    return true
  }
}

const noIdentity = new Uint8Array(0)
