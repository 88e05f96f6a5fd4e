import t from 'tap'
import { withRetention } from '../../src/edge/http/tenant-routes.js'
import type { RetentionEntry } from '../../src/tenancy/model.js'
import { bench, type Bench, type Keys } from './http-support.js'

type Who = keyof Keys | null

void t.test('who may do what, by status', async t => {
  const b = await bench(t)
  const rows: readonly [string, string, unknown, Partial<Record<keyof Keys, number>>][] = [
    ['POST', 'tenants', { id: 'x1' }, { admin: 201, operator: 403, application: 403, viewer: 403, device: 403 }],
    ['GET', 'tenants', undefined, { admin: 200, operator: 403, viewer: 403, device: 403 }],
    ['GET', 'tenants/acme', undefined, { admin: 200, operator: 200, viewer: 200, device: 403, foreignOperator: 404 }],
    ['PATCH', 'tenants/acme', { name: 'Acme' }, { admin: 200, operator: 403, foreignOperator: 403, device: 403 }],
    ['POST', 'devices', { id: 'new-1' }, { operator: 201, application: 403, viewer: 403, device: 403, admin: 400 }],
    ['GET', 'devices', undefined, { operator: 200, application: 200, viewer: 200, device: 403, admin: 400 }],
    ['GET', 'devices/pump-1', undefined, { operator: 200, application: 200, viewer: 200, device: 200, gateway: 404, foreignOperator: 404, foreignDevice: 404 }],
    ['GET', 'devices/child-1', undefined, { gateway: 200, device: 404 }],
    ['PATCH', 'devices/pump-1', { name: 'Pump' }, { operator: 200, application: 403, viewer: 403, device: 403, foreignOperator: 404 }],
    ['POST', 'devices/pump-1/tokens', { label: 'spare' }, { operator: 201, application: 403, device: 403, foreignOperator: 404 }],
    ['GET', 'devices/pump-1/tokens', undefined, { operator: 200, application: 403, viewer: 403, device: 403, foreignOperator: 404 }],
    ['POST', 'keys', { role: 'viewer' }, { operator: 201, application: 403, viewer: 403, device: 403, admin: 400 }],
    ['POST', 'keys', { role: 'admin' }, { operator: 400, admin: 201 }],
    ['GET', 'keys', undefined, { operator: 200, admin: 200, application: 403, viewer: 403, device: 403 }],
    ['GET', 'dead-letters', undefined, { operator: 200, application: 200, viewer: 200, device: 403 }],
    ['DELETE', 'dead-letters', { ids: ['1-0'] }, { operator: 200, application: 403, viewer: 403, device: 403 }],
    ['POST', 'dead-letters/replay', { ids: ['1-0'] }, { operator: 200, application: 403, viewer: 403, device: 403 }],
    ['DELETE', 'devices/pump-2', undefined, { foreignOperator: 404, application: 403, device: 403, operator: 200 }]
  ]
  for (const [method, url, body, answers] of rows) {
    t.equal((await b.call(method, url, { body })).status, 401, `nobody: ${method} ${url}`)
    t.equal((await b.call(method, url, { body, key: 'twk_not-a-secret-of-anybody' })).status, 401, `a wrong secret: ${method} ${url}`)
    for (const [who, status] of Object.entries(answers)) {
      const answer = await b.call(method, url, { body, key: b.keys[who as keyof Keys] })
      t.equal(answer.status, status, `${who}: ${method} ${url} ${answer.text}`)
      t.equal(answer.headers['cache-control'], 'no-store')
    }
  }
})

void t.test('a platform key acts as operator inside the tenant that it names, and only there', async t => {
  const b = await bench(t)
  const asAdmin = async (method: string, url: string, tenant: string, body?: unknown): ReturnType<Bench['call']> => await b.call(method, url, { key: b.keys.admin, body, headers: { 'x-tenant': tenant } })
  t.equal((await asAdmin('GET', 'devices', 'acme')).json.devices.length, 4)
  t.equal((await asAdmin('GET', 'devices', 'bolt')).json.devices.length, 1)
  t.equal((await asAdmin('GET', 'devices', 'nope')).status, 404)
  t.equal((await asAdmin('GET', 'devices', '../acme')).status, 404)
  t.equal((await asAdmin('POST', 'keys', 'bolt', { role: 'operator' })).status, 201)
  const foreign = await b.call('GET', 'devices', { key: b.keys.operator, headers: { 'x-tenant': 'bolt' } })
  const unknown = await b.call('GET', 'devices', { key: b.keys.operator, headers: { 'x-tenant': 'nope' } })
  t.equal(foreign.status, 403)
  t.equal(foreign.text, unknown.text, 'a tenant learns nothing of which tenants there are')
})

void t.test('an id of another tenant and an unknown one get the identical answer', async t => {
  const b = await bench(t)
  b.store.letter('bolt', '5-0')
  const foreignToken = [...b.store.credentials.values()].find(item => item.device === 'bolt-1')?.id ?? ''
  const foreignKey = [...b.store.credentials.values()].find(item => item.tenant === 'bolt' && item.role === 'operator')?.id ?? ''
  const rows: readonly [Who, string, string, string, string, unknown][] = [
    ['operator', 'GET', 'devices/?', 'bolt-1', 'nobody', undefined],
    ['operator', 'PATCH', 'devices/?', 'bolt-1', 'nobody', { name: 'x' }],
    ['operator', 'DELETE', 'devices/?', 'bolt-1', 'nobody', undefined],
    ['operator', 'GET', 'devices/?/telemetry', 'bolt-1', 'nobody', undefined],
    ['operator', 'GET', 'devices/?/telemetry/latest', 'bolt-1', 'nobody', undefined],
    ['operator', 'GET', 'devices/?/tokens', 'bolt-1', 'nobody', undefined],
    ['operator', 'POST', 'devices/?/tokens', 'bolt-1', 'nobody', {}],
    ['device', 'GET', 'devices/?', 'pump-2', 'nobody', undefined],
    ['device', 'GET', 'devices/?/telemetry', 'pump-2', 'nobody', undefined],
    ['operator', 'GET', 'tenants/?', 'bolt', 'nope', undefined],
    ['operator', 'DELETE', 'keys/?', foreignKey, 'AAAAAAAAAAAA', undefined],
    ['operator', 'DELETE', 'devices/pump-1/tokens/?', foreignToken, 'AAAAAAAAAAAA', undefined],
    ['operator', 'GET', 'dead-letters/?', '5-0', '6-0', undefined],
    ['operator', 'DELETE', 'dead-letters/?', '5-0', '6-0', undefined]
  ]
  for (const [who, method, url, foreign, unknown, body] of rows) {
    const ask = async (id: string): Promise<{ status: number, text: string }> => {
      const { status, text } = await b.call(method, url.replace('?', id), { key: b.keys[who as keyof Keys], body })
      return { status, text: text.replaceAll(id, '?') }
    }
    const answer = await ask(foreign)
    t.equal(answer.status, 404, `${method} ${url}`)
    t.same(answer, await ask(unknown), `${method} ${url}`)
  }
  t.ok(b.store.letters.has('bolt\x005-0'))
  t.ok(b.store.devices.has('bolt\0bolt-1'))
  t.ok([...b.store.credentials.values()].some(item => item.id === foreignToken))
})

void t.test('a device: registered with a token that works, listed in pages, changed', async t => {
  const b = await bench(t)
  const made = await b.call('POST', 'devices', { key: b.keys.operator, body: { id: 'a.b:c@d-1', name: 'Name', type: 'pump' } })
  t.equal(made.status, 201)
  t.equal(made.headers.location, '/api/v1/devices/a.b%3Ac%40d-1')
  t.match(made.json, { device: { id: 'a.b:c@d-1', name: 'Name', type: 'pump', gateway: false, gatewayId: null }, token: { secret: /^twd_/ } })
  t.equal((await b.call('POST', 'telemetry', { key: made.json.token.secret, body: '{"x":1}' })).status, 202)
  t.notOk([...b.store.credentials.values()].some(item => JSON.stringify(item).includes(made.json.token.secret)), 'the secret is not stored')
  t.match((await b.call('POST', 'devices', { key: b.keys.operator, body: { id: 'a.b:c@d-1' } })).json, { status: 409, code: 'already_exists', field: 'id' })
  const seen: string[] = []
  for (let cursor: string | null = ''; cursor !== null;) {
    const page: { json: { devices: { id: string }[], next: string | null } } = await b.call('GET', `devices?limit=2${cursor === '' ? '' : `&cursor=${cursor}`}`, { key: b.keys.viewer })
    seen.push(...page.json.devices.map(({ id }) => id))
    cursor = page.json.next
  }
  t.same(seen, ['a.b:c@d-1', 'child-1', 'gate-1', 'pump-1', 'pump-2'])
  t.same((await b.call('GET', 'devices?gatewayId=gate-1', { key: b.keys.viewer })).json.devices.map((item: { id: string }) => item.id), ['child-1'])
  const changed = await b.call('PATCH', 'devices/a.b:c@d-1', { key: b.keys.operator, body: { gatewayId: 'gate-1' } })
  t.match(changed.json, { name: 'Name', gatewayId: 'gate-1' })
  t.equal((await b.call('POST', 'devices/a.b:c@d-1/telemetry', { key: b.keys.gateway, body: '{"x":1}' })).status, 202, 'its gateway may speak for it at once')
  for (const gatewayId of ['pump-1', 'bolt-1', 'nobody', 'a.b:c@d-1']) {
    t.match((await b.call('PATCH', 'devices/a.b:c@d-1', { key: b.keys.operator, body: { gatewayId } })).json, { status: 400, field: 'gatewayId' }, gatewayId)
  }
})

void t.test('fields that do not fit are refused by name and change nothing', async t => {
  const b = await bench(t)
  const before = JSON.stringify([[...b.store.devices], [...b.store.tenants]])
  const rows: readonly [Who, string, string, unknown, string][] = [
    ['operator', 'POST', 'devices', {}, 'id'],
    ['operator', 'POST', 'devices', { id: '' }, 'id'],
    ['operator', 'POST', 'devices', { id: 'a/b' }, 'id'],
    ['operator', 'POST', 'devices', { id: 'ok\n' }, 'id'],
    ['operator', 'POST', 'devices', { id: 'x'.repeat(129) }, 'id'],
    ['operator', 'POST', 'devices', { id: 5 }, 'id'],
    ['operator', 'POST', 'devices', { id: 'ok', gateway: 'true' }, 'gateway'],
    ['operator', 'POST', 'devices', { id: 'ok', tenant: 'bolt' }, 'tenant'],
    ['operator', 'POST', 'devices', { id: 'ok', toString: 1 }, 'toString'],
    ['operator', 'POST', 'devices', [], 'body'],
    ['operator', 'POST', 'devices', 'null', 'body'],
    ['operator', 'PATCH', 'devices/pump-1', {}, 'body'],
    ['operator', 'PATCH', 'devices/pump-1', { name: null }, 'name'],
    ['operator', 'PATCH', 'devices/pump-1', { id: 'pump-9' }, 'id'],
    ['operator', 'GET', 'devices?limit=0', undefined, 'limit'],
    ['operator', 'GET', 'devices?limit=1001', undefined, 'limit'],
    ['operator', 'GET', 'devices?limit=ten', undefined, 'limit'],
    ['operator', 'GET', 'devices?limit=1&limit=2', undefined, 'limit'],
    ['operator', 'GET', 'devices?__proto__=1', undefined, '__proto__'],
    ['operator', 'GET', 'devices?nonsense=1', undefined, 'nonsense'],
    ['operator', 'GET', 'devices?cursor=AAAA', undefined, 'cursor'],
    ['operator', 'GET', 'devices?cursor=%00%ff', undefined, 'cursor'],
    ['admin', 'POST', 'tenants', { id: 'Upper' }, 'id'],
    ['admin', 'POST', 'tenants', { id: '_x' }, 'id'],
    ['admin', 'POST', 'tenants', { id: 'ok', retentionDays: 0 }, 'retentionDays'],
    ['admin', 'POST', 'tenants', { id: 'ok', retentionDays: 1.5 }, 'retentionDays'],
    ['admin', 'POST', 'tenants', { id: 'ok', tierRetention: { '1h': 0 } }, 'tierRetention.1h'],
    ['admin', 'POST', 'tenants', { id: 'ok', tierRetention: { '2h': 10 } }, 'tierRetention.2h'],
    ['admin', 'PATCH', 'tenants/acme', { disabled: 0 }, 'disabled'],
    ['operator', 'POST', 'keys', { role: 'device' }, 'role'],
    ['operator', 'POST', 'keys', { role: 'admin' }, 'role'],
    ['operator', 'POST', 'dead-letters/replay', { ids: [] }, 'ids'],
    ['operator', 'POST', 'dead-letters/replay', { ids: ['1-0', '1-0'] }, 'ids'],
    ['operator', 'POST', 'dead-letters/replay', { ids: ['1-0'], corrections: { '2-0': { text: '{}' } } }, 'corrections'],
    ['operator', 'POST', 'dead-letters/replay', { ids: ['1-0'], corrections: { '1-0': { base64: '%%' } } }, 'corrections.1-0.base64']
  ]
  for (const [who, method, url, body, field] of rows) {
    const answer = await b.call(method, url, { key: b.keys[who as keyof Keys], body, headers: body === 'null' ? { 'content-type': 'application/json' } : {} })
    t.match(answer.json, { status: 400, code: 'invalid_field', field, retryable: false }, `${method} ${url} ${JSON.stringify(body)}`)
  }
  t.equal(JSON.stringify([[...b.store.devices], [...b.store.tenants]]), before)
})

void t.test('a cursor belongs to its query and its tenant', async t => {
  const b = await bench(t)
  const { next } = (await b.call('GET', 'devices?limit=1', { key: b.keys.operator })).json
  t.equal((await b.call('GET', `devices?limit=3&cursor=${next}`, { key: b.keys.viewer })).status, 200)
  t.equal((await b.call('GET', `devices?cursor=${next}`, { key: b.keys.foreignOperator })).status, 400)
  t.equal((await b.call('GET', `devices?gatewayId=gate-1&cursor=${next}`, { key: b.keys.operator })).status, 400)
  t.equal((await b.call('GET', `keys?cursor=${next}`, { key: b.keys.operator })).status, 400)
})

void t.test('deleting a device revokes, disconnects, erases and frees its children', async t => {
  const b = await bench(t)
  for (const name of ['gateway', 'device', 'operator'] as const) b.sessions.push(b.principals.get(b.keys[name]) as never)
  t.equal((await b.call('POST', 'telemetry', { key: b.keys.gateway, body: '{"x":1}' })).status, 202)
  const { stamp } = b.journal
  const answer = await b.call('DELETE', 'devices/gate-1', { key: b.keys.operator })
  t.match(answer.json, { deleted: true })
  t.ok(answer.json.erasedBefore > stamp, 'the erasure covers what was accepted')
  t.same(b.store.erasures.map(({ tenant, device }) => `${tenant} ${device}`), ['acme gate-1', 'acme gate-1'])
  t.equal((await b.call('POST', 'telemetry', { key: b.keys.gateway, body: '{"x":1}' })).status, 401, 'its token is refused at once')
  t.equal(b.store.devices.get('acme\0child-1')?.gatewayId, null)
  t.same(b.sessions.map(({ role }) => role), ['device', 'operator'], 'its session alone is cut')
  t.equal((await b.call('DELETE', 'devices/gate-1', { key: b.keys.operator })).status, 404)
})

void t.test('a token and a key are listed without secrets and revoked at once', async t => {
  const b = await bench(t)
  const token = (await b.call('POST', 'devices/pump-1/tokens', { key: b.keys.operator })).json
  t.match(token, { secret: /^twd_/, role: 'device', label: '' })
  b.sessions.push({ credentialId: token.id, role: 'device', tenant: 'acme', device: 'pump-1' })
  t.equal((await b.call('POST', 'telemetry', { key: token.secret, body: '{"x":1}' })).status, 202)
  const listed = await b.call('GET', 'devices/pump-1/tokens', { key: b.keys.operator })
  t.equal(listed.json.tokens.length, 2)
  t.notMatch(listed.text, /secret|hash|twd_/)
  t.equal((await b.call('DELETE', `devices/pump-2/tokens/${token.id}`, { key: b.keys.operator })).status, 404, 'not through another device')
  t.equal((await b.call('DELETE', `keys/${token.id}`, { key: b.keys.operator })).status, 404, 'a token is no key')
  t.equal((await b.call('DELETE', `devices/pump-1/tokens/${token.id}`, { key: b.keys.operator })).status, 204)
  t.equal((await b.call('POST', 'telemetry', { key: token.secret, body: '{"x":1}' })).status, 401)
  t.equal(b.sessions.length, 0)

  const key = (await b.call('POST', 'keys', { key: b.keys.operator, body: { role: 'viewer', label: 'wall' } })).json
  t.equal((await b.call('GET', 'devices', { headers: { 'x-api-key': key.secret } })).status, 200)
  t.equal((await b.call('GET', 'devices', { headers: { authorization: `bearer  ${key.secret}` } })).status, 200)
  t.equal((await b.call('GET', 'devices', { headers: { authorization: `Basic ${key.secret}` } })).status, 401)
  const keys: { id: string, role: string }[] = []
  for (let cursor: string | null = ''; cursor !== null;) {
    const page: { json: { keys: { id: string, role: string }[], next: string | null } } = await b.call('GET', `keys?limit=1${cursor === '' ? '' : `&cursor=${cursor}`}`, { key: b.keys.operator })
    keys.push(...page.json.keys)
    cursor = page.json.next
  }
  t.same(keys.map(({ role }) => role).sort(), ['application', 'operator', 'viewer', 'viewer'], 'every key once, no device token')
  t.equal((await b.call('DELETE', `keys/${key.id}`, { key: b.keys.operator })).status, 204)
  t.equal((await b.call('GET', 'devices', { key: key.secret })).status, 401)
  const own = b.principals.get(b.keys.operator)?.credentialId ?? ''
  t.equal((await b.call('DELETE', `keys/${own}`, { key: b.keys.operator })).status, 403, 'nobody locks himself out')
})

void t.test('a tenant: its first key works; disabling refuses everything of it and cuts its connections', async t => {
  const b = await bench(t)
  const made = await b.call('POST', 'tenants', { key: b.keys.admin, body: { id: 'new-tenant', name: 'New', retentionDays: 30 } })
  t.match(made.json, { tenant: { id: 'new-tenant', name: 'New', retentionDays: 30, disabled: false }, key: { secret: /^twk_/, role: 'operator' } })
  t.equal((await b.call('POST', 'tenants', { key: b.keys.admin, body: { id: 'new-tenant' } })).status, 409)
  const { secret } = made.json.key
  t.equal((await b.call('POST', 'devices', { key: secret, body: { id: 'd1' } })).status, 201)
  b.sessions.push({ credentialId: 'c', role: 'device', tenant: 'new-tenant', device: 'd1' }, { credentialId: 'd', role: 'device', tenant: 'acme', device: 'pump-1' })
  t.equal((await b.call('PATCH', 'tenants/new-tenant', { key: b.keys.admin, body: { disabled: true } })).json.disabled, true)
  t.equal((await b.call('GET', 'devices', { key: secret })).status, 401)
  t.same(b.sessions.map(({ tenant }) => tenant), ['acme'])
  await b.call('PATCH', 'tenants/new-tenant', { key: b.keys.admin, body: { disabled: false } })
  t.equal((await b.call('GET', 'devices', { key: secret })).status, 200)
  t.same((await b.call('GET', 'tenants?limit=2', { key: b.keys.admin })).json.tenants.map((item: { id: string }) => item.id), ['acme', 'bolt'])
})

void t.test('a new retention holds from its stamp on; joining the oldest makes nothing expire early', async t => {
  const b = await bench(t)
  await b.call('PATCH', 'tenants/acme', { key: b.keys.admin, body: { retentionDays: 30 } })
  const tenant = b.store.tenants.get('acme')
  t.same(tenant?.retention.map(({ days }) => days), [365, 30])
  t.ok((tenant?.retention[1].sinceStamp ?? 0) >= b.clock.us)
  t.match((await b.call('PATCH', 'tenants/acme', { key: b.keys.admin, body: { tierRetention: { '1h': 90 } } })).json, { retentionDays: 30, tierRetention: { '1m': 365, '1h': 90, '1d': 3650 } })
  t.match(b.store.tenants.get('acme')?.tierRetention, [{ sinceStamp: 0, days: { '1h': 1825 } }, { days: { '1m': 365, '1h': 90, '1d': 3650 } }], 'rows of before are still found under their class')
  let entries: readonly RetentionEntry[] = [{ sinceStamp: 0, days: 10 }]
  const history = new Map<number, number>()
  for (let i = 1; i <= 100; i++) {
    const days = 1 + (i * 7919) % 1000
    entries = withRetention(entries, i * 1000, days)
    history.set(i * 1000, days)
    t.ok(entries.length <= 32)
    t.equal(entries[0].sinceStamp, 0)
    for (const entry of entries.slice(1)) t.equal(entry.days, history.get(entry.sinceStamp), 'kept entries are as they were set')
    const joined = Math.max(10, ...[...history].filter(([stamp]) => stamp < (entries[1]?.sinceStamp ?? 0)).map(([, value]) => value))
    if (entries.length === 32 && i > 32) t.equal(entries[0].days, joined, 'the joined entry is the longest of those in it')
  }
})

void t.test('changes of one device at the same time all take effect', async t => {
  const b = await bench(t)
  const bodies = [{ name: 'n' }, { type: 't' }, { gateway: true }, { gatewayId: 'gate-1' }]
  await Promise.all(bodies.map(async body => await b.call('PATCH', 'devices/pump-2', { key: b.keys.operator, body })))
  t.match(b.store.devices.get('acme\0pump-2'), { name: 'n', type: 't', gateway: true, gatewayId: 'gate-1' })
})
