/** Section `embedded` or `cluster`: dashboards' questions on a year of the solar plant, one client, over HTTP, from tiers and from raw. */
import { usPerDay } from '../../src/core/reading.js'
import type { BenchContext, Row } from './bench-context.js'
import { directoryBytes } from './process-meter.js'
import { dashboardRows } from './section-dashboards.js'
import { openQueryWorld, quantilesOf, type Measured, type Profile, type QueryWorld } from './query-world.js'
import { loadSolarYear, type LoadedYear } from './solar-year.js'

export interface QueryScale {
  readonly days: number
  readonly devices: number
  /** Dashboards at once, and the messages a second meanwhile; 0 of them: that part is left out. */
  readonly dashboards: number
  readonly messagesPerSecond: number
}

const sealTimeoutMs = 30 * 60_000
const metric = 'collector_temp_1'

interface Question {
  readonly what: string
  readonly days: number
  readonly query: string
  /** Is it asked from raw as well, in the same run? */
  readonly raw: boolean
  readonly target: string
}

const aggregates = (days: number, step: string, more = ''): string => `from=now-${days}d&step=${step}&metrics=${metric}${more}`

const questions: readonly Question[] = [
  { what: '30 days at 1 h, one metric', days: 30, query: aggregates(30, '1h'), raw: true, target: 'p99 < 10 ms, raw/tier >= 20' },
  { what: '1 year at 1 d, one metric', days: 365, query: aggregates(365, '1d'), raw: true, target: 'p99 < 10 ms, raw/tier >= 20' },
  { what: '6 months at 1 h, one metric', days: 182, query: aggregates(182, '1h'), raw: true, target: 'others: 10 to 655 ms' },
  { what: 'p95 per day, 6 months', days: 182, query: aggregates(182, '1d', '&agg=p95'), raw: true, target: 'others: 9.9 to 240 ms' }
]

export async function querySection (context: BenchContext, profile: Profile, scale: QueryScale): Promise<Row[]> {
  const devices = Array.from({ length: scale.devices }, (_, k) => `plant-${k}`)
  let loaded: LoadedYear | undefined
  const startedMs = performance.now()
  const world = await openQueryWorld({
    profile,
    root: context.root,
    devices,
    load: async store => {
      const endTs = Date.now() * 1000
      loaded = await loadSolarYear(store, { tenant: 'bench', devices, days: scale.days, endTs, data: context.data }, endTs - 60e6, context.log)
    }
  })
  try {
    const year = loaded as LoadedYear
    const loadSeconds = (performance.now() - startedMs) / 1000
    context.log(`${year.readings} readings loaded in ${loadSeconds.toFixed(0)} s; sealing ${year.buckets} buckets`)
    const sealStartedMs = performance.now()
    // Today's bucket is not due before its end.
    await world.sealed(year.buckets - devices.length, sealTimeoutMs, context.log)
    const rows = [await sizeRow(world, profile, year, loadSeconds, (performance.now() - sealStartedMs) / 1000)]
    rows.push(await rawRow(context, world, profile, devices))
    for (const question of questions) if (scale.days >= question.days || context.quick) rows.push(await questionRow(context, world, profile, devices, question))
    rows.push(await lateRow(context, world, profile, devices))
    if (scale.dashboards > 0) rows.push(...await dashboardRows(context, world, profile, devices, scale))
    return rows
  } finally {
    await world.close()
  }
}

async function sizeRow (world: QueryWorld, profile: Profile, year: LoadedYear, loadSeconds: number, sealSeconds: number): Promise<Row> {
  const read = async (name: string): Promise<number> => await world.api.metric(`twinfold_sealer_${name}_total`) ?? NaN
  const [points, rawBytes, tierBytes, busySeconds] = [await read('points'), await read('bytes_out'), await read('tier_bytes'), await read('busy_seconds')]
  const onDisk: Record<string, number> = profile === 'embedded' ? { 'store bytes/point, not compacted': await directoryBytes(`${world.directory}/store`) / year.points } : {}
  return {
    section: profile,
    what: 'sealed',
    figures: {
      points: year.points, 'load s': Math.round(loadSeconds), 'seal s': Math.round(sealSeconds), 'seal CPU us/point': busySeconds * 1e6 / points, 'raw bytes/point': rawBytes / points,
      'tiers of raw': tierBytes / rawBytes, ...onDisk, target: profile === 'embedded' ? 'raw <= 0.15 bytes/point' : 'raw <= 0.25 bytes/point on disk'
    }
  }
}

const deviceOf = (devices: readonly string[], i: number): string => devices[i % devices.length]
const timesOf = (context: BenchContext): number => context.quick ? 50 : 500

const figuresOf = ({ p50Ms, p99Ms, cpuMsPerQuery, bytes }: Measured): Record<string, number> => ({ 'p50 ms': p50Ms, 'p99 ms': p99Ms, 'CPU ms/query': cpuMsPerQuery, bytes })

async function rawRow (context: BenchContext, world: QueryWorld, profile: Profile, devices: readonly string[]): Promise<Row> {
  const measured = await world.measure(i => `/devices/${deviceOf(devices, i)}/telemetry?from=now-24h&order=asc&limit=10000&times=ms`, { times: timesOf(context) })
  const { readings } = JSON.parse(measured.body) as { readings: unknown[] }
  return { section: profile, what: '24 h raw, all metrics', figures: { ...figuresOf(measured), readings: readings.length, target: 'p99 < 15 ms' } }
}

interface WindowAnswer { readonly tier?: string, readonly series: readonly { readonly values: readonly (number | string | null)[] }[] }

async function questionRow (context: BenchContext, world: QueryWorld, profile: Profile, devices: readonly string[], { what, query, raw, target }: Question): Promise<Row> {
  const path = (more: string) => (i: number): string => `/devices/${deviceOf(devices, i)}/aggregates?${query}${more}`
  const fast = await world.measure(path(''), { times: timesOf(context) })
  const answer = JSON.parse(fast.body) as WindowAnswer
  const figures: Record<string, number | string> = { ...figuresOf(fast), tier: answer.tier ?? '?', windows: answer.series[0]?.values.length ?? 0 }
  if (raw) {
    const slow = await world.measure(path('&tier=raw'), { times: context.quick ? 3 : 40, warmUp: context.quick ? 1 : 20 })
    figures['raw p50 ms'] = slow.p50Ms
    figures['raw/tier p50'] = slow.p50Ms / fast.p50Ms
    figures['raw/tier CPU'] = slow.cpuMsPerQuery / fast.cpuMsPerQuery
    figures['greatest difference'] = await differenceOf(world, path(''), path('&tier=raw'))
  }
  return { section: profile, what, figures: { ...figures, target } }
}

/** The greatest relative difference between what the tiers and what raw answer, of the same moment. */
async function differenceOf (world: QueryWorld, tier: (i: number) => string, raw: (i: number) => string): Promise<number> {
  const to = `&to=${Date.now()}`
  const [a, b] = [await world.ask(tier(0) + to), await world.ask(raw(0) + to)].map(({ body }) => (JSON.parse(body) as WindowAnswer).series[0].values)
  if (a.length !== b.length) throw new Error(`${a.length} windows from the tiers, ${b.length} from raw`)
  let greatest = 0
  a.forEach((value, i) => {
    const exact = b[i]
    if (typeof value === 'number' && typeof exact === 'number') greatest = Math.max(greatest, value === exact ? 0 : Math.abs(value - exact) / Math.abs(exact))
    else if (value !== exact) greatest = Infinity
  })
  return greatest
}

/** A late point for a day in the middle, visible, and then the question at once: the day is dirty and folded from raw. */
async function lateRow (context: BenchContext, world: QueryWorld, profile: Profile, devices: readonly string[]): Promise<Row> {
  const latencies: number[] = []
  for (let i = 0; i < (context.quick ? 10 : 50); i++) {
    const device = deviceOf(devices, i)
    // Odd microseconds: a point of its own, whatever the data have.
    const tsUs = Date.now() * 1000 - (5 + i % 20) * usPerDay + 7 + i
    const { status } = await world.api.ask('POST', `/devices/${device}/telemetry`, { ts: tsUs / 1000, values: { [metric]: 20 } })
    if (status !== 202) throw new Error(`a late point was answered with ${status}`)
    await world.api.drain(60_000)
    latencies.push((await world.ask(`/devices/${device}/aggregates?${aggregates(30, '1h')}`)).ms)
  }
  return { section: profile, what: '30 days at 1 h right after a late point', figures: { 'p50 ms': quantilesOf(latencies).p50Ms, 'p99 ms': quantilesOf(latencies).p99Ms, target: 'near the one above' } }
}
