/**
 * What a start finds in the journal's directory: which records are there, which slices are not packed, where the tail is
 * torn, what is damaged (DESIGN 3.1). The torn tail is cut; nothing else is changed, and nothing is appended to a segment
 * that was written before. Runs once, before anything else needs the thread, and so reads synchronously.
 */
import { closeSync, fdatasyncSync, ftruncateSync, mkdirSync, openSync, readFileSync, readSync, readdirSync, statSync, unlinkSync } from 'node:fs'
import { join } from 'node:path'
import { TwinfoldError } from '../core/errors.js'
import type { Log } from '../core/log.js'
import { adoptionFileNames, parseSegmentFileName, segmentFileName } from './filenames.js'
import { RecoveredSlices } from './recover-slices.js'
import type { SliceMark } from './record.js'
import { decodeSegmentHeader, segmentHeaderBytes, type SegmentHeader } from './segment-header.js'
import { scanRecords, type Damage } from './segment-scan.js'
import type { ClosedSegment } from './segment-set.js'
import type { SliceState } from './slice-tracker.js'

export interface DamagedRange extends Damage {
  readonly path: string
}

export interface Recovered {
  /** Position up to which everything was packed; 0 where nothing was. */
  readonly cursor: number
  /** Marks of slices that are not packed, in order; the caller packs them, then marks the tail. */
  readonly marks: readonly SliceMark[]
  /** Valid records at or after the cursor, marks not counted. */
  readonly records: number
  readonly damaged: readonly DamagedRange[]
  /** Bytes of torn tail that were cut. */
  readonly tailCut: number
  /** Where the slice begins that no mark closes. */
  readonly nextFrom: number
}

export interface RecoveredJournal {
  readonly journalId: string
  readonly segments: readonly ClosedSegment[]
  /** Position after the last record. */
  readonly end: number
  /** The least position at which the next segment may begin: no position was ever used there. */
  readonly nextBase: number
  /** Greatest stamp that was given out, µs. */
  readonly stampFloor: number
  readonly slice: SliceState
  /** Segments without a record, which can go once a new one stands. */
  readonly empty: readonly ClosedSegment[]
  readonly recovered: Recovered
}

/** The position up to which a journal is packed; null where nothing is. */
export type CursorOf = (journalId: string) => number | null | Promise<number | null>

interface SegmentFile {
  readonly path: string
  readonly base: number
  readonly fileBytes: number
  readonly header: SegmentHeader | null
}

/**
 * @param newJournalId called when the directory holds no journal
 * @throws TwinfoldError `format_newer` (a segment of a newer version), `corrupt_data` (segments of two journals)
 */
export async function recoverJournal (directory: string, cursorOf: CursorOf, newJournalId: () => string, log: Log): Promise<RecoveredJournal> {
  mkdirSync(directory, { recursive: true })
  const { journalId, files } = listSegments(directory, log)
  const id = journalId ?? newJournalId()
  return new Recovery(directory, id, await cursorOf(id) ?? 0, log).run(files)
}

function listSegments (directory: string, log: Log): { journalId: string | null, files: SegmentFile[] } {
  const files: SegmentFile[] = []
  let journalId: string | null = null
  for (const name of readdirSync(directory).sort()) {
    if (adoptionFileNames.includes(name)) continue
    const parsed = parseSegmentFileName(name)
    if (parsed === null) {
      log.warn({ directory, name }, 'a file that is not a segment stands in the journal directory')
      continue
    }
    if (journalId !== null && journalId !== parsed.journalId) {
      throw new TwinfoldError('corrupt_data', `${directory} holds segments of two journals, ${journalId} and ${parsed.journalId}`)
    }
    journalId = parsed.journalId
    const path = join(directory, name)
    files.push({ path, base: parsed.base, fileBytes: statSync(path).size, header: decodeSegmentHeader(readHead(path), path) })
  }
  return { journalId, files }
}

function readHead (path: string): Buffer {
  const file = openSync(path, 'r')
  try {
    const head = Buffer.alloc(segmentHeaderBytes)
    return head.subarray(0, readSync(file, head, 0, segmentHeaderBytes, 0))
  } finally {
    closeSync(file)
  }
}

class Recovery {
  readonly #directory: string
  readonly #journalId: string
  readonly #cursor: number
  readonly #log: Log
  readonly #slices: RecoveredSlices
  readonly #damaged: DamagedRange[] = []
  readonly #closed: ClosedSegment[] = []
  readonly #empty: ClosedSegment[] = []
  #tailCut = 0
  #end = 0
  #stampFloor = 0

  constructor (directory: string, journalId: string, cursor: number, log: Log) {
    this.#directory = directory
    this.#journalId = journalId
    this.#cursor = cursor
    this.#log = log
    this.#slices = new RecoveredSlices(cursor)
  }

  run (files: readonly SegmentFile[]): RecoveredJournal {
    const segments = this.#withoutStrays(files)
    let nextBase = this.#cursor
    for (const { base } of files) nextBase = Math.max(nextBase, base + segmentHeaderBytes)
    if (segments.length > 0) {
      this.#end = Math.min(segments[0].base, segments[0].header?.previousEnd ?? segments[0].base)
      this.#slices.begin(segments[0].base)
    }
    segments.forEach((segment, index) => { this.#take(segment, segments[index + 1]) })
    return {
      journalId: this.#journalId,
      segments: this.#closed,
      end: this.#end,
      nextBase: Math.max(nextBase, this.#end),
      stampFloor: Math.max(this.#stampFloor, this.#slices.stampGreatest),
      slice: this.#slices.tail(),
      empty: this.#empty,
      recovered: {
        cursor: this.#cursor,
        marks: this.#slices.marks,
        records: this.#slices.records,
        damaged: this.#damaged,
        tailCut: this.#tailCut,
        nextFrom: this.#slices.tail().from
      }
    }
  }

  /**
   * Leaves out files that are no part of the journal: a segment whose creation was cut off is removed, one that stands
   * under another's name or holds nothing valid is reported and left alone.
   */
  #withoutStrays (files: readonly SegmentFile[]): SegmentFile[] {
    return files.filter(segment => {
      const { path, base, fileBytes, header } = segment
      if (header !== null && header.base === base && header.journalId === this.#journalId) return true
      const bytes = readFileSync(path)
      let records = 0
      if (header === null) scanRecords(bytes, base, base, base + bytes.length, this.#journalId, () => { records++ })
      if (records > 0) {
        this.#damage(path, base, segmentHeaderBytes)
        return true
      }
      // The next free position passes the base of a removed file too, so that no position is used twice.
      if (segment === files[files.length - 1] && header === null && isCutOffCreation(bytes)) {
        this.#tailCut += bytes.length
        unlinkSync(path)
      } else {
        this.#damage(path, base, fileBytes)
      }
      return false
    })
  }

  #take (segment: SegmentFile, next: SegmentFile | undefined): void {
    const { path, base, fileBytes, header } = segment
    const fileEnd = base + fileBytes
    const limit = next === undefined ? fileEnd : endBefore(next, base)
    if (header !== null) this.#stampFloor = Math.max(this.#stampFloor, header.stampFloor)
    this.#reportGap(segment)
    let end = Math.min(fileEnd, limit)
    if (limit > this.#cursor || next === undefined) end = this.#scan(segment, end, next === undefined)
    const closed = { path, base, end, fileBytes: next === undefined ? end - base : fileBytes }
    this.#closed.push(closed)
    if (end - base <= segmentHeaderBytes && fileBytes <= segmentHeaderBytes) this.#empty.push(closed)
    else this.#end = Math.max(this.#end, end)
  }

  /** Returns the position after the last record. */
  #scan ({ path, base, fileBytes }: SegmentFile, to: number, last: boolean): number {
    const bytes = readFileSync(path)
    const damages = scanRecords(bytes, base, base, to, this.#journalId, record => { this.#slices.visit(record, bytes) })
    let end = to
    const tail = damages[damages.length - 1]
    if (last && tail !== undefined && tail.position + tail.bytes === base + fileBytes) {
      damages.pop()
      end = tail.position
      this.#tailCut += tail.bytes
    }
    if (last) this.#settle(path, end - base, fileBytes)
    for (const { position, bytes: count } of damages) this.#damage(path, position, count)
    return end
  }

  /**
   * Cuts the torn tail and syncs what stays: records that a dying process had written but not synced would otherwise be
   * packed now and lost with the next power failure.
   */
  #settle (path: string, bytes: number, fileBytes: number): void {
    try {
      const file = openSync(path, 'r+')
      try {
        if (bytes < fileBytes) ftruncateSync(file, bytes)
        fdatasyncSync(file)
      } finally {
        closeSync(file)
      }
    } catch (error) {
      // Harmless: the header of the next segment says where this one ends.
      this.#log.warn({ path, error: (error as Error).message }, 'the tail of the last segment could not be cut')
    }
  }

  /** Bytes between the last record so far and this segment, that should be there. */
  #reportGap ({ base, header }: SegmentFile): void {
    const expected = header?.previousEnd ?? base
    if (this.#closed.length === 0 || this.#end >= expected) return
    if (this.#damaged.some(({ position, bytes }) => position <= this.#end && position + bytes > this.#end)) return
    this.#damage(join(this.#directory, segmentFileName(this.#journalId, this.#end)), this.#end, expected - this.#end)
  }

  #damage (path: string, position: number, bytes: number): void {
    this.#damaged.push({ path, position, bytes })
    this.#log.error({ path, position, bytes }, 'the journal is damaged here; the rest is read')
  }
}

/**
 * A segment's records end where the header of the next says, which may be before they begin: then all of them belong to a
 * commit that failed. Without that header, they end at the latest where the next segment begins.
 */
function endBefore (next: SegmentFile, base: number): number {
  return next.header === null ? next.base : Math.max(next.header.previousEnd, base + segmentHeaderBytes)
}

/** A header that was not completely written, with nothing but the zeros of a file's unwritten part behind it. */
function isCutOffCreation (bytes: Buffer): boolean {
  for (let i = segmentHeaderBytes; i < bytes.length; i++) if (bytes[i] !== 0) return false
  return true
}
