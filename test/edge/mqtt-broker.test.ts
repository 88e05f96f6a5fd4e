/** Plain publish and subscribe through the stage: tenants, sessions, retained messages, wills, slow readers. */
import t from 'tap'
import memoryPersistence from 'aedes-persistence'
import { mqttOutboundBytesMax, mqttSubscriptionsPerSessionMax } from '../../src/core/limits.js'
import { TwinfoldError } from '../../src/core/errors.js'
import { connectPacket, disconnect, packet, puback, publish, publishesIn, pubcomp, pubrec, pubrel, startStage, subscribe, unsubscribe, until, type RawClient, type Stage } from './mqtt-harness.js'

const application = (stage: Stage, tenant = 'acme'): string => stage.registry.credential('application', tenant)

async function subscribed (client: RawClient, ...filters: [string, number][]): Promise<void> {
  client.send(subscribe(1, ...filters))
  const answer = await client.next()
  if (answer[0] !== 0x90) throw new Error(`SUBACK expected, got ${answer.toString('hex')}`)
}

t.test('two tenants with the same client id and # see nothing of each other (INVARIANTS 7)', async t => {
  const stage = await startStage(t)
  const clients = await Promise.all(['acme', 'beta'].map(async tenant => stage.client({ secret: application(stage, tenant), clientId: 'same', clean: false })))
  t.notOk(clients.some(client => client.closed), 'equal client ids of two tenants do not evict each other')
  for (const client of clients) await subscribed(client, ['#', 1], ['+/+', 1])
  for (const [i, client] of clients.entries()) {
    client.send(publish('a/b', `from ${i}`, { qos: 1, id: 5 }), publish('kept', `from ${i}`, { qos: 1, id: 6, retain: true }), publish('beta/a', `from ${i}`, { qos: 1, id: 7 }))
  }
  for (const [i, client] of clients.entries()) {
    await until(() => client.packets.length >= 6)
    const seen = publishesIn(Buffer.concat(await client.settle().then(packets => packets)))
    t.same(seen.map(each => each.payload), [`from ${i}`, `from ${i}`, `from ${i}`])
    t.same(seen.map(each => each.topic).sort(), ['a/b', 'beta/a', 'kept'], 'topics are relative to the tenant')
  }
  const late = await stage.client({ secret: application(stage, 'beta'), clientId: 'late' })
  await subscribed(late, ['#', 0])
  t.same(publishesIn(await late.next()), [{ topic: 'kept', payload: 'from 1', qos: 0, retain: true, packetId: 0 }])
  t.same(await late.settle(), [])
})

t.test('equal client ids of two principals of a tenant live side by side; the same principal takes over', async t => {
  const stage = await startStage(t)
  const first = await stage.client({ secret: stage.registry.device('acme', 'd1'), clientId: 'x' })
  const second = await stage.client({ secret: stage.registry.device('acme', 'd2'), clientId: 'x' })
  const third = await stage.client({ secret: stage.registry.device('acme', 'd2'), clientId: 'x' })
  await second.untilClosed()
  t.notOk(first.closed)
  t.same(await third.settle(), [])
})

t.test('connections that end while the broker registers them leave nothing behind', async t => {
  const stored = (memoryPersistence as unknown as () => { broker: { clients: object }, subscriptionsByClient(client: unknown): Promise<unknown> })()
  const look = stored.subscriptionsByClient.bind(stored)
  let open: () => void = () => {}
  const gate = new Promise<void>(resolve => { open = resolve })
  let asked = 0
  stored.subscriptionsByClient = async client => { asked++; await gate; return await look(client) }
  const stage = await startStage(t, { persistence: stored })
  const clients = await Promise.all(Array.from({ length: 10 }, async () => stage.socket()))
  for (const [i, client] of clients.entries()) client.send(connectPacket({ secret: application(stage), clientId: `c${i}`, clean: false, will: { topic: 'gone', payload: `${i}`, retain: true } }))
  await until(() => asked === 10)
  for (const client of clients) client.end()
  await until(() => stage.edge.stats.connections === 0)
  open()
  const witness = await stage.client({ secret: application(stage), clientId: 'witness' })
  await until(() => Object.keys(stored.broker.clients).length === 1)
  t.same(Object.keys(stored.broker.clients), ['acme/~c-application/witness'])
  t.same(await witness.settle(), [])
})

t.test('a device subscribes under its own name only', async t => {
  const stage = await startStage(t)
  const device = await stage.client({ secret: stage.registry.device('acme', 'd1') })
  device.send(subscribe(1, ['devices/d1/commands/+/request/+', 1], ['#', 1], ['devices/d2/#', 0], ['devices/+/twin/delta', 0], ['devices/d1/#', 2]))
  t.same(await device.next(), packet(0x90, Buffer.from([0, 1, 1, 0x80, 0x80, 0x80, 2])))
  await stage.edge.publish('acme', 'devices/d1/commands/reboot/request/7', Buffer.from('now'), { qos: 1, retain: false })
  await stage.edge.publish('acme', 'devices/d2/commands/reboot/request/8', Buffer.from('now'), { qos: 1, retain: false })
  t.match(publishesIn(await device.next()), [{ topic: 'devices/d1/commands/reboot/request/7', payload: 'now', qos: 1 }])
  t.same(await device.settle(), [])
  t.equal(stage.edge.stats.refused.get('filter_forbidden'), 3)
})

t.test('a message is delivered at the lower of its QoS and the granted one', async t => {
  const stage = await startStage(t)
  const sender = await stage.client({ secret: application(stage), clientId: 's' })
  sender.send(publish('a/r', 'r', { qos: 1, id: 1, retain: true }))
  await sender.next()
  const got: Record<string, number[]> = {}
  const readers = new Map<string, RawClient>()
  for (const granted of [0, 1, 2]) {
    for (const filter of ['a/+', 'a/x', '#']) {
      const name = `${filter} ${granted}`
      const reader = await stage.client({ secret: application(stage), clientId: name })
      await subscribed(reader, [filter, granted])
      readers.set(name, reader)
      got[name] = []
    }
  }
  for (const qos of [0, 1, 2]) {
    sender.send(publish('a/x', 'x', { qos, id: 10 + qos }))
    if (qos > 0) await sender.next()
  }
  for (const [name, reader] of readers) {
    const granted = Number(name.at(-1))
    const retained = name.startsWith('a/x') ? 0 : 1
    await until(() => reader.packets.length === 3 + retained)
    const seen = publishesIn(Buffer.concat(reader.packets))
    t.same(seen.map(each => each.qos), [...retained === 1 ? [Math.min(1, granted)] : [], 0, Math.min(1, granted), granted], name)
  }
})

t.test('overlapping subscriptions deliver a message once, at the greatest QoS granted [MQTT-3.3.5-1]', async t => {
  const stage = await startStage(t)
  const sender = await stage.client({ secret: application(stage), clientId: 's' })
  for (const clean of [true, false]) {
    const options = { secret: application(stage), clientId: `r${String(clean)}`, clean }
    const reader = await stage.client(options)
    await subscribed(reader, ['#', 0], ['a/#', 1], ['a/+', 0], ['+/b', 2], ['a/b/#', 1])
    sender.send(publish('a/b', '2', { qos: 2, id: 1 }), pubrel(1), publish('a/c', '1', { qos: 2, id: 2 }), pubrel(2), publish('b', '0', { qos: 2, id: 3 }), pubrel(3), publish('a/b', '1b', { qos: 1, id: 4 }))
    await sender.take(7)
    const seen = publishesIn(Buffer.concat(await reader.settle()))
    t.same(seen.map(each => [each.payload, each.qos]).sort(), [['0', 0], ['1', 1], ['1b', 1], ['2', 2]])
    for (const { packetId, qos } of seen) {
      if (qos === 1) reader.send(puback(packetId))
      if (qos === 2) reader.send(pubrec(packetId))
    }
    const [released] = await reader.settle()
    reader.send(pubcomp(released.readUInt16BE(2)))
    t.same(await reader.settle(), [])
    reader.end()
    await until(() => stage.edge.stats.connections === 1)
    const again = await stage.client(options)
    t.same(await again.settle(), [], 'nothing is left in the queue')
    again.end()
    await until(() => stage.edge.stats.connections === 1)
  }
})

t.test('a message that waits for a store is not lost when others overtake it', async t => {
  const stage = await startStage(t)
  const reader = await stage.client({ secret: application(stage), clientId: 'r' })
  await subscribed(reader, ['#', 1])
  const senders = await Promise.all([0, 1, 2, 3].map(async i => stage.client({ secret: application(stage), clientId: `s${i}` })))
  const rounds = 50
  for (let id = 1; id <= rounds; id++) {
    for (const [i, sender] of senders.entries()) sender.send(publish(`t${i}`, `${id}`, { qos: i % 2, id, retain: i > 1 }))
  }
  await until(() => reader.packets.length === 4 * rounds)
  for (const i of senders.keys()) {
    const seen = publishesIn(Buffer.concat(reader.packets)).filter(message => message.topic === `t${i}`)
    t.same(seen.map(message => message.payload), Array.from({ length: rounds }, (_, id) => `${id + 1}`), `all of t${i}, in order`)
  }
})

t.test('a persistent session keeps subscriptions and messages of QoS 1 and 2 while it is away', async t => {
  const stage = await startStage(t)
  const options = { secret: application(stage), clientId: 'p', clean: false }
  const first = await stage.client(options)
  await subscribed(first, ['news/#', 2])
  first.send(disconnect)
  await first.untilClosed()
  const sender = await stage.client({ secret: application(stage), clientId: 's' })
  sender.send(publish('news/1', 'one', { qos: 1, id: 1 }), publish('news/2', 'two', { qos: 2, id: 2 }), publish('news/3', 'lost', { qos: 0 }), publish('news/4', 'four', { qos: 1, id: 3 }))
  t.same(await sender.take(3), Buffer.concat([puback(1), pubrec(2), puback(3)]))
  const second = await stage.socket()
  second.send(connectPacket(options))
  t.same(await second.next(), Buffer.from([0x20, 2, 1, 0]), 'session present')
  const queued = publishesIn(await second.take(3))
  t.same(queued.map(each => [each.topic, each.payload, each.qos]), [['news/1', 'one', 1], ['news/2', 'two', 2], ['news/4', 'four', 1]])
  second.send(puback(queued[0].packetId), pubrec(queued[1].packetId))
  t.same(await second.next(), pubrel(queued[1].packetId))
  second.send(pubcomp(queued[1].packetId))
  t.same(await second.settle(), [])
  second.end()
  await until(() => stage.edge.stats.connections === 1)
  const third = await stage.socket()
  third.send(connectPacket(options))
  t.same(await third.next(), Buffer.from([0x20, 2, 1, 0]))
  t.same(publishesIn(await third.next()).map(each => each.payload), ['four'], 'what was not acknowledged comes again, and only that')
  const clean = await stage.socket()
  clean.send(connectPacket({ ...options, clean: true }))
  t.same(await clean.next(), Buffer.from([0x20, 2, 0, 0]))
  await third.untilClosed()
  sender.send(publish('news/5', 'five', { qos: 1, id: 4 }))
  await sender.next()
  t.same(await clean.settle(), [], 'a clean session starts with nothing')
})

t.test('a long queue is replayed as fast as its session acknowledges, whatever the outbound bound', async t => {
  const stage = await startStage(t)
  const options = { secret: application(stage), clientId: 'p', clean: false }
  const first = await stage.client(options)
  await subscribed(first, ['news', 1])
  first.end()
  const sender = await stage.client({ secret: application(stage), clientId: 's' })
  const payload = Buffer.alloc(8192, 1)
  const count = Math.ceil(2 * mqttOutboundBytesMax / payload.length)
  for (let i = 0; i < count; i++) sender.send(publish('news', payload, { qos: 1, id: i + 1 }))
  await until(() => sender.packets.length === count)
  const second = await stage.socket()
  second.send(connectPacket(options))
  await second.next()
  second.socket.pause()
  await until(() => stage.edge.stats.sessions === 2)
  await sender.settle()
  second.socket.resume()
  const seen = new Set<number>()
  while (seen.size < count) {
    const [message] = publishesIn(await second.next())
    seen.add(message.packetId)
    second.send(puback(message.packetId))
  }
  t.equal(stage.edge.stats.slowClosed, 0)
  t.notOk(second.closed)
})

t.test('many retained messages reach a new subscription, however slowly it reads', async t => {
  const stage = await startStage(t)
  const payload = Buffer.alloc(16_384, 1)
  const count = Math.ceil(1.5 * mqttOutboundBytesMax / payload.length)
  for (let i = 0; i < count; i++) await stage.edge.publish('acme', `kept/${i}`, payload, { qos: 0, retain: true })
  const reader = await stage.client({ secret: application(stage) })
  reader.send(subscribe(1, ['kept/#', 0]))
  await reader.next()
  reader.socket.pause()
  const other = await stage.client({ secret: application(stage), clientId: 'o' })
  await other.settle()
  reader.socket.resume()
  await until(() => reader.packets.length === count, 8000)
  t.equal(stage.edge.stats.droppedQos0, 0)
})

t.test('a frozen subscriber delays nobody: QoS 0 is dropped, QoS 1 closes it, its session keeps QoS 1', async t => {
  const stage = await startStage(t)
  const frozen = await stage.client({ secret: application(stage), clientId: 'frozen', clean: false })
  const reader = await stage.client({ secret: application(stage), clientId: 'reader' })
  await subscribed(frozen, ['#', 1])
  await subscribed(reader, ['#', 1])
  frozen.socket.pause()
  const sender = await stage.client({ secret: application(stage), clientId: 'sender' })
  const payload = Buffer.alloc(100_000, 1)
  const flood = 300
  for (let i = 0; i < flood; i++) {
    sender.send(publish('flood', payload))
    if (i % 20 === 19) await sender.settle()
    await until(() => reader.packets.length === i + 1)
  }
  t.notOk(frozen.closed)
  t.ok(stage.edge.stats.droppedQos0 > 100, `${stage.edge.stats.droppedQos0} dropped`)
  t.equal(publishesIn(Buffer.concat(reader.packets)).length, flood, 'the other subscriber got everything')
  reader.packets.length = 0
  let sent = 0
  while (stage.edge.stats.slowClosed === 0 && sent < 200) {
    sender.send(publish('vital', payload, { qos: 1, id: ++sent }))
    t.equal((await sender.next())[0], 0x40)
  }
  t.equal(stage.edge.stats.slowClosed, 1)
  await until(() => reader.packets.length === sent)
  frozen.end()
  const back = await stage.socket()
  back.send(connectPacket({ secret: application(stage), clientId: 'frozen', clean: false }))
  await back.next()
  let got = 0
  while (got < sent) {
    const [message] = publishesIn(await back.next())
    if (message.topic !== 'vital') continue
    got++
    back.send(puback(message.packetId))
  }
  t.equal(got, sent, 'nothing of QoS 1 is lost')
})

t.test('a client that takes nothing for a while is closed', async t => {
  const stage = await startStage(t)
  const frozen = await stage.client({ secret: application(stage), clientId: 'frozen' })
  await subscribed(frozen, ['#', 0])
  frozen.socket.pause()
  for (let i = 0; i < 100; i++) await stage.edge.publish('acme', 'flood', Buffer.alloc(100_000), { qos: 0, retain: false })
  await until(() => stage.edge.stats.droppedQos0 > 0)
  for (let tick = 0; tick < 61; tick++) stage.edge.advance()
  await until(() => stage.edge.stats.connections === 0)
  t.equal(stage.edge.stats.closed.get('outbound_stalled'), 1)
})

t.test('a client that never acknowledges is closed when it owes too many', async t => {
  const stage = await startStage(t)
  const lazy = await stage.client({ secret: application(stage) })
  await subscribed(lazy, ['#', 1])
  const packetIds = 16_384
  for (let i = 0; i <= packetIds; i += 512) {
    await Promise.all(Array.from({ length: 512 }, () => stage.edge.publish('acme', 'x', Buffer.from('y'), { qos: 1, retain: false })))
  }
  await lazy.untilClosed()
  t.equal(stage.edge.stats.closed.get('unacknowledged'), 1)
})

t.test('a will fires when the connection is lost, not after DISCONNECT', async t => {
  const stage = await startStage(t)
  const watcher = await stage.client({ secret: application(stage), clientId: 'w' })
  await subscribed(watcher, ['#', 1])
  const device = stage.registry.device('acme', 'd1')
  const will = { topic: 'devices/d1/events/lost', payload: 'bye', qos: 1, retain: true }
  const polite = await stage.client({ secret: device, clientId: 'a', will })
  polite.send(disconnect)
  await polite.untilClosed()
  const lost = await stage.client({ secret: device, clientId: 'b', will })
  lost.end()
  t.match(publishesIn(await watcher.next()), [{ topic: 'devices/d1/events/lost', payload: 'bye', qos: 1 }])
  const broken = await stage.client({ secret: device, clientId: 'c', will: { ...will, payload: 'malformed', retain: false } })
  broken.send(Buffer.from([0xf0, 0]))
  t.match(publishesIn(await watcher.next()), [{ payload: 'malformed' }])
  const late = await stage.client({ secret: application(stage), clientId: 'late' })
  await subscribed(late, ['#', 0])
  t.match(publishesIn(await late.next()), [{ topic: 'devices/d1/events/lost', payload: 'bye', retain: true }], 'it is kept where the will says so')
  t.same(await watcher.settle(), [])
})

t.test('SUBSCRIBE, UNSUBSCRIBE and publishes of one read take effect in their order', async t => {
  const stage = await startStage(t)
  const client = await stage.client({ secret: application(stage) })
  client.send(
    publish('a', 'too early'), publish('kept', 'kept', { retain: true }),
    subscribe(1, ['a', 0], ['kept', 0]), publish('a', 'heard'), publish('a', 'heard too', { qos: 1, id: 2 }),
    unsubscribe(3, 'a'), publish('a', 'too late'), publish('a', 'too late', { qos: 1, id: 4 })
  )
  await until(() => client.packets.some(each => each.equals(puback(4))))
  const seen = publishesIn(Buffer.concat(await client.settle()))
  t.same(seen.map(each => each.payload).sort(), ['heard', 'heard too', 'kept'])
})

t.test('a session has a limit of subscriptions', async t => {
  const stage = await startStage(t)
  const client = await stage.client({ secret: application(stage) })
  for (let from = 0; from < mqttSubscriptionsPerSessionMax; from += 100) {
    client.send(subscribe(1, ...Array.from({ length: 100 }, (_, i) => [`f/${from + i}`, 0] as const)))
    t.notOk((await client.next()).subarray(4).includes(0x80))
  }
  client.send(subscribe(2, ['f/over', 0]))
  t.same(await client.next(), packet(0x90, Buffer.from([0, 2, 0x80])))
  t.equal(stage.edge.stats.refused.get('subscriptions_max'), 1)
})

t.test('a publish that the broker cannot store is not acknowledged: the connection is closed', async t => {
  for (const method of ['storeRetained', 'subscriptionsByTopic', 'outgoingEnqueueCombi', 'incomingStorePacket']) {
    const stored = (memoryPersistence as unknown as () => Record<string, unknown>)()
    const stage = await startStage(t, { persistence: stored })
    const client = await stage.client({ secret: application(stage), clean: false })
    await subscribed(client, ['a', 1])
    stored[method] = () => Promise.reject(new Error('the disk is gone'))
    const qos = method === 'incomingStorePacket' ? 2 : 1
    client.send(publish('a', 'x', { qos, id: 1, retain: method === 'storeRetained' }))
    await client.untilClosed()
    t.same(client.packets.filter(each => each[0] === 0x40 || each[0] === 0x50), [], method)
    t.equal(stage.edge.stats.closed.get('broker_failed'), 1, method)
  }
})

t.test('an address that cannot be had fails the opening and leaves nothing open', async t => {
  const stage = await startStage(t)
  await t.rejects(startStage(t, { port: stage.edge.port }), { code: 'EADDRINUSE' })
})

t.test('the server publishes, and closes whom it is told to', async t => {
  const stage = await startStage(t)
  const first = await stage.client({ secret: stage.registry.device('acme', 'd1'), clientId: 'x' })
  const second = await stage.client({ secret: stage.registry.device('acme', 'd2'), clientId: 'x' })
  await subscribed(first, ['devices/d1/twin/delta', 1])
  await stage.edge.publish('acme', 'devices/d1/twin/delta', Buffer.from('{}'), { qos: 1, retain: false })
  t.match(publishesIn(await first.next()), [{ topic: 'devices/d1/twin/delta', payload: '{}', qos: 1 }])
  for (const topic of ['', 'a/+', '#', 'a\0b']) await t.rejects(stage.edge.publish('acme', topic, Buffer.from(''), { qos: 0, retain: false }), { code: 'invalid_request' })
  t.equal(stage.edge.disconnect(principal => principal.device === 'd1'), 1)
  await first.untilClosed()
  t.same(await second.settle(), [])
  await stage.edge.close()
  await t.rejects(stage.edge.publish('acme', 'a', Buffer.from(''), { qos: 0, retain: false }), new TwinfoldError('not_ready', 'the MQTT edge is not open'))
})
