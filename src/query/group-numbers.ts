/**
 * Windows of a number series gathered into the windows of an answer. Pure. What happens between the last point of one window and the
 * first of the next belongs to the window of the later point (increases) or is split at the border (areas).
 */
import type { NumberWindows } from '../series/tiers/windows.js'

/** The last point of a series before a range. */
export interface PointBefore<V> { readonly ts: number, readonly value: V }

/** One entry of every array a window that has points. */
export interface NumberGroups {
  readonly length: number
  /** Number of the window in the answer's borders, ascending. */
  readonly index: Int32Array
  readonly counts: Float64Array
  readonly sums: Float64Array
  readonly mins: Float64Array
  readonly maxs: Float64Array
  readonly firsts: Float64Array
  readonly lasts: Float64Array
  readonly m2s: Float64Array
  /** What the counter grew by since the point before the window, or the window's first where there is none. */
  readonly deltas: Float64Array
  /** µs from that point to the window's last one. */
  readonly deltaUs: Float64Array
  /** Integral, values held until the next point, from the window's begin (or the series' first point) to its end (or now). */
  readonly areas: Float64Array
  /** µs that the integral goes over. */
  readonly areaUs: Float64Array
}

/** As folds count it: after a fall the new value counts whole. */
const rise = (from: number, to: number): number => to < from ? to : to - from
/** NaNs are passed over where there is another value. */
const lesser = (a: number, b: number): number => b < a || Number.isNaN(a) ? b : a
const greater = (a: number, b: number): number => b > a || Number.isNaN(a) ? b : a

/**
 * @param borders of the answer's windows, µs; every window of the series lies between two neighbours.
 * @param untilTs µs: values are held until then at most.
 */
export function groupNumbers (series: NumberWindows, borders: Float64Array, before: PointBefore<number> | null, untilTs: number): NumberGroups {
  const most = Math.min(series.starts.length, borders.length - 1)
  const column = (): Float64Array => new Float64Array(most)
  const groups = {
    length: 0, index: new Int32Array(most), counts: column(), sums: column(), mins: column(), maxs: column(), firsts: column(), lasts: column(),
    m2s: column(), deltas: column(), deltaUs: column(), areas: column(), areaUs: column()
  }
  let border = 0
  let heldTs = before?.ts ?? NaN
  let held = before?.value ?? NaN
  let at = -1
  const close = (): void => {
    if (at < 0) return
    const end = Math.min(borders[groups.index[at] + 1], untilTs)
    if (end <= heldTs) return
    groups.areas[at] += held * (end - heldTs)
    groups.areaUs[at] += end - heldTs
  }
  for (let i = 0; i < series.starts.length; i++) {
    const start = series.starts[i]
    if (start < borders[0] || start >= borders[borders.length - 1]) continue
    const opens = at < 0 || start >= borders[border + 1]
    if (opens) {
      close()
      while (start >= borders[border + 1]) border++
      at = groups.length++
      groups.index[at] = border
      groups.firsts[at] = series.firsts[i]
    }
    addWindow(groups, at, series, i, opens)
    if (!Number.isNaN(heldTs)) {
      const sinceTs = opens ? Math.max(heldTs, borders[border]) : heldTs
      groups.deltas[at] += rise(held, series.firsts[i])
      groups.deltaUs[at] += series.firstTs[i] - heldTs
      groups.areas[at] += held * (series.firstTs[i] - sinceTs)
      groups.areaUs[at] += series.firstTs[i] - sinceTs
    }
    const innerUs = series.lastTs[i] - series.firstTs[i]
    groups.deltas[at] += series.increases[i]
    groups.deltaUs[at] += innerUs
    groups.areas[at] += series.areas[i]
    groups.areaUs[at] += innerUs
    heldTs = series.lastTs[i]
    held = series.lasts[i]
  }
  close()
  return groups
}

type Filling = Pick<NumberGroups, 'counts' | 'sums' | 'mins' | 'maxs' | 'lasts' | 'm2s'>

function addWindow (groups: Filling, at: number, series: NumberWindows, i: number, opens: boolean): void {
  const { counts, sums, mins, maxs, lasts, m2s } = groups
  const count = series.counts[i]
  if (opens) {
    counts[at] = count
    sums[at] = series.sums[i]
    mins[at] = series.mins[i]
    maxs[at] = series.maxs[i]
    m2s[at] = series.m2s[i]
  } else {
    // Chan, Golub, LeVeque 1979.
    const distance = series.sums[i] / count - sums[at] / counts[at]
    m2s[at] += series.m2s[i] + distance * distance * counts[at] * count / (counts[at] + count)
    counts[at] += count
    sums[at] += series.sums[i]
    mins[at] = lesser(mins[at], series.mins[i])
    maxs[at] = greater(maxs[at], series.maxs[i])
  }
  lasts[at] = series.lasts[i]
}
