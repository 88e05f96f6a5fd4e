/**
 * Group commit (DESIGN 3.1): while one group is written and synced, the next one gathers; there is no timer. Also what
 * happens when that fails: everything that waits fails, the segment is never written again, and new segments are tried
 * until one takes bytes. Knows segments and bytes; what the records mean is the journal's business.
 */
import type { Log } from '../core/log.js'
import { ChunkPool, CommitGroup } from './commit-group.js'
import { createSegment, writeAndSync, type JournalFileSystem } from './file-system.js'
import type { JournalStats } from './journal-stats.js'
import { recordSeed, segmentSeed } from './record-check.js'
import { encodeSegmentHeader, segmentHeaderBytes } from './segment-header.js'
import type { ActiveSegment, SegmentSet } from './segment-set.js'

export interface GroupCommitOwner {
  /** The open group takes no more records: says what follows from it once it is durable. */
  closing(group: CommitGroup): void
  /** INVARIANTS 1: the group is on stable storage. */
  committed(group: CommitGroup): void
  /** None of these groups may be acknowledged; appending is off until `reopened`. */
  failed(groups: readonly CommitGroup[], error: Error): void
  reopened(): void
  /** Greatest stamp given out, for the header of a new segment. */
  stampFloor(): number
}

export interface GroupCommitOptions {
  readonly system: JournalFileSystem
  readonly segments: SegmentSet
  readonly journalId: string
  readonly segmentBytesMax: number
  /** A group that is this large is closed, and the next one waits behind it. */
  readonly groupBytesMax: number
  /** Between two attempts to open a segment after a failure. */
  readonly retryMs: number
  /** Written and cut off again before a segment is trusted after a failure. */
  readonly probeBytes: number
  readonly nowUs: () => number
  readonly monotonicMs: () => number
  readonly stats: JournalStats
  readonly log: Log
  readonly owner: GroupCommitOwner
  /** Position after the last record, and the first position that was never used. */
  readonly end: number
  readonly nextBase: number
}

export class GroupCommit {
  readonly #options: GroupCommitOptions
  readonly #pool = new ChunkPool()
  /** Segment and offset that the next record gets; ahead of what is written. */
  #base = 0
  #offset = 0
  #seed = 0
  #open: CommitGroup | null = null
  readonly #closed: CommitGroup[] = []
  #writing: CommitGroup | null = null
  #scheduled = false
  #startedMs = 0
  #durableEnd: number
  #nextBase: number
  /** Bytes of records that are not durable yet. */
  waitingBytes = 0
  #retry: NodeJS.Timeout | null = null
  #stopped = false
  #whenIdle: (() => void) | null = null
  /** A segment is being opened or retired after a failure. */
  #repairing = false
  readonly #start = (): void => { this.#scheduled = false; this.#commitNext(); this.#idle() }
  readonly #written = (error: NodeJS.ErrnoException | null): void => { this.#finish(error) }

  constructor (options: GroupCommitOptions) {
    this.#options = options
    this.#durableEnd = options.end
    this.#nextBase = options.nextBase
  }

  /** Position after the last durable record. */
  get durableEnd (): number { return this.#durableEnd }

  /** Position at which a record that is added to the group of the last `groupFor` begins. */
  get position (): number { return this.#base + this.#offset }

  /** Seed of the checksum of that record. */
  get seed (): number { return recordSeed(this.#seed, this.#offset) }

  /** Opens the first segment. @param probeBytes 0 where nothing has failed yet */
  open (probeBytes: number, done: (error: Error | null) => void): void {
    const base = this.#nextBase
    this.#openSegment(base, probeBytes, error => {
      if (error === null) this.#appendTo(base, segmentHeaderBytes)
      done(error)
    })
  }

  /** The group that takes a record of this size; a full segment or group is closed before. */
  groupFor (recordBytes: number): CommitGroup {
    const { segmentBytesMax, groupBytesMax } = this.#options
    if (this.#offset + recordBytes > segmentBytesMax && this.#offset > segmentHeaderBytes) {
      this.#closeOpen()
      this.#appendTo(this.#base + this.#offset, segmentHeaderBytes)
    } else if (this.#open !== null && this.#open.bytes + recordBytes > groupBytesMax) {
      this.#closeOpen()
    }
    this.#open ??= new CommitGroup(this.#pool, this.#base, this.#offset)
    return this.#open
  }

  /** To be called after a record was added to the group. */
  added (recordBytes: number): void {
    this.#offset += recordBytes
    this.waitingBytes += recordBytes
    if (this.#writing === null && !this.#scheduled) {
      this.#scheduled = true
      setImmediate(this.#start)
    }
  }

  /** After a failure, or a failed `open`: tries to open a segment again and again. */
  retryLater (): void {
    if (this.#stopped || this.#retry !== null) return
    this.#retry = setTimeout(() => {
      this.#retry = null
      this.#repairing = true
      this.open(this.#options.probeBytes, error => {
        this.#repairing = false
        if (this.#stopped) return this.#idle()
        if (error === null) return this.#options.owner.reopened()
        this.#options.log.warn({ error: error.message }, 'the journal still cannot be written')
        this.retryLater()
      })
    }, this.#options.retryMs)
  }

  /** Commits what waits, then closes the file. */
  async close (): Promise<void> {
    this.#stopped = true
    if (this.#retry !== null) clearTimeout(this.#retry)
    this.#retry = null
    await new Promise<void>(resolve => { this.#whenIdle = resolve; this.#idle() })
    const { segments, system } = this.#options
    const active = segments.active
    if (active === null) return
    segments.closeActive(active.end - active.base)
    await new Promise<void>(resolve => { system.close(active.file, () => { resolve() }) })
  }

  #idle (): void {
    if (this.#whenIdle === null || this.#repairing || this.#writing !== null || this.#scheduled || this.#closed.length > 0 || this.#open !== null) return
    this.#whenIdle()
    this.#whenIdle = null
  }

  #appendTo (base: number, offset: number): void {
    this.#base = base
    this.#offset = offset
    this.#seed = segmentSeed(this.#options.journalId, base)
  }

  #closeOpen (): void {
    if (this.#open === null) return
    this.#options.owner.closing(this.#open)
    this.#closed.push(this.#open)
    this.#open = null
  }

  #commitNext (): void {
    if (this.#writing !== null) return
    if (this.#closed.length === 0) this.#closeOpen()
    const group = this.#closed.shift()
    if (group === undefined) return
    this.#writing = group
    this.#startedMs = this.#options.monotonicMs()
    const active = this.#options.segments.active as ActiveSegment
    if (active.base === group.segmentBase) return this.#write(active.file, group)
    this.#nextSegment(active, group)
  }

  #write (file: number, group: CommitGroup): void {
    writeAndSync(this.#options.system, file, group.pieces(), group.offset, this.#written)
  }

  #nextSegment (active: ActiveSegment, group: CommitGroup): void {
    this.#options.segments.closeActive(active.end - active.base)
    this.#options.system.close(active.file, () => {
      this.#openSegment(group.segmentBase, 0, error => {
        if (error !== null) return this.#finish(error)
        this.#write((this.#options.segments.active as ActiveSegment).file, group)
      })
    })
  }

  #openSegment (base: number, probeBytes: number, done: (error: Error | null) => void): void {
    const { segments, system, journalId, owner, stats, nowUs } = this.#options
    const path = segments.pathOf(base)
    const header = encodeSegmentHeader({ journalId, base, createdAt: nowUs(), stampFloor: owner.stampFloor(), previousEnd: Math.min(base, this.#durableEnd) })
    // Whatever comes of it, the positions of its header are used up: a file left behind can never be taken for another.
    this.#nextBase = base + segmentHeaderBytes
    createSegment(system, { path, header, probeBytes }, (error, file) => {
      if (error !== null) return done(error)
      segments.active = { path, base, file, end: base + segmentHeaderBytes }
      stats.segmentsOpened++
      done(null)
    })
  }

  #finish (error: NodeJS.ErrnoException | null): void {
    const group = this.#writing as CommitGroup
    this.#writing = null
    if (error !== null) return this.#fail(group, error)
    const { segments, stats, monotonicMs, owner } = this.#options
    const active = segments.active as ActiveSegment
    active.end += group.bytes
    this.#durableEnd = active.end
    this.#nextBase = active.end
    this.waitingBytes -= group.bytes
    stats.committed(group.records, group.bytes, monotonicMs() - this.#startedMs)
    // The disk works on the next group while the waiters of this one are told.
    this.#commitNext()
    owner.committed(group)
    group.recycle()
    this.#idle()
  }

  #fail (group: CommitGroup, error: NodeJS.ErrnoException): void {
    const { stats, segments, log, owner } = this.#options
    stats.failures++
    if (error.syscall === 'fdatasync') stats.syncFailures++
    log.error({ error: error.message, code: error.code, segment: segments.active?.path, offset: group.offset }, 'the journal cannot be written; nothing that waited is acknowledged')
    const groups = [group, ...this.#closed]
    if (this.#open !== null) groups.push(this.#open)
    this.#open = null
    this.#closed.length = 0
    this.waitingBytes = 0
    this.#repairing = true
    this.#retire(group.offset + group.bytes, () => {
      this.#repairing = false
      this.retryLater()
      this.#idle()
    })
    owner.failed(groups, error)
    for (const failed of groups) failed.recycle()
  }

  /**
   * The active segment ends where it is durable, and is never written again. What a failed write left behind it is cut
   * off where possible; the header of the next segment says where this one ends in any case.
   */
  #retire (writtenBytes: number, done: () => void): void {
    const { segments, system } = this.#options
    const active = segments.active
    if (active === null) return done()
    const durableBytes = active.end - active.base
    const removable = durableBytes <= segmentHeaderBytes && segments.closed.length > 0
    segments.closeActive(Math.max(durableBytes, writtenBytes))
    system.truncate(active.file, durableBytes, notCut => {
      if (notCut === null) segments.resize(active.path, durableBytes)
      system.close(active.file, () => {
        if (!removable) return done()
        system.remove(active.path, notRemoved => {
          if (notRemoved === null) segments.forget(active.path)
          done()
        })
      })
    })
  }
}
