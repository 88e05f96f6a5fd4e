import t from 'tap'
import { TwinfoldError, type ErrorCode } from '../../src/core/errors.js'
import { registryStaleMsMax, unknownLeaseMsMax } from '../../src/core/limits.js'
import { LeaseCache } from '../../src/gate/lease-cache.js'

const leaseMs = 10_000

function harness (more: { staleMsMax?: number, rememberedMax?: number } = {}) {
  const control = { nowMs: 1000, asked: 0, answer: 'one' as string | null, fault: null as ErrorCode | 'strange' | null, hold: null as Promise<void> | null }
  const cache = new LeaseCache<string | null>({ leaseMs, rememberedMax: 100, staleMsMax: registryStaleMsMax, monotonicMs: () => control.nowMs, isUnknown: value => value === null, ...more })
  const ask = async (): Promise<string | null> => {
    control.asked++
    const { answer } = control
    await control.hold
    if (control.fault === 'strange') throw new Error('strange')
    if (control.fault !== null) throw new TwinfoldError(control.fault, 'no answer')
    return answer
  }
  return { cache, control, get: async (key = 'k') => await cache.get(key, ask) }
}

t.test('while the registry is away a known answer serves for 15 minutes beyond its lease, and no longer', async t => {
  const { control, get, cache } = harness()
  t.equal(await get(), 'one')
  const answeredMs = control.nowMs
  control.fault = 'store_unavailable'
  control.nowMs = answeredMs + leaseMs
  t.equal(await get(), 'one')
  t.equal(control.asked, 2, 'the registry was asked first')
  t.equal(cache.peek('k'), 'one', 'for a moment it is given without asking')
  control.nowMs += 999
  t.equal(await get(), 'one')
  t.equal(control.asked, 2)
  control.nowMs += 1
  t.equal(await get(), 'one')
  t.equal(control.asked, 3)
  control.nowMs = answeredMs + leaseMs + registryStaleMsMax - 1
  t.equal(await get(), 'one')
  control.nowMs++
  t.equal(cache.peek('k'), undefined, 'not even for that moment')
  await t.rejects(get(), { code: 'store_unavailable' })
  t.equal(cache.staleAnswers, 3)
})

t.test('when the registry is back its answer counts at once', async t => {
  const { control, get } = harness()
  await get()
  control.nowMs += leaseMs
  control.fault = 'store_unavailable'
  await get()
  control.fault = null
  control.answer = null
  control.nowMs += 1000
  t.equal(await get(), null)
  control.fault = 'store_unavailable'
  control.nowMs += unknownLeaseMsMax
  await t.rejects(get(), { code: 'store_unavailable' }, 'the revoked answer does not come back')
})

t.test('only an unavailable store lets an old answer serve', async t => {
  for (const fault of ['internal', 'corrupt_data', 'strange', 'throttled'] as const) {
    const { control, get } = harness()
    await get()
    control.nowMs += leaseMs
    control.fault = fault
    await t.rejects(get(), fault === 'strange' ? { message: 'strange' } : { code: fault })
  }
  const strict = harness({ staleMsMax: 0 })
  await strict.get()
  strict.control.nowMs += leaseMs
  strict.control.fault = 'store_unavailable'
  await t.rejects(strict.get(), { code: 'store_unavailable' }, 'and only where it may serve at all')
})

t.test('"unknown" is remembered for two seconds, also by a registry slower than that, and never beyond', async t => {
  const { control, get, cache } = harness()
  control.answer = null
  let release = (): void => {}
  control.hold = new Promise(resolve => { release = resolve })
  const asked = get()
  control.nowMs += 60_000
  release()
  t.equal(await asked, null)
  t.equal(cache.peek('k'), null)
  control.nowMs += unknownLeaseMsMax - 1
  t.equal(cache.peek('k'), null)
  control.nowMs++
  t.equal(cache.peek('k'), undefined)
  control.fault = 'store_unavailable'
  await t.rejects(get(), { code: 'store_unavailable' })
})

t.test('what was forgotten on this node does not serve in an outage; the rest does', async t => {
  const { control, get, cache } = harness()
  await get('kept')
  control.answer = 'two'
  await get('gone')
  await get('also gone')
  cache.forgetWhere(value => value === 'two')
  control.fault = 'store_unavailable'
  control.nowMs += leaseMs
  await t.rejects(get('gone'))
  await t.rejects(get('also gone'))
  t.equal(await get('kept'), 'one')
  cache.forget('kept')
  await t.rejects(get('kept'))
})

t.test('an answer that was under way when its key was forgotten is not remembered', async t => {
  for (const forget of [(cache: LeaseCache<string | null>) => { cache.forget('k') }, (cache: LeaseCache<string | null>) => { cache.forget() }, (cache: LeaseCache<string | null>) => { cache.forgetWhere(() => false) }]) {
    const { control, get, cache } = harness()
    let release = (): void => {}
    control.hold = new Promise(resolve => { release = resolve })
    const older = get()
    forget(cache)
    release()
    t.equal(await older, 'one')
    t.equal(cache.peek('k'), undefined)
  }
})

t.test('bounded, and a burst asks once', async t => {
  const { control, get, cache } = harness({ rememberedMax: 10 })
  await Promise.all(Array.from({ length: 50 }, async () => await get()))
  t.equal(control.asked, 1)
  for (let i = 0; i < 100; i++) await get(`k${i}`)
  t.equal(cache.size, 10)
})
