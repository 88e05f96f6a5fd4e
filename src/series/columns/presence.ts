/**
 * Which rows have a value in a column: all, a list of row numbers, or the same list as the sparse column before (devices of
 * one kind send the same metrics together). The packed differences of a list are smaller than a bitmap whenever
 * they are regular or rare, and as small when they are random.
 */
import { corrupt } from './bounds.js'
import type { ByteReader, ByteWriter } from './bytes.js'
import { readIntegers, writeIntegers, type DecodeState, type EncodeScratch, type EncodeSettings } from './sequence.js'

/** As stored in bits 2 and 3 of a column's tag. */
export const PresenceForm = { all: 0, list: 1, same: 2 } as const

export function sameRows (a: Uint32Array, b: Uint32Array | null): boolean {
  if (b === null || a.length !== b.length) return false
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false
  return true
}

/** A count, and the row numbers with their length in bytes in front. */
export function writePresence (writer: ByteWriter, scratch: EncodeScratch, rows: Uint32Array, settings: EncodeSettings): void {
  writer.varint(rows.length)
  writer.byte(0)
  const start = writer.length
  for (let i = 0; i < rows.length; i++) scratch.integers[i] = rows[i]
  // A list is always read from its beginning, so differences serve slabs as well.
  writeIntegers(writer, scratch, rows.length, { layout: settings.layout, seekable: false })
  writer.closeLength(start)
}

/** A stored list; decoded when it is first asked for. */
export class Presence {
  readonly count: number
  readonly #part: ByteReader
  readonly #rowCount: number
  readonly #state: DecodeState
  #rows: Uint32Array | null = null

  constructor (reader: ByteReader, rowCount: number, state: DecodeState) {
    this.count = reader.varint()
    if (this.count > rowCount) throw corrupt(`${this.count} values in ${rowCount} rows`)
    this.#part = reader.part()
    this.#rowCount = rowCount
    this.#state = state
  }

  rows (): Uint32Array {
    if (this.#rows !== null) return this.#rows
    const decoded = new Float64Array(this.count)
    readIntegers(this.#part, this.count, 0, this.count, this.#state, decoded)
    const rows = new Uint32Array(this.count)
    let previous = -1
    for (let i = 0; i < rows.length; i++) {
      const row = decoded[i]
      if (!(row > previous) || row >= this.#rowCount || row !== Math.floor(row)) throw corrupt('row numbers of a column do not ascend')
      rows[i] = previous = row
    }
    this.#rows = rows
    return rows
  }
}

/** The first index whose row is not below `row`. */
export function indexOfRow (rows: Uint32Array, row: number): number {
  let low = 0
  let high = rows.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (rows[middle] < row) low = middle + 1
    else high = middle
  }
  return low
}
