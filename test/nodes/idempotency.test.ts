import t from 'tap'
import { systemClock } from '../../src/core/clock.js'
import { TwinfoldError } from '../../src/core/errors.js'
import { IdempotencyKeys, readingsAtMost } from '../../src/edge/http/idempotency-keys.js'
import { seededRandom } from '../../simulators/fleet/seeded-random.js'
import { CassandraSmallStores } from '../../src/store/cluster/cassandra/cassandra-small-stores.js'
import { ManualClock } from '../edge/http-support.js'
import { migratedKeyspace, openClient } from '../store/cassandra-fixture.js'
import { skipWithout } from '../support/services.js'
import { KeyedNode, SharedIdempotency, type Step } from './idempotency-nodes.js'

const steps: readonly (Step | null)[] = ['reserved', 'appended', 'durable', 'acknowledged', null]

void t.test('a keyed request that is tried on one node and then on another has one stamp, wherever the first died', async t => {
  for (const diesAfter of steps) {
    for (const packs of ['never', 'before the retry', 'after the retry']) {
      const store = new SharedIdempotency()
      const a = new KeyedNode(store, new ManualClock())
      const b = new KeyedNode(store, Object.assign(new ManualClock(), { us: new ManualClock().us + 200_000 }))
      const first = await a.request('k', diesAfter)
      if (packs === 'before the retry') await a.pack(10)
      const second = await b.request('k', null)
      if (packs === 'after the retry') await a.pack(10)
      await b.pack(10)
      const third = await a.request('k', null)
      t.equal(second, third, `${diesAfter ?? 'lives'}, packed ${packs}`)
      if (typeof first === 'number') t.equal(first, second)
      const stamps = new Set([...a.journal, ...b.journal].map(({ stamp }) => stamp))
      t.equal(stamps.size, 1, `${diesAfter ?? 'lives'}, packed ${packs}: all records of the key have one stamp`)
    }
  }
})

void t.test('two nodes at once: both may accept, under one stamp; another body is refused by one of them', async t => {
  for (let round = 0; round < 20; round++) {
    const store = new SharedIdempotency()
    const nodes = [new KeyedNode(store, new ManualClock()), new KeyedNode(store, new ManualClock())]
    const answers = await Promise.all(nodes.map(async node => await node.request('k', null)))
    t.equal(answers[0], answers[1])
    const others = await Promise.all(nodes.map(async (node, i) => await node.request('other', null, `f${i}`)))
    t.same(others.filter(answer => answer === 'mismatch').length, 1)
  }
})

void t.test('while the store is away a new key is refused with its reason, one that this node has is answered', async t => {
  const store = new SharedIdempotency()
  const node = new KeyedNode(store, new ManualClock())
  const stamp = await node.request('known', null)
  store.fault = new TwinfoldError('store_unavailable', 'away')
  await t.rejects(node.request('new', null), { code: 'store_unavailable' })
  t.equal(await node.request('known', null), stamp)
  store.fault = null
  t.type(await node.request('new', null), 'number', 'nothing was held against the key')
})

void t.test('a stamp that was reserved far ahead is not believed, and moves no clock', async t => {
  const store = new SharedIdempotency()
  const ahead = Object.assign(new ManualClock(), { us: new ManualClock().us + 3600e6 })
  await new KeyedNode(store, ahead).request('k', 'reserved')
  const clock = new ManualClock()
  const node = new KeyedNode(store, clock)
  await t.rejects(node.request('k', null), { code: 'not_ready' })
  t.ok(await node.request('other', null) as number < clock.us + 1e6)
})

void t.test('what a node accepts after a reserved request shares no stamp with its readings', async t => {
  const store = new SharedIdempotency()
  const clock = new ManualClock()
  const early = Object.assign(new ManualClock(), { us: clock.us + 100_000 })
  await new KeyedNode(store, early).request('k', 'reserved')
  const node = new KeyedNode(store, clock)
  const stamp = await node.request('k', null) as number
  const next = await node.request('next', null) as number
  t.ok(next > stamp + 2, 'three readings may stand in the body')
})

void t.test('a store that nobody shares is asked once whether it reserves', async t => {
  let asked = 0
  const store = Object.assign(new SharedIdempotency(), { claimIdempotency: async () => { asked++; return null } })
  const keys = new IdempotencyKeys(store, { clock: new ManualClock(), stamps: { takeStamps: () => 1, observeStamp: () => {} } })
  for (let i = 0; i < 5; i++) {
    const outcome = await keys.claim('acme', `k${i}`, 'f')
    t.match(outcome, { kind: 'first', stamp: null })
  }
  t.equal(asked, 1)
})

void t.test('a request that waits too long for the first of its key is told to come later', async t => {
  const keys = new IdempotencyKeys(new SharedIdempotency(), { clock: new ManualClock(), waitMs: 10 })
  await keys.claim('acme', 'k', 'f')
  t.match(await keys.claim('acme', 'k', 'f'), { kind: 'throttled' })
  t.equal(keys.waiting, 0)
})

void t.test('no format holds more readings than the bound', async t => {
  t.equal(readingsAtMost(Buffer.from('{"a":1}')), 2)
  t.ok(readingsAtMost(Buffer.from('[{"a":1},{"a":2},{"a":3}]')) >= 3)
  t.ok(readingsAtMost(Buffer.from([0x83, 0xa1, 0x61, 0x61, 1, 0xbf, 0x61, 0x61, 2, 0xff, 0xb8, 1, 0x61, 0x61, 3])) >= 3)
})

void t.test('whatever dies when, on three nodes with clocks apart: a key has one stamp in all journals and all answers', async t => {
  const seed = Number(process.env.TEST_SEED ?? Math.floor(Math.random() * 2 ** 31) + 1)
  const random = seededRandom(seed)
  for (let round = 0; round < 40; round++) {
    const store = new SharedIdempotency()
    const nodes = [0, 200_000, -150_000].map(skewUs => new KeyedNode(store, Object.assign(new ManualClock(), { us: new ManualClock().us + skewUs })))
    const stampOf = new Map<string, number>()
    let wrong = ''
    const request = async (key: string): Promise<void> => {
      const diesAfter = random() < 0.3 ? steps[Math.floor(random() * 4)] : null
      const answer = await nodes[Math.floor(random() * 3)].request(key, diesAfter)
      if (typeof answer !== 'number') return
      if ((stampOf.get(key) ?? answer) !== answer) wrong = `${key} was answered ${answer} and ${String(stampOf.get(key))}`
      stampOf.set(key, answer)
    }
    const running = new Set<Promise<void>>()
    for (let step = 0; step < 80; step++) {
      const what = random()
      const work = what < 0.7
        ? request(`k${Math.floor(random() * 6)}`)
        : nodes[Math.floor(random() * 3)].pack(Math.floor(random() * 4))
      running.add(work)
      void work.finally(() => running.delete(work))
      if (random() < 0.3) await new Promise(resolve => { setImmediate(resolve) })
      if (what >= 0.7) await work
    }
    await Promise.all(running)
    for (const { key, stamp } of nodes.flatMap(node => node.journal)) {
      if ((stampOf.get(key) ?? stamp) !== stamp) wrong = `${key} stands in a journal under ${stamp}`
      stampOf.set(key, stamp)
    }
    t.equal(wrong, '', `TEST_SEED=${seed}, round ${round}`)
  }
})

void t.test('on real Cassandra: two nodes at once, deaths at every step and packing in between leave one stamp a key', async t => {
  if (skipWithout(t, 'cassandra')) return
  const settings = await migratedKeyspace(t)
  const stores = [await openClient(t, settings), await openClient(t, settings)].map(client => new CassandraSmallStores(client))
  const a = new KeyedNode(stores[0], systemClock)
  const b = new KeyedNode(stores[1], { nowUs: () => systemClock.nowUs() - 200_000, monotonicMs: () => systemClock.monotonicMs() })
  const check = (key: string, answers: readonly unknown[]): void => {
    const stamps = new Set([...a.journal, ...b.journal].filter(record => record.key === key).map(({ stamp }) => stamp))
    for (const answer of answers) if (typeof answer === 'number') stamps.add(answer)
    t.equal(stamps.size, 1, `${key}: ${[...stamps].join(', ')}`)
  }
  for (const [i, diesAfter] of steps.entries()) {
    for (const packs of [false, true]) {
      const key = `dies-${i}-${String(packs)}`
      const first = await a.request(key, diesAfter)
      if (packs) await a.pack(10)
      check(key, [first, await b.request(key, null), await a.request(key, null)])
    }
  }
  for (let i = 0; i < 20; i++) {
    const key = `both-${i}`
    check(key, await Promise.all([a.request(key, null), b.request(key, null), a.request(key, null)]))
    const others = await Promise.all([a.request(`other-${i}`, null, 'f'), b.request(`other-${i}`, null, 'g')])
    t.equal(others.filter(answer => answer === 'mismatch').length, 1)
  }
  await a.pack(1000)
  await b.pack(1000)
  for (let i = 0; i < 20; i++) check(`both-${i}`, [await a.request(`both-${i}`, null), await b.request(`both-${i}`, null)])
})
