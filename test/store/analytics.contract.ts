/** What every implementation of the analytics port keeps (src/store/analytics-store.ts). */
import type { Test } from 'tap'
import { timestampUsMax } from '../../src/core/limits.js'
import { usPerDay, usPerHour, usPerSecond } from '../../src/core/reading.js'
import { TierFolder } from '../../src/series/tiers/index.js'
import type { AnalyticsCount, AnalyticsHours, AnalyticsPoint } from '../../src/store/analytics-store.js'
import type { OpenedAnalytics } from '../../src/store/open-analytics.js'
import type { Device } from '../../src/tenancy/model.js'
import { day0, newSeed, newTenantId, randomFrom } from './store-fixtures.js'

export function pointOf (tenant: string, more: Partial<AnalyticsPoint> = {}): AnalyticsPoint {
  return { tenant, device: 'd', metric: 'm', ts: day0, value: 1, stamp: day0, journalId: '00000000000000aa', ...more }
}

export function analyticsContract (t: Test, open: () => Promise<OpenedAnalytics>): void {
  const all = async (store: OpenedAnalytics, tenant: string): Promise<AnalyticsCount> => await store.countPoints(tenant, 0, timestampUsMax)

  void t.test('analytics: a point counts once, however often and in whatever company it is inserted', async t => {
    const store = await open()
    const tenant = newTenantId()
    const seed = newSeed()
    const random = randomFrom(seed)
    const points = Array.from({ length: 500 }, (_, i) => pointOf(tenant, { device: `d${i % 7}`, metric: `m${i % 3}`, ts: day0 + i * usPerSecond, value: random(), stamp: day0 + i }))
    for (let again = 0; again < 6; again++) {
      const from = Math.floor(random() * 400)
      await store.insertPoints(again === 0 ? points : points.slice(from, from + 100).sort(() => random() - 0.5))
    }
    t.strictSame(await all(store, tenant), { points: 500, devices: 7 }, `seed ${seed}`)
  })

  void t.test('analytics: values of one point under several stamps, journals and types are one point', async t => {
    const store = await open()
    const tenant = newTenantId()
    const versions = [1, true, 'x'].flatMap((value, i) => ['0000000000000001', 'ffffffffffffffff'].map(journalId => pointOf(tenant, { value, stamp: day0 + i, journalId })))
    for (const point of versions) await store.insertPoints([point])
    await store.insertPoints(versions)
    t.strictSame(await all(store, tenant), { points: 1, devices: 1 })
  })

  void t.test('analytics: a range holds its start and not its end, to the microsecond, from 1970 to 2255', async t => {
    const store = await open()
    const tenant = newTenantId()
    const times = [0, 1, 999_999, day0, day0 + 1, day0 + usPerDay, timestampUsMax - 1]
    await store.insertPoints(times.map((ts, i) => pointOf(tenant, { ts, device: `d${i}` })))
    const count = async (fromTs: number, toTs: number): Promise<number> => (await store.countPoints(tenant, fromTs, toTs)).points
    t.equal(await count(0, timestampUsMax), times.length)
    t.equal(await count(0, 1), 1)
    t.equal(await count(1, 999_999), 1)
    t.equal(await count(day0, day0 + 1), 1)
    t.equal(await count(day0 + 1, day0 + usPerDay + 1), 2)
    t.equal(await count(timestampUsMax - 1, timestampUsMax), 1)
    t.equal(await count(day0 + 2, day0 + 3), 0)
  })

  void t.test('analytics: no count holds points of another tenant (INVARIANTS 7)', async t => {
    const store = await open()
    const tenant = newTenantId()
    const neighbours = [`${tenant}a`, `${tenant}_`, tenant.slice(0, -1)]
    await store.insertPoints([pointOf(tenant), ...neighbours.flatMap(other => Array.from({ length: 9 }, (_, i) => pointOf(other, { device: `o${i}` })))])
    t.strictSame(await all(store, tenant), { points: 1, devices: 1 })
    t.strictSame(await all(store, `' OR 1 = 1 --`), { points: 0, devices: 0 })
  })

  void t.test('analytics: an empty insert changes nothing, and it answers a ping', async t => {
    const store = await open()
    await store.insertPoints([])
    t.strictSame(await all(store, newTenantId()), { points: 0, devices: 0 })
    await store.ping()
  })

  const bucket = { start: day0, widthMinutes: 1440 } as const
  const hoursOf = (tenant: string, device: string, version: number, hours: readonly number[]): AnalyticsHours => {
    const folder = new TierFolder(usPerHour)
    const ts = Float64Array.from(hours, hour => day0 + hour * usPerHour)
    if (ts.length > 0) folder.add({ ts, stamps: ts, columns: [{ metric: 'm', type: 'number', rows: null, values: Float64Array.from(hours) }] })
    return { tenant, device, bucket, version, windows: folder.finish() }
  }
  const hoursIn = async (store: OpenedAnalytics, tenant: string): Promise<string[]> => (await store.connection.query<{ device: string, hour: number, sum: number }>(
    `SELECT device, toFloat64(toUnixTimestamp64Second(hour)) AS hour, sum FROM ${store.connection.database}.tiers_1h FINAL WHERE tenant = {tenant:String} ORDER BY device, hour`, { tenant }))
    .map(({ device, hour, sum }) => `${device} ${(hour - day0 / usPerSecond) / 3600} ${sum}`)

  void t.test('analytics: a bucket\'s hours are those of its greatest version, and what a later seal has not is gone', async t => {
    const store = await open()
    const tenant = newTenantId()
    await store.replaceHours([hoursOf(tenant, 'd', 100, [1, 2, 3]), hoursOf(tenant, 'e', 100, [5])])
    t.strictSame(await hoursIn(store, tenant), ['d 1 1', 'd 2 2', 'd 3 3', 'e 5 5'])
    for (let again = 0; again < 2; again++) await store.replaceHours([hoursOf(tenant, 'd', 200, [2, 4])])
    t.strictSame(await hoursIn(store, tenant), ['d 2 2', 'd 4 4', 'e 5 5'])
    await store.replaceHours([hoursOf(tenant, 'd', 150, [1, 9])])
    t.strictSame((await hoursIn(store, tenant)).filter(row => row === 'd 2 2' || row === 'd 4 4'), ['d 2 2', 'd 4 4'], 'one that comes late takes nothing of a newer one away')
    await store.replaceHours([hoursOf(tenant, 'd', 300, []), hoursOf(tenant, 'e', 300, [])])
    t.strictSame(await hoursIn(store, tenant), [])
  })

  void t.test('analytics: what is erased goes, by device, metric, range and stamp, as often as it is said, and nothing else', async t => {
    const store = await open()
    const tenant = newTenantId()
    const points = ['a', 'b'].flatMap(device => ['m', 'n'].flatMap(metric => [0, 1, 2].map(hour => pointOf(tenant, { device, metric, ts: day0 + hour * usPerHour, stamp: day0 + hour }))))
    await store.insertPoints(points)
    await store.replaceHours([hoursOf(tenant, 'a', day0, [0, 1, 2]), hoursOf(tenant, 'b', day0, [0, 1, 2])])
    const count = async (): Promise<number> => (await all(store, tenant)).points
    await store.erase([{ tenant, device: 'a', metric: 'n', fromTs: day0 + usPerHour, toTs: day0 + 2 * usPerHour, stamp: day0 + 100 }])
    t.equal(await count(), 11)
    t.equal((await hoursIn(store, tenant)).length, 6, 'hours of the other metric stay')
    await store.erase([{ tenant, device: 'a', stamp: day0 + 1 }, { tenant: `${tenant}x`, device: null, stamp: day0 + 100 }])
    t.equal(await count(), 9, 'only what was accepted before')
    for (let again = 0; again < 2; again++) await store.erase([{ tenant, device: 'a', stamp: day0 + 100 }])
    t.equal(await count(), 6)
    t.strictSame(await hoursIn(store, tenant), ['b 0 0', 'b 1 1', 'b 2 2'])
    await store.insertPoints([pointOf(tenant, { device: 'a', stamp: day0 + 200 })])
    await store.erase([{ tenant, device: 'a', stamp: day0 + 100 }])
    t.equal(await count(), 7, 'what comes later stays')
    await store.erase([{ tenant, device: null, stamp: day0 + 1000 }])
    t.equal(await count(), 0)
  })

  void t.test('analytics: a rebuild\'s end takes away what was not written again, and only of its tenant', async t => {
    const store = await open()
    const [tenant, other] = [newTenantId(), newTenantId()]
    await store.insertPoints([pointOf(tenant, { device: 'gone' }), pointOf(tenant, { device: 'kept' }), pointOf(other)])
    await store.replaceHours([hoursOf(tenant, 'gone', 5, [1]), hoursOf(tenant, 'hours', 5, [1])])
    await new Promise(resolve => { setTimeout(resolve, 2100) })
    const startedUs = Date.now() * 1000
    await store.insertPoints([pointOf(tenant, { device: 'kept' })])
    const left = async (of: string | null, device: string | null): Promise<readonly string[]> =>
      (await store.devicesWrittenBefore(of, startedUs - 1000, device === null ? null : { tenant, device }, 10_000)).filter(name => name.tenant === tenant || name.tenant === other).map(name => `${name.tenant === tenant ? 'own' : 'other'} ${name.device}`)
    t.strictSame(await left(tenant, null), ['own gone', 'own hours'], 'those that were written before, and not again')
    t.strictSame(await left(tenant, 'gone'), ['own hours'])
    t.ok((await left(null, null)).includes('other d'))
    t.equal((await store.devicesWrittenBefore(tenant, startedUs - 1000, null, 1)).length, 1)
    await store.dropWrittenBefore(tenant, startedUs - 1000)
    t.strictSame(await left(tenant, null), [])
    t.strictSame(await all(store, tenant), { points: 1, devices: 1 })
    t.strictSame(await all(store, other), { points: 1, devices: 1 })
    t.strictSame(await hoursIn(store, tenant), [])
  })

  void t.test('analytics: devices are as the last look found them; one that is gone is gone', async t => {
    const store = await open()
    const tenant = newTenantId()
    const device = (id: string, more: object = {}): Device => ({ tenant, id, type: 'meter', name: 'é', gateway: false, gatewayId: 'gw', createdAt: day0, tags: { site: 'North "1"', 'ä': '' }, ...more })
    const seen = async (): Promise<unknown[]> => await store.connection.query(`SELECT device, type, name, gateway, is_gateway, tags FROM ${store.connection.database}.devices FINAL WHERE tenant = {tenant:String} ORDER BY device`, { tenant })
    await store.putDevices([{ tenant, id: 'a', device: device('a'), version: 10 }, { tenant, id: 'b', device: device('b', { tags: undefined, gatewayId: null, gateway: true }), version: 10 }])
    t.strictSame(await seen(), [
      { device: 'a', type: 'meter', name: 'é', gateway: 'gw', is_gateway: false, tags: { site: 'North "1"', 'ä': '' } }, { device: 'b', type: 'meter', name: 'é', gateway: '', is_gateway: true, tags: {} }
    ])
    await store.putDevices([{ tenant, id: 'b', device: null, version: 11 }, { tenant, id: 'a', device: null, version: 9 }])
    t.strictSame((await seen()).length, 1)
    await store.putDevices([{ tenant, id: 'c', device: device('c'), version: 20 }])
    await store.dropDevicesBefore(tenant, 20)
    t.match(await seen(), [{ device: 'c' }])
  })

  void t.test('analytics: a mark is the greatest position that was put', async t => {
    const store = await open()
    const journalId = newTenantId()
    t.equal(await store.getMark(journalId), null)
    for (const position of [5, 9, 7]) await store.putMark(journalId, position)
    t.equal(await store.getMark(journalId), 9)
  })
}
