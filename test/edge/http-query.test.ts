import t from 'tap'
import { TwinfoldError } from '../../src/core/errors.js'
import { isoTime, parseQueryTime } from '../../src/edge/http/query-time.js'
import type { RangeQuery } from '../../workers/protocol.js'
import { bench } from './http-support.js'

const day = 86_400e6

void t.test('times: ISO 8601, milliseconds and relative ones mean what they say', async t => {
  const now = Date.UTC(2026, 0, 31, 12) * 1000
  const rows: readonly [string, number | null][] = [
    ['2026-01-31T12:00:00Z', now],
    ['2026-01-31T12:00:00', now],
    ['2026-01-31T12:00', now],
    ['2026-01-31', now - day / 2],
    ['2026-01-31T13:30:00+01:30', now],
    ['2026-01-31T13:30:00 01:30', now],
    ['2026-01-31T10:30:00-0130', now],
    ['2026-01-31T12:00:00.123456Z', now + 123_456],
    ['2026-01-31T12:00:00.1Z', now + 100_000],
    ['2026-01-31T12:00:00.123456789Z', now + 123_456],
    ['2024-02-29', Date.UTC(2024, 1, 29) * 1000],
    [String(now / 1000), now],
    ['1700000000000.5', 1_700_000_000_000_500],
    ['0', 0],
    ['now', now],
    ['now-6h', now - 6 * 3600e6],
    ['now+10m', now + 600e6],
    ['now-2w', now - 14 * day],
    ['now-999999999w', 0],
    ['now+999999999w', null],
    ['2026-02-30', null],
    ['2025-02-29', null],
    ['2026-13-01', null],
    ['2026-01-31T25:00:00Z', null],
    ['2026-01-31T12:60:00Z', null],
    ['1969-12-31', null],
    ['9999-12-31', null],
    ['yesterday', null],
    ['', null],
    ['-1', null],
    ['NaN', null],
    ['1e12', null],
    ['now-6', null],
    ['now - 6h', null],
    ['2026-01-31T12:00:00Zjunk', null]
  ]
  for (const [text, expected] of rows) {
    if (expected === null) t.throws(() => parseQueryTime(text, now, 'from'), { code: 'invalid_field', field: 'from' }, text)
    else t.equal(parseQueryTime(text, now, 'from'), expected, text)
  }
  t.equal(isoTime(now), '2026-01-31T12:00:00.000Z')
  t.equal(isoTime(now + 1), '2026-01-31T12:00:00.000001Z')
  for (let us = now; us < now + 5000; us += 7) t.equal(parseQueryTime(isoTime(us), 0, 'to'), us)
})

void t.test('a range query without parameters is the last 24 hours, newest first', async t => {
  const b = await bench(t)
  b.queryResult = { body: new TextEncoder().encode('[{"ts":"2026-01-01T00:00:00.000Z","values":{"a":1}}]'), readings: 1, lastTs: 1, more: false }
  const answer = await b.call('GET', 'devices/pump-1/telemetry', { key: b.keys.viewer })
  t.equal(answer.status, 200)
  t.match(answer.json, { device: 'pump-1', order: 'desc', readings: [{ values: { a: 1 } }], next: null })
  const task = b.queries[0] as RangeQuery
  t.match(task, { kind: 'range', tenant: 'acme', device: 'pump-1', metrics: null, order: 'desc', limit: 1000, times: 'iso', retentionDays: [365] })
  t.equal(task.toTs - task.fromTs, day)
  t.equal(task.oldestTs, b.clock.us - 365 * day)
})

void t.test('pages follow one another without gap or overlap, and a relative range does not move between them', async t => {
  const b = await bench(t)
  for (const order of ['asc', 'desc'] as const) {
    b.queries.length = 0
    const url = `devices/pump-1/telemetry?from=now-6h&order=${order}&limit=10&metrics=b,a,b`
    b.queryResult = { body: new TextEncoder().encode('[]'), readings: 10, lastTs: b.clock.us - 3600e6, more: true }
    const first = await b.call('GET', url, { key: b.keys.device })
    t.type(first.json.next, 'string')
    b.clock.us += 5000e6
    b.queryResult = { ...b.queryResult, more: false }
    const second = await b.call('GET', `${url}&cursor=${first.json.next}`, { key: b.keys.device })
    t.equal(second.json.next, null)
    t.equal(second.json.from, first.json.from)
    t.equal(second.json.to, first.json.to)
    const [a, c] = b.queries as RangeQuery[]
    t.same(a.metrics, ['a', 'b'])
    const lastTs = b.clock.us - 8600e6
    if (order === 'asc') t.same([c.fromTs, c.toTs], [lastTs + 1, a.toTs])
    else t.same([c.fromTs, c.toTs], [a.fromTs, lastTs])
    for (const other of ['order=asc&from=now-5h', `order=${order}&from=now-6h&metrics=a`, `order=${order === 'asc' ? 'desc' : 'asc'}&from=now-6h&metrics=a,b`]) {
      t.match((await b.call('GET', `devices/pump-1/telemetry?${other}&cursor=${first.json.next}`, { key: b.keys.operator })).json, { status: 400, field: 'cursor' }, other)
    }
    t.equal((await b.call('GET', `${url.replace('pump-1', 'pump-2')}&cursor=${first.json.next}`, { key: b.keys.operator })).status, 400, 'of another device')
  }
})

void t.test('forged cursors are refused or stay inside the query', async t => {
  const b = await bench(t)
  b.queryResult = { body: new TextEncoder().encode('[]'), readings: 1, lastTs: b.clock.us - 5, more: true }
  const { next } = (await b.call('GET', 'devices/pump-1/telemetry', { key: b.keys.viewer })).json
  const [version, hash] = Buffer.from(next as string, 'base64url').toString().split('.')
  for (const rest of ['', '1', '1.2', '1.2.NaN', '5.4.3', '1.2.9', '-1.5.3', '1.Infinity.2', '1e3.9e99.5', '1.2.3.4.5', '0x1.5.3x']) {
    const forged = Buffer.from(`${version}.${hash}.${rest}`).toString('base64url')
    const answer = await b.call('GET', `devices/pump-1/telemetry?cursor=${forged}`, { key: b.keys.viewer })
    t.ok(answer.status === 400 || answer.status === 200, `${rest}: ${answer.status}`)
    if (answer.status === 400) t.equal(answer.json.field, 'cursor')
    else t.match(b.queries.at(-1), { tenant: 'acme', device: 'pump-1' })
  }
})

void t.test('parameters that do not fit are refused by name and reach no worker', async t => {
  const b = await bench(t)
  for (const [query, field] of [
    ['from=tomorrow', 'from'], ['to=2026-02-30', 'to'], ['from=now&to=now-1h', 'from'], ['from=now-1h&to=now-1h', 'from'], ['order=up', 'order'], ['limit=0', 'limit'],
    ['limit=10001', 'limit'], ['limit=1.5', 'limit'], ['times=unix', 'times'], ['metrics=', 'metrics'], ['metrics=a,,b', 'metrics'], [`metrics=${'x'.repeat(129)}`, 'metrics'],
    [`metrics=${Array.from({ length: 257 }, (_, i) => `m${i}`).join(',')}`, 'metrics'], ['agg=mean', 'agg'], ['from=1&from=2', 'from']
  ]) {
    const answer = await b.call('GET', `devices/pump-1/telemetry?${query}`, { key: b.keys.viewer })
    t.match(answer.json, { status: 400, code: 'invalid_field', field }, query)
  }
  t.equal(b.queries.length, 0)
})

void t.test('metrics with commas are named one by one; the tenant\'s retention bounds the answer', async t => {
  const b = await bench(t)
  b.store.tenants.set('acme', { id: 'acme', name: '', createdAt: 0, disabled: false, retention: [{ sinceStamp: 0, days: 365 }, { sinceStamp: 5, days: 7 }, { sinceStamp: 6, days: 365 }, { sinceStamp: 9, days: 30 }] })
  await b.call('GET', 'devices/pump-1/telemetry/latest?metrics=a,b&metrics=c&times=ms', { key: b.keys.viewer })
  t.match(b.queries[0], { kind: 'latest', metrics: ['a,b', 'c'], times: 'ms', oldestTs: b.clock.us - 30 * day })
  t.same(b.queries[0].retentionDays, [365, 7, 30])
})

void t.test('a full queue is 429, a slow store 503, both with Retry-After', async t => {
  const b = await bench(t)
  for (const [code, status] of [['throttled', 429], ['store_unavailable', 503]] as const) {
    b.queryResult = new TwinfoldError(code, 'busy', { retryAfterMs: 2500 })
    for (const url of ['devices/pump-1/telemetry', 'devices/pump-1/telemetry/latest']) {
      const answer = await b.call('GET', url, { key: b.keys.viewer })
      t.equal(answer.status, status)
      t.equal(answer.headers['retry-after'], '3')
      t.match(answer.json, { code, retryable: true })
    }
  }
})
