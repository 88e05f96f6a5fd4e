import { randomUUID } from 'node:crypto'
import { Redis } from 'ioredis'
import t from 'tap'
import { nodeLeaseMs, StampClock, systemClock, type Clock } from '../../src/core/clock.js'
import { TwinfoldError } from '../../src/core/errors.js'
import { silentLog } from '../../src/core/log.js'
import { ClusterClock } from '../../src/nodes/cluster-clock.js'
import { NodeMembership } from '../../src/nodes/node-membership.js'
import { RedisNodeStore } from '../../src/store/cluster/redis/redis-node-store.js'
import { nodesMax, type NodeStore } from '../../src/store/node-store.js'
import { newTestName, services, skipWithout } from '../support/services.js'

interface Teardown { teardown(undo: () => unknown): unknown }

function shifted (offsetMs: number): Clock {
  return { nowUs: () => systemClock.nowUs() + offsetMs * 1000, monotonicMs: () => systemClock.monotonicMs() }
}

interface Store extends NodeStore { readonly client: Redis, readonly key: string, fault: Error | null }

async function newStore (t: Teardown): Promise<Store> {
  const client = new Redis(services().redis?.url ?? '')
  const prefix = newTestName()
  t.teardown(async () => {
    await client.del(`${prefix}:nodes`)
    client.disconnect()
  })
  const store = new RedisNodeStore({ client, prefix, run: async action => await action() })
  const own: Store = {
    client,
    key: `${prefix}:nodes`,
    fault: null,
    beat: async beat => {
      if (own.fault !== null) throw own.fault
      return await store.beat(beat)
    },
    seen: async () => await store.seen(),
    leave: async (name, bootId) => { await store.leave(name, bootId) }
  }
  return own
}

interface Node { readonly membership: NodeMembership, readonly stamps: StampClock, readonly clock: Clock }

async function newNode (t: Teardown, store: NodeStore, name: string, offsetMs: number, more: { journalId?: string, aheadMs?: number } = {}): Promise<Node> {
  const clock = shifted(offsetMs)
  const stamps = new StampClock(clock, clock.nowUs() + (more.aheadMs ?? 0) * 1000)
  const journalId = more.journalId ?? randomUUID().replace(/-/g, '').slice(0, 16)
  const membership = new NodeMembership({
    name, bootId: randomUUID(), journal: { journalId, get stampLast () { return stamps.last }, observeStamp: stamp => { stamps.observe(stamp) } }, store, clock, log: silentLog, beatMs: 20
  })
  await membership.open()
  t.teardown(async () => { await membership.close() })
  return { membership, stamps, clock }
}

const beats = async (ms = 200): Promise<void> => { await new Promise(resolve => { setTimeout(resolve, ms) }) }

void t.test('the median of samples decides: slow answers and pauses do not', async t => {
  const clock = new ClusterClock()
  t.equal(clock.verdict, 'unknown')
  for (const [delayUs, backUs] of [[300, 300], [400_000, 200], [250, 400], [200, 900_000], [300, 200]]) {
    clock.add(1e9, 1e9 + delayUs + backUs, 1e9 + delayUs + 100_000)
  }
  t.equal(clock.verdict, 'ok')
  t.ok(Math.abs((clock.offsetUs as number) + 100_000) < 1000, `${clock.offsetUs ?? 0} µs`)
  t.equal(clock.reason, null)
})

void t.test('a clock is called off only where it is off whatever the round trip hides', async t => {
  for (const [offsetMs, roundTripMs, verdict] of [[249, 1, 'ok'], [252, 1, 'off'], [-252, 1, 'off'], [300, 200, 'ok'], [300, 60, 'off'], [-3_600_000, 1, 'off']] as const) {
    const clock = new ClusterClock()
    for (let i = 0; i < 5; i++) clock.add(1e12, 1e12 + roundTripMs * 1000, 1e12 + roundTripMs * 500 - offsetMs * 1000)
    t.equal(clock.verdict, verdict, `${offsetMs} ms, round trip ${roundTripMs} ms`)
    if (verdict === 'off') t.match(clock.reason, new RegExp(`${Math.abs(offsetMs)} ms ${offsetMs > 0 ? 'ahead of' : 'behind'}.*synchronise`))
  }
})

void t.test('nodes see each other, their clocks, and a clean stop at once', async t => {
  if (skipWithout(t, 'redis')) return
  const store = await newStore(t)
  const a = await newNode(t, store, 'a', 0)
  const b = await newNode(t, store, 'b', 100)
  await beats()
  for (const { membership } of [a, b]) {
    const [first, second] = membership.list()
    t.match([first, second], [{ name: 'a', state: 'live' }, { name: 'b', state: 'live' }])
    t.ok(Math.abs(first.clockOffsetMs as number) < 50, `a: ${String(first.clockOffsetMs)} ms`)
    t.ok(Math.abs(second.clockOffsetMs as number - 100) < 50, `b: ${String(second.clockOffsetMs)} ms`)
    t.same(membership.reasons(), [])
  }
  t.same(a.membership.list().map(({ self }) => self), [true, false])
  t.same((await store.seen()).map(({ name, silentMs }) => [name, silentMs < nodeLeaseMs]).sort(), [['a', true], ['b', true]], 'a tool beside them sees the same')
  await b.membership.close()
  await beats()
  t.same(a.membership.list().map(({ name }) => name), ['a'])
})

void t.test('stamps of a node that is 200 ms ahead push those of the others', async t => {
  if (skipWithout(t, 'redis')) return
  const store = await newStore(t)
  const a = await newNode(t, store, 'a', 0)
  const b = await newNode(t, store, 'b', 200)
  const accepted = b.stamps.take(1)
  await beats(100)
  t.ok(a.stamps.aheadUs() > 0, 'followed within a beat')
  t.ok(a.stamps.take(1) > accepted, 'what is accepted later at a has the greater stamp')
})

void t.test('a node 400 ms off is not ready, says by how much, and pushes nobody', async t => {
  if (skipWithout(t, 'redis')) return
  const store = await newStore(t)
  const a = await newNode(t, store, 'a', 0)
  for (const offsetMs of [400, -400, 3_600_000]) {
    const b = await newNode(t, store, 'b', offsetMs)
    t.match(b.membership.reasons(), [new RegExp(`${offsetMs > 0 ? 'ahead of' : 'behind'} the cluster's`)], 'from the start on')
    b.stamps.take(1)
    await beats()
    t.ok(a.stamps.aheadUs() === 0, 'a keeps its own time')
    t.match(a.membership.list(), [{ name: 'a' }, { name: 'b', state: 'clock-off' }])
    await b.membership.close()
  }
  t.same(a.membership.reasons(), [])
})

void t.test('a node that is behind follows the others, and its stamps are right before its clock is', async t => {
  if (skipWithout(t, 'redis')) return
  const store = await newStore(t)
  const a = await newNode(t, store, 'a', 0)
  const b = await newNode(t, store, 'b', -3_600_000)
  await beats()
  const accepted = a.stamps.take(1)
  await beats()
  t.ok(b.stamps.take(1) > accepted)
})

void t.test('stamps that ran ahead of a right clock are followed for some seconds, not beyond belief', async t => {
  if (skipWithout(t, 'redis')) return
  const store = await newStore(t)
  const a = await newNode(t, store, 'a', 0)
  const near = await newNode(t, store, 'near', 0, { aheadMs: 3000 })
  await beats()
  t.ok(a.stamps.last >= near.stamps.last)
  await newNode(t, store, 'far', 0, { aheadMs: 3_600_000 })
  await beats()
  t.ok(a.stamps.last < systemClock.nowUs() + 10e6)
  t.ok(a.membership.stats.stampsDistrusted > 0)
  t.ok((a.membership.list().find(({ name }) => name === 'far')?.stampAheadMs ?? 0) > 3_500_000)
})

void t.test('while Redis is away the last verdict and the last list stay', async t => {
  if (skipWithout(t, 'redis')) return
  const store = await newStore(t)
  const a = await newNode(t, store, 'a', 0)
  const off = await newNode(t, store, 'off', 400)
  store.fault = new TwinfoldError('store_unavailable', 'away')
  await beats()
  t.same(a.membership.reasons(), [])
  t.equal(off.membership.reasons().length, 1)
  t.equal(off.membership.list().length, 2)
  t.ok(a.membership.stats.beatFailures > 3)
  await store.client.del(store.key)
  store.fault = null
  await beats()
  t.equal(a.membership.list().length, 2, 'a flush is mended by the next beats')
})

void t.test('a start does not wait for a Redis that is away', async t => {
  const away: NodeStore = { beat: async () => { throw new TwinfoldError('store_unavailable', 'away') }, seen: async () => [], leave: async () => { throw new TwinfoldError('store_unavailable', 'away') } }
  const { membership } = await newNode(t, away, 'a', 0)
  t.same(membership.reasons(), [])
  t.same(membership.list(), [])
})

void t.test('a killed node is gone after its lease, and its restart takes its name at once', async t => {
  if (skipWithout(t, 'redis')) return
  const store = await newStore(t)
  const a = await newNode(t, store, 'a', 0)
  const old = systemClock.nowUs() - (nodeLeaseMs + 1000) * 1000
  const beat = { name: 'b', bootId: 'x', journalId: 'ffffffffffffffff', stampLast: 1, wallUs: old, clockOffsetMs: 0, clock: 'ok', startedAtUs: 1 }
  await store.client.hset(store.key, 'b', `${old} x ${JSON.stringify(beat)}`)
  await beats()
  t.match(a.membership.list(), [{ name: 'a' }, { name: 'b', state: 'gone' }])
  const b = await newNode(t, store, 'b', 0)
  await beats()
  t.same(b.membership.reasons(), [])
  t.match(a.membership.list(), [{ name: 'a' }, { name: 'b', state: 'live' }])
})

void t.test('two servers under one name, or on copies of one journal, say so and are not ready', async t => {
  if (skipWithout(t, 'redis')) return
  const store = await newStore(t)
  const first = await newNode(t, store, 'a', 0)
  const second = await newNode(t, store, 'a', 0)
  await beats()
  t.match(first.membership.reasons(), [/node name 'a'/])
  await second.membership.close()
  await beats()
  t.same(first.membership.reasons(), [])
  const original = await newNode(t, store, 'original', 0, { journalId: '00000000000000aa' })
  await newNode(t, store, 'copy', 0, { journalId: '00000000000000aa' })
  await beats()
  t.match(original.membership.reasons(), [/'copy'.*00000000000000aa/])
})

void t.test('nodes that were silent for a day are forgotten, and no more than the bound are kept', async t => {
  if (skipWithout(t, 'redis')) return
  const store = await newStore(t)
  const now = systemClock.nowUs()
  const entries: string[] = []
  for (let i = 0; i < nodesMax + 50; i++) {
    const name = `n${i}`
    entries.push(name, `${now - i * 1e6} boot ${JSON.stringify({ name, bootId: 'boot', journalId: '1', stampLast: 1, wallUs: now, clockOffsetMs: null, clock: 'unknown', startedAtUs: 1 })}`)
  }
  entries.push('old', `${now - 25 * 3600e6} boot {}`, 'strange', 'nonsense')
  await store.client.hset(store.key, ...entries)
  const a = await newNode(t, store, 'a', 0)
  const names = a.membership.list().map(({ name }) => name)
  t.equal(names.length, nodesMax)
  t.ok(names.includes('n0') && !names.includes('old') && !names.includes(`n${nodesMax + 49}`))
  t.equal(await store.client.hlen(store.key), nodesMax)
})
