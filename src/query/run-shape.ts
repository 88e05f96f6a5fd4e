/**
 * Answers with points that keep the shape of each number series: from raw points, or over long ranges from the least and the
 * greatest value of each tier window (the preselection of MinMaxLTTB: J. Van Der Donckt and others, 2023), of which there
 * are several for every point that is asked for. Times of points from a tier are those of its windows, and the answer says so.
 */
import { TwinfoldError } from '../core/errors.js'
import type { Chunk } from '../core/reading.js'
import type { NumberWindows } from '../series/tiers/windows.js'
import { readReadings } from '../store/read-readings.js'
import { tierWidthUs, WindowReader } from '../store/read-windows.js'
import type { Store } from '../store/store.js'
import { tiers, type Tier } from '../store/tier-store.js'
import type { QueryResult } from '../../workers/protocol.js'
import type { ShapeQuery, Source } from '../../workers/query-protocol.js'
import { lttb, minMax, type ShapePoints } from './downsample.js'
import { bytesOf, formatTime, formatValue } from '../core/json-values.js'

/** Windows read for each point of the answer, at least. */
const windowsPerPoint = 4

/** Raw where that is little; else the coarsest tier with windows enough. */
function sourceOf ({ source, fromTs, toTs, maxPoints, oldestTs, tierOldestTs }: ShapeQuery): Source {
  if (source !== undefined) return source
  const widthMax = (toTs - fromTs) / (maxPoints * windowsPerPoint)
  const fine = [...tiers].reverse().find(tier => tierWidthUs[tier] <= widthMax)
  if (fine !== undefined) return fine
  // What raw does not reach back to is better coarse than missing.
  return fromTs >= oldestTs || tierOldestTs['1m'] >= oldestTs ? 'raw' : '1m'
}

export async function runShape (store: Store, task: ShapeQuery, checkpoint: () => void): Promise<QueryResult> {
  const metrics = task.metrics === null ? null : new Set(task.metrics)
  const request = { ...task, metrics, checkpoint }
  const source = sourceOf(task)
  const points = source === 'raw' ? await rawPoints(store, request) : await tierPoints(store, request, source)
  const { fromTs, toTs, maxPoints, times, valuesMax } = task
  if (points.size * maxPoints > valuesMax) throw new TwinfoldError('invalid_field', `${maxPoints} points of ${points.size} series are more than ${valuesMax} values; ask for ${Math.floor(valuesMax / points.size)} at most`, { field: 'maxPoints' })
  let readings = 0
  const parts = [...points].sort(([a], [b]) => a < b ? -1 : 1).map(([metric, all]) => {
    const { ts, values } = task.shape === 'lttb' ? lttb(all, maxPoints) : minMax(all, maxPoints, fromTs, toTs)
    readings += ts.length
    return `{"metric":${JSON.stringify(metric)},"type":"number","agg":"${task.shape}","times":[${Array.from(ts, one => formatTime(one, times)).join(',')}],"values":[${Array.from(values, formatValue).join(',')}]}`
  })
  return { body: bytesOf(`"from":${formatTime(fromTs, times)},"to":${formatTime(toTs, times)},"tier":"${source}","series":[${parts.join(',')}]`), readings, lastTs: null, more: false }
}

interface Gathered { ts: Float64Array, values: Float64Array, length: number }

function append (into: Map<string, Gathered>, metric: string, count: number, at: (i: number) => number, value: (i: number) => number): void {
  let own = into.get(metric)
  if (own === undefined) into.set(metric, own = { ts: new Float64Array(1024), values: new Float64Array(1024), length: 0 })
  if (own.length + count > own.ts.length) {
    const grow = (from: Float64Array, size: number): Float64Array => {
      const grown = new Float64Array(size)
      grown.set(from)
      return grown
    }
    const size = Math.max(own.ts.length * 2, own.length + count)
    own.ts = grow(own.ts, size)
    own.values = grow(own.values, size)
  }
  for (let i = 0; i < count; i++) {
    own.ts[own.length] = at(i)
    own.values[own.length++] = value(i)
  }
}

const cut = ({ ts, values, length }: Gathered): ShapePoints => ({ ts: ts.subarray(0, length), values: values.subarray(0, length) })

type Request = Omit<ShapeQuery, 'metrics'> & { readonly metrics: ReadonlySet<string> | null, readonly checkpoint: () => void }

async function rawPoints (store: Store, request: Request): Promise<Map<string, ShapePoints>> {
  const gathered = new Map<string, Gathered>()
  for await (const chunk of readReadings(store, { ...request, order: 'asc' })) addNumbers(gathered, chunk)
  return new Map([...gathered].map(([metric, own]) => [metric, cut(own)]))
}

function addNumbers (gathered: Map<string, Gathered>, { ts, columns }: Chunk): void {
  for (const { metric, type, rows, values } of columns) {
    if (type === 'number') append(gathered, metric, values.length, i => ts[rows === null ? i : rows[i]], i => values[i])
  }
}

async function tierPoints (store: Store, request: Request, tier: Tier): Promise<Map<string, ShapePoints>> {
  const width = tierWidthUs[tier]
  const range = { fromTs: Math.floor(request.fromTs / width) * width, toTs: Math.ceil(request.toTs / width) * width }
  const reader = await WindowReader.open(store, { ...request, ...range })
  const points = new Map<string, ShapePoints>()
  for (const series of await reader.readWindows(tier, [range])) if (series.type === 'number') points.set(series.metric, extremes(series))
  return points
}

/** Two points a window: what came first, the least or the greatest, no window tells; the one nearer to its first value stands first. */
function extremes ({ starts, counts, firstTs, lastTs, firsts, mins, maxs }: NumberWindows): ShapePoints {
  const ts: number[] = []
  const values: number[] = []
  for (let i = 0; i < starts.length; i++) {
    const rises = Math.abs(firsts[i] - mins[i]) <= Math.abs(maxs[i] - firsts[i])
    ts.push(firstTs[i])
    values.push(rises ? mins[i] : maxs[i])
    if (counts[i] === 1) continue
    ts.push(lastTs[i])
    values.push(rises ? maxs[i] : mins[i])
  }
  return { ts: Float64Array.from(ts), values: Float64Array.from(values) }
}
