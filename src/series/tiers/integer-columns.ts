/**
 * Columns of integers, each what is left after a prediction. The kinds of all columns of a series stand together in front of them, two bits each, so
 * that a column of zeros (a prediction that always held) costs no byte.
 */
import { packedIntegerMax } from '../columns/blocks.js'
import { corrupt } from '../columns/bounds.js'
import type { ByteReader, ByteWriter } from '../columns/bytes.js'
import { readNumbers, writeNumbers } from '../columns/numbers.js'
import { readIntegers, writeIntegers, type DecodeState, type EncodeScratch, type EncodeSettings } from '../columns/sequence.js'

/** How a column is stored. */
export const Kind = {
  /** Nothing: all zeros. */
  zeros: 0,
  /** What the prediction leaves. */
  residuals: 1,
  /** The integers themselves; or, for a column of doubles, distances in representable values (ulps.ts). */
  integers: 2,
  /** The values as doubles. */
  doubles: 3
} as const

/** What `valueOf` says of every row; `Float64Array.from` takes twenty times as long. */
export function mapRows<T> (rows: ArrayLike<T>, valueOf: (row: T, i: number) => number): Float64Array {
  const { length } = rows
  const values = new Float64Array(length)
  for (let i = 0; i < length; i++) values[i] = valueOf(rows[i], i)
  return values
}

interface Stored { readonly kind: number, readonly values: Float64Array }

const isPackable = (values: Float64Array): boolean => {
  for (let i = 0; i < values.length; i++) if (!(values[i] < packedIntegerMax && values[i] > -packedIntegerMax)) return false
  return true
}

/** Bits that values take in one frame of reference, roughly: enough to choose by. */
function spread (values: Float64Array): number {
  let mean = 0
  for (let i = 0; i < values.length; i++) mean += values[i]
  mean /= values.length
  let distance = 0
  for (let i = 0; i < values.length; i++) distance += Math.abs(values[i] - mean)
  return distance
}

/** Writes what was planned. */
export type WriteColumns = (writer: ByteWriter, scratch: EncodeScratch, settings: EncodeSettings) => void

export class ColumnsWriter {
  readonly #columns: Stored[] = []

  /** A column as its residuals, or as its integers where these lie closer together; false where neither can be packed. */
  integers (residuals: Float64Array, integers: Float64Array | null = null): boolean {
    const plainFits = integers !== null && isPackable(integers)
    if (!isPackable(residuals)) {
      if (!plainFits) return false
      this.#columns.push({ kind: Kind.integers, values: integers })
    } else if (residuals.every(value => value === 0)) {
      this.#columns.push({ kind: Kind.zeros, values: residuals })
    } else if (plainFits && spread(integers) < spread(residuals)) {
      this.#columns.push({ kind: Kind.integers, values: integers })
    } else {
      this.#columns.push({ kind: Kind.residuals, values: residuals })
    }
    return true
  }

  /** A column of doubles: nothing but distances from what is expected, where there are such, else the values. */
  doubles (values: Float64Array, distances: Float64Array | null = null): void {
    this.#columns.push(distances === null ? { kind: Kind.doubles, values } : { kind: Kind.integers, values: distances })
  }

  /** All columns; each holds at least one value. */
  finish (writer: ByteWriter, scratch: EncodeScratch, settings: EncodeSettings): void {
    let kinds = 0
    for (let i = this.#columns.length - 1; i >= 0; i--) kinds = kinds * 4 + this.#columns[i].kind
    writer.varint(kinds)
    for (const { kind, values } of this.#columns) {
      if (kind === Kind.zeros) continue
      if (kind === Kind.doubles) {
        writeNumbers(writer, scratch, values, values.length, settings)
      } else {
        scratch.integers.set(values)
        writeIntegers(writer, scratch, values.length, settings)
      }
    }
  }
}

export interface ReadColumn { readonly kind: number, readonly values: Float64Array }

/** Room for columns that are read again and again: what is read stays until the next read. */
export class ColumnScratch {
  readonly #columns: { kind: number, values: Float64Array }[] = []

  /** As `readColumnsOf`, but `values` may be longer than `count`. */
  read (reader: ByteReader, columns: number, count: number, state: DecodeState): readonly ReadColumn[] {
    while (this.#columns.length < columns) this.#columns.push({ kind: Kind.zeros, values: new Float64Array(count) })
    let kinds = reader.varint()
    for (let i = 0; i < columns; i++) {
      const column = this.#columns[i]
      const kind = kinds % 4
      kinds = Math.floor(kinds / 4)
      if (column.values.length < count) column.values = new Float64Array(2 * count)
      column.kind = kind
      if (kind === Kind.zeros) column.values.fill(0, 0, count)
      else if (kind === Kind.doubles) readNumbers(reader, count, 0, count, state, column.values, 0)
      else readIntegers(reader, count, 0, count, state, column.values)
    }
    if (kinds !== 0) throw corrupt(`kinds of more than ${columns} columns at byte ${reader.at}`)
    return this.#columns
  }
}

/** `columns` columns of `count` values, at least one. */
export function readColumnsOf (reader: ByteReader, columns: number, count: number, state: DecodeState): readonly ReadColumn[] {
  return new ColumnScratch().read(reader, columns, count, state)
}
