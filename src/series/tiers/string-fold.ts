/** Folds the points of one string series into windows, in one pass in order of time. */
import { GrowingRows } from './growing.js'
import { boundedStates } from './states.js'
import type { StringWindows } from './windows.js'

const At = { start: 0, count: 1, firstTs: 2, lastTs: 3, changes: 4 } as const

export class StringFold {
  readonly #metric: string
  readonly #widthUs: number
  readonly #offsetUs: number
  readonly #rows = new GrowingRows(5)
  readonly #firsts: string[] = []
  readonly #lasts: string[] = []
  readonly #states: ReadonlyMap<string, number>[] = []
  /** Row, end and times of the open window. */
  #row = -1
  #end = -Infinity
  #held = new Map<string, number>()

  constructor (metric: string, widthUs: number, offsetUs: number) {
    this.#metric = metric
    this.#widthUs = widthUs
    this.#offsetUs = offsetUs
  }

  /** Values with their times, ascending, after those of the call before. */
  add (times: Float64Array, values: readonly string[]): void {
    for (let at = 0; at < values.length; at++) {
      if (times[at] < this.#end) this.#addPoint(times[at], values[at])
      else this.#open(times[at], values[at])
    }
  }

  #open (time: number, value: string): void {
    this.#close()
    const row = this.#row = this.#rows.row()
    const { columns } = this.#rows
    const start = Math.floor((time - this.#offsetUs) / this.#widthUs) * this.#widthUs + this.#offsetUs
    this.#end = start + this.#widthUs
    columns[At.start][row] = start
    columns[At.count][row] = 1
    columns[At.firstTs][row] = columns[At.lastTs][row] = time
    this.#firsts.push(value)
    this.#lasts.push(value)
  }

  #addPoint (time: number, value: string): void {
    const { columns } = this.#rows
    const row = this.#row
    const last = this.#lasts[row]
    const heldUs = time - columns[At.lastTs][row]
    if (heldUs > 0) this.#held.set(last, (this.#held.get(last) ?? 0) + heldUs)
    columns[At.count][row]++
    columns[At.lastTs][row] = time
    if (value === last) return
    columns[At.changes][row]++
    this.#lasts[row] = value
  }

  #close (): void {
    if (this.#row < 0) return
    this.#states.push(boundedStates(this.#held))
    this.#held = new Map()
    this.#row = -1
  }

  finish (): StringWindows {
    this.#close()
    const rows = this.#rows
    return {
      metric: this.#metric, type: 'string',
      starts: rows.take(At.start), counts: rows.take(At.count), firstTs: rows.take(At.firstTs), lastTs: rows.take(At.lastTs),
      firsts: this.#firsts, lasts: this.#lasts, changes: rows.take(At.changes), states: this.#states
    }
  }
}
