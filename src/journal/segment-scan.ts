/**
 * Reading of segments, by worker threads and by recovery: every record is checked, damage is passed over and reported,
 * and the rest is still read (DESIGN 3.1). Synchronous: a worker has nothing else to do meanwhile.
 */
import { closeSync, openSync, readSync } from 'node:fs'
import { crc32c } from '@node-rs/crc32'
import { recordBytesMax } from '../core/limits.js'
import type { SegmentRef } from './journal-types.js'
import { lengthInWord, recordSeed, segmentSeed } from './record-check.js'
import { RecordKind, recordHeaderBytes } from './record.js'
import { segmentHeaderBytes } from './segment-header.js'

/** One record of the scanned buffer. The object is reused: copy what must outlive the visit. Offsets are into the buffer. */
export class RecordView {
  kind: RecordKind = RecordKind.bodyAuto
  flags = 0
  identityStart = 0
  identityEnd = 0
  messages = 0
  /** Accept stamp of the first message, µs. */
  stamp = 0
  bodyStart = 0
  bodyEnd = 0
  /** Position of the record in the journal. */
  position = 0
}

/** A range that holds no valid record. */
export interface Damage {
  /** Position in the journal. */
  readonly position: number
  /** Bytes passed over until the next valid record or the end of the range. */
  readonly bytes: number
}

/** Bytes of one segment that are part of a slice. */
export interface SlicePiece {
  readonly path: string
  /** Position of the segment's first byte. */
  readonly segmentBase: number
  /** Position of `buffer[0]`. */
  readonly base: number
  /** Never reused: views into it stay valid. Shorter than [from, to) where bytes are missing from the file. */
  readonly buffer: Buffer
  readonly from: number
  readonly to: number
}

/**
 * Visits the valid records of positions [from, to) in order; returns what was damaged or missing between them.
 * @param buffer bytes of one segment
 * @param base position of `buffer[0]`
 * @param from start of a record, or any position up to the segment's first record
 * @param journalId 16 hex digits
 * @param segmentBase position of the segment's first byte; the same as `base` where the buffer holds the whole segment
 */
export function scanRecords (buffer: Buffer, base: number, from: number, to: number, journalId: string,
  visit: (record: RecordView) => void, segmentBase = base): Damage[] {
  const damages: Damage[] = []
  const seed = segmentSeed(journalId, segmentBase)
  const bytes = buffer.buffer
  const byteOffset = buffer.byteOffset
  const view = new DataView(bytes, byteOffset, buffer.byteLength)
  const shift = base - segmentBase
  const record = new RecordView()
  const end = Math.min(to - base, buffer.length)
  let at = Math.max(from, segmentBase + segmentHeaderBytes) - base
  while (at < end) {
    let length = 0
    if (at + recordHeaderBytes <= end) {
      const start = recordSeed(seed, at + shift)
      length = lengthInWord(view.getUint32(at + 4, true), start)
      if (length < recordHeaderBytes || at + length > end ||
        crc32c(new Uint8Array(bytes, byteOffset + at + 4, length - 4), start) !== view.getUint32(at, true)) length = 0
    }
    if (length === 0) {
      const next = nextRecord(buffer, view, at + 1, end, seed, shift)
      damages.push({ position: base + at, bytes: next - at })
      at = next
      continue
    }
    const bodyStart = at + recordHeaderBytes + view.getUint16(at + 10, true)
    record.kind = view.getUint8(at + 8) as RecordKind
    record.flags = view.getUint8(at + 9)
    record.messages = view.getUint32(at + 12, true)
    record.stamp = view.getFloat64(at + 16, true)
    record.identityStart = at + recordHeaderBytes
    record.identityEnd = bodyStart
    record.bodyStart = bodyStart
    record.bodyEnd = at + length
    record.position = base + at
    visit(record)
    at += length
  }
  const missingFrom = Math.max(base + at, from)
  if (to > missingFrom && to - base > buffer.length) damages.push({ position: missingFrom, bytes: to - missingFrom })
  return damages
}

/**
 * Offset of the next valid record at or after `at`, `end` where there is none. Nearly all candidates fail the check of
 * the length word or the plain bounds of the fields; a checksum runs over the few that are left.
 */
function nextRecord (buffer: Buffer, view: DataView, at: number, end: number, seed: number, shift: number): number {
  for (; at + recordHeaderBytes <= end; at++) {
    const start = recordSeed(seed, at + shift)
    const length = lengthInWord(view.getUint32(at + 4, true), start)
    if (length < recordHeaderBytes || length > recordBytesMax || at + length > end) continue
    if (recordHeaderBytes + view.getUint16(at + 10, true) > length) continue
    if (!Number.isSafeInteger(view.getFloat64(at + 16, true))) continue
    if (crc32c(new Uint8Array(buffer.buffer, buffer.byteOffset + at + 4, length - 4), start) === view.getUint32(at, true)) return at
  }
  return end
}

/**
 * Reads the parts of [from, to) that lie in the segments, in order, one at a time. A segment that is gone counts as
 * missing bytes, which `scanRecords` reports.
 * @throws the file system's error when a segment is there and cannot be read
 */
export function * readSlice (segments: readonly SegmentRef[], from: number, to: number): Generator<SlicePiece> {
  for (let i = 0; i < segments.length; i++) {
    const { path, base: segmentBase } = segments[i]
    const segmentEnd = segments[i].end ?? segments[i + 1]?.base ?? to
    const pieceFrom = Math.max(from, segmentBase + segmentHeaderBytes)
    const pieceTo = Math.min(to, segmentEnd)
    if (pieceFrom >= pieceTo) continue
    const buffer = readRange(path, pieceFrom - segmentBase, pieceTo - pieceFrom)
    yield { path, segmentBase, base: pieceFrom, buffer, from: pieceFrom, to: pieceTo }
  }
}

function readRange (path: string, offset: number, length: number): Buffer {
  let file: number
  try {
    file = openSync(path, 'r')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return Buffer.alloc(0)
    throw error
  }
  try {
    const buffer = Buffer.allocUnsafeSlow(length)
    let filled = 0
    while (filled < length) {
      const count = readSync(file, buffer, filled, length - filled, offset + filled)
      if (count === 0) break
      filled += count
    }
    return buffer.subarray(0, filled)
  } finally {
    closeSync(file)
  }
}
