/**
 * Folds the points of one number series into windows, in one pass in order of time, whatever the cuts of the chunks. Every
 * point is counted twice, as an integer of the window's scale (exact.ts) and as a double, because only the whole window tells
 * which of the two holds.
 */
import { powersOfTen } from '../columns/sequence.js'
import { exactArea, exactSquares, exactSum, inexact, integerMax, integerOf, m2Of, movedSquares, pivotOf, placesOf, rounder } from './exact.js'
import { GrowingRows } from './growing.js'
import type { NumberWindows } from './windows.js'

const columnCount = 13
const At = { start: 0, count: 1, firstTs: 2, lastTs: 3, sum: 4, min: 5, max: 6, first: 7, last: 8, m2: 9, increase: 10, area: 11, scale: 12 } as const

export class NumberFold {
  readonly #metric: string
  readonly #widthUs: number
  readonly #offsetUs: number
  readonly #rows = new GrowingRows(columnCount)
  /** End of the open window, µs; -Infinity where none is open. */
  #end = -Infinity
  #start = 0
  #count = 0
  #firstTs = 0
  #lastTs = 0
  #first = 0
  #last = 0
  #min = 0
  #max = 0
  // Plain doubles; distances and squares from the first value, which is one of the points, so that what cancels stays small.
  #sum = 0
  #distance = 0
  #squares = 0
  #increase = 0
  #area = 0
  // Integers at `scale`; -1 once a value was no decimal.
  #scale = 0
  #firstInteger = 0
  #lastInteger = 0
  #integerDistance = 0
  #integerSquares = 0
  #integerIncrease = 0
  #integerArea = 0

  constructor (metric: string, widthUs: number, offsetUs: number) {
    this.#metric = metric
    this.#widthUs = widthUs
    this.#offsetUs = offsetUs
  }

  /** Values with their times, ascending, after those of the call before. */
  add (times: Float64Array, values: Float64Array): void {
    const { length } = values
    let from = 0
    while (from < length) {
      if (!(times[from] < this.#end)) this.#open(times[from], values[from])
      let to = from + 1
      const end = this.#end
      while (to < length && times[to] < end) to++
      this.#addRun(times, values, from, to)
      from = to
    }
  }

  #open (time: number, value: number): void {
    this.#close()
    this.#start = Math.floor((time - this.#offsetUs) / this.#widthUs) * this.#widthUs + this.#offsetUs
    this.#end = this.#start + this.#widthUs
    this.#count = 0
    this.#firstTs = this.#lastTs = time
    this.#first = this.#last = value
    this.#min = Infinity
    this.#max = -Infinity
    this.#sum = this.#distance = this.#squares = this.#increase = this.#area = 0
    this.#scale = placesOf(value, 0)
    this.#firstInteger = this.#lastInteger = this.#scale < 0 ? 0 : integerOf(value, powersOfTen[this.#scale])
    this.#integerDistance = this.#integerSquares = this.#integerIncrease = this.#integerArea = 0
  }

  /** Points of the open window. The first point of a window adds no step: it is its own predecessor, at no distance in time. */
  #addRun (times: Float64Array, values: Float64Array, from: number, to: number): void {
    const first = this.#first
    let min = this.#min
    let max = this.#max
    let sum = this.#sum
    let distance = this.#distance
    let squares = this.#squares
    let increase = this.#increase
    let area = this.#area
    let last = this.#last
    let lastTs = this.#lastTs
    let at = from
    if (this.#count === 0 && from < to) {
      // Infinity - Infinity is no distance.
      const value = values[from]
      if (value < min) min = value
      if (value > max) max = value
      sum = value
      at++
    }
    const exactTo = this.#addIntegers(times, values, at, to)
    if (exactTo < to) this.#scale = inexact
    for (; at < to; at++) {
      const value = values[at]
      const time = times[at]
      if (value < min) min = value
      if (value > max) max = value
      sum += value
      const step = value - first
      distance += step
      squares += step * step
      increase += value < last ? value : value - last
      area += last * (time - lastTs)
      last = value
      lastTs = time
    }
    this.#count += to - from
    this.#min = min
    this.#max = max
    this.#sum = sum
    this.#distance = distance
    this.#squares = squares
    this.#increase = increase
    this.#area = area
    this.#last = last
    this.#lastTs = lastTs
  }

  /** The same in integers; returns the first place that holds no decimal. */
  #addIntegers (times: Float64Array, values: Float64Array, from: number, to: number): number {
    if (this.#scale < 0) return from
    let at = from
    let lastTs = this.#lastTs
    while (at < to) {
      const stopped = this.#addAtScale(times, values, lastTs, at, to)
      if (stopped === to) return to
      if (stopped > at) lastTs = times[stopped - 1]
      const places = placesOf(values[stopped], this.#scale + 1)
      if (places < 0) return stopped
      this.#rescale(places)
      at = stopped
    }
    return to
  }

  #addAtScale (times: Float64Array, values: Float64Array, lastTs: number, from: number, to: number): number {
    const power = powersOfTen[this.#scale]
    const first = this.#firstInteger
    let last = this.#lastInteger
    let distance = this.#integerDistance
    let squares = this.#integerSquares
    let increase = this.#integerIncrease
    let area = this.#integerArea
    let at = from
    for (; at < to; at++) {
      const value = values[at]
      const time = times[at]
      const integer = (value * power + rounder) - rounder
      if (integer / power !== value || integer >= integerMax || integer <= -integerMax) break
      const step = integer - first
      distance += step
      squares += step * step
      increase += integer < last ? integer : integer - last
      area += last * (time - lastTs)
      last = integer
      lastTs = time
    }
    this.#lastInteger = last
    this.#integerDistance = distance
    this.#integerSquares = squares
    this.#integerIncrease = increase
    this.#integerArea = area
    return at
  }

  #rescale (places: number): void {
    const factor = powersOfTen[places - this.#scale]
    this.#scale = places
    this.#firstInteger *= factor
    this.#lastInteger *= factor
    this.#integerDistance *= factor
    this.#integerSquares *= factor * factor
    this.#integerIncrease *= factor
    this.#integerArea *= factor
  }

  #close (): void {
    if (this.#count === 0) return
    const rows = this.#rows
    const row = rows.row()
    const { columns } = rows
    const count = this.#count
    columns[At.start][row] = this.#start
    columns[At.count][row] = count
    columns[At.firstTs][row] = this.#firstTs
    columns[At.lastTs][row] = this.#lastTs
    columns[At.first][row] = this.#first
    columns[At.last][row] = this.#last
    // Nothing but NaN.
    const empty = this.#min > this.#max
    columns[At.min][row] = empty ? NaN : this.#min
    columns[At.max][row] = empty ? NaN : this.#max
    columns[At.sum][row] = this.#sum
    columns[At.m2][row] = this.#plainM2()
    columns[At.increase][row] = this.#increase
    columns[At.area][row] = this.#area
    columns[At.scale][row] = inexact
    if (this.#scale >= 0) this.#closeExact(columns, row)
    this.#count = 0
  }

  #plainM2 (): number {
    if (this.#sum !== this.#sum || !Number.isFinite(this.#min) || !Number.isFinite(this.#max)) return NaN
    const m2 = this.#squares - this.#distance * (this.#distance / this.#count)
    // Squares that overflow make Infinity - Infinity.
    return m2 !== m2 ? Infinity : Math.max(0, m2)
  }

  #closeExact (columns: readonly Float64Array[], row: number): void {
    const count = this.#count
    const power = powersOfTen[this.#scale]
    const min = integerOf(this.#min, power)
    const max = integerOf(this.#max, power)
    const most = Math.max(Math.abs(min), Math.abs(max))
    if (!exactSum(count, most)) return
    const sum = count * this.#firstInteger + this.#integerDistance
    columns[At.scale][row] = this.#scale
    columns[At.sum][row] = sum / power
    columns[At.increase][row] = this.#integerIncrease / power
    if (exactArea(most, this.#lastTs - this.#firstTs)) columns[At.area][row] = this.#integerArea / power
    if (!exactSquares(count, max - min)) return
    const squares = movedSquares(this.#integerSquares, count, sum, this.#firstInteger, pivotOf(sum, count))
    columns[At.m2][row] = m2Of(squares, count, sum, power)
  }

  finish (): NumberWindows {
    this.#close()
    const rows = this.#rows
    return {
      metric: this.#metric, type: 'number',
      starts: rows.take(At.start), counts: rows.take(At.count), firstTs: rows.take(At.firstTs), lastTs: rows.take(At.lastTs),
      sums: rows.take(At.sum), mins: rows.take(At.min), maxs: rows.take(At.max), firsts: rows.take(At.first), lasts: rows.take(At.last),
      m2s: rows.take(At.m2), increases: rows.take(At.increase), areas: rows.take(At.area), scales: Int8Array.from(rows.take(At.scale))
    }
  }
}
