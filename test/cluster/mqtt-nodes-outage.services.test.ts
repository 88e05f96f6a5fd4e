/** What several nodes do when Redis dies, stops, forgets everything or drops a connection, and when a node dies. */
import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { connect } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { connectPacket, disconnect, publish, publishesIn, pubrel, RawClient, subscribe, until } from '../edge/mqtt-harness.js'
import { services, skipWithout, startPrivateRedis, type PrivateRedis } from '../support/services.js'
import { nodesOn, type Node, type Nodes } from './mqtt-nodes-support.js'
import { Subscriber } from './subscriber.js'

const secret = 'twk_application-acme-none-0123456789'
const deviceSecret = 'twd_device-acme-d1-0123456789'
const serviceUnavailable = 3

async function subscribed (client: RawClient, ...filters: readonly (readonly [string, number])[]): Promise<void> {
  client.send(subscribe(1, ...filters))
  const answer = await client.next()
  if (answer[0] !== 0x90 || answer.subarray(4).includes(0x80)) throw new Error(`SUBACK expected, got ${answer.toString('hex')}`)
}

const payloadsOf = (client: RawClient): string[] => publishesIn(Buffer.concat(client.packets)).map(each => each.payload)

interface Own { readonly redis: PrivateRedis, readonly nodes: Nodes, readonly a: Node, readonly b: Node }

async function twoNodes (t: Test, appendOnly = false): Promise<Own> {
  const redis = await startPrivateRedis({ appendOnly })
  t.teardown(async () => { await redis.close() })
  const nodes = nodesOn(t, redis.url)
  return { redis, nodes, a: await nodes.start({ limits: { queuedPerSessionMax: 10_000 } }), b: await nodes.start({ limits: { queuedPerSessionMax: 10_000 } }) }
}

const bothUp = async (a: Node, b: Node): Promise<void> => {
  await until(() => a.broker.messaging.up && b.broker.messaging.up && a.broker.messaging.stats.peers === 1 && b.broker.messaging.stats.peers === 1, 10_000, 'both nodes to have joined')
}

t.test('while Redis is dead, what needs nothing of it works, and what does is answered honestly; after it, all is as before', async t => {
  if (skipWithout(t, 'redis')) return
  const { redis, a, b } = await twoNodes(t)
  const device = await a.client({ secret: deviceSecret, clientId: 'd' })
  const local = await a.client({ secret, clientId: 'local' })
  await subscribed(local, ['devices/+/telemetry', 1], ['chat', 0])
  const kept = new Subscriber({ secret, clientId: 'kept' })
  await kept.connect(a)
  await kept.subscribe(['news/#', 1], ['devices/+/telemetry', 1])
  const sender = await a.client({ secret, clientId: 'sender' })

  await redis.kill()
  for (let i = 0; i < 20; i++) device.send(publish('telemetry', `t${i}`, { qos: 1, id: i + 1 }))
  await until(() => device.packets.length === 20)
  t.equal(a.journal.messages().length, 20, 'telemetry is journaled and acknowledged')
  sender.send(publish('chat', 'hello'))
  await until(() => local.packets.length === 21)
  t.same(payloadsOf(local).sort(), ['hello', ...Array.from({ length: 20 }, (_, i) => `t${i}`)].sort(), 'and reaches those on this node')
  await until(() => kept.received.length === 20)
  t.equal(a.edge.stats.telemetryLocalOnly, 20, 'what reached neither queues nor other nodes is counted (INVARIANTS 9)')
  const newcomer = await b.client({ secret, clientId: 'newcomer', will: { topic: 'chat', payload: 'gone', qos: 1 } })
  await subscribed(newcomer, ['news/#', 1])
  const refused = await b.socket()
  refused.send(connectPacket({ secret, clientId: 'persistent', clean: false }))
  t.same(await refused.next(), Buffer.from([0x20, 2, 0, serviceUnavailable]))
  kept.client.send(subscribe(5, ['more', 1]))
  await until(() => kept.refusedFilters > 0)
  sender.send(publish('news/1', 'lost', { qos: 1, id: 1 }))
  await sender.untilClosed()
  t.same(sender.packets, [], 'a publish that cannot be kept is not acknowledged')

  await redis.start()
  await bothUp(a, b)
  const other = await b.client({ secret, clientId: 'other' })
  const send = async (topic: string, payload: string, id: number): Promise<void> => {
    other.send(publish(topic, payload, { qos: 1, id }))
    await until(() => other.packets.length === id)
  }
  await send('news/1', 'online', 1)
  await until(() => kept.received.includes('online') && newcomer.packets.length > 0)
  t.same(payloadsOf(newcomer), ['online'], 'what was subscribed to meanwhile holds')
  kept.drop()
  await until(() => a.edge.stats.sessions === 2)
  await send('news/1', 'offline', 2)
  await kept.connect(b)
  t.ok(kept.sessionPresent, 'a session that was connected is there again, though Redis lost it')
  await until(() => kept.received.includes('offline'))
  newcomer.end()
  await until(() => payloadsOf(local).includes('gone'))
})

t.test('after FLUSHALL nodes find each other, connected sessions keep their subscriptions, and a client still has one connection', async t => {
  if (skipWithout(t, 'redis')) return
  const { nodes, a, b } = await twoNodes(t)
  const kept = new Subscriber({ secret, clientId: 'kept' })
  await kept.connect(a)
  await kept.subscribe(['news/#', 2])
  const clean = await a.client({ secret, clientId: 'clean' })
  await subscribed(clean, ['news/#', 0])
  const sender = await b.client({ secret, clientId: 'sender' })
  const joins = [a, b].map(node => node.broker.messaging.stats.joins)
  await nodes.redis.flushall()
  await until(() => [a, b].every((node, i) => node.broker.messaging.stats.joins > joins[i]), 8000, 'both to join anew')
  await bothUp(a, b)
  for (let i = 0; i < 10; i++) sender.send(publish('news', String(i), { qos: 1, id: i + 1 }))
  await until(() => kept.received.length === 10 && clean.packets.length === 10)
  kept.drop()
  await until(() => a.edge.stats.sessions === 1)
  sender.send(publish('news', 'offline', { qos: 1, id: 20 }))
  await until(() => sender.packets.length === 11)
  await kept.connect(b)
  await until(() => kept.received.includes('offline'))
  t.same(kept.received, [...Array.from({ length: 10 }, (_, i) => String(i)), 'offline'])
  await b.client({ secret, clientId: 'clean' })
  await clean.untilClosed()
})

t.test('a connection between node and Redis that breaks under load loses nothing of a session, and doubles nothing of QoS 2', async t => {
  if (skipWithout(t, 'redis')) return
  const { nodes, a, b } = await twoNodes(t)
  const subscribers = [1, 2].map(qos => ({ qos, subscriber: new Subscriber({ secret, clientId: `s${qos}` }) }))
  for (const { qos, subscriber } of subscribers) {
    await subscriber.connect(a)
    await subscriber.subscribe(['news/#', qos])
  }
  const sender = await b.client({ secret, clientId: 'sender' })
  const count = 1000
  for (let i = 0; i < count; i++) {
    sender.send(publish('news/1', String(i), { qos: 2, id: i + 1 }), pubrel(i + 1))
    if (i % 20 === 0) await delay(15)
    if (i % 250 === 100) await nodes.redis.call('CLIENT', 'KILL', 'TYPE', 'pubsub')
  }
  for (const { qos, subscriber } of subscribers) {
    await until(() => new Set(subscriber.received).size === count, 20_000, `all at QoS ${qos}, has ${new Set(subscriber.received).size}`)
    t.same(qos === 2 ? subscriber.received : [...new Set(subscriber.received)], Array.from({ length: count }, (_, i) => String(i)))
  }
  t.ok(a.broker.messaging.stats.joins >= 2)
  t.notOk(subscribers.some(({ subscriber }) => subscriber.client.closed))
})

t.test('a Redis that is killed and restarted with its data under load loses no acknowledged message', async t => {
  if (skipWithout(t, 'redis')) return
  const { redis, a, b } = await twoNodes(t, true)
  const kept = new Subscriber({ secret, clientId: 'kept' })
  await kept.connect(a)
  await kept.subscribe(['news/#', 1])
  const acknowledged: string[] = []
  let sent = 0
  let open = true
  const sending = (async () => {
    while (open) {
      const sender = await b.client({ secret, clientId: 'sender' }).catch(() => null)
      while (open && sender !== null && !sender.closed) {
        const payload = String(sent++)
        sender.send(publish('news/1', payload, { qos: 1, id: (sent % 60_000) + 1 }))
        const answer = await sender.next().catch(() => null)
        if (answer?.[0] === 0x40) acknowledged.push(payload)
      }
      await delay(20)
    }
  })()
  await delay(400)
  await redis.kill()
  await delay(700)
  await redis.start()
  await bothUp(a, b)
  await delay(500)
  open = false
  await sending
  await until(() => acknowledged.every(payload => kept.received.includes(payload)), 8000, 'all that was acknowledged')
  t.ok(acknowledged.length > 20, `${acknowledged.length} acknowledged, ${kept.received.length} received`)
})

t.test('a Redis that stops answering is left alone, and found again', async t => {
  if (skipWithout(t, 'redis')) return
  const { redis, a, b } = await twoNodes(t)
  const device = await a.client({ secret: deviceSecret, clientId: 'd' })
  const reader = await b.client({ secret, clientId: 'r' })
  await subscribed(reader, ['devices/+/telemetry', 0], ['news', 1])
  device.send(publish('telemetry', 'before', { qos: 1, id: 1 }))
  await until(() => device.packets.length === 1 && reader.packets.length === 1)
  redis.pause()
  try {
    for (let i = 0; i < 8; i++) {
      device.send(publish('telemetry', `t${i}`, { qos: 1, id: i + 2 }))
      await delay(900)
    }
    await until(() => device.packets.length === 9, 5000, 'telemetry to be acknowledged')
    t.notOk(a.broker.messaging.up)
    const startedMs = performance.now()
    await a.client({ secret, clientId: 'clean' })
    t.ok(performance.now() - startedMs < 1000, 'a clean session is taken in at once')
  } finally {
    redis.resume()
  }
  await bothUp(a, b)
  reader.packets.length = 0
  device.send(publish('telemetry', 'after', { qos: 1, id: 20 }))
  await until(() => payloadsOf(reader).includes('after'))
  t.notOk(device.closed)
})

interface ChildNode { readonly process: ChildProcess, readonly nodeId: string, socket (): Promise<RawClient> }

async function startChild (t: Test, url: string, prefix: string): Promise<ChildNode> {
  const child = fork(fileURLToPath(new URL('mqtt-node-server.js', import.meta.url)), [url, prefix])
  t.teardown(() => { child.kill('SIGKILL') })
  const [{ port, nodeId }] = await once(child, 'message') as [{ port: number, nodeId: string }]
  return {
    process: child,
    nodeId,
    socket: async () => {
      const client = new RawClient(connect(port, '127.0.0.1'))
      await client.connected
      t.teardown(() => { client.end() })
      return client
    }
  }
}

t.test('a node that is killed: its sessions are taken over at once, nothing acknowledged is lost, its wills are published and its interest ends within its lease', async t => {
  if (skipWithout(t, 'redis')) return
  const nodes = nodesOn(t, services().redis?.url ?? '')
  const survivor = await nodes.start({ limits: { queuedPerSessionMax: 10_000 } })
  const victim = await startChild(t, services().redis?.url ?? '', nodes.prefix)
  const watcher = await survivor.client({ secret, clientId: 'w' })
  await subscribed(watcher, ['wills/#', 1])
  const kept = new Subscriber({ secret, clientId: 'kept' })
  await kept.connect(victim)
  await kept.subscribe(['news/#', 2])
  const willing = await victim.socket()
  willing.send(connectPacket({ secret, clientId: 'willing', will: { topic: 'wills/1', payload: 'last words', qos: 1, retain: true } }))
  await willing.next()
  const polite = await victim.socket()
  polite.send(connectPacket({ secret, clientId: 'polite', will: { topic: 'wills/2', payload: 'never', qos: 1 } }))
  await polite.next()
  polite.send(disconnect)
  await polite.untilClosed()
  const sender = await survivor.client({ secret, clientId: 'sender' })
  const count = 400
  for (let i = 0; i < count; i++) {
    sender.send(publish('news/1', String(i), { qos: 2, id: i + 1 }), pubrel(i + 1))
    if (i % 20 === 0) await delay(5)
    if (i === 200) victim.process.kill('SIGKILL')
  }
  const killedMs = performance.now()
  await kept.client.untilClosed()
  t.equal(await kept.connect(survivor), 0)
  t.ok(performance.now() - killedMs < 900, `taken over after ${Math.round(performance.now() - killedMs)} ms`)
  await until(() => kept.received.length >= count, 10_000, 'all messages')
  t.same(kept.received, Array.from({ length: count }, (_, i) => String(i)), 'nothing lost, nothing twice')
  await until(() => watcher.packets.length > 0, 12_000, 'the will')
  t.ok(performance.now() - killedMs < 10_000, `the will came after ${Math.round(performance.now() - killedMs)} ms`)
  t.same(payloadsOf(watcher), ['last words'])
  await until(() => survivor.broker.messaging.stats.peers === 0, 5000, 'the dead node to be forgotten')
  t.equal(survivor.broker.messaging.stats.peerFilters, 0)
  await delay(300)
  t.equal(await nodes.redis.hget(`${nodes.prefix}:b{acme}:o`, 'acme/~c-application/willing'), null, 'nothing of it is left')
  t.equal(await nodes.redis.exists(`${nodes.prefix}:b{nodes}:i:${victim.nodeId}`, `${nodes.prefix}:b{acme}:w:${victim.nodeId}`), 0)
})

t.test('two processes serve one fleet: the same in both directions', async t => {
  if (skipWithout(t, 'redis')) return
  const nodes = nodesOn(t, services().redis?.url ?? '')
  const children = [await startChild(t, services().redis?.url ?? '', nodes.prefix), await startChild(t, services().redis?.url ?? '', nodes.prefix)]
  const clients = await Promise.all(children.map(async (child, i) => {
    const client = await child.socket()
    client.send(connectPacket({ secret, clientId: `c${i}` }))
    await client.next()
    await subscribed(client, ['all/#', 1])
    return client
  }))
  for (const [i, client] of clients.entries()) for (let n = 0; n < 20; n++) client.send(publish(`all/${i}`, `${i}-${n}`, { qos: n % 2, id: n + 1 }))
  for (const client of clients) {
    await until(() => payloadsOf(client).length === 40)
    for (const i of [0, 1]) for (const parity of [0, 1]) {
      const own = payloadsOf(client).filter(each => each.startsWith(`${i}-`) && Number(each.slice(2)) % 2 === parity)
      t.same(own, Array.from({ length: 10 }, (_, n) => `${i}-${2 * n + parity}`))
    }
  }
})
