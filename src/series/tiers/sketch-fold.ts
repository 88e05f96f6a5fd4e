/** Raw points to quantile sketches of windows, and sketches joined. Numbers only. */
import { TwinfoldError } from '../../core/errors.js'
import type { Chunk } from '../../core/reading.js'
import { journalColumnName } from '../merge.js'
import { Sketch } from './sketch.js'

export interface SeriesSketches {
  readonly metric: string
  /** µs, ascending. */
  readonly starts: Float64Array
  readonly sketches: readonly Sketch[]
}

/** Ascending by metric. */
export type SketchWindows = readonly SeriesSketches[]

interface Open { readonly starts: number[], readonly sketches: Sketch[], end: number }

const byMetric = (a: SeriesSketches, b: SeriesSketches): number => a.metric < b.metric ? -1 : a.metric > b.metric ? 1 : 0

export class SketchFolder {
  readonly #widthUs: number
  readonly #byMetric = new Map<string, Open>()
  #lastTs = -Infinity

  /** @param widthUs µs, an integer above 0. */
  constructor (widthUs: number) {
    if (!(Number.isSafeInteger(widthUs) && widthUs > 0)) throw new TwinfoldError('internal', `sketches of ${widthUs} µs`)
    this.#widthUs = widthUs
  }

  /** A merged chunk none of whose rows is older than one of the chunks before. Throws `internal` where one is. */
  add (chunk: Chunk): void {
    const { ts, columns } = chunk
    if (ts.length === 0) return
    if (ts[0] < this.#lastTs) throw new TwinfoldError('internal', `a chunk from ${ts[0]} µs after points of ${this.#lastTs} µs`)
    this.#lastTs = ts[ts.length - 1]
    for (const { metric, type, rows, values } of columns) {
      if (type !== 'number' || metric === journalColumnName || values.length === 0) continue
      let open = this.#byMetric.get(metric)
      if (open === undefined) this.#byMetric.set(metric, open = { starts: [], sketches: [], end: -Infinity })
      this.#addColumn(open, ts, rows, values)
    }
  }

  #addColumn (open: Open, ts: Float64Array, rows: Uint32Array | null, values: Float64Array): void {
    let sketch = open.sketches[open.sketches.length - 1] as Sketch | undefined
    for (let i = 0; i < values.length; i++) {
      const time = rows === null ? ts[i] : ts[rows[i]]
      if (sketch === undefined || time >= open.end) {
        const start = Math.floor(time / this.#widthUs) * this.#widthUs
        open.end = start + this.#widthUs
        open.starts.push(start)
        open.sketches.push(sketch = new Sketch())
      }
      sketch.add(values[i])
    }
  }

  /** All sketches; the folder is not used afterwards. */
  finish (): SketchWindows {
    return [...this.#byMetric].map(([metric, { starts, sketches }]) => ({ metric, starts: Float64Array.from(starts), sketches })).sort(byMetric)
  }
}

/** Sketches of several parts whose points are disjoint: those of equal start are merged. Exactly the sketch of all points. */
export function joinSketches (parts: readonly SketchWindows[]): SketchWindows {
  const byName = new Map<string, SeriesSketches[]>()
  for (const part of parts) {
    for (const series of part) {
      const list = byName.get(series.metric)
      if (list === undefined) byName.set(series.metric, [series])
      else list.push(series)
    }
  }
  return [...byName.values()].flatMap(list => list.length === 1 ? list : inOrder(list) ? concatenated(list) : regroup(list, start => start)).sort(byMetric)
}

/** Does each part begin behind the one before? */
function inOrder (parts: SketchWindows): boolean {
  let last = -Infinity
  for (const { starts } of parts) {
    if (starts.length === 0) continue
    if (starts[0] <= last) return false
    last = starts[starts.length - 1]
  }
  return true
}

function concatenated (parts: SketchWindows): SeriesSketches {
  const starts = new Float64Array(parts.reduce((sum, part) => sum + part.starts.length, 0))
  let at = 0
  for (const part of parts) {
    starts.set(part.starts, at)
    at += part.starts.length
  }
  return { metric: parts[0].metric, starts, sketches: parts.flatMap(({ sketches }) => sketches) }
}

/** To windows of `widthUs`, a multiple of their width, that begin at multiples of it plus `offsetUs`. Exactly the sketch of all points. */
export function foldSketches (windows: SketchWindows, widthUs: number, options: { readonly offsetUs?: number } = {}): SketchWindows {
  const offsetUs = options.offsetUs ?? 0
  return regroup(windows, start => Math.floor((start - offsetUs) / widthUs) * widthUs + offsetUs)
}

function regroup (windows: SketchWindows, startOf: (start: number) => number): SketchWindows {
  const metrics = new Map<string, Map<number, Sketch[]>>()
  for (const { metric, starts, sketches } of windows) {
    let byStart = metrics.get(metric)
    if (byStart === undefined) metrics.set(metric, byStart = new Map())
    for (let i = 0; i < starts.length; i++) {
      const start = startOf(starts[i])
      const list = byStart.get(start)
      if (list === undefined) byStart.set(start, [sketches[i]])
      else list.push(sketches[i])
    }
  }
  return [...metrics].map(([metric, byStart]) => {
    const ordered = [...byStart].sort((a, b) => a[0] - b[0])
    return { metric, starts: Float64Array.from(ordered, ([start]) => start), sketches: ordered.map(([, list]) => merged(list)) }
  }).sort(byMetric)
}

function merged (list: readonly Sketch[]): Sketch {
  if (list.length === 1) return list[0]
  const all = new Sketch()
  for (const sketch of list) all.merge(sketch)
  return all
}
