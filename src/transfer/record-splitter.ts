/**
 * Finds the records of a CSV or NDJSON file, piece by piece, without parsing them: a piece is whole records, so that an import can
 * stop and resume between any two. Quotes are followed as RFC 4180 has it (a record may hold line ends inside quotes). Memory is
 * bounded by the piece. A record that does not end within `recordBytesMax` is refused: of an unclosed quote only its first line
 * is lost.
 */
import type { FileHandle } from 'node:fs/promises'
import { pieceBytesMax, recordBytesMax } from './row-limits.js'

export interface SplitRecord {
  /** Bytes in the piece's buffer, without the line end. */
  readonly from: number
  readonly to: number
  /** Its first line in the file, from 1. */
  readonly line: number
  readonly hasQuotes: boolean
}

export interface SplitPiece {
  readonly buffer: Buffer
  readonly records: readonly SplitRecord[]
  /** Lines at which a record began that is too long. */
  readonly tooLong: readonly number[]
  readonly nextOffset: number
  readonly nextLine: number
  readonly atEnd: boolean
}

export interface SplitOptions {
  readonly offset: number
  readonly line: number
  readonly recordsMax: number
  /** Whether `"` quotes line ends. */
  readonly quotes: boolean
}

const newline = 10
const carriageReturn = 13
const quote = 34

/** Reads the next piece: at most `recordsMax` records and `pieceBytesMax` bytes. */
export async function readPiece (file: FileHandle, fileBytes: number, options: SplitOptions): Promise<SplitPiece> {
  const length = Math.min(pieceBytesMax, fileBytes - options.offset)
  const buffer = Buffer.allocUnsafe(Math.max(0, length))
  let filled = 0
  while (filled < length) {
    const { bytesRead } = await file.read(buffer, filled, length - filled, options.offset + filled)
    if (bytesRead === 0) break
    filled += bytesRead
  }
  const piece = splitRecords(buffer.subarray(0, filled), options.offset + filled >= fileBytes, options)
  if (piece.consumed > 0 || filled === 0) return finished(buffer, piece, options, fileBytes)
  // A single line fills the buffer: it is passed over, whatever its length.
  return await skipLine(file, fileBytes, options)
}

interface Split { readonly records: SplitRecord[], readonly tooLong: number[], readonly consumed: number, readonly line: number }

function finished (buffer: Buffer, split: Split, options: SplitOptions, fileBytes: number): SplitPiece {
  const nextOffset = options.offset + split.consumed
  return { buffer, records: split.records, tooLong: split.tooLong, nextOffset, nextLine: split.line, atEnd: nextOffset >= fileBytes }
}

/** Records of a buffer that is the end of the file or not; what is not complete is not consumed. */
export function splitRecords (buffer: Buffer, isEnd: boolean, { line: firstLine, recordsMax, quotes }: SplitOptions): Split {
  const records: SplitRecord[] = []
  const tooLong: number[] = []
  let start = 0
  let line = firstLine
  while (start < buffer.length && records.length < recordsMax) {
    const found = endOfRecord(buffer, start, quotes)
    let { end } = found
    if (end < 0 && isEnd && !found.open && buffer.length - start <= recordBytesMax) end = buffer.length
    if (end < 0 || end - start > recordBytesMax) {
      // Incomplete: more of the file may complete it, unless it is too long already or the file is at its end.
      if (end < 0 && !isEnd && buffer.length - start <= recordBytesMax) break
      const lineEnd = buffer.indexOf(newline, start)
      if (lineEnd < 0 && !isEnd) break
      tooLong.push(line)
      start = lineEnd < 0 ? buffer.length : lineEnd + 1
      line++
      continue
    }
    const to = end > start && buffer[end - 1] === carriageReturn ? end - 1 : end
    if (to > start) records.push({ from: start, to, line, hasQuotes: found.quoted })
    line += 1 + found.linesInside
    start = end + 1
  }
  return { records, tooLong, consumed: Math.min(start, buffer.length), line }
}

interface RecordEnd { readonly end: number, readonly quoted: boolean, readonly open: boolean, readonly linesInside: number }

/** Position of the line end that ends the record; -1 where none does within `recordBytesMax`. */
function endOfRecord (buffer: Buffer, start: number, quotes: boolean): RecordEnd {
  if (!quotes) return { end: buffer.indexOf(newline, start), quoted: false, open: false, linesInside: 0 }
  const limit = Math.min(buffer.length, start + recordBytesMax + 1)
  let open = false
  let quoted = false
  let linesInside = 0
  for (let at = start; at < limit; at++) {
    const byte = buffer[at]
    if (byte === quote) {
      open = !open
      quoted = true
    } else if (byte === newline) {
      if (!open) return { end: at, quoted, open, linesInside }
      linesInside++
    }
  }
  return { end: -1, quoted, open, linesInside }
}

async function skipLine (file: FileHandle, fileBytes: number, options: SplitOptions): Promise<SplitPiece> {
  const block = Buffer.allocUnsafe(recordBytesMax)
  let { offset } = options
  while (offset < fileBytes) {
    const { bytesRead } = await file.read(block, 0, block.length, offset)
    if (bytesRead === 0) break
    const at = block.subarray(0, bytesRead).indexOf(newline)
    offset += at < 0 ? bytesRead : at + 1
    if (at >= 0) break
  }
  return { buffer: Buffer.alloc(0), records: [], tooLong: [options.line], nextOffset: offset, nextLine: options.line + 1, atEnd: offset >= fileBytes }
}
