/** The routes of fleet queries and tenant SQL: who may ask, what is checked before anything is asked, and what is handed on. */
import t from 'tap'
import { TwinfoldError } from '../../src/core/errors.js'
import { usPerDay, usPerHour } from '../../src/core/reading.js'
import type { AnalyticsSource } from '../../src/edge/http/analytics-routes.js'
import type { FleetQuery, FleetStore, HistogramQuery, SqlRequest, TenantSql } from '../../src/store/fleet-store.js'
import { bench } from '../edge/http-support.js'

const analytics = { status: { state: 'up', reason: '', lagSeconds: 0.25 } } as unknown as AnalyticsSource

function source (fault?: Error): { asked: FleetQuery[], histograms: HistogramQuery[], fleet: FleetStore } {
  const asked: FleetQuery[] = []
  const histograms: HistogramQuery[] = []
  return {
    asked,
    histograms,
    fleet: {
      queryFleet: async query => {
        asked.push(query)
        if (fault !== undefined) throw fault
        return { tier: 'points', rows: [{ metric: 'temperature', ts: query.step === null ? null : 1e15, group: query.groupBy.map(() => 'x'), values: query.aggs.map((_, index) => index === 0 ? 1.5 : NaN) }] }
      },
      histogram: async query => {
        histograms.push(query)
        return { buckets: [{ from: 0, to: 1, count: 3 }], notFinite: 1 }
      }
    }
  }
}

t.test('a fleet query is of the caller\'s tenant, within its retention, and answered with lag and tier', async t => {
  const { asked, fleet } = source()
  const { call, keys, clock, store } = await bench(t, { analytics, fleet })
  const body = { from: 'now-30d', to: 'now', metrics: ['temperature'], agg: ['avg', 'p95'], step: '1h', where: { type: 'pump', gateway: ['g1', 'g2'], devices: ['d-1'], tags: { site: 'berlin', line: ['1', '2'] } }, groupBy: ['tag:site', 'time'], topk: { by: 'max(temperature)', k: 3 }, having: [{ by: 'count(temperature)', op: '>', value: 5 }] }
  const answer = await call('POST', '/api/v1/fleet/query', { key: keys.viewer, body })
  t.match(answer, { status: 200, json: { tier: 'points', lagSeconds: 0.25, rows: [{ metric: 'temperature', time: /2001/, group: { 'tag:site': 'x' }, values: { avg: 1.5, p95: 'NaN' } }] } })
  t.match(asked[0], {
    tenant: 'acme', metrics: ['temperature'], aggs: ['avg', 'p95'], step: { kind: 'fixed', us: usPerHour }, groupBy: ['tag:site'],
    where: { types: ['pump'], gateways: ['g1', 'g2'], devices: ['d-1'] }, topK: { agg: 'max', metric: 'temperature', k: 3, order: 'desc' }, having: [{ agg: 'count', metric: 'temperature', op: '>', value: 5 }]
  })
  t.strictSame([...asked[0].where.tags ?? []], [['site', ['berlin']], ['line', ['1', '2']]])
  await call('GET', '/api/v1/fleet/query?metrics=a,b&agg=avg,max&step=1d&tz=Europe/Berlin&groupBy=type,time&tag=site%3Dberlin&type=pump&by=avg(a)&k=2&order=asc&from=1000', { key: keys.foreignOperator })
  t.match(asked[1], { tenant: 'bolt', metrics: ['a', 'b'], aggs: ['avg', 'max'], step: { kind: 'days', days: 1, timeZone: 'Europe/Berlin' }, groupBy: ['type'], topK: { agg: 'avg', metric: 'a', k: 2, order: 'asc' } })
  t.ok(Math.abs(asked[1].fromTs - (clock.us - 365 * usPerDay)) < 1e6, 'older points are out of retention')
  store.tenants.set('acme', { id: 'acme', name: '', createdAt: 0, retention: [{ sinceStamp: 0, days: 1 }], disabled: false })
  t.match(await call('POST', '/api/v1/fleet/query', { key: keys.viewer, body: { from: 1000, to: 2000, metrics: 'a' } }), { status: 200, json: { rows: [] } })
  t.equal(asked.length, 2, 'what has expired is not asked for')
})

t.test('what is wrong with a fleet query is said with its field, and nothing is asked', async t => {
  const { asked, histograms, fleet } = source()
  const { call, keys } = await bench(t, { analytics, fleet })
  const bad: [object, string][] = [
    [{}, 'metrics'], [{ metrics: [] }, 'metrics'], [{ metrics: ['x'.repeat(200)] }, 'metrics'], [{ metrics: Array.from({ length: 21 }, (_, index) => `m${index}`) }, 'metrics'],
    [{ metrics: 'a', agg: 'mean' }, 'agg'], [{ metrics: 'a', agg: 'p100' }, 'agg'], [{ metrics: 'a', agg: 'p95)' }, 'agg'], [{ metrics: 'a', agg: 'constructor' }, 'agg'], [{ metrics: 'a', step: '0s' }, 'step'], [{ metrics: 'a', step: '1 hour' }, 'step'],
    [{ metrics: 'a', step: '99999w' }, 'step'], [{ metrics: 'a', step: '1h', tz: 'Europe/Berlin' }, 'tz'], [{ metrics: 'a', tz: 'Europe/Berlin' }, 'tz'], [{ metrics: 'a', step: '1d', tz: `x' OR 1` }, 'tz'], [{ metrics: 'a', step: '1d', tz: 'Mars/Base' }, 'tz'],
    [{ metrics: 'a', groupBy: 'time' }, 'step'], [{ metrics: 'a', groupBy: 'colour' }, 'groupBy'], [{ metrics: 'a', groupBy: `tag:a'b` }, 'groupBy'], [{ metrics: 'a', groupBy: ['device', 'type', 'gateway', 'tag:a', 'tag:b'] }, 'groupBy'],
    [{ metrics: 'a', where: { tags: { 'a b': 'x' } } }, 'where.tags.a b'], [{ metrics: 'a', where: { devices: ['a b'] } }, 'where.devices'], [{ metrics: 'a', where: { colour: 'x' } }, 'where.colour'],
    [{ metrics: 'a', topk: { by: 'avg', k: 1 } }, 'topk.by'], [{ metrics: 'a', topk: { by: 'avg(a)', k: 0 } }, 'topk.k'], [{ metrics: 'a', having: [{ by: 'avg(a)', op: '; --', value: 1 }] }, 'having[0].op'], [{ metrics: 'a', from: 'now', to: 'now-1d' }, 'from'], [{ metrics: 'a', from: 'yesterday' }, 'from'],
    [{ histogram: { metric: 'a', width: 0 } }, 'histogram.width'], [{ histogram: { metric: 'a', width: 1, buckets: 2 } }, 'histogram.width'], [{ histogram: { metric: 'a' }, groupBy: 'device' }, 'groupBy'], [{ histogram: { metric: 'a', buckets: 5000 } }, 'histogram.buckets']
  ]
  for (const [body, field] of bad) t.match(await call('POST', '/api/v1/fleet/query', { key: keys.viewer, body }), { status: 400, json: { code: 'invalid_field', field } }, JSON.stringify(body).slice(0, 100))
  for (const query of ['', 'metrics=a&k=3', 'metrics=a&tag=site', 'metrics=a&limit=3']) t.match(await call('GET', `/api/v1/fleet/query?${query}`, { key: keys.viewer }), { status: 400 }, query)
  t.strictSame([asked.length, histograms.length], [0, 0])
  t.match(await call('POST', '/api/v1/fleet/query', { key: keys.viewer, body: { histogram: { metric: 'a', buckets: 5 } } }), { status: 200, json: { metric: 'a', buckets: [{ from: 0, to: 1, count: 3 }], notFinite: 1 } })
})

t.test('devices and strangers may not ask; off and down are said with what to do', async t => {
  const reason = 'ClickHouse is not reachable: nothing listens at its address'
  const { fleet } = source(new TwinfoldError('analytics_unavailable', reason))
  const { call, keys } = await bench(t, { analytics, fleet })
  const body = { metrics: 'a' }
  t.match(await call('POST', '/api/v1/fleet/query', { key: keys.device, body }), { status: 403 })
  t.match(await call('POST', '/api/v1/fleet/query', { body }), { status: 401 })
  t.match(await call('POST', '/api/v1/fleet/query', { key: keys.viewer, body }), { status: 503, json: { code: 'analytics_unavailable', detail: reason } })
  t.match(await call('POST', '/api/v1/sql', { key: keys.viewer, body: { query: 'SELECT 1' } }), { status: 404, json: { detail: /off/ } })
  const off = await bench(t)
  t.match(await off.call('POST', '/api/v1/fleet/query', { key: off.keys.viewer, body }), { status: 404, json: { code: 'not_found', detail: /off on this server/ } })
})

t.test('SQL is for operators and viewers, of their own tenant, and answered in the format asked for', async t => {
  const asked: SqlRequest[] = []
  const sql: TenantSql = {
    off: null,
    run: async request => {
      asked.push(request)
      return { body: Buffer.from(request.format === 'json' ? '[{"a":1}]' : request.format === 'csv' ? '"a"\n1\n' : '{"a":1}\n'), rows: 1, truncated: true, asOf: 1e15 }
    },
    close: async () => {}
  }
  const { call, keys, clock } = await bench(t, { analytics, sql })
  t.match(await call('POST', '/api/v1/sql', { key: keys.viewer, body: { query: 'SELECT 1 AS a' } }), { status: 200, json: { rows: [{ a: 1 }], rowCount: 1, truncated: true, asOf: /2001/ } })
  t.match(asked[0], { tenant: 'acme', query: 'SELECT 1 AS a', format: 'json' })
  t.ok(Math.abs(asked[0].oldestTs - (clock.us - 365 * usPerDay)) < 1e6)
  const csv = await call('POST', '/api/v1/sql', { key: keys.operator, body: { query: 'SELECT 1 AS a', format: 'csv' } })
  t.match(csv, { status: 200, text: '"a"\n1\n', headers: { 'content-type': /text\/csv/, 'x-truncated': 'true', 'x-rows': '1' } })
  for (const key of [keys.device, keys.application]) t.match(await call('POST', '/api/v1/sql', { key, body: { query: 'SELECT 1' } }), { status: 403 })
  for (const body of [{}, { query: '' }, { query: 'SELECT 1', format: 'xml' }, { query: 'SELECT 1', tenant: 'bolt' }, { query: 'x'.repeat(40_000) }]) t.match(await call('POST', '/api/v1/sql', { key: keys.viewer, body }), { status: 400 })
})

t.test('tags of a device are checked, kept, changed as a whole, and shown', async t => {
  const { call, keys, store } = await bench(t)
  const tags = { site: 'berlin', 'line:a/b.c_d-e': '4 ü' }
  t.match(await call('POST', '/api/v1/devices', { key: keys.operator, body: { id: 'tagged', tags } }), { status: 201, json: { device: { tags } } })
  t.match(await call('GET', '/api/v1/devices/tagged', { key: keys.viewer }), { json: { tags } })
  t.match(await call('GET', '/api/v1/devices/pump-1', { key: keys.viewer }), { json: { tags: {} } })
  t.match(await call('PATCH', '/api/v1/devices/tagged', { key: keys.operator, body: { name: 'Pump' } }), { status: 200, json: { tags } }, 'another change leaves them')
  const changed = await call('PATCH', '/api/v1/devices/tagged', { key: keys.operator, body: { tags: { site: 'paris' } } })
  t.strictSame(changed.json.tags, { site: 'paris' })
  t.strictSame(store.devices.get('acme\0tagged')?.tags, { site: 'paris' })
  for (const bad of [{ 'a b': 'x' }, { '': 'x' }, { ['x'.repeat(65)]: 'x' }, { a: 1 }, { a: 'x'.repeat(257) }, Object.fromEntries(Array.from({ length: 33 }, (_, index) => [`t${index}`, 'x'])), 'site', null]) {
    t.match(await call('PATCH', '/api/v1/devices/tagged', { key: keys.operator, body: { tags: bad } }), { status: 400, json: { code: 'invalid_field', field: /^tags/ } }, JSON.stringify(bad).slice(0, 60))
  }
})
