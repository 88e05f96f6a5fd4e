/** Folds the points of one boolean series into windows, in one pass in order of time. */
import { GrowingRows } from './growing.js'
import type { BooleanWindows } from './windows.js'

const At = { start: 0, count: 1, firstTs: 2, lastTs: 3, first: 4, last: 5, trues: 6, changes: 7, trueUs: 8 } as const

export class BooleanFold {
  readonly #metric: string
  readonly #widthUs: number
  readonly #offsetUs: number
  readonly #rows = new GrowingRows(9)
  /** Row and end of the open window. */
  #row = -1
  #end = -Infinity

  constructor (metric: string, widthUs: number, offsetUs: number) {
    this.#metric = metric
    this.#widthUs = widthUs
    this.#offsetUs = offsetUs
  }

  /** Values with their times, ascending, after those of the call before. */
  add (times: Float64Array, values: Uint8Array): void {
    for (let from = 0; from < values.length;) {
      if (!(times[from] < this.#end)) this.#open(times[from], values[from])
      from = this.#addRun(times, values, from)
    }
  }

  #open (time: number, value: number): void {
    const row = this.#row = this.#rows.row()
    const { columns } = this.#rows
    const start = Math.floor((time - this.#offsetUs) / this.#widthUs) * this.#widthUs + this.#offsetUs
    this.#end = start + this.#widthUs
    columns[At.start][row] = start
    columns[At.firstTs][row] = columns[At.lastTs][row] = time
    columns[At.first][row] = columns[At.last][row] = value === 0 ? 0 : 1
  }

  #addRun (times: Float64Array, values: Uint8Array, from: number): number {
    const { columns } = this.#rows
    const row = this.#row
    let last = columns[At.last][row]
    let lastTs = columns[At.lastTs][row]
    let trues = 0
    let changes = 0
    let trueUs = 0
    let at = from
    for (; at < values.length && times[at] < this.#end; at++) {
      const value = values[at] === 0 ? 0 : 1
      trues += value
      changes += value ^ last
      if (last === 1) trueUs += times[at] - lastTs
      last = value
      lastTs = times[at]
    }
    columns[At.count][row] += at - from
    columns[At.trues][row] += trues
    columns[At.changes][row] += changes
    columns[At.trueUs][row] += trueUs
    columns[At.last][row] = last
    columns[At.lastTs][row] = lastTs
    return at
  }

  finish (): BooleanWindows {
    const rows = this.#rows
    return {
      metric: this.#metric, type: 'boolean',
      starts: rows.take(At.start), counts: rows.take(At.count), firstTs: rows.take(At.firstTs), lastTs: rows.take(At.lastTs),
      firsts: Uint8Array.from(rows.take(At.first)), lasts: Uint8Array.from(rows.take(At.last)),
      trues: rows.take(At.trues), changes: rows.take(At.changes), trueUs: rows.take(At.trueUs)
    }
  }
}
