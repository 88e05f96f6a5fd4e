import t from 'tap'
import { decodeEvent, encodeEvent, eventFormat, type StoredTwinEvent } from '../../src/twin/event-codec.js'
import { reduce } from '../../src/twin/reduce.js'
import { decodeState, encodeState } from '../../src/twin/state-codec.js'
import { absentTwin } from '../../src/twin/twin-state.js'

const newest: StoredTwinEvent = {
  version: 7, stamp: 1_750_000_000_000_001, kind: 'changed', actor: { kind: 'device', id: 'pump:1', via: 'mqtt' }, reason: '', patch: { reported: { a: { b: 1, c: null } } },
  from: { journalId: '00000000000000aa', position: 1234, stamp: 1_750_000_000_000_000 }, at: 1_740_000_000_000_000, v: 12, desiredVersion: 3, reportedVersion: 7
}

t.test('an event comes back as it was written', async t => {
  t.same(decodeEvent(encodeEvent(newest)), newest)
  const named: StoredTwinEvent = { version: 1, stamp: 5, kind: 'created', actor: { kind: 'operator', id: 'k', via: 'http' }, reason: 'why', patch: { tags: { a: 'b', c: null } }, named: { name: 'n', is: 'added' }, desiredVersion: 0, reportedVersion: 0 }
  t.same(decodeEvent(encodeEvent(named)), named)
})

/** As the first format was written; these texts never change. */
const format1 = [
  { version: 1, stamp: 1000, body: '{"f":1,"k":"created","by":"operator:http:key-1","d":{"interval":5},"t":{"site":"berlin"},"dv":1,"rv":0}' },
  { version: 2, stamp: 2000, body: '{"f":1,"k":"changed","by":"device:mqtt:pump:1","r":{"interval":5},"dv":1,"rv":2}' },
  { version: 3, stamp: 3000, body: '{"f":1,"k":"changed","by":"server:server:job","d":{"interval":null,"led":{"on":true}}}' }
]

t.test('events of format 1 are read as the current format', async t => {
  const events = format1.map(decodeEvent)
  t.same(events[0], { version: 1, stamp: 1000, kind: 'created', actor: { kind: 'operator', id: 'key-1', via: 'http' }, reason: '', patch: { desired: { interval: 5 }, tags: { site: 'berlin' } }, desiredVersion: 1, reportedVersion: 0 })
  t.same(events[1].actor, { kind: 'device', id: 'pump:1', via: 'mqtt' })
  const state = events.reduce(reduce, absentTwin(0, 0))
  t.match(state, { version: 3, desired: { led: { on: true } }, reported: { interval: 5 }, tags: { site: 'berlin' }, desiredVersion: 3, reportedVersion: 2, tagsVersion: 1, createdAt: 1000, updatedAt: 3000 })
  t.same([...state.times.desired], [['led.on', { at: 3000, stamp: 3000 }]])
  t.same([...state.gone.desired.keys()], ['interval'])
  t.equal(JSON.parse(encodeEvent(events[0]).body).f, eventFormat, 'written anew they have the current format')
})

t.test('a newer or damaged format is refused by name', async t => {
  t.throws(() => decodeEvent({ version: 4, stamp: 1, body: `{"f":${eventFormat + 1}}` }), { code: 'format_newer' })
  for (const body of ['', '{', '{}', '{"f":0}', '{"f":1.5}', 'null']) t.throws(() => decodeEvent({ version: 4, stamp: 1, body }), { code: 'corrupt_data' }, body)
  t.throws(() => decodeState('{"f":2}'), { code: 'format_newer' })
  for (const text of ['', '{}', 'null', '{"f":"1"}']) t.throws(() => decodeState(text), { code: 'corrupt_data' }, text)
})

t.test('a state comes back as it was written', async t => {
  const state = [newest].reduce(reduce, reduce(absentTwin(5, 77), { ...newest, version: 6, kind: 'created' }))
  t.same(decodeState(encodeState(state) as string), state)
  t.equal(encodeState(absentTwin(9, 1)), null)
})
