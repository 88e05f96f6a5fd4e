/**
 * Windows from windows: folded to a greater width, or joined from several buckets. Of exact decimals (exact.ts) the result is that of
 * a fold of the points themselves, in whatever steps; of other doubles it belongs to the tree, and may differ in the last bits from a fold of
 * the whole. `verify` folds along the tree that made the rows.
 */
import { lowerBound } from '../cut-chunk.js'
import { combineBooleans, combineStrings } from './state-combine.js'
import { combineNumbers } from './number-combine.js'
import { compareSeries } from './series-order.js'
import { concatWindows, sliceSeries } from './window-arrays.js'
import type { SeriesWindows, TierWindows } from './windows.js'

/** To windows of `widthUs`, a multiple of their width; they begin at multiples of it plus `offsetUs`. */
export function foldWindows (windows: TierWindows, widthUs: number, options: { readonly offsetUs?: number } = {}): TierWindows {
  const offsetUs = options.offsetUs ?? 0
  return windows.map(series => regroup(series, series.starts.map(start => Math.floor((start - offsetUs) / widthUs) * widthUs + offsetUs)))
}

/** To windows of any widths: from every bound, ascending, up to the next one. Windows before the first bound are left out, those after the last belong to it. */
export function foldWindowsAt (windows: TierWindows, bounds: readonly number[]): TierWindows {
  if (bounds.length === 0) return []
  return sliceWindows(windows, bounds[0], Infinity).map(series => {
    let at = 0
    return regroup(series, series.starts.map(start => {
      while (at + 1 < bounds.length && bounds[at + 1] <= start) at++
      return bounds[at]
    }))
  })
}

/** Windows of several parts whose points are disjoint in time: those of equal start are joined in order of their points. The parts may be listed in any order. */
export function joinWindows (parts: readonly TierWindows[]): TierWindows {
  if (parts.length === 1) return parts[0]
  const bySeries = new Map<string, SeriesWindows[]>()
  for (const part of parts) {
    for (const series of part) {
      if (series.starts.length === 0) continue
      const key = `${series.type} ${series.metric}`
      const list = bySeries.get(key)
      if (list === undefined) bySeries.set(key, [series])
      else list.push(series)
    }
  }
  return [...bySeries.values()].map(list => list.length === 1 ? list[0] : joinSeries(list)).sort(compareSeries)
}

/** The same of parts of one series, which need not be joined in themselves. */
export function joinSeries (parts: readonly SeriesWindows[]): SeriesWindows {
  const all = concatWindows(parts)
  return regroup(all, all.starts)
}

/** Windows whose start is in [fromTs, toTs); views of the same memory. Series that have none are left out. */
export function sliceWindows (windows: TierWindows, fromTs: number, toTs: number): TierWindows {
  const slices: SeriesWindows[] = []
  for (const series of windows) {
    const from = lowerBound(series.starts, fromTs)
    const to = lowerBound(series.starts, toTs)
    if (from === 0 && to === series.starts.length && to > 0) slices.push(series)
    else if (from < to) slices.push(sliceSeries(series, from, to))
  }
  return slices
}

function ascends (starts: Float64Array): boolean {
  for (let i = 1; i < starts.length; i++) if (!(starts[i] > starts[i - 1])) return false
  return true
}

function regroup (series: SeriesWindows, starts: Float64Array): SeriesWindows {
  if (starts === series.starts && ascends(starts)) return series
  const ends: number[] = []
  let changed = false
  for (let i = 0; i < starts.length; i++) {
    if (starts[i] !== series.starts[i]) changed = true
    if (i + 1 === starts.length || starts[i + 1] !== starts[i]) ends.push(i + 1)
  }
  if (!changed && ends.length === starts.length) return series
  const rows = Int32Array.from(ends)
  if (series.type === 'number') return combineNumbers(series, starts, rows)
  return series.type === 'boolean' ? combineBooleans(series, starts, rows) : combineStrings(series, starts, rows)
}
