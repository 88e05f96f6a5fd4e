/**
 * The values of number windows as bytes. Windows of exact decimals (exact.ts) are integers, of which only what a prediction
 * leaves is stored: first from the last before, sum from the level, the integral from sum and spacing, and so on; windows of other
 * doubles stand beside them as doubles. FORMAT.md, "Numbers".
 */
import { corrupt } from '../columns/bounds.js'
import type { ByteReader } from '../columns/bytes.js'
import { powersOfTen, readIntegers, writeIntegers, type DecodeState } from '../columns/sequence.js'
import { ExactColumns, readExact } from './exact-columns.js'
import { ColumnScratch, mapRows, type WriteColumns } from './integer-columns.js'
import { planPlain, readPlain } from './plain-columns.js'
import { Ulps } from './ulps.js'
import type { NumberWindows } from './windows.js'

/** Low bits of the first byte: the scale of the exact windows, or that there are none. */
const noneExact = 15
const scaleMask = 15
/** Some windows stand as doubles; their rows follow. */
const isMixed = 16

/** Plans the columns once; what it returns writes them in any layout. */
export function planNumberColumns (windows: NumberWindows): WriteColumns {
  const count = windows.starts.length
  let scale = -1
  for (let i = 0; i < count; i++) if (windows.scales[i] > scale) scale = windows.scales[i]
  const plainRows: number[] = []
  const exactRows: number[] = []
  const columns = scale < 0 ? null : new ExactColumns(windows, scale)
  for (let i = 0; i < count; i++) {
    if (columns?.fits(i) === true) exactRows.push(i)
    else plainRows.push(i)
  }
  const exact = columns === null || exactRows.length === 0 ? null : columns.plan(exactRows)
  if (exact === null) {
    const all = planPlain(windows, mapRows(windows.starts, (_, i) => i))
    return (writer, scratch, settings) => {
      writer.byte(noneExact)
      all.finish(writer, scratch, settings)
    }
  }
  const plain = plainRows.length === 0 ? null : planPlain(windows, plainRows)
  return (writer, scratch, settings) => {
    writer.byte(scale | (plain === null ? 0 : isMixed))
    if (plain !== null) {
      writer.varint(plainRows.length)
      scratch.integers.set(plainRows)
      writeIntegers(writer, scratch, plainRows.length, settings)
      plain.finish(writer, scratch, settings)
    }
    exact.finish(writer, scratch, settings)
  }
}

/** Room that the columns of one series after the other are read into. */
export class NumberScratch {
  readonly columns = new ColumnScratch()
  readonly ulps = new Ulps()
  exactRows = new Int32Array(0)
  plainRows = new Int32Array(0)
  numbers = new Float64Array(0)

  reserve (count: number): void {
    if (this.numbers.length >= count) return
    this.numbers = new Float64Array(2 * count)
    this.exactRows = new Int32Array(2 * count)
    this.plainRows = new Int32Array(2 * count)
  }
}

/** Reads `count` windows into rows `at` and on of `windows`, whose times are there already. */
export function readNumberColumns (reader: ByteReader, windows: NumberWindows, at: number, count: number, scratch: NumberScratch, state: DecodeState): void {
  scratch.reserve(count)
  const { exactRows, plainRows } = scratch
  const form = reader.byte()
  const scale = form & scaleMask
  if (form === noneExact) {
    for (let i = 0; i < count; i++) plainRows[i] = at + i
    readPlain(reader, windows, plainRows, count, scratch, state)
    return
  }
  if (scale >= powersOfTen.length || form > (scaleMask | isMixed)) throw corrupt(`unknown form ${form} of windows at byte ${reader.at}`)
  let exact = 0
  if ((form & isMixed) === 0) {
    for (; exact < count; exact++) exactRows[exact] = at + exact
  } else {
    const plain = readRows(reader, at, count, scratch, state)
    readPlain(reader, windows, plainRows, plain, scratch, state)
    for (let i = at, next = 0; i < at + count; i++) {
      if (next < plain && plainRows[next] === i) next++
      else exactRows[exact++] = i
    }
  }
  readExact(reader, windows, exactRows, exact, scale, scratch, state)
}

/** Rows of windows that stand as doubles, and how many they are. */
function readRows (reader: ByteReader, at: number, count: number, { numbers, plainRows }: NumberScratch, state: DecodeState): number {
  const length = reader.varint()
  if (length === 0 || length >= count) throw corrupt(`${length} of ${count} windows as doubles at byte ${reader.at}`)
  readIntegers(reader, length, 0, length, state, numbers)
  for (let i = 0; i < length; i++) {
    if (!(numbers[i] >= 0 && numbers[i] < count) || (i > 0 && !(numbers[i] > numbers[i - 1]))) throw corrupt(`rows of windows do not ascend at byte ${reader.at}`)
    plainRows[i] = at + numbers[i]
  }
  return length
}
