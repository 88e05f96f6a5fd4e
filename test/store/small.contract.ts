/** What every implementation of the small ports keeps: cursors, idempotency keys, erasures, settings. */
import type { Test } from 'tap'
import { usPerDay, usPerHour } from '../../src/core/reading.js'
import { day0, newTenantId, type OpenStore } from './store-fixtures.js'

export function smallContract (t: Test, open: OpenStore): void {
  void t.test('cursors: per journal and consumer, the last one put wins', async t => {
    const store = await open()
    const journal = '00000000000000b1'
    t.equal(await store.getCursor(journal, newTenantId()), null)
    const [one, two] = [newTenantId(), newTenantId()]
    await Promise.all(Array.from({ length: 20 }, async (_, i) => { await store.putCursor(journal, one, i * 2 ** 40, i % 2 === 0) }))
    t.equal(await store.getCursor(journal, one), 19 * 2 ** 40)
    await store.putCursor('00000000000000b2', one, 5, true)
    await store.putCursor(journal, two, 0, false)
    t.strictSame([await store.getCursor(journal, one), await store.getCursor(journal, two)], [19 * 2 ** 40, 0])
  })

  void t.test('idempotency: a key is found in its tenant, the newest use of it first', async t => {
    const store = await open()
    const tenant = newTenantId()
    const record = { tenant, key: 'c1:Schlüssel \0 % /', fingerprint: '1234:99', stamp: day0 + 5 }
    await store.putIdempotency([record, { ...record, key: 'c1:other', stamp: day0 + 6 }])
    t.strictSame(await store.getIdempotency(tenant, record.key), record)
    t.equal(await store.getIdempotency(`${tenant}x`, record.key), null)
    t.equal(await store.getIdempotency(tenant, 'c1:'), null)
    const again = { ...record, fingerprint: '5678:1', stamp: day0 + 2 * usPerDay }
    await store.putIdempotency([again])
    t.strictSame(await store.getIdempotency(tenant, record.key), again)
  })

  void t.test('idempotency: what is old goes, what is younger than the stamp stays', async t => {
    const store = await open()
    const tenant = newTenantId()
    const records = Array.from({ length: 60 }, (_, hour) => ({ tenant, key: `k${hour}`, fingerprint: 'f', stamp: day0 + 100 * usPerDay + hour * usPerHour }))
    await store.putIdempotency(records)
    await store.dropIdempotencyBefore(records[36].stamp)
    for (const record of records.slice(36)) t.strictSame(await store.getIdempotency(tenant, record.key), record)
    t.equal(await store.getIdempotency(tenant, 'k0'), null)
  })

  void t.test('erasures: the greatest stamp of the device or its tenant counts', async t => {
    const store = await open()
    const tenant = newTenantId()
    t.equal(await store.erasedBefore(tenant, 'd'), 0)
    await store.putErasure({ tenant, device: 'd', stamp: 50 })
    await store.putErasure({ tenant, device: 'd', stamp: 40 })
    t.strictSame([await store.erasedBefore(tenant, 'd'), await store.erasedBefore(tenant, 'dd'), await store.erasedBefore(`${tenant}x`, 'd')], [50, 0, 0])
    await store.putErasure({ tenant, device: null, stamp: 45 })
    t.strictSame([await store.erasedBefore(tenant, 'd'), await store.erasedBefore(tenant, 'dd')], [50, 45])
    t.strictSame((await store.listErasures(tenant, null, 10)).items, [{ tenant, device: null, stamp: 45 }, { tenant, device: 'd', stamp: 50 }])
  })

  void t.test('settings: by name, any text', async t => {
    const store = await open()
    const name = newTenantId('setting')
    t.equal(await store.getSetting(name), null)
    await store.putSetting(name, 'grün\n')
    await store.putSetting(`${name}2`, '')
    t.strictSame([await store.getSetting(name), await store.getSetting(`${name}2`)], ['grün\n', ''])
  })
}
