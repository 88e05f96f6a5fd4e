/** Analytics of the embedded profile in a real server: it begins with the first question, and survives its engine and its server. */
import t from 'tap'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import { startApp, type App } from '../../src/app.js'
import { readConfig } from '../../src/config.js'

t.setTimeout(180_000)

const adminKey = `twa_${'A'.repeat(43)}`

async function start (directory: string): Promise<App> {
  return await startApp(readConfig({ TWINFOLD_DATA: directory, TWINFOLD_MQTT_PORT: '0', TWINFOLD_HTTP_PORT: '0', TWINFOLD_ADMIN_KEY: adminKey, TWINFOLD_MERGE_AFTER_MS: '500' }), { clock: systemClock, log: silentLog })
}

async function call (app: App, method: string, path: string, body?: object): Promise<Record<string, unknown>> {
  const response = await fetch(`${app.httpUrl}/api/v1${path}`, {
    method, headers: { authorization: `Bearer ${adminKey}`, 'x-tenant': 'acme', ...(body === undefined ? {} : { 'content-type': 'application/json' }) }, ...(body === undefined ? {} : { body: JSON.stringify(body) })
  })
  return await response.json() as Record<string, unknown>
}

async function pointsUntil (app: App, wanted: number): Promise<unknown> {
  let points: unknown
  for (let i = 0; i < 300; i++) {
    ({ points } = await call(app, 'GET', '/analytics/points?from=2020-01-01T00:00:00Z'))
    if (points === wanted) break
    await new Promise(resolve => { setTimeout(resolve, 100) })
  }
  return points
}

void t.test('analytics begins with the first question, catches up, follows, and has late, repeated and deleted points right after every crash', async t => {
  const directory = mkdtempSync(join(tmpdir(), 'twinfold-embedded-'))
  let app = await start(directory)
  t.teardown(async () => {
    await app.close()
    rmSync(directory, { recursive: true, force: true })
  })
  await fetch(`${app.httpUrl}/api/v1/tenants`, { method: 'POST', headers: { authorization: `Bearer ${adminKey}`, 'content-type': 'application/json' }, body: JSON.stringify({ id: 'acme', name: 'Acme' }) })
  for (const id of ['a', 'b']) await call(app, 'POST', '/devices', { id })
  const start0 = Date.now() - 3 * 86_400_000
  const send = async (id: string, from: number, count: number): Promise<void> => {
    await call(app, 'POST', `/devices/${id}/telemetry`, Array.from({ length: count }, (_, i) => ({ ts: start0 + (from + i) * 1000, values: { m: i, on: i % 2 === 0 } })))
  }
  await send('a', 0, 500)
  t.match(await call(app, 'GET', '/analytics/status'), { state: 'idle' })
  t.equal(await pointsUntil(app, 1000), 1000, 'what was there before comes by a rebuild')
  await send('a', 400, 200)
  await send('b', 0, 3)
  t.equal(await pointsUntil(app, 1206), 1206, 'then it follows; a point that was sent again is one')
  await app.close()
  app = await start(directory)
  await send('a', 10_000, 100)
  t.equal(await pointsUntil(app, 1406), 1406, 'after a restart it follows without being asked')
  await app.close()
  rmSync(join(directory, 'analytics'), { recursive: true, force: true })
  app = await start(directory)
  t.equal(await pointsUntil(app, 1406), 1406, 'an engine that lost its data is rebuilt')
  await call(app, 'DELETE', '/devices/a')
  t.equal(await pointsUntil(app, 6), 6, 'a deleted device is gone')
})
