/** Quantiles from raw points, exactly: the values of one window at a time are held and sorted. NaNs have no rank and are left out. */
import type { Chunk } from '../core/reading.js'
import { nearestRank } from '../series/tiers/index.js'

/** By metric: number of the window, and its quantiles in the order asked for. */
export type QuantileRows = Map<string, { readonly index: number[], readonly values: number[][] }>

/** The value at the nearest rank, which is also what sketches come near to. */
export function quantileOf (sorted: Float64Array, q: number): number {
  return sorted[nearestRank(q, sorted.length) - 1]
}

class Collector {
  #values = new Float64Array(256)
  #count = 0
  window = -1

  add (value: number): void {
    if (this.#count === this.#values.length) {
      const grown = new Float64Array(this.#count * 2)
      grown.set(this.#values)
      this.#values = grown
    }
    this.#values[this.#count++] = value
  }

  take (): Float64Array {
    const sorted = this.#values.subarray(0, this.#count).sort()
    this.#count = 0
    return sorted
  }
}

/** Chunks in order of time, in any cuts. Memory: the values of one window of every metric. */
export class ExactQuantiles {
  readonly #borders: Float64Array
  readonly #qs: (metric: string) => readonly number[]
  readonly #collectors = new Map<string, Collector>()
  readonly #rows: QuantileRows = new Map()

  constructor (borders: Float64Array, qs: (metric: string) => readonly number[]) {
    this.#borders = borders
    this.#qs = qs
  }

  add (chunk: Chunk): void {
    for (const { metric, type, rows, values } of chunk.columns) {
      if (type !== 'number' || this.#qs(metric).length === 0) continue
      let collector = this.#collectors.get(metric)
      if (collector === undefined) this.#collectors.set(metric, collector = new Collector())
      for (let i = 0; i < values.length; i++) {
        const ts = chunk.ts[rows === null ? i : rows[i]]
        let { window } = collector
        if (window < 0 || ts >= this.#borders[window + 1]) {
          this.#close(metric, collector)
          window = Math.max(0, window)
          while (ts >= this.#borders[window + 1]) window++
          collector.window = window
        }
        if (!Number.isNaN(values[i])) collector.add(values[i])
      }
    }
  }

  finish (): QuantileRows {
    for (const [metric, collector] of this.#collectors) this.#close(metric, collector)
    return this.#rows
  }

  #close (metric: string, collector: Collector): void {
    if (collector.window < 0) return
    const sorted = collector.take()
    if (sorted.length === 0) return
    let rows = this.#rows.get(metric)
    if (rows === undefined) this.#rows.set(metric, rows = { index: [], values: [] })
    rows.index.push(collector.window)
    rows.values.push(this.#qs(metric).map(q => quantileOf(sorted, q)))
  }
}
