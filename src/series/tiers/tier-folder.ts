/**
 * Raw points to windows. Chunks come as `mergeChunks` yields them, ascending, in any cuts: the windows depend on the points alone. Memory:
 * the windows made, and one open window a series.
 */
import { TwinfoldError } from '../../core/errors.js'
import type { Chunk, Column } from '../../core/reading.js'
import { journalColumnName } from '../merge.js'
import { BooleanFold } from './boolean-fold.js'
import { compareSeries } from './series-order.js'
import { NumberFold } from './number-fold.js'
import { StringFold } from './string-fold.js'
import type { SeriesWindows, TierWindows } from './windows.js'

export interface FolderOptions {
  /** Windows begin at multiples of the width plus this, µs; 0 by default. */
  readonly offsetUs?: number
}

type Fold = NumberFold | BooleanFold | StringFold

export class TierFolder {
  readonly #widthUs: number
  readonly #offsetUs: number
  readonly #folds = new Map<string, Fold>()
  #lastTs = -Infinity

  /** @param widthUs µs, an integer above 0. */
  constructor (widthUs: number, options: FolderOptions = {}) {
    if (!(Number.isSafeInteger(widthUs) && widthUs > 0)) throw new TwinfoldError('internal', `windows of ${widthUs} µs`)
    this.#widthUs = widthUs
    this.#offsetUs = options.offsetUs ?? 0
  }

  /** A merged chunk none of whose rows is older than one of the chunks before. Throws `internal` where one is. */
  add (chunk: Chunk): void {
    const { ts, columns } = chunk
    if (ts.length === 0) return
    if (ts[0] < this.#lastTs) throw new TwinfoldError('internal', `a chunk from ${ts[0]} µs after points of ${this.#lastTs} µs`)
    this.#lastTs = ts[ts.length - 1]
    for (const column of columns) {
      if (column.metric === journalColumnName || column.values.length === 0) continue
      this.#addColumn(column, column.rows === null ? ts : timesOf(ts, column.rows))
    }
  }

  #addColumn (column: Column, times: Float64Array): void {
    const key = `${column.type} ${column.metric}`
    let fold = this.#folds.get(key)
    if (fold === undefined) this.#folds.set(key, fold = this.#foldOf(column))
    if (column.type === 'number') (fold as NumberFold).add(times, column.values)
    else if (column.type === 'boolean') (fold as BooleanFold).add(times, column.values)
    else (fold as StringFold).add(times, column.values)
  }

  #foldOf ({ metric, type }: Column): Fold {
    if (type === 'number') return new NumberFold(metric, this.#widthUs, this.#offsetUs)
    return type === 'boolean' ? new BooleanFold(metric, this.#widthUs, this.#offsetUs) : new StringFold(metric, this.#widthUs, this.#offsetUs)
  }

  /** All windows; the folder is not used afterwards. */
  finish (): TierWindows {
    return [...this.#folds.values()].map((fold): SeriesWindows => fold.finish()).sort(compareSeries)
  }
}

function timesOf (ts: Float64Array, rows: Uint32Array): Float64Array {
  const times = new Float64Array(rows.length)
  for (let i = 0; i < rows.length; i++) times[i] = ts[rows[i]]
  return times
}
