/** MQTT 3.1.1 on bytes: what goes in and what comes out, or that the connection is closed and why. */
import t from 'tap'
import { mqttConnectBytesMax, mqttPacketBytesMax } from '../../src/core/limits.js'
import { connectPacket, disconnect, HandClock, packet, pingreq, puback, pubcomp, publish, pubrec, pubrel, startStage, subscribe, text, unsubscribe, until, type ConnectOptions, type RawClient } from './mqtt-harness.js'

const protocol = (name: string, level: number, flags: number, ...parts: Buffer[]): Buffer => packet(0x10, text(name), Buffer.from([level, flags, 0, 0]), ...parts)

t.test('CONNECT is answered or closed as the standard and the credentials demand', async t => {
  const stage = await startStage(t)
  const { registry } = stage
  const secret = registry.device('acme', 'd1')
  const application = registry.credential('application', 'acme')
  const admin = registry.credential('admin', null)
  const credentials = [text('u'), text(secret)]
  const cases: [string, Buffer, number | 'closed', string][] = [
    ['secret as password', connectPacket({ secret }), 0, ''],
    ['secret as user name, no password', packet(0x10, text('MQTT'), Buffer.from([4, 0x82, 0, 0]), text('c'), text(secret)), 0, ''],
    ['secret as user name, any password', connectPacket({ userName: secret, secret: 'x' }), 0, ''],
    ['MQTT 3.1', connectPacket({ secret, level: 3 }), 0, ''],
    ['an empty client id with a clean session', connectPacket({ secret, clientId: '' }), 0, ''],
    ['an application', connectPacket({ secret: application }), 0, ''],
    ['an empty client id without a clean session', connectPacket({ secret, clientId: '', clean: false }), 2, 'client_id'],
    ['a client id of 257 bytes', connectPacket({ secret, clientId: 'c'.repeat(257) }), 2, 'client_id'],
    ['MQTT 5', protocol('MQTT', 5, 2, Buffer.from([0]), text('c')), 1, 'protocol_version'],
    ['another protocol', protocol('MQTT', 6, 2, text('c')), 1, 'protocol_version'],
    ['no credential', packet(0x10, text('MQTT'), Buffer.from([4, 2, 0, 0]), text('c')), 4, 'credential_absent'],
    ['a user name that is no secret', connectPacket({ userName: 'd1', secret: 'letmein' }), 4, 'credential_absent'],
    ['an unknown secret', connectPacket({ secret: 'twd_' + 'x'.repeat(43) }), 5, 'credential_unknown'],
    ['a platform key', connectPacket({ secret: admin }), 5, 'no_tenant'],
    ['a will on a foreign topic', connectPacket({ secret, will: { topic: 'devices/d2/telemetry', payload: 'x' } }), 5, 'will_forbidden'],
    ['a will outside of the device', connectPacket({ secret, will: { topic: 'chat', payload: 'x' } }), 5, 'will_forbidden'],
    ['a will with a wildcard', connectPacket({ secret, will: { topic: 'devices/+/telemetry', payload: 'x' } }), 'closed', 'will_topic_wildcard'],
    ['a will on an empty topic', connectPacket({ secret, will: { topic: '', payload: 'x' } }), 'closed', 'will_topic_empty'],
    ['the reserved connect flag', protocol('MQTT', 4, 0xc3, text('c'), ...credentials), 'closed', 'connect_flags'],
    ['will QoS 3', protocol('MQTT', 4, 0xc2 | 4 | 0x18, text('c'), text('a'), text('b'), ...credentials), 'closed', 'will_flags'],
    ['will QoS without a will', protocol('MQTT', 4, 0xc2 | 8, text('c'), ...credentials), 'closed', 'will_flags'],
    ['will retain without a will', protocol('MQTT', 4, 0xc2 | 0x20, text('c'), ...credentials), 'closed', 'will_flags'],
    ['a password without a user name', protocol('MQTT', 4, 0x42, text('c'), text(secret)), 'closed', 'password_without_user_name'],
    ['a client id that is no UTF-8', protocol('MQTT', 4, 0xc2, text(Buffer.from([0xff])), ...credentials), 'closed', 'client_id_not_utf8'],
    ['a client id with NUL', protocol('MQTT', 4, 0xc2, text('a\0'), ...credentials), 'closed', 'client_id_not_utf8'],
    ['a user name that is no UTF-8', protocol('MQTT', 4, 0xc2, text('c'), text(Buffer.from([0xc0, 0x80])), text(secret)), 'closed', 'user_name_not_utf8'],
    ['a CONNECT that ends early', protocol('MQTT', 4, 0xc2, text('c'), text('u')), 'closed', 'connect_truncated'],
    ['an empty CONNECT', packet(0x10), 'closed', 'connect_truncated'],
    ['bytes behind the payload', protocol('MQTT', 4, 0xc2, text('c'), ...credentials, Buffer.from([0])), 'closed', 'connect_trailing_bytes'],
    ['flags in the fixed header', packet(0x11, text('MQTT'), Buffer.from([4, 0xc2, 0, 0]), text('c'), ...credentials), 'closed', 'reserved_flags'],
    ['another packet first', publish('a', 'b'), 'closed', 'connect_expected'],
    ['HTTP', Buffer.from('GET / HTTP/1.1\r\n\r\n'), 'closed', 'connect_expected'],
    ['a CONNECT that claims too much', Buffer.from([0x10, 0xff, 0xff, 0x7f]), 'closed', 'packet_too_large'],
    ['a length of five bytes', Buffer.from([0x10, 0xff, 0xff, 0xff, 0xff, 1]), 'closed', 'remaining_length']
  ]
  for (const [name, bytes, expected, reason] of cases) {
    const client = await stage.socket()
    const counts = expected === 'closed' ? stage.edge.stats.closed : stage.edge.stats.refusedConnects
    const before = counts.get(reason) ?? 0
    client.send(bytes)
    if (expected === 'closed') {
      await client.untilClosed()
      t.same(client.packets, [], `${name}: closed without an answer`)
    } else {
      t.same(await client.next(), Buffer.from([0x20, 2, 0, expected]), `${name}: return code ${expected}`)
      if (expected !== 0) await client.untilClosed()
    }
    if (reason !== '') t.equal(counts.get(reason), before + 1, `${name}: counted as ${reason}`)
    client.end()
  }
  t.ok(mqttConnectBytesMax < 0x1fffff)
})

t.test('packets after CONNECT are answered, or close the connection and are counted', async t => {
  const stage = await startStage(t)
  const secret = stage.registry.credential('application', 'acme')
  const accent = Buffer.from([0xc3, 0x28])
  const cases: [string, Buffer, Buffer | string][] = [
    ['PINGREQ', pingreq, Buffer.from([0xd0, 0])],
    ['PUBLISH QoS 1', publish('a/b', 'x', { qos: 1, id: 7 }), puback(7)],
    ['PUBLISH QoS 1 again', publish('a/b', 'x', { qos: 1, id: 7, dup: true }), puback(7)],
    ['PUBLISH QoS 2', publish('a/b', 'x', { qos: 2, id: 8 }), pubrec(8)],
    ['PUBREL of nothing', pubrel(99), pubcomp(99)],
    ['an empty payload', publish('a/b', '', { qos: 1, id: 1 }), puback(1)],
    ['a topic of separators', publish('//', '', { qos: 1, id: 1 }), puback(1)],
    ['a retained message', publish('a/b', 'x', { qos: 1, id: 2, retain: true }), puback(2)],
    ['SUBSCRIBE', subscribe(10, ['a/#', 1], ['b', 0], ['+/c', 2]), packet(0x90, Buffer.from([0, 10, 1, 0, 2]))],
    ['SUBSCRIBE twice the same filter', subscribe(11, ['z', 1], ['y', 0], ['z', 2]), packet(0x90, Buffer.from([0, 11, 2, 0, 2]))],
    ['$share and $SYS', subscribe(12, ['$share/g/a', 1], ['z', 1], ['$SYS/#', 0]), packet(0x90, Buffer.from([0, 12, 0x80, 1, 0x80]))],
    ['only filters that are refused', subscribe(13, ['$share/g/a', 1]), packet(0x90, Buffer.from([0, 13, 0x80]))],
    ['a filter deeper than allowed', subscribe(14, ['a/'.repeat(16) + 'a', 1]), packet(0x90, Buffer.from([0, 14, 0x80]))],
    ['UNSUBSCRIBE', unsubscribe(15, 'never', 'never'), packet(0xb0, Buffer.from([0, 15]))],
    ['PUBACK of nothing', Buffer.concat([puback(5), pingreq]), Buffer.from([0xd0, 0])],
    ['PUBREC of nothing', Buffer.concat([pubrec(5), pingreq]), Buffer.from([0xd0, 0])],
    ['PUBCOMP of nothing', Buffer.concat([pubcomp(5), pingreq]), Buffer.from([0xd0, 0])],
    ['a second CONNECT', connectPacket({ secret }), 'connect_twice'],
    ['QoS 3', Buffer.concat([Buffer.from([0x36]), publish('a', 'b', { qos: 2 }).subarray(1)]), 'publish_qos'],
    ['DUP with QoS 0', Buffer.concat([Buffer.from([0x38]), publish('a', 'b').subarray(1)]), 'publish_dup'],
    ['packet id 0', publish('a', 'b', { qos: 1, id: 0 }), 'packet_id_zero'],
    ['a wildcard in a topic', publish('a/+', 'b'), 'topic_wildcard'],
    ['an empty topic', publish('', 'b'), 'topic_empty'],
    ['a topic that is no UTF-8', publish(accent, 'b'), 'topic_not_utf8'],
    ['a topic with NUL', publish('a\0b', 'b'), 'topic_not_utf8'],
    ['a topic longer than the packet', packet(0x30, Buffer.from([0, 9, 97])), 'packet_truncated'],
    ['a PUBLISH without a topic', packet(0x30), 'packet_truncated'],
    ['a PUBLISH of one byte', packet(0x30, Buffer.from([0])), 'packet_truncated'],
    ['a PUBLISH without its packet id', packet(0x32, text('a'), Buffer.from([1])), 'packet_truncated'],
    ['PUBACK with flags', Buffer.from([0x41, 2, 0, 1]), 'reserved_flags'],
    ['PUBACK of three bytes', Buffer.from([0x40, 3, 0, 1, 0]), 'packet_length'],
    ['PUBACK of packet id 0', puback(0), 'packet_id_zero'],
    ['PUBREL without its flag', Buffer.from([0x60, 2, 0, 1]), 'reserved_flags'],
    ['PINGREQ with flags', Buffer.from([0xc1, 0]), 'reserved_flags'],
    ['PINGREQ with a body', Buffer.from([0xc0, 1, 0]), 'packet_length'],
    ['DISCONNECT with flags', Buffer.from([0xe2, 0]), 'reserved_flags'],
    ['SUBSCRIBE without its flag', Buffer.concat([Buffer.from([0x80]), subscribe(1, ['a', 0]).subarray(1)]), 'reserved_flags'],
    ['SUBSCRIBE of nothing', packet(0x82, Buffer.from([0, 1])), 'no_filters'],
    ['SUBSCRIBE with packet id 0', subscribe(0, ['a', 0]), 'packet_id_zero'],
    ['SUBSCRIBE with QoS 3', subscribe(1, ['a', 3]), 'subscribe_qos'],
    ['SUBSCRIBE with reserved bits', subscribe(1, ['a', 0x80]), 'subscribe_qos'],
    ['a filter a#', subscribe(1, ['a#', 0]), 'filter_wildcard'],
    ['a filter a+', subscribe(1, ['b', 0], ['a+', 0]), 'filter_wildcard'],
    ['a filter #/a', subscribe(1, ['#/a', 0]), 'filter_wildcard'],
    ['an empty filter', subscribe(1, ['', 0]), 'filter_empty'],
    ['a filter that is no UTF-8', subscribe(1, [accent, 0]), 'filter_not_utf8'],
    ['UNSUBSCRIBE of nothing', packet(0xa2, Buffer.from([0, 1])), 'no_filters'],
    ['UNSUBSCRIBE without its flag', Buffer.concat([Buffer.from([0xa0]), unsubscribe(1, 'a').subarray(1)]), 'reserved_flags'],
    ['CONNACK', Buffer.from([0x20, 2, 0, 0]), 'packet_type'],
    ['SUBACK', Buffer.from([0x90, 3, 0, 1, 0]), 'packet_type'],
    ['PINGRESP', Buffer.from([0xd0, 0]), 'packet_type'],
    ['type 0', Buffer.from([0x00, 0]), 'packet_type'],
    ['type 15', Buffer.from([0xf0, 0]), 'packet_type'],
    ['a packet that claims too much', Buffer.from([0x30, 0xff, 0xff, 0x7f, 0, 1, 97]), 'packet_too_large'],
    ['a length of five bytes', Buffer.from([0x30, 0xff, 0xff, 0xff, 0xff, 1]), 'remaining_length']
  ]
  for (const [name, bytes, expected] of cases) {
    const client = await stage.client({ secret, clientId: 'c' })
    if (typeof expected === 'string') {
      const before = stage.edge.stats.closed.get(expected) ?? 0
      const letters = stage.refused.length
      client.send(bytes)
      await client.untilClosed()
      t.same(client.packets, [], `${name}: closed without an answer`)
      t.equal(stage.edge.stats.closed.get(expected), before + 1, `${name}: counted as ${expected}`)
      t.match(stage.refused.slice(letters), [{ tenant: 'acme', reason: 'packet_invalid', detail: expected }], `${name}: kept as a dead letter`)
    } else {
      client.send(bytes)
      t.same(await client.next(), expected, name)
    }
    client.end()
  }
  t.ok(mqttPacketBytesMax < 0x1fffff)
  await until(() => stage.edge.stats.sessions === 0 && stage.edge.stats.connections === 0)
})

t.test('the largest packet is taken, one byte more is refused by its header', async t => {
  const stage = await startStage(t)
  const secret = stage.registry.credential('application', 'acme')
  const room = mqttPacketBytesMax - publish('a', '', { qos: 1 }).length - 2
  const client = await stage.client({ secret })
  const largest = publish('a', Buffer.alloc(room, 1), { qos: 1, id: 3 })
  t.equal(largest.length, mqttPacketBytesMax)
  client.send(largest)
  t.same(await client.next(), puback(3))
  client.send(publish('a', Buffer.alloc(room + 1, 1), { qos: 1, id: 4 }).subarray(0, 10))
  await client.untilClosed()
  t.equal(stage.edge.stats.closed.get('packet_too_large'), 1)
})

t.test('what a client sends together with CONNECT is handled after CONNACK, in order', async t => {
  const stage = await startStage(t)
  const secret = stage.registry.device('acme', 'd1')
  const client = await stage.socket()
  client.send(connectPacket({ secret }), subscribe(1, ['devices/d1/twin/delta', 1]), publish('telemetry', '{"a":1}', { qos: 1, id: 2 }), pingreq)
  const packets = [await client.next(), await client.next(), await client.next(), await client.next()].map(each => each[0] >> 4)
  t.equal(packets[0], 2)
  t.same(packets.slice(1).sort((a, b) => a - b), [4, 9, 13])
  const later = await stage.socket()
  later.send(connectPacket({ secret, clientId: 'c2' }), publish('telemetry', '{"b":1}'), disconnect)
  t.same(await later.next(), Buffer.from([0x20, 2, 0, 0]))
  await later.untilClosed()
  await until(() => stage.journal.messages().length === 2)
  t.same(stage.journal.messages().map(message => message.payload), ['{"a":1}', '{"b":1}'])
})

t.test('no CONNECT in time closes the connection', async t => {
  const stage = await startStage(t, { tickMs: 5000, clock: new HandClock() })
  const silent = await stage.socket()
  const half = await stage.socket()
  half.send(connectPacket({ secret: 'x' }).subarray(0, 9))
  await until(() => stage.edge.stats.connections === 2)
  // Two ticks of five seconds each.
  stage.edge.advance()
  t.notOk(silent.closed)
  stage.edge.advance()
  await silent.untilClosed()
  await half.untilClosed()
  t.equal(stage.edge.stats.closed.get('connect_timeout'), 2)
})

t.test('keep-alive: silence of one and a half times closes, any packet keeps, and a will fires', async t => {
  const stage = await startStage(t, { clock: new HandClock() })
  const secret = stage.registry.credential('application', 'acme')
  const options: ConnectOptions = { secret, keepAlive: 4 }
  const silent = await stage.client({ ...options, clientId: 'silent', will: { topic: 'gone', payload: 'silent' } })
  const busy = await stage.client({ ...options, clientId: 'busy' })
  const eternal = await stage.client({ ...options, clientId: 'eternal', keepAlive: 0 })
  busy.send(subscribe(1, ['gone', 0]))
  await busy.next()
  for (let second = 1; second <= 7; second++) {
    busy.send(publish('a', 'x', { qos: 1, id: 1 }))
    t.same(await busy.next(), puback(1))
    t.equal(silent.closed, false, `alive after ${second - 1} seconds`)
    stage.edge.advance()
  }
  await silent.untilClosed()
  t.match((await busy.next()).toString(), /gone.*silent/)
  for (let second = 0; second < 600; second++) {
    stage.edge.advance()
    if (second % 5 === 0) { busy.send(pingreq); await busy.next() }
  }
  t.notOk(eternal.closed)
  t.notOk(busy.closed)
  t.equal(stage.edge.stats.closed.get('keep_alive'), 1)
})

t.test('beyond connectionsMax a socket is closed at once', async t => {
  const stage = await startStage(t, { connectionsMax: 1 })
  const secret = stage.registry.credential('application', 'acme')
  const first = await stage.client({ secret })
  const second: RawClient = await stage.socket()
  await second.untilClosed()
  t.equal(stage.edge.stats.refusedConnects.get('connections_max'), 1)
  first.end()
  await until(() => stage.edge.stats.connections === 0)
  t.ok(await stage.client({ secret }), 'room again')
})
