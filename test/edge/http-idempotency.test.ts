import t from 'tap'
import { IdempotencyKeys, type ClaimOutcome } from '../../src/edge/http/idempotency-keys.js'
import { ManualClock, MemoryStore } from './http-support.js'

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
    t.ok(keys.size <= unpacked.length, `nothing but unpacked keys is held (TEST_SEED=${seed})`)
  }
})
