/** Presence of real servers: one is killed, and its devices do not stay connected; a server that was killed alone comes back without them. */
import mqtt, { type MqttClient } from 'mqtt'
import t from 'tap'
import { skipWithout } from '../support/services.js'
import { startServer, temporaryDirectory, testAdminKey, type TestServer } from '../support/server.js'
import type { TwinfoldApi } from '../../simulators/twinfold-api.js'
import { pause, startTwoNodes } from './two-nodes.js'

t.setTimeout(180_000)

interface Connection { readonly state: 'connected' | 'disconnected', readonly since: string | null, readonly reason: string | null, readonly lastActivity: string | null, readonly stale: boolean, readonly node: string | null }

const keepAliveSeconds = 5

async function connect (test: { teardown(undo: () => unknown): unknown }, server: TestServer, device: string, token: string): Promise<MqttClient> {
  const client = await mqtt.connectAsync({ port: server.mqttPort, clientId: device, username: token, keepalive: keepAliveSeconds, reconnectPeriod: 0, clean: true })
  client.on('error', () => { /* Its server is killed. */ })
  test.teardown(() => { client.end(true) })
  return client
}

async function connectionOf (api: TwinfoldApi, device: string): Promise<Connection> {
  const { status, body } = await api.ask('GET', `/devices/${device}`)
  if (status !== 200) throw new Error(`${status} ${JSON.stringify(body)}`)
  return (body as { connection: Connection }).connection
}

async function until (what: string, timeoutMs: number, holds: () => Promise<boolean>): Promise<number> {
  const startMs = performance.now()
  while (!await holds()) {
    if (performance.now() - startMs > timeoutMs) throw new Error(`it does not come true: ${what}`)
    await pause(50)
  }
  return performance.now() - startMs
}

void t.test('a node is killed: no device stays connected for longer than its keep-alive and 30 s; who moved is connected', async t => {
  if (skipWithout(t, 'cassandra') || skipWithout(t, 'redis')) return
  const nodes = await startTwoNodes(t)
  const { a, b } = nodes
  const devices = Array.from({ length: 6 }, (_, i) => `d${i}`)
  const tokens = await a.api.createDevices(devices)
  t.strictSame(await connectionOf(b.api, 'd0'), { state: 'disconnected', since: null, reason: null, lastActivity: null, stale: false, node: null, via: null })
  const clients = await Promise.all(devices.map(async (device, i) => await connect(t, a.server, device, tokens[i])))
  await until('the other node shows them', 10_000, async () => (await Promise.all(devices.map(async device => await connectionOf(b.api, device)))).every(({ state, node }) => state === 'connected' && node === 'a'))
  // One says goodbye, one is taken over by the other node.
  await clients[0].endAsync()
  await connect(t, b.server, 'd1', tokens[1])
  await until('both are shown', 10_000, async () => (await connectionOf(b.api, 'd0')).state === 'disconnected' && (await connectionOf(a.api, 'd1')).node === 'b')
  t.match(await connectionOf(a.api, 'd0'), { state: 'disconnected', reason: 'client' })
  await a.kill()
  const shownMs = await until('they are lost', (keepAliveSeconds + 30) * 1000, async () => !(await Promise.all(devices.slice(2).map(async device => await connectionOf(b.api, device)))).some(({ state }) => state === 'connected'))
  t.comment(`lost after ${Math.round(shownMs)} ms`)
  t.match(await connectionOf(b.api, 'd2'), { state: 'disconnected', reason: 'node_lost', node: 'a' })
  t.match(await connectionOf(b.api, 'd1'), { state: 'connected', node: 'b' })
  t.match(await connectionOf(b.api, 'd0'), { state: 'disconnected', reason: 'client' })
  await connect(t, b.server, 'd3', tokens[3])
  t.match(await connectionOf(b.api, 'd3'), { state: 'connected', reason: null, node: 'b' }, 'at once where it is connected')
})

void t.test('a server alone is killed: after its restart its devices are not connected, until they come back; a clean stop says so', async t => {
  const { directory, remove } = await temporaryDirectory('presence')
  let server = await startServer({ directory })
  t.teardown(async () => {
    await server.kill()
    await remove()
  })
  const key = await server.api(testAdminKey).createTenant('fleet', 30)
  const tokens = await server.api(key).createDevices(['one', 'two'])
  await connect(t, server, 'one', tokens[0])
  await server.api(tokens[1]).ask('POST', '/devices/two/telemetry', { v: 1 })
  t.match(await connectionOf(server.api(key), 'one'), { state: 'connected', node: null })
  t.match(await connectionOf(server.api(key), 'two'), { state: 'disconnected', since: null, lastActivity: String, stale: false })
  await pause(200)
  await server.kill()
  server = await startServer({ directory })
  t.match(await connectionOf(server.api(key), 'one'), { state: 'disconnected', reason: 'node_lost' })
  await connect(t, server, 'one', tokens[0])
  const { body } = await server.api(key).ask('GET', '/devices')
  t.match(body, { devices: [{ id: 'one', connection: { state: 'connected' } }, { id: 'two', connection: { state: 'disconnected' } }] })
  t.equal(await server.stop(), 0)
  server = await startServer({ directory })
  t.match(await connectionOf(server.api(key), 'one'), { state: 'disconnected', reason: 'server_stopped' })
})
