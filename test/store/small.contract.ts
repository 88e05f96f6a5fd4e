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

  void t.test('idempotency: what is younger than the stamp stays', async t => {
    const store = await open()
    const tenant = newTenantId()
    const records = Array.from({ length: 60 }, (_, hour) => ({ tenant, key: `k${hour}`, fingerprint: 'f', stamp: day0 + 100 * usPerDay + hour * usPerHour }))
    await store.putIdempotency(records)
    await store.dropIdempotencyBefore(records[36].stamp)
    for (const record of records.slice(36)) t.strictSame(await store.getIdempotency(tenant, record.key), record)
  })

  void t.test('idempotency: of many who reserve one key at once all see the same holder', async t => {
    const store = await open()
    const tenant = newTenantId()
    const records = Array.from({ length: 10 }, (_, i) => ({ tenant, key: 'c1:k ü\0', fingerprint: `${i}:1`, stamp: day0 + i }))
    const holders = await Promise.all(records.map(async record => await store.claimIdempotency(record)))
    // A store that one node has to itself reserves nothing, and says so.
    if (holders[0] === null) return t.ok(holders.every(holder => holder === null))
    t.ok(records.some(record => record.stamp === holders[0]?.stamp))
    for (const holder of holders) t.strictSame(holder, holders[0])
    t.strictSame(await store.claimIdempotency({ ...records[0], stamp: day0 + 99 }), holders[0], 'for good')
    const other = { tenant: `${tenant}x`, key: records[0].key, fingerprint: 'f', stamp: day0 + 1 }
    t.strictSame(await store.claimIdempotency(other), other, 'of its tenant alone')
    t.equal(await store.getIdempotency(tenant, records[0].key), null, 'a reserved key is not a used one')
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

  void t.test('erasures: listed page by page in order of device, each tenant its own', async t => {
    const store = await open()
    const tenant = newTenantId()
    const devices = ['a', 'a-', 'a.b', 'A', 'b', 'zz', '0', '@']
    for (const name of [tenant, `${tenant}-`]) for (const device of devices) await store.putErasure({ tenant: name, device, stamp: name.length })
    await store.putErasure({ tenant, device: null, stamp: 7 })
    for (const limit of [1, 2, 8, 9, 100]) {
      const listed: (string | null)[] = []
      let cursor: string | null = null
      do {
        const page = await store.listErasures(tenant, cursor, limit)
        listed.push(...page.items.map(item => item.device))
        cursor = page.next
      } while (cursor !== null)
      t.strictSame(listed, [null, ...[...devices].sort()], `limit ${limit}`)
    }
    t.equal((await store.listErasures(`${tenant}-`, null, 100)).items.length, devices.length)
  })

  void t.test('erasures: of many at once the greatest stays', async t => {
    const store = await open()
    const tenant = newTenantId()
    const stamps = Array.from({ length: 20 }, (_, i) => day0 + (i * 7) % 20)
    await Promise.all(stamps.map(async stamp => { await store.putErasure({ tenant, device: 'd', stamp }) }))
    t.equal(await store.erasedBefore(tenant, 'd'), day0 + 19)
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
