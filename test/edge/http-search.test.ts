/** Fleet search and bulk changes in a real server of the embedded profile: the first search turns analytics on and fills it. */
import t, { type Test } from 'tap'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import { startApp, type App } from '../../src/app.js'
import { readConfig } from '../../src/config.js'

t.setTimeout(240_000)

const adminKey = `twa_${'A'.repeat(43)}`
interface Answer { readonly status: number, readonly json: Record<string, unknown> }
type Call = (method: string, path: string, body?: unknown, more?: { readonly tenant?: string, readonly type?: string, readonly key?: string }) => Promise<Answer>
interface Server { readonly call: Call, restart (): Promise<void> }

async function start (t: Test, more: Record<string, string> = {}): Promise<Server> {
  const directory = mkdtempSync(join(tmpdir(), 'twinfold-search-'))
  const config = readConfig({ TWINFOLD_DATA: directory, TWINFOLD_MQTT_PORT: '0', TWINFOLD_HTTP_PORT: '0', TWINFOLD_ADMIN_KEY: adminKey, ...more })
  let app: App = await startApp(config, { clock: systemClock, log: silentLog })
  t.teardown(async () => {
    await app.close()
    rmSync(directory, { recursive: true, force: true })
  })
  const call: Call = async (method, path, body, { tenant = 'acme', type = 'application/json', key = adminKey } = {}) => {
    const response = await fetch(`${app.httpUrl}/api/v1${path}`, {
      method, headers: { authorization: `Bearer ${key}`, 'x-tenant': tenant, ...(body === undefined ? {} : { 'content-type': type }) }, ...(body === undefined ? {} : { body: JSON.stringify(body) })
    })
    const text = await response.text()
    return { status: response.status, json: text === '' ? {} : JSON.parse(text) as Record<string, unknown> }
  }
  for (const tenant of ['acme', 'bolt']) await call('POST', '/tenants', { id: tenant, name: tenant })
  return {
    call,
    restart: async () => {
      await app.close()
      app = await startApp(config, { clock: systemClock, log: silentLog })
    }
  }
}

/** Asks until the answer is as wanted, for a while. */
async function until (ask: () => Promise<Answer>, wanted: (answer: Answer) => boolean): Promise<Answer> {
  let answer = await ask()
  for (let i = 0; i < 300 && !wanted(answer); i++) {
    await new Promise(resolve => { setTimeout(resolve, 50) })
    answer = await ask()
  }
  return answer
}

const query = (parameters: Record<string, string | number | boolean>): string => `/devices?${new URLSearchParams(Object.entries(parameters).map(([name, value]): [string, string] => [name, String(value)])).toString()}`
const idsOf = ({ json }: Answer): unknown[] => (json.devices as { id: string }[] | undefined)?.map(({ id }) => id) ?? []
const isDone = ({ json }: Answer): boolean => ['done', 'failed', 'cancelled'].includes(json.state as string)

void t.test('devices are found by all that is known of them, soon after it changed, and by nobody else', async t => {
  const { call, restart } = await start(t)
  for (const [i, id] of ['a', 'b', 'c', 'd'].entries()) {
    await call('POST', '/devices', { id, type: i % 2 === 0 ? 'pump' : 'valve', name: `Device ${id}`, tags: { site: i < 2 ? 'berlin' : 'rome' } })
    await call('POST', `/devices/${id}/telemetry`, { ts: Date.now() - 1000, values: { temperature: 70 + i * 10 } })
  }
  await call('POST', '/devices', { id: 'a', type: 'pump', tags: { site: 'berlin' } }, { tenant: 'bolt' })
  await call('PATCH', '/devices/a/twin', { desired: { interval: 10 } }, { type: 'application/merge-patch+json' })
  t.match((await call('GET', '/analytics/status')).json, { state: 'idle' })
  t.strictSame(idsOf(await call('GET', '/devices')), ['a', 'b', 'c', 'd'], 'a listing needs no analytics')
  for (const [parameters, field] of [[{ filter: 'tags.site eq' }, 'filter'], [{ filter: "id eq ''; DROP TABLE twins" }, 'filter'], [{ sort: 'site' }, 'sort'], [{ sort: 'id,id,id,id' }, 'sort'], [{ fields: 'nothing' }, 'fields'], [{ fresh: true }, 'fresh'], [{ device: 'no id' }, 'device'], [{ filter: 'id exists', gatewayId: 'g' }, 'gatewayId'], [{ fields: 'reported', limit: 1000 }, 'limit'], [{ filter: 'x'.repeat(2001) }, 'filter'], [{ count: 'maybe' }, 'count'], [{ filter: Array.from({ length: 6 }, (_, i) => `latest.m${i} exists`).join(' and ') }, 'filter']] as const) {
    t.match(await call('GET', query(parameters as Record<string, string>)), { status: 400, json: { code: 'invalid_field', field } }, JSON.stringify(parameters).slice(0, 80))
  }
  t.match((await call('GET', '/analytics/status')).json, { state: 'idle' }, 'nor does what is refused')
  const berlin = query({ filter: 'tags.site eq "berlin"', count: true })
  const first = await call('GET', berlin)
  t.match(first, { status: 200, json: { devices: [{ id: 'a', type: 'pump', name: 'Device a', tags: { site: 'berlin' }, connection: null }, { id: 'b' }], count: 2, next: null, lag: { seconds: Number }, asOf: String } }, 'the first search fills it')
  t.strictSame(idsOf(await until(async () => await call('GET', query({ filter: 'latest.temperature ge 90 and not type eq "valve"' })), answer => idsOf(answer).length > 0)), ['c'])
  t.strictSame(idsOf(await call('GET', query({ sort: '-latest.temperature', limit: 2 }))), ['d', 'c'])
  t.match((await call('GET', query({ filter: 'desired.interval eq 10', fields: 'desired.interval,latest.temperature,tags.site' }))).json.devices, [{ id: 'a', desired: { interval: 10 }, latest: { temperature: { value: 70, ts: String } }, tags: { site: 'berlin' } }])
  const page = await call('GET', query({ sort: 'type,-id', limit: 3 }))
  t.strictSame(idsOf(page), ['c', 'a', 'd'])
  t.strictSame(idsOf(await call('GET', query({ sort: 'type,-id', limit: 3, cursor: page.json.next as string }))), ['b'])
  t.match(await call('GET', query({ sort: 'type', limit: 3, cursor: page.json.next as string })), { status: 400, json: { code: 'invalid_field', field: 'cursor' } })

  await call('PATCH', '/devices/c', { tags: { site: 'berlin' }, name: 'Renamed' })
  t.strictSame(idsOf(await call('GET', query({ filter: 'tags.site eq "berlin"', device: 'c', fresh: true }))), ['c'], 'fresh: what was just accepted is seen')
  t.strictSame(idsOf(await until(async () => await call('GET', query({ filter: 'tags.site eq "berlin" and name eq "Renamed"' })), answer => idsOf(answer).length === 1)), ['c'])
  await call('DELETE', '/devices/b')
  t.strictSame(idsOf(await until(async () => await call('GET', berlin), answer => answer.json.count === 2)), ['a', 'c'])
  t.strictSame(idsOf(await call('GET', query({ device: 'b', fresh: true }))), [])
  await call('POST', '/devices', { id: 'b' })
  t.strictSame(idsOf(await until(async () => await call('GET', query({ filter: 'not tags.site exists' })), answer => idsOf(answer).length === 1)), ['b'], 'made again, with nothing of the one before')
  t.strictSame(idsOf(await call('GET', query({ filter: 'id eq "b" and latest.temperature exists' }))), [])

  await call('PATCH', '/devices/d/twin', { desired: { while: 'closing' } }, { type: 'application/merge-patch+json' })
  await restart()
  t.strictSame(idsOf(await until(async () => await call('GET', query({ filter: 'desired.while eq "closing"' })), answer => idsOf(answer).length === 1)), ['d'], 'after a restart it goes on where it was')
  t.strictSame(idsOf(await call('GET', query({ filter: 'id exists' }), undefined, { tenant: 'bolt' })), ['a'])
})

void t.test('many twins are changed by one job, by filter or by name; it counts every device and can be looked at before', async t => {
  const { call } = await start(t)
  await Promise.all(Array.from({ length: 30 }, async (_, i) => await call('POST', '/devices', { id: `d-${String(i).padStart(2, '0')}`, tags: { site: i < 20 ? 'berlin' : 'rome', ...(i < 5 ? { hold: 'yes' } : {}) } })))
  const asked = { filter: 'tags.site eq "berlin"', patch: { desired: { firmware: '2.0' }, tags: { wave: '1' } }, condition: 'not tags.hold exists', reason: 'roll-out' }
  t.match(await call('POST', '/twins/jobs?dryRun=true', asked), { status: 200, json: { count: 20, sample: ['d-00'] } })
  const made = await call('POST', '/twins/jobs', asked)
  t.match(made, { status: 202, json: { kind: 'twins', state: 'queued' } })
  const done = await until(async () => await call('GET', `/jobs/${made.json.id as string}`), isDone)
  t.match(done.json, { state: 'done', progress: 1, twins: { total: 20, done: 20, changed: 15, unchanged: 0, conditionNotMet: 5, refused: 0, reason: 'roll-out' } })
  t.match((await call('GET', '/devices/d-07/twin')).json, { desired: { firmware: '2.0' }, tags: { site: 'berlin', wave: '1' } })
  t.equal((await until(async () => await call('GET', query({ filter: 'tags.wave eq "1" and desired.firmware eq "2.0"', count: true })), answer => answer.json.count === 15)).json.count, 15)
  const named = await call('POST', '/twins/jobs', { devices: ['d-00', 'd-00', 'nobody'], patch: { tags: { wave: '2' } } })
  t.match((await until(async () => await call('GET', `/jobs/${named.json.id as string}`), isDone)).json, { state: 'done', twins: { total: 2, changed: 1, missing: 1, errors: [{ device: 'nobody', code: 'not_found' }] } })
  for (const [body, field] of [[{ patch: { tags: {} } }, 'filter'], [{ filter: 'id exists', devices: ['a'], patch: { tags: {} } }, 'filter'], [{ filter: 'id exists', patch: {} }, 'patch'], [{ filter: 'id exist', patch: { tags: {} } }, 'filter'], [{ devices: ['a'], patch: { tags: {} }, condition: 'latest.m gt 1' }, 'condition'], [{ devices: [], patch: { tags: {} } }, 'devices']] as const) {
    t.match(await call('POST', '/twins/jobs', body), { status: 400, json: { code: 'invalid_field', field } }, JSON.stringify(body))
  }
})

void t.test('where analytics is off, a listing and one device on its record are answered still', async t => {
  const { call } = await start(t, { TWINFOLD_ANALYTICS: 'off' })
  await call('POST', '/devices', { id: 'a' })
  t.strictSame(idsOf(await call('GET', '/devices')), ['a'])
  t.match(await call('GET', query({ filter: 'id exists' })), { status: 404, json: { code: 'not_found', detail: /analytics, which is off/ } })
  t.match(await call('POST', '/twins/jobs', { filter: 'id exists', patch: { tags: {} } }), { status: 404 })
  const named = await call('POST', '/twins/jobs', { devices: ['a'], patch: { tags: { x: 'y' } } })
  t.match((await until(async () => await call('GET', `/jobs/${named.json.id as string}`), isDone)).json, { state: 'done', twins: { changed: 1 } })
})
