import t from 'tap'
import fc from 'fast-check'
import { usPerDay } from '../../src/core/reading.js'
import type { EntityKey } from '../../src/store/entity-store.js'
import type { Store } from '../../src/store/store.js'
import { rebuildTwins } from '../../src/twin/rebuild-twins.js'
import type { JsonObject, TwinId, TwinView } from '../../src/twin/twin-model.js'
import { deviceOf, newSeed } from '../store/store-fixtures.js'
import { embeddedStore, message, newDevice, nowStamp, operator, service } from './twin-world.js'

const seed = newSeed()
t.comment(`seed ${seed}`)

const keyOf = (id: TwinId): EntityKey => ({ ...id, kind: 'twin' })
const rebuild = async (store: Store, tenant: string, write = false): ReturnType<typeof rebuildTwins> => await rebuildTwins({ store, tenant, write, writer: '00000000000000ff', nowStamp })

t.test('a twin is shown as it was at any version and time, and two versions are compared', async t => {
  const store = await embeddedStore(t)
  const twins = service(t, store)
  const id = await newDevice(store)
  const seen: TwinView[] = []
  twins.onChanged(({ twin }) => { seen.push(twin) })
  for (let i = 0; i < 10; i++) {
    await twins.change(id, { desired: { [`k${i % 3}`]: i }, tags: { last: `t${i}` } }, operator)
    await twins.apply([message(id, { n: i, [`k${i % 4}`]: null })])
  }
  for (const view of seen) {
    t.same(await twins.at(id, { version: view.version }), view, `version ${view.version}`)
    t.same(await twins.at(id, { stamp: view.updatedAt }), view)
    t.equal((await twins.at(id, { stamp: view.updatedAt - 1 }))?.version ?? 0, view.version - 1)
  }
  t.equal(await twins.at(id, { version: 0 }), null)
  t.equal(await twins.at(id, { version: 21 }), null)
  t.equal((await twins.at(id, { stamp: nowStamp() + 1e12 }))?.version, 20)
  t.same((await twins.changes(id, null, 5)).map(change => change.version), [20, 19, 18, 17, 16])
  t.same((await twins.changes(id, 4, 5)).map(change => change.version), [3, 2, 1])
  t.same(await twins.changes(id, 1, 5), [])
  t.same(await twins.diff(id, 1, 3), { desired: { k1: 1 }, reported: { n: 0 }, tags: { last: 't1' } })
  t.same(await twins.diff(id, 3, 1), { desired: { k1: null }, reported: { n: null }, tags: { last: 't0' } })
  t.equal(await twins.diff(id, 3, 99), null)
})

t.test('a snapshot every thousand events bounds what is read for the past', async t => {
  const store = await embeddedStore(t)
  let read = 0
  const counted = Object.create(store, { readEntityEvents: { value: async (...given: Parameters<typeof store.readEntityEvents>) => { const events = await store.readEntityEvents(...given); read += events.length; return events } } }) as typeof store
  const twins = service(t, counted)
  const id = await newDevice(store)
  const count = 2500
  await twins.apply(Array.from({ length: count }, (_, i) => message(id, { n: i })))
  await twins.close()
  t.equal(twins.stats.snapshots, 2)
  for (const version of [5, 999, 1100, 1999, 2300]) {
    read = 0
    t.match(await twins.at(id, { version }), { version, reported: { n: version - 1 } })
    t.ok(read <= 1100, `${read} events for version ${version}`)
  }
  t.match(await rebuild(store, id.tenant), { twins: 1, differing: 0, unprovable: 0 })
})

t.test('history is cut at a snapshot when it is older than it is kept, and what is left still proves the state', async t => {
  const store = await embeddedStore(t)
  let now = nowStamp()
  const twins = service(t, store, { nowStamp: () => ++now, historyDays: 3 })
  const id = await newDevice(store)
  for (let day = 0; day < 10; day++) {
    for (let i = 0; i < 3; i++) await twins.change(id, { desired: { day, i } }, operator)
    await twins.close()
    now += usPerDay
  }
  const kept = await store.readEntityEvents(keyOf(id), 1, 1000, 1000)
  t.ok(kept.length < 30 && kept.length >= 9, `${kept.length} events are kept`)
  t.equal(await twins.at(id, { version: 2 }), null, 'what is before it is not guessed')
  t.match(await twins.at(id, { version: kept[0].version + 1 }), { version: kept[0].version + 1 })
  t.ok((await twins.at(id, { stamp: now - 4 * usPerDay })) !== null, 'three days and more are there')
  t.match(await rebuild(store, id.tenant), { twins: 1, differing: 0, unprovable: 0 })
})

const leaf = fc.oneof(fc.integer({ min: 0, max: 9 }), fc.constant(null), fc.constant('x'), fc.constant([1, { y: null }]), fc.constant({}))
const body = fc.dictionary(fc.constantFrom('a', 'b.c', '10', '2'), fc.oneof(leaf, fc.dictionary(fc.constantFrom('x', 'y'), leaf, { maxKeys: 2 })), { maxKeys: 3 })
const step = fc.oneof(
  fc.record({ kind: fc.constant('report' as const), body, v: fc.option(fc.nat(9)), journal: fc.nat(2) }),
  fc.record({ kind: fc.constant('desire' as const), body, replace: fc.boolean() }),
  fc.record({ kind: fc.constant('tags' as const), value: fc.constantFrom('1', '2', null) }),
  fc.record({ kind: fc.constant('name' as const), name: fc.constantFrom('n', 'm'), away: fc.boolean() }),
  fc.record({ kind: fc.constant('anew' as const) })
)

t.test('whatever happens to a twin, its events make its state, byte for byte, also from where they were cut', async t => {
  const store = await embeddedStore(t)
  const { tenant } = await newDevice(store)
  let runs = 0
  await fc.assert(fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 25 }), fc.nat(25), fc.constantFrom('cloud', 'device', 'newest'), async (steps, cutAt, conflicts) => {
    const id = { tenant, device: `d${runs++}`, name: '' }
    await store.createDevice(deviceOf(tenant, id.device))
    const twins = service(t, store, { rules: { rulesOf: async () => ({ conflicts, check: () => null }) } })
    for (const one of steps) {
      if (one.kind === 'report') await twins.apply([message(id, { ...one.body, ...(one.v === null ? {} : { $version: one.v }) }, { journalId: `000000000000000${one.journal}` })])
      else if (one.kind === 'desire') await twins.change(id, { desired: one.body as JsonObject, replace: one.replace }, operator)
      else if (one.kind === 'tags') await twins.change(id, { tags: { t: one.value } }, operator)
      else if (one.kind === 'name') await (one.away ? twins.remove({ ...id, name: one.name }, operator) : twins.change({ ...id, name: one.name }, { desired: { z: 1 } }, operator))
      else await twins.deviceDeleted(tenant, id.device, operator)
    }
    await twins.close()
    const cut = await twins.at(id, { version: cutAt })
    if (cut !== null) {
      const { stateAt } = await import('../../src/twin/twin-history.js')
      const { encodeState } = await import('../../src/twin/state-codec.js')
      const state = await stateAt(store, keyOf(id), { version: cutAt })
      if (state === null) throw new Error('no state at the cut')
      await store.putEntitySnapshot(keyOf(id), { version: cutAt, stamp: state.updatedAt, state: encodeState(state) })
      await store.dropEntityHistory(keyOf(id), cutAt)
    }
  }), { seed, numRuns: 60 })
  const report = await rebuild(store, tenant)
  t.match(report, { differing: 0, unprovable: 0 }, report.examples.join('; '))
  t.ok(report.twins >= runs / 2 && report.events > 100, `${report.twins} twins, ${report.events} events`)
})

t.test('a state that is not that of its events is found, and written anew as one more step', async t => {
  const store = await embeddedStore(t)
  const twins = service(t, store)
  const id = await newDevice(store)
  await twins.change(id, { desired: { a: 1 } }, operator)
  const entity = await store.getEntity(keyOf(id))
  await store.commitEntities([{ key: keyOf(id), writer: entity.writer, expected: 1, version: 2, state: entity.state?.replace('"a":1', '"a":2').replace('"version":1', '"version":2') ?? null, events: [{ version: 2, stamp: nowStamp(), body: '{"f":2,"kind":"changed","actor":["operator","k","http"],"tags":{"x":"y"},"dv":1,"rv":0}' }], outbox: [] }], true)
  t.match(await rebuild(store, id.tenant), { twins: 1, differing: 1, rewritten: 0 })
  t.match(await rebuild(store, id.tenant, true), { differing: 1, rewritten: 1 })
  t.match(await rebuild(store, id.tenant), { differing: 0, unprovable: 0 })
  const anew = service(t, store)
  t.match(await anew.get(id), { version: 3, desired: { a: 1 }, tags: { x: 'y' } })
  await store.dropEntityHistory(keyOf(id), 2)
  t.match(await rebuild(store, id.tenant), { unprovable: 1, examples: [/history has a gap/] })
})
