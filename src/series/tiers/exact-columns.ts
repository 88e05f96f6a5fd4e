/**
 * Windows of exact decimals as integers at the series' scale, predicted from one another. A window that does not come back bit for bit from its
 * integers (a -0, an integer too large at the series' scale) does not fit and is stored as doubles.
 */
import type { ByteReader } from '../columns/bytes.js'
import { corrupt } from '../columns/bounds.js'
import { powersOfTen, type DecodeState } from '../columns/sequence.js'
import { integerMax, integerOf, m2Of, squaresOf } from './exact.js'
import { ColumnsWriter, Kind, mapRows } from './integer-columns.js'
import type { NumberScratch } from './number-columns.js'
import { expectedArea } from './plain-columns.js'
import { Ulps } from './ulps.js'
import type { NumberWindows } from './windows.js'

const columnCount = 10

/** Places that could be spared by all of five integers; the window's own scale is nearly always the series' scale less these. */
function sparePlaces (scale: number, first: number, last: number, min: number, max: number, sum: number): number {
  let spare = 0
  while (spare < scale) {
    const unit = powersOfTen[spare + 1]
    if (first % unit !== 0 || last % unit !== 0 || min % unit !== 0 || max % unit !== 0 || sum % unit !== 0) break
    spare++
  }
  return spare
}

/** What the sum would be on the level of the four values. */
const sumGuess = (count: number, first: number, last: number, min: number, max: number): number => Math.round(count * (first + last + min + max) / 4)

/** Squares of a spread between those of noise and of a walk. */
const squaresGuess = (count: number, range: number): number => Math.round(count * range * range / 14)

/** The integral over points of even spacing. */
const areaGuess = (count: number, spanUs: number, sum: number, last: number): number => count > 1 ? Math.round((sum - last) * (spanUs / (count - 1))) : 0

/** How often the value fell: every fall adds the value before it to what first and last say about the increase. */
const fallsGuess = (count: number, fallen: number, level: number): number => level === 0 ? 0 : Math.min(count, Math.max(0, Math.round(fallen / level)))

export class ExactColumns {
  readonly #windows: NumberWindows
  readonly #scale: number
  readonly #power: number

  constructor (windows: NumberWindows, scale: number) {
    this.#windows = windows
    this.#scale = scale
    this.#power = powersOfTen[scale]
  }

  /** Do all but m2 and area come back from their integers? */
  fits (row: number): boolean {
    const windows = this.#windows
    if (windows.scales[row] < 0) return false
    const power = this.#power
    return comesBack(windows.firsts[row], power) && comesBack(windows.lasts[row], power) && comesBack(windows.mins[row], power) && comesBack(windows.maxs[row], power) &&
      comesBack(windows.sums[row], power) && comesBack(windows.increases[row], power) && Number.isSafeInteger(windows.counts[row])
  }

  /** The columns of the rows that fit; null where they cannot be packed. */
  plan (rows: readonly number[]): ColumnsWriter | null {
    const w = this.#windows
    const power = this.#power
    const integers = (values: Float64Array): Float64Array => mapRows(rows, row => integerOf(values[row], power))
    const firsts = integers(w.firsts)
    const lasts = integers(w.lasts)
    const mins = integers(w.mins)
    const maxs = integers(w.maxs)
    const sums = integers(w.sums)
    const counts = mapRows(rows, row => w.counts[row])
    const out = new ColumnsWriter()
    const fallen = mapRows(integers(w.increases), (increase, i) => increase - (lasts[i] - firsts[i]))
    const levels = mapRows(sums, (sum, i) => Math.round(sum / counts[i]))
    const falls = mapRows(fallen, (own, i) => fallsGuess(counts[i], own, levels[i]))
    const packed = out.integers(mapRows(firsts, (first, i) => i === 0 ? first : first - lasts[i - 1]), firsts) &&
      out.integers(mapRows(lasts, (last, i) => last - firsts[i]), lasts) &&
      out.integers(mapRows(mins, (min, i) => Math.min(firsts[i], lasts[i]) - min), mins) &&
      out.integers(mapRows(maxs, (max, i) => max - Math.max(firsts[i], lasts[i])), maxs) &&
      out.integers(mapRows(sums, (sum, i) => sum - sumGuess(counts[i], firsts[i], lasts[i], mins[i], maxs[i])), sums)
    if (!packed) return null
    this.#planSquares(out, rows, counts)
    if (!out.integers(falls) || !out.integers(mapRows(fallen, (own, i) => own - falls[i] * levels[i]), null)) return null
    this.#planAreas(out, rows, sums, lasts)
    return out.integers(mapRows(rows, (row, i) => sparePlaces(this.#scale, firsts[i], lasts[i], mins[i], maxs[i], sums[i]) - (this.#scale - w.scales[row]))) ? out : null
  }

  /** Squares are counted at the window's own scale, as they were made. */
  #planSquares (out: ColumnsWriter, rows: readonly number[], counts: Float64Array): void {
    const w = this.#windows
    const squares = new Float64Array(rows.length)
    const left = new Float64Array(rows.length)
    for (let i = 0; i < rows.length; i++) {
      const row = rows[i]
      const power = powersOfTen[w.scales[row]]
      const sum = integerOf(w.sums[row], power)
      squares[i] = squaresOf(w.m2s[row], counts[i], sum, power)
      if (!(Math.abs(squares[i]) < integerMax) || !Object.is(m2Of(squares[i], counts[i], sum, power), w.m2s[row])) {
        out.doubles(mapRows(rows, other => w.m2s[other]))
        return
      }
      left[i] = squares[i] - squaresGuess(counts[i], integerOf(w.maxs[row], power) - integerOf(w.mins[row], power))
    }
    if (!out.integers(left, squares)) out.doubles(mapRows(rows, row => w.m2s[row]))
  }

  /** An integral that is too large to be exact is off by roundings from what evenly spaced points make. */
  #planAreas (out: ColumnsWriter, rows: readonly number[], sums: Float64Array, lasts: Float64Array): void {
    const w = this.#windows
    const areas = mapRows(rows, row => w.areas[row])
    const left = mapRows(areas, (area, i) => integerOf(area, this.#power) - areaGuess(w.counts[rows[i]], w.lastTs[rows[i]] - w.firstTs[rows[i]], sums[i], lasts[i]))
    if (areas.every(area => comesBack(area, this.#power)) && out.integers(left)) return
    out.doubles(areas, new Ulps().distances(areas, i => expectedArea(w, rows[i])))
  }
}

function comesBack (value: number, power: number): boolean {
  const integer = integerOf(value, power)
  return Math.abs(integer) < integerMax && Object.is(integer / power, value)
}

export function readExact (reader: ByteReader, windows: NumberWindows, rows: Int32Array, rowCount: number, scale: number, scratch: NumberScratch, state: DecodeState): void {
  const read = scratch.columns.read(reader, columnCount, rowCount, state)
  const [firsts, lasts, mins, maxs, sums, squares, falls, fallen, areas, scales] = read
  for (let i = 0; i < columnCount; i++) {
    if (read[i].kind === Kind.doubles && i !== 5 && i !== 8) throw corrupt(`doubles where integers belong at byte ${reader.at}`)
  }
  const power = powersOfTen[scale]
  const { ulps } = scratch
  let last = 0
  for (let i = 0; i < rowCount; i++) {
    const row = rows[i]
    const count = windows.counts[row]
    const first = firsts.values[i] + (firsts.kind === Kind.integers ? 0 : last)
    last = lasts.values[i] + (lasts.kind === Kind.integers ? 0 : first)
    const min = mins.kind === Kind.integers ? mins.values[i] : Math.min(first, last) - mins.values[i]
    const max = maxs.kind === Kind.integers ? maxs.values[i] : Math.max(first, last) + maxs.values[i]
    const sum = sums.values[i] + (sums.kind === Kind.integers ? 0 : sumGuess(count, first, last, min, max))
    const own = scale - sparePlaces(scale, first, last, min, max, sum) + scales.values[i]
    if (!(own >= 0 && own <= scale)) throw corrupt(`scale ${own} of a window at byte ${reader.at}`)
    windows.firsts[row] = first / power
    windows.lasts[row] = last / power
    windows.mins[row] = min / power
    windows.maxs[row] = max / power
    windows.sums[row] = sum / power
    windows.scales[row] = own
    windows.increases[row] = (fallen.values[i] + falls.values[i] * Math.round(sum / count) + (last - first)) / power
    windows.areas[row] = areas.kind === Kind.doubles ? areas.values[i]
      : areas.kind === Kind.integers ? ulps.at(expectedArea(windows, row), areas.values[i])
        : (areas.values[i] + areaGuess(count, windows.lastTs[row] - windows.firstTs[row], sum, last)) / power
    windows.m2s[row] = squares.kind === Kind.doubles ? squares.values[i] : readM2(squares.kind, squares.values[i], windows, row, own)
  }
}

function readM2 (kind: number, stored: number, windows: NumberWindows, row: number, scale: number): number {
  const power = powersOfTen[scale]
  const count = windows.counts[row]
  const squares = kind === Kind.integers ? stored : stored + squaresGuess(count, integerOf(windows.maxs[row], power) - integerOf(windows.mins[row], power))
  return m2Of(squares, count, integerOf(windows.sums[row], power), power)
}
