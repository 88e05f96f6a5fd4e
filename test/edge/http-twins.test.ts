import t from 'tap'
import type { Test } from 'tap'
import { KeyedLock } from '../../src/core/keyed-lock.js'
import type { DeviceInlet, MessageOutcome } from '../../src/inlet/device-message.js'
import { embeddedStore, message, newDevice, service } from '../twin/twin-world.js'
import { deviceOf } from '../store/store-fixtures.js'
import { bench, type Bench } from './http-support.js'

/** `inlet.applied` false: reports are durable and wait. */
type Held = Bench & { readonly inlet: { applied: boolean } }

/** The edge's own bench with real twins on an embedded store; its devices are registered in both. */
async function twinBench (t: Test): Promise<Held> {
  const store = await embeddedStore(t)
  await newDevice(store)
  for (const [tenant, id] of [['acme', 'pump-1'], ['acme', 'pump-2'], ['acme', 'gate-1'], ['acme', 'child-1'], ['bolt', 'bolt-1']]) await store.createDevice(deviceOf(tenant, id))
  const twins = service(t, store, { deviceLock: new KeyedLock() })
  const self = { applied: true }
  const inlet: DeviceInlet = {
    submit: async ({ tenant, device, path, payload }): Promise<MessageOutcome | null> => {
      const name = /^twin\/(?:(.*)\/)?reported$/.exec(path)?.[1] ?? ''
      return self.applied ? (await twins.apply([message({ tenant, device, name }, payload)]))[0] : null
    }
  }
  return Object.assign(await bench(t, { twins, inlet }), { inlet: self })
}

t.test('a twin is read, changed and compared by its version', async t => {
  const b = await twinBench(t)
  const { operator, viewer } = b.keys
  const empty = await b.call('GET', 'devices/pump-1/twin', { key: viewer })
  t.match(empty.json, { deviceId: 'pump-1', version: 0, desired: {}, reported: {}, delta: {}, createdAt: null, names: [] })
  t.equal(empty.headers.etag, '"0"')
  const changed = await b.call('PATCH', 'devices/pump-1/twin', { key: operator, body: { desired: { interval: 5, led: { on: true } }, tags: { site: 'berlin' }, reason: 'ticket 1' } })
  t.match(changed.json, { version: 1, desired: { interval: 5 }, delta: { led: { on: true } }, tags: { site: 'berlin' } })
  t.match(changed.json.metadata.desired['led.on'].at, /^\d{4}-\d\d-\d\dT.*Z$/)
  t.equal(changed.headers.etag, '"1"')
  t.equal((await b.call('GET', 'devices/pump-1/twin', { key: viewer, headers: { 'if-none-match': 'W/"0", "1"' } })).status, 304)
  t.equal((await b.call('GET', 'devices/pump-1/twin', { key: viewer, headers: { 'if-none-match': '"0"' } })).status, 200)
  const merge = await b.call('PATCH', 'devices/pump-1/twin', { key: operator, body: '{"desired":{"led":null}}', headers: { 'content-type': 'application/merge-patch+json' } })
  t.match(merge.json, { version: 2, desired: { interval: 5, led: undefined } })
  const replaced = await b.call('PUT', 'devices/pump-1/twin?times=ms', { key: operator, body: { desired: { only: 1 } } })
  t.same(replaced.json.desired, { only: 1 })
  t.type(replaced.json.updatedAt, 'number')
  t.match(replaced.json, { tags: { site: 'berlin' } }, 'a part that is not given stays')
  t.match((await b.call('GET', 'devices/pump-1/twin?version=1', { key: viewer })).json, { version: 1, desired: { led: { on: true } } })
  t.match((await b.call('GET', `devices/pump-1/twin?at=${String(replaced.json.updatedAt)}`, { key: viewer })).json, { version: 3 })
  t.equal((await b.call('GET', 'devices/pump-1/twin?at=2020-01-01', { key: viewer })).status, 404)
  t.match((await b.call('GET', 'devices/pump-1/twin?at=now&version=1', { key: viewer })).json, { code: 'invalid_field', field: 'version' })
  const { changes, next } = (await b.call('GET', 'devices/pump-1/twin/changes?limit=2', { key: viewer })).json as { changes: { version: number }[], next: number }
  t.same([changes.map(change => change.version), next], [[3, 2], 2])
  t.match((await b.call('GET', `devices/pump-1/twin/changes?before=${next}`, { key: viewer })).json, { changes: [{ version: 1, kind: 'created', reason: 'ticket 1', actor: { kind: 'operator', via: 'http' }, patch: { tags: { site: 'berlin' } } }], next: null })
  t.match((await b.call('GET', 'devices/pump-1/twin/diff?from=1&to=2', { key: viewer })).json, { desired: { led: null }, reported: {}, tags: {} })
  t.equal((await b.call('GET', 'devices/pump-1/twin/diff?from=1&to=9', { key: viewer })).status, 404)
})

t.test('a change is made only on the conditions of the request', async t => {
  const b = await twinBench(t)
  const { operator } = b.keys
  const patch = async (desired: object, headers: Record<string, string> = {}, query = ''): Promise<Awaited<ReturnType<Bench['call']>>> => await b.call('PATCH', `devices/pump-1/twin${query}`, { key: operator, body: { desired }, headers })
  t.equal((await patch({ a: 1 }, { 'if-none-match': '*' })).status, 200)
  const stale = await patch({ a: 2 }, { 'if-match': '"0"' })
  t.match(stale.json, { status: 412, code: 'precondition_failed', detail: /version 1/ })
  t.equal(stale.headers.etag, '"1"')
  t.equal((await patch({ a: 2 }, { 'if-none-match': '*' })).status, 412)
  t.equal((await patch({ a: 2 }, { 'if-match': '"1"' })).status, 200)
  t.equal((await patch({ a: 3 }, { 'if-match': '*' })).status, 200)
  t.equal((await patch({ a: 4 }, { 'if-match': '"x"' })).status, 412)
  t.equal((await patch({ a: 4 }, { 'if-match': 'W/"3"' })).status, 400)
  const filter = (text: string): string => `?if=${encodeURIComponent(text)}`
  t.equal((await patch({ a: 4 }, {}, filter('desired.a eq 3 and id eq "pump-1"'))).status, 200)
  t.equal((await patch({ a: 5 }, {}, filter('desired.a eq 3'))).status, 412)
  t.match((await patch({ a: 5 }, {}, filter('desired.a ~ 3'))).json, { code: 'invalid_field', field: 'if' })
  t.match((await patch({ a: 5 }, {}, filter('latest.t gt 3'))).json, { code: 'invalid_field', field: 'if' })
  const racing = await Promise.all(Array.from({ length: 10 }, async (_, i) => (await patch({ winner: i }, { 'if-match': '"4"' })).status))
  t.same(racing.sort(), [200, ...Array.from({ length: 9 }, () => 412)])
})

t.test('what is wrong with a change is told by place, and changes nothing', async t => {
  const b = await twinBench(t)
  const { operator } = b.keys
  const rows: readonly (readonly [unknown, number, string, RegExp | string])[] = [
    [{}, 400, 'invalid_field', /.*/], [{ desired: null }, 400, 'invalid_field', 'desired'], [{ desired: [1] }, 400, 'invalid_field', 'desired'], [{ version: 3 }, 400, 'invalid_field', 'version'], [{ reason: 'x' }, 400, 'invalid_field', 'desired'],
    [{ desired: { $a: 1 } }, 400, 'invalid_field', '/desired/$a'], [{ desired: { a: 'x'.repeat(33_000) } }, 409, 'limit_reached', '/desired'], [{ tags: { a: 1 } }, 400, 'invalid_field', 'tags.a'], [{ tags: { 'a b': '1' } }, 400, 'invalid_field', '/tags/a b'],
    [{ desired: { a: 1 }, reason: 'x'.repeat(257) }, 400, 'invalid_field', 'reason'], ['{"desired":{"__proto__":{"a":1}}}', 400, 'invalid_request', /.*/], ['{"desired":{"a":1e999}}', 400, 'invalid_field', '/desired/a']
  ]
  for (const [body, status, code, field] of rows) {
    const answer = await b.call('PATCH', 'devices/pump-1/twin', { key: operator, body, headers: { 'content-type': 'application/json' } })
    t.match(answer.json, { status, code, ...(typeof field === 'string' ? { field } : {}) }, JSON.stringify(body).slice(0, 60))
  }
  t.match((await b.call('PATCH', 'devices/pump-1/twin', { key: operator, body: '<a/>', headers: { 'content-type': 'text/xml' } })).json, { status: 415 })
  t.match((await b.call('GET', 'devices/pump-1/twin', { key: operator })).json, { version: 0 })
})

t.test('who may do what: readers read, operators and applications desire, devices report, tenants see their own', async t => {
  const b = await twinBench(t)
  const { operator, application, viewer, device, gateway, foreignOperator, foreignDevice } = b.keys
  const status = async (method: string, url: string, key: string | undefined, body?: object): Promise<number> => (await b.call(method, url, { key, body })).status
  for (const key of [operator, application, viewer, device]) t.equal(await status('GET', 'devices/pump-1/twin', key), 200)
  for (const key of [foreignOperator, foreignDevice]) t.equal(await status('GET', 'devices/pump-1/twin', key), 404)
  t.equal(await status('GET', 'devices/pump-1/twin', undefined), 401)
  t.equal(await status('GET', 'devices/pump-2/twin', device), 404, 'a device sees itself')
  t.equal(await status('GET', 'devices/child-1/twin', gateway), 200, 'a gateway its children')
  t.equal(await status('GET', 'devices/none/twin', operator), 404)
  for (const key of [operator, application]) t.equal(await status('PATCH', 'devices/pump-1/twin', key, { desired: { a: key } }), 200)
  t.equal(await status('PATCH', 'devices/pump-1/twin', viewer, { desired: { a: 1 } }), 403)
  t.equal(await status('PATCH', 'devices/pump-1/twin', operator, { reported: { a: 1 } }), 403)
  t.equal(await status('PATCH', 'devices/pump-1/twin', device, { desired: { a: 1 } }), 403)
  t.equal(await status('PUT', 'devices/pump-1/twin', device, { desired: { a: 1 } }), 403)
  t.equal(await status('POST', 'twins/get', device, { devices: ['pump-1'] }), 403)
  const reported = await b.call('PATCH', 'devices/pump-1/twin', { key: device, body: { reported: { firmware: '1.2', $version: 7 } } })
  t.match(reported.json, { reported: { firmware: '1.2' }, metadata: { reported: { firmware: { version: 7 } } } })
  t.match((await b.call('PATCH', 'devices/pump-1/twin', { key: device, body: { reported: { $x: 1 } } })).json, { status: 400, code: 'invalid_field', field: 'reported' })
  t.match((await b.call('PATCH', 'devices/pump-1/twin', { key: device, body: { reported: { a: 'x'.repeat(33_000) } } })).json, { status: 409, code: 'limit_reached' })
  t.match((await b.call('PATCH', 'devices/pump-1/twin?if=id%20eq%20%22a%22', { key: device, body: { reported: { a: 1 } } })).json, { status: 400 })
  t.equal(await status('PATCH', 'devices/child-1/twin', gateway, { reported: { a: 1 } }), 200)
  b.inlet.applied = false
  t.match((await b.call('PATCH', 'devices/pump-1/twin', { key: device, body: { reported: { a: 2 } } })), { status: 202, json: { accepted: true, applied: false } })
})

t.test('named twins beside the device\'s own, and many twins in one request', async t => {
  const b = await twinBench(t)
  const { operator, device } = b.keys
  t.equal((await b.call('GET', 'devices/pump-1/twins/meter', { key: operator })).status, 404)
  t.equal((await b.call('PUT', 'devices/pump-1/twins/meter', { key: operator, body: { desired: { a: 1 } }, headers: { 'if-match': '*' } })).status, 412)
  t.match((await b.call('PUT', 'devices/pump-1/twins/meter', { key: operator, body: { desired: { a: 1 } }, headers: { 'if-none-match': '*' } })).json, { name: 'meter', version: 1, tags: undefined })
  t.equal((await b.call('PATCH', 'devices/pump-1/twins/motor', { key: device, body: { reported: { rpm: 5 } } })).status, 200)
  t.same((await b.call('GET', 'devices/pump-1/twins', { key: device })).json, { names: ['meter', 'motor'] })
  t.match((await b.call('GET', 'devices/pump-1/twins/meter/changes', { key: operator })).json, { changes: [{ version: 1 }] })
  for (const name of ['reported', 'desired', 'delta', 'get', 'a%20b', 'x'.repeat(65)]) t.match((await b.call('GET', `devices/pump-1/twins/${name}`, { key: operator })).json, { status: 400, field: 'name' }, name)
  const many = await b.call('POST', 'twins/get', { key: operator, body: { devices: ['pump-2', 'none', 'bolt-1', 'pump-1'] } })
  t.same(many.json.twins.map((twin: { deviceId: string } | null) => twin?.deviceId ?? null), ['pump-2', null, null, 'pump-1'])
  t.match((await b.call('POST', 'twins/get', { key: operator, body: { devices: ['pump-2', 'pump-1'], name: 'meter' } })).json, { twins: [null, { name: 'meter', desired: { a: 1 } }] })
  t.match((await b.call('POST', 'twins/get', { key: operator, body: { devices: Array.from({ length: 1001 }, () => 'x') } })).json, { status: 400, field: 'devices' })
  t.match((await b.call('POST', 'twins/get', { key: operator, body: { devices: ['a b'] } })).json, { status: 400, field: 'devices' })
  t.same((await b.call('DELETE', 'devices/pump-1/twins/meter', { key: operator })).json, { deleted: true })
  t.equal((await b.call('DELETE', 'devices/pump-1/twins/meter', { key: operator })).status, 404)
  t.same((await b.call('GET', 'devices/pump-1/twins', { key: device })).json, { names: ['motor'] })
})

t.test('a server without twins says so', async t => {
  const b = await bench(t)
  t.match((await b.call('GET', 'devices/pump-1/twin', { key: b.keys.operator })).json, { status: 503, code: 'not_ready' })
})

t.test('tags of a device are its twin\'s, and its twin comes and goes with it', async t => {
  const store = await embeddedStore(t)
  await store.createTenant({ id: 'acme', name: 'acme', createdAt: 0, retention: [{ sinceStamp: 0, days: 365 }], disabled: false })
  const lock = new KeyedLock()
  const twins = service(t, store, { deviceLock: lock })
  const b = await bench(t, { twins, changes: lock })
  const registry = ['createDevice', 'getDevice', 'updateDevice', 'deleteDevice'] as const
  for (const name of registry) Object.assign(b.store, { [name]: store[name].bind(store) })
  const { operator } = b.keys
  t.equal((await b.call('POST', 'devices', { key: operator, body: { id: 'new-1', tags: { site: 'a' } } })).status, 201)
  t.match((await b.call('GET', 'devices/new-1/twin', { key: operator })).json, { version: 1, tags: { site: 'a' } })
  t.match((await b.call('PATCH', 'devices/new-1', { key: operator, body: { name: 'N', tags: { line: '4' } } })).json, { name: 'N', tags: { line: '4' } })
  t.same((await b.call('GET', 'devices/new-1/twin', { key: operator })).json.tags, { line: '4' })
  t.match((await b.call('PATCH', 'devices/new-1/twin', { key: operator, body: { tags: { site: 'b' } } })).json, { version: 3 })
  t.same((await b.call('GET', 'devices/new-1', { key: operator })).json.tags, { line: '4', site: 'b' })
  t.equal((await b.call('DELETE', 'devices/new-1', { key: operator })).status, 200)
  t.equal((await b.call('GET', 'devices/new-1/twin', { key: operator })).status, 404)
  t.equal((await b.call('POST', 'devices', { key: operator, body: { id: 'new-1' } })).status, 201)
  t.match((await b.call('GET', 'devices/new-1/twin', { key: operator })).json, { version: 5, tags: {}, desired: {} })
})
