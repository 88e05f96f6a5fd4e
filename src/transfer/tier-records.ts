/** Windows of a tier of one device, a stretch of time after the other, as flat records in order of start, then metric. */
import { usPerDay, type Value } from '../core/reading.js'
import type { SeriesWindows, TierWindows } from '../series/tiers/windows.js'
import { WindowReader } from '../store/read-windows.js'
import type { Store } from '../store/store.js'
import type { Tier } from '../store/tier-store.js'
import type { ExportTask } from '../../workers/transfer-protocol.js'
import type { WindowRecord } from './export-writer.js'

/** Time that is read in one go, µs: some thousand windows a metric at most. */
const stretchUs: Readonly<Record<Tier, number>> = { '1m': usPerDay, '1h': 30 * usPerDay, '1d': 365 * usPerDay }
const widthUs: Readonly<Record<Tier, number>> = { '1m': 60e6, '1h': 3600e6, '1d': usPerDay }

/** Windows that begin in the task's range. A stretch without a point costs a few look-ups. */
export async function * tierRecords (store: Store, task: ExportTask, device: string, checkpoint: () => void): AsyncGenerator<readonly WindowRecord[]> {
  const tier = task.tier as Tier
  const { tenant, retentionDays, oldestTs, tierClasses, tierOldestTs } = task
  const metrics = task.metrics === null ? null : new Set(task.metrics)
  const up = (ts: number): number => Math.ceil(ts / widthUs[tier]) * widthUs[tier]
  const end = up(task.toTs)
  const first = Math.max(up(task.fromTs), Math.floor(tierOldestTs[tier] / usPerDay) * usPerDay)
  for (let fromTs = first; fromTs < end;) {
    checkpoint()
    const toTs = Math.min(end, (Math.floor(fromTs / stretchUs[tier]) + 1) * stretchUs[tier])
    const reader = await WindowReader.open(store, { tenant, device, retentionDays, oldestTs, tierClasses, tierOldestTs, fromTs, toTs, metrics, checkpoint })
    const records = recordsOf(await reader.readWindows(tier, [{ fromTs, toTs }]))
    if (records.length > 0) yield records
    fromTs = toTs
  }
}

function recordsOf (windows: TierWindows): WindowRecord[] {
  return windows.flatMap(series => Array.from(series.starts, (_, i) => recordOf(series, i)))
    .sort((a, b) => a.start - b.start || (a.metric < b.metric ? -1 : a.metric > b.metric ? 1 : 0))
}

const nothing = { sum: null, min: null, max: null, mean: null, m2: null, increase: null, area: null, trues: null, trueUs: null, changes: null } as const

function recordOf (series: SeriesWindows, i: number): WindowRecord {
  const { metric, type } = series
  const common = { ...nothing, metric, type, start: series.starts[i], count: series.counts[i], firstTs: series.firstTs[i], lastTs: series.lastTs[i] }
  if (series.type === 'number') {
    const { sums, mins, maxs, firsts, lasts, m2s, increases, areas, counts } = series
    return { ...common, first: firsts[i], last: lasts[i], sum: sums[i], min: mins[i], max: maxs[i], mean: sums[i] / counts[i], m2: m2s[i], increase: increases[i], area: areas[i] }
  }
  const bool = (value: Value | number): Value => type === 'boolean' ? value !== 0 : value
  if (series.type === 'boolean') return { ...common, first: bool(series.firsts[i]), last: bool(series.lasts[i]), trues: series.trues[i], trueUs: series.trueUs[i], changes: series.changes[i] }
  return { ...common, first: series.firsts[i], last: series.lasts[i], changes: series.changes[i] }
}
