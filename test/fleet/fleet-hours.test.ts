/** Fleet queries over sealed hours: the same answers as from points, whatever is sealed, late, erased or on its way. */
import t, { type Test } from 'tap'
import { usPerDay, usPerHour, usPerMinute, type Value } from '../../src/core/reading.js'
import { defaultPlan, type PartitionPlan } from '../../src/series/partition-plan.js'
import type { ClickHouseConnection } from '../../src/store/clickhouse/clickhouse-connection.js'
import { FleetClickHouse } from '../../src/store/clickhouse/fleet-clickhouse.js'
import type { FleetAgg, FleetKey, FleetQuery, FleetStep, FleetTier } from '../../src/store/fleet-store.js'
import { newSeed, randomFrom } from '../store/store-fixtures.js'
import { skipWithout } from '../support/services.js'
import { HoursWorld, tenant } from './fleet-hours-world.js'
import { fleetDatabase, naiveAnswer, near, pick, putDevices, someDevices, windowsOf, type Random, type WorldDevice, type WorldPoint } from './fleet-world.js'

t.setTimeout(280_000)

const day0 = Date.UTC(2025, 9, 24) * 1000
const days = 4
const base: FleetQuery = { tenant, fromTs: day0, toTs: day0 + days * usPerDay, where: {}, metrics: ['temperature', 'state'], aggs: ['avg', 'min', 'max', 'sum', 'count', 'stddev', 'first', 'last', 'devices'], groupBy: [], step: null, having: [], topK: null }

/** Of every width, and with changes of width in the middle of an hour. */
const widths = (...since: (readonly [number, 1 | 60 | 1440 | 43_200])[]): PartitionPlan => ({ ...defaultPlan, widths: since.map(([fromTs, widthMinutes]) => ({ fromTs, widthMinutes })) })
const plans = new Map<string, PartitionPlan>([
  ['d-1', widths([0, 60])], ['d-2', widths([0, 1])], ['d-3', widths([0, 43_200])],
  ['d-4', widths([0, 1440], [day0 + usPerDay + 10 * usPerHour + 20 * usPerMinute, 1])], ['d-5', widths([0, 60], [day0 + 2 * usPerDay + 70 * usPerMinute, 1], [day0 + 3 * usPerDay, 1440])]
])

function pointsOf (random: Random, count: number): WorldPoint[] {
  return Array.from({ length: count }, () => {
    const metric = pick(random, ['temperature', 'temperature', 'pressure', 'state'])
    const value: Value = metric === 'state' ? pick<Value>(random, ['on', 'off', true, false, 3]) : Math.round((random() * 60 - 20) * 100) / 100
    // Few hours and minutes, so that corrections and full hours are common.
    const ts = day0 + Math.floor(random() * days) * usPerDay + (8 + Math.floor(random() * 6)) * usPerHour + Math.floor(random() * 12) * 5 * usPerMinute
    return { tenant, device: `d-${Math.floor(random() * 8)}`, metric, ts, value, version: 0 }
  })
}

async function openWorld (t: Test, random: Random): Promise<{ world: HoursWorld, fleet: FleetClickHouse, connection: ClickHouseConnection, devices: WorldDevice[] }> {
  const connection = await fleetDatabase(t)
  const devices = someDevices(random)
  await putDevices(connection, devices)
  return { world: new HoursWorld(connection, { random, plans, nowUs: day0 + (days + 1) * usPerDay }), fleet: new FleetClickHouse(connection), connection, devices }
}

if (!skipWithout(t, 'clickHouse')) {
  t.test('in every state of a bucket the answer is that of its points: unsealed, sealed, late, sealed again, erased, of whatever width', async t => {
    const random = randomFrom(newSeed())
    const { world, fleet, devices } = await openWorld(t, random)
    const check = async (tier: FleetTier, label: string, more: Partial<FleetQuery> = {}): Promise<void> => {
      const query = { ...base, ...more }
      const answer = await fleet.queryFleet(query)
      t.equal(answer.tier, tier, label)
      near(t, answer.rows, naiveAnswer(query, world.packed, devices, windowsOf(query.step)), query.aggs, label)
    }
    const sealAll = (): void => { for (let i = 0; i < 8; i++) for (const bucket of world.bucketsOf(`d-${i}`)) world.seal(`d-${i}`, bucket) }
    world.pack(pointsOf(random, 1500))
    await world.project()
    await check('points', 'nothing sealed')
    world.pass(10)
    sealAll()
    await check('points', 'sealed, and the seals not projected')
    await world.projectSeals()
    await check('1h', 'sealed')
    await check('1h', 'by hour, cut in the middle of hours', { fromTs: day0 + 9 * usPerHour + 17 * usPerMinute, toTs: day0 + 3 * usPerDay + 11 * usPerHour + 31 * usPerMinute, step: { kind: 'fixed', us: usPerHour }, groupBy: ['tag:site'] })
    await check('points', 'a step that hours do not fit', { step: { kind: 'fixed', us: 90 * usPerMinute } })
    await check('points', 'percentiles', { aggs: ['p95', 'count'] })
    await check('points', 'a zone with a quarter of an hour', { step: { kind: 'days', days: 1, timeZone: 'Asia/Kathmandu' } })
    await check('1h', 'a zone with whole hours', { step: { kind: 'days', days: 1, timeZone: 'Europe/Berlin' } })
    world.pass(10)
    world.pack(pointsOf(random, 60))
    await world.project()
    await check('1h', 'late points')
    world.pass(10)
    sealAll()
    await check('1h', 'late points, sealed and not projected')
    await world.projectSeals()
    await check('1h', 'late points, sealed again')
    world.pass(10)
    await world.erase({ device: 'd-0', metric: 'temperature', fromTs: day0 + 9 * usPerHour + 20 * usPerMinute, toTs: day0 + usPerDay + 11 * usPerHour })
    await world.erase({ device: 'd-6' })
    await check('1h', 'erased')
    world.pass(10)
    sealAll()
    await world.projectSeals()
    await check('1h', 'erased and sealed again')
  })

  t.test('sealed hours are what is read: an answer from them does not look at points that they hold', async t => {
    const random = randomFrom(newSeed())
    const { world, fleet, connection, devices } = await openWorld(t, random)
    world.pack(pointsOf(random, 800).filter(({ device }) => device === 'd-0' || device === 'd-3'))
    await world.project()
    world.pass(10)
    for (const device of ['d-0', 'd-3']) for (const bucket of world.bucketsOf(device)) world.seal(device, bucket)
    await world.projectSeals()
    await connection.command(`TRUNCATE TABLE ${connection.database}.points`)
    const { rows } = await fleet.queryFleet(base)
    near(t, rows, naiveAnswer(base, world.packed, devices, () => null), base.aggs, 'without points')
  })

  t.test('numbers far from zero keep their deviation, and what is not finite is as from points', async t => {
    const { world, fleet } = await openWorld(t, randomFrom(newSeed()))
    const at = (metric: string, i: number, value: number): WorldPoint => ({ tenant, device: `d-${i % 2 * 6}`, metric, ts: day0 + i * 10 * usPerMinute, value, version: 0 })
    world.pack([...Array.from({ length: 300 }, (_, i) => at('far', i, 1e9 + i % 3)), ...Array.from({ length: 300 }, (_, i) => at('odd', i, i === 7 ? NaN : i === 9 ? Infinity : i))])
    await world.project()
    const query: FleetQuery = { ...base, metrics: ['far', 'odd'], aggs: ['avg', 'min', 'max', 'sum', 'count', 'stddev'], groupBy: ['device'] }
    const fromPoints = await fleet.queryFleet(query)
    world.pass(10)
    for (const device of ['d-0', 'd-6']) for (const bucket of world.bucketsOf(device)) world.seal(device, bucket)
    await world.projectSeals()
    const fromHours = await fleet.queryFleet(query)
    t.strictSame([fromPoints.tier, fromHours.tier], ['points', '1h'])
    near(t, fromHours.rows.filter(({ metric }) => metric === 'far'), fromPoints.rows.filter(({ metric }) => metric === 'far'), query.aggs, 'far')
    t.strictSame(fromHours.rows.filter(({ metric }) => metric === 'odd').map(({ values }) => values), fromPoints.rows.filter(({ metric }) => metric === 'odd').map(({ values }) => values), 'odd')
  })

  t.test('whatever packs, seals, projections and erasures do between one another, no point is missing or counted twice', async t => {
    const seed = newSeed()
    const random = randomFrom(seed)
    const { world, fleet, devices } = await openWorld(t, random)
    const steps: (FleetStep | null)[] = [null, { kind: 'fixed', us: usPerHour }, { kind: 'fixed', us: 6 * usPerHour }, { kind: 'fixed', us: usPerDay }, { kind: 'days', days: 1, timeZone: 'Europe/Berlin' }]
    const keys: FleetKey[][] = [[], ['device'], ['tag:site'], ['type', 'gateway']]
    const tiers = { points: 0, '1h': 0 }
    const someQuery = (): FleetQuery => {
      const fromTs = day0 + Math.floor(random() * usPerDay)
      const groupBy = pick(random, keys)
      const chooses = groupBy.length > 0 && random() < 0.3
      return {
        ...base, fromTs, toTs: fromTs + Math.floor((1 + random() * 3) * usPerDay), groupBy, step: pick(random, steps), metrics: pick(random, [['temperature'], ['state', 'temperature'], ['pressure']]),
        where: pick(random, [{}, { types: ['pump'] }, { devices: ['d-1', 'd-2', 'd-4', 'd-5'] }, { tags: new Map([['line', ['1']]]) }]),
        topK: chooses ? { agg: pick<FleetAgg>(random, ['avg', 'max', 'count']), metric: 'temperature', k: 3, order: 'desc' } : null,
        having: random() < 0.1 && groupBy.length > 0 ? [{ agg: 'count', metric: 'pressure', op: '>', value: 5 }] : []
      }
    }
    world.pack(pointsOf(random, 900))
    for (let step = 0; step < 220; step++) {
      const device = `d-${Math.floor(random() * 8)}`
      const dice = random()
      if (dice < 0.2) world.pack(pointsOf(random, 1 + Math.floor(random() * 30)))
      else if (dice < 0.35) await world.project(pick(random, [1, 1, 0.5]))
      else if (dice < 0.65) {
        const meanwhile = random() < 0.3 ? (): void => { world.pass(random() * 2); world.pack(pointsOf(random, 5)) } : undefined
        for (const bucket of world.bucketsOf(device)) if (random() < 0.8) world.seal(device, bucket, meanwhile)
      } else if (dice < 0.83) await world.projectSeals(1 + Math.floor(random() * 30))
      else if (dice < 0.85) await world.erase({ device, ...random() < 0.5 ? { metric: 'temperature' } : {}, ...random() < 0.5 ? { fromTs: day0 + Math.floor(random() * usPerDay * 2), toTs: day0 + Math.floor((2 + random()) * usPerDay) } : {} })
      else {
        await world.project()
        const query = someQuery()
        const { rows, tier } = await fleet.queryFleet(query)
        tiers[tier]++
        near(t, rows, naiveAnswer(query, world.packed, devices, windowsOf(query.step)), query.aggs, `seed ${seed}, step ${step} ${JSON.stringify(query)}`)
      }
      world.pass(random() * 8)
    }
    t.ok(tiers['1h'] > 5, `seed ${seed}: ${JSON.stringify(tiers)}`)
  })
}
