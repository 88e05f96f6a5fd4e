/** Real clients: mqtt.js over TCP, TLS and WebSocket, and Mosquitto's. */
import { execFile, execFileSync, spawn } from 'node:child_process'
import { createServer } from 'node:http'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import mqtt, { type MqttClient } from 'mqtt'
import { createWebSocketStream, WebSocketServer } from 'ws'
import type { DeviceLink } from '../../src/twin/device-link.js'
import { startStage, until, type Stage } from './mqtt-harness.js'

const run = promisify(execFile)

function installed (command: string): boolean {
  try {
    execFileSync('which', [command], { stdio: 'ignore' })
    return true
  } catch { return false }
}

/** Publishes telemetry and a plain message, subscribes, and looks at what arrived. */
async function exercise (t: Test, stage: Stage, client: MqttClient): Promise<void> {
  const received: [string, string, number][] = []
  client.on('message', (topic, payload, packet) => { received.push([topic, payload.toString(), packet.qos]) })
  const granted = await client.subscribeAsync({ 'devices/d1/#': { qos: 2 } })
  t.match(granted, [{ topic: 'devices/d1/#', qos: 2 }])
  await client.publishAsync('telemetry', '{"temperature":21.3}', { qos: 1 })
  await client.publishAsync('devices/d1/events/a', 'one', { qos: 1 })
  await client.publishAsync('devices/d1/events/b', 'two', { qos: 2 })
  await until(() => received.length === 3)
  t.same(received.sort(), [['devices/d1/events/a', 'one', 1], ['devices/d1/events/b', 'two', 2], ['devices/d1/telemetry', '{"temperature":21.3}', 1]])
  t.match(stage.journal.messages(), [{ tenant: 'acme', device: 'd1', topic: 'telemetry', payload: '{"temperature":21.3}' }])
  await client.endAsync()
}

t.test('mqtt.js over TCP', async t => {
  const stage = await startStage(t)
  const secret = stage.registry.device('acme', 'd1')
  await exercise(t, stage, await mqtt.connectAsync(`mqtt://127.0.0.1:${stage.edge.port}`, { username: 'd1', password: secret, reconnectPeriod: 0 }))
})

t.test('mqtt.js over WebSocket, on a stream handed in', async t => {
  const stage = await startStage(t, { webSocket: true })
  const secret = stage.registry.device('acme', 'd1')
  const http = createServer()
  const sockets = new WebSocketServer({ server: http, handleProtocols: () => 'mqtt' })
  sockets.on('connection', (socket, request) => { stage.edge.accept(createWebSocketStream(socket), request) })
  await new Promise<void>(resolve => { http.listen(0, '127.0.0.1', resolve) })
  t.teardown(() => { sockets.close(); http.close() })
  const url = `ws://127.0.0.1:${(http.address() as AddressInfo).port}/mqtt`
  await exercise(t, stage, await mqtt.connectAsync(url, { username: secret, password: '', reconnectPeriod: 0 }))
  await until(() => stage.edge.stats.connections === 0)
})

t.test('mqtt.js over TLS', { skip: installed('openssl') ? false : 'openssl is not installed, so there is no certificate' }, async t => {
  const directory = mkdtempSync(join(tmpdir(), 'mqtt-tls-'))
  t.teardown(() => { rmSync(directory, { recursive: true, force: true }) })
  const [keyFile, certFile] = [join(directory, 'key.pem'), join(directory, 'cert.pem')]
  await run('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', keyFile, '-out', certFile, '-days', '2', '-subj', '/CN=localhost'])
  const stage = await startStage(t, { tls: { key: readFileSync(keyFile), cert: readFileSync(certFile) }, tlsPort: 0 })
  const secret = stage.registry.device('acme', 'd1')
  await exercise(t, stage, await mqtt.connectAsync(`mqtts://127.0.0.1:${stage.edge.tlsPort}`, { username: 'd1', password: secret, reconnectPeriod: 0, rejectUnauthorized: false }))
})

t.test('mqtt.js learns why it is refused', async t => {
  const stage = await startStage(t)
  const url = `mqtt://127.0.0.1:${stage.edge.port}`
  await t.rejects(mqtt.connectAsync(url, { username: 'd1', password: 'guess', reconnectPeriod: 0 }), { code: 4 })
  await t.rejects(mqtt.connectAsync(url, { username: 'd1', password: 'twd_' + 'x'.repeat(43), reconnectPeriod: 0 }), { code: 5 })
  await t.rejects(mqtt.connectAsync(url, { protocolVersion: 5, username: 'd1', password: 'twd_' + 'x'.repeat(43), reconnectPeriod: 0 }), { code: 1 })
})

t.test('Mosquitto publishes and subscribes', { skip: installed('mosquitto_pub') ? false : 'mosquitto-clients is not installed' }, async t => {
  const stage = await startStage(t)
  const secret = stage.registry.device('acme', 'd1')
  const application = stage.registry.credential('application', 'acme')
  const at = ['-h', '127.0.0.1', '-p', String(stage.edge.port)]
  const subscriber = spawn('mosquitto_sub', [...at, '-u', 'app', '-P', application, '-t', 'probe', '-t', 'devices/#', '-q', '2', '-v'])
  t.teardown(() => { subscriber.kill() })
  let output = ''
  subscriber.stdout.on('data', bytes => { output += String(bytes) })
  await until(() => {
    stage.edge.publish('acme', 'probe', Buffer.from('x'), { qos: 0, retain: false }).catch(t.error)
    return output.includes('probe x')
  })
  for (const [version, qos] of [['311', '0'], ['311', '1'], ['31', '2']]) {
    await run('mosquitto_pub', [...at, '-V', `mqttv${version}`, '-i', `p${qos}`, '-u', 'd1', '-P', secret, '-t', 'telemetry', '-m', `{"q":${qos}}`, '-q', qos])
    await until(() => output.includes(`devices/d1/telemetry {"q":${qos}}`))
  }
  t.same(stage.journal.messages().map(each => each.payload), ['{"q":0}', '{"q":1}', '{"q":2}'])
})

t.test('mqtt.js and mosquitto are sent twins by the stage, and acknowledge them', async t => {
  const links: DeviceLink[] = []
  const stage = await startStage(t, { sessions: [{ ready: link => { if (link.grantedQos('devices/d1/twin/delta') >= 0) links.push(link) }, ended: () => {} }], questions: { answer: async () => await Promise.resolve({ accepted: true, body: '{"desired":{}}' }) } })
  const secret = stage.registry.device('acme', 'd1')
  const client = await mqtt.connectAsync(`mqtt://127.0.0.1:${stage.edge.port}`, { username: 'd1', password: secret, clientId: 'js', clean: false, reconnectPeriod: 0 })
  const received: string[] = []
  client.on('message', (topic, payload, packet) => { received.push(`${topic} ${payload.toString()} ${packet.qos}`) })
  await client.subscribeAsync('devices/d1/twin/#', { qos: 1 })
  await until(() => links.length === 1)
  t.same(await Promise.all(['1', '2', '3'].map(async text => await links[0].send('devices/d1/twin/delta', Buffer.from(text), 1))), ['acked', 'acked', 'acked'])
  await client.publishAsync('twin/get', '', { qos: 1 })
  await until(() => received.length === 4)
  t.same(received, [...['1', '2', '3'].map(text => `devices/d1/twin/delta ${text} 1`), 'devices/d1/twin/get/accepted {"desired":{}} 1'])
  await client.endAsync()
  const again = await mqtt.connectAsync(`mqtt://127.0.0.1:${stage.edge.port}`, { username: 'd1', password: secret, clientId: 'js', clean: false, reconnectPeriod: 0 })
  await until(() => links.length === 2)
  again.on('message', (topic, payload) => { received.push(`${topic} ${payload.toString()}`) })
  t.equal(await links[1].send('devices/d1/twin/delta', Buffer.from('4'), 1), 'acked', 'without subscribing again')
  t.equal(received.at(-1), 'devices/d1/twin/delta 4')
  await again.endAsync()
  if (!installed('mosquitto_sub')) return
  const mosquitto = spawn('mosquitto_sub', ['-h', '127.0.0.1', '-p', String(stage.edge.port), '-i', 'm', '-u', 'd1', '-P', secret, '-q', '1', '-t', 'devices/d1/twin/delta', '-C', '2'])
  let output = ''
  mosquitto.stdout.on('data', (text: Buffer) => { output += text.toString() })
  const ended = new Promise(resolve => { mosquitto.on('close', resolve) })
  await until(() => links.length === 3)
  const outcomes = await Promise.all(['5', '6'].map(async text => await links[2].send('devices/d1/twin/delta', Buffer.from(text), 1)))
  await ended
  t.same(outcomes[0], 'acked')
  t.equal(output, '5\n6\n')
})
