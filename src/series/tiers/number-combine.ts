/**
 * Windows of numbers made of smaller ones: every run of rows that has the same start becomes one window. Exact where the
 * points are (exact.ts), so that neither tree nor order of merges shows; else in order of time, mean and m2 by Chan's
 * pairwise formula (Chan, Golub, LeVeque 1979).
 */
import { powersOfTen } from '../columns/sequence.js'
import { exactArea, exactSquares, exactSum, inexact, integerOf, m2Of, movedSquares, pivotOf, squaresOf } from './exact.js'
import type { NumberWindows } from './windows.js'

type Arrays = { -readonly [K in keyof NumberWindows]: NumberWindows[K] }

export function numberArrays (metric: string, count: number): Arrays {
  const array = (): Float64Array => new Float64Array(count)
  return {
    metric, type: 'number', starts: array(), counts: array(), firstTs: array(), lastTs: array(), sums: array(), mins: array(), maxs: array(),
    firsts: array(), lasts: array(), m2s: array(), increases: array(), areas: array(), scales: new Int8Array(count)
  }
}

/**
 * @param from windows in order of time
 * @param starts start of the window that each of them falls into, ascending
 * @param ends one for every distinct start: the row after its last
 */
export function combineNumbers (from: NumberWindows, starts: Float64Array, ends: Int32Array): NumberWindows {
  const out = numberArrays(from.metric, ends.length)
  let first = 0
  for (let row = 0; row < ends.length; row++) {
    const end = ends[row]
    out.starts[row] = starts[first]
    out.firstTs[row] = from.firstTs[first]
    out.lastTs[row] = from.lastTs[end - 1]
    out.firsts[row] = from.firsts[first]
    out.lasts[row] = from.lasts[end - 1]
    if (end === first + 1) copyRow(from, first, out, row)
    else combineRun(from, first, end, out, row)
    first = end
  }
  return out
}

function copyRow (from: NumberWindows, at: number, out: Arrays, row: number): void {
  out.counts[row] = from.counts[at]
  out.sums[row] = from.sums[at]
  out.mins[row] = from.mins[at]
  out.maxs[row] = from.maxs[at]
  out.m2s[row] = from.m2s[at]
  out.increases[row] = from.increases[at]
  out.areas[row] = from.areas[at]
  out.scales[row] = from.scales[at]
}

function combineRun (from: NumberWindows, first: number, end: number, out: Arrays, row: number): void {
  let count = 0
  let min = NaN
  let max = NaN
  let scale = 0
  for (let i = first; i < end; i++) {
    count += from.counts[i]
    // The first of equal ones stays; NaN only where there is nothing else.
    if (from.mins[i] < min || min !== min) min = from.mins[i]
    if (from.maxs[i] > max || max !== max) max = from.maxs[i]
    const own = from.scales[i]
    scale = own < 0 || scale < 0 ? inexact : Math.max(scale, own)
  }
  out.counts[row] = count
  out.mins[row] = min
  out.maxs[row] = max
  const power = scale < 0 ? 0 : powersOfTen[scale]
  const least = scale < 0 ? 0 : integerOf(min, power)
  const greatest = scale < 0 ? 0 : integerOf(max, power)
  const most = Math.max(Math.abs(least), Math.abs(greatest))
  const exact = scale >= 0 && exactSum(count, most)
  out.scales[row] = exact ? scale : inexact
  if (exact) combineIntegers(from, first, end, power, out, row)
  else combineDoubles(from, first, end, out, row)
  out.areas[row] = exact && exactArea(most, out.lastTs[row] - out.firstTs[row]) ? integerArea(from, first, end, power) : plainArea(from, first, end)
  out.m2s[row] = exact && exactSquares(count, greatest - least) ? integerM2(from, first, end, power) : plainM2(from, first, end)
}

/** What a counter grew by from one value to the next (a fall is a reset). */
const grown = (from: number, to: number): number => to < from ? to : to - from

function combineIntegers (from: NumberWindows, first: number, end: number, power: number, out: Arrays, row: number): void {
  let sum = 0
  let increase = 0
  let last = 0
  for (let i = first; i < end; i++) {
    sum += integerOf(from.sums[i], power)
    increase += integerOf(from.increases[i], power)
    if (i > first) increase += grown(last, integerOf(from.firsts[i], power))
    last = integerOf(from.lasts[i], power)
  }
  out.sums[row] = sum / power
  out.increases[row] = increase / power
}

function combineDoubles (from: NumberWindows, first: number, end: number, out: Arrays, row: number): void {
  let sum = from.sums[first]
  let increase = from.increases[first]
  for (let i = first + 1; i < end; i++) {
    sum += from.sums[i]
    increase += grown(from.lasts[i - 1], from.firsts[i])
    increase += from.increases[i]
  }
  out.sums[row] = sum
  out.increases[row] = increase
}

function integerArea (from: NumberWindows, first: number, end: number, power: number): number {
  let area = 0
  for (let i = first; i < end; i++) {
    if (i > first) area += integerOf(from.lasts[i - 1], power) * (from.firstTs[i] - from.lastTs[i - 1])
    area += integerOf(from.areas[i], power)
  }
  return area / power
}

function plainArea (from: NumberWindows, first: number, end: number): number {
  let area = from.areas[first]
  for (let i = first + 1; i < end; i++) {
    area += from.lasts[i - 1] * (from.firstTs[i] - from.lastTs[i - 1])
    area += from.areas[i]
  }
  return area
}

/** Squares of parts are exact where those of the whole are: parts have fewer points, a narrower range and no more places. */
function integerM2 (from: NumberWindows, first: number, end: number, power: number): number {
  const around = integerOf(from.firsts[first], power)
  let squares = 0
  let sum = 0
  let count = 0
  for (let i = first; i < end; i++) {
    const ownCount = from.counts[i]
    const ownSum = integerOf(from.sums[i], power)
    squares += movedSquares(squaresOf(from.m2s[i], ownCount, ownSum, power), ownCount, ownSum, pivotOf(ownSum, ownCount), around)
    sum += ownSum
    count += ownCount
  }
  return m2Of(movedSquares(squares, count, sum, around, pivotOf(sum, count)), count, sum, power)
}

function plainM2 (from: NumberWindows, first: number, end: number): number {
  let count = from.counts[first]
  let mean = from.sums[first] / count
  let m2 = from.m2s[first]
  for (let i = first + 1; i < end; i++) {
    const ownCount = from.counts[i]
    const distance = from.sums[i] / ownCount - mean
    const all = count + ownCount
    mean += distance * (ownCount / all)
    m2 += from.m2s[i] + distance * distance * (count * ownCount / all)
    count = all
  }
  return m2
}
