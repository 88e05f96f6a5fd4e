/** The persistence under a live Aedes, with mqtt.js clients: what Aedes does with it that the abstract suite does not show. */
import { createServer, type AddressInfo } from 'node:net'
import { Aedes } from 'aedes'
import mqtt, { type IClientOptions, type MqttClient } from 'mqtt'
import t from 'tap'
import type { BrokerPersistence, BrokerPersistenceOptions } from '../../src/store/embedded/broker/persistence.js'
import { open, payloads, queueOf, randomFrom, temporaryDirectory, TestClock } from './broker-persistence-fixture.js'
import { openBrokerPersistence } from '../../src/store/embedded/broker/persistence.js'
import { silentLog } from '../../src/core/log.js'

interface Running {
  readonly broker: Aedes
  readonly persistence: BrokerPersistence
  client: (clientId: string, options?: IClientOptions) => Promise<MqttClient>
  stop: () => Promise<void>
}

async function start (directory: string, options: Partial<BrokerPersistenceOptions> = {}): Promise<Running> {
  const persistence = await openBrokerPersistence({ directory, clock: new TestClock(), log: silentLog, sweepEveryMs: 0, ...options })
  const broker = await Aedes.createBroker({ persistence })
  const server = createServer((socket) => { broker.handle(socket) })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const clients: MqttClient[] = []
  return {
    broker,
    persistence,
    client: async (clientId, options = {}) => {
      const client = mqtt.connect(`mqtt://127.0.0.1:${(server.address() as AddressInfo).port}`, { clientId, reconnectPeriod: 0, resubscribe: false, ...options })
      clients.push(client)
      client.on('error', () => {})
      await new Promise((resolve) => client.once('connect', resolve))
      return client
    },
    stop: async () => {
      for (const client of clients) client.end(true)
      await new Promise<void>((resolve) => broker.close(() => resolve()))
      server.close()
      await persistence.close()
    }
  }
}

async function until (holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 5))
}

void t.test('no message is lost to a connected subscriber because another one overtook it', async (t) => {
  const running = await start(temporaryDirectory(t))
  const received: string[] = []
  const subscriber = await running.client('acme/live')
  subscriber.on('message', (_topic, payload) => received.push(String(payload)))
  await subscriber.subscribeAsync('acme/#', { qos: 1 })
  await (await running.client('acme/offline', { clean: false })).subscribeAsync('acme/1', { qos: 1 })
  const publisher = await running.client('acme/publisher')
  const sent: Promise<unknown>[] = []
  for (let i = 0; i < 100; i++) {
    sent.push(publisher.publishAsync('acme/1', `a${i}`, { qos: 1 }), publisher.publishAsync('acme/2', `b${i}`, { qos: 0 }),
      publisher.publishAsync('acme/1', `c${i}`, { qos: 1, retain: true }), publisher.publishAsync('acme/3', `d${i}`, { qos: 1 }),
      publisher.publishAsync('acme/4', `e${i}`, { qos: 0, retain: true }))
  }
  await Promise.all(sent)
  await until(() => received.length >= 500)
  for (const kind of ['a', 'b', 'c', 'd', 'e']) {
    t.same(received.filter((name) => name.startsWith(kind)), Array.from({ length: 100 }, (_, i) => `${kind}${i}`), `${kind}: all, in order`)
  }
  await running.stop()
})

void t.test('overlapping filters of a persistent session deliver a message once and leave nothing in its queue', async (t) => {
  const running = await start(temporaryDirectory(t))
  const received: string[] = []
  const subscriber = await running.client('acme/app', { clean: false })
  subscriber.on('message', (_topic, payload) => received.push(String(payload)))
  await subscriber.subscribeAsync({ 'acme/#': { qos: 1 }, 'acme/+': { qos: 2 }, 'acme/t': { qos: 1 }, 'acme/t/#': { qos: 0 } })
  const publisher = await running.client('acme/publisher')
  for (let i = 0; i < 50; i++) await publisher.publishAsync('acme/t', String(i), { qos: i % 2 === 0 ? 1 : 2 })
  await until(() => received.length >= 50 && running.persistence.stats.queued === 0)
  t.same(received.map(Number).sort((a, b) => a - b), Array.from({ length: 50 }, (_, i) => i))
  t.equal(running.persistence.stats.queuedBytes, 0)
  await running.stop()
})

void t.test('a subscriber whose connection keeps breaking gets every QoS 2 message exactly once', async (t) => {
  const seed = Date.now() % 2 ** 31
  const random = randomFrom(seed)
  const running = await start(temporaryDirectory(t))
  const received: string[] = []
  const subscriber = await running.client('acme/app', { clean: false, reconnectPeriod: 5 })
  subscriber.on('message', (_topic, payload) => received.push(String(payload)))
  await subscriber.subscribeAsync('acme/t', { qos: 2 })
  const publisher = await running.client('acme/publisher')
  const sent: Promise<unknown>[] = []
  for (let i = 0; i < 400; i++) {
    sent.push(publisher.publishAsync('acme/t', String(i), { qos: 2 }))
    if (random(12) === 0) {
      subscriber.stream.destroy()
      await new Promise((resolve) => setTimeout(resolve, random(25)))
    }
  }
  await Promise.all(sent)
  await until(() => running.persistence.stats.queued === 0 && received.length >= 400)
  t.same(received.map(Number).sort((a, b) => a - b), Array.from({ length: 400 }, (_, i) => i), `seed ${seed}`)
  await running.stop()
})

void t.test('a full queue does not close a connected subscriber, who still gets every message', async (t) => {
  const refused: string[] = []
  const running = await start(temporaryDirectory(t), { limits: { queuedPerSessionMax: 3 }, onLimit: (kind) => refused.push(kind) })
  const received: string[] = []
  const subscriber = await running.client('acme/app', { clean: false })
  subscriber.on('message', (_topic, payload) => received.push(String(payload)))
  await subscriber.subscribeAsync('acme/t', { qos: 2 })
  const publisher = await running.client('acme/publisher')
  await Promise.all(Array.from({ length: 200 }, async (_, i) => await publisher.publishAsync('acme/t', String(i), { qos: i % 2 === 0 ? 1 : 2 })))
  await until(() => received.length >= 200 && running.persistence.stats.queued === 0)
  t.equal(received.length, 200)
  t.ok(subscriber.connected)
  t.ok(refused.length > 0 && refused.every((kind) => kind === 'queued'), `${refused.length} refused`)
  await running.stop()
})

void t.test('a filter that the authorisation hook marked with 128 is not stored with the others of its SUBSCRIBE', async (t) => {
  const running = await start(temporaryDirectory(t))
  running.broker.authorizeSubscribe = (_client, subscription, done) => {
    if (!subscription.topic.includes('secret')) return done(null, subscription)
    Object.assign(subscription, { qos: 128 })
    done(null, null)
  }
  const subscriber = await running.client('acme/app', { clean: false })
  await subscriber.subscribeAsync({ 'acme/a': { qos: 1 }, 'acme/secret': { qos: 1 }, 'acme/b': { qos: 1 } }).catch(() => {})
  t.same((await running.persistence.subscriptionsByClient({ id: 'acme/app' })).map(({ topic }) => topic), ['acme/a', 'acme/b'])
  t.same(await running.persistence.subscriptionsByTopic('acme/secret'), [])
  await running.stop()
})

void t.test('a clean connection discards the session, a disconnect starts its expiry, a connection ends that', async (t) => {
  const directory = temporaryDirectory(t)
  const clock = new TestClock()
  const running = await start(directory, { clock, limits: { sessionExpiryMs: 1000 } })
  const { persistence } = running
  const first = await running.client('acme/app', { clean: false })
  await first.subscribeAsync('acme/t', { qos: 1 })
  clock.passMs(5000)
  t.equal(await persistence.sweepExpired(), 0, 'a connected session does not expire')
  await first.endAsync()
  const publisher = await running.client('acme/publisher')
  await publisher.publishAsync('acme/t', 'x', { qos: 1 })
  await until(() => persistence.stats.queued === 1)
  clock.passMs(900)
  t.equal(await persistence.sweepExpired(), 0)
  const second = await running.client('acme/app', { clean: false })
  await until(() => persistence.stats.queued === 0)
  clock.passMs(5000)
  t.equal(await persistence.sweepExpired(), 0, 'nor does one that is back')
  await second.endAsync()
  await until(() => running.broker.connectedClients === 1)
  clock.passMs(1001)
  t.equal(await persistence.sweepExpired(), 1)

  const third = await running.client('acme/app', { clean: false })
  await third.subscribeAsync('acme/t', { qos: 1 })
  await third.endAsync()
  await publisher.publishAsync('acme/t', 'y', { qos: 1 })
  await until(() => persistence.stats.queued === 1)
  await (await running.client('acme/app', { clean: true })).endAsync()
  t.match(persistence.stats, { queued: 0, queuedBytes: 0, sessions: 0, subscriptions: 0 })
  await running.stop()
})

void t.test('messages keep their own identity when a broker with a fixed id starts again', async (t) => {
  const directory = temporaryDirectory(t)
  const counters: number[] = []
  for (let run = 0; run < 3; run++) {
    const persistence = await open(directory)
    const broker = { id: 'fixed', counter: 0 }
    await persistence.setup(broker)
    for (let i = 0; i < 3; i++) {
      counters.push(++broker.counter)
      await persistence.outgoingEnqueue({ clientId: 'acme/app' }, { cmd: 'publish', topic: 'acme/t', payload: Buffer.from(`${run}/${i}`), qos: 1, retain: false, brokerId: broker.id, brokerCounter: broker.counter })
    }
    await persistence.close()
  }
  t.equal(new Set(counters).size, 9)
  const persistence = await open(directory)
  const queue = await queueOf(persistence, 'acme/app')
  t.same(payloads(queue), ['0/0', '0/1', '0/2', '1/0', '1/1', '1/2', '2/0', '2/1', '2/2'])
  for (const packet of queue) t.same(payloads([await persistence.outgoingClearMessageId({ id: 'acme/app' }, packet) as typeof packet]), payloads([packet]))
  await persistence.close()
})
