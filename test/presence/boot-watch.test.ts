/** Who counts as dead, who is swept, and what becomes of a server that was taken for dead and lives. */
import t from 'tap'
import { presenceState, type BootVerdict } from '../../src/presence/presence-state.js'
import type { Connected } from '../../src/store/presence-store.js'
import { dataOf, eventsOf, MovedClock, openStoreIn, serviceOf, sessionOf, ToldMembership, until, written } from './support.js'

t.setTimeout(60_000)

void t.test('a node that was taken for dead and lives tells its connections again, and they are shown', async t => {
  const store = await openStoreIn(t)
  const [forA, forB] = [new ToldMembership(), new ToldMembership()]
  for (const told of [forA, forB]) for (const node of ['a', 'b']) told.set(`boot-${node}`, node, 'live')
  const a = serviceOf({ store, membership: forA, node: 'a', bootId: 'boot-a' })
  const b = serviceOf({ store, membership: forB, node: 'b', bootId: 'boot-b' })
  await Promise.all([a.open(), b.open()])
  t.teardown(async () => { await Promise.all([a.close(), b.close()]) })
  const session = sessionOf('t', 'd')
  a.opened(session)
  await written(a)
  forB.set('boot-a', 'a', 'gone')
  t.match((await b.view('t', ['d']))[0], { connected: false, reason: 'node_lost', node: 'a' }, 'at once')
  t.match((await a.view('t', ['d']))[0], { connected: true })
  await until('it is swept', () => b.stats.sweeps > 0)
  forB.set('boot-a', 'a', 'live')
  await until('it is told again', async () => (await eventsOf(store, 't', 'd')).length >= 3 && a.stats.pending === 0)
  await until('it is shown', async () => (await b.view('t', ['d']))[0].connected)
  const order = (await eventsOf(store, 't', 'd')).map(event => `${event.type.slice(7)} ${dataOf(event).connection}`)
  // It may look while it is being swept, and once more when that is done: under a new name each time.
  const told = order.filter((text, i) => order.indexOf(text) === i)
  t.strictSame(told.slice(0, 3), [`connected ${session.connection}`, `disconnected ${session.connection}`, `connected ${session.connection}~1`])
  t.notMatch(told.slice(3).join(), /disconnected .*~2/, 'of what it told again the last stays')
  a.closed(session, 'client', 0)
  await written(a)
  t.match((await b.view('t', ['d']))[0], { connected: false, reason: 'client', connection: new RegExp(`^${session.connection}~`) })
})

void t.test('nodes that do not hear each other go by what each said in the store, with patience', async t => {
  const store = await openStoreIn(t)
  const clock = new MovedClock()
  const membership = new ToldMembership()
  membership.set('boot-b', 'b', 'live')
  membership.answerAgeMs = Infinity
  await store.putPresenceBoot({ bootId: 'boot-a', node: 'a', aliveAt: clock.nowUs(), swept: 'no' })
  const lost: Connected = { tenant: 't', device: 'd', connection: 'c', node: 'a', bootId: 'boot-a', at: clock.nowUs(), via: '', keepAliveSeconds: 60 }
  await store.putConnected([lost])
  const b = serviceOf({ store, membership, node: 'b', bootId: 'boot-b', clock })
  await b.open()
  t.teardown(async () => { await b.close() })
  t.match((await b.view('t', ['d']))[0], { connected: true })
  clock.move(14_000)
  t.match((await b.view('t', ['d']))[0], { connected: true })
  t.equal(b.stats.sweeps, 0)
  clock.move(1100)
  t.match((await b.view('t', ['d']))[0], { connected: false, reason: 'node_lost' })
  await until('it is swept', () => b.stats.sweeps === 1)
  t.match((await store.getPresence('t', ['d']))[0].slots, [{ disconnected: { reason: 'node_lost', connection: 'c' } }])
  clock.move(3700_000)
  await until('the boot is forgotten', async () => !(await store.presenceBoots()).some(({ bootId }) => bootId === 'boot-a'))
  t.match((await b.view('t', ['d']))[0], { connected: false, reason: 'node_lost' })
})

void t.test('a server that was started again under its name has lost what it had, at once', async t => {
  const store = await openStoreIn(t)
  const membership = new ToldMembership()
  membership.set('boot-b', 'b', 'live')
  membership.set('boot-a2', 'a', 'live')
  const now = Date.now() * 1000
  await store.putPresenceBoot({ bootId: 'boot-a1', node: 'a', aliveAt: now, swept: 'no' })
  await store.putConnected(['d', 'e'].map(device => ({ tenant: 't', device, connection: 'c1', node: 'a', bootId: 'boot-a1', at: now, via: '', keepAliveSeconds: 60 })))
  await store.putPresenceBoot({ bootId: 'boot-a2', node: 'a', aliveAt: now, swept: 'no' })
  // One is back before it is swept: its slot is the new connection's.
  await store.putConnected([{ tenant: 't', device: 'e', connection: 'c2', node: 'a', bootId: 'boot-a2', at: now + 1000, via: '', keepAliveSeconds: 60 }])
  const b = serviceOf({ store, membership, node: 'b', bootId: 'boot-b' })
  await b.open()
  t.teardown(async () => { await b.close() })
  t.match(await b.view('t', ['d', 'e']), [{ connected: false, reason: 'node_lost' }, { connected: true, connection: 'c2' }])
  await until('it is swept', () => b.stats.sweeps === 1)
  t.match(await b.view('t', ['d', 'e']), [{ connected: false, reason: 'node_lost' }, { connected: true, connection: 'c2' }])
  t.equal(dataOf((await eventsOf(store, 't', 'e')).filter(({ type }) => type === 'device.disconnected')[0]).connected, true, 'it stays connected')
  t.equal(dataOf((await eventsOf(store, 't', 'd')).filter(({ type }) => type === 'device.disconnected')[0]).connected, false)
})

void t.test('what slots say together: open on a server that lives before all else, then what ended last', t => {
  const alive = (bootId: string): BootVerdict => ({ alive: bootId.endsWith('+'), aliveAt: 500 })
  const slot = (bootId: string, at: number, endedAt = 0): Parameters<typeof presenceState>[0]['slots'][number] => {
    const connected = { tenant: 't', device: 'd', connection: `${bootId}${at}`, node: bootId, bootId, at, via: '', keepAliveSeconds: 0 }
    return { connected, disconnected: endedAt === 0 ? null : { tenant: 't', device: 'd', connection: connected.connection, at: endedAt, reason: 'client' } }
  }
  const table: [slots: ReturnType<typeof slot>[], expected: object][] = [
    [[], { connected: false, since: 0, reason: null, connection: null }],
    [[slot('a+', 10)], { connected: true, since: 10 }],
    [[slot('a-', 10)], { connected: false, since: 500, reason: 'node_lost' }],
    [[slot('a-', 900)], { connected: false, since: 900, reason: 'node_lost' }],
    [[slot('a+', 10, 20), slot('b+', 15)], { connected: true, since: 15 }],
    // Clocks differ: the one that is open began "before" the one that ended.
    [[slot('a+', 10), slot('b+', 15, 20)], { connected: true, since: 10 }],
    [[slot('a+', 10), slot('b+', 15)], { connected: true, since: 15 }],
    [[slot('a-', 10), slot('b+', 15, 600)], { connected: false, since: 600, reason: 'client' }],
    [[slot('a-', 10), slot('b+', 15, 400)], { connected: false, since: 500, reason: 'node_lost' }]
  ]
  for (const [slots, expected] of table) {
    for (const some of [slots, [...slots].reverse()]) t.match(presenceState({ tenant: 't', device: 'd', slots: some, activityAt: 0 }, alive), expected)
  }
  t.end()
})
