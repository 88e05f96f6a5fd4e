/** What every implementation of the analytics port keeps (src/store/analytics-store.ts). */
import type { Test } from 'tap'
import { timestampUsMax } from '../../src/core/limits.js'
import { usPerDay, usPerSecond } from '../../src/core/reading.js'
import type { AnalyticsPoint, AnalyticsStore } from '../../src/store/analytics-store.js'
import { day0, newSeed, newTenantId, randomFrom } from './store-fixtures.js'

export function pointOf (tenant: string, more: Partial<AnalyticsPoint> = {}): AnalyticsPoint {
  return { tenant, device: 'd', metric: 'm', ts: day0, value: 1, stamp: day0, journalId: '00000000000000aa', ...more }
}

export function analyticsContract (t: Test, open: () => Promise<AnalyticsStore>): void {
  const all = async (store: AnalyticsStore, tenant: string): Promise<object> => await store.countPoints(tenant, 0, timestampUsMax)

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
}
