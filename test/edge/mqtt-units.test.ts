import t from 'tap'
import { AckEntryPool, AckQueue, AckSlab, type AckEntry } from '../../src/edge/mqtt/ack-queue.js'
import { Lane, type LaneJob } from '../../src/edge/mqtt/lane.js'
import { PartialPacket } from '../../src/edge/mqtt/partial-packet.js'
import { PacketAssembler } from '../../src/edge/mqtt/assembler.js'
import { TelemetryWatch } from '../../src/edge/mqtt/telemetry-watch.js'
import { TimerWheel, type WheelItem } from '../../src/edge/mqtt/timer-wheel.js'
import { exceedsTopicLimits, filterFault, filterMatches, messageReach, telemetryReach, topicNameFault } from '../../src/edge/mqtt/topic-grammar.js'
import { headerBytes, headerIncomplete, headerMalformed, newPacket, packetBytes } from '../../src/edge/mqtt/wire.js'
import { newSeed, randomFrom } from '../store/store-fixtures.js'
import { publish } from './mqtt-harness.js'

t.test('remaining lengths of the standard are read and written (table 2.4)', async t => {
  for (const [remaining, header] of [[0, 2], [127, 2], [128, 3], [16_383, 3], [16_384, 4], [2_097_151, 4], [2_097_152, 5], [268_435_455, 5]]) {
    const { packet, at } = remaining > 3_000_000 ? { packet: Buffer.from([0x30, 0xff, 0xff, 0xff, 0x7f]), at: 5 } : newPacket(0x30, remaining)
    t.equal(at, header, `${remaining} has a header of ${header} bytes`)
    t.equal(packetBytes(packet, 0, packet.length), header + remaining)
    t.equal(headerBytes(packet, 0), header)
    for (let end = 0; end < header; end++) t.equal(packetBytes(packet, 0, end), headerIncomplete)
  }
  t.equal(packetBytes(Buffer.from([0x30, 0x80, 0x80, 0x80, 0x80, 1]), 0, 6), headerMalformed)
})

t.test('topic names and filters are judged as section 4.7 says', async t => {
  const names: [string | Buffer, string | null][] = [
    ['a', null], ['/', null], ['a//b', null], ['a b/ü', null], ['', 'topic_empty'], ['a+', 'topic_wildcard'], ['#', 'topic_wildcard'],
    ['a\0b', 'topic_not_utf8'], [Buffer.from([0xc0, 0x80]), 'topic_not_utf8'], [Buffer.from([0xed, 0xa0, 0x80]), 'topic_not_utf8'], [Buffer.from([0xff]), 'topic_not_utf8']
  ]
  for (const [name, fault] of names) t.equal(topicNameFault(Buffer.from(name)), fault, JSON.stringify(name))
  const filters: [string, string | null][] = [
    ['#', null], ['+', null], ['+/+', null], ['/+', null], ['a/#', null], ['/', null], ['a/+/b', null], ['+/a/#', null],
    ['', 'filter_empty'], ['a#', 'filter_wildcard'], ['a+', 'filter_wildcard'], ['+a', 'filter_wildcard'], ['#/a', 'filter_wildcard'], ['a/#/b', 'filter_wildcard'], ['##', 'filter_wildcard'], ['a/++', 'filter_wildcard'], ['a\0', 'filter_not_utf8']
  ]
  for (const [filter, fault] of filters) t.equal(filterFault(Buffer.from(filter)), fault, filter)
  t.notOk(exceedsTopicLimits(Buffer.from('a/'.repeat(15) + 'a')))
  t.ok(exceedsTopicLimits(Buffer.from('a/'.repeat(16) + 'a')))
  t.ok(exceedsTopicLimits(Buffer.alloc(1025, 97)))
  const matches: [string, string, boolean][] = [
    ['a/#', 'a', true], ['a/#', 'a/b/c', true], ['a/+', 'a', false], ['a/+', 'a/', true], ['+/+', '/x', true], ['#', '$SYS/x', false], ['+/x', '$SYS/x', false], ['$SYS/#', '$SYS/x', true], ['a', 'a/b', false], ['a/b', 'a', false]
  ]
  for (const [filter, topic, expected] of matches) t.equal(filterMatches(filter, topic), expected, `${filter} on ${topic}`)
})

t.test('a filter reaches telemetry exactly where it matches a telemetry topic', async t => {
  const levels = ['devices', '+', '#', 'd1', 'd2', 'telemetry', 'twin', '']
  const filters: string[] = []
  for (const a of levels) for (const b of levels) for (const c of levels) for (const d of [null, '#', '+', 'x']) {
    for (const depth of [1, 2, 3, 4]) {
      const filter = [a, b, c, d].slice(0, depth).filter(level => level !== null).join('/')
      if (filter !== '' && filterFault(Buffer.from(filter)) === null) filters.push(filter)
    }
  }
  let compared = 0
  for (const filter of new Set(filters)) {
    const reach = telemetryReach(`t/${filter}`)
    for (const device of ['d1', 'd2', 'telemetry']) {
      const matched = filterMatches(filter, `devices/${device}/telemetry`)
      const reached = reach !== null && (reach.device === null || reach.device === device)
      if (matched !== reached) t.fail(`${filter} on ${device}: matches ${matched}, reaches ${reached}`)
      compared++
    }
  }
  t.ok(compared > 300)
  t.equal(telemetryReach('t/devices/d1/twin/#'), null)
  t.same(telemetryReach('t/devices/d1/telemetry'), { tenant: 't', device: 'd1' })
})

t.test('a filter reaches messages for the applier wherever it matches one of their topics', async t => {
  const levels = ['+', '#', 'd1', 'twin', 'reported', 'delta', 'commands', 'request', 'response', 'events', 'x']
  const topics = ['twin/reported', 'twin/x/reported', 'events/x', 'events/reported', 'commands/x/response/x', 'commands/twin/response/reported']
  const seed = newSeed()
  t.comment(`seed ${seed}`)
  const random = randomFrom(seed)
  const pick = (): string => levels[Math.floor(random() * levels.length)]
  let reached = 0
  for (let i = 0; i < 20_000; i++) {
    const filter = ['devices', ...Array.from({ length: 1 + Math.floor(random() * 6) }, pick)].join('/')
    if (filterFault(Buffer.from(filter)) !== null) continue
    const reach = messageReach(`t/${filter}`)
    if (reach !== null) reached++
    for (const device of ['d1', 'd2']) {
      const matched = topics.find(topic => filterMatches(filter, `devices/${device}/${topic}`))
      if (matched !== undefined && (reach === null || (reach.device !== null && reach.device !== device))) t.fail(`${filter} matches ${matched} of ${device} and does not reach it`)
    }
  }
  t.ok(reached > 500)
  for (const filter of ['devices/d1/twin/delta', 'devices/d1/twin/desired', 'devices/d1/twin/+/delta', 'devices/d1/commands/+/request/+', 'devices/d1/telemetry', 'devices/d1/twin/get/+', 'chat/#']) {
    t.equal(messageReach(`t/${filter}`), null, `${filter}: as devices subscribe, and it costs their reports nothing`)
  }
  for (const filter of ['#', '+/#', 'devices/#']) t.same(messageReach(`t/${filter}`), { tenant: 't', device: null })
  t.same(messageReach('t/devices/d1/twin/#'), { tenant: 't', device: 'd1' })
})

t.test('the telemetry watch knows who listens, and moves the epoch at every change', async t => {
  const watch = new TelemetryWatch()
  const slots = [watch.tenantSlot('t'), watch.deviceSlot('t', 'd1')] as const
  const epochs = [watch.epoch(...slots)]
  t.notOk(watch.online('t', 'd1'))
  watch.added('t/devices/d1/#')
  epochs.push(watch.epoch(...slots))
  t.ok(watch.online('t', 'd1'))
  t.notOk(watch.online('t', 'd2'))
  t.notOk(watch.online('u', 'd1'))
  watch.added('t/devices/d1/#')
  watch.removed('t/devices/d1/#')
  t.ok(watch.online('t', 'd1'), 'one of two listeners is left')
  watch.removed('t/devices/d1/#')
  epochs.push(watch.epoch(...slots))
  t.notOk(watch.online('t', 'd1'))
  watch.added('t/#')
  epochs.push(watch.epoch(...slots))
  t.ok(watch.online('t', 'd2'))
  watch.added('t/chat/+')
  t.equal(watch.epoch(...slots), epochs[3], 'a filter that cannot match telemetry changes nothing')
  t.equal(new Set(epochs).size, epochs.length)
})

t.test('the timer wheel calls every item at its time, once, whatever was cancelled or scheduled anew', async t => {
  const seed = Date.now() % 2147483647
  let state = seed
  const random = (below: number): number => { state = (state * 48271) % 2147483647; return state % below }
  const wheel = new TimerWheel(16)
  class Item implements WheelItem {
    wheelNext: WheelItem | null = null
    wheelPrevious: WheelItem | null = null
    wheelSlot = -1
    expected = -1
    called = 0
    due (): void {
      if (wheel.tick !== this.expected) t.fail(`called at ${wheel.tick} instead of ${this.expected}, seed ${seed}`)
      this.called++
      this.expected = -1
      if (random(2) === 0) plan(this)
    }
  }
  const plan = (item: Item): void => {
    const delay = 1 + random(16)
    item.expected = wheel.tick + delay
    wheel.schedule(item, delay)
  }
  const items = Array.from({ length: 50 }, () => new Item())
  for (let round = 0; round < 300; round++) {
    for (const item of items) {
      if (random(10) === 0) plan(item)
      else if (random(20) === 0) { wheel.cancel(item); item.expected = -1 }
    }
    wheel.advance()
    for (const item of items) if (item.expected !== -1 && item.expected <= wheel.tick) t.fail(`an item was missed, seed ${seed}`)
  }
  t.ok(items.some(item => item.called > 0))
  const late = new Item()
  late.expected = wheel.tick + 16
  wheel.schedule(late, 1000)
  for (let i = 0; i < 16; i++) wheel.advance()
  t.equal(late.called, 1, 'a longer delay is cut to the size of the wheel')
})

t.test('acknowledgements leave in the order of the publishes, in one write', async t => {
  const pool = new AckEntryPool(10)
  const queue = new AckQueue(pool)
  const slab = new AckSlab(64)
  const writes: Buffer[] = []
  const sink = { send: (bytes: Buffer) => { writes.push(Buffer.from(bytes)) } }
  const entry = (...ids: number[]): AckEntry => {
    slab.reserve(ids.length)
    const entry = pool.take()
    entry.slab = slab.slab
    entry.start = slab.at
    for (const id of ids) slab.write(0x40, id >> 8, id & 255)
    entry.end = slab.at
    entry.messages = Math.max(1, ids.length)
    entry.bytes = 10
    return entry
  }
  const entries = [entry(1, 2), entry(3), entry(), entry(4), entry(5)]
  entries.forEach((each, i) => { queue.push(each, i % 2 === 0) })
  t.equal(queue.messages, 6)
  entries[1].done = true
  t.equal(queue.drain(sink), 0, 'nothing overtakes')
  t.equal(queue.shiftJournaled(), entries[0])
  t.equal(queue.shiftJournaled(), entries[2])
  entries[0].done = true
  entries[2].done = true
  t.equal(queue.drain(sink), 3)
  t.same(writes, [Buffer.from([0x40, 2, 0, 1, 0x40, 2, 0, 2, 0x40, 2, 0, 3])])
  t.equal(queue.messages, 2)
  t.equal(queue.shiftJournaled(), entries[4])
  t.equal(queue.shiftJournaled(), null)
  entries[3].done = entries[4].done = true
  t.equal(queue.drain(sink), 2)
  t.ok(queue.empty)
  t.equal(queue.bytes, 0)
  t.equal(pool.take().slab, null, 'a pooled entry holds nothing')
})

t.test('exclusive jobs of a lane run alone and in order', async t => {
  const lane = new Lane()
  const log: string[] = []
  const job = (name: string, exclusive: boolean): LaneJob => ({ exclusive, start: () => { log.push(name) } })
  const jobs = { a: job('a', false), b: job('b', false), c: job('c', true), d: job('d', false), e: job('e', true) }
  for (const each of Object.values(jobs)) lane.push(each)
  t.same(log, ['a', 'b'])
  lane.finished(jobs.a)
  t.same(log, ['a', 'b'])
  lane.finished(jobs.b)
  t.same(log, ['a', 'b', 'c'])
  lane.finished(jobs.c)
  t.same(log, ['a', 'b', 'c', 'd'])
  lane.finished(jobs.d)
  lane.finished(jobs.e)
  t.same(log, ['a', 'b', 'c', 'd', 'e'])
  t.ok(lane.idle)
  const immediate: LaneJob[] = []
  for (let i = 0; i < 5; i++) {
    const each: LaneJob = { exclusive: true, start: () => { log.push(`i${i}`); lane.finished(each) } }
    immediate.push(each)
    lane.push(each)
  }
  t.same(log.slice(5), ['i0', 'i1', 'i2', 'i3', 'i4'], 'jobs that finish while they start')
})

t.test('a partial packet takes exactly its bytes, and its memory follows what has arrived', async t => {
  const whole = publish('a/b', Buffer.alloc(1000, 7), { qos: 1, id: 9 })
  for (let cut = 1; cut < whole.length; cut += 97) {
    const partial = new PartialPacket(whole.subarray(0, cut))
    const read = Buffer.concat([whole.subarray(cut), Buffer.from([0xc0, 0])])
    t.equal(partial.fill(read, 10_000), whole.length - cut)
    t.same(partial.whole, whole)
  }
  const bytewise = new PartialPacket(whole.subarray(0, 1))
  for (let i = 1; i < whole.length; i++) if (bytewise.fill(whole.subarray(i, i + 1), 10_000) !== 1) t.fail(`byte ${i}`)
  t.same(bytewise.whole, whole)
  t.equal(new PartialPacket(Buffer.from([0x30, 0xff])).fill(Buffer.from([0xff, 0x03]), 10_000), -1, 'too large is refused by the header')
  t.equal(new PartialPacket(Buffer.from([0x30, 0xff, 0xff])).fill(Buffer.from([0xff, 0xff]), 300_000_000), -1, 'a length of five bytes')
})

t.test('the assembler gives whole packets, whatever pieces the broker writes', async t => {
  const assembler = new PacketAssembler()
  const got: string[] = []
  const sink = { outgoing: (packet: Buffer) => { got.push(packet.toString('hex')) } }
  const other = { outgoing: () => { t.fail('not for this one') } }
  assembler.write(sink, Buffer.from([0xd0, 0]))
  assembler.write(other, Buffer.from([0x30]))
  for (const piece of [Buffer.from([0x30]), Buffer.from([5]), Buffer.from([0, 3]), 'a/b']) assembler.write(sink, piece)
  const large = Buffer.alloc(200_000, 1)
  const packet = publish('t', large)
  assembler.write(sink, packet.subarray(0, 4))
  assembler.write(sink, packet.subarray(4))
  t.same(got, ['d000', '30050003612f62', packet.toString('hex')])
})
