/** The columns of a chunk: name, tag, presence, values, each with its length, so that a reader passes over the others. FORMAT.md, "Columns". */
import type { Chunk, Column } from '../../core/reading.js'
import { chunkPointsMax, corrupt } from './bounds.js'
import { ByteReader, type ByteWriter } from './bytes.js'
import { NameFilter } from './name-filter.js'
import { readNumbers, writeNumbers } from './numbers.js'
import { indexOfRow, Presence, PresenceForm, sameRows, writePresence } from './presence.js'
import { readIntegers, writeIntegers, type DecodeState, type EncodeScratch, type EncodeSettings } from './sequence.js'
import { readStrings, writeStrings } from './strings.js'

/** Bits 0 and 1 of a tag. */
const TypeTag = { number: 0, boolean: 1, string: 2 } as const
const presenceShift = 2
/** The name is UTF-16: it has a lone surrogate, which UTF-8 cannot hold. */
const wideName = 16
const tagBits = 31
const loneSurrogate = /\p{Surrogate}/u

export function writeColumns (writer: ByteWriter, scratch: EncodeScratch, chunk: Chunk, settings: EncodeSettings): void {
  const rowCount = chunk.ts.length
  let lastList: Uint32Array | null = null
  writer.varint(chunk.columns.length)
  for (const column of chunk.columns) {
    const list = column.rows === null || column.rows.length === rowCount ? null : column.rows
    const presence = list === null ? PresenceForm.all : sameRows(list, lastList) ? PresenceForm.same : PresenceForm.list
    writeName(writer, column.metric, TypeTag[column.type] | presence << presenceShift)
    if (list !== null && presence === PresenceForm.list) {
      writePresence(writer, scratch, list, settings)
      lastList = list
    }
    writer.byte(0)
    const start = writer.length
    if (column.values.length > 0) writeValues(writer, scratch, column, settings)
    writer.closeLength(start)
  }
}

function writeName (writer: ByteWriter, name: string, tag: number): void {
  const start = writer.length
  if (name.length < 128) {
    writer.byte(tag)
    writer.byte(name.length)
    if (writer.ascii(name)) return
    writer.length = start
  }
  const wide = loneSurrogate.test(name)
  const bytes = Buffer.from(name, wide ? 'utf16le' : 'utf8')
  writer.byte(tag | (wide ? wideName : 0))
  writer.varint(bytes.length)
  writer.raw(bytes)
}

function writeValues (writer: ByteWriter, scratch: EncodeScratch, column: Column, settings: EncodeSettings): void {
  const count = column.values.length
  if (column.type === 'number') {
    writeNumbers(writer, scratch, column.values, count, settings)
  } else if (column.type === 'string') {
    writeStrings(writer, scratch, column.values, count, settings)
  } else {
    for (let i = 0; i < count; i++) scratch.integers[i] = column.values[i] === 0 ? 0 : 1
    writeIntegers(writer, scratch, count, settings)
  }
}

export interface ColumnRange {
  /** Rows of the chunk. */
  readonly rows: number
  /** Rows wanted: [from, to). */
  readonly from: number
  readonly to: number
  /** All rows: columns without a value are kept. */
  readonly whole: boolean
  readonly state: DecodeState
  readonly metrics: ReadonlySet<string> | null
}

interface FoundColumn {
  readonly metric: string
  readonly type: number
  readonly presence: Presence | null
  readonly at: number
  readonly end: number
}

export function readColumns (reader: ByteReader, range: ColumnRange): Column[] {
  const found = findColumns(reader, range)
  let numbers = 0
  const pieces = found.map(column => {
    const piece = pieceOf(column, range)
    if (column.type === TypeTag.number) numbers += piece.to - piece.from
    return piece
  })
  // One allocation for all numbers: many small ones cost more than the decoding.
  const pool = new Float64Array(numbers)
  let used = 0
  const columns: Column[] = []
  for (let i = 0; i < found.length; i++) {
    const piece = pieces[i]
    if (piece.from === piece.to && !range.whole) continue
    const values = found[i].type === TypeTag.number ? pool.subarray(used, used += piece.to - piece.from) : null
    columns.push(readColumn(reader, found[i], piece, range, values))
  }
  return columns
}

function findColumns (reader: ByteReader, range: ColumnRange): FoundColumn[] {
  const count = reader.varint()
  const filter = new NameFilter(reader.bytes, range.metrics)
  const found: FoundColumn[] = []
  let points = 0
  let list: Presence | null = null
  for (let i = 0; i < count; i++) {
    const tag = reader.byte()
    const type = tag & 3
    const form = tag >>> presenceShift & 3
    if (tag > tagBits || type > TypeTag.string || form > PresenceForm.same) throw corrupt(`unknown tag ${tag} of a column at byte ${reader.at}`)
    const nameBytes = reader.varint()
    const metric = filter.wanted(reader.skip(nameBytes), nameBytes, (tag & wideName) !== 0)
    if (form === PresenceForm.list) list = new Presence(reader, range.rows, range.state)
    else if (form === PresenceForm.same && list === null) throw corrupt(`a column repeats no list at byte ${reader.at}`)
    const length = reader.varint()
    const at = reader.skip(length)
    if (metric === null) continue
    const presence = form === PresenceForm.all ? null : list
    found.push({ metric, type, presence, at, end: at + length })
    // Counted before anything is allocated: a few damaged bytes can claim many rows in many columns.
    points += presence === null ? range.to - range.from : presence.count
    if (points > chunkPointsMax) throw corrupt(`a chunk of ${points} points; ${chunkPointsMax} is the most`)
  }
  return found
}

/** Values `from` to `to` of a column, and their rows in the range; null: all of them. */
interface Piece { readonly from: number, readonly to: number, readonly rows: Uint32Array | null }

function pieceOf (column: FoundColumn, range: ColumnRange): Piece {
  const { from, to } = range
  if (column.presence === null) return { from, to, rows: null }
  const rows = column.presence.rows()
  if (range.whole) return { from: 0, to: rows.length, rows: rows.length === range.rows ? null : rows }
  const low = indexOfRow(rows, from)
  const high = indexOfRow(rows, to)
  if (high - low === to - from) return { from: low, to: high, rows: null }
  const own = rows.slice(low, high)
  for (let i = 0; i < own.length; i++) own[i] -= from
  return { from: low, to: high, rows: own }
}

function readColumn (outer: ByteReader, column: FoundColumn, piece: Piece, range: ColumnRange, pooled: Float64Array | null): Column {
  const { metric } = column
  const { from, to, rows } = piece
  const count = column.presence === null ? range.rows : column.presence.count
  const reader = new ByteReader(outer.bytes, column.at, column.end)
  if (pooled !== null) {
    if (count > 0) readNumbers(reader, count, from, to, range.state, pooled, 0)
    return { metric, type: 'number', rows, values: pooled }
  }
  if (column.type === TypeTag.string) {
    return { metric, type: 'string', rows, values: count === 0 ? [] : readStrings(reader, count, from, to, range.state) }
  }
  const flags = new Float64Array(to - from)
  readIntegers(reader, count, from, to, range.state, flags)
  const values = new Uint8Array(flags.length)
  for (let i = 0; i < values.length; i++) values[i] = flags[i] === 0 ? 0 : 1
  return { metric, type: 'boolean', rows, values }
}
