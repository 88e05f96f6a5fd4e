/** Quantiles of an answer's windows from sketches of finer ones. */
import { Sketch, type SketchWindows } from '../series/tiers/index.js'
import type { QuantileRows } from './exact-quantiles.js'

/** @param parts sketches of disjoint windows, every one between two neighbouring borders. */
export function sketchQuantiles (parts: readonly SketchWindows[], borders: Float64Array, qsOf: (metric: string) => readonly number[]): QuantileRows {
  const byMetric = new Map<string, Map<number, Sketch | { only: Sketch }>>()
  for (const { metric, starts, sketches } of parts.flat()) {
    if (qsOf(metric).length === 0) continue
    let windows = byMetric.get(metric)
    if (windows === undefined) byMetric.set(metric, windows = new Map())
    addAll(windows, starts, sketches, borders)
  }
  const rows: QuantileRows = new Map()
  for (const [metric, windows] of byMetric) {
    const qs = qsOf(metric)
    const index: number[] = []
    const values: number[][] = []
    for (const [window, held] of [...windows].sort(([a], [b]) => a - b)) {
      const sketch = 'only' in held ? held.only : held
      if (sketch.count === 0) continue
      index.push(window)
      values.push(qs.map(q => sketch.quantile(q)))
    }
    rows.set(metric, { index, values })
  }
  return rows
}

/** One sketch in a window is read as it is; a second one needs a sketch of their own to merge into. */
function addAll (windows: Map<number, Sketch | { only: Sketch }>, starts: Float64Array, sketches: readonly Sketch[], borders: Float64Array): void {
  let window = 0
  for (let i = 0; i < starts.length; i++) {
    if (starts[i] < borders[0] || starts[i] >= borders[borders.length - 1]) continue
    while (starts[i] >= borders[window + 1]) window++
    const held = windows.get(window)
    if (held === undefined) {
      windows.set(window, { only: sketches[i] })
    } else if ('only' in held) {
      const merged = new Sketch()
      merged.merge(held.only)
      merged.merge(sketches[i])
      windows.set(window, merged)
    } else {
      held.merge(sketches[i])
    }
  }
}
