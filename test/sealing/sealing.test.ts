import t from 'tap'
import { silentLog } from '../../src/core/log.js'
import { systemClock } from '../../src/core/clock.js'
import { usPerDay, usPerHour, usPerMinute } from '../../src/core/reading.js'
import type { PartitionPlan } from '../../src/series/partition-plan.js'
import { openStore } from '../../src/store/open-store.js'
import type { HeadWrite } from '../../src/store/raw-store.js'
import { seededRandom } from '../../simulators/fleet/seeded-random.js'
import { newSeed } from '../store/store-fixtures.js'
import { temporaryDirectory } from '../support/server.js'
import { dayAgo, planOfWidth, SealWorld, type Sent } from './seal-world.js'

async function embedded (t: { teardown(undo: () => unknown): unknown }) {
  const { directory, remove } = await temporaryDirectory('sealing')
  const store = await openStore({ kind: 'embedded', directory }, { clock: systemClock, log: silentLog, writer: true })
  t.teardown(async () => {
    await store.close()
    await remove()
  })
  return store
}

t.setTimeout(240_000)

const start = dayAgo(40)

/** Widths change in the middle of a day; salts grow. */
const changing: PartitionPlan = {
  widths: [{ fromTs: 0, widthMinutes: 1440 }, { fromTs: start + 10 * usPerHour, widthMinutes: 60 }, { fromTs: start + 12 * usPerHour + 30 * usPerMinute, widthMinutes: 1 }, { fromTs: start + 2 * usPerDay, widthMinutes: 43_200 }],
  salts: [{ fromStamp: 0, salts: 1 }, { fromStamp: 1, salts: 3 }]
}

const plans = new Map<string, PartitionPlan>([
  ['wide', planOfWidth(43_200)], ['day', planOfWidth(1440)], ['hour', planOfWidth(60)], ['minute', planOfWidth(1)], ['salted', planOfWidth(1440, 4)], ['changing', changing]
])

t.test('late, repeated and disordered points, sealed in between: answers equal the model, tiers equal the fold of raw', { timeout: 230_000 }, async t => {
  const seed = newSeed()
  t.comment(`seed ${seed}`)
  const random = seededRandom(seed)
  const world = await SealWorld.make(await embedded(t), { tenant: 'acme', devices: plans })
  const sealer = world.sealer()
  const written: HeadWrite[] = []
  const spanUs = 3 * usPerDay
  const steps = 30
  for (let step = 0; step < steps; step++) {
    const readings: Sent[] = []
    for (const device of plans.keys()) {
      const now = start + step / steps * spanUs
      for (let i = 0; i < (device === 'minute' ? 4 : 20); i++) {
        const late = random() < 0.05
        const disordered = random() < 0.05
        const ts = Math.floor(late ? start + random() * (now - start + 1) : now + i * spanUs / steps / 20 - (disordered ? random() * usPerHour : 0))
        readings.push({
          device,
          ts: Math.max(start, ts - ts % 1000),
          values: { temperature: Math.round(random() * 1000) / 10, ...(random() < 0.3 ? { open: random() < 0.5 } : {}), ...(random() < 0.2 ? { state: ['on', 'off', 'idle'][Math.floor(random() * 3)] } : {}), ...(random() < 0.1 ? { mixed: random() < 0.5 ? 'text' : Math.PI * random() } : {}) }
        })
      }
    }
    // A reading that comes twice, and one that is corrected.
    if (random() < 0.5) readings.push(readings[0], { ...readings[1], values: { temperature: -1 } })
    written.push(await world.send(readings, random() < 0.3 ? '00000000000000bb' : '00000000000000aa'))
    if (random() < 0.2) await sealer.sealDue()
    // A slice is packed again, after it was sealed or before.
    if (random() < 0.2) await world.store.raw.writeHead(written[Math.floor(random() * written.length)])
    if (step % 10 === 9) t.same(await world.compare(), [], `after step ${step}`)
  }
  await sealer.sealDue()
  t.equal(await world.headSlices(), 0, 'nothing is left unsealed')
  t.same(await world.compare(), [])
  const verified = await world.verify()
  t.same(verified.listed, [])
  t.equal(verified.unsealed, 0)
  t.ok(verified.buckets > 100, `${verified.buckets} buckets, ${verified.rows} rows, ${verified.points} points`)
  const before = await rowsOf(world)
  for (const write of written) await world.store.raw.writeHead(write)
  await sealer.sealDue()
  t.same(await rowsOf(world), before, 'all slices repeated and sealed again: the same rows')
  t.same((await world.verify()).listed, [])
})

async function rowsOf (world: SealWorld): Promise<string[]> {
  const rows: string[] = []
  for (const device of world.plans.keys()) {
    for (const kind of ['1m', '1h', '1d', 'q1h', 'q1d'] as const) {
      for await (const row of world.store.tiers.scanTiers({ tenant: world.tenant, device, retentionDays: [365, 1825, 3650] }, kind, 0, Number.MAX_SAFE_INTEGER)) {
        rows.push(`${device} ${kind} ${row.start} ${row.bucket.widthMinutes} ${row.bucket.start} ${Buffer.from(row.bytes).toString('base64')}`)
      }
    }
  }
  return rows
}
