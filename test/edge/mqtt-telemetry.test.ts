/** Telemetry from the socket to the journal: durability before the acknowledgement, order, bounds, pressure, access. */
import t from 'tap'
import memoryPersistence from 'aedes-persistence'
import { TwinfoldError } from '../../src/core/errors.js'
import { mqttInflightMax } from '../../src/core/limits.js'
import { RecordFlags } from '../../src/journal/record.js'
import { connectPacket, packetsIn, pingreq, puback, pubcomp, publish, publishesIn, pubrec, pubrel, startStage, subscribe, until } from './mqtt-harness.js'

t.test('telemetry is acknowledged after the commit, never before (INVARIANTS 1)', async t => {
  const stage = await startStage(t)
  const { journal, edge } = stage
  const client = await stage.client({ secret: stage.registry.device('acme', 'd1') })
  journal.automatic = false
  client.send(publish('telemetry', '{"a":1}', { qos: 1, id: 1 }), publish('devices/d1/telemetry', '{"a":2}', { qos: 1, id: 2 }), publish('telemetry', '{"a":3}'))
  await until(() => journal.records.length === 1)
  t.same(await client.settle(), [], 'nothing is acknowledged while the record is not durable')
  t.match(journal.records, [{ identity: { tenant: 'acme', device: 'd1' }, messages: 3, flags: 0 }], 'neighbours are one record, as they were received')
  t.same(publishesIn(journal.records[0].body).map(each => each.payload), ['{"a":1}', '{"a":2}', '{"a":3}'])
  journal.commit()
  t.same(await client.take(2), Buffer.concat([puback(1), puback(2)]))
  t.match(edge.stats, { publishes: 3, telemetryMessages: 3, journalRecords: 1, acks: 2 })
  t.equal(edge.stats.ackLatencyCounts.reduce((sum, count) => sum + count), 3)
})

t.test('a record that fails is never acknowledged: the connection is closed', async t => {
  const stage = await startStage(t)
  const { journal } = stage
  const secret = stage.registry.device('acme', 'd1')
  const client = await stage.client({ secret })
  journal.automatic = false
  client.send(publish('telemetry', '{"a":1}', { qos: 1, id: 1 }))
  await until(() => journal.waiting === 1)
  journal.fail()
  await client.untilClosed()
  t.same(client.packets, [])
  t.equal(stage.edge.stats.closed.get('journal_unavailable'), 1)
  journal.refusal = new TwinfoldError('journal_full', 'at its bound')
  const second = await stage.client({ secret })
  second.send(publish('telemetry', '{"a":1}', { qos: 1, id: 1 }), publish('telemetry', '{"a":1}', { qos: 1, id: 2 }))
  await second.untilClosed()
  t.same(second.packets, [])
})

t.test('a connection that is gone when its record commits harms nobody', async t => {
  const stage = await startStage(t)
  const { journal } = stage
  const secret = stage.registry.device('acme', 'd1')
  const client = await stage.client({ secret })
  journal.automatic = false
  client.send(publish('telemetry', '{"a":1}', { qos: 1, id: 1 }))
  await until(() => journal.waiting === 1)
  client.end()
  await until(() => stage.edge.stats.connections === 0)
  journal.commit()
  journal.automatic = true
  const next = await stage.client({ secret })
  next.send(publish('telemetry', '{"a":2}', { qos: 1, id: 1 }))
  t.same(await next.next(), puback(1))
})

t.test('acknowledgements leave in the order of the publishes, whatever each waits for [MQTT-4.6.0-2]', async t => {
  const stage = await startStage(t)
  const { journal } = stage
  const client = await stage.client({ secret: stage.registry.device('acme', 'd1') })
  journal.automatic = false
  client.send(
    publish('telemetry', '1', { qos: 1, id: 1 }),
    publish('devices/d1/events/door', 'open', { qos: 1, id: 2 }),
    publish('devices/d2/telemetry', 'refused', { qos: 1, id: 3 }),
    publish('telemetry', '2', { qos: 2, id: 4 }),
    publish('telemetry', '3', { qos: 1, id: 5 }),
    publish('devices/d1/events/door', 'shut', { qos: 2, id: 6 }),
    publish('devices/d1/twin/get', '', { qos: 1, id: 7, retain: true }),
    publish('telemetry', '4', { qos: 1, id: 8 })
  )
  await until(() => journal.waiting === 5)
  t.same(publishesIn(Buffer.concat(await client.settle())).map(({ topic }) => topic), ['devices/d1/twin/get/rejected'], 'no acknowledgement: what needs no journal waits behind what does')
  journal.commit(2)
  t.same(await client.take(3), Buffer.concat([puback(1), puback(2), puback(3)]))
  journal.commit()
  t.same(await client.take(5), Buffer.concat([pubrec(4), puback(5), pubrec(6), puback(7), puback(8)]))
  t.match(stage.refused, [{ tenant: 'acme', device: 'd2', topic: 'devices/d2/telemetry', reason: 'device_unknown' }])
  t.same(journal.messages().map(message => message.payload), ['1', 'open', '2', '3', 'shut', '4'])
})

t.test('QoS 2 telemetry of a clean session: PUBREC after the commit, a repeat within the exchange is not taken twice', async t => {
  const stage = await startStage(t)
  const { journal } = stage
  const client = await stage.client({ secret: stage.registry.device('acme', 'd1') })
  journal.automatic = false
  client.send(publish('telemetry', '1', { qos: 2, id: 9 }))
  await until(() => journal.waiting === 1)
  t.same(await client.settle(), [])
  journal.commit()
  t.same(await client.next(), pubrec(9))
  client.send(publish('telemetry', '1', { qos: 2, id: 9, dup: true }))
  t.same(await client.next(), pubrec(9))
  client.send(pubrel(9))
  t.same(await client.next(), pubcomp(9))
  client.send(publish('telemetry', '2', { qos: 2, id: 9 }))
  await until(() => journal.waiting === 1)
  journal.commit()
  t.same(await client.next(), pubrec(9))
  t.same(journal.messages().map(message => message.payload), ['1', '2'])
})

t.test('QoS 2 of a persistent session survives the connection: the repeat on the next one is not taken twice', async t => {
  const stage = await startStage(t)
  const { journal } = stage
  const secret = stage.registry.credential('application', 'acme')
  stage.registry.device('acme', 'd1')
  const watcher = await stage.client({ secret, clientId: 'watcher' })
  watcher.send(subscribe(1, ['#', 2]))
  await watcher.next()
  const client = await stage.client({ secret, clean: false })
  client.send(publish('devices/d1/telemetry', 't', { qos: 2, id: 1 }), publish('chat', 'c', { qos: 2, id: 2 }))
  t.same(await client.take(2), Buffer.concat([pubrec(1), pubrec(2)]))
  client.end()
  const again = await stage.client({ secret, clean: false })
  again.send(publish('devices/d1/telemetry', 't', { qos: 2, id: 1, dup: true }), publish('chat', 'c', { qos: 2, id: 2, dup: true }))
  t.same(await again.take(2), Buffer.concat([pubrec(1), pubrec(2)]))
  again.send(pubrel(1), pubrel(2))
  t.same(await again.take(2), Buffer.concat([pubcomp(1), pubcomp(2)]))
  t.equal(journal.messages().length, 1)
  again.send(publish('chat', 'end', { qos: 2, id: 2 }))
  t.same(await again.next(), pubrec(2))
  await until(() => watcher.packets.length >= 3)
  t.same(publishesIn(Buffer.concat(watcher.packets)).map(each => each.payload), ['t', 'c', 'end'])
})

t.test('too much in flight pauses the socket, acknowledgements resume it, nothing is lost', async t => {
  const stage = await startStage(t)
  const { journal } = stage
  const client = await stage.client({ secret: stage.registry.device('acme', 'd1') })
  journal.automatic = false
  const total = 60_000
  const payload = Buffer.alloc(200, 0x20)
  for (let id = 1; id <= total; id++) client.socket.write(publish('telemetry', payload, { qos: 1, id }))
  const inFlight = (): number => journal.records.reduce((sum, record) => sum + record.messages, 0)
  await until(() => inFlight() >= mqttInflightMax)
  let before = -1
  // Reading has stopped when nothing comes any more over several turns of the loop.
  for (let same = 0; same < 20;) {
    await new Promise(resolve => { setImmediate(resolve) })
    same = inFlight() === before ? same + 1 : 0
    before = inFlight()
  }
  // The read that crossed the limit, and one that the socket had read ahead, count on top.
  const perRead = 65_536 / publish('telemetry', payload, { qos: 1 }).length
  t.ok(inFlight() <= mqttInflightMax + 3 * perRead, `${inFlight()} in flight`)
  journal.automatic = true
  journal.commit()
  await until(() => client.packets.length === total, 8000)
  client.packets.forEach((ack, i) => { if (!ack.equals(puback(i + 1))) t.fail(`acknowledgement ${i} is ${ack.toString('hex')}`) })
  t.equal(inFlight(), total)
})

t.test('pressure slows senders of telemetry, and nobody is disconnected (INVARIANTS 10)', async t => {
  const stage = await startStage(t)
  const { journal, pressure } = stage
  const device = await stage.client({ secret: stage.registry.device('acme', 'd1'), keepAlive: 2 })
  const other = await stage.client({ secret: stage.registry.credential('application', 'acme'), clientId: 'other' })
  pressure.set('slow')
  device.send(publish('telemetry', '1', { qos: 1, id: 1 }))
  t.same(await device.next(), puback(1), 'the read at hand is taken')
  device.send(publish('telemetry', '2', { qos: 1, id: 2 }), pingreq)
  other.send(publish('chat', 'x', { qos: 1, id: 1 }))
  t.same(await other.next(), puback(1), 'who sends no telemetry is not slowed')
  for (let tick = 0; tick < 100; tick++) stage.edge.advance()
  t.notOk(device.closed, 'a connection that we do not read does not miss its keep-alive')
  t.equal(journal.messages().length, 1)
  t.equal(pressure.waiting, 1)
  pressure.set('open')
  t.same(await device.next(), Buffer.from([0xd0, 0]))
  t.same(await device.next(), puback(2))
  t.equal(stage.edge.stats.closed.size, 0)
  pressure.set('refuse')
  const late = await stage.socket()
  late.send(connectPacket({ secret: stage.registry.device('acme', 'd2') }))
  t.same(await late.next(), Buffer.from([0x20, 2, 0, 3]), 'a new connection is asked to come later')
})

t.test('connections that end while they are slowed are forgotten', async t => {
  const stage = await startStage(t)
  stage.pressure.set('slow')
  const secret = stage.registry.device('acme', 'd1')
  for (let i = 0; i < 5; i++) {
    const client = await stage.client({ secret })
    client.send(publish('telemetry', '1', { qos: 1, id: 1 }))
    t.same(await client.next(), puback(1))
    client.end()
  }
  const last = await stage.client({ secret })
  stage.pressure.set('open')
  last.send(publish('telemetry', '1', { qos: 1, id: 1 }))
  t.same(await last.next(), puback(1))
})

t.test('a gateway speaks for its registered devices and for no other', async t => {
  const stage = await startStage(t)
  const { registry, journal, edge } = stage
  const secret = registry.device('acme', 'gw')
  registry.device('acme', 'child1', 'gw')
  registry.device('acme', 'child2', 'gw')
  registry.device('acme', 'stranger', 'othergw')
  registry.device('beta', 'child3', 'gw')
  const gateway = await stage.client({ secret })
  const watcher = await stage.client({ secret: registry.credential('application', 'acme'), clientId: 'w' })
  watcher.send(subscribe(1, ['devices/+/events/#', 0]))
  await watcher.next()
  gateway.send(
    publish('devices/child1/telemetry', '1', { qos: 1, id: 1 }),
    publish('devices/child2/telemetry', '2', { qos: 1, id: 2 }),
    publish('devices/stranger/telemetry', 'no', { qos: 1, id: 3 }),
    publish('devices/child3/telemetry', 'no', { qos: 1, id: 4 }),
    publish('devices/nobody/telemetry', 'no', { qos: 1, id: 5 }),
    publish('devices/child1/events/door', 'open', { qos: 1, id: 6 }),
    publish('devices/stranger/events/door', 'no', { qos: 1, id: 7 }),
    publish('telemetry', 'own', { qos: 1, id: 8 })
  )
  t.same(await gateway.take(8), Buffer.concat([1, 2, 3, 4, 5, 6, 7, 8].map(puback)), 'all are acknowledged, in order')
  t.same(journal.messages().map(message => [message.topic, message.payload]), [['devices/child1/telemetry', '1'], ['devices/child2/telemetry', '2'], ['devices/child1/events/door', 'open'], ['telemetry', 'own']])
  t.ok(journal.records.filter(record => record.body.includes('child')).every(record => record.flags === RecordFlags.gateway))
  t.equal(journal.records.at(-1)?.flags, 0)
  t.same(stage.refused.map(message => [message.topic, message.reason, message.payload.toString()]), [
    ['devices/stranger/telemetry', 'device_forbidden', 'no'],
    ['devices/child3/telemetry', 'device_unknown', 'no'],
    ['devices/nobody/telemetry', 'device_unknown', 'no'],
    ['devices/stranger/events/door', 'device_forbidden', 'no']
  ])
  t.equal(edge.stats.refused.get('device_forbidden'), 2)
  t.same(publishesIn(await watcher.next()).map(each => each.topic), ['devices/child1/events/door'])
  const lookups = registry.deviceLookups
  gateway.send(publish('devices/child1/telemetry', '1', { qos: 1, id: 1 }), publish('devices/stranger/telemetry', 'no', { qos: 1, id: 2 }))
  t.same(await gateway.take(2), Buffer.concat([puback(1), puback(2)]))
  t.equal(registry.deviceLookups, lookups, 'answers are kept')
})

t.test('an application sends telemetry for devices that exist; a viewer sends nothing', async t => {
  const stage = await startStage(t)
  stage.registry.device('acme', 'd1')
  const application = await stage.client({ secret: stage.registry.credential('application', 'acme') })
  application.send(publish('devices/d1/telemetry', '1', { qos: 1, id: 1 }), publish('devices/d9/telemetry', '2', { qos: 1, id: 2 }), publish('telemetry', '3', { qos: 1, id: 3 }), publish('$SYS/x', '4', { qos: 1, id: 4 }))
  t.same(await application.take(4), Buffer.concat([1, 2, 3, 4].map(puback)))
  t.match(stage.journal.records, [{ identity: { tenant: 'acme', device: '' }, flags: RecordFlags.gateway, messages: 1 }])
  t.same(stage.refused.map(message => [message.topic, message.reason]), [['devices/d9/telemetry', 'device_unknown'], ['telemetry', 'topic_invalid'], ['$SYS/x', 'topic_invalid']])
  const viewer = await stage.client({ secret: stage.registry.credential('viewer', 'acme'), clientId: 'v' })
  viewer.send(publish('devices/d1/telemetry', '1', { qos: 1, id: 1 }), publish('chat', '1', { qos: 1, id: 2 }))
  t.same(await viewer.take(2), Buffer.concat([puback(1), puback(2)]))
  t.equal(stage.journal.messages().length, 1)
  t.equal(stage.edge.stats.refused.get('topic_invalid'), 4)
})

t.test('a topic beyond our limits is refused, the connection stays', async t => {
  const stage = await startStage(t)
  const client = await stage.client({ secret: stage.registry.credential('application', 'acme') })
  client.send(publish('a/'.repeat(16) + 'a', 'x', { qos: 1, id: 1 }), publish('a'.repeat(1025), 'x', { qos: 1, id: 2 }), publish('a'.repeat(1024), 'x', { qos: 1, id: 3 }))
  t.same(await client.take(3), Buffer.concat([puback(1), puback(2), puback(3)]))
  t.equal(stage.refused.length, 2)
})

t.test('a registry that does not answer closes the gateway un-acked; its device is asked about again later', async t => {
  const stage = await startStage(t)
  const secret = stage.registry.device('acme', 'gw')
  stage.registry.device('acme', 'child', 'gw')
  stage.registry.broken = true
  const client = await stage.client({ secret })
  client.send(publish('devices/child/telemetry', '1', { qos: 1, id: 1 }))
  await client.untilClosed()
  t.same(client.packets, [])
  stage.registry.broken = false
  const again = await stage.client({ secret })
  again.send(publish('devices/child/telemetry', '1', { qos: 1, id: 1 }))
  t.same(await again.next(), puback(1))
})

t.test('many topics of one connection stay bounded and right', async t => {
  const stage = await startStage(t)
  const secret = stage.registry.device('acme', 'gw')
  for (let i = 0; i < 200; i++) stage.registry.device('acme', `c${i}`, 'gw')
  const client = await stage.client({ secret })
  const packets: Buffer[] = []
  for (let round = 0; round < 3; round++) for (let i = 0; i < 200; i++) packets.push(publish(`devices/c${i}/telemetry`, `${round}:${i}`, { qos: 1, id: i + 1 }))
  client.send(...packets)
  await until(() => client.packets.length === 600)
  t.same(stage.journal.messages().map(message => `${message.topic} ${message.payload}`), packets.flatMap(publishesIn).map(message => `${message.topic} ${message.payload}`))
})

t.test('telemetry that somebody subscribes to is delivered after its commit, and acknowledged after that', async t => {
  const stage = await startStage(t)
  const { journal, registry } = stage
  const device = await stage.client({ secret: registry.device('acme', 'd1') })
  device.send(publish('telemetry', 'before', { qos: 1, id: 1 }))
  t.same(await device.next(), puback(1))
  const watcher = await stage.client({ secret: registry.credential('application', 'acme'), clientId: 'w' })
  watcher.send(subscribe(1, ['devices/+/telemetry', 1]))
  t.equal((await watcher.next())[0], 0x90)
  journal.automatic = false
  device.send(publish('telemetry', 'seen', { qos: 1, id: 2 }), publish('devices/d1/telemetry', 'too', { qos: 0 }))
  await until(() => journal.waiting === 1)
  t.same(await watcher.settle(), [], 'nobody sees what is not durable')
  journal.commit()
  t.same(await device.next(), puback(2))
  // Messages of different QoS may overtake each other (section 4.6).
  t.match(publishesIn(await watcher.take(2)).sort((a, b) => b.qos - a.qos), [{ topic: 'devices/d1/telemetry', payload: 'seen', qos: 1 }, { topic: 'devices/d1/telemetry', payload: 'too', qos: 0 }])
})

t.test('nobody listens: telemetry does not touch the broker; a subscription of an offline session is honoured', async t => {
  const persistence = memoryPersistence as unknown as () => { outgoingEnqueueCombi(subscriptions: readonly unknown[], packet: unknown): Promise<void> }
  const stored = persistence()
  let enqueued = 0
  const enqueue = stored.outgoingEnqueueCombi.bind(stored)
  stored.outgoingEnqueueCombi = (subscriptions, packet) => { enqueued++; return enqueue(subscriptions, packet) }
  const stage = await startStage(t, { persistence: stored })
  const device = await stage.client({ secret: stage.registry.device('acme', 'd1') })
  const send = async (payload: string): Promise<void> => {
    device.send(publish('telemetry', payload, { qos: 1, id: 1 }))
    t.same(await device.next(), puback(1))
  }
  await send('first, while it is not known')
  const once = enqueued
  for (let i = 0; i < 10; i++) await send('nobody')
  t.equal(enqueued, once)
  const application = { secret: stage.registry.credential('application', 'acme'), clientId: 'w', clean: false }
  const watcher = await stage.client(application)
  watcher.send(subscribe(1, ['devices/d1/#', 1]))
  await watcher.next()
  watcher.end()
  await until(() => stage.edge.stats.connections === 1)
  await send('offline 1')
  await send('offline 2')
  const back = await stage.client(application)
  t.same(publishesIn(await back.take(2)).map(message => message.payload), ['offline 1', 'offline 2'])
})

t.test('nobody listens: reports, answers and events do not touch the broker; whoever comes to listen gets what follows', async t => {
  const persistence = memoryPersistence as unknown as () => { outgoingEnqueueCombi(subscriptions: readonly unknown[], packet: unknown): Promise<void> }
  const stored = persistence()
  let enqueued = 0
  const enqueue = stored.outgoingEnqueueCombi.bind(stored)
  stored.outgoingEnqueueCombi = (subscriptions, packet) => { enqueued++; return enqueue(subscriptions, packet) }
  const stage = await startStage(t, { persistence: stored })
  const device = await stage.client({ secret: stage.registry.device('acme', 'd1') })
  device.send(subscribe(9, ['devices/d1/twin/delta', 1], ['devices/d1/commands/+/request/+', 1]))
  await device.next()
  const send = async (topic: string, payload: string): Promise<void> => {
    device.send(publish(topic, payload, { qos: 1, id: 1 }))
    t.same(await device.next(), puback(1))
  }
  const topics = ['twin/reported', 'devices/d1/twin/reported', 'devices/d1/twin/lamp/reported', 'events/boot', 'devices/d1/commands/blink/response/c1']
  for (const topic of topics) await send(topic, 'nobody')
  const once = enqueued
  for (let i = 0; i < 3; i++) for (const topic of topics) await send(topic, 'nobody')
  t.equal(enqueued, once)
  t.equal(stage.journal.messages().length, 4 * topics.length, 'they are in the journal all the same')
  const application = { secret: stage.registry.credential('application', 'acme'), clientId: 'w', clean: false }
  const watcher = await stage.client(application)
  watcher.send(subscribe(1, ['devices/+/twin/reported', 1]))
  await watcher.next()
  watcher.end()
  await until(() => stage.edge.stats.connections === 1)
  await send('devices/d1/twin/reported', 'offline')
  const back = await stage.client(application)
  t.match(publishesIn(await back.take(1)), [{ topic: 'devices/d1/twin/reported', payload: 'offline' }])
  const online = await stage.client({ secret: stage.registry.credential('application', 'acme'), clientId: 'o' })
  online.send(subscribe(1, ['devices/d1/events/+', 0]))
  await online.next()
  await send('events/boot', 'online')
  t.match(publishesIn(await online.take(1)), [{ topic: 'devices/d1/events/boot', payload: 'online' }])
})

t.test('retained telemetry is journaled and kept by the broker', async t => {
  const stage = await startStage(t)
  const device = await stage.client({ secret: stage.registry.device('acme', 'd1') })
  device.send(publish('telemetry', 'old', { qos: 1, id: 1, retain: true }), publish('telemetry', 'kept', { qos: 0, retain: true }), publish('telemetry', 'plain', { qos: 1, id: 2 }))
  t.same(await device.take(2), Buffer.concat([puback(1), puback(2)]))
  t.equal(stage.journal.messages().length, 3)
  const watcher = await stage.client({ secret: stage.registry.credential('application', 'acme'), clientId: 'w' })
  watcher.send(subscribe(1, ['#', 1]))
  await watcher.next()
  t.match(publishesIn(await watcher.next()), [{ topic: 'devices/d1/telemetry', payload: 'kept', retain: true }])
})

t.test('a will that is telemetry is journaled when it fires', async t => {
  const stage = await startStage(t)
  const watcher = await stage.client({ secret: stage.registry.credential('application', 'acme'), clientId: 'w' })
  watcher.send(subscribe(1, ['#', 1]))
  await watcher.next()
  const device = await stage.client({ secret: stage.registry.device('acme', 'd1'), will: { topic: 'telemetry', payload: '{"online":false}', qos: 1 } })
  device.end()
  t.match(publishesIn(await watcher.next()), [{ topic: 'devices/d1/telemetry', payload: '{"online":false}' }])
  t.match(stage.journal.messages(), [{ tenant: 'acme', device: 'd1', topic: 'devices/d1/telemetry', payload: '{"online":false}' }])
})

t.test('a will that cannot be journaled is counted and not published', async t => {
  const stage = await startStage(t)
  const watcher = await stage.client({ secret: stage.registry.credential('application', 'acme'), clientId: 'w' })
  watcher.send(subscribe(1, ['#', 1]))
  await watcher.next()
  const will = { topic: 'telemetry', payload: '{"online":false}' }
  const secret = stage.registry.device('acme', 'd1')
  const first = await stage.client({ secret, clientId: 'a', will })
  const second = await stage.client({ secret, clientId: 'b', will })
  stage.journal.automatic = false
  first.end()
  await until(() => stage.journal.waiting === 1)
  stage.journal.fail()
  stage.journal.refusal = new TwinfoldError('journal_full', 'at its bound')
  second.end()
  await until(() => stage.edge.stats.refused.get('will_not_journaled') === 2)
  t.same(await watcher.settle(), [])
})

t.test('close waits for commits on their way and sends their acknowledgements', async t => {
  const stage = await startStage(t)
  const { journal } = stage
  const client = await stage.client({ secret: stage.registry.device('acme', 'd1') })
  journal.automatic = false
  client.send(publish('telemetry', '1', { qos: 1, id: 1 }))
  await until(() => journal.waiting === 1)
  const closing = stage.edge.close()
  await new Promise(resolve => { setTimeout(resolve, 20) })
  t.notOk(client.closed)
  journal.commit()
  await closing
  await client.untilClosed()
  t.same(packetsIn(Buffer.concat(client.packets)), [puback(1)])
})
