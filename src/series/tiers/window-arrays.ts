/** Cuts and joins of the columns of windows, whatever their type. */
import type { SeriesWindows } from './windows.js'

type ColumnOf = Float64Array | Uint8Array | Int8Array | readonly unknown[]

/** Every column of a series, made by `make` from its name and values. */
function mapColumns (series: SeriesWindows, make: (name: keyof SeriesWindows, values: ColumnOf) => ColumnOf): SeriesWindows {
  const out: Record<string, unknown> = { metric: series.metric, type: series.type }
  for (const [name, values] of Object.entries(series)) {
    if (name !== 'metric' && name !== 'type') out[name] = make(name as keyof SeriesWindows, values as ColumnOf)
  }
  return out as unknown as SeriesWindows
}

/** Rows `from` to `to`, as views where the columns are typed arrays. */
export function sliceSeries (series: SeriesWindows, from: number, to: number): SeriesWindows {
  return mapColumns(series, (_, values) => Array.isArray(values) ? values.slice(from, to) : (values as Float64Array).subarray(from, to))
}

/** One series' windows of several parts, ascending by start, then by the time of their first point. */
export function concatWindows (parts: readonly SeriesWindows[]): SeriesWindows {
  const joined = parts.length === 1 ? parts[0] : mapColumns(parts[0], (name, values) => {
    if (Array.isArray(values)) return parts.flatMap(part => part[name] as unknown as unknown[])
    const all = parts.map(part => part[name] as unknown as Float64Array)
    let length = 0
    for (const { length: own } of all) length += own
    const out = new (values.constructor as Float64ArrayConstructor)(length)
    length = 0
    for (const own of all) {
      out.set(own, length)
      length += own.length
    }
    return out
  })
  const { starts, firstTs } = joined
  const before = (a: number, b: number): number => starts[a] - starts[b] || firstTs[a] - firstTs[b] || a - b
  let sorted = true
  for (let i = 1; i < starts.length && sorted; i++) sorted = before(i - 1, i) < 0
  if (sorted) return joined
  const order = Uint32Array.from(starts, (_, i) => i).sort(before)
  return mapColumns(joined, (_, values) => Array.isArray(values)
    ? Array.from(order, at => values[at] as unknown)
    : (values as Float64Array).map((_, i) => (values as Float64Array)[order[i]]))
}
