/** The registry and the plans on Cassandra: what the contract cannot ask of every store. Deaths between writes, two nodes at once. */
import t, { type Test } from 'tap'
import { defaultPlan } from '../../src/series/partition-plan.js'
import { CassandraPlans } from '../../src/store/cluster/cassandra/cassandra-plans.js'
import { CassandraRegistry } from '../../src/store/cluster/cassandra/cassandra-registry.js'
import { saltOf } from '../../src/store/cluster/cassandra/salted.js'
import type { Page } from '../../src/store/registry.js'
import type { Credential, Device } from '../../src/tenancy/model.js'
import { skipWithout } from '../support/services.js'
import { diesAt, FailingCassandra, migratedKeyspace, openClient, type Failure } from './cassandra-fixture.js'
import { deviceOf, newSeed, newTenantId, randomFrom, tenantOf } from './store-fixtures.js'

t.setTimeout(240_000)

const failures: readonly Failure[] = ['before', 'after']
const gateways = ['g1', 'g2', 'g3']

function tokenOf (tenant: string, id: string, device: string | null): Credential {
  return { hash: `${tenant}${id}`.padEnd(64, '0'), id, role: device === null ? 'viewer' : 'device', tenant, device, label: '', createdAt: 1 }
}

async function allDevices (registry: CassandraRegistry, tenant: string, limit: number): Promise<Device[]> {
  const devices: Device[] = []
  let cursor: string | null = null
  do {
    const page = await registry.listDevices(tenant, cursor, limit)
    devices.push(...page.items)
    cursor = page.next
  } while (cursor !== null)
  return devices
}

/** Every device that can be read is listed once, alike, under the tenant and under its gateway; nothing else is. */
async function checkLists (t: Test, registry: CassandraRegistry, tenant: string, ids: readonly string[], what: string): Promise<void> {
  const devices = (await Promise.all([...ids].sort().map(async id => await registry.getDevice(tenant, id)))).filter(device => device !== null)
  t.strictSame(await allDevices(registry, tenant, 3), devices, `${what}: by tenant`)
  for (const gateway of gateways) {
    t.strictSame((await registry.listDevicesOfGateway(tenant, gateway, null, 100)).items, devices.filter(device => device.gatewayId === gateway), `${what}: by ${gateway}`)
  }
}

function suites (): void {
  const setUp = (async () => {
    const settings = await migratedKeyspace(t)
    const [first, second] = [await openClient(t, settings), await openClient(t, settings)]
    const failing = new FailingCassandra(first)
    return { first, second, failing, dying: new CassandraRegistry(failing), registry: new CassandraRegistry(second) }
  })()

  /** Runs the action once for every write it makes, with the process dying there; `prepare` and `check` live on. */
  async function dieEverywhere (prepare: (tenant: string, store: CassandraRegistry) => Promise<void>, action: (tenant: string, store: CassandraRegistry) => Promise<unknown>, check: (tenant: string, died: boolean, what: string) => Promise<void>): Promise<void> {
    const { failing, dying, registry } = await setUp
    for (const failure of failures) {
      for (let write = 0, died = true; died; write++) {
        const tenant = newTenantId()
        await prepare(tenant, registry)
        failing.failAs(diesAt(write, failure))
        died = await action(tenant, dying).then(() => failing.writes > write, () => true)
        failing.failAs(() => null)
        await check(tenant, died, `dead ${failure} write ${write}`)
        if (write > 20) throw new Error('the writes do not end')
      }
    }
  }

  void t.test('of 20 creators at once through two nodes exactly one succeeds', async t => {
    const { first, second } = await setUp
    const registries = [new CassandraRegistry(first), new CassandraRegistry(second)]
    const tenant = newTenantId()
    for (let round = 0; round < 3; round++) {
      const created = await Promise.all(Array.from({ length: 20 }, async (_, i) => await registries[i % 2].createDevice(deviceOf(tenant, `d${round}`, { name: `n${i}`, gatewayId: gateways[i % 3] }))))
      t.equal(created.filter(Boolean).length, 1, 'one device')
      t.equal((await registries[0].getDevice(tenant, `d${round}`))?.name, `n${created.indexOf(true)}`)
      const made = await Promise.all(Array.from({ length: 20 }, async (_, i) => await registries[i % 2].createTenant({ ...tenantOf(`${tenant}-${round}`), name: `n${i}` })))
      t.equal(made.filter(Boolean).length, 1, 'one tenant')
      t.equal((await registries[1].getTenant(`${tenant}-${round}`))?.name, `n${made.indexOf(true)}`)
    }
    await checkLists(t, registries[0], tenant, ['d0', 'd1', 'd2'], 'after the races')
  })

  void t.test('of 20 plan writers at once through two nodes exactly one succeeds, and the version says so', async t => {
    const { first, second } = await setUp
    const plans = [new CassandraPlans(first), new CassandraPlans(second)]
    const tenant = newTenantId()
    for (let version = 0; version < 4; version++) {
      const outcomes = await Promise.all(Array.from({ length: 20 }, async (_, i) => await plans[i % 2].putPlanIfVersion(tenant, 'd', { ...defaultPlan, salts: [{ fromStamp: 0, salts: i + 1 }] }, version)))
      t.equal(outcomes.filter(Boolean).length, 1)
      t.strictSame(await plans[0].getPlan(tenant, 'd'), { plan: { ...defaultPlan, salts: [{ fromStamp: 0, salts: outcomes.indexOf(true) + 1 }] }, version: version + 1 })
    }
  })

  void t.test('a conditional write whose answer was lost is known for what it was', async t => {
    const { failing, dying, registry, first } = await setUp
    const tenant = newTenantId()
    const loseAnswers = (): void => {
      let lost = 0
      failing.failAs((_, cql) => / IF /.test(cql) && lost++ === 0 ? 'after' : null)
    }
    loseAnswers()
    t.equal(await dying.createTenant(tenantOf(tenant)), true)
    loseAnswers()
    t.equal(await dying.createTenant(tenantOf(tenant)), false, 'the second was not its maker')
    loseAnswers()
    t.equal(await dying.createDevice(deviceOf(tenant, 'd', { gatewayId: 'g1' })), true)
    loseAnswers()
    await dying.updateDevice(deviceOf(tenant, 'd', { gatewayId: 'g2', name: 'new' }))
    await checkLists(t, registry, tenant, ['d'], 'after a lost change')
    loseAnswers()
    await dying.putCredential(tokenOf(tenant, 'c', 'd'))
    loseAnswers()
    t.strictSame(await dying.deleteCredential(tenant, 'c'), tokenOf(tenant, 'c', 'd'))
    await registry.putCredential(tokenOf(tenant, 'c2', 'd'))
    loseAnswers()
    t.equal(await dying.deleteDevice(tenant, 'd'), true)
    t.equal(await registry.getCredential(tokenOf(tenant, 'c2', 'd').hash), null)
    await checkLists(t, registry, tenant, ['d'], 'after a lost deletion')
    const plans = new CassandraPlans(failing)
    for (const version of [0, 1, 2]) {
      loseAnswers()
      t.equal(await plans.putPlanIfVersion(tenant, 'd', defaultPlan, version), true, `version ${version}`)
      loseAnswers()
      t.equal(await plans.putPlanIfVersion(tenant, 'd', defaultPlan, version), false, `version ${version} again`)
    }
    t.equal((await new CassandraPlans(first).getPlan(tenant, 'd')).version, 3)
    failing.failAs(() => null)
  })

  void t.test('a lost plan answer that another has written over since is no success', async t => {
    const { failing, second } = await setUp
    const tenant = newTenantId()
    const other = new CassandraPlans(second)
    failing.failAs(async write => {
      if (write === 1) await other.putPlanIfVersion(tenant, 'd', defaultPlan, 1)
      return write === 0 ? 'after' : null
    })
    t.equal(await new CassandraPlans(failing).putPlanIfVersion(tenant, 'd', defaultPlan, 0), false)
    t.equal((await other.getPlan(tenant, 'd')).version, 2)
    failing.failAs(() => null)
  })

  void t.test('a creator that dies between two writes leaves no ghost, and the id can be created', async t => {
    const { registry } = await setUp
    const device = (tenant: string): Device => deviceOf(tenant, 'd', { gatewayId: 'g1' })
    await dieEverywhere(async () => {}, async (tenant, store) => await store.createDevice(device(tenant)), async (tenant, died, what) => {
      await checkLists(t, registry, tenant, ['d'], what)
      const created = await registry.createDevice(device(tenant))
      if (!died) t.equal(created, false)
      t.strictSame(await registry.getDevice(tenant, 'd'), device(tenant), what)
      await checkLists(t, registry, tenant, ['d'], `${what}, created again`)
    })
  })

  void t.test('a change of gateway that dies between two writes is done or not, and the lists agree', async t => {
    const { registry } = await setUp
    await dieEverywhere(async (tenant, store) => { await store.createDevice(deviceOf(tenant, 'd', { gatewayId: 'g1' })) },
      async (tenant, store) => { await store.updateDevice(deviceOf(tenant, 'd', { gatewayId: 'g2' })) },
      async (tenant, died, what) => {
        await checkLists(t, registry, tenant, ['d'], what)
        if (!died) t.equal((await registry.getDevice(tenant, 'd'))?.gatewayId, 'g2')
        await registry.updateDevice(deviceOf(tenant, 'd', { gatewayId: 'g3' }))
        await checkLists(t, registry, tenant, ['d'], `${what}, changed again`)
      })
  })

  void t.test('a deletion that dies between two writes leaves no token of a device that is gone', async t => {
    const { registry } = await setUp
    const tokens = ['a', 'b']
    await dieEverywhere(async (tenant, store) => {
      await store.createDevice(deviceOf(tenant, 'd', { gatewayId: 'g1' }))
      for (const id of tokens) await store.putCredential(tokenOf(tenant, id, 'd'))
      await store.putCredential(tokenOf(tenant, 'viewer', null))
    }, async (tenant, store) => { await store.deleteDevice(tenant, 'd') }, async (tenant, died, what) => {
      const device = await registry.getDevice(tenant, 'd')
      if (!died) t.equal(device, null)
      const valid = (await Promise.all(tokens.map(async id => await registry.getCredential(tokenOf(tenant, id, 'd').hash)))).filter(token => token !== null)
      if (device === null) t.strictSame(valid, [], `${what}: no token works`)
      const listed = (await registry.listCredentials(tenant, null, 10)).items.map(({ id }) => id)
      t.strictSame(listed, [...valid.map(({ id }) => id), 'viewer'], `${what}: what works is listed`)
      await checkLists(t, registry, tenant, ['d'], what)
      t.equal(await registry.deleteDevice(tenant, 'd'), device !== null)
      t.equal(await registry.createDevice(deviceOf(tenant, 'd')), true)
      await checkLists(t, registry, tenant, ['d'], `${what}, created again`)
    })
  })

  void t.test('a credential is listed whenever it works, wherever its maker or its revoker dies', async t => {
    const { registry } = await setUp
    const check = async (tenant: string, what: string): Promise<Credential | null> => {
      const credential = await registry.getCredential(tokenOf(tenant, 'c', 'd').hash)
      t.strictSame((await registry.listCredentials(tenant, null, 10)).items, credential === null ? [] : [credential], what)
      return credential
    }
    await dieEverywhere(async (tenant, store) => { await store.createDevice(deviceOf(tenant, 'd')) },
      async (tenant, store) => { await store.putCredential(tokenOf(tenant, 'c', 'd')) },
      async (tenant, died, what) => { t.ok(await check(tenant, what) !== null || died) })
    await dieEverywhere(async (tenant, store) => { await store.putCredential(tokenOf(tenant, 'c', 'd')) },
      async (tenant, store) => await store.deleteCredential(tenant, 'c'),
      async (tenant, died, what) => {
        const left = await check(tenant, what)
        if (!died) t.equal(left, null)
        t.strictSame(await registry.deleteCredential(tenant, 'c'), left)
        t.equal(await check(tenant, `${what}, revoked again`), null)
      })
  })

  void t.test('a deletion that is overtaken by a new creation takes nothing of it away', async t => {
    const { failing, dying, registry } = await setUp
    // Before every one of the deletion's writes in turn, the other node deletes the device as well and creates it anew.
    for (let at = 0, reached = true; reached; at++) {
      const tenant = newTenantId()
      await registry.createDevice(deviceOf(tenant, 'd', { gatewayId: 'g1' }))
      await registry.putCredential(tokenOf(tenant, 'old', 'd'))
      const again = deviceOf(tenant, 'd', { gatewayId: 'g1', name: 'new' })
      reached = false
      failing.failAs(async write => {
        if (write !== at) return null
        reached = true
        await registry.deleteDevice(tenant, 'd')
        if (await registry.createDevice(again)) await registry.putCredential(tokenOf(tenant, 'new', 'd'))
        return null
      })
      await dying.deleteDevice(tenant, 'd')
      failing.failAs(() => null)
      t.equal(await registry.getCredential(tokenOf(tenant, 'old', 'd').hash), null)
      if (reached) {
        t.strictSame(await registry.getDevice(tenant, 'd'), again, `before write ${at}`)
        t.strictSame((await registry.listCredentials(tenant, null, 9)).items.map(({ id }) => id), ['new'], `before write ${at}`)
        t.not(await registry.getCredential(tokenOf(tenant, 'new', 'd').hash), null)
      }
      await checkLists(t, registry, tenant, ['d'], `before write ${at}`)
    }
  })

  void t.test('a change of gateway that is overtaken by the change back keeps the device in its list', async t => {
    const { failing, dying, registry } = await setUp
    for (let at = 0, reached = true; reached; at++) {
      const tenant = newTenantId()
      await registry.createDevice(deviceOf(tenant, 'd', { gatewayId: 'g1' }))
      reached = false
      failing.failAs(async write => {
        if (write !== at) return null
        reached = true
        await registry.updateDevice(deviceOf(tenant, 'd', { gatewayId: 'g2' }))
        await registry.updateDevice(deviceOf(tenant, 'd', { gatewayId: 'g1' }))
        return null
      })
      await dying.updateDevice(deviceOf(tenant, 'd', { gatewayId: 'g2' }))
      failing.failAs(() => null)
      await checkLists(t, registry, tenant, ['d'], `before write ${at}`)
    }
  })

  void t.test('a token made while its device is deleted works in no order of the two', async t => {
    const { failing, dying, registry } = await setUp
    for (let at = 0, reached = true; reached; at++) {
      const tenant = newTenantId()
      await registry.createDevice(deviceOf(tenant, 'd'))
      reached = false
      failing.failAs(async write => {
        if (write !== at) return null
        reached = true
        await registry.deleteDevice(tenant, 'd')
        return null
      })
      const outcome = await dying.putCredential(tokenOf(tenant, 'c', 'd')).then(() => 'made', (error: { code: string }) => error.code)
      failing.failAs(() => null)
      t.equal(outcome, reached ? 'not_found' : 'made', `before write ${at}`)
      if (reached) {
        t.equal(await registry.getCredential(tokenOf(tenant, 'c', 'd').hash), null)
        t.strictSame((await registry.listCredentials(tenant, null, 9)).items, [])
      }
    }
  })

  void t.test('whatever two nodes do to a few devices at once, the lists agree with the devices afterwards', async t => {
    const { first, registry } = await setUp
    const stores = [new CassandraRegistry(first), registry]
    const seed = newSeed()
    const random = randomFrom(seed)
    const pick = <T>(some: readonly T[]): T => some[Math.floor(random() * some.length)]
    const tenant = newTenantId()
    const ids = ['a', 'b', 'c']
    let changed = 0
    await Promise.all(Array.from({ length: 8 }, async (_, worker) => {
      const store = stores[worker % 2]
      for (let i = 0; i < 25; i++) {
        const device = deviceOf(tenant, pick(ids), { gatewayId: pick([...gateways, null]), name: `${worker} ${i}` })
        const action = random()
        const done = action < 0.4
          ? await store.createDevice(device)
          : action < 0.7
            ? await store.updateDevice(device).then(() => true, (error: { code: string }) => { if (error.code === 'not_found') return false; throw error })
            : await store.deleteDevice(tenant, device.id)
        if (done) changed++
      }
    }))
    t.ok(changed > 20, `${changed} changes, seed ${seed}`)
    await checkLists(t, registry, tenant, ids, `seed ${seed}`)
  })

  void t.test('rows that lead nowhere, of creators that died, shorten no page and end no list', async t => {
    const { second, registry } = await setUp
    const tenant = newTenantId()
    const name = (i: number): string => `d${String(i).padStart(3, '0')}`
    for (let i = 0; i < 300; i++) {
      if (i % 30 === 7) await registry.createDevice(deviceOf(tenant, name(i), { gatewayId: 'g1' }))
      await second.write('INSERT INTO device_by_tenant (tenant, salt, id, incarnation) VALUES (?, ?, ?, ?)', [tenant, saltOf(name(i)), name(i), `dead ${i}`])
      await second.write('INSERT INTO device_by_gateway (tenant, gateway, id, revision) VALUES (?, ?, ?, ?)', [tenant, 'g1', name(i), `dead ${i}`])
    }
    const expected = Array.from({ length: 10 }, (_, i) => name(7 + i * 30))
    for (const list of ['listDevices', 'of gateway'] as const) {
      const page = async (cursor: string | null): Promise<Page<Device>> => list === 'listDevices' ? await registry.listDevices(tenant, cursor, 4) : await registry.listDevicesOfGateway(tenant, 'g1', cursor, 4)
      const first = await page(null)
      const next = await page(first.next)
      const last = await page(next.next)
      t.strictSame([first, next, last].map(({ items }) => items.length), [4, 4, 2], list)
      t.strictSame([first, next, last].flatMap(({ items }) => items.map(({ id }) => id)), expected, list)
      t.equal(last.next, null)
    }
  })

  void t.test('5,000 devices are listed in order, and no page asks for many more rows than it shows', async t => {
    const { first, registry } = await setUp
    const tenant = newTenantId()
    const ids = Array.from({ length: 5000 }, (_, i) => `meter-${(i * 7919) % 5000}`)
    const began = performance.now()
    for (let at = 0; at < ids.length; at += 200) await Promise.all(ids.slice(at, at + 200).map(async id => { await registry.createDevice(deviceOf(tenant, id)) }))
    const created = performance.now()
    t.strictSame((await allDevices(registry, tenant, 1000)).map(device => device.id), [...ids].sort())
    const listed = performance.now()
    t.comment(`created in ${Math.round(created - began)} ms, listed in ${Math.round(listed - created)} ms`)
    const counts = await Promise.all(Array.from({ length: 16 }, async (_, salt) => (await first.read('SELECT COUNT(*) AS rows FROM device_by_tenant WHERE tenant = ? AND salt = ?', [tenant, salt]))[0].rows as number))
    t.equal(counts.reduce((sum, count) => sum + count, 0), 5000)
    t.ok(Math.max(...counts) < 1.3 * 5000 / 16, `salts hold ${counts.join(' ')}`)
  })
}

if (!skipWithout(t, 'cassandra')) suites()
