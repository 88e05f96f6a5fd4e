/** Section `seconds`: what tiers cost on top of raw where readings come every second. Ten metrics that wander as sensors do, with two decimals. */
import { usPerDay, usPerSecond, type Column } from '../../src/core/reading.js'
import { encodeChunk } from '../../src/series/chunk.js'
import { bucketOf, defaultPlan } from '../../src/series/partition-plan.js'
import type { Store } from '../../src/store/store.js'
import { seededRandom } from '../../simulators/fleet/seeded-random.js'
import type { BenchContext, Row } from './bench-context.js'
import { benchTenant, openQueryWorld } from './query-world.js'

const device = 'every-second'
const metrics = Array.from({ length: 10 }, (_, k) => `sensor_${k}`)
const chunkReadings = 3600
const sealTimeoutMs = 600_000

async function load (store: Store, days: number): Promise<void> {
  const random = seededRandom(7)
  const start = (Math.floor(Date.now() * 1000 / usPerDay) - days) * usPerDay
  const state = metrics.map(() => 20 + random() * 50)
  for (let from = 0; from < days * 86_400; from += chunkReadings) {
    const ts = Float64Array.from({ length: chunkReadings }, (_, i) => start + (from + i) * usPerSecond)
    const columns: Column[] = metrics.map((metric, k) => ({
      metric, type: 'number', rows: null, values: Float64Array.from(ts, () => Math.round((state[k] += (random() - 0.5) * 0.1) * 100) / 100)
    }))
    const bytes = encodeChunk({ ts, stamps: Float64Array.from(ts, (_, i) => start + days * usPerDay + from + i), columns })
    await store.raw.writeHead({
      chunks: [{ tenant: benchTenant, device, bucket: bucketOf(defaultPlan, ts[0]), salt: 0, slice: { journalId: '00000000000000be', mark: from + 1 }, part: 0, minTs: ts[0], maxTs: ts[ts.length - 1], bytes, retentionDays: 3650 }],
      slabs: [],
      seen: [{ tenant: benchTenant, device, day: Math.floor(ts[0] / usPerDay) * usPerDay, metrics, retentionDays: 3650 }]
    })
  }
}

export async function secondsSection (context: BenchContext): Promise<Row[]> {
  const days = context.quick ? 2 : 10
  const world = await openQueryWorld({ profile: 'embedded', root: context.root, devices: [device], load: async store => { await load(store, days) } })
  try {
    await world.sealed(days, sealTimeoutMs, context.log)
    const read = async (name: string): Promise<number> => await world.api.metric(`twinfold_sealer_${name}_total`) ?? NaN
    const [points, rawBytes, tierBytes, busySeconds] = [await read('points'), await read('bytes_out'), await read('tier_bytes'), await read('busy_seconds')]
    return [{
      section: 'seconds',
      what: `${days} days of 10 metrics a second`,
      figures: { points, 'raw bytes/point': rawBytes / points, 'tiers of raw': tierBytes / rawBytes, 'seal CPU us/point': busySeconds * 1e6 / points, target: 'tiers <= 0.10 of raw' }
    }]
  } finally {
    await world.close()
  }
}
