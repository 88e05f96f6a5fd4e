/**
 * The chunk codec: readings in columns to bytes and back (DESIGN 3.2). Lossless: every double comes back bit for bit
 * (NaNs may become the canonical one), strings with lone surrogates too. Pure. FORMAT.md draws the bytes.
 *
 * Decoding normalises two things that mean the same: a list of all rows becomes null, and a boolean is 0 or 1.
 * Bytes of a newer version are refused with `format_newer`, damaged ones with `corrupt_data` where the damage shows (the
 * stores check their blocks by checksum); damage never costs more than bounded time and memory.
 */
import { deflateRawSync, inflateRawSync } from 'node:zlib'
import { TwinfoldError } from '../core/errors.js'
import type { Chunk } from '../core/reading.js'
import { chunkPointsMax, chunkRowsMax, corrupt, squeezedBodyBytesMax, tooLarge } from './columns/bounds.js'
import { ByteReader, ByteWriter } from './columns/bytes.js'
import { readColumns, writeColumns } from './columns/columns.js'
import { DecodeState, EncodeScratch, type EncodeSettings } from './columns/sequence.js'
import { boundsOf, readBounds, readTimes, writeBounds, writeTimes, type TimeBounds } from './columns/times.js'

export const chunkFormatVersion = 1

/** Bits of the byte after the version. */
export const ChunkFlags = {
  /** The body is deflated (RFC 1951) and its sequences are varints. */
  squeezed: 1,
  /** Times are doubles. */
  timesAsDoubles: 2,
  /** The bytes are a slab, not a chunk. */
  slab: 128
} as const

export interface ChunkHeader {
  readonly readings: number
  /** µs; 0 where the chunk is empty. */
  readonly minTs: number
  readonly maxTs: number
  readonly minStamp: number
  readonly maxStamp: number
}

const plainSettings: EncodeSettings = { layout: 'blocks', seekable: false }
const seekableSettings: EncodeSettings = { layout: 'blocks', seekable: true }
const squeezedSettings: EncodeSettings = { layout: 'varints', seekable: false }

/** Compression must save a sixteenth, or reading it back is not worth the time. */
const squeezeKeepsAt = 15 / 16

export interface EncodeOptions {
  /** Try a general compressor as well and keep what is clearly smaller: for merged and sealed chunks. */
  readonly squeeze?: boolean
}

/**
 * A chunk as bytes. Rows may stand in any order. Throws `limit_reached` beyond `chunkRowsMax` rows or `chunkPointsMax`
 * values, and `internal` where a column's rows and values do not match.
 */
export function encodeChunk (chunk: Chunk, options: EncodeOptions = {}): Uint8Array {
  const scratch = checkedScratch(chunk)
  const bounds = boundsOf(chunk.ts, chunk.stamps)
  const plain = encodeWith(chunk, bounds, scratch, plainSettings)
  if (options.squeeze !== true || chunk.ts.length === 0) return plain
  const writer = new ByteWriter(plain.length * 2)
  writeBody(writer, chunk, bounds, scratch, squeezedSettings)
  if (writer.length > squeezedBodyBytesMax) return plain
  const deflated = deflateRawSync(writer.bytes.subarray(0, writer.length), { level: 9, memLevel: 9 })
  const squeezed = new ByteWriter(deflated.length + 64)
  writeHeader(squeezed, chunk.ts.length, bounds, ChunkFlags.squeezed)
  squeezed.varint(writer.length)
  squeezed.raw(deflated)
  return squeezed.length < plain.length * squeezeKeepsAt ? squeezed.take() : plain
}

/** A chunk whose rows can be read without decoding those before them, for slabs; a little larger. */
export function encodeSeekable (chunk: Chunk): Uint8Array {
  return encodeWith(chunk, boundsOf(chunk.ts, chunk.stamps), checkedScratch(chunk), seekableSettings)
}

function encodeWith (chunk: Chunk, bounds: TimeBounds, scratch: EncodeScratch, settings: EncodeSettings): Uint8Array {
  const writer = new ByteWriter(256 + 24 * chunk.columns.length + 8 * chunk.ts.length)
  writeHeader(writer, chunk.ts.length, bounds, 0)
  writeBody(writer, chunk, bounds, scratch, settings)
  return writer.take()
}

function checkedScratch (chunk: Chunk): EncodeScratch {
  const rows = chunk.ts.length
  if (rows > chunkRowsMax) throw tooLarge(`a chunk of ${rows} rows; ${chunkRowsMax} is the most`)
  if (chunk.stamps.length !== rows) throw new TwinfoldError('internal', `a chunk of ${rows} timestamps and ${chunk.stamps.length} stamps`)
  let points = 0
  for (const { metric, rows: present, values } of chunk.columns) {
    if (values.length !== (present === null ? rows : present.length)) {
      throw new TwinfoldError('internal', `column ${metric} has ${values.length} values in ${present === null ? rows : present.length} rows`)
    }
    points += values.length
  }
  if (points > chunkPointsMax) throw tooLarge(`a chunk of ${points} points; ${chunkPointsMax} is the most`)
  return new EncodeScratch(rows)
}

function writeHeader (writer: ByteWriter, rows: number, bounds: TimeBounds, flags: number): void {
  writer.byte(chunkFormatVersion)
  writer.byte(flags | (bounds.asDoubles ? ChunkFlags.timesAsDoubles : 0))
  writer.varint(rows)
  if (rows > 0) writeBounds(writer, bounds)
}

function writeBody (writer: ByteWriter, chunk: Chunk, bounds: TimeBounds, scratch: EncodeScratch, settings: EncodeSettings): void {
  if (chunk.ts.length > 0) writeTimes(writer, scratch, chunk.ts, chunk.stamps, bounds, settings)
  writeColumns(writer, scratch, chunk, settings)
}

interface OpenChunk { readonly reader: ByteReader, readonly rows: number, readonly bounds: TimeBounds, readonly flags: number }

const emptyBounds: TimeBounds = { minTs: 0, maxTs: 0, minStamp: 0, maxStamp: 0, asDoubles: false }

function open (bytes: Uint8Array): OpenChunk {
  const reader = new ByteReader(bytes)
  const flags = readVersionAndFlags(reader, ChunkFlags.squeezed | ChunkFlags.timesAsDoubles)
  const rows = reader.varint()
  if (rows > chunkRowsMax) throw corrupt(`a chunk of ${rows} rows; ${chunkRowsMax} is the most`)
  const bounds = rows === 0 ? emptyBounds : readBounds(reader, (flags & ChunkFlags.timesAsDoubles) !== 0)
  return { reader, rows, bounds, flags }
}

/** The two bytes that begin a chunk and a slab: refuses what is newer, and flags that this version does not know. */
export function readVersionAndFlags (reader: ByteReader, known: number): number {
  const version = reader.byte()
  if (version > chunkFormatVersion) throw new TwinfoldError('format_newer', `chunk format ${version}; this version reads up to ${chunkFormatVersion}`)
  if (version === 0) throw corrupt('chunk format 0')
  const flags = reader.byte()
  if ((flags & ~known) !== 0) throw corrupt(`unexpected chunk flags ${flags}`)
  return flags
}

/** What can be told without decoding a column. */
export function readChunkHeader (bytes: Uint8Array): ChunkHeader {
  const { rows, bounds: { minTs, maxTs, minStamp, maxStamp } } = open(bytes)
  return { readings: rows, minTs, maxTs, minStamp, maxStamp }
}

/**
 * The chunk in `bytes`; with `metrics`, only those columns (and the journal column of a merged chunk, merge.ts), the
 * others are passed over undecoded. Number columns share one buffer.
 */
export function decodeChunk (bytes: Uint8Array, metrics?: ReadonlySet<string>): Chunk {
  return decodeRows(bytes, null, metrics)
}

/** Rows `from` to `to` of a chunk, or all; of part of the rows, columns without a value are left out. */
export function decodeRows (bytes: Uint8Array, part: { readonly from: number, readonly to: number } | null, metrics: ReadonlySet<string> | undefined): Chunk {
  const { reader: outer, rows, bounds, flags } = open(bytes)
  const from = part === null ? 0 : part.from
  const to = part === null ? rows : part.to
  if (from > to || to > rows) throw corrupt(`rows ${from} to ${to} of a chunk of ${rows}`)
  const squeezed = (flags & ChunkFlags.squeezed) !== 0
  const reader = squeezed ? inflated(outer) : outer
  const state = new DecodeState(squeezed ? 'varints' : 'blocks')
  const times = rows === 0 ? { ts: new Float64Array(0), stamps: new Float64Array(0) } : readTimes(reader, rows, from, to, bounds, state)
  const columns = readColumns(reader, { rows, from, to, whole: part === null, state, metrics: metrics ?? null })
  if (reader.at !== reader.end) throw corrupt(`${reader.end - reader.at} bytes behind the end of a chunk`)
  return { ...times, columns }
}

function inflated (reader: ByteReader): ByteReader {
  const length = reader.varint()
  if (length > squeezedBodyBytesMax) throw corrupt(`a squeezed body of ${length} bytes`)
  let body: Buffer
  try {
    body = inflateRawSync(reader.bytes.subarray(reader.at, reader.end), { maxOutputLength: Math.max(1, length) })
  } catch (error) {
    throw new TwinfoldError('corrupt_data', 'the squeezed body of a chunk cannot be inflated', { cause: error })
  }
  if (body.length !== length) throw corrupt(`a squeezed body of ${body.length} bytes instead of ${length}`)
  return new ByteReader(body)
}
