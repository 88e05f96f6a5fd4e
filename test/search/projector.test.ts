/** The projection into search: real twins, events and registry in the embedded store, the real engine; what dies is the projection. */
import t, { type Test } from 'tap'
import { systemClock } from '../../src/core/clock.js'
import { TwinfoldError } from '../../src/core/errors.js'
import { parseFilter } from '../../src/core/filter/parse-filter.js'
import { silentLog } from '../../src/core/log.js'
import { TwinProjector, type TwinProjectorOptions } from '../../src/search/twin-projector.js'
import { TwinReader } from '../../src/search/twin-reader.js'
import type { Store } from '../../src/store/store.js'
import type { TwinSearchStore } from '../../src/store/twin-search.js'
import type { TwinService } from '../../src/twin/twin-service.js'
import { deviceOf, newSeed, newTenantId, randomFrom, tenantOf } from '../store/store-fixtures.js'
import { embeddedStore, nowStamp, operator, service } from '../twin/twin-world.js'
import { embeddedEngine, queryOf, type SearchEngine } from './search-world.js'

t.setTimeout(240_000)

interface World {
  readonly store: Store
  readonly twins: TwinService
  readonly engine: SearchEngine
  readonly tenant: string
  /** Another projection, as of a server that has just started. */
  start (more?: Partial<TwinProjectorOptions>): Promise<Running>
}

interface Running {
  readonly projector: TwinProjector
  /** Nothing of it reaches anything any more. */
  kill (): Promise<void>
}

async function world (t: Test, engine: SearchEngine, random: () => number = () => 1): Promise<World> {
  const store = await embeddedStore(t)
  const twins = service(t, store)
  const tenant = newTenantId()
  await store.createTenant(tenantOf(tenant))
  const start = async (more: Partial<TwinProjectorOptions> = {}): Promise<Running> => {
    let dead = false
    const faulty = async <T> (call: () => Promise<T>): Promise<T> => {
      const fail = (): never => { throw new TwinfoldError('analytics_unavailable', 'a test says so') }
      if (dead || random() < 0.05) fail()
      const result = await call()
      if (dead || random() < 0.05) fail()
      return result
    }
    const search = new Proxy(engine.search, {
      get: (target, name) => async (...given: unknown[]) => await faulty(async () => await (target[name as keyof TwinSearchStore] as (...given: unknown[]) => Promise<unknown>).apply(target, given))
    }) as TwinSearchStore
    const settings = new Proxy(store, {
      get: (target, name) => {
        const value = target[name as keyof Store] as unknown
        if (typeof value !== 'function') return value
        if (name === 'putSetting') return async (...given: [string, string]) => { if (!dead) await target.putSetting(...given) }
        return (value as (...given: unknown[]) => unknown).bind(target)
      }
    })
    const reader = new TwinReader({ store, twins, presence: null })
    const projector = new TwinProjector({ store: settings, reader, search, bell: null, following: () => !dead, owner: 'single', stampNow: nowStamp, clock: systemClock, log: silentLog, intervalMs: 10, ...more })
    projector.open()
    t.teardown(async () => { await projector.close() })
    return { projector, kill: async () => { dead = true; await projector.close() } }
  }
  return { store, twins, engine, tenant, start }
}

/** All that happened before the call is in search. */
async function caughtUp (projector: TwinProjector): Promise<void> {
  const now = systemClock.nowUs()
  for (let i = 0; i < 3000; i++) {
    const { state, upTo } = await projector.status()
    if (state === 'up' && upTo > now && projector.waiting === 0) return
    await new Promise(resolve => { setTimeout(resolve, 10) })
  }
  throw new Error(`search did not catch up: ${JSON.stringify({ ...await projector.status(), waiting: projector.waiting, stats: projector.stats })}`)
}

async function shown ({ engine, tenant }: World): Promise<Record<string, unknown>> {
  const { twins } = await engine.search.findTwins(queryOf(tenant, { documents: true }))
  return Object.fromEntries(twins.map(({ id, name, tags, desired, version }) => [id, { name, tags, desired, version }]))
}

async function recorded ({ store, twins, tenant }: World): Promise<Record<string, unknown>> {
  const { items } = await store.listDevices(tenant, null, 1000)
  const views = await twins.getMany(items.map(({ id }) => ({ tenant, device: id, name: '' })))
  return Object.fromEntries(items.map(({ id, name }, i) => [id, { name, tags: views[i]?.tags ?? {}, desired: views[i]?.desired ?? {}, version: views[i]?.version ?? 0 }]))
}

void t.test('projection', async t => {
  const engine = await embeddedEngine(t)

  void t.test('search agrees with the record after projections that were killed and an engine that failed, whatever changed meanwhile', async t => {
    const seed = newSeed()
    const random = randomFrom(seed)
    const w = await world(t, engine, random)
    const { store, twins, tenant } = w
    const ids = Array.from({ length: 20 }, (_, i) => `d-${i}`)
    const create = async (id: string): Promise<void> => {
      if (!await store.createDevice(deviceOf(tenant, id))) return
      await twins.deviceCreated(tenant, id, { made: 'yes' }, operator)
    }
    for (const id of ids.slice(0, 10)) await create(id)
    let running = await w.start()
    for (let step = 0; step < 250; step++) {
      const id = ids[Math.floor(random() * ids.length)]
      const what = random()
      if (what < 0.6) {
        await twins.change({ tenant, device: id, name: '' }, { desired: { n: step, ...random() < 0.3 ? { [`k${step % 5}`]: null } : { [`k${step % 5}`]: step } }, tags: { t: String(step % 3) } }, operator)
      } else if (what < 0.75) {
        const device = await store.getDevice(tenant, id)
        if (device !== null) await store.updateDevice({ ...device, name: `name ${step}` })
        running.projector.noteDevice(tenant, id)
      } else if (what < 0.85) {
        await twins.deviceDeleted(tenant, id, operator)
        await store.deleteDevice(tenant, id)
        running.projector.noteDevice(tenant, id)
      } else if (what < 0.95) {
        await create(id)
        running.projector.noteDevice(tenant, id)
      } else {
        // What was noted in memory alone goes with it; the registry's own projection says it again in a server, the test does here.
        await running.kill()
        running = await w.start()
        for (const id of ids) running.projector.noteDevice(tenant, id)
        await caughtUp(running.projector)
        for (const id of ids) running.projector.noteDevice(tenant, id)
      }
    }
    await caughtUp(running.projector)
    t.strictSame(await shown(w), await recorded(w), `seed ${seed}`)
    await running.kill()
  })

  void t.test('a crash leaves nothing out: what was not stored as projected is projected again', async t => {
    const w = await world(t, engine)
    const { store, twins, tenant } = w
    await store.createDevice(deviceOf(tenant, 'd'))
    const first = await w.start()
    await caughtUp(first.projector)
    await first.kill()
    for (let i = 0; i < 5; i++) await twins.change({ tenant, device: 'd', name: '' }, { desired: { i } }, operator)
    const second = await w.start()
    await caughtUp(second.projector)
    t.equal(second.projector.stats.fills, 0, 'not by filling it anew')
    t.strictSame(await shown(w), await recorded(w))
    await second.projector.close()
  })

  void t.test('it is filled from the registry at first, when the tables were lost, and when asked for; what is gone goes', async t => {
    const w = await world(t, engine)
    const { store, tenant } = w
    for (const id of ['a', 'b']) await store.createDevice(deviceOf(tenant, id))
    const { projector } = await w.start()
    await caughtUp(projector)
    t.strictSame(Object.keys(await shown(w)), ['a', 'b'])
    await store.deleteDevice(tenant, 'b')
    await projector.refill()
    for (let i = 0; i < 1000 && (await engine.search.findIds(queryOf(tenant), '', 10)).length > 1; i++) await new Promise(resolve => { setTimeout(resolve, 10) })
    t.strictSame(Object.keys(await shown(w)), ['a'], 'nobody had told of it')
    await projector.close()
    for (const table of ['twins', 'projection_marks']) await engine.analytics.connection.command(`TRUNCATE TABLE ${engine.analytics.connection.database}.${table}`)
    t.strictSame(Object.keys(await shown(w)), [])
    const again = await w.start()
    await caughtUp(again.projector)
    for (let i = 0; i < 1000 && (await engine.search.findIds(queryOf(tenant), '', 10)).length === 0; i++) await new Promise(resolve => { setTimeout(resolve, 10) })
    t.strictSame(Object.keys(await shown(w)), ['a'])
    await again.projector.close()
  })

  void t.test('a change of the registry that nobody told of is found by comparing with the registry\'s own projection', async t => {
    const w = await world(t, engine)
    const { tenant } = w
    const device = { ...deviceOf(tenant, 'd'), name: 'old' }
    await engine.analytics.putDevices([{ tenant, id: 'd', device: { ...device, name: 'new' }, version: 1 }, { tenant, id: 'same', device: { ...device, id: 'same' }, version: 1 }])
    const record = { device, tags: {}, desired: {}, reported: {}, version: 0, desiredVersion: 0, reportedVersion: 0, updatedAt: 0, connection: null, lastActivity: 0, erasedBefore: 0 }
    await engine.search.putTwins([{ tenant, id: 'd', readAt: 5, record }, { tenant, id: 'same', readAt: 5, record: { ...record, device: { ...device, id: 'same' } } }, { tenant, id: 'gone', readAt: 5, record }])
    const strays = (await engine.search.strayTwins(10_000)).filter(stray => stray.tenant === tenant).map(stray => stray.device).sort()
    t.strictSame(strays, ['d', 'gone'])
    t.strictSame(await engine.search.findIds(queryOf(tenant, { filter: parseFilter('name eq "old"') }), '', 10), ['d', 'gone', 'same'])
  })
})
