import t from 'tap'
import { createServer, type AddressInfo } from 'node:net'
import { parser } from 'mqtt-packet'
import { startAckSink } from '../../simulators/fleet/ack-sink.js'
import { LatencyHistogram } from '../../simulators/fleet/latency-histogram.js'
import { MqttLoad } from '../../simulators/fleet/mqtt-load.js'
import { encodeConnect, encodePublish, encodeSubscribe } from '../../simulators/fleet/packets.js'
import { patchTs, tsWidth, WalkingMetrics } from '../../simulators/fleet/payloads.js'
import { PublishRing } from '../../simulators/fleet/publish-ring.js'
import { seededRandom } from '../../simulators/fleet/seeded-random.js'

function parsePackets (bytes: Buffer): Record<string, unknown>[] {
  const packets: Record<string, unknown>[] = []
  const reader = parser({ protocolVersion: 4 })
  reader.on('packet', packet => packets.push(packet as unknown as Record<string, unknown>))
  reader.on('error', error => { throw error })
  reader.parse(bytes)
  return packets
}

void t.test('the packets are what an independent MQTT parser reads', async t => {
  const payload = Buffer.alloc(20_000, 0x61)
  const packets = parsePackets(Buffer.concat([
    encodeConnect({ clientId: 'c1', username: 'token' }), encodePublish('devices/ü/telemetry', 65_535, payload, { duplicate: true }), encodeSubscribe(7, 'devices/+/x/#', 1)
  ]))
  t.match(packets[0], { cmd: 'connect', clientId: 'c1', clean: true, keepalive: 0, protocolVersion: 4 })
  t.equal(String(packets[0].username), 'token')
  t.match(packets[1], { cmd: 'publish', topic: 'devices/ü/telemetry', messageId: 65_535, qos: 1, dup: true })
  t.ok((packets[1].payload as Buffer).equals(payload))
  t.match(packets[2], { cmd: 'subscribe', messageId: 7, subscriptions: [{ topic: 'devices/+/x/#', qos: 1 }] })
})

void t.test('patchTs writes every microsecond timestamp as exact milliseconds', async t => {
  const seed = Date.now() % 2 ** 31
  const random = seededRandom(seed)
  const bytes = Buffer.from('#0000000000000.000#')
  t.equal(bytes.length, tsWidth + 2)
  const wrong: string[] = []
  for (let i = 0; i < 20_000; i++) {
    const tsUs = 1e15 + Math.floor(random() * 7e15)
    patchTs(bytes, 1, tsUs)
    const text = bytes.toString('latin1')
    const expected = `#${Math.floor(tsUs / 1000)}.${String(tsUs % 1000).padStart(3, '0')}#`
    if (text !== expected) wrong.push(`${text} instead of ${expected}`)
  }
  t.same(wrong.slice(0, 3), [], `seed ${seed}`)
})

void t.test('a stamped ring never gives two readings of a device the same timestamp, and stays readable', async t => {
  const ring = new PublishRing({ length: 10, topicOf: index => `devices/d${index % 2}/telemetry`, metrics: new WalkingMetrics(10, seededRandom(3)), stamped: true })
  const seen = new Set<string>()
  let last = 0
  for (let lap = 0; lap < 50; lap++) {
    last = ring.stamp(0, 10, 1_700_000_000_000_000 + lap * 3, last)
    for (const [index, packet] of parsePackets(Buffer.from(ring.slice(0, 10))).entries()) {
      const body = JSON.parse(String(packet.payload)) as { ts: number, values: Record<string, number> }
      const holds = packet.messageId === index + 1 && Math.round(body.ts * 1000) === ring.stampOf(index) && Object.keys(body.values).length === 10
      if (!holds) t.fail(`lap ${lap}, packet ${index}: ${String(packet.payload)}`)
      seen.add(`${String(packet.topic)} ${body.ts}`)
    }
  }
  t.equal(seen.size, 500)
})

void t.test('the histogram is within 1.6 % of the exact quantiles', async t => {
  const seed = Date.now() % 2 ** 31
  const random = seededRandom(seed)
  const halves = [new LatencyHistogram(), new LatencyHistogram()]
  const values = Array.from({ length: 20_000 }, (_, i) => {
    const value = Math.exp(random() * 12) / 100
    halves[i % 2].add(value)
    return value
  }).sort((a, b) => a - b)
  halves[0].merge(halves[1])
  t.equal(halves[0].count, values.length)
  t.equal(halves[0].maxMs, values[values.length - 1])
  for (const share of [0.01, 0.5, 0.9, 0.99, 0.999]) {
    const exact = values[Math.ceil(share * values.length) - 1]
    t.ok(Math.abs(halves[0].quantileMs(share) / exact - 1) < 0.016, `quantile ${share}, seed ${seed}`)
  }
  t.equal(new LatencyHistogram().quantileMs(0.5), 0, 'nothing has no latency')
})

function load (port: number, more: { connections: number, inFlight: number, ratePerSecond?: number }): MqttLoad {
  const ring = new PublishRing({ length: 64, topicOf: () => 'telemetry', metrics: new WalkingMetrics(3, seededRandom(1)), stamped: false })
  return new MqttLoad({ host: '127.0.0.1', port, ratePerSecond: 0, usernameOf: () => undefined, ringOf: () => ring, stamped: false, nowUs: () => Date.now() * 1000, ...more })
}

void t.test('a closed loop never has more in flight than asked, and every publish is counted once', async t => {
  const received: number[] = []
  let greatest = 0
  // Acknowledges in odd pieces, so that PUBACKs are torn apart between reads.
  const server = createServer({ noDelay: true }, socket => {
    let unacked = 0
    let pieces: Buffer = Buffer.alloc(0)
    const reader = parser({ protocolVersion: 4 })
    reader.on('packet', packet => {
      if (packet.cmd === 'connect') { socket.write(Buffer.from([0x20, 2, 0, 0])); return }
      if (packet.cmd !== 'publish') return
      received.push(packet.messageId as number)
      greatest = Math.max(greatest, ++unacked)
      pieces = Buffer.concat([pieces, Buffer.from([0x40, 2, (packet.messageId as number) >> 8, (packet.messageId as number) & 0xff])])
    })
    socket.on('data', bytes => { reader.parse(bytes) })
    socket.on('error', () => {})
    const timer = setInterval(() => {
      const count = Math.min(pieces.length, 7)
      if (count === 0) return
      const before = Math.ceil(pieces.length / 4)
      socket.write(pieces.subarray(0, count))
      pieces = pieces.subarray(count)
      unacked -= before - Math.ceil(pieces.length / 4)
    }, 1)
    socket.on('close', () => { clearInterval(timer) })
  })
  await new Promise<void>(resolve => { server.listen(0, '127.0.0.1', resolve) })
  t.teardown(() => { server.close() })
  const fleet = load((server.address() as AddressInfo).port, { connections: 1, inFlight: 5 })
  t.teardown(() => { fleet.close() })
  await fleet.open()
  fleet.start()
  while (fleet.count().acked < 150) await new Promise(resolve => { setTimeout(resolve, 5) })
  const { sent, acked, lost } = await fleet.drain(20_000)
  t.equal(sent, acked)
  t.equal(lost, 0)
  t.equal(received.length, sent)
  t.ok(greatest <= 5, `at most 5 in flight, seen ${greatest}`)
  t.same(received, Array.from({ length: sent }, (_, i) => i % 64 + 1), 'packet ids go round the ring')
  t.ok(fleet.takeLatency().count > 0)
})

void t.test('an open loop sends what is due and no more', async t => {
  const { port, server } = await startAckSink(0)
  t.teardown(() => { server.close() })
  const fleet = load(port, { connections: 3, inFlight: 64, ratePerSecond: 2000 })
  t.teardown(() => { fleet.close() })
  await fleet.open()
  const startedMs = performance.now()
  fleet.start()
  await new Promise(resolve => { setTimeout(resolve, 300) })
  const { sent, acked } = await fleet.drain(20_000)
  t.equal(sent, acked)
  t.ok(sent > 0)
  t.ok(sent <= Math.ceil((performance.now() - startedMs) * 2), `${sent} is at most what was due`)
})

void t.test('a refused connection is an error, not a wait', async t => {
  const server = createServer(socket => {
    socket.on('error', () => {})
    socket.on('data', () => { socket.end(Buffer.from([0x20, 2, 0, 5])) })
  })
  await new Promise<void>(resolve => { server.listen(0, '127.0.0.1', resolve) })
  t.teardown(() => { server.close() })
  const fleet = load((server.address() as AddressInfo).port, { connections: 2, inFlight: 1 })
  t.teardown(() => { fleet.close() })
  await t.rejects(fleet.open(), { message: /was closed/ })
})
