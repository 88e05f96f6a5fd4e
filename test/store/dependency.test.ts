import t, { type Test } from 'tap'
import { setTimeout as pause } from 'node:timers/promises'
import type { TwinfoldError } from '../../src/core/errors.js'
import { silentLog } from '../../src/core/log.js'
import { Dependency, type DependencyOptions } from '../../src/store/dependency.js'

interface Bench { readonly it: Dependency, readonly clock: { ms: number, us: number }, fails: boolean, tried: number, call(): Promise<string> }

function bench (t: Test, over: Partial<DependencyOptions> = {}): Bench {
  const clock = { ms: 1000, us: 1_700_000_000_000_000 }
  const it = new Dependency({
    name: 'thing', code: 'store_unavailable', log: silentLog, clock: { nowUs: () => clock.us, monotonicMs: () => clock.ms },
    failuresMax: 3, retryAfterMs: 500, isFault: error => error.message === 'gone', ...over
  })
  t.teardown(() => { it.close() })
  const made: Bench = {
    it,
    clock,
    fails: true,
    tried: 0,
    call: async () => await it.run(async () => {
      made.tried++
      if (made.fails) throw new Error('gone')
      return 'answer'
    })
  }
  return made
}

t.test('faults in a row open the circuit: then calls are refused at once, untried, with the reason', async t => {
  const b = bench(t)
  for (let i = 0; i < 3; i++) await t.rejects(b.call(), { code: 'store_unavailable', message: 'thing: gone' })
  t.equal(b.it.status().state, 'down')
  t.match(b.it.status().reason, /thing has been down since 2023-11-14T22:13:20\.000Z; last error: gone/)
  await t.rejects(b.call(), { code: 'store_unavailable', message: /down since 2023.*gone/, retryAfterMs: 500 })
  t.match(b.it.status(), { calls: 4, failures: 3, rejected: 1, sinceMs: 1000 })
  t.equal(b.tried, 3)
})

t.test('errors of the call itself pass unchanged and open nothing; an answer between faults starts the count anew', async t => {
  const b = bench(t)
  const own = new Error('syntax')
  for (let i = 0; i < 10; i++) await t.rejects(b.it.run(async () => { throw own }), own)
  t.match(b.it.status(), { state: 'up', failures: 0, reason: '' })
  for (let i = 0; i < 6; i++) {
    b.fails = i % 3 !== 2
    await b.call().catch(() => {})
  }
  t.equal(b.it.status().state, 'up')
})

t.test('without a probe one caller tries after the pause, the others are refused meanwhile', async t => {
  const b = bench(t)
  for (let i = 0; i < 3; i++) await b.call().catch(() => {})
  b.clock.ms += 500
  await t.rejects(b.call(), { message: 'thing: gone' })
  await t.rejects(b.call(), { message: /down since/ }, 'it failed: the pause begins again')
  t.equal(b.it.status().sinceMs, 1000, 'down since the beginning')
  b.clock.ms += 500
  b.fails = false
  const results = await Promise.allSettled([b.call(), b.call(), b.call()])
  t.same(results.map(result => result.status), ['fulfilled', 'rejected', 'rejected'])
  t.match(b.it.status(), { state: 'up', reason: '', sinceMs: 2000 })
  t.equal(await b.call(), 'answer')
})

t.test('a wall clock set back does not keep the circuit open', async t => {
  const b = bench(t)
  for (let i = 0; i < 3; i++) await b.call().catch(() => {})
  const realNow = Date.now
  t.teardown(() => { Date.now = realNow })
  Date.now = () => realNow() - 86_400_000
  b.clock.ms += 500
  b.fails = false
  t.equal(await b.call(), 'answer')
})

t.test('with a probe the state is right while nobody calls, and callers never wait for a trial', async t => {
  let alive = true
  let probes = 0
  const b = bench(t, { retryAfterMs: 10, probe: async () => { probes++; if (!alive) throw new Error('gone') } })
  await pause(50)
  t.ok(probes > 1)
  alive = false
  while (b.it.status().state !== 'down') await pause(5)
  b.clock.ms += 10_000
  await t.rejects(b.call(), { message: /down since/ })
  t.equal(b.tried, 0, 'the probe tries, no caller does')
  alive = true
  while (b.it.status().state !== 'up') await pause(5)
  b.fails = false
  t.equal(await b.call(), 'answer')
  b.it.close()
  const before = probes
  await pause(40)
  t.equal(probes, before, 'closed: no more probes')
})

t.test('the bulkhead bounds what runs and what waits; beyond it calls are refused and the state is slow for a while', async t => {
  const b = bench(t, { runningMax: 2, waitingMax: 1 })
  const gates: (() => void)[] = []
  const slow = async (): Promise<void> => { await b.it.run(async () => { await new Promise<void>(resolve => { gates.push(resolve) }) }) }
  const calls = [slow(), slow(), slow()]
  t.match(b.it.status(), { running: 2, waiting: 1, state: 'up' })
  await t.rejects(slow(), { code: 'store_unavailable', message: 'thing is too busy: 2 calls run and 1 wait' })
  t.match(b.it.status(), { state: 'slow', sinceMs: 1000, rejected: 1 })
  while (gates.length < 3) {
    gates.forEach(open => { open() })
    await pause(1)
  }
  gates.forEach(open => { open() })
  await Promise.all(calls)
  b.clock.ms += 10_001
  t.match(b.it.status(), { state: 'up', running: 0, waiting: 0 })
})

t.test('whoever waits in the bulkhead when the circuit opens is refused, not tried', async t => {
  const b = bench(t, { runningMax: 1, waitingMax: 10, failuresMax: 1 })
  const results = await Promise.allSettled(Array.from({ length: 6 }, async () => await b.call()))
  t.equal(b.tried, 1)
  t.same(results.map(result => result.status === 'rejected' && (result.reason as TwinfoldError).code), Array.from({ length: 6 }, () => 'store_unavailable'))
})
