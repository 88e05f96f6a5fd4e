/** Twins, commands and presence as the MQTT stage has them: what devices say, what they are sent, who is told of them. */
import t from 'tap'
import { setTimeout as delay } from 'node:timers/promises'
import { RecordKind, RecordFlags } from '../../src/journal/record.js'
import { publishTarget, maySubscribe } from '../../src/gate/access.js'
import type { DeviceBell, BellReason } from '../../src/core/device-bell.js'
import { limitBrokerIds, ownPacketIdMin } from '../../src/edge/mqtt/downstream.js'
import type { PresenceSession, PresenceSink } from '../../src/presence/presence-sink.js'
import type { DeviceLink, DeviceSessions, TwinQuestions } from '../../src/twin/device-link.js'
import type { Principal, Role } from '../../src/tenancy/model.js'
import { connectPacket, disconnect, packetsIn, pingreq, puback, pubcomp, publish, publishesIn, pubrec, pubrel, startStage, subscribe, unsubscribe, until, type RawClient } from './mqtt-harness.js'

class RecordingSessions implements DeviceSessions {
  readonly told: string[] = []
  readonly links = new Map<string, DeviceLink>()
  ready (link: DeviceLink): void {
    this.told.push(`ready ${link.device} ${link.grantedQos(`devices/${link.device}/twin/delta`)}`)
    this.links.set(link.device, link)
  }

  ended (link: DeviceLink): void { this.told.push(`ended ${link.device} ${link.open}`) }

  link (device: string): DeviceLink {
    const link = this.links.get(device)
    if (link === undefined) throw new Error(`no link of ${device}`)
    return link
  }
}

class RecordingPresence implements PresenceSink {
  readonly told: string[] = []
  readonly sessions: PresenceSession[] = []
  opened (session: PresenceSession): void {
    this.told.push(`opened ${session.device} ${session.via} ${session.keepAliveSeconds}`)
    this.sessions.push(session)
  }

  closed (session: PresenceSession, reason: string, lastHeardUs: number): void {
    this.told.push(`closed ${session.device} ${reason}`)
    if (lastHeardUs <= 0) throw new Error('never heard')
  }

  noteActivity (): void {}
}

class HandBell implements DeviceBell {
  #listener: (tenant: string, device: string, reason: BellReason, name: string) => void = () => {}
  ring (tenant: string, device: string, reason: BellReason): void { this.#listener(tenant, device, reason, '') }
  onRing (listener: (tenant: string, device: string, reason: BellReason, name: string) => void): () => void {
    this.#listener = listener
    return () => {}
  }

  onRelinked (): () => void { return () => {} }
}

const text = (packet: Buffer): string => { const [{ topic, payload }] = publishesIn(packet); return `${topic} ${payload}` }

async function subscribed (client: RawClient, id: number, ...filters: (readonly [string, number])[]): Promise<number[]> {
  client.send(subscribe(id, ...filters))
  const answer = await client.next()
  return [...answer.subarray(4)]
}

void t.test('who may publish and subscribe to what', t => {
  const principal = (role: Role, device: string | null = null): Principal => ({ credentialId: 'c', role, tenant: 'acme', device })
  const device = principal('device', 'd1')
  const rows: [string, string, string][] = [
    // topic, as device d1, as application
    ['telemetry', 'telemetry d1', 'refused'],
    ['devices/d1/telemetry', 'telemetry d1', 'telemetry d1'],
    ['twin/reported', 'message d1 twin/reported', 'plain'],
    ['devices/d1/twin/reported', 'message d1 twin/reported', 'message d1 twin/reported'],
    ['devices/d1/twin/config/reported', 'message d1 twin/config/reported', 'message d1 twin/config/reported'],
    ['devices/d2/twin/reported', 'message d2 twin/reported', 'message d2 twin/reported'],
    ['twin/config/reported', 'message d1 twin/config/reported', 'plain'],
    ['devices/d1/twin/get', 'question d1 ', 'question d1 '],
    ['devices/d1/twin/config/get', 'question d1 config', 'question d1 config'],
    ['twin/get', 'question d1 ', 'plain'],
    ['events/door', 'message d1 events/door', 'plain'],
    ['devices/d1/events/door', 'message d1 events/door', 'message d1 events/door'],
    ['devices/d1/events/a/b', 'refused', 'plain'],
    ['commands/reboot/response/1', 'message d1 commands/reboot/response/1', 'plain'],
    ['devices/d1/commands/reboot/response/1', 'message d1 commands/reboot/response/1', 'message d1 commands/reboot/response/1'],
    ['devices/d1/commands/reboot/request/1', 'refused', 'refused'],
    ['devices/d1/commands/reboot/response', 'refused', 'refused'],
    ['devices/d1/commands/reboot/status/1', 'refused', 'refused'],
    ['devices/d1/twin/desired', 'refused', 'refused'],
    ['devices/d1/twin/delta', 'refused', 'refused'],
    ['devices/d1/twin/config/delta', 'refused', 'refused'],
    ['devices/d1/twin/get/accepted', 'refused', 'refused'],
    ['devices/d1/twin/config/get/rejected', 'refused', 'refused'],
    ['devices/d1/twin/get/reported', 'refused', 'refused'],
    ['devices/d1/twin/get/get', 'refused', 'refused'],
    ['devices/d1/twin', 'refused', 'refused'],
    ['devices/d1/twin/', 'refused', 'refused'],
    ['devices/d1/twin//reported', 'refused', 'refused'],
    ['devices/d1/twin/a b/reported', 'refused', 'refused'],
    ['devices/d 1/twin/reported', 'refused', 'refused'],
    ['devices/d1/live/temperature', 'refused', 'refused'],
    ['devices/d1/notes', 'refused', 'plain'],
    ['twinfold/events/d1/twin.changed', 'refused', 'refused'],
    ['twinfold', 'refused', 'refused'],
    ['twinfoldish', 'refused', 'plain'],
    ['$SYS/x', 'refused', 'refused'],
    ['site/hall', 'refused', 'plain']
  ]
  const shown = (principal: Principal, topic: string): string => {
    const { kind, ...rest } = publishTarget(principal, topic)
    return kind === 'refused' ? kind : [kind, ...Object.values(rest)].join(' ')
  }
  for (const [topic, asDevice, asApplication] of rows) {
    t.same([topic, shown(device, topic), shown(principal('application'), topic)], [topic, asDevice, asApplication])
    t.equal(shown(principal('operator'), topic), asApplication, `${topic}: an operator as an application`)
    t.equal(shown(principal('viewer'), topic), 'refused')
  }
  const filters: [string, unknown, boolean][] = [
    ['devices/d1/#', true, true],
    ['devices/d1/twin/delta', true, true],
    ['devices/d2/twin/#', { ask: 'd2' }, true],
    ['devices/+/twin/delta', false, true],
    ['devices/#', false, true],
    ['devices/d1', false, true],
    ['#', false, true],
    ['twinfold/#', false, true],
    ['twin/delta', false, true],
    ['$twinfold/#', false, false],
    ['$SYS/#', false, false]
  ]
  for (const [filter, asDevice, asApplication] of filters) {
    t.same([filter, maySubscribe(device, filter), maySubscribe(principal('application'), filter)], [filter, asDevice, asApplication])
  }
  t.end()
})

void t.test('what a device says is journaled with its whole topic, acknowledged after the commit, and then published', async t => {
  const stage = await startStage(t)
  const { journal, registry } = stage
  const watcher = await stage.client({ secret: registry.credential('application', 'acme'), clientId: 'w' })
  t.same(await subscribed(watcher, 1, ['devices/+/twin/#', 1], ['devices/+/events/+', 1], ['devices/+/commands/#', 1]), [1, 1, 1])
  const client = await stage.client({ secret: registry.device('acme', 'd1') })
  journal.automatic = false
  client.send(
    publish('twin/reported', '{"a":1}', { qos: 1, id: 1 }),
    publish('devices/d1/twin/reported', '{"a":2}', { qos: 2, id: 2 }),
    publish('twin/config/reported', '{"a":3}', { qos: 0 }),
    publish('events/door', 'open', { qos: 1, id: 3 }),
    publish('commands/reboot/response/7', '{"status":"ok"}', { qos: 1, id: 4, retain: true })
  )
  await until(() => journal.waiting === 5)
  t.same(await client.settle(), [], 'nothing is acknowledged before it is durable')
  t.same(await watcher.settle(), [], 'nor seen')
  journal.automatic = true
  journal.commit()
  t.same(await client.take(4), Buffer.concat([puback(1), pubrec(2), puback(3), puback(4)]))
  const published = publishesIn(await watcher.take(5))
  t.same(published.filter(({ qos }) => qos === 1).map(({ topic, payload }) => `${topic} ${payload}`), [
    'devices/d1/twin/reported {"a":1}', 'devices/d1/twin/reported {"a":2}', 'devices/d1/events/door open', 'devices/d1/commands/reboot/response/7 {"status":"ok"}'
  ])
  t.same(published.filter(({ qos }) => qos === 0).map(({ topic, payload }) => `${topic} ${payload}`), ['devices/d1/twin/config/reported {"a":3}'])
  t.same(journal.records.map(({ kind, messages }) => [kind, messages]), Array(5).fill([RecordKind.deviceMessages, 1]))
  t.same(journal.messages().map(({ tenant, topic, payload }) => `${tenant} ${topic} ${payload}`), [
    'acme devices/d1/twin/reported {"a":1}', 'acme devices/d1/twin/reported {"a":2}', 'acme devices/d1/twin/config/reported {"a":3}', 'acme devices/d1/events/door open', 'acme devices/d1/commands/reboot/response/7 {"status":"ok"}'
  ])
  // A QoS 2 repeat within its exchange is taken once.
  client.send(publish('devices/d1/twin/reported', '{"a":2}', { qos: 2, id: 2, dup: true }))
  t.same(await client.next(), pubrec(2))
  client.send(pubrel(2))
  t.same(await client.next(), pubcomp(2))
  t.equal(journal.records.length, 5)
  t.equal(stage.edge.stats.telemetryMessages, 0)
  t.equal(stage.edge.stats.deviceMessages, 5)
})

void t.test('a kept session: QoS 2 messages are journaled once, over a reconnect too', async t => {
  const stage = await startStage(t)
  const secret = stage.registry.device('acme', 'd1')
  const client = await stage.client({ secret, clean: false })
  client.send(publish('events/door', 'open', { qos: 2, id: 5 }))
  t.same(await client.next(), pubrec(5))
  client.end()
  const again = await stage.client({ secret, clean: false })
  again.send(publish('events/door', 'open', { qos: 2, id: 5, dup: true }), pubrel(5), publish('events/door', 'shut', { qos: 2, id: 5 }))
  t.same(await again.take(3), Buffer.concat([pubrec(5), pubcomp(5), pubrec(5)]))
  t.same(stage.journal.messages().map(({ topic, payload }) => `${topic} ${payload}`), ['devices/d1/events/door open', 'devices/d1/events/door shut'])
  t.ok(stage.journal.records.every(({ kind }) => kind === RecordKind.deviceMessages))
})

void t.test('what cannot be journaled is not acknowledged, and closes the connection', async t => {
  const stage = await startStage(t)
  const client = await stage.client({ secret: stage.registry.device('acme', 'd1') })
  stage.journal.automatic = false
  client.send(publish('events/door', 'open', { qos: 1, id: 5 }))
  await until(() => stage.journal.waiting === 1)
  stage.journal.fail()
  await client.untilClosed()
  t.same(client.packets, [])
})

void t.test('a gateway and an application speak for registered devices, and for no other', async t => {
  const stage = await startStage(t)
  const { registry, journal } = stage
  registry.device('acme', 'child', 'gw')
  registry.device('acme', 'other', 'gw2')
  const gateway = await stage.client({ secret: registry.device('acme', 'gw') })
  gateway.send(publish('devices/child/twin/reported', '1', { qos: 1, id: 1 }), publish('devices/other/twin/reported', '2', { qos: 1, id: 2 }), publish('devices/nobody/events/x', '3', { qos: 1, id: 3 }))
  t.same(await gateway.take(3), Buffer.concat([1, 2, 3].map(puback)))
  const application = await stage.client({ secret: registry.credential('application', 'acme'), clientId: 'a' })
  application.send(publish('devices/other/twin/reported', '4', { qos: 1, id: 1 }), publish('devices/nobody/twin/reported', '5', { qos: 1, id: 2 }), publish('devices/child/twin/delta', '6', { qos: 1, id: 3 }), publish('twinfold/events/x', '7', { qos: 1, id: 4 }))
  t.same(await application.take(4), Buffer.concat([1, 2, 3, 4].map(puback)))
  t.same(journal.messages().map(({ topic, payload }) => `${topic} ${payload}`), ['devices/child/twin/reported 1', 'devices/other/twin/reported 4'])
  t.equal(journal.records[0].flags, RecordFlags.gateway)
  t.same(stage.refused.map(({ topic, reason }) => `${topic} ${reason}`).sort(), [
    'devices/child/twin/delta topic_invalid', 'devices/nobody/events/x device_unknown', 'devices/nobody/twin/reported device_unknown', 'devices/other/twin/reported device_forbidden', 'twinfold/events/x topic_invalid'
  ])
})

void t.test('the will of a device that is an event is journaled', async t => {
  const stage = await startStage(t)
  const secret = stage.registry.device('acme', 'd1')
  const client = await stage.client({ secret, will: { topic: 'devices/d1/events/lost', payload: 'gone' } })
  client.end()
  await until(() => stage.journal.records.length === 1)
  t.same(stage.journal.messages().map(({ topic, payload }) => `${topic} ${payload}`), ['devices/d1/events/lost gone'])
  t.equal(stage.journal.records[0].kind, RecordKind.deviceMessages)
  const asking = await stage.socket()
  asking.send(connectPacket({ secret, clientId: 'q', will: { topic: 'devices/d1/twin/get', payload: '' } }))
  t.same([...await asking.next()], [0x20, 2, 0, 5], 'a question is no will')
})

void t.test('twin/get is acknowledged at once and answered to the one who asks; more than eight at a time are rejected', async t => {
  const asked: string[] = []
  let release = (): void => {}
  const gate = new Promise<void>(resolve => { release = resolve })
  const questions: TwinQuestions = {
    answer: async (tenant, device, name) => {
      asked.push(`${tenant} ${device} ${name}`)
      await gate
      return name === 'none' ? { accepted: false, body: '{"code":"not_found"}' } : { accepted: true, body: `{"n":${asked.length}}` }
    }
  }
  const stage = await startStage(t, { questions })
  stage.registry.device('acme', 'child', 'gw')
  const gateway = await stage.client({ secret: stage.registry.device('acme', 'gw') })
  t.same(await subscribed(gateway, 9, ['devices/gw/twin/get/#', 1]), [1])
  gateway.send(
    publish('twin/get', '', { qos: 1, id: 1 }), publish('devices/child/twin/get', '', { qos: 1, id: 2 }), publish('twin/none/get', '', { qos: 2, id: 3 }),
    ...Array.from({ length: 6 }, () => publish('twin/config/get', ''))
  )
  const at = await gateway.take(4)
  const [rejected] = publishesIn(at)
  t.same(packetsIn(at).filter(packet => packet[0] >> 4 !== 3), [puback(1), puback(2), pubrec(3)])
  t.match(rejected, { topic: 'devices/gw/twin/config/get/rejected', qos: 0 })
  t.match(JSON.parse(rejected.payload), { code: 'throttled' })
  release()
  const answers = publishesIn(await gateway.take(8))
  t.same(answers.map(({ topic, qos }) => `${topic} ${qos}`).sort(), [
    'devices/child/twin/get/accepted 0', ...Array<string>(5).fill('devices/gw/twin/config/get/accepted 0'), 'devices/gw/twin/get/accepted 1', 'devices/gw/twin/none/get/rejected 0'
  ])
  t.same(new Set(asked), new Set(['acme gw ', 'acme child ', 'acme gw none', 'acme gw config']))
  t.same(stage.journal.records, [])
})

void t.test('a link says what is subscribed to, sends in order, and knows what was acknowledged', async t => {
  const sessions = new RecordingSessions()
  const stage = await startStage(t, { sessions: [sessions] })
  const client = await stage.client({ secret: stage.registry.device('acme', 'd1') })
  await until(() => sessions.told.length === 1)
  t.same(sessions.told, ['ready d1 -1'])
  t.same(await subscribed(client, 1, ['devices/d1/twin/delta', 1], ['devices/d1/commands/#', 0], ['devices/+/twin/delta', 1]), [1, 0, 0x80])
  t.same(sessions.told, ['ready d1 -1', 'ready d1 1'])
  const link = sessions.link('d1')
  t.same(['twin/delta', 'twin/desired', 'commands/reboot/request/1', 'twin/config/delta'].map(path => link.grantedQos(`devices/d1/${path}`)), [1, -1, 0, -1])
  t.equal(link.grantedQos('devices/d2/twin/delta'), -1)
  const sent = [link.send('devices/d1/twin/delta', Buffer.from('1'), 1), link.send('devices/d1/commands/reboot/request/1', Buffer.from('2'), 0), link.send('devices/d1/twin/delta', Buffer.from('3'), 1)]
  t.equal(await sent[1], 'written')
  const got = publishesIn(await client.take(3))
  t.same(got.map(({ topic, payload, qos }) => `${topic} ${payload} ${qos}`), ['devices/d1/twin/delta 1 1', 'devices/d1/commands/reboot/request/1 2 0', 'devices/d1/twin/delta 3 1'])
  client.send(puback(got[2].packetId))
  t.equal(await sent[2], 'acked')
  client.send(unsubscribe(2, 'devices/d1/twin/delta'))
  await client.next()
  t.equal(link.grantedQos('devices/d1/twin/delta'), -1)
  client.end()
  t.equal(await sent[0], 'lost')
  await until(() => sessions.told.length === 4)
  t.same(sessions.told.slice(2), ['ready d1 -1', 'ended d1 false'])
  t.equal(await link.send('devices/d1/twin/delta', Buffer.from('4'), 1), 'lost')
})

void t.test('a filter like # below the device matches its topics, and the same SUBSCRIBE again is no change', async t => {
  const sessions = new RecordingSessions()
  const stage = await startStage(t, { sessions: [sessions] })
  const client = await stage.client({ secret: stage.registry.device('acme', 'd1') })
  t.same(await subscribed(client, 1, ['devices/d1/#', 2]), [2])
  t.same(await subscribed(client, 2, ['devices/d1/#', 2]), [2])
  t.same(sessions.told, ['ready d1 -1', 'ready d1 1'])
  t.same(await subscribed(client, 3, ['devices/d1/twin/+', 0]), [0])
  t.equal(sessions.link('d1').grantedQos('devices/d1/twin/delta'), 1, 'the best of them')
})

void t.test('a kept session has its link without subscribing again; an application has none', async t => {
  const sessions = new RecordingSessions()
  const stage = await startStage(t, { sessions: [sessions] })
  const secret = stage.registry.device('acme', 'd1')
  const client = await stage.client({ secret, clean: false })
  t.same(await subscribed(client, 1, ['devices/d1/twin/delta', 1]), [1])
  client.send(disconnect)
  await client.untilClosed()
  await until(() => sessions.told.length === 3)
  await stage.client({ secret, clean: false })
  await until(() => sessions.told.length === 4)
  t.same(sessions.told, ['ready d1 -1', 'ready d1 1', 'ended d1 false', 'ready d1 1'])
  const application = await stage.client({ secret: stage.registry.credential('application', 'acme'), clientId: 'a' })
  t.same(await subscribed(application, 1, ['devices/+/twin/delta', 1]), [1])
  t.equal(sessions.told.length, 4)
})

void t.test("the broker's packet ids wrap around below the stage's", t => {
  const client = { _nextId: 65_535 }
  limitBrokerIds(client)
  const ids = new Set<number>()
  for (let i = 0; i < 70_000; i++) {
    ids.add(client._nextId)
    // As Aedes counts.
    if (client._nextId >= 65_535) client._nextId = 1
    else client._nextId++
  }
  t.same([Math.min(...ids), Math.max(...ids), ids.size], [1, ownPacketIdMin - 1, ownPacketIdMin - 1])
  t.end()
})

void t.test("packet ids of the stage and of the broker never meet", async t => {
  const sessions = new RecordingSessions()
  const stage = await startStage(t, { sessions: [sessions] })
  const client = await stage.client({ secret: stage.registry.device('acme', 'd1') })
  t.same(await subscribed(client, 1, ['devices/d1/#', 1]), [1])
  const link = sessions.link('d1')
  const outcomes: string[] = []
  for (let i = 0; i < 200; i++) {
    void link.send('devices/d1/twin/delta', Buffer.from(`s${i}`), 1).then(outcome => outcomes.push(outcome))
    void stage.edge.publish('acme', 'devices/d1/notes', Buffer.from(`b${i}`), { qos: 1, retain: false })
  }
  const got = publishesIn(await client.take(400))
  t.equal(new Set(got.map(({ packetId }) => packetId)).size, 400, 'no id is used twice')
  t.ok(got.every(({ payload, packetId }) => (payload[0] === 's') === (packetId >= 0x8000)))
  client.send(...got.map(({ packetId }) => puback(packetId)))
  await until(() => outcomes.length === 200)
  t.ok(outcomes.every(outcome => outcome === 'acked'))
  t.same(await client.settle(), [])
  client.send(puback(got[0].packetId), pubrec(got[1].packetId))
  t.same(await client.settle(), [], 'an acknowledgement of nothing is passed over')
})

void t.test('a client that acknowledges nothing is closed at the bound, and its link says lost', async t => {
  const sessions = new RecordingSessions()
  const presence = new RecordingPresence()
  const stage = await startStage(t, { sessions: [sessions], presence })
  const client = await stage.client({ secret: stage.registry.device('acme', 'd1') })
  t.same(await subscribed(client, 1, ['devices/d1/#', 1]), [1])
  const link = sessions.link('d1')
  const outcomes = new Map<string, number>()
  for (let i = 0; i < 17_000; i++) void link.send('devices/d1/twin/delta', Buffer.from('x'), 1).then(outcome => outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1))
  await client.untilClosed()
  await until(() => outcomes.get('lost') === 17_000)
  t.equal(presence.told.at(-1), 'closed d1 slow')
})

void t.test('a gateway receives for its registered children, while they are its', async t => {
  const sessions = new RecordingSessions()
  const presence = new RecordingPresence()
  const bell = new HandBell()
  const stage = await startStage(t, { sessions: [sessions], presence, bell })
  const { registry } = stage
  const secret = registry.device('acme', 'gw')
  registry.device('acme', 'c1', 'gw')
  registry.device('acme', 'c2', 'gw')
  registry.device('acme', 'stranger', 'gw2')
  const gateway = await stage.client({ secret, clean: false, keepAlive: 60 })
  t.same(await subscribed(gateway, 1, ['devices/c1/twin/delta', 1], ['devices/stranger/twin/delta', 1], ['devices/c2/#', 0], ['devices/nobody/#', 0]), [1, 0x80, 0, 0x80])
  t.same(sessions.told, ['ready gw -1', 'ready c1 1', 'ready c2 0'])
  t.same(presence.told, ['opened gw  60', 'opened c1 gw 60', 'opened c2 gw 60'])
  t.equal(new Set(presence.sessions.map(({ connection }) => connection)).size, 1)
  void sessions.link('c1').send('devices/c1/twin/delta', Buffer.from('for c1'), 1)
  t.equal(text(await gateway.next()), 'devices/c1/twin/delta for c1')
  gateway.send(unsubscribe(2, 'devices/c2/#'))
  await gateway.next()
  t.same(sessions.told.slice(3), ['ended c2 false'])
  // c1 moves to another gateway: its filter leaves the session, in the broker too.
  registry.device('acme', 'c1', 'gw2')
  bell.ring('acme', 'c1', 'registry')
  await until(() => sessions.told.length === 5)
  t.same(sessions.told.slice(4), ['ended c1 false'])
  t.equal(presence.told.at(-1), 'closed c1 revoked')
  await stage.edge.publish('acme', 'devices/c1/twin/delta', Buffer.from('not for gw'), { qos: 0, retain: false })
  t.same((await gateway.settle()).map(text), [])
  gateway.end()
  await until(() => presence.told.includes('closed gw closed'))
  const before = sessions.told.length
  await stage.client({ secret, clean: false })
  await until(() => sessions.told.length > before)
  await delay(20)
  t.same(sessions.told.slice(before), ['ready gw -1'], 'and does not come back with it')
})

void t.test('a kept session of a gateway has the links of its children again, once the registry says they are its', async t => {
  const sessions = new RecordingSessions()
  const stage = await startStage(t, { sessions: [sessions] })
  const { registry, edge } = stage
  const secret = registry.device('acme', 'gw')
  registry.device('acme', 'c1', 'gw')
  registry.device('acme', 'c2', 'gw')
  const gateway = await stage.client({ secret, clean: false })
  t.same(await subscribed(gateway, 1, ['devices/c1/#', 1], ['devices/c2/#', 1]), [1, 1])
  gateway.end()
  await until(() => sessions.told.length === 6)
  registry.devices.delete('acme/c2')
  edge.disconnect(() => false)
  await stage.client({ secret, clean: false })
  await until(() => sessions.told.length === 8)
  t.same(sessions.told.slice(6), ['ready gw -1', 'ready c1 1'])
})

void t.test('presence is told of every connection, and why it ended', async t => {
  const presence = new RecordingPresence()
  const stage = await startStage(t, { presence, tickMs: 20 })
  const { registry, edge } = stage
  const secret = registry.device('acme', 'd1')
  const ending = async (end: (client: RawClient) => void | Promise<void>, keepAlive = 0): Promise<string | undefined> => {
    const client = await stage.client({ secret, keepAlive })
    const count = presence.told.length
    await until(() => presence.told.length === count + 1 || presence.told.at(-1)?.startsWith('opened') === true)
    await end(client)
    await until(() => presence.told.at(-1)?.startsWith('closed') === true)
    return presence.told.at(-1)
  }
  t.equal(await ending(client => { client.send(disconnect) }), 'closed d1 client')
  t.equal(await ending(client => { client.send(Buffer.concat([pingreq, disconnect])); client.socket.end() }), 'closed d1 client')
  t.equal(await ending(client => { client.end() }), 'closed d1 closed')
  t.equal(await ending(() => {}, 1), 'closed d1 keep_alive')
  t.equal(await ending(client => { client.send(Buffer.from([0xf0, 0])) }), 'closed d1 protocol')
  t.equal(await ending(() => { edge.disconnect(({ device }) => device === 'd1') }), 'closed d1 revoked')
  await stage.client({ secret })
  await until(() => presence.told.at(-1)?.startsWith('opened') === true)
  const before = presence.told.length
  await stage.client({ secret })
  await until(() => presence.told.length === before + 2)
  t.same(presence.told.slice(before).sort(), ['closed d1 taken_over', 'opened d1  0'])
  const connections = presence.sessions.map(({ connection }) => connection)
  t.same(connections, [...connections].sort(), 'connections are named in their order')
  t.ok(connections.every(connection => /^[\x21-\x2e\x30-\x7e]{1,64}$/.test(connection)))
  t.ok(Math.abs(presence.sessions.at(-1)?.lastHeardUs as number - Date.now() * 1000) < 2e6)
  await edge.close()
  t.equal(presence.told.at(-1), 'closed d1 server_stopped')
})

void t.test('a device that connects and drops at random is opened and ended in turn, and never sent to after its end', async t => {
  const sessions = new RecordingSessions()
  const presence = new RecordingPresence()
  const stage = await startStage(t, { sessions: [sessions], presence })
  const seed = Date.now() % 2 ** 31
  let state = seed
  const random = (): number => { state = (Math.imul(state, 1664525) + 1013904223) >>> 0; return state / 2 ** 32 }
  const secret = stage.registry.device('acme', 'd1')
  for (let round = 0; round < 60; round++) {
    const socket = await stage.socket()
    socket.send(connectPacket({ secret, clean: random() < 0.5 }), subscribe(1, ['devices/d1/#', 1]))
    if (random() < 0.8) await socket.next().catch(() => {})
    if (random() < 0.5) await delay(random() * 3)
    if (random() < 0.5) sessions.links.get('d1')?.send('devices/d1/twin/delta', Buffer.from('x'), 1).catch(() => {})
    if (random() < 0.7) socket.end()
  }
  stage.edge.disconnect(() => true)
  await until(() => stage.edge.stats.connections === 0 && stage.edge.stats.sessions === 0)
  const opened = presence.told.filter(line => line.startsWith('opened')).length
  t.equal(presence.told.length, 2 * opened, `seed ${seed}`)
  const ends = sessions.told.filter(line => line.startsWith('ended')).length
  t.equal(ends, opened, 'as many links ended as began')
})
