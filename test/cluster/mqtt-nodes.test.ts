/** Brokers of several nodes as one: subscriptions, retained messages, sessions and their takeover, wills, tenants, limits. */
import t from 'tap'
import { setTimeout as delay } from 'node:timers/promises'
import { seededRandom } from '../../simulators/fleet/seeded-random.js'
import { connectPacket, disconnect, publish, publishesIn, pubrel, subscribe, unsubscribe, until, type RawClient } from '../edge/mqtt-harness.js'
import { services, skipWithout } from '../support/services.js'
import { nodesOn, type Node } from './mqtt-nodes-support.js'
import { Subscriber } from './subscriber.js'

const url = services().redis?.url ?? ''

async function subscribed (client: RawClient, ...filters: readonly (readonly [string, number])[]): Promise<void> {
  client.send(subscribe(1, ...filters))
  const answer = await client.next()
  if (answer[0] !== 0x90 || answer.subarray(4).includes(0x80)) throw new Error(`SUBACK expected, got ${answer.toString('hex')}`)
}

const application = (node: Node, tenant = 'acme'): string => node.registry.credential('application', tenant)
const numbers = (count: number, prefix = ''): string[] => Array.from({ length: count }, (_, i) => `${prefix}${i}`)

t.test('a message reaches the subscribers of other nodes, at every QoS and in order', async t => {
  if (skipWithout(t, 'redis')) return
  const nodes = nodesOn(t, url)
  const [a, b, c] = [await nodes.start(), await nodes.start(), await nodes.start()]
  const here = await a.client({ secret: application(a), clientId: 'here' })
  const there = await b.client({ secret: application(b), clientId: 'there' })
  const stranger = await b.client({ secret: application(b, 'globex'), clientId: 'there' })
  const sender = await c.client({ secret: application(c), clientId: 'sender' })
  await subscribed(here, ['news/#', 1])
  await subscribed(there, ['news/+', 1])
  await subscribed(stranger, ['#', 1])
  for (let i = 0; i < 50; i++) sender.send(publish('news/1', `q1-${i}`, { qos: 1, id: i + 1 }), publish('news/1', `q0-${i}`))
  for (const client of [here, there]) {
    await until(() => client.packets.length >= 100)
    const payloads = publishesIn(Buffer.concat(client.packets)).map(each => each.payload)
    for (const kind of ['q1-', 'q0-']) t.same(payloads.filter(each => each.startsWith(kind)), numbers(50, kind), kind)
  }
  await until(() => sender.packets.length === 50)
  t.same(await stranger.settle(), [], 'nothing of it reaches another tenant')
})

t.test('whoever publishes after a SUBACK, on whatever node, is heard: telemetry too', async t => {
  if (skipWithout(t, 'redis')) return
  const nodes = nodesOn(t, url)
  const [a, b] = [await nodes.start(), await nodes.start()]
  const device = await b.client({ secret: b.registry.device('acme', 'd1'), clientId: 'd' })
  const sender = await b.client({ secret: application(b), clientId: 's' })
  device.send(publish('telemetry', 'before', { qos: 1, id: 1 }))
  await device.next()
  for (let i = 0; i < 30; i++) {
    const listener = await a.client({ secret: application(a), clientId: `l${i}` })
    await subscribed(listener, [`n/${i}`, 0], ['devices/d1/telemetry', 1])
    device.send(publish('telemetry', `t${i}`, { qos: 1, id: i + 2 }))
    sender.send(publish(`n/${i}`, `n${i}`))
    await until(() => listener.packets.length === 2)
    t.same(publishesIn(Buffer.concat(listener.packets)).map(each => each.payload).sort(), [`n${i}`, `t${i}`])
    listener.send(disconnect)
    await listener.untilClosed()
  }
  t.equal(b.journal.messages().length, 31)
})

t.test('telemetry that nobody on any node wants asks nothing of Redis', async t => {
  if (skipWithout(t, 'redis')) return
  const nodes = nodesOn(t, url)
  const [a, b] = [await nodes.start(), await nodes.start()]
  const listener = await a.client({ secret: application(a), clientId: 'l' })
  await subscribed(listener, ['devices/other/#', 1], ['devices/+/commands/#', 1], ['news', 1])
  const device = await b.client({ secret: b.registry.device('acme', 'd1'), clientId: 'd' })
  const { calls } = b.broker.status()
  for (let i = 0; i < 200; i++) device.send(publish('telemetry', String(i), { qos: 1, id: i + 1 }))
  await until(() => device.packets.length === 200)
  const asked = b.broker.status().calls - calls
  t.ok(asked < 30, `${asked} calls for 200 messages: the first ones, until it is known that nobody waits offline, and heartbeats`)
  t.equal(b.broker.messaging.stats.forwarded, 0)
})

t.test('retained messages are everyone’s', async t => {
  if (skipWithout(t, 'redis')) return
  const nodes = nodesOn(t, url)
  const [a, b] = [await nodes.start(), await nodes.start()]
  const sender = await a.client({ secret: application(a), clientId: 's' })
  for (let i = 0; i < 5; i++) sender.send(publish(`kept/${i}`, `v${i}`, { qos: 1, id: i + 1, retain: true }))
  sender.send(publish('kept/3', '', { qos: 1, id: 9, retain: true }))
  await until(() => sender.packets.length === 6)
  const late = await b.client({ secret: application(b), clientId: 'late' })
  const stranger = await b.client({ secret: application(b, 'globex'), clientId: 'late' })
  await subscribed(late, ['kept/+', 1])
  await subscribed(stranger, ['#', 1])
  await until(() => late.packets.length >= 4)
  t.match(publishesIn(Buffer.concat(late.packets)), ['v0', 'v1', 'v2', 'v4'].map(payload => ({ payload, retain: true })))
  t.same(await stranger.settle(), [])
})

t.test('a session takes its queue from node to node; nothing is lost, QoS 2 comes once, in order, while it moves under load', async t => {
  if (skipWithout(t, 'redis')) return
  const seed = Date.now() % 2 ** 31
  const random = seededRandom(seed)
  const nodes = nodesOn(t, url)
  const limits = { queuedPerSessionMax: 10_000 }
  const stages = [await nodes.start({ limits }), await nodes.start({ limits }), await nodes.start({ limits })]
  const subscribers = [1, 2].map(qos => ({ qos, subscriber: new Subscriber({ secret: application(stages[0]), clientId: `moving-${qos}` }) }))
  for (const { qos, subscriber } of subscribers) {
    await subscriber.connect(stages[0])
    await subscriber.subscribe(['news/#', qos])
  }
  const count = 1500
  const sender = await stages[2].client({ secret: application(stages[2]), clientId: 'sender' })
  let sent = 0
  const sending = (async () => {
    while (sent < count) {
      for (let i = 0; i < 25; i++, sent++) sender.send(publish('news/x', String(sent), { qos: 2, id: (sent % 60_000) + 1 }), pubrel((sent % 60_000) + 1))
      await delay(10)
    }
  })()
  for (let i = 0; i < 12; i++) {
    await delay(20 + random() * 40)
    for (const { subscriber } of subscribers) {
      if (random() < 0.5) subscriber.drop()
      const old = subscriber.client
      t.equal(await subscriber.connect(stages[i % 3]), 0)
      t.ok(subscriber.sessionPresent)
      await old.untilClosed()
    }
  }
  await sending
  for (const { qos, subscriber } of subscribers) {
    await until(() => new Set(subscriber.received).size === count, 20_000, `all at QoS ${qos} (seed ${seed}), has ${new Set(subscriber.received).size}`)
    if (qos === 2) t.same(subscriber.received, numbers(count), `seed ${seed}`)
    else t.same([...new Set(subscriber.received)], numbers(count), `seed ${seed}, ${subscriber.repeats} repeats`)
  }
  t.ok(stages.some(stage => stage.broker.messaging.stats.takeovers > 0))
})

t.test('the old connection of a client that connects elsewhere is closed, clean or not, and its will is published', async t => {
  if (skipWithout(t, 'redis')) return
  const nodes = nodesOn(t, url)
  const [a, b] = [await nodes.start(), await nodes.start()]
  const watcher = await b.client({ secret: application(b), clientId: 'w' })
  await subscribed(watcher, ['wills', 1])
  for (const clean of [true, false]) {
    const options = { secret: application(a), clientId: 'x', clean, will: { topic: 'wills', payload: `clean ${clean}`, qos: 1 } }
    const first = await a.client(options)
    const second = await b.client(options)
    await first.untilClosed()
    t.match(publishesIn(await watcher.next()), [{ payload: `clean ${clean}` }])
    second.send(disconnect)
    await second.untilClosed()
  }
  t.same(await watcher.settle(), [], 'a client that says goodbye has no will, on whatever node')
  const tenant = await a.client({ secret: application(a, 'globex'), clientId: 'x' })
  await b.client({ secret: application(b), clientId: 'x' })
  t.same(await tenant.settle(), [], 'the same id of another tenant stays')
})

t.test('one connection of a client is left of many that race on several nodes', async t => {
  if (skipWithout(t, 'redis')) return
  const nodes = nodesOn(t, url)
  const stages = [await nodes.start(), await nodes.start(), await nodes.start()]
  for (const clean of [true, false]) {
    const clients = await Promise.all(Array.from({ length: 12 }, async (_, i) => await stages[i % 3].socket()))
    for (const client of clients) client.send(connectPacket({ secret: application(stages[0]), clientId: 'racer', clean }))
    await until(() => clients.filter(client => !client.closed).length === 1, 8000, 'one connection to be left')
    await delay(300)
    const [left] = clients.filter(client => !client.closed)
    t.same(await left.next(), Buffer.from([0x20, 2, 0, 0]))
    await subscribed(left, ['race', 1])
    t.equal(stages.reduce((sum, stage) => sum + stage.edge.stats.connections, 0), 1)
    left.end()
    await until(() => stages.every(stage => stage.edge.stats.connections === 0))
  }
})

t.test('a QoS 2 exchange that began on one node ends on another; a repeat is no second message', async t => {
  if (skipWithout(t, 'redis')) return
  const nodes = nodesOn(t, url)
  const [a, b] = [await nodes.start(), await nodes.start()]
  const listener = await a.client({ secret: application(a), clientId: 'l' })
  await subscribed(listener, ['x', 2])
  const options = { secret: application(a), clientId: 'sender', clean: false }
  const first = await a.client(options)
  first.send(publish('x', 'once', { qos: 2, id: 7 }))
  t.same(await first.next(), Buffer.from([0x50, 2, 0, 7]))
  const second = await b.client(options)
  second.send(publish('x', 'once', { qos: 2, id: 7, dup: true }))
  t.same(await second.next(), Buffer.from([0x50, 2, 0, 7]))
  second.send(pubrel(7))
  t.same(await second.next(), Buffer.from([0x70, 2, 0, 7]))
  await until(() => listener.packets.length > 0)
  t.equal(publishesIn(Buffer.concat(await listener.settle())).length, 1)
})

t.test('overlapping filters, an UNSUBSCRIBE and a clean CONNECT mean the same on every node', async t => {
  if (skipWithout(t, 'redis')) return
  const nodes = nodesOn(t, url)
  const [a, b] = [await nodes.start(), await nodes.start()]
  const subscriber = new Subscriber({ secret: application(a), clientId: 's' })
  await subscriber.connect(a)
  await subscriber.subscribe(['#', 1], ['a/+', 2], ['a/b', 1], ['+/+', 0], ['gone', 1])
  subscriber.client.send(unsubscribe(2, 'gone'))
  const sender = await b.client({ secret: application(b), clientId: 'x' })
  const send = async (topic: string, payload: string, id: number): Promise<void> => {
    sender.send(publish(topic, payload, { qos: 1, id }))
    await sender.next()
  }
  await send('a/b', 'online', 1)
  await until(() => subscriber.received.length === 1)
  subscriber.drop()
  await until(() => a.edge.stats.sessions === 0)
  await send('a/b', 'offline', 2)
  t.equal(await subscriber.connect(b), 0)
  await until(() => subscriber.received.length === 2)
  t.same(subscriber.received, ['online', 'offline'])
  subscriber.drop()
  await until(() => b.edge.stats.sessions === 1)
  await send('a/b', 'discarded', 3)
  const clean = await a.client({ secret: application(a), clientId: 's', clean: true })
  t.same(await clean.settle(), [])
  clean.send(disconnect)
  await clean.untilClosed()
  await subscriber.connect(b)
  t.notOk(subscriber.sessionPresent)
  t.same(await nodes.redis.keys(`${nodes.prefix}:b{acme}:[qfslmrtp]*`), [], 'and nothing of the session is left')
})

t.test('beyond the bound of filters a node is sent everything of the tenant, and of no other', async t => {
  if (skipWithout(t, 'redis')) return
  const nodes = nodesOn(t, url)
  const [a, b] = [await nodes.start({ filtersPerTenantMax: 10 }), await nodes.start()]
  const listener = await a.client({ secret: application(a), clientId: 'l' })
  await subscribed(listener, ...Array.from({ length: 25 }, (_, i) => [`f/${i}`, 0] as const))
  const other = await a.client({ secret: application(a, 'globex'), clientId: 'o' })
  await subscribed(other, ['f/1', 0])
  t.equal(b.broker.messaging.stats.peerFilters, 2)
  const sender = await b.client({ secret: application(b), clientId: 's' })
  for (let i = 0; i < 30; i++) sender.send(publish(`f/${i}`, String(i)))
  await until(() => listener.packets.length === 25)
  t.same(publishesIn(Buffer.concat(listener.packets)).map(each => each.payload), numbers(25))
  t.same(await other.settle(), [])
  listener.send(unsubscribe(2, ...Array.from({ length: 21 }, (_, i) => `f/${i}`)))
  await until(() => b.broker.messaging.stats.peerFilters === 5)
  listener.packets.length = 0
  sender.send(publish('f/3', 'gone'), publish('f/24', 'kept'))
  await until(() => listener.packets.length > 0)
  t.same(publishesIn(Buffer.concat(await listener.settle())).map(each => each.payload), ['kept'])
})

t.test('the limits of queues, sessions, filters and retained messages hold in Redis, whoever meets them', async t => {
  if (skipWithout(t, 'redis')) return
  const refused: string[] = []
  const limits = { queuedPerSessionMax: 5, sessionsPerTenantMax: 2, subscriptionsPerSessionMax: 3, retainedPerTenantMax: 2 }
  const options = { limits, onLimit: (kind: string) => refused.push(kind) }
  const nodes = nodesOn(t, url)
  const [a, b] = [await nodes.start(options), await nodes.start(options)]
  const sender = await b.client({ secret: application(b), clientId: 's' })
  const subscriber = new Subscriber({ secret: application(a), clientId: 'q' })
  await subscriber.connect(a)
  await subscriber.subscribe(['1', 1], ['2', 1], ['3', 1], ['4', 1])
  t.same(refused.splice(0), ['subscriptions'])
  subscriber.drop()
  await until(() => a.edge.stats.sessions === 0)
  for (let i = 0; i < 9; i++) sender.send(publish('1', String(i), { qos: 1, id: i + 1, retain: false }))
  await until(() => sender.packets.length === 9)
  t.same(refused.splice(0), Array.from({ length: 4 }, () => 'queued'))
  await subscriber.connect(b)
  await until(() => subscriber.received.length === 5)
  t.same(subscriber.received, numbers(5))
  for (const id of ['y', 'z']) await subscribed(await a.client({ secret: application(a), clientId: id, clean: false }), ['1', 1])
  t.same(refused.splice(0), ['sessions'])
  for (let i = 0; i < 3; i++) sender.send(publish(`kept/${i}`, 'v', { retain: true }))
  await until(() => refused.length > 0)
  t.same(refused.splice(0), ['retained'])
})

t.test('a session ends after its time, wherever it was last; one that is connected does not', async t => {
  if (skipWithout(t, 'redis')) return
  const nodes = nodesOn(t, url)
  const [a, b] = [await nodes.start({ limits: { sessionExpiryMs: 400 } }), await nodes.start({ limits: { sessionExpiryMs: 400 } })]
  const gone = new Subscriber({ secret: application(a), clientId: 'gone' })
  const here = new Subscriber({ secret: application(a), clientId: 'here' })
  for (const subscriber of [gone, here]) {
    await subscriber.connect(a)
    await subscriber.subscribe(['x', 1])
  }
  gone.drop()
  await until(() => a.edge.stats.sessions === 1)
  const sender = await b.client({ secret: application(b), clientId: 's' })
  sender.send(publish('x', '1', { qos: 1, id: 1 }))
  await sender.next()
  await delay(600)
  t.equal(await b.broker.caretaker.sweep([a.broker.messaging.nodeId]), 1)
  await nodes.redis.del(`${nodes.prefix}:b{nodes}:lock:sweep`)
  t.equal(await a.broker.caretaker.sweep([]), 0)
  t.match(a.broker.stats, { sessions: 1, subscriptions: 1, queued: 0, queuedBytes: 0 })
  await gone.connect(b)
  t.notOk(gone.sessionPresent)
})
