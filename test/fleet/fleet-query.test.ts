/** Fleet queries against a naive model, on random points that come late, twice, corrected, and of two tenants. */
import t from 'tap'
import { usPerDay, usPerHour, usPerMinute } from '../../src/core/reading.js'
import type { Value } from '../../src/core/reading.js'
import type { TwinfoldError } from '../../src/core/errors.js'
import { FleetClickHouse } from '../../src/store/clickhouse/fleet-clickhouse.js'
import type { FleetAgg, FleetKey, FleetQuery, FleetStep } from '../../src/store/fleet-store.js'
import { newSeed, randomFrom } from '../store/store-fixtures.js'
import { skipWithout } from '../support/services.js'
import { fleetDatabase, naiveAnswer, near, pick, putDevices, putPoints, someDevices, standing, windowsOf, type Random, type WorldPoint } from './fleet-world.js'

t.setTimeout(240_000)

/** The end of summer time in Berlin lies in these days. */
const day0 = Date.UTC(2025, 9, 24) * 1000
const base: FleetQuery = { tenant: 'acme', fromTs: day0, toTs: day0 + 5 * usPerDay, where: {}, metrics: ['temperature'], aggs: ['avg'], groupBy: [], step: null, having: [], topK: null }

function somePoints (random: Random, count: number): WorldPoint[] {
  const value = (metric: string): Value => metric === 'state' ? pick<Value>(random, ['on', 'off', true, false, 3, "it's"]) : Math.round((random() * 60 - 20) * 100) / 100
  const points = Array.from({ length: count }, (_, index): WorldPoint => {
    const metric = pick(random, ['temperature', 'temperature', 'pressure', 'state'])
    const ts = day0 + Math.floor(random() * 5 * 24 * 60) * usPerMinute + (random() < 0.1 ? 1 : 0)
    // One device is in no registry.
    return { tenant: pick(random, ['acme', 'acme', 'bolt']), device: random() < 0.03 ? 'stranger' : `d-${Math.floor(random() * 12)}`, metric, ts, value: value(metric), version: index + 1 }
  })
  // Corrections, some of which lose to what is there, and plain repetitions.
  const again = points.filter(() => random() < 0.15).map(point => ({ ...point, value: value(point.metric), version: random() < 0.5 ? point.version + count : 0 }))
  return [...points, ...again, ...points.filter(() => random() < 0.05)].sort(() => random() - 0.5)
}

if (!skipWithout(t, 'clickHouse')) {
  t.test('every point counts once, in every aggregate, group, choice and step, whatever came late, twice or corrected', async t => {
    const connection = await fleetDatabase(t)
    const fleet = new FleetClickHouse(connection)
    const seed = newSeed()
    const random = randomFrom(seed)
    const devices = someDevices(random)
    const points = somePoints(random, 3000)
    await putDevices(connection, devices.map(device => ({ ...device, type: 'before', tags: { site: 'before' } })), { version: 1 })
    await putDevices(connection, devices, { version: 2 })
    for (let at = 0; at < points.length; at += 700) await putPoints(connection, points.slice(at, at + 700))
    const steps: (FleetStep | null)[] = [null, { kind: 'fixed', us: usPerHour }, { kind: 'fixed', us: 7 * usPerMinute * 60 }, { kind: 'fixed', us: usPerDay }, { kind: 'days', days: 1, timeZone: 'Europe/Berlin' }, { kind: 'days', days: 2, timeZone: 'Asia/Kathmandu' }]
    const keys: FleetKey[][] = [[], ['device'], ['type'], ['gateway'], ['tag:site'], ['tag:site', 'type'], ['tag:none'], ['device', 'tag:line']]
    const wheres: FleetQuery['where'][] = [{}, { devices: ['d-1', 'd-5', 'stranger', 'nobody'] }, { types: ['pump'] }, { gateways: ['gate-1', ''] }, { tags: new Map([['site', ["o'hare", 'ümlaut "x" \\n']]]) }, { tags: new Map([['site', ['']]]), types: ['pump', 'valve'] }]
    const aggs: FleetAgg[] = ['avg', 'min', 'max', 'sum', 'count', 'stddev', 'first', 'last', 'devices', 'p50', 'p95', 'p99.9', 'p0']
    for (let round = 0; round < 60; round++) {
      const groupBy = round < 8 ? keys[round] : pick(random, keys)
      const fromTs = day0 + Math.floor(random() * 2 * usPerDay)
      const chooses = groupBy.length > 0 && random() < 0.4
      const query: FleetQuery = {
        ...base, fromTs, toTs: fromTs + Math.floor(random() * 4 * usPerDay) + 1, groupBy, step: pick(random, steps), where: pick(random, wheres),
        metrics: pick(random, [['temperature'], ['temperature', 'pressure'], ['state'], ['none', 'state']]),
        aggs: aggs.filter(() => random() < 0.5).concat('count'),
        topK: chooses ? { agg: pick<FleetAgg>(random, ['avg', 'max', 'count', 'sum']), metric: 'temperature', k: pick(random, [1, 3, 100]), order: pick(random, ['desc', 'asc']) } : null,
        having: random() < 0.2 && groupBy.length > 0 ? [{ agg: 'count', metric: 'pressure', op: pick(random, ['>', '<=']), value: 10 }] : []
      }
      if (query.step !== null && groupBy.includes('device') && query.step.kind === 'fixed' && query.step.us < 6 * usPerHour) continue
      const { rows } = await fleet.queryFleet(query)
      near(t, rows, naiveAnswer(query, points, devices, windowsOf(query.step)), query.aggs, `seed ${seed}, round ${round} ${JSON.stringify({ ...query, where: [...query.where.tags ?? []] })}`)
    }
  })

  t.test('a histogram holds every finite value once', async t => {
    const connection = await fleetDatabase(t)
    const fleet = new FleetClickHouse(connection)
    const random = randomFrom(newSeed())
    const points = somePoints(random, 800)
    const odd = [NaN, Infinity, -Infinity].map((value, index): WorldPoint => ({ tenant: 'acme', device: 'd-1', metric: 'temperature', ts: day0 + index + 7, value, version: 1 }))
    await putPoints(connection, [...points, ...odd])
    const values = standing(points).filter(({ tenant, metric }) => tenant === 'acme' && metric === 'temperature').map(({ value }) => value as number)
    for (const buckets of [{ kind: 'count', count: 7 }, { kind: 'count', count: 1 }, { kind: 'width', width: 2.5 }] as const) {
      const answer = await fleet.histogram({ tenant: 'acme', fromTs: base.fromTs, toTs: base.toTs, where: {}, metric: 'temperature', buckets })
      t.equal(answer.notFinite, 3)
      t.equal(answer.buckets.reduce((sum, { count }) => sum + count, 0), values.length)
      const last = answer.buckets.length - 1
      for (const [index, { from, to, count }] of answer.buckets.entries()) {
        const wanted = values.filter(value => value >= from - 1e-9 && (value < to - 1e-9 || (index === last && value <= to + 1e-9))).length
        t.ok(Math.abs(wanted - count) <= 1, `${from} to ${to}: ${count}, ${wanted}`)
      }
    }
    t.strictSame(await fleet.histogram({ tenant: 'acme', fromTs: base.fromTs, toTs: base.toTs, where: {}, metric: 'none', buckets: { kind: 'count', count: 5 } }), { buckets: [], notFinite: 0 })
  })

  t.test('names and values of a request are data, whatever is in them, and no other tenant is ever seen (INVARIANTS 7)', async t => {
    const connection = await fleetDatabase(t)
    const fleet = new FleetClickHouse(connection)
    const hostile = [`' OR 1=1 --`, `\\' OR tenant = 'bolt`, '{b0:String}', `"); DROP TABLE points; --`, '\u0000', `a'||(SELECT 1)||'`, '%', '\n', 'ä'.repeat(60), `],['`, '\t\\t']
    const points = hostile.map((metric, index): WorldPoint => ({ tenant: 'acme', device: 'd-1', metric, ts: day0 + index, value: index, version: 1 }))
    await putPoints(connection, [...points, ...points.map(point => ({ ...point, tenant: 'bolt', value: 1e9 }))])
    await putDevices(connection, hostile.map((site, index) => ({ tenant: 'acme', id: `d-${index}`, type: site, gateway: site, tags: { [site]: site } })))
    for (const [index, text] of hostile.entries()) {
      const query = { ...base, metrics: [text], aggs: ['sum', 'last'] as FleetAgg[] }
      t.strictSame((await fleet.queryFleet(query)).rows, [{ metric: text, ts: null, group: [], values: [index, index] }], JSON.stringify(text))
      t.strictSame((await fleet.queryFleet({ ...query, metrics: hostile, where: { devices: [text] } })).rows, [])
      t.equal((await fleet.queryFleet({ ...query, metrics: hostile, where: { types: [text], gateways: [text], tags: new Map([[text, [text]]]) } })).rows.length, index === 1 ? hostile.length : 0)
      t.equal((await fleet.queryFleet({ ...query, groupBy: [`tag:${text}`], topK: { agg: 'avg', metric: text, k: 1, order: 'desc' } })).rows.length, 1)
    }
    t.strictSame((await fleet.queryFleet({ ...base, tenant: `acme' OR '1'='1`, metrics: hostile })).rows, [])
    const ids = Array.from({ length: 1000 }, (_, index) => `d-${index}-${'x'.repeat(120)}`)
    t.strictSame((await fleet.queryFleet({ ...base, metrics: hostile, aggs: ['count'], where: { devices: ids } })).rows, [], 'a thousand long ids are not too many')
  })

  t.test('an answer that is too large is refused with the field to change', async t => {
    const connection = await fleetDatabase(t)
    const fleet = new FleetClickHouse(connection)
    await connection.command(`INSERT INTO ${connection.database}.points (tenant, metric, device, ts, type, number, version) SELECT 'acme', 'temperature', toString(number), fromUnixTimestamp64Micro({us:Int64}, 'UTC'), 'number', number, 1 FROM numbers(300000)`, { us: String(day0) })
    const refused = async (query: FleetQuery): Promise<Pick<TwinfoldError, 'code' | 'field'>> => await fleet.queryFleet(query).then(() => { throw new Error('it was answered') }, error => error as TwinfoldError)
    t.match(await refused({ ...base, groupBy: ['device'] }), { code: 'limit_reached', field: 'groupBy' }, 'groups')
    t.strictSame((await fleet.queryFleet({ ...base, aggs: ['devices', 'max'] })).rows[0].values, [300_000, 299_999])
  })
}
