import t from 'tap'
import { connect, type Socket } from 'node:net'
import { once } from 'node:events'
import WebSocket from 'ws'
import { errorTable } from '../../src/core/errors.js'
import { bench, type Bench } from './http-support.js'

/** Sends raw bytes and reads until the server ends the connection or `until` has come. */
async function raw (b: Bench, text: string | Buffer, until?: RegExp): Promise<string> {
  const socket = connect(b.edge.port, '127.0.0.1')
  await once(socket, 'connect')
  let answer = ''
  socket.setEncoding('utf8')
  socket.on('error', () => {})
  socket.write(text)
  await new Promise<void>(resolve => {
    socket.on('data', chunk => {
      answer += String(chunk)
      if (until?.test(answer) === true) resolve()
    })
    socket.on('close', () => { resolve() })
  })
  socket.destroy()
  return answer
}

async function open (t: Parameters<typeof bench>[0], more: Parameters<typeof bench>[1] = {}): Promise<Bench> {
  const b = await bench(t, more)
  await b.edge.open()
  return b
}

void t.test('what is no request, or too large a one, gets a problem document and the connection ends', async t => {
  const b = await open(t)
  const head = `POST /api/v1/telemetry HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${b.keys.device}\r\n`
  const rows: readonly [string, string | Buffer, number][] = [
    ['garbage', 'this is not http\r\n\r\n', 400],
    ['a huge header', `GET / HTTP/1.1\r\nhost: x\r\nx: ${'y'.repeat(20_000)}\r\n\r\n`, 431],
    ['a body above the limit', `${head}content-length: 99999999\r\n\r\n`, 413],
    ['a negative length', `${head}content-length: -5\r\n\r\n`, 400],
    ['two lengths', `${head}content-length: 5\r\ncontent-length: 6\r\n\r\n`, 400],
    ['length and chunks (request smuggling)', `${head}content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n`, 400],
    ['a bad chunk', `${head}transfer-encoding: chunked\r\n\r\nzz\r\n`, 400],
    ['MQTT on the HTTP port', Buffer.from('101000044d5154540402003c00046465763a', 'hex'), 400]
  ]
  for (const [name, text, status] of rows) {
    const answer = await raw(b, text)
    t.match(answer, new RegExp(`^HTTP/1.1 ${status} `), name)
    t.match(answer, /application\/problem\+json/, name)
    const problem = JSON.parse(answer.slice(answer.indexOf('{'))) as { status: number, code: string }
    t.equal(problem.status, status, name)
    t.ok(problem.code in errorTable, name)
  }
  t.equal(b.journal.records.length, 0)
  t.equal(b.edge.stats.bodiesBytes, 0)
})

void t.test('a chunked body above the limit is cut off while it comes', async t => {
  const b = await open(t, { bodyBytesMax: 1000 })
  const chunk = `190\r\n${'x'.repeat(400)}\r\n`
  const answer = await raw(b, `POST /api/v1/telemetry HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${b.keys.device}\r\ntransfer-encoding: chunked\r\n\r\n${chunk.repeat(4)}`)
  t.match(answer, /^HTTP\/1.1 413 /)
  t.equal(b.edge.stats.bodiesBytes, 0)
})

void t.test('a body that ends early is dropped and no longer accounted', async t => {
  const b = await open(t)
  const socket = connect(b.edge.port, '127.0.0.1')
  socket.on('error', () => {})
  socket.write(`POST /api/v1/telemetry HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${b.keys.device}\r\ncontent-length: 1000\r\n\r\n{"a":`)
  while (b.edge.stats.bodiesBytes !== 1000) await new Promise(resolve => setImmediate(resolve))
  socket.destroy()
  while (b.edge.stats.bodiesBytes as number > 0) await new Promise(resolve => setImmediate(resolve))
  t.equal(b.journal.records.length, 0)
})

void t.test('a body is not read before its sender is known', async t => {
  const b = await open(t)
  const answer = await raw(b, 'POST /api/v1/telemetry HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n', /\r\n\r\n\{.*\}$/s)
  t.match(answer, /^HTTP\/1.1 401 /, 'the answer is there though no byte of the body was sent')
  t.match(answer, /www-authenticate: Bearer/i)
})

void t.test('pipelined telemetry is answered in order', async t => {
  const b = await open(t)
  const one = (body: string): string => `POST /api/v1/telemetry HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${b.keys.device}\r\ncontent-length: ${body.length}\r\n\r\n${body}`
  const answer = await raw(b, one('{"a":1}') + one('') + one('{"a":2}'), /(HTTP\/1.1 .*){3}\}$/s)
  t.same([...answer.matchAll(/HTTP\/1.1 ([0-9]+)/g)].map(match => match[1]), ['202', '400', '202'])
  t.same(b.journal.records.map(({ body }) => body.toString()), ['{"a":1}', '{"a":2}'])
})

void t.test('bad JSON and members that would reach prototypes are refused', async t => {
  const b = await bench(t)
  const json = { 'content-type': 'application/json' }
  for (const body of ['{"id":', '', 'undefined', '{"__proto__":{"gateway":true},"id":"d"}', '{"id":"d","constructor":{"prototype":{"x":1}}}', '\u0000', '{"id":"d",}']) {
    const answer = await b.call('POST', 'devices', { key: b.keys.operator, body: Buffer.from(body), headers: json })
    t.equal(answer.status, 400, body)
    t.match(answer.headers['content-type'], /problem\+json/, body)
  }
  t.equal((await b.call('POST', 'devices', { key: b.keys.operator, body: 'id=d', headers: { 'content-type': 'application/x-www-form-urlencoded' } })).status, 415)
  t.equal((await b.call('POST', 'devices', { key: b.keys.operator, body: '{"id":"d"}', headers: { 'content-type': 'text/plain' } })).status, 415)
  t.equal((await b.call('POST', 'devices', { key: b.keys.operator, body: JSON.stringify({ id: 'd', name: 'x'.repeat(300_000) }), headers: json })).status, 413)
  t.equal(({} as Record<string, unknown>).gateway, undefined)
})

void t.test('paths that are none are problems too; HEAD and OPTIONS are off', async t => {
  const b = await bench(t)
  for (const [method, url, status] of [
    ['GET', '/nothing', 404], ['GET', '/api/v1/nothing', 404], ['DELETE', '/api/v1/telemetry', 404], ['GET', '/api/v1/devices/%ff', 400], ['GET', `/api/v1/devices/${'x'.repeat(500)}`, 400],
    ['GET', '/api/v1/../../etc/passwd', 404], ['HEAD', '/api/v1/devices', 404], ['OPTIONS', '/api/v1/devices', 404], ['GET', '/docs/static/..%2f..%2fpackage.json', 404]
  ] as const) {
    const answer = await b.call(method, url, { key: b.keys.operator })
    t.equal(answer.status, status, `${method} ${url}`)
    t.match(answer.headers['content-type'], /problem\+json/, url)
  }
})

void t.test('probes and the front door need no credential; metrics are for this machine and admins', async t => {
  const b = await bench(t)
  t.equal((await b.call('GET', '/healthz')).status, 200)
  t.match((await b.call('GET', '/')).json, { name: 'Twinfold', docs: '/docs' })
  t.equal((await b.call('GET', '/docs/')).status, 200)
  t.same((await b.call('GET', '/readyz')).json, { ready: true, degraded: false, reasons: [], dependencies: [] })
  b.ready = { ready: false, reasons: ['journal full'] }
  const notReady = await b.call('GET', '/readyz')
  t.equal(notReady.status, 503)
  t.same(notReady.json.reasons, ['journal full'])
  t.equal((await b.call('GET', '/metrics')).text, '# metrics\n')
  t.equal((await b.call('GET', '/metrics', { remoteAddress: '10.1.2.3' })).status, 401)
  t.equal((await b.call('GET', '/metrics', { remoteAddress: '10.1.2.3', key: b.keys.operator })).status, 403)
  t.equal((await b.call('GET', '/metrics', { remoteAddress: '10.1.2.3', key: b.keys.admin })).status, 200)
  t.equal((await b.call('GET', '/metrics', { headers: { 'x-forwarded-for': '10.1.2.3' } })).status, 401, 'a proxy on this machine does not open it')
  t.equal((await b.call('GET', '/metrics', { remoteAddress: '::ffff:127.0.0.1' })).status, 200)
  const adminOnly = await bench(t, { metricsAccess: 'admin' })
  t.equal((await adminOnly.call('GET', '/metrics')).status, 401)
})

void t.test('the OpenAPI document lists every route, its positive answers and its errors', async t => {
  const routes: string[] = []
  const b = await bench(t)
  for (const line of b.edge.app.printRoutes({ commonPrefix: false, includeHooks: false }).split('\n')) routes.push(line)
  const document = (await b.call('GET', 'openapi.json')).json as { openapi: string, paths: Record<string, Record<string, { summary?: string, tags?: string[], responses: Record<string, { content?: Record<string, { schema: object }> }> }>>, components: { schemas: Record<string, object> } }
  t.match(document.openapi, /^3\.1\./)
  const documented = Object.entries(document.paths).flatMap(([path, methods]) => Object.keys(methods).map(method => `${method.toUpperCase()} ${path}`)).sort()
  const expected = [
    'DELETE /api/v1/dead-letters', 'DELETE /api/v1/dead-letters/{id}', 'DELETE /api/v1/devices/{id}', 'DELETE /api/v1/devices/{id}/tokens/{token}', 'DELETE /api/v1/keys/{id}',
    'GET /api/v1/devices/{id}/commands', 'POST /api/v1/devices/{id}/commands', 'GET /api/v1/devices/{id}/commands/pending', 'GET /api/v1/devices/{id}/commands/{commandId}', 'POST /api/v1/devices/{id}/commands/{commandId}/cancel', 'POST /api/v1/devices/{id}/commands/{commandId}/response',
    'GET /api/v1/dead-letters', 'GET /api/v1/dead-letters/{id}', 'GET /api/v1/devices', 'GET /api/v1/devices/{id}', 'GET /api/v1/devices/{id}/partition-plan', 'GET /api/v1/devices/{id}/telemetry', 'GET /api/v1/devices/{id}/telemetry/latest',
    'GET /api/v1/devices/{id}/tokens', 'GET /api/v1/keys', 'GET /api/v1/nodes', 'GET /api/v1/models', 'GET /api/v1/models/{type}', 'PUT /api/v1/models/{type}', 'DELETE /api/v1/models/{type}', 'GET /api/v1/models/{type}/versions',
    'GET /api/v1/models/{type}/versions/{version}', 'GET /api/v1/models/{type}/violations', 'POST /api/v1/models/{type}/validate', 'GET /api/v1/alarm-rules', 'GET /api/v1/alarm-rules/{id}',
    'PUT /api/v1/alarm-rules/{id}', 'DELETE /api/v1/alarm-rules/{id}', 'GET /api/v1/alarms', 'GET /api/v1/alarms/{id}', 'POST /api/v1/alarms/{id}/ack', 'POST /api/v1/alarms/{id}/clear',
    'GET /api/v1/devices/{id}/alarms', 'GET /api/v1/devices/{id}/aggregates', 'GET /api/v1/series/query', 'POST /api/v1/series/query', 'GET /api/v1/live',
    'POST /api/v1/analytics/rebuild', 'GET /api/v1/fleet/query', 'POST /api/v1/fleet/query', 'POST /api/v1/sql',
    'GET /api/v1/exports', 'POST /api/v1/imports', 'GET /api/v1/jobs', 'GET /api/v1/jobs/{id}', 'DELETE /api/v1/jobs/{id}', 'POST /api/v1/twins/jobs', 'DELETE /api/v1/devices/{id}/telemetry', 'GET /api/v1/analytics/points', 'GET /api/v1/analytics/status', 'GET /api/v1/tenants', 'GET /api/v1/tenants/{id}', 'GET /healthz', 'GET /metrics', 'GET /readyz',
    'GET /api/v1/events', 'GET /api/v1/events/mqtt', 'PUT /api/v1/events/mqtt', 'GET /api/v1/webhooks', 'POST /api/v1/webhooks', 'GET /api/v1/webhooks/{id}', 'PATCH /api/v1/webhooks/{id}', 'DELETE /api/v1/webhooks/{id}',
    'POST /api/v1/webhooks/{id}/test', 'POST /api/v1/webhooks/{id}/rotate-secret', 'POST /api/v1/webhooks/{id}/pause', 'POST /api/v1/webhooks/{id}/resume', 'POST /api/v1/webhooks/{id}/replay', 'GET /api/v1/webhooks/{id}/deliveries',
    'GET /api/v1/webhooks/{id}/dead-letters', 'DELETE /api/v1/webhooks/{id}/dead-letters', 'POST /api/v1/webhooks/{id}/dead-letters/replay',
    'PATCH /api/v1/devices/{id}', 'PATCH /api/v1/tenants/{id}',
    'GET /api/v1/devices/{id}/twin', 'PATCH /api/v1/devices/{id}/twin', 'PUT /api/v1/devices/{id}/twin', 'GET /api/v1/devices/{id}/twin/changes', 'GET /api/v1/devices/{id}/twin/diff', 'GET /api/v1/devices/{id}/twins', 'POST /api/v1/twins/get',
    'GET /api/v1/devices/{id}/twins/{name}', 'PATCH /api/v1/devices/{id}/twins/{name}', 'PUT /api/v1/devices/{id}/twins/{name}', 'DELETE /api/v1/devices/{id}/twins/{name}', 'GET /api/v1/devices/{id}/twins/{name}/changes', 'GET /api/v1/devices/{id}/twins/{name}/diff',
    'POST /api/v1/dead-letters/replay', 'POST /api/v1/devices', 'POST /api/v1/devices/{id}/events/{type}', 'POST /api/v1/devices/{id}/telemetry', 'POST /api/v1/devices/{id}/tokens', 'POST /api/v1/keys', 'POST /api/v1/telemetry', 'POST /api/v1/tenants'
  ].sort()
  t.same(documented, expected)
  for (const entry of expected) {
    const [method, path] = entry.split(' ')
    t.ok(b.edge.app.hasRoute({ method: method as 'GET', url: path.replace(/\{([^}]+)\}/g, ':$1') }), `${entry} exists`)
    const { summary, tags, responses } = document.paths[path][method.toLowerCase()]
    t.type(summary, 'string', entry)
    t.equal(tags?.length, 1, entry)
    t.ok(Object.keys(responses).some(status => status.startsWith('2')), entry)
    if (!path.startsWith('/api')) continue
    for (const status of ['400', '401', '403', '404', '500', '503']) t.same(Object.keys(responses[status]?.content ?? {}), ['application/problem+json'], `${entry} ${status}`)
  }
  const text = JSON.stringify(document)
  for (const [, name] of text.matchAll(/"#\/components\/schemas\/([^"]+)"/g)) t.ok(name in document.components.schemas, `reference ${name} resolves`)
  t.ok(routes.length > expected.length / 2)
})

async function client (b: Bench, protocols: string | string[] | undefined, path = '/mqtt'): Promise<{ socket: WebSocket | null, status: number }> {
  const socket = new WebSocket(`ws://127.0.0.1:${b.edge.port}${path}`, protocols)
  return await new Promise(resolve => {
    socket.on('open', () => { resolve({ socket, status: 101 }) })
    socket.on('unexpected-response', (_request, response) => { resolve({ socket: null, status: response.statusCode ?? 0 }) })
    socket.on('error', () => { resolve({ socket: null, status: 0 }) })
  })
}

void t.test('MQTT over WebSocket: bytes pass both ways; other protocols, paths, texts and huge frames do not', async t => {
  const b = await open(t)
  for (const protocol of ['mqtt', 'mqttv3.1']) {
    const { socket } = await client(b, ['other', protocol])
    if (socket === null) throw new Error('not connected')
    t.equal(socket.protocol, protocol)
    const { stream } = b.streams[b.streams.length - 1]
    socket.send(Buffer.from([0x10, 0x02]))
    t.same((await once(stream, 'data'))[0], Buffer.from([0x10, 0x02]))
    stream.write(Buffer.from([0x20, 0x00]))
    t.same((await once(socket, 'message'))[0], Buffer.from([0x20, 0x00]))
    socket.close()
    await once(stream, 'close')
  }
  t.equal((await client(b, undefined)).status, 400, 'no sub-protocol')
  t.equal((await client(b, 'amqp')).status, 400)
  t.equal((await client(b, 'mqtt', '/api/v1/devices')).status, 404, 'no other path can be upgraded')

  const { socket: texting } = await client(b, 'mqtt')
  const seen: Buffer[] = []
  b.streams[b.streams.length - 1].stream.on('data', (chunk: Buffer) => seen.push(chunk))
  texting?.send('text')
  t.equal((await once(texting as WebSocket, 'close'))[0], 1003)
  t.same(seen, [], 'text reaches no broker')

  const { socket: huge } = await client(b, 'mqtt')
  const { stream } = b.streams[b.streams.length - 1]
  stream.on('error', () => {})
  huge?.on('error', () => {})
  huge?.send(Buffer.alloc(1024 * 1024 + 1))
  await once(huge as WebSocket, 'close')
  t.ok(stream.destroyed)
})

void t.test('close answers running requests, turns away new ones and ends WebSockets', async t => {
  const b = await open(t)
  b.journal.held = true
  const { socket } = await client(b, 'mqtt')
  const request = `POST /api/v1/telemetry HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${b.keys.device}\r\ncontent-length: 7\r\n\r\n{"a":1}`
  const running = raw(b, request)
  while (b.journal.pending.length < 1) await new Promise(resolve => setImmediate(resolve))
  const kept: Socket = connect(b.edge.port, '127.0.0.1')
  await once(kept, 'connect')
  const { port } = b.edge
  const gone = once(socket as WebSocket, 'close')
  const closed = b.edge.close()
  t.equal((await gone)[0], 1001, 'going away')
  b.journal.commit()
  t.match(await running, /^HTTP\/1.1 202 /, 'what was accepted is answered')
  await closed
  const [error] = await once(connect(port, '127.0.0.1'), 'error') as [NodeJS.ErrnoException]
  t.equal(error.code, 'ECONNREFUSED')
})

void t.test('close does not wait longer than its grace', async t => {
  const b = await open(t, { closeGraceMs: 50 })
  b.journal.held = true
  const running = raw(b, `POST /api/v1/telemetry HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${b.keys.device}\r\ncontent-length: 7\r\n\r\n{"a":1}`)
  while (b.journal.pending.length < 1) await new Promise(resolve => setImmediate(resolve))
  await b.edge.close()
  t.equal(await running, '', 'cut without an answer: nothing was promised')
  b.journal.commit()
})
