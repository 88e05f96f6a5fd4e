import t from 'tap'
import type { AggregateQuery, ShapeQuery } from '../../workers/query-protocol.js'
import { bench } from './http-support.js'

const hour = 3600e6
const day = 86_400e6

const empty = { body: new TextEncoder().encode('"windows":[],"series":[]'), readings: 0, lastTs: null, more: false }

void t.test('a question about windows without parameters is the average of every metric over the last 24 hours', async t => {
  const b = await bench(t)
  b.queryResult = empty
  const answer = await b.call('GET', 'devices/pump-1/aggregates', { key: b.keys.viewer })
  t.equal(answer.status, 200)
  t.same(answer.json, { device: 'pump-1', windows: [], series: [], next: null })
  const task = b.queries[0] as AggregateQuery
  t.match(task, { kind: 'aggregate', tenant: 'acme', device: 'pump-1', wanted: [{ metric: null, aggs: ['avg'] }], zone: 'UTC', fill: 'none', times: 'iso', retentionDays: [365] })
  t.equal(task.toTs - task.fromTs, day)
  t.equal(task.step.text, '5m', '289 windows at most of the default of 500')
  t.same(task.tierClasses, { '1m': [365], '1h': [1825], '1d': [3650] })
  t.equal(task.tierOldestTs['1h'], b.clock.us - 1825 * day > 0 ? b.clock.us - 1825 * day : 0)
})

void t.test('every parameter reaches the worker as it is meant', async t => {
  const b = await bench(t)
  b.queryResult = empty
  const url = 'devices/pump-1/aggregates?from=now-2d/d&to=now/d&metrics=t,p&agg=min,p95,p99.9&step=PT15M&fill=-1.5&tz=Asia/Kolkata&times=ms&tier=1m&limit=10'
  t.equal((await b.call('GET', url, { key: b.keys.device })).status, 200)
  const task = b.queries[0] as AggregateQuery
  t.match(task, {
    wanted: [{ metric: 'p', aggs: ['min', 'p95', 'p99.9'] }, { metric: 't', aggs: ['min', 'p95', 'p99.9'] }],
    step: { unit: 'us', count: hour / 4, text: '15m' }, zone: 'Asia/Kolkata', fill: -1.5, times: 'ms', source: '1m', limit: 10
  })
  t.equal(task.toTs - task.fromTs, 2 * day)
  t.equal((task.fromTs + 5.5 * hour) % day, 0, 'a local midnight')
})

void t.test('a shape is asked for with its number of points', async t => {
  const b = await bench(t)
  b.queryResult = empty
  t.equal((await b.call('GET', 'devices/pump-1/aggregates?agg=lttb&maxPoints=200&metrics=t', { key: b.keys.viewer })).status, 200)
  t.match(b.queries[0] as ShapeQuery, { kind: 'shape', shape: 'lttb', metrics: ['t'], maxPoints: 200 })
})

const refused: readonly (readonly [query: string, field: string])[] = [
  ['from=tomorrow', 'from'], ['to=2026-02-30', 'to'], ['from=now&to=now-1h', 'from'], ['from=now-1d/q', 'from'], ['metrics=', 'metrics'], ['metrics=a,,b', 'metrics'], ['agg=mean', 'agg'], ['agg=', 'agg'], ['agg=p101', 'agg'],
  ['agg=p9.1234', 'agg'], ['agg=avg,lttb', 'agg'], [`agg=${Array.from({ length: 17 }, (_, i) => `p${i}`).join(',')}`, 'agg'], ['step=0s', 'step'], ['step=5', 'step'], ['step=1h30', 'step'], ['step=P1DT1H', 'step'], ['step=P1M1D', 'step'], ['step=-1h', 'step'],
  ['step=200y', 'step'], ['step=1s', 'step'], ['step=1h&maxPoints=5', 'maxPoints'], ['maxPoints=0', 'maxPoints'], ['maxPoints=5001', 'maxPoints'], ['maxPoints=x', 'maxPoints'], ['fill=zero', 'fill'], ['fill=1e5', 'fill'], ['fill=linear&limit=5', 'fill'],
  ['fill=previous&limit=5', 'fill'], ['tz=Mars/Olympus', 'tz'], ['tz=%2B02:00', 'tz'], ['tz=', 'tz'], ['times=unix', 'times'], ['tier=2h', 'tier'], ['limit=0', 'limit'], ['limit=11001', 'limit'], ['cursor=abc', 'cursor'], ['cursor=abc&limit=5', 'cursor'],
  ['agg=lttb&step=1h', 'step'], ['agg=minmax&fill=null', 'fill'], ['agg=lttb&limit=5', 'limit'], ['bucket=1h', 'bucket'], ['step=1h&step=2h', 'step']
]

void t.test('parameters that do not fit are refused by name and reach no worker', async t => {
  const b = await bench(t)
  for (const [query, field] of refused) {
    const answer = await b.call('GET', `devices/pump-1/aggregates?${query}`, { key: b.keys.viewer })
    t.match(answer.json, { status: 400, code: 'invalid_field', field }, query)
  }
  t.equal(b.queries.length, 0)
})

void t.test('too many windows are refused with the smallest step that is allowed', async t => {
  const b = await bench(t)
  const answer = await b.call('GET', 'devices/pump-1/aggregates?from=2025-01-01&to=2026-01-01&step=10s', { key: b.keys.viewer })
  t.match(answer.json, { status: 400, field: 'step', detail: /smallest allowed is 1h/ })
})

void t.test('pages follow one another, and neither range nor time moves between them', async t => {
  const b = await bench(t)
  const url = 'devices/pump-1/aggregates?from=now-6h&step=1h&limit=2&agg=twa'
  b.queryResult = { ...empty, lastTs: b.clock.us - 4 * hour, more: true }
  const first = await b.call('GET', url, { key: b.keys.viewer })
  b.clock.us += hour
  b.queryResult = { ...empty, lastTs: b.clock.us, more: false }
  const second = await b.call('GET', `${url}&cursor=${first.json.next}`, { key: b.keys.viewer })
  t.equal(second.json.next, null)
  const [a, c] = b.queries as AggregateQuery[]
  t.same([c.fromTs, c.toTs, c.nowTs], [b.clock.us - 5 * hour, a.toTs, a.nowTs])
  const other = await b.call('GET', `${url.replace('twa', 'avg')}&cursor=${first.json.next}`, { key: b.keys.viewer })
  t.match(other.json, { status: 400, field: 'cursor' }, 'of another question')
})

void t.test('several devices are answered side by side, each metric with its own aggregates', async t => {
  const b = await bench(t)
  b.queryResult = empty
  const body = { devices: ['pump-1', 'pump-2'], metrics: ['a,b', { metric: 't', agg: ['p95', 'max'] }], agg: ['last'], step: '1d', tz: 'Europe/Berlin', from: b.clock.us / 1000 - 86_400_000, fill: 0 }
  const answer = await b.call('POST', 'series/query', { key: b.keys.viewer, body })
  t.equal(answer.status, 200)
  t.same(answer.json.results.map(({ device }: { device: string }) => device), ['pump-1', 'pump-2'])
  t.match(b.queries[1], { device: 'pump-2', wanted: [{ metric: 'a,b', aggs: ['last'] }, { metric: 't', aggs: ['p95', 'max'] }], fill: 0, zone: 'Europe/Berlin' })
  t.equal((await b.call('GET', 'series/query?devices=pump-1,pump-2&agg=max&step=1h', { key: b.keys.viewer })).json.results.length, 2)
  for (const [bad, field] of [
    [{ ...body, devices: [] }, 'devices'], [{ step: '1h' }, 'devices'], [{ ...body, metrics: [] }, 'metrics'], [{ ...body, metrics: [{ metric: 't' }, 't'] }, 'metrics[1]'], [{ ...body, metrics: [{ metric: 't', agg: ['nope'] }] }, 'metrics[0].agg'],
    [{ ...body, metrics: [{ agg: ['avg'] }] }, 'metrics[0].metric'], [{ ...body, agg: 'avg' }, 'agg'], [{ ...body, from: true }, 'from'], [{ ...body, limit: 5 }, 'limit'], [{ ...body, devices: Array.from({ length: 101 }, (_, i) => `d${i}`) }, 'devices']
  ] as const) t.match((await b.call('POST', 'series/query', { key: b.keys.viewer, body: bad })).json, { status: 400, field }, JSON.stringify(bad).slice(0, 100))
})

void t.test('nobody sees a device of others, one by one or among several', async t => {
  const b = await bench(t)
  b.queryResult = empty
  for (const [key, device] of [[b.keys.foreignOperator, 'pump-1'], [b.keys.device, 'pump-2'], [b.keys.gateway, 'pump-1'], [b.keys.viewer, 'bolt-1']] as const) {
    t.equal((await b.call('GET', `devices/${device}/aggregates`, { key })).status, 404)
    t.equal((await b.call('POST', 'series/query', { key, body: { devices: [device] } })).status, 404)
  }
  t.equal((await b.call('GET', 'devices/child-1/aggregates', { key: b.keys.gateway })).status, 200)
  t.equal(b.queries.length, 1)
  t.equal((await b.call('GET', 'devices/pump-1/aggregates')).status, 401)
})
