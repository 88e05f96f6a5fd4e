/**
 * The values of number windows as bytes. Windows of exact decimals (exact.ts) are integers, of which only what a prediction
 * leaves is stored: first from the last before, sum from the level, the integral from sum and spacing, and so on; windows of other
 * doubles stand beside them as doubles. FORMAT.md, "Numbers".
 */
import { corrupt } from '../columns/bounds.js'
import type { ByteReader } from '../columns/bytes.js'
import { powersOfTen, readIntegers, writeIntegers, type DecodeState } from '../columns/sequence.js'
import { ExactColumns, readExact } from './exact-columns.js'
import { mapRows, type WriteColumns } from './integer-columns.js'
import { numberArrays } from './number-combine.js'
import { planPlain, readPlain } from './plain-columns.js'
import type { WindowTimes } from './time-columns.js'
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

export function readNumberColumns (reader: ByteReader, metric: string, times: WindowTimes, state: DecodeState): NumberWindows {
  const count = times.starts.length
  const windows = { ...numberArrays(metric, count), ...times }
  const form = reader.byte()
  const scale = form & scaleMask
  if (form === noneExact) {
    readPlain(reader, windows, Array.from({ length: count }, (_, i) => i), state)
    return windows
  }
  if (scale >= powersOfTen.length || form > (scaleMask | isMixed)) throw corrupt(`unknown form ${form} of windows at byte ${reader.at}`)
  const exactRows: number[] = []
  if ((form & isMixed) === 0) {
    for (let i = 0; i < count; i++) exactRows.push(i)
  } else {
    const plainRows = readRows(reader, count, state)
    readPlain(reader, windows, plainRows, state)
    for (let i = 0, next = 0; i < count; i++) {
      if (plainRows[next] === i) next++
      else exactRows.push(i)
    }
  }
  readExact(reader, windows, exactRows, scale, state)
  return windows
}

function readRows (reader: ByteReader, count: number, state: DecodeState): number[] {
  const length = reader.varint()
  if (length === 0 || length >= count) throw corrupt(`${length} of ${count} windows as doubles at byte ${reader.at}`)
  const rows = new Float64Array(length)
  readIntegers(reader, length, 0, length, state, rows)
  for (let i = 0; i < length; i++) {
    if (!(rows[i] >= 0 && rows[i] < count) || (i > 0 && !(rows[i] > rows[i - 1]))) throw corrupt(`rows of windows do not ascend at byte ${reader.at}`)
  }
  return [...rows]
}
