/** Windows of numbers as doubles: each column is left out where it is what the ones before it say in every row. FORMAT.md, "Numbers". */
import type { ByteReader } from '../columns/bytes.js'
import { corrupt } from '../columns/bounds.js'
import type { DecodeState } from '../columns/sequence.js'
import { ColumnsWriter, Kind, mapRows } from './integer-columns.js'
import type { NumberScratch } from './number-columns.js'
import { Ulps } from './ulps.js'
import type { NumberWindows } from './windows.js'

/** What a row's column is expected to be, from the columns before it. */
type Expect = (windows: NumberWindows, row: number) => number

/** µs from point to point, were they evenly spaced. */
const spacing = ({ counts, firstTs, lastTs }: NumberWindows, row: number): number => counts[row] > 1 ? (lastTs[row] - firstTs[row]) / (counts[row] - 1) : 0

/** The integral over evenly spaced points. */
export const expectedArea: Expect = (windows, row) => (windows.sums[row] - windows.lasts[row]) * spacing(windows, row)

const columns: readonly (readonly ['firsts' | 'lasts' | 'mins' | 'maxs' | 'sums' | 'm2s' | 'increases' | 'areas', Expect])[] = [
  ['firsts', () => 0],
  ['lasts', ({ firsts }, row) => firsts[row]],
  ['mins', ({ firsts, lasts }, row) => lasts[row] < firsts[row] ? lasts[row] : firsts[row]],
  ['maxs', ({ firsts, lasts }, row) => lasts[row] > firsts[row] ? lasts[row] : firsts[row]],
  ['sums', ({ counts, firsts, lasts }, row) => counts[row] * (firsts[row] / 2 + lasts[row] / 2)],
  ['m2s', () => 0],
  ['increases', ({ firsts, lasts }, row) => lasts[row] - firsts[row]],
  ['areas', expectedArea]
]

export function planPlain (windows: NumberWindows, rows: ArrayLike<number>): ColumnsWriter {
  const out = new ColumnsWriter()
  out.integers(mapRows(rows, row => windows.scales[row] + 1))
  const ulps = new Ulps()
  for (const [name, expect] of columns) {
    const values = mapRows(rows, row => windows[name][row])
    if (values.every((value, i) => Object.is(value, expect(windows, rows[i])))) out.integers(new Float64Array(rows.length))
    else out.doubles(values, ulps.distances(values, i => expect(windows, rows[i])))
  }
  return out
}

export function readPlain (reader: ByteReader, windows: NumberWindows, rows: Int32Array, count: number, scratch: NumberScratch, state: DecodeState): void {
  const read = scratch.columns.read(reader, 1 + columns.length, count, state)
  for (let i = 0; i < count; i++) {
    const scale = read[0].values[i] - 1
    if (!(scale >= -1 && scale <= 12)) throw corrupt(`scale ${scale} of a window at byte ${reader.at}`)
    windows.scales[rows[i]] = scale
  }
  const { ulps } = scratch
  for (let c = 0; c < columns.length; c++) {
    const [name, expect] = columns[c]
    const { kind, values } = read[c + 1]
    const out = windows[name]
    if (kind === Kind.residuals) throw corrupt(`unknown kind ${kind} of a column at byte ${reader.at}`)
    for (let i = 0; i < count; i++) {
      out[rows[i]] = kind === Kind.doubles ? values[i] : kind === Kind.zeros ? expect(windows, rows[i]) : ulps.at(expect(windows, rows[i]), values[i])
    }
  }
}
