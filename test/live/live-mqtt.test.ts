import t, { type Test } from 'tap'
import { connectAsync, type MqttClient } from 'mqtt'
import type { TwinfoldApi } from '../../simulators/twinfold-api.js'
import { startServer, temporaryDirectory, testAdminKey, type TestServer } from '../support/server.js'

interface Message { readonly topic: string, readonly body: Record<string, unknown> }

interface Listener { readonly client: MqttClient, readonly messages: Message[], until(count: number): Promise<void> }

async function listener (t: Test, server: TestServer, key: string, options: Record<string, unknown> = {}): Promise<Listener> {
  const client = await connectAsync(`mqtt://127.0.0.1:${server.mqttPort}`, { username: key, reconnectPeriod: 0, ...options })
  t.teardown(() => { client.end(true) })
  const messages: Message[] = []
  client.on('message', (topic, payload) => { messages.push({ topic, body: JSON.parse(payload.toString()) as Record<string, unknown> }) })
  return {
    client,
    messages,
    until: async count => {
      for (let waitedMs = 0; messages.length < count; waitedMs += 10) {
        if (waitedMs > 10_000) throw new Error(`${messages.length} of ${count} messages: ${JSON.stringify(messages)}`)
        await new Promise(resolve => { setTimeout(resolve, 10) })
      }
    }
  }
}

async function world (t: Test): Promise<{ server: TestServer, key: string, api: TwinfoldApi, tokens: string[] }> {
  const { directory, remove } = await temporaryDirectory('live-mqtt')
  const server = await startServer({ directory, settings: { TWINFOLD_PACK_THREADS: '1', TWINFOLD_QUERY_THREADS: '1', TWINFOLD_SLICE_INTERVAL_MS: '20' } })
  t.teardown(async () => {
    await server.kill()
    await remove()
  })
  const key = await server.api(testAdminKey).createTenant('acme', 365)
  const api = server.api(key)
  const tokens = await api.createDevices(['a', 'b'])
  return { server, key, api, tokens }
}

const settled = async (): Promise<void> => { await new Promise(resolve => { setTimeout(resolve, 300) }) }

t.test('an operator gets the latest state and then normalised readings, of a device, a metric or all devices', async t => {
  const { server, key, api } = await world(t)
  const nowMs = Date.now()
  await api.ask('POST', '/devices/a/telemetry', { ts: nowMs - 1000, values: { temperature: 1, on: true } })
  await api.drain(10_000)
  const one = await listener(t, server, key)
  const metric = await listener(t, server, key)
  const all = await listener(t, server, key)
  const everything = await listener(t, server, key)
  t.equal((await one.client.subscribeAsync('devices/a/live'))[0].qos, 0)
  await metric.client.subscribeAsync({ 'devices/a/live/temperature': { qos: 1 }, 'other/topic': { qos: 1 } })
  await all.client.subscribeAsync('devices/+/live')
  await everything.client.subscribeAsync('#')
  for (const { until } of [one, metric, all]) await until(1)
  t.strictSame(one.messages, [{ topic: 'devices/a/live', body: { latest: { on: { ts: nowMs - 1000, value: true }, temperature: { ts: nowMs - 1000, value: 1 } } } }])
  t.strictSame(metric.messages, [{ topic: 'devices/a/live/temperature', body: { latest: { temperature: { ts: nowMs - 1000, value: 1 } } } }])
  t.strictSame(all.messages, one.messages)
  await api.ask('POST', '/devices/a/telemetry', [{ ts: nowMs, values: { temperature: 2, nested: { deep: 'x' } } }, { ts: nowMs - 5000, values: { on: false } }])
  await api.ask('POST', '/devices/b/telemetry', { ts: nowMs, values: { temperature: 3 } })
  await one.until(3)
  await metric.until(2)
  await all.until(4)
  const ofA = [{ topic: 'devices/a/live', body: { ts: nowMs, values: { temperature: 2, 'nested.deep': 'x' } } }, { topic: 'devices/a/live', body: { ts: nowMs - 5000, values: { on: false } } }]
  t.strictSame(one.messages.slice(1), ofA)
  t.strictSame(metric.messages.slice(1), [{ topic: 'devices/a/live/temperature', body: { ts: nowMs, values: { temperature: 2 } } }])
  t.strictSame(all.messages.slice(1), [...ofA, { topic: 'devices/b/live', body: { ts: nowMs, values: { temperature: 3 } } }])
  await one.client.unsubscribeAsync('devices/a/live')
  await api.ask('POST', '/devices/a/telemetry', { ts: nowMs + 1, values: { temperature: 4 } })
  await metric.until(3)
  await settled()
  t.equal(one.messages.length, 3, 'nothing comes after UNSUBSCRIBE')
  t.strictSame(everything.messages.filter(({ topic }) => topic.endsWith('/live')), [], 'a wildcard over all topics gets no live readings')
  // Ordinary topics of the same SUBSCRIBE are the broker's.
  await everything.client.publishAsync('other/topic', '{}', { qos: 1 })
  await metric.until(4)
  t.equal(metric.messages[3].topic, 'other/topic')
})

t.test('a device sees its own live readings only, nobody publishes there, and no tenant sees another', async t => {
  const { server, key, api, tokens } = await world(t)
  const otherKey = await server.api(testAdminKey).createTenant('bolt', 365)
  await server.api(otherKey).createDevice('a')
  const device = await listener(t, server, tokens[0])
  const foreign = await listener(t, server, otherKey)
  const operator = await listener(t, server, key)
  await operator.client.subscribeAsync('devices/+/live')
  await foreign.client.subscribeAsync(['devices/+/live', 'devices/a/live/n'])
  await device.client.subscribeAsync('devices/a/live')
  for (const filter of ['devices/b/live', 'devices/+/live', 'devices/a/live/#', 'devices/a/live/+']) {
    await t.rejects(device.client.subscribeAsync(filter), filter)
  }
  for (const filter of ['devices/a/live/#', 'devices/a/live/+', 'devices/a%/live']) await t.rejects(operator.client.subscribeAsync(filter), filter)
  await operator.client.publishAsync('devices/a/live', '{"ts":1,"values":{"forged":1}}', { qos: 1 })
  await operator.client.publishAsync('devices/a/live/n', '{"ts":1,"values":{"n":1}}', { qos: 1 })
  await device.client.publishAsync('devices/a/live', '{"ts":1,"values":{"forged":1}}', { qos: 1 })
  await device.client.publishAsync('telemetry', '{"n":5}', { qos: 1 })
  await operator.until(1)
  await device.until(1)
  await settled()
  // A reading that comes while the subscription begins may be in the latest values as well.
  const readings = ({ messages }: Listener): unknown[] => messages.filter(({ body }) => body.latest === undefined).map(({ topic, body }) => [topic, body.values])
  t.strictSame(readings(operator), [['devices/a/live', { n: 5 }]])
  t.strictSame(readings(device), [['devices/a/live', { n: 5 }]])
  t.notOk(JSON.stringify([operator.messages, device.messages]).includes('forged'))
  t.strictSame(foreign.messages, [])
  const { body } = await api.ask('GET', '/dead-letters?limit=100')
  t.ok((body as { deadLetters?: unknown[] }).deadLetters === undefined || (body as { deadLetters: unknown[] }).deadLetters.length >= 2, 'what was refused is kept')
})

t.test('a connection that ends takes its live subscriptions with it', async t => {
  const { server, key, api, tokens } = await world(t)
  const first = await listener(t, server, key, { clientId: 'kept', clean: false })
  await first.client.subscribeAsync('devices/a/live')
  await first.client.endAsync()
  const again = await listener(t, server, key, { clientId: 'kept', clean: false })
  const device = await listener(t, server, tokens[0])
  await device.client.publishAsync('telemetry', '{"n":1}', { qos: 1 })
  await api.drain(10_000)
  await settled()
  t.strictSame(again.messages, [])
  t.equal(await api.metric('twinfold_live_subscribers') ?? 0, 0)
})
