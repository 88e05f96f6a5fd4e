import t from 'tap'
import { ConcurrencyGate, GradientLimit, type Place } from '../../src/store/cluster/cassandra/concurrency-limit.js'

const bounds = { min: 8, max: 512, initial: 64 }

/** A service with room for `room` calls at once, each of `baseMs`; more queue inside it. Closed loop at the limit, simulated time. */
function settle (limit: GradientLimit, { room, baseMs, forMs, fromMs }: { room: number, baseMs: number, forMs: number, fromMs: number }): number {
  let nowMs = fromMs
  while (nowMs < fromMs + forMs) {
    const inFlight = limit.limit
    const tookMs = baseMs * Math.max(1, inFlight / room)
    for (let i = 0; i < inFlight; i++) limit.sample(nowMs + tookMs * i / inFlight, tookMs, inFlight, false)
    nowMs += tookMs
  }
  return nowMs
}

t.test('the limit grows while the latency stays, up to its bound', async t => {
  const limit = new GradientLimit(bounds)
  settle(limit, { room: Infinity, baseMs: 2, forMs: 60_000, fromMs: 0 })
  t.equal(limit.limit, 512)
})

t.test('the limit shrinks when the service slows down, and grows again when it is fast again', async t => {
  const limit = new GradientLimit(bounds)
  let nowMs = settle(limit, { room: 400, baseMs: 2, forMs: 30_000, fromMs: 0 })
  const fast = limit.limit
  t.ok(fast > 200, String(fast))
  nowMs = settle(limit, { room: 10, baseMs: 2, forMs: 3000, fromMs: nowMs })
  const slow = limit.limit
  t.ok(slow < fast / 2, `${slow} after ${fast}`)
  settle(limit, { room: 400, baseMs: 2, forMs: 60_000, fromMs: nowMs })
  t.ok(limit.limit > 200, String(limit.limit))
})

t.test('late answers halve the limit, never below its bound, and idle time does not raise it', async t => {
  const limit = new GradientLimit(bounds)
  limit.sample(0, 6000, 64, true)
  t.equal(limit.limit, 32)
  for (let i = 0; i < 10; i++) limit.sample(i * 1000, 6000, 8, true)
  t.equal(limit.limit, 8)
  for (let i = 0; i < 10_000; i++) limit.sample(20_000 + i * 10, 2, 1, false)
  t.equal(limit.limit, 8, 'a limit that is not used says nothing about a higher one')
})

function gate (over: { initial?: number, waitingMax?: number, waitMsMax?: number } = {}): { gate: ConcurrencyGate, clock: { nowMs: number } } {
  const clock = { nowMs: 0 }
  return { clock, gate: new ConcurrencyGate({ name: 'it', min: 1, max: 4, initial: 2, waitingMax: 3, waitMsMax: 100, ...over, monotonicMs: () => clock.nowMs }) }
}

t.test('first come, first served, and never more than the limit', async t => {
  const { gate: it } = gate()
  const places: Place[] = [await it.acquire(), await it.acquire()]
  const order: number[] = []
  const waiting = [1, 2, 3].map(async number => {
    const place = await it.acquire()
    order.push(number)
    places.push(place)
  })
  t.same([it.running, it.waiting], [2, 3])
  await t.rejects(it.acquire(), { code: 'store_unavailable', message: 'it is too busy: 3 wait already' }, 'a full queue refuses')
  for (let i = 0; i < 3; i++) {
    places[i].release('not tried')
    places[i].release('not tried')
    await new Promise(resolve => { setImmediate(resolve) })
    t.equal(it.running, 2, 'a place is given back once')
  }
  await Promise.all(waiting)
  t.same(order, [1, 2, 3])
  t.equal(it.rejected, 1)
})

t.test('whoever waited too long is told so when the turn comes, and does not run', async t => {
  const { gate: it, clock } = gate({ initial: 1 })
  const first = await it.acquire()
  const second = it.acquire()
  clock.nowMs = 90
  const third = it.acquire()
  t.equal(it.waitedMs, 90)
  clock.nowMs = 150
  first.release('not tried')
  await t.rejects(second, { code: 'store_unavailable', message: /more than 100 ms/ })
  ;(await third).release('answered')
  t.same([it.running, it.waiting, it.waitedMs], [0, 0, 0])
})

t.test('thousands wait and each gets its turn once', async t => {
  const { gate: it } = gate({ waitingMax: 10_000, waitMsMax: Infinity })
  let running = 0
  let most = 0
  let done = 0
  await Promise.all(Array.from({ length: 10_000 }, async () => {
    const place = await it.acquire()
    most = Math.max(most, ++running)
    await new Promise(resolve => { setImmediate(resolve) })
    running--
    done++
    place.release('answered')
  }))
  t.equal(done, 10_000)
  t.ok(most <= 4, String(most))
  t.same([it.running, it.waiting], [0, 0])
})
