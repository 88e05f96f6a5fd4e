/** The analytics routes: who may ask, what they say while analytics is off, down or behind. */
import t from 'tap'
import { systemClock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import { AnalyticsService } from '../../src/analytics/analytics-service.js'
import { TwinfoldError } from '../../src/core/errors.js'
import { usPerDay } from '../../src/core/reading.js'
import type { AnalyticsSource } from '../../src/edge/http/analytics-routes.js'
import { bench } from '../edge/http-support.js'

interface Asked { readonly tenant: string, readonly fromTs: number, readonly toTs: number }

function source (more: { state?: 'up' | 'down' | 'gap', reason?: string, lagSeconds?: number, fault?: Error } = {}): { asked: Asked[], analytics: AnalyticsSource } {
  const asked: Asked[] = []
  const { state = 'up', reason = '', lagSeconds = 0.12345, fault } = more
  return {
    asked,
    analytics: {
      status: { state, reason, lagSeconds, hoursLagSeconds: 0, rebuild: null },
      startRebuild: () => null,
      noteDevice: () => {},
      noteErasure: () => {},
      countPoints: async (tenant, fromTs, toTs) => {
        asked.push({ tenant, fromTs, toTs })
        if (fault !== undefined) throw fault
        return { points: 7, devices: 2, lagSeconds }
      }
    }
  }
}

t.test('where analytics is off the state says so, and a count is a problem that says how to turn it on', async t => {
  const { call, keys } = await bench(t)
  const status = await call('GET', '/api/v1/analytics/status', { key: keys.viewer })
  t.match(status, { status: 200, json: { state: 'off', reason: /TWINFOLD_CLICKHOUSE/, lagSeconds: null } })
  t.match(await call('GET', '/api/v1/analytics/points', { key: keys.viewer }), { status: 404, json: { code: 'not_found', detail: /analytics is off/ } })
})

t.test('a count is of the caller\'s tenant alone, in the range asked for, cut to its retention', async t => {
  const { asked, analytics } = source()
  const { call, keys, clock, store } = await bench(t, { analytics })
  const answer = await call('GET', '/api/v1/analytics/points', { key: keys.viewer })
  t.match(answer, { status: 200, json: { points: 7, devices: 2, lagSeconds: 0.123 } })
  t.match(asked[0], { tenant: 'acme' })
  t.equal(asked[0].toTs - asked[0].fromTs, usPerDay)
  await call('GET', '/api/v1/analytics/points?from=1000&to=now', { key: keys.foreignOperator })
  t.match(asked[1], { tenant: 'bolt' })
  t.ok(Math.abs(asked[1].fromTs - (clock.us - 365 * usPerDay)) < 1e6, 'older points are out of retention')
  store.tenants.set('acme', { id: 'acme', name: '', createdAt: 0, retention: [{ sinceStamp: 0, days: 1 }], disabled: false })
  t.match(await call('GET', '/api/v1/analytics/points?from=1000&to=2000', { key: keys.viewer }), { status: 200, json: { points: 0, devices: 0 } })
  t.equal(asked.length, 2, 'what has expired is not asked for')
  for (const query of ['from=2000&to=1000', 'from=yesterday', 'limit=5']) t.match(await call('GET', `/api/v1/analytics/points?${query}`, { key: keys.viewer }), { status: 400, json: { code: /invalid/ } })
})

t.test('devices and strangers may not ask', async t => {
  const { analytics } = source()
  const { call, keys } = await bench(t, { analytics })
  for (const path of ['status', 'points']) {
    t.match(await call('GET', `/api/v1/analytics/${path}`, { key: keys.device }), { status: 403 })
    t.match(await call('GET', `/api/v1/analytics/${path}`), { status: 401 })
    t.match(await call('GET', `/api/v1/analytics/${path}`, { key: keys.admin }), { status: 400 }, 'a platform key names a tenant')
    t.match(await call('GET', `/api/v1/analytics/${path}`, { key: keys.admin, headers: { 'x-tenant': 'acme' } }), { status: 200 })
  }
})

t.test('while it is down the state says so, and a count is 503 with the reason', async t => {
  const reason = 'ClickHouse is not reachable: nothing listens at its address'
  const { analytics } = source({ state: 'down', reason, lagSeconds: 12, fault: new TwinfoldError('analytics_unavailable', reason) })
  const { call, keys } = await bench(t, { analytics })
  t.match(await call('GET', '/api/v1/analytics/status', { key: keys.viewer }), { status: 200, json: { state: 'down', reason, lagSeconds: 12 } })
  const answer = await call('GET', '/api/v1/analytics/points', { key: keys.viewer })
  t.match(answer, { status: 503, json: { code: 'analytics_unavailable', detail: reason, retryable: true } })
  t.ok(Number(answer.headers['retry-after']) >= 1)
})

t.test('analytics that does not answer is down though the projection has nothing to do, and a gap is not forgotten over it', async t => {
  const count = async (): Promise<{ points: number, devices: number }> => ({ points: 1, devices: 1 })
  const service = (projection: 'up' | 'down' | 'gap', dependency: string): AnalyticsService => new AnalyticsService({
    projector: { open: () => {}, status: { state: projection, reason: projection === 'up' ? '' : `projection ${projection}`, lagSeconds: 3 }, stats: { sealLagSeconds: 4 } },
    upkeep: { open: () => {}, noteDevice: () => {}, noteErasure: () => {} },
    rebuild: { run: async () => { throw new Error('not asked for') }, stop: () => {}, progress: null },
    embedded: null,
    clock: systemClock,
    log: silentLog,
    analytics: { countPoints: count, erase: async () => {}, status: () => ({ state: dependency, reason: dependency === 'up' ? '' : 'no answer' }) }
  })
  const opened = (made: AnalyticsService): AnalyticsService => {
    void made.open()
    return made
  }
  t.match(opened(service('up', 'up')).status, { state: 'up', reason: '', lagSeconds: 3 })
  t.match(opened(service('up', 'down')).status, { state: 'down', reason: 'no answer', lagSeconds: 3 })
  t.match(opened(service('gap', 'down')).status, { state: 'down', reason: 'no answer; projection gap', lagSeconds: 3 })
  t.match(opened(service('gap', 'up')).status, { state: 'gap', reason: 'projection gap', lagSeconds: 3 })
  t.strictSame(await opened(service('up', 'up')).countPoints('acme', 0, 1), { points: 1, devices: 1, lagSeconds: 3 })
})
