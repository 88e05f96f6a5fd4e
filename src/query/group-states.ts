/** Windows of boolean and string series gathered into the windows of an answer. Pure; borders and what is held as in group-numbers.ts. */
import type { BooleanWindows, StringWindows } from '../series/tiers/windows.js'
import type { PointBefore } from './group-numbers.js'

export interface StateGroups<V> {
  readonly length: number
  readonly index: Int32Array
  readonly counts: Float64Array
  readonly firsts: readonly V[]
  readonly lasts: readonly V[]
  /** Points that differ from the one before them, also from the one before the window. */
  readonly changes: Float64Array
  /** Points that are true; of booleans. */
  readonly trues: Float64Array
  /** µs that each value was held, from the window's begin (or the series' first point) to its end (or now). */
  readonly held: readonly Map<V, number>[]
}

interface Inner<V> {
  value(list: 'firsts' | 'lasts', i: number): V
  /** Time in state between the first and the last point. */
  addHeld(i: number, add: (value: V, us: number) => void): void
  trues(i: number): number
}

export function groupBooleans (series: BooleanWindows, borders: Float64Array, before: PointBefore<boolean> | null, untilTs: number): StateGroups<boolean> {
  return groupStates(series, borders, before, untilTs, {
    value: (list, i) => series[list][i] !== 0,
    addHeld: (i, add) => {
      add(true, series.trueUs[i])
      add(false, series.lastTs[i] - series.firstTs[i] - series.trueUs[i])
    },
    trues: i => series.trues[i]
  })
}

export function groupStrings (series: StringWindows, borders: Float64Array, before: PointBefore<string> | null, untilTs: number): StateGroups<string> {
  return groupStates(series, borders, before, untilTs, {
    value: (list, i) => series[list][i],
    addHeld: (i, add) => { for (const [value, us] of series.states[i]) add(value, us) },
    trues: () => 0
  })
}

type Timed = Pick<BooleanWindows, 'starts' | 'counts' | 'firstTs' | 'lastTs' | 'changes'>

function groupStates<V> (series: Timed, borders: Float64Array, before: PointBefore<V> | null, untilTs: number, inner: Inner<V>): StateGroups<V> {
  const most = Math.min(series.starts.length, borders.length - 1)
  const firsts: V[] = []
  const lasts: V[] = []
  const held: Map<V, number>[] = []
  const groups = { length: 0, index: new Int32Array(most), counts: new Float64Array(most), changes: new Float64Array(most), trues: new Float64Array(most), firsts, lasts, held }
  const add = (value: V, us: number): void => { if (us > 0) held[held.length - 1].set(value, (held[held.length - 1].get(value) ?? 0) + us) }
  let border = 0
  let last = before
  let at = -1
  const close = (): void => {
    if (at >= 0 && last !== null) add(last.value, Math.min(borders[groups.index[at] + 1], untilTs) - last.ts)
  }
  for (let i = 0; i < series.starts.length; i++) {
    const start = series.starts[i]
    if (start < borders[0] || start >= borders[borders.length - 1]) continue
    const first = inner.value('firsts', i)
    const opens = at < 0 || start >= borders[border + 1]
    if (opens) {
      close()
      while (start >= borders[border + 1]) border++
      at = groups.length++
      groups.index[at] = border
      firsts.push(first)
      lasts.push(first)
      held.push(new Map())
    }
    if (last !== null) {
      if (last.value !== first) groups.changes[at]++
      add(last.value, series.firstTs[i] - (opens ? Math.max(last.ts, borders[border]) : last.ts))
    }
    groups.counts[at] += series.counts[i]
    groups.changes[at] += series.changes[i]
    groups.trues[at] += inner.trues(i)
    inner.addHeld(i, add)
    lasts[at] = inner.value('lasts', i)
    last = { ts: series.lastTs[i], value: lasts[at] }
  }
  close()
  return groups
}
