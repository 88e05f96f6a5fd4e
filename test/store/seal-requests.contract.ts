/** What every implementation of the port for seal requests keeps (src/store/seal-requests.ts). */
import type { Test } from 'tap'
import { shardOf } from '../../src/core/ids.js'
import { usPerDay } from '../../src/core/reading.js'
import type { SealRequest, SealRequestStore } from '../../src/store/seal-requests.js'
import { day0, gather, newTenantId, type OpenStore } from './store-fixtures.js'

function requestOf (tenant: string, device: string, more: Partial<SealRequest> = {}): SealRequest {
  return { tenant, device, bucket: { start: day0, widthMinutes: 1440 }, stamp: day0 + 5, ...more }
}

const nameOf = ({ tenant, device, bucket, stamp }: SealRequest): string => `${tenant} ${device} ${bucket.start} ${bucket.widthMinutes} ${stamp}`

async function ofShard (store: SealRequestStore, shard: number, tenant: string): Promise<string[]> {
  return (await gather(store.scanSealRequests(shard))).filter(request => request.tenant === tenant).map(nameOf).sort()
}

export function sealRequestsContract (t: Test, open: OpenStore): void {
  void t.test('seal requests: those of a shard are found over all tenants, and go when they are done', async t => {
    const store = await open()
    const tenants = [newTenantId(), newTenantId()]
    const devices = Array.from({ length: 40 }, (_, i) => `dev-${i}:x`)
    const requests = tenants.flatMap(tenant => devices.flatMap(device => [0, 1].map(i => requestOf(tenant, device, { bucket: { start: day0 + i * usPerDay, widthMinutes: i === 0 ? 60 : 1440 } }))))
    await store.putSealRequests(requests)
    await store.putSealRequests(requests.slice(0, 10))
    for (const shard of new Set(devices.map(shardOf))) {
      for (const tenant of tenants) t.strictSame(await ofShard(store, shard, tenant), requests.filter(request => request.tenant === tenant && shardOf(request.device) === shard).map(nameOf).sort())
    }
    await store.deleteSealRequests(requests.filter(({ tenant, device }) => tenant === tenants[0] || device === devices[0]))
    for (const device of devices) {
      const shard = shardOf(device)
      t.strictSame(await ofShard(store, shard, tenants[0]), [])
      t.strictSame(await ofShard(store, shard, tenants[1]), requests.filter(request => request.tenant === tenants[1] && request.device !== devices[0] && shardOf(request.device) === shard).map(nameOf).sort())
    }
    await store.deleteSealRequests(requests)
    await store.putSealRequests([])
    await store.deleteSealRequests([])
  })

  void t.test('seal requests: counted per device up to a stamp', async t => {
    const store = await open()
    const tenant = newTenantId()
    const stamps = [10, 20, 20, 30, 255, 256, 2 ** 40]
    await store.putSealRequests(stamps.map((stamp, i) => requestOf(tenant, 'a', { stamp, bucket: { start: day0 + i * usPerDay, widthMinutes: 1440 } })))
    await store.putSealRequests([requestOf(tenant, 'ab', { stamp: 1 }), requestOf(`${tenant}a`, 'a', { stamp: 1 })])
    for (const upTo of [9, 10, 20, 29, 255, 256, 2 ** 41]) t.equal(await store.countSealRequests(tenant, 'a', upTo), stamps.filter(stamp => stamp <= upTo).length)
    await store.deleteSealRequests([requestOf(tenant, 'a', { stamp: 10 })])
    t.equal(await store.countSealRequests(tenant, 'a', 100), 3)
    t.equal(await store.countSealRequests(tenant, 'none', 100), 0)
  })

  void t.test('seal requests: thousands of one shard are scanned while they are removed and new ones come', async t => {
    const store = await open()
    const tenant = newTenantId()
    const requests = Array.from({ length: 2500 }, (_, i) => requestOf(tenant, 'd', { bucket: { start: day0 + i * usPerDay, widthMinutes: 1440 } }))
    await store.putSealRequests(requests)
    let seen = 0
    for await (const request of store.scanSealRequests(shardOf('d'))) {
      if (request.tenant !== tenant) continue
      seen++
      if (seen % 100 === 0) await store.putSealRequests([requestOf(tenant, 'd', { stamp: day0 + seen })])
      if (seen <= 2000) await store.deleteSealRequests([request])
    }
    t.ok(seen >= 2500, `${seen}`)
    t.ok(await store.countSealRequests(tenant, 'd', Infinity) >= 500)
  })
}
