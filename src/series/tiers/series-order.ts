/** The order of series in `TierWindows` and in rows: by metric (UTF-16 units), then type. */
import type { ValueType } from '../../core/reading.js'

interface SeriesKey { readonly metric: string, readonly type: ValueType }

export function compareSeries (a: SeriesKey, b: SeriesKey): number {
  if (a.metric !== b.metric) return a.metric < b.metric ? -1 : 1
  return a.type < b.type ? -1 : a.type > b.type ? 1 : 0
}
