/**
 * The last point of each series before a time: what a rate goes up from, and what a state is held from. Found on the newest
 * days on which the metric had points, however long ago, at most `daysMax` of them; where raw has expired, in the hours of the month before.
 */
import { usPerDay, usPerHour, type Chunk, type Value } from '../core/reading.js'
import { valueAt } from '../series/merge.js'
import { lowerBound } from '../series/cut-chunk.js'
import { readReadings } from '../store/read-readings.js'
import type { WindowReader } from '../store/read-windows.js'
import type { Store } from '../store/store.js'
import type { DeviceScope } from '../../workers/query-protocol.js'
import type { PointBefore } from './group-numbers.js'

/** Days that are looked at. */
const daysMax = 16
/** How far tiers are looked at where raw is gone. */
export const tierLookBackUs = 31 * usPerDay

/** By `seriesKey`. */
export type PointsBefore = Map<string, PointBefore<Value>>

export const seriesKey = ({ metric, type }: { readonly metric: string, readonly type: string }): string => `${type} ${metric}`

/** @param series whose points are wanted. @param tiers a reader of [beforeTs - tierLookBackUs, beforeTs), where raw has expired. */
export async function pointsBefore (store: Store, scope: DeviceScope, beforeTs: number, series: readonly { readonly metric: string, readonly type: string }[], checkpoint: () => void, tiers: () => Promise<WindowReader>): Promise<PointsBefore> {
  const found: PointsBefore = new Map()
  const missing = new Map(series.map(one => [seriesKey(one), one.metric]))
  if (missing.size === 0) return found
  const days = beforeTs > scope.oldestTs ? await daysBefore(store, scope, beforeTs, new Set(missing.values()), checkpoint) : new Map<number, Set<string>>()
  let tried = 0
  for (const [day, seen] of [...days].sort(([a], [b]) => b - a)) {
    const metrics = new Set([...missing.values()].filter(metric => seen.has(metric)))
    if (metrics.size === 0) continue
    if (++tried > daysMax) break
    for await (const chunk of readReadings(store, { ...scope, fromTs: day, toTs: Math.min(day + usPerDay, beforeTs), order: 'desc', metrics, checkpoint })) {
      takeLast(chunk, missing, found)
      if ([...metrics].every(metric => ![...missing.values()].includes(metric))) break
    }
  }
  if (missing.size > 0 && beforeTs - tierLookBackUs < scope.oldestTs) await takeFromTiers(await tiers(), beforeTs, missing, found)
  return found
}

/** Days before the time on which each metric had points. */
async function daysBefore (store: Store, scope: DeviceScope, beforeTs: number, metrics: ReadonlySet<string>, checkpoint: () => void): Promise<Map<number, Set<string>>> {
  const days = new Map<number, Set<string>>()
  for await (const { day, metrics: seen } of store.raw.scanSeen(scope)) {
    checkpoint()
    if (day + usPerDay <= scope.oldestTs) break
    if (day >= beforeTs) continue
    const wanted = seen.filter(metric => metrics.has(metric))
    if (wanted.length === 0) continue
    const known = days.get(day)
    if (known === undefined) days.set(day, new Set(wanted))
    else for (const metric of wanted) known.add(metric)
  }
  return days
}

function takeLast (chunk: Chunk, missing: Map<string, string>, found: PointsBefore): void {
  for (const column of chunk.columns) {
    const key = seriesKey(column)
    if (!missing.has(key) || column.values.length === 0) continue
    const index = column.values.length - 1
    found.set(key, { ts: chunk.ts[column.rows === null ? index : column.rows[index]], value: valueAt(column, index) })
    missing.delete(key)
  }
}

async function takeFromTiers (reader: WindowReader, beforeTs: number, missing: Map<string, string>, found: PointsBefore): Promise<void> {
  const toTs = Math.floor(beforeTs / usPerHour) * usPerHour
  for (const series of await reader.readWindows('1h', [{ fromTs: Math.max(0, toTs - tierLookBackUs), toTs }])) {
    const key = seriesKey(series)
    const last = lowerBound(series.starts, toTs) - 1
    if (!missing.has(key) || last < 0) continue
    const value = series.type === 'boolean' ? series.lasts[last] !== 0 : series.lasts[last]
    found.set(key, { ts: series.lastTs[last], value })
    missing.delete(key)
  }
}
