/** What every implementation of the registry port keeps. */
import type { Test } from 'tap'
import type { Page } from '../../src/store/registry.js'
import type { Credential } from '../../src/tenancy/model.js'
import { deviceOf, newSeed, newTenantId, randomFrom, tenantOf, type OpenStore } from './store-fixtures.js'

async function allPages<T> (page: (cursor: string | null) => Promise<Page<T>>): Promise<T[]> {
  const items: T[] = []
  for (let cursor: string | null = null, pages = 0; ; pages++) {
    const { items: some, next } = await page(cursor)
    items.push(...some)
    if (next === null) return items
    if (pages > 1000) throw new Error('the pages do not end')
    cursor = next
  }
}

function credentialOf (tenant: string | null, id: string, device: string | null = null): Credential {
  return { hash: `${tenant ?? 'platform'}${id}`.padEnd(64, '0'), id, role: device === null ? 'operator' : 'device', tenant, device, label: id, createdAt: 1 }
}

export function registryContract (t: Test, open: OpenStore): void {
  void t.test('registry: a tenant is created once, read back whole, and changed', async t => {
    const store = await open()
    const tenant = tenantOf(newTenantId())
    t.equal(await store.getTenant(tenant.id), null)
    t.equal(await store.createTenant(tenant), true)
    t.equal(await store.createTenant({ ...tenant, name: 'another' }), false)
    t.strictSame(await store.getTenant(tenant.id), tenant)
    const changed = { ...tenant, disabled: true, retention: [...tenant.retention, { sinceStamp: 5, days: 7 }] }
    await store.updateTenant(changed)
    t.strictSame(await store.getTenant(tenant.id), changed)
    t.ok((await allPages(async cursor => await store.listTenants(cursor, 2))).some(item => item.id === tenant.id))
  })

  void t.test('registry: of many who create one device at once exactly one succeeds', async t => {
    const store = await open()
    const tenant = newTenantId()
    const outcomes = await Promise.all(Array.from({ length: 40 }, async (_, i) => await store.createDevice(deviceOf(tenant, 'same', { name: `n${i}` }))))
    t.equal(outcomes.filter(Boolean).length, 1)
    t.equal((await store.getDevice(tenant, 'same'))?.name, `n${outcomes.indexOf(true)}`)
  })

  void t.test('registry: devices are listed in order of id, whatever the page size', async t => {
    const store = await open()
    const tenant = newTenantId()
    const seed = newSeed()
    const random = randomFrom(seed)
    const ids = ['a', 'ab', 'a.b', 'a-b', 'a:b', 'A', 'b', '@', '_', '0', 'zz', 'z'].concat(Array.from({ length: 20 }, () => Math.floor(random() * 36 ** 5).toString(36)))
    const expected = [...new Set(ids)].sort()
    await Promise.all(expected.map(async id => await store.createDevice(deviceOf(tenant, id))))
    for (const limit of [1, 3, expected.length, 1000]) {
      const listed = await allPages(async cursor => await store.listDevices(tenant, cursor, limit))
      t.strictSame(listed.map(device => device.id), expected, `seed ${seed}, limit ${limit}`)
    }
    t.equal((await store.listDevices(tenant, null, expected.length)).next, null, 'a page that holds all is the last')
  })

  void t.test('registry: ids with a common beginning belong to their own tenant (INVARIANTS 7)', async t => {
    const store = await open()
    const short = newTenantId()
    const long = `${short}b`
    for (const tenant of [short, long]) {
      for (const id of ['d', 'd2']) await store.createDevice(deviceOf(tenant, id, { gatewayId: 'g', name: tenant }))
      await store.putCredential(credentialOf(tenant, 'c1', 'd'))
    }
    for (const tenant of [short, long]) {
      t.strictSame((await store.listDevices(tenant, null, 100)).items.map(device => device.name), [tenant, tenant])
      t.strictSame((await store.listDevicesOfGateway(tenant, 'g', null, 100)).items.map(device => device.tenant), [tenant, tenant])
      t.strictSame((await store.listCredentials(tenant, null, 100)).items.map(credential => credential.tenant), [tenant])
    }
    t.equal(await store.getDevice(`${short}-`, 'd'), null)
    t.equal(await store.deleteDevice(short, 'd'), true)
    t.not(await store.getDevice(long, 'd'), null)
    t.not(await store.getCredential(credentialOf(long, 'c1').hash), null)
  })

  void t.test('registry: a cursor of one tenant shows nothing of another', async t => {
    const store = await open()
    const [first, second] = [newTenantId(), newTenantId()]
    for (const id of ['a', 'b', 'c']) for (const tenant of [first, second]) await store.createDevice(deviceOf(tenant, id))
    const { next } = await store.listDevices(first, null, 1)
    const page = await store.listDevices(second, next, 10)
    t.ok(page.items.every(device => device.tenant === second))
  })

  void t.test('registry: a device that changes its gateway leaves the old one\'s list', async t => {
    const store = await open()
    const tenant = newTenantId()
    await store.createDevice(deviceOf(tenant, 'd', { gatewayId: 'g1' }))
    await store.updateDevice(deviceOf(tenant, 'd', { gatewayId: 'g2' }))
    t.strictSame((await store.listDevicesOfGateway(tenant, 'g1', null, 10)).items, [])
    t.strictSame((await store.listDevicesOfGateway(tenant, 'g2', null, 10)).items.map(device => device.id), ['d'])
    await store.updateDevice(deviceOf(tenant, 'd'))
    t.strictSame((await store.listDevicesOfGateway(tenant, 'g2', null, 10)).items, [])
    await t.rejects(store.updateDevice(deviceOf(tenant, 'never-created')), { code: 'not_found' })
  })

  void t.test('registry: a deleted device takes its credentials with it and no others', async t => {
    const store = await open()
    const tenant = newTenantId()
    await store.createDevice(deviceOf(tenant, 'd'))
    await store.createDevice(deviceOf(tenant, 'dd'))
    await store.putCredential(credentialOf(tenant, 'one', 'd'))
    await store.putCredential(credentialOf(tenant, 'two', 'd'))
    await store.putCredential(credentialOf(tenant, 'other', 'dd'))
    await store.putCredential(credentialOf(tenant, 'operator'))
    t.equal(await store.deleteDevice(tenant, 'd'), true)
    t.equal(await store.deleteDevice(tenant, 'd'), false)
    t.equal(await store.getCredential(credentialOf(tenant, 'one').hash), null)
    t.equal(await store.getCredential(credentialOf(tenant, 'two').hash), null)
    t.strictSame((await allPages(async cursor => await store.listCredentials(tenant, cursor, 1))).map(credential => credential.id), ['operator', 'other'])
  })

  void t.test('registry: credentials of the platform and of tenants are apart', async t => {
    const store = await open()
    const tenant = newTenantId()
    const platform = credentialOf(null, newTenantId('p'))
    const own = credentialOf(tenant, platform.id)
    await store.putCredential(platform)
    await store.putCredential(own)
    t.strictSame(await store.getCredential(platform.hash), platform)
    t.ok((await allPages(async cursor => await store.listCredentials(null, cursor, 3))).every(credential => credential.tenant === null))
    t.strictSame(await store.deleteCredential(tenant, own.id), own)
    t.equal(await store.deleteCredential(tenant, own.id), null)
    t.strictSame(await store.getCredential(platform.hash), platform)
    t.strictSame(await store.deleteCredential(null, platform.id), platform)
    t.equal(await store.getCredential(platform.hash), null)
  })

  void t.test('registry: names that are no ids find nothing', async t => {
    const store = await open()
    const tenant = newTenantId()
    await store.createTenant(tenantOf(tenant))
    await store.createDevice(deviceOf(tenant, 'd'))
    for (const id of ['', 'a\0b', 'd\0', 'ł', '\u0164', 'x'.repeat(500), '../d']) {
      t.equal(await store.getDevice(tenant, id), null, JSON.stringify(id))
      t.equal(await store.deleteDevice(tenant, id), false, JSON.stringify(id))
      t.equal(await store.getTenant(`${id}\0`), null, JSON.stringify(id))
    }
  })
}
