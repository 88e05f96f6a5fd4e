import t from 'tap'
import { TwinfoldError } from '../../src/core/errors.js'
import type { Tenant } from '../../src/tenancy/model.js'
import { TenantCache } from '../../src/tenancy/tenant-cache.js'

function harness (cachedMax = 100) {
  const tenants = new Map<string, Tenant>()
  const control = { nowMs: 0, asked: [] as string[], hold: null as Promise<void> | null, fails: false, away: false }
  const cache = new TenantCache({
    getTenant: async id => {
      control.asked.push(id)
      const tenant = tenants.get(id) ?? null
      await control.hold
      if (control.away) throw new TwinfoldError('store_unavailable', 'away')
      if (control.fails) throw new Error('no answer')
      return tenant
    }
  }, { leaseMs: 1000, cachedMax, clock: { monotonicMs: () => control.nowMs } })
  const set = (id: string, name: string): void => { tenants.set(id, { id, name, createdAt: 0, retention: [{ sinceStamp: 0, days: 1 }], disabled: false }) }
  return { cache, control, set }
}

t.test('a tenant is asked for once in a lease, unknown ones too', async t => {
  const { cache, control, set } = harness()
  set('a', 'one')
  t.equal(cache.peek('a'), undefined)
  t.equal((await cache.get('a'))?.name, 'one')
  t.equal(await cache.get('b'), null)
  set('a', 'two')
  control.nowMs = 999
  t.equal((await cache.get('a'))?.name, 'one')
  t.strictSame([cache.peek('a')?.name, cache.peek('b')], ['one', null])
  control.nowMs = 1000
  t.equal(cache.peek('a'), undefined)
  t.equal((await cache.get('a'))?.name, 'two')
  t.strictSame(control.asked, ['a', 'b', 'a'])
})

t.test('what was forgotten is asked for again, even when an older answer is still on its way', async t => {
  const { cache, control, set } = harness()
  set('a', 'old')
  let release = (): void => {}
  control.hold = new Promise(resolve => { release = resolve })
  const older = Promise.all([cache.get('a'), cache.get('a')])
  set('a', 'new')
  cache.forget('a')
  control.hold = null
  t.equal((await cache.get('a'))?.name, 'new')
  release()
  t.strictSame((await older).map(tenant => tenant?.name), ['old', 'old'])
  t.equal(cache.peek('a')?.name, 'new')
  t.equal(control.asked.length, 2, 'a burst asks once')
  cache.forget()
  t.equal(cache.peek('a'), undefined)
})

t.test('a fault is not remembered', async t => {
  const { cache, control, set } = harness()
  set('a', 'one')
  control.fails = true
  await t.rejects(cache.get('a'), { message: 'no answer' })
  control.fails = false
  t.equal((await cache.get('a'))?.name, 'one')
})

t.test('the number remembered is bounded', async t => {
  const { cache } = harness(10)
  for (let i = 0; i < 100; i++) await cache.get(`t${i}`)
  t.equal(Array.from({ length: 100 }, (_, i) => cache.peek(`t${i}`)).filter(tenant => tenant !== undefined).length, 10)
})

t.test('while the registry is away a known tenant serves on, an unknown one does not', async t => {
  const { cache, control, set } = harness()
  set('a', 'one')
  await cache.get('a')
  await cache.get('b')
  control.away = true
  control.nowMs = 60_000
  t.equal((await cache.get('a'))?.name, 'one')
  await t.rejects(cache.get('b'), { code: 'store_unavailable' })
  control.away = false
  control.nowMs += 1000
  set('a', 'two')
  t.equal((await cache.get('a'))?.name, 'two')
})
