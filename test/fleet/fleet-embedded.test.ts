/** Fleet queries and SQL in a real server of the embedded profile: the first question turns analytics on, and what is sealed comes from hours. */
import t, { type Test } from 'tap'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import { startApp } from '../../src/app.js'
import { readConfig } from '../../src/config.js'

t.setTimeout(240_000)

const adminKey = `twa_${'A'.repeat(43)}`
interface Answer { readonly status: number, readonly json: Record<string, unknown> }
type Call = (method: string, path: string, body?: unknown) => Promise<Answer>

async function start (t: Test, more: Record<string, string> = {}): Promise<Call> {
  const directory = mkdtempSync(join(tmpdir(), 'twinfold-fleet-'))
  const app = await startApp(readConfig({
    TWINFOLD_DATA: directory, TWINFOLD_MQTT_PORT: '0', TWINFOLD_HTTP_PORT: '0', TWINFOLD_ADMIN_KEY: adminKey, TWINFOLD_MERGE_AFTER_MS: '500', TWINFOLD_SEAL_AFTER_MS: '20000', ...more
  }), { clock: systemClock, log: silentLog })
  t.teardown(async () => {
    await app.close()
    rmSync(directory, { recursive: true, force: true })
  })
  const call: Call = async (method, path, body) => {
    const response = await fetch(`${app.httpUrl}/api/v1${path}`, {
      method, headers: { authorization: `Bearer ${adminKey}`, 'x-tenant': 'acme', ...(body === undefined ? {} : { 'content-type': 'application/json' }) }, ...(body === undefined ? {} : { body: JSON.stringify(body) })
    })
    return { status: response.status, json: await response.json() as Record<string, unknown> }
  }
  await call('POST', '/tenants', { id: 'acme', name: 'Acme' })
  for (const id of ['a', 'b']) await call('POST', '/devices', { id, tags: { site: id } })
  return call
}

/** Asks until the answer is as wanted, for a while. */
async function until (ask: () => Promise<Answer>, wanted: (answer: Answer) => boolean): Promise<Answer> {
  let answer = await ask()
  for (let i = 0; i < 900 && !wanted(answer); i++) {
    await new Promise(resolve => { setTimeout(resolve, 100) })
    answer = await ask()
  }
  return answer
}

void t.test('the first fleet question turns analytics on; sealed hours and points answer together, and a late point is in at once', async t => {
  const call = await start(t)
  const day = Math.floor(Date.now() / 86_400_000 - 2) * 86_400_000
  const send = async (id: string, ts: readonly number[]): Promise<void> => { await call('POST', `/devices/${id}/telemetry`, ts.map(ts => ({ ts, values: { m: 2 } }))) }
  for (const id of ['a', 'b']) await send(id, Array.from({ length: 600 }, (_, i) => day + i * 120_000))
  t.match((await call('GET', '/analytics/status')).json, { state: 'idle' })
  const ask = async (): Promise<Answer> => await call('POST', '/fleet/query', { from: day, to: day + 86_400_000, metrics: 'm', agg: ['count', 'avg', 'last'], groupBy: ['tag:site'] })
  const counts = ({ json }: Answer): unknown[] => (json.rows as { values: { count: number } }[] | undefined)?.map(({ values }) => values.count) ?? []
  t.match(await ask(), { status: 200 }, 'the first question is answered')
  t.strictSame(counts(await until(ask, answer => counts(answer).join() === '600,600')), [600, 600])
  t.match(await until(ask, ({ json }) => json.tier === '1h'), { json: { tier: '1h', rows: [{ group: { 'tag:site': 'a' }, values: { count: 600, avg: 2, last: 2 } }, {}] } }, 'sealed')
  await send('a', [day + 60_000])
  t.strictSame(counts(await until(ask, answer => counts(answer)[0] === 601)), [601, 600], 'late')
  t.match(await call('POST', '/sql', { query: 'SELECT count() AS points FROM points' }), { status: 200, json: { rows: [{ points: 1201 }] } })
  t.match((await call('GET', '/analytics/status')).json, { state: 'up' })
})

void t.test('SQL may be the first question, too', async t => {
  const call = await start(t)
  await call('POST', '/devices/a/telemetry', [{ ts: Date.now() - 3_600_000, values: { m: 1 } }])
  t.match(await call('POST', '/sql', { query: 'SELECT 1 AS one' }), { status: 200, json: { rows: [{ one: 1 }] } })
  t.notMatch((await call('GET', '/analytics/status')).json, { state: 'idle' })
})

void t.test('where analytics is off, both say so', async t => {
  const call = await start(t, { TWINFOLD_ANALYTICS: 'off' })
  for (const [path, body] of [['/fleet/query', { metrics: 'm' }], ['/sql', { query: 'SELECT 1' }]] as const) {
    t.match(await call('POST', path, body), { status: 404, json: { code: 'not_found', detail: /analytics, which is off on this server/ } })
  }
})
