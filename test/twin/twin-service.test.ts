import t from 'tap'
import { embeddedStore, message, newDevice, operator, service, toldEvents } from './twin-world.js'

t.test('a change is one version, one event, one word in the event log', async t => {
  const store = await embeddedStore(t)
  const twins = service(t, store)
  const id = await newDevice(store)
  const outcome = await twins.change(id, { desired: { interval: 5 }, tags: { site: 'berlin' } }, operator)
  t.equal(outcome.kind, 'changed')
  const [reported] = await twins.apply([message(id, { interval: 4, firmware: '1.2' })])
  t.match(reported, { kind: 'applied', version: 2 })
  const twin = await twins.get(id)
  t.match(twin, { version: 2, desiredVersion: 1, reportedVersion: 2, tagsVersion: 1, desired: { interval: 5 }, reported: { interval: 4, firmware: '1.2' }, delta: { interval: 5 }, tags: { site: 'berlin' } })
  const changes = await twins.changes(id, null, 10)
  t.same(changes.map(change => [change.version, change.kind, change.actor.kind]), [[2, 'changed', 'device'], [1, 'created', 'operator']])
  const told = await toldEvents(store, id.tenant)
  t.same(told.map(event => [event.type, event.sequence?.number]), [['twin.created', 1], ['twin.changed', 2]])
  t.same((await store.getDevice(id.tenant, id.device))?.tags, { site: 'berlin' }, 'the registry has a copy of the tags')
})
