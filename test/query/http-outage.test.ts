/** What the HTTP edge answers while a store is away, on doubles that reject as the real ones do. */
import t from 'tap'
import { TwinfoldError } from '../../src/core/errors.js'
import { TenantCache } from '../../src/tenancy/tenant-cache.js'
import type { DependencyReport } from '../../src/edge/http/edge-types.js'
import { bench, ManualClock } from '../edge/http-support.js'

const away = new TwinfoldError('store_unavailable', 'Cassandra does not answer: connection refused', { retryAfterMs: 2500 })

void t.test('a range is 503 with the reason and Retry-After, the latest values are those known', async t => {
  const b = await bench(t)
  b.queryResult = away
  const range = await b.call('GET', 'devices/pump-1/telemetry', { key: b.keys.viewer })
  t.equal(range.status, 503)
  t.equal(range.headers['retry-after'], '3')
  t.match(range.json, { code: 'store_unavailable', retryable: true, detail: /Cassandra does not answer: connection refused/ })
  b.queryResult = { body: new TextEncoder().encode('{"t":{"ts":1,"value":2}}'), readings: 1, lastTs: null, more: false, source: 'hot' }
  t.same((await b.call('GET', 'devices/pump-1/telemetry/latest', { key: b.keys.viewer })).json, { device: 'pump-1', latest: { t: { ts: 1, value: 2 } }, source: 'hot' })
  b.queryResult = { body: new TextEncoder().encode('{}'), readings: 0, lastTs: null, more: false }
  t.same((await b.call('GET', 'devices/pump-1/telemetry/latest', { key: b.keys.viewer })).json, { device: 'pump-1', latest: {} })
})

void t.test('known credentials, tenants and devices go on while the registry is away; strangers get 503, not 401', async t => {
  const clock = new ManualClock()
  const b = await bench(t, { clock })
  const tenants = new TenantCache(b.store, { leaseMs: 10, cachedMax: 10, clock })
  const served = await bench(t, { clock, tenants, authenticator: b.authenticator, store: b.store as never })
  const call = async (key: string, device = 'pump-1') => await served.call('POST', `devices/${device}/telemetry`, { key, body: { t: 1 } })
  t.equal((await call(b.keys.device)).status, 202)
  t.equal((await served.call('GET', 'devices/pump-1/telemetry', { key: b.keys.viewer })).status, 200)
  b.store.fault = away
  clock.us += 60e6
  t.equal((await call(b.keys.device)).status, 202, 'the lease of the device has run out')
  t.equal((await served.call('GET', 'devices/pump-1/telemetry', { key: b.keys.viewer })).status, 200)
  const unseen = await call(b.keys.gateway, 'child-1')
  t.match(unseen.json, { status: 503, code: 'store_unavailable' })
  clock.us += 20 * 60e6
  t.equal((await call(b.keys.device)).status, 503, 'but not for ever')
  b.store.fault = null
  t.equal((await call(b.keys.device)).status, 202)
})

void t.test('a store that is down makes the node degraded, not unready', async t => {
  const states: DependencyReport[] = [{ name: 'cassandra', state: 'up', reason: '' }, { name: 'redis', state: 'up', reason: '' }]
  const b = await bench(t, { dependencies: () => states })
  t.same((await b.call('GET', '/readyz')).json, { ready: true, degraded: false, reasons: [], dependencies: states })
  states[0] = { name: 'cassandra', state: 'down', reason: 'connection refused' }
  const degraded = await b.call('GET', '/readyz')
  t.equal(degraded.status, 200)
  t.same(degraded.json, { ready: true, degraded: true, reasons: [], dependencies: states })
  b.ready = { ready: false, reasons: ['the journal cannot be written'] }
  t.equal((await b.call('GET', '/readyz')).status, 503)
})

void t.test('the partition plan of a device is there to look at, for those who may', async t => {
  const b = await bench(t)
  const salts = [{ fromStamp: 0, salts: 1 }, { fromStamp: b.clock.us - 5e6, salts: 4 }, { fromStamp: b.clock.us + 20e6, salts: 16 }]
  const plan = { widths: [{ fromTs: 0, widthMinutes: 1440 }, { fromTs: b.clock.us - 60e6, widthMinutes: 60 }], salts }
  Object.assign(b.store, { getPlan: async () => ({ plan, version: 3 }) })
  const answer = await b.call('GET', 'devices/pump-1/partition-plan', { key: b.keys.viewer })
  t.equal(answer.status, 200)
  t.match(answer.json, {
    device: 'pump-1', version: 3, saltsNow: 4, saltsRead: 16, targetBytes: 4 * 1024 * 1024, widths: [{ from: '1970-01-01T00:00:00.000Z', width: '1d' }, { width: '1h' }],
    salts: [{ salts: 1 }, { salts: 4 }, { salts: 16 }], bucketNow: { start: '2025-06-15T15:00:00.000Z', width: '1h' }
  })
  t.equal((await b.call('GET', 'devices/pump-1/partition-plan', { key: b.keys.device })).status, 403)
  t.equal((await b.call('GET', 'devices/pump-1/partition-plan', { key: b.keys.foreignOperator })).status, 404)
  Object.assign(b.store, { getPlan: async () => { throw away } })
  t.match((await b.call('GET', 'devices/pump-1/partition-plan', { key: b.keys.operator })).json, { status: 503, code: 'store_unavailable' })
})
