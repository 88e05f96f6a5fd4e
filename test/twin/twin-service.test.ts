import t from 'tap'
import { KeyedLock } from '../../src/core/keyed-lock.js'
import { TwinfoldError } from '../../src/core/errors.js'
import type { TwinChange, TwinChanged, TwinId } from '../../src/twin/twin-model.js'
import { deviceOf } from '../store/store-fixtures.js'
import { embeddedStore, message, newDevice, nowStamp, operator, service, toldEvents } from './twin-world.js'

t.test('a change is one version, one event, one word in the event log', async t => {
  const store = await embeddedStore(t)
  const twins = service(t, store)
  const id = await newDevice(store)
  const outcome = await twins.change(id, { desired: { interval: 5 }, tags: { site: 'berlin' }, reason: 'new site' }, operator)
  t.equal(outcome.kind, 'changed')
  const [reported] = await twins.apply([message(id, { interval: 4, firmware: '1.2' })])
  t.match(reported, { kind: 'applied', version: 2 })
  const twin = await twins.get(id)
  t.match(twin, { version: 2, desiredVersion: 1, reportedVersion: 2, tagsVersion: 1, desired: { interval: 5 }, reported: { interval: 4, firmware: '1.2' }, delta: { interval: 5 }, tags: { site: 'berlin' }, names: [] })
  const changes = await twins.changes(id, null, 10)
  t.same(changes.map(change => [change.version, change.kind, change.actor.kind, change.reason]), [[2, 'changed', 'device', ''], [1, 'created', 'operator', 'new site']])
  const told = await toldEvents(store, id.tenant)
  t.same(told.map(event => [event.type, event.sequence]), [['twin.created', { of: 'twin/', number: 1 }], ['twin.changed', { of: 'twin/', number: 2 }]])
  t.match(JSON.parse(told[1].data), { deviceId: 'pump-1', name: '', version: 2, kind: 'changed', actor: { kind: 'device' }, patch: { reported: { interval: 4 } }, desiredVersion: 1, reportedVersion: 2 })
  t.same((await store.getDevice(id.tenant, id.device))?.tags, { site: 'berlin' }, 'the registry has a copy of the tags')
})

t.test('two hundred writers on one twin make two hundred versions, each with its event', async t => {
  const store = await embeddedStore(t)
  const twins = service(t, store)
  const id = await newDevice(store)
  const seen: number[] = []
  twins.onChanged(changed => { seen.push(changed.version) })
  const outcomes = await Promise.all(Array.from({ length: 200 }, async (_, i) => await twins.change(id, { desired: { [`k${i}`]: i } }, operator)))
  t.ok(outcomes.every(outcome => outcome.kind === 'changed'))
  t.same(outcomes.map(outcome => 'twin' in outcome ? outcome.twin.version : 0).sort((a, b) => a - b), Array.from({ length: 200 }, (_, i) => i + 1))
  t.equal(Object.keys((await twins.get(id))?.desired ?? {}).length, 200)
  const events = await store.readEntityEvents({ ...id, kind: 'twin' }, 1, 1000, 1000)
  t.same(events.map(event => event.version), Array.from({ length: 200 }, (_, i) => i + 1))
  t.ok(events.every((event, i) => i === 0 || event.stamp > events[i - 1].stamp), 'stamps grow')
  t.same(seen, [...seen].sort((a, b) => a - b), 'told in order')
  t.equal(seen.at(-1), 200)
  t.ok(twins.stats.commits < 200, `${twins.stats.commits} commits`)
  t.same((await toldEvents(store, id.tenant)).map(event => event.sequence?.number), Array.from({ length: 200 }, (_, i) => i + 1))
})

t.test('of many writers with the same If-Match one succeeds', async t => {
  const store = await embeddedStore(t)
  const twins = service(t, store)
  const id = await newDevice(store)
  await twins.change(id, { desired: { a: 0 } }, operator)
  const outcomes = await Promise.all(Array.from({ length: 20 }, async (_, i) => await twins.change(id, { desired: { a: i + 1 }, ifVersion: 1 }, operator)))
  t.equal(outcomes.filter(outcome => outcome.kind === 'changed').length, 1)
  t.equal(outcomes.filter(outcome => outcome.kind === 'precondition_failed').length, 19)
  t.equal((await twins.get(id))?.version, 2)
  const guarded = await Promise.all(Array.from({ length: 20 }, async () => await twins.change(id, { desired: { taken: true }, condition: twin => twin.desired.taken === undefined }, operator)))
  t.equal(guarded.filter(outcome => outcome.kind === 'changed').length, 1, 'a condition is judged on the state that is committed upon')
  await t.rejects(twins.change(id, { desired: { b: 1 }, condition: () => { throw new TwinfoldError('invalid_field', 'no') } }, operator), { code: 'invalid_field' })
  t.equal((await twins.get(id))?.version, 3)
})

t.test('a change that changes nothing spends no version', async t => {
  const store = await embeddedStore(t)
  const twins = service(t, store)
  const id = await newDevice(store)
  await twins.change(id, { desired: { a: { b: 1 } }, tags: { x: 'y' } }, operator)
  for (const change of [{ desired: { a: { b: 1 } } }, { desired: {} }, { tags: { x: 'y', z: null } }, { desired: { a: { b: 1 } }, tags: { x: 'y' }, replace: true }] as TwinChange[]) t.equal((await twins.change(id, change, operator)).kind, 'unchanged')
  t.equal((await twins.get(id))?.version, 1)
})

t.test('a change that breaks a limit is refused whole', async t => {
  const store = await embeddedStore(t)
  const twins = service(t, store, { limits: { namesMax: 2 } })
  const id = await newDevice(store)
  await twins.change(id, { desired: { a: 1 } }, operator)
  const before = await twins.get(id)
  t.match(await twins.change(id, { desired: { b: 'x'.repeat(40_000) }, tags: { ok: 'yes' } }, operator), { kind: 'refused', code: 'limit_reached', field: '/desired' })
  t.match(await twins.change(id, { desired: { b: 1 }, tags: { 'not ok': 'yes' } }, operator), { kind: 'refused', code: 'invalid_field', field: '/tags/not ok' })
  t.match(await twins.change(id, { desired: { b: 1 }, reason: 'x'.repeat(257) }, operator), { kind: 'refused', field: '/reason' })
  t.match(await twins.apply([message(id, { b: 'x'.repeat(40_000) }), message(id, 'x')]), [{ kind: 'refused', code: 'twin_too_large' }, { kind: 'refused', code: 'json_invalid' }])
  t.same(await twins.get(id), before)
  t.same((await twins.change({ ...id, name: 'n1' }, { desired: { b: { $c: 1 } } }, operator)).kind, 'refused')
  t.same((await twins.get(id))?.names, [], 'a refused change leaves no name behind')
  for (const name of ['n1', 'n2']) t.equal((await twins.change({ ...id, name }, { desired: { b: 1 } }, operator)).kind, 'changed')
  t.match(await twins.change({ ...id, name: 'n3' }, { desired: { b: 1 } }, operator), { kind: 'refused', code: 'limit_reached', detail: /2 named twins; 2 are allowed/ })
  t.match(await twins.apply([message({ ...id, name: 'n3' }, { b: 1 })]), [{ kind: 'refused', code: 'twin_too_large' }])
  t.same((await twins.get(id))?.names, ['n1', 'n2'])
  t.match(await twins.change({ ...id, name: 'n1' }, { tags: { a: 'b' } }, operator), { kind: 'refused', field: '/tags' })
})

t.test('messages that come again are applied once, across restarts', async t => {
  const store = await embeddedStore(t)
  const id = await newDevice(store)
  const messages = Array.from({ length: 50 }, (_, i) => message(id, { n: i }))
  const first = service(t, store)
  t.ok((await first.apply(messages.slice(0, 30))).every((outcome, i) => outcome.kind === 'applied' && outcome.version === i + 1))
  const second = service(t, store)
  const outcomes = await second.apply(messages.map(one => ({ ...one, replayed: true })))
  t.same(outcomes.map(outcome => outcome.kind), [...Array.from({ length: 30 }, () => 'unchanged'), ...Array.from({ length: 20 }, () => 'applied')])
  t.match(await second.get(id), { version: 50, reported: { n: 49 } })
  t.equal(second.stats.repeated, 30)
})

t.test('only devices that are registered have twins', async t => {
  const store = await embeddedStore(t)
  const twins = service(t, store)
  const id = { ...await newDevice(store), device: 'ghost' }
  t.equal(await twins.get(id), null)
  t.match(await twins.change(id, { desired: { a: 1 } }, operator), { kind: 'refused', code: 'not_found' })
  t.match(await twins.change({ ...id, name: 'n' }, { desired: { a: 1 } }, operator), { kind: 'refused', code: 'not_found' })
  t.match(await twins.apply([message(id, { a: 1 }), message({ ...id, name: 'n' }, { a: 1 })]), [{ kind: 'refused', code: 'device_unknown' }, { kind: 'refused', code: 'device_unknown' }])
  t.same(await toldEvents(store, id.tenant), [])
})

t.test('a device from before its twin shows its tags, and keeps them when the twin is made', async t => {
  const store = await embeddedStore(t)
  const twins = service(t, store)
  const id = await newDevice(store, 'old', { site: 'rome' })
  t.match(await twins.get(id), { version: 0, tags: { site: 'rome' } })
  await twins.apply([message(id, { a: 1 })])
  t.match(await twins.get(id), { version: 1, tags: { site: 'rome' }, reported: { a: 1 } })
  const other = { ...id, device: 'old-2' }
  await store.createDevice(deviceOf(id.tenant, 'old-2', { tags: { a: 'b' } }))
  await twins.change(other, { tags: { c: 'd' } }, operator)
  t.match(await twins.get(other), { tags: { a: 'b', c: 'd' } })
})

t.test('a device that is deleted and made again goes on with its versions, and nothing of before is left', async t => {
  const store = await embeddedStore(t)
  const twins = service(t, store)
  const id = await newDevice(store)
  const named = { ...id, name: 'meter' }
  await twins.change(id, { desired: { secret: 1 } }, operator)
  const early = message(id, { secret: 2 })
  await twins.apply([early, message(named, { secret: 3 })])
  t.same((await twins.get(id))?.names, ['meter'])
  await twins.deviceDeleted(id.tenant, id.device, operator)
  await store.deleteDevice(id.tenant, id.device)
  await twins.deviceDeleted(id.tenant, id.device, operator)
  t.equal(await twins.get(id), null)
  t.equal(await twins.get(named), null)
  for (const one of [id, named]) {
    const kept = await store.readEntityEvents({ ...one, kind: 'twin' }, 1, 1000, 1000)
    t.equal(kept.length, 1, 'the event of the deletion stays')
    t.notMatch(kept[0].body, /secret/)
    t.equal(await store.findEntitySnapshot({ ...one, kind: 'twin' }, { version: 1000 }), null)
  }
  const { version } = await store.getEntity({ ...id, kind: 'twin' })
  await store.createDevice(deviceOf(id.tenant, id.device, { createdAt: nowStamp() }))
  await twins.deviceCreated(id.tenant, id.device, { site: 'oslo' }, operator)
  t.match(await twins.get(id), { version: version + 1, desired: {}, reported: {}, tags: { site: 'oslo' }, names: [] })
  t.match(await twins.apply([{ ...early, replayed: true }, message(id, { old: 1 }, { stamp: early.stamp + 1 })]), [{ kind: 'unchanged' }, { kind: 'unchanged' }], 'what was said before the deletion is about the device of before')
  t.match(await twins.apply([message(id, { fresh: 1 })]), [{ kind: 'applied', version: version + 2 }])
  t.same((await twins.changes(id, null, 10)).map(change => change.kind), ['changed', 'created', 'deleted'])
})

t.test('what a deletion that was cut short left goes when the device is made again', async t => {
  const store = await embeddedStore(t)
  const twins = service(t, store)
  const id = await newDevice(store)
  await twins.change(id, { desired: { secret: 1 } }, operator)
  await twins.change({ ...id, name: 'n' }, { desired: { secret: 1 } }, operator)
  await store.deleteDevice(id.tenant, id.device)
  await store.createDevice(deviceOf(id.tenant, id.device, { createdAt: nowStamp() }))
  await twins.deviceCreated(id.tenant, id.device, {}, operator)
  t.match(await twins.get(id), { desired: {}, names: [] })
  t.equal(await twins.get({ ...id, name: 'n' }), null)
  const { version } = (await twins.get(id)) as { version: number }
  await twins.deviceCreated(id.tenant, id.device, {}, operator)
  t.equal((await twins.get(id))?.version, version, 'called again it changes nothing')
})

t.test('a named twin is made by whoever speaks of it first, and deleted alone', async t => {
  const store = await embeddedStore(t)
  const twins = service(t, store)
  const id = await newDevice(store)
  const named = (name: string): TwinId => ({ ...id, name })
  t.equal(await twins.get(named('a')), null)
  await Promise.all([twins.apply([message(named('a'), { x: 1 }), message(named('b'), { x: 1 }), message(named('a'), { y: 2 })]), twins.change(named('c'), { desired: { z: 1 } }, operator)])
  t.same([...(await twins.get(id))?.names ?? []].sort(), ['a', 'b', 'c'])
  t.match(await twins.get(named('a')), { version: 2, reported: { x: 1, y: 2 } })
  t.same((await twins.getMany([named('c'), named('d'), id])).map(twin => twin?.name), ['c', undefined, ''])
  t.equal(await twins.remove(named('a'), operator), true)
  t.equal(await twins.remove(named('a'), operator), false)
  t.equal(await twins.get(named('a')), null)
  t.same([...(await twins.get(id))?.names ?? []].sort(), ['b', 'c'])
  t.same((await twins.apply([message(named('a'), { x: 5 })]))[0], { kind: 'applied', version: 4 })
  const told = await toldEvents(store, id.tenant)
  t.equal(new Set(told.map(event => event.id)).size, told.length)
})

t.test('the copy of the tags is made right where it is seen to differ, and never under another change of the device', async t => {
  const store = await embeddedStore(t)
  const lock = new KeyedLock()
  const copied: string[] = []
  const twins = service(t, store, { deviceLock: lock, onTagsCopied: (_tenant, device) => { copied.push(device) } })
  const id = await newDevice(store)
  let release = (): void => {}
  const held = lock.run(`device\0${id.tenant}\0${id.device}`, async () => { await new Promise<void>(resolve => { release = resolve }) })
  const changing = twins.change(id, { tags: { a: '1' } }, operator)
  await new Promise(resolve => { setTimeout(resolve, 20) })
  t.same((await store.getDevice(id.tenant, id.device))?.tags ?? {}, {})
  release()
  await Promise.all([held, changing])
  t.same((await store.getDevice(id.tenant, id.device))?.tags, { a: '1' })
  const device = await store.getDevice(id.tenant, id.device)
  if (device === null) throw new Error('the device is gone')
  await store.updateDevice({ ...device, tags: { a: 'wrong' } })
  const twin = await twins.get(id)
  if (twin === null) throw new Error('the twin is gone')
  twins.seenTags(id.tenant, id.device, twin, { a: 'wrong' })
  await twins.close()
  t.same((await store.getDevice(id.tenant, id.device))?.tags, { a: '1' })
  t.same(copied, [id.device, id.device])
})

t.test('a fault of the store applies nothing behind it: what is given again is applied in order', async t => {
  const store = await embeddedStore(t)
  let failing = false
  const faulty = Object.create(store, { commitEntities: { value: async (...given: Parameters<typeof store.commitEntities>) => {
    if (failing) throw new TwinfoldError('store_unavailable', 'planned')
    return await store.commitEntities(...given)
  } } }) as typeof store
  const twins = service(t, faulty)
  const id = await newDevice(store)
  const other = { ...id, device: 'other' }
  await store.createDevice(deviceOf(id.tenant, 'other'))
  const messages = [message(id, { a: 1 }), message(other, { a: 1 }), message(id, { a: 2, b: 1 }), message(id, { c: 1 })]
  failing = true
  await t.rejects(twins.apply(messages), { code: 'store_unavailable' })
  failing = false
  t.same((await twins.apply(messages)).map(outcome => outcome.kind), ['applied', 'applied', 'applied', 'applied'])
  t.match(await twins.get(id), { version: 3, reported: { a: 2, b: 1, c: 1 } })
})

t.test('changes of many twins share calls of the store', async t => {
  const store = await embeddedStore(t)
  let calls = 0
  const counted = Object.create(store, { commitEntities: { value: async (...given: Parameters<typeof store.commitEntities>) => { calls++; return await store.commitEntities(...given) } } }) as typeof store
  const twins = service(t, counted)
  const { tenant } = await newDevice(store)
  const ids = Array.from({ length: 100 }, (_, i) => ({ tenant, device: `d${i}`, name: '' }))
  for (const { device } of ids) await store.createDevice(deviceOf(tenant, device))
  const changed: TwinChanged[] = []
  twins.onChanged(one => { changed.push(one) })
  await twins.apply(ids.flatMap(id => [message(id, { a: 1 }), message(id, { a: 2 })]))
  t.ok(calls <= 2, `${calls} calls for 200 messages to 100 twins`)
  t.equal(changed.length, 100)
  t.ok(changed.every(one => one.version === 2 && one.reported && !one.desired && !one.tags))
})
