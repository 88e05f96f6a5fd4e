import t from 'tap'
import { StampClock } from '../../src/core/clock.js'
import { IdempotencyKeys, type ClaimOutcome } from '../../src/edge/http/idempotency-keys.js'
import { RecordFlags } from '../../src/journal/record.js'
import { bench, ManualClock, MemoryStore } from './http-support.js'

function randomFrom (seed: number): () => number {
  let state = seed >>> 0
  // xorshift32 (Marsaglia, 2003)
  return () => {
    state ^= state << 13
    state >>>= 0
    state ^= state >>> 17
    state ^= state << 5
    state >>>= 0
    return state / 2 ** 32
  }
}

const turn = async (): Promise<void> => { await new Promise(resolve => setImmediate(resolve)) }

function accept (outcome: ClaimOutcome, stamp: number): void {
  if (outcome.kind !== 'first') throw new Error(`expected the first claim, got ${outcome.kind}`)
  outcome.claim.accepted(stamp, stamp)
}

void t.test('at the bound new keys are throttled; an unpacked key is never forgotten', async t => {
  const keys = new IdempotencyKeys(new MemoryStore(), { clock: new ManualClock(), keysMax: 10 })
  for (let i = 1; i <= 10; i++) accept(await keys.claim('acme', `k${i}`, 'f'), i)
  t.match(await keys.claim('acme', 'k11', 'f'), { kind: 'throttled' })
  for (let i = 1; i <= 10; i++) t.same(await keys.claim('acme', `k${i}`, 'f'), { kind: 'repeated', stamp: i })
  keys.packedUpTo(4)
  t.equal(keys.size, 6)
  t.match(await keys.claim('acme', 'k11', 'f'), { kind: 'first' })
})

void t.test('waiting requests are bounded', async t => {
  const keys = new IdempotencyKeys(new MemoryStore(), { clock: new ManualClock(), waitingMax: 2 })
  const first = await keys.claim('acme', 'k', 'f')
  const second = keys.claim('acme', 'k', 'f')
  const third = keys.claim('acme', 'k', 'f')
  t.match(await keys.claim('acme', 'k', 'f'), { kind: 'throttled' })
  accept(first, 7)
  t.same(await second, { kind: 'repeated', stamp: 7 })
  t.same(await third, { kind: 'repeated', stamp: 7 })
  t.equal(keys.waiting, 0)
})

void t.test('keys of tenants do not meet', async t => {
  const keys = new IdempotencyKeys(new MemoryStore(), { clock: new ManualClock() })
  accept(await keys.claim('acme', 'k', 'f'), 1)
  t.match(await keys.claim('bolt', 'k', 'g'), { kind: 'first' })
})

void t.test('keys recovered from the journal answer as before the restart, whatever the bound', async t => {
  const keys = new IdempotencyKeys(new MemoryStore(), { clock: new ManualClock(), keysMax: 2 })
  keys.recover([1, 2, 3, 4].map(stamp => ({ tenant: 'acme', key: `k${stamp}`, fingerprint: 'f', stamp })), 4)
  t.equal(keys.size, 4)
  t.same(await keys.claim('acme', 'k3', 'f'), { kind: 'repeated', stamp: 3 })
  t.match(await keys.claim('acme', 'k3', 'g'), { kind: 'mismatch' })
  keys.packedUpTo(4)
  t.equal(keys.size, 0)
})

void t.test('a store that fails leaves the key free', async t => {
  const store = new MemoryStore()
  const get = store.getIdempotency.bind(store)
  store.getIdempotency = async () => { throw new Error('no') }
  const keys = new IdempotencyKeys(store, { clock: new ManualClock() })
  await t.rejects(keys.claim('acme', 'k', 'f'))
  store.getIdempotency = get
  t.match(await keys.claim('acme', 'k', 'f'), { kind: 'first' })
})

void t.test('whatever the order of duplicates, failures, packing and restarts: accepted once, and every answer is that stamp', async t => {
  const seed = Number(process.env.TEST_SEED ?? Math.floor(Math.random() * 2 ** 31) + 1)
  const random = randomFrom(seed)
  for (let round = 0; round < 60; round++) {
    const store = new MemoryStore()
    const clock = new ManualClock()
    let keys = new IdempotencyKeys(store, { clock })
    const acceptedStamps = new Map<string, number>()
    const unpacked: { tenant: string, key: string, fingerprint: string, stamp: number }[] = []
    let stamp = clock.us
    let wrong = ''
    const request = async (key: string): Promise<void> => {
      const outcome = await keys.claim('acme', key, 'f')
      if (outcome.kind === 'first') {
        for (let i = Math.floor(random() * 3); i > 0; i--) await turn()
        if (random() < 0.3) { outcome.claim.abandoned(); return }
        if (acceptedStamps.has(key)) wrong = `${key} was accepted twice`
        acceptedStamps.set(key, ++stamp)
        unpacked.push({ tenant: 'acme', key, fingerprint: 'f', stamp })
        outcome.claim.accepted(stamp, stamp)
      } else if (outcome.kind !== 'repeated' || outcome.stamp !== acceptedStamps.get(key)) {
        wrong = `${key} was answered ${JSON.stringify(outcome)}`
      }
    }
    const running = new Set<Promise<void>>()
    for (let step = 0; step < 60; step++) {
      const what = random()
      if (what < 0.75) {
        const call = request(`k${Math.floor(random() * 5)}`)
        running.add(call)
        void call.finally(() => running.delete(call))
      } else if (what < 0.95) {
        const packed = unpacked.splice(0, Math.floor(random() * (unpacked.length + 1)))
        await store.putIdempotency(packed)
        if (packed.length > 0) keys.packedUpTo(packed[packed.length - 1].stamp)
      } else {
        await Promise.all(running)
        keys = new IdempotencyKeys(store, { clock })
        keys.recover(unpacked, stamp)
      }
      if (random() < 0.5) await turn()
    }
    await Promise.all(running)
    t.equal(wrong, '', `TEST_SEED=${seed}, round ${round}`)
    await store.putIdempotency(unpacked)
    keys.packedUpTo(stamp)
    t.equal(keys.size, 0, `nothing but unpacked keys is held (TEST_SEED=${seed})`)
  }
})

void t.test('a request whose record is not replicated in 30 s is answered 503 with what to do, and its key is kept', async t => {
  const b = await bench(t)
  // Injected requests hold no socket that would keep the process.
  const alive = setInterval(() => {}, 1000)
  t.teardown(() => { clearInterval(alive) })
  b.journal.held = true
  const send = async (key: string): ReturnType<typeof b.call> => await b.call('POST', 'telemetry', { key: b.keys.device, body: '{"a":1}', headers: { 'idempotency-key': key } })
  const answer = send('k')
  while (b.journal.records.length === 0) await turn()
  b.clock.us += 29e6
  await new Promise(resolve => { setTimeout(resolve, 1100) })
  b.clock.us += 2e6
  const { status, json, headers } = await answer
  t.equal(status, 503)
  t.match(json, { code: 'store_unavailable', retryable: true, detail: /accepted in the journal.*Idempotency-Key/ })
  t.equal(headers['retry-after'], '5')
  b.journal.commit()
  const again = await send('k')
  t.equal(again.headers['idempotent-replayed'], 'true')
  t.equal(b.journal.records.length, 1, 'counted once')
  t.equal(b.edge.stats.bodiesBytes, 0)
})

void t.test('where nodes share the store the record has the reserved stamp and says so', async t => {
  const store = new MemoryStore()
  let reserved = 0
  store.claimIdempotency = async record => {
    reserved++
    return { ...record, stamp: record.key.endsWith(':elsewhere') ? 1_750_000_000_100_000 : record.stamp }
  }
  const clock = new ManualClock()
  const stamps = new StampClock(clock, 0)
  const idempotency = new IdempotencyKeys(store, { clock, stamps: { takeStamps: count => stamps.take(count), observeStamp: stamp => { stamps.observe(stamp) } } })
  const b = await bench(t, { idempotency, clock })
  const send = async (key: string): ReturnType<typeof b.call> => await b.call('POST', 'telemetry', { key: b.keys.device, body: '[{"a":1},{"a":2}]', headers: { 'idempotency-key': key } })
  const first = await send('here')
  t.equal(first.status, 202)
  t.match(b.journal.records[0], { flags: RecordFlags.reserved, stamp: first.json.stamp })
  const second = await send('elsewhere')
  t.equal(second.json.stamp, 1_750_000_000_100_000)
  t.match(b.journal.records[1], { flags: RecordFlags.reserved, stamp: 1_750_000_000_100_000 })
  t.equal(reserved, 2)
  await b.call('POST', 'telemetry', { key: b.keys.device, body: '{"a":1}' })
  t.match(b.journal.records[2], { flags: 0, stamp: undefined })
})
