/**
 * Reads what is for the applier back from the journal's segments: after a start, and where more came than was kept in memory. In
 * pieces, so that the main thread is not held; damage is passed over (the recovery and the packer report it).
 */
import { open } from 'node:fs/promises'
import { recordBytesMax } from '../core/limits.js'
import type { Journal, SegmentRef } from '../journal/journal-types.js'
import { decodeIdentity, RecordKind } from '../journal/record.js'
import { scanRecords } from '../journal/segment-scan.js'
import type { InletRecord } from './message-record.js'

const pieceBytesDefault = 1024 * 1024

export interface JournalPiece {
  readonly records: readonly InletRecord[]
  /** Position to go on from. */
  readonly next: number
}

export class JournalReader {
  readonly #journal: Pick<Journal, 'journalId' | 'segmentsFor'>
  readonly #pieceBytes: number

  constructor (journal: Pick<Journal, 'journalId' | 'segmentsFor'>, pieceBytes = pieceBytesDefault) {
    this.#journal = journal
    this.#pieceBytes = pieceBytes
  }

  /**
   * The records for the applier in a piece of [from, to).
   * @param from start of a record, or any position up to a segment's first record
   * @param replayedBefore records before this position were there when the process started
   * @throws the file system's error where a segment is there and cannot be read
   */
  async read (from: number, to: number, replayedBefore: number): Promise<JournalPiece> {
    const segments = this.#journal.segmentsFor(from, to)
    for (const [i, segment] of segments.entries()) {
      const end = Math.min(to, segment.end ?? segments[i + 1]?.base ?? to)
      if (end > from) return await this.#readSegment(segment, Math.max(from, segment.base), end, replayedBefore)
    }
    // Nothing is there any more.
    return { records: [], next: to }
  }

  async #readSegment (segment: SegmentRef, from: number, to: number, replayedBefore: number): Promise<JournalPiece> {
    for (let bytes = this.#pieceBytes; ; bytes = 2 * recordBytesMax) {
      const upTo = Math.min(to, from + bytes)
      const buffer = await readRange(segment, from, upTo)
      const records: InletRecord[] = []
      // Less than was asked for: the file is shorter, or gone.
      const missing = buffer.length < upTo - from
      const next = this.#scan(buffer, from, from + buffer.length, segment.base, replayedBefore, records)
      if (missing || upTo === to) return { records, next: to }
      if (next > from) return { records, next }
      // No record ends in this piece: it is a large one, or damaged. In so many bytes a whole one would have been found.
      if (bytes >= 2 * recordBytesMax) return { records, next: upTo - recordBytesMax }
    }
  }

  /** Returns the position after the last whole record. */
  #scan (buffer: Buffer, base: number, to: number, segmentBase: number, replayedBefore: number, records: InletRecord[]): number {
    let next = base
    scanRecords(buffer, base, base, to, this.#journal.journalId, view => {
      const end = base + view.bodyEnd
      next = end
      if (view.kind !== RecordKind.deviceMessages && view.kind !== RecordKind.intent) return
      records.push({
        kind: view.kind,
        position: view.position,
        end,
        stamp: view.stamp,
        messages: view.messages,
        identity: decodeIdentity(buffer.subarray(view.identityStart, view.identityEnd)),
        // A copy: a few messages must not keep the piece they stood in.
        body: Buffer.from(buffer.subarray(view.bodyStart, view.bodyEnd)),
        replayed: view.position < replayedBefore
      })
    }, segmentBase)
    return next
  }
}

async function readRange ({ path, base }: SegmentRef, from: number, to: number): Promise<Buffer> {
  const buffer = Buffer.allocUnsafe(to - from)
  let file
  try {
    file = await open(path, 'r')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return buffer.subarray(0, 0)
    throw error
  }
  try {
    let filled = 0
    while (filled < buffer.length) {
      const { bytesRead } = await file.read(buffer, filled, buffer.length - filled, from - base + filled)
      if (bytesRead === 0) break
      filled += bytesRead
    }
    return buffer.subarray(0, filled)
  } finally {
    await file.close()
  }
}
