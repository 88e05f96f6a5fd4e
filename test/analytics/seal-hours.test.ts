/** Sealed hours on their way from Cassandra to ClickHouse: the right numbers after a seal, a reseal and an erasure. */
import t from 'tap'
import { systemClock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import { usPerHour, usPerMinute } from '../../src/core/reading.js'
import { bucketOf } from '../../src/series/partition-plan.js'
import { openStore } from '../../src/store/open-store.js'
import { newSeed, randomFrom } from '../store/store-fixtures.js'
import { dayAgo, planOfWidth, SealWorld } from '../sealing/seal-world.js'
import { migratedKeyspace } from '../store/cassandra-fixture.js'
import { newTestName, services, skipWithout } from '../support/services.js'
import { Follower, ProjectionWorld } from './projection-world.js'

t.setTimeout(180_000)

const tenant = 'acme'
const start = dayAgo(3)

interface Hour { readonly device: string, readonly metric: string, readonly hour: number, readonly count: number, readonly sum: number, readonly min: number, readonly max: number, readonly last: number, readonly last_string: string }

/** What the hours must say, from what was sent. Sums of quarters are exact in any order. */
function expectedHours (world: SealWorld, isErased: (device: string, metric: string, ts: number, stamp: number) => boolean): Hour[] {
  const hours = new Map<string, { ts: number, value: number | string }[]>()
  for (const [device, points] of world.model) {
    for (const [key, { value, stamp }] of points) {
      const [metric, text] = key.split('\0')
      const ts = Number(text)
      if (isErased(device, metric, ts, stamp)) continue
      const name = JSON.stringify([device, metric, Math.floor(ts / usPerHour)])
      hours.set(name, [...hours.get(name) ?? [], { ts, value: typeof value === 'boolean' ? Number(value) : value }])
    }
  }
  return [...hours].map(([name, points]) => {
    const [device, metric, hour] = JSON.parse(name) as [string, string, number]
    const { value: last } = points.reduce((a, b) => b.ts > a.ts ? b : a)
    const numbers = points.map(({ value }) => value).filter(value => typeof value === 'number')
    return {
      device, metric, hour: hour * 3600, count: points.length, sum: numbers.reduce((a, b) => a + b, 0), min: numbers.length === 0 ? 0 : metric === 'on' && numbers.length !== numbers.reduce((a, b) => a + b, 0) ? 0 : Math.min(...numbers),
      max: numbers.length === 0 ? 0 : Math.max(...numbers), last: typeof last === 'number' ? last : 0, last_string: typeof last === 'string' ? last : ''
    }
  }).sort(byName)
}

function byName (a: Hour, b: Hour): number {
  const names = [a, b].map(({ device, metric, hour }) => `${device} ${metric} ${hour}`)
  return names[0] < names[1] ? -1 : 1
}

/** Rows of several buckets that share an hour add up; `last` is that of the latest. */
async function foundHours ({ analytics: { connection } }: Follower): Promise<Hour[]> {
  const rows = await connection.query<Hour>(`SELECT device, toString(metric) AS metric, toFloat64(toUnixTimestamp64Second(hour)) AS hour, toFloat64(sum(count)) AS count, sum(s) AS sum, min(least) AS min, max(greatest) AS max,
      argMax(l, last_ts) AS last, argMax(ls, last_ts) AS last_string
    FROM (SELECT device, metric, hour, count, sum AS s, min AS least, max AS greatest, last AS l, last_string AS ls, last_ts FROM ${connection.database}.tiers_1h FINAL WHERE tenant = {tenant:String})
    GROUP BY device, metric, hour`, { tenant })
  return [...rows].sort(byName)
}

void t.test('hours in ClickHouse equal what was sent, after seals, late points, a correction and erasures on Cassandra', async t => {
  if (skipWithout(t, 'cassandra') || skipWithout(t, 'redis') || skipWithout(t, 'clickHouse')) return
  const cassandra = await migratedKeyspace(t)
  const store = await openStore({ kind: 'cluster', cassandra, redis: { url: services().redis?.url as string, prefix: cassandra.keyspace }, outbox: true }, { clock: systemClock, log: silentLog, writer: true })
  const seed = newSeed()
  t.comment(`seed ${seed}`)
  const random = randomFrom(seed)
  const plans = new Map([['day', planOfWidth(1440, 3)], ['hour', planOfWidth(60)], ['month', planOfWidth(43_200)], ['minute', planOfWidth(1)]])
  const scene = new ProjectionWorld(await SealWorld.make(store, { tenant, devices: plans }))
  const { world } = scene
  const follower = new Follower(scene, { url: services().clickHouse?.url ?? '', database: newTestName() })
  t.teardown(async () => {
    await follower.drop()
    await store.close()
  })
  const erased: { device: string, metric?: string, fromTs: number, toTs: number, stamp: number }[] = []
  const check = async (text: string): Promise<void> => {
    await follower.project()
    const expected = expectedHours(world, (device, metric, ts, stamp) => erased.some(part => part.device === device && (part.metric ?? metric) === metric && ts >= part.fromTs && ts < part.toTs && stamp < part.stamp))
    t.ok(expected.length > 10, `${expected.length} hours`)
    t.strictSame(await foundHours(follower), expected, text)
  }
  const send = async (from: number, count: number, stepUs: number, devices = [...plans.keys()]): Promise<void> => {
    await scene.send(devices.flatMap(device => Array.from({ length: device === 'minute' ? 6 : count }, (_, i) => ({
      device, ts: from + i * stepUs, values: { number: Math.floor(random() * 4000) / 4, on: random() < 0.5, ...(random() < 0.3 ? { text: `t${Math.floor(random() * 9)}` } : {}) }
    }))))
  }
  await send(start, 40, 10 * usPerMinute)
  await scene.seal()
  await check('after the first seal')
  // Late ones between, corrections of some, and new hours.
  await send(start + 5 * usPerMinute, 20, 10 * usPerMinute)
  await send(start + 20 * usPerMinute, 5, 10 * usPerMinute)
  await send(start + 8 * usPerHour, 10, 10 * usPerMinute, ['day', 'month'])
  await scene.seal()
  await check('after late points and corrections')
  const erase = async (device: string, part: { metric?: string, fromTs: number, toTs: number }): Promise<void> => {
    const stamp = world.takeStamps(1)
    const erasure = { tenant, device, stamp, ...part }
    await store.putErasure(erasure)
    erased.push({ device, stamp, ...part })
    const buckets = new Map<number, ReturnType<typeof bucketOf>>()
    for (let ts = part.fromTs; ts < part.toTs; ts += usPerMinute) {
      const bucket = bucketOf(world.planOf(device), ts)
      buckets.set(bucket.start, bucket)
    }
    await store.putSealRequests([...buckets.values()].map(bucket => ({ tenant, device, bucket, stamp: world.takeStamps(1) })))
    await follower.analytics.erase([erasure])
  }
  await erase('day', { metric: 'number', fromTs: start + 30 * usPerMinute, toTs: start + 90 * usPerMinute })
  await erase('hour', { fromTs: start, toTs: start + 2 * usPerHour })
  await erase('minute', { fromTs: start + usPerMinute, toTs: start + usPerHour })
  await scene.seal()
  await check('after erasures and the seals that follow them')
  // Accepted later than the erasure: not erased.
  await send(start + 40 * usPerMinute, 3, 10 * usPerMinute)
  await scene.seal()
  await check('after points that came since')
  t.same((await world.verify()).listed, [], 'and the tiers are the fold of raw')
})
