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

  void t.test('registry: tenants and devices whose ids begin alike never meet in any list (INVARIANTS 7)', async t => {
    const store = await open()
    const base = newTenantId()
    const tenants = [base, `${base}-`, `${base}_`, `${base}0`, `${base}-d`]
    const ids = ['d', 'd-', 'd:', 'd.d', 'dd', `${base}`, '-']
    for (const tenant of tenants) {
      await Promise.all(ids.map(async id => await store.createDevice(deviceOf(tenant, id, { gatewayId: 'g', name: `${tenant} ${id}` }))))
      await store.createDevice(deviceOf(tenant, 'child', { gatewayId: 'g-' }))
      await store.putCredential(credentialOf(tenant, `c-${tenant}`, 'd'))
    }
    for (const tenant of tenants) {
      const expected = [...ids].sort()
      const names = expected.map(id => `${tenant} ${id}`)
      const all = await allPages(async cursor => await store.listDevices(tenant, cursor, 3))
      t.strictSame(all.filter(device => device.id !== 'child').map(device => device.name), names)
      t.strictSame((await allPages(async cursor => await store.listDevicesOfGateway(tenant, 'g', cursor, 2))).map(device => device.name), names)
      t.strictSame((await store.listDevicesOfGateway(tenant, 'g-', null, 9)).items.map(device => device.id), ['child'])
      t.strictSame((await store.listCredentials(tenant, null, 9)).items.map(credential => credential.id), [`c-${tenant}`])
      t.equal(await store.deleteCredential(tenant, `c-${tenants[0]}x`), null)
    }
    t.equal(await store.deleteDevice(tenants[0], 'd'), true)
    for (const tenant of tenants.slice(1)) {
      t.equal((await store.getDevice(tenant, 'd'))?.name, `${tenant} d`)
      t.not(await store.getCredential(credentialOf(tenant, `c-${tenant}`).hash), null)
    }
  })

  void t.test('registry: what is there all the time is listed exactly once while others come and go', async t => {
    const store = await open()
    const tenant = newTenantId()
    const kept = Array.from({ length: 60 }, (_, i) => `k${String(i * 7 % 60).padStart(2, '0')}`)
    await Promise.all(kept.map(async id => await store.createDevice(deviceOf(tenant, id))))
    let stopped = false
    const churn = (async () => {
      for (let i = 0; !stopped; i++) {
        await store.createDevice(deviceOf(tenant, `k${String(i % 60).padStart(2, '0')}-${i}`))
        if (i % 2 === 0) await store.deleteDevice(tenant, `k${String(i % 60).padStart(2, '0')}-${i}`)
      }
    })()
    for (const limit of [1, 7, 25]) {
      const listed = await allPages(async cursor => await store.listDevices(tenant, cursor, limit))
      const ids = listed.map(device => device.id)
      t.strictSame(ids, [...new Set(ids)].sort(), `in order, none twice, limit ${limit}`)
      t.strictSame(ids.filter(id => id.length === 3), [...kept].sort(), `limit ${limit}`)
    }
    stopped = true
    await churn
  })

  void t.test('registry: a device that is created again after its deletion is a new one', async t => {
    const store = await open()
    const tenant = newTenantId()
    for (let round = 0; round < 4; round++) {
      t.equal(await store.createDevice(deviceOf(tenant, 'd', { gatewayId: `g${round}`, name: `n${round}` })), true)
      t.equal(await store.createDevice(deviceOf(tenant, 'd')), false)
      t.strictSame((await store.listDevices(tenant, null, 9)).items.map(device => device.name), [`n${round}`])
      t.strictSame((await store.listDevicesOfGateway(tenant, `g${round}`, null, 9)).items.map(device => device.id), ['d'])
      for (let before = 0; before < round; before++) t.strictSame((await store.listDevicesOfGateway(tenant, `g${before}`, null, 9)).items, [])
      await store.putCredential(credentialOf(tenant, `token${round}`, 'd'))
      t.equal(await store.deleteDevice(tenant, 'd'), true)
      t.strictSame((await store.listDevices(tenant, null, 9)).items, [])
      t.strictSame((await store.listCredentials(tenant, null, 9)).items, [])
    }
  })

  void t.test('registry: a credential put again under its hash is the new one, and listed once', async t => {
    const store = await open()
    const tenant = newTenantId()
    const first = credentialOf(tenant, 'first', 'd')
    await store.putCredential(first)
    await store.putCredential(first)
    const second = { ...first, id: 'second', device: 'e', label: 'moved' }
    await store.putCredential(second)
    t.strictSame(await store.getCredential(first.hash), second)
    t.strictSame((await store.listCredentials(tenant, null, 9)).items, [second])
    t.equal(await store.deleteCredential(tenant, 'first'), null)
    await store.createDevice(deviceOf(tenant, 'd'))
    await store.deleteDevice(tenant, 'd')
    t.strictSame(await store.getCredential(first.hash), second, 'it left the device that it was of')
  })

  void t.test('registry: cursors that this server did not give out are refused or find nothing, and break nothing', async t => {
    const store = await open()
    const tenant = newTenantId()
    await store.createDevice(deviceOf(tenant, 'd'))
    for (const cursor of ['%', 'a b', '\0', 'ä', 'x'.repeat(5000)]) await t.rejects(store.listDevices(tenant, cursor, 5), { code: 'invalid_field' }, JSON.stringify(cursor.slice(0, 9)))
    for (const cursor of ['AAAA', '____', 'ZZZZZZ']) t.type((await store.listDevices(tenant, cursor, 5)).items, Array)
  })
}
