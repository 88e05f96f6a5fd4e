/** Runs of PUBLISH packets: what another implementation writes is walked exactly, and damage stops the walk at its place. */
import mqtt from 'mqtt-packet'
import t from 'tap'
import { forEachPublish } from '../../src/pipeline/decode/publish-run.js'

type Visited = Array<[string, string]>

function walk (run: Buffer, from = 0, to = run.length): { visited: Visited, result: number } {
  const visited: Visited = []
  const result = forEachPublish(run, from, to, (topicStart, topicEnd, payloadStart, payloadEnd) => {
    if (topicStart < from || payloadEnd > to || topicEnd > payloadStart || payloadStart > payloadEnd) throw new Error('bounds outside the run')
    visited.push([run.toString('utf8', topicStart, topicEnd), run.toString('latin1', payloadStart, payloadEnd)])
  })
  return { visited, result }
}

const publish = (topic: string, payload: string, qos: 0 | 1 | 2, dup = false, retain = false): Buffer =>
  mqtt.generate({ cmd: 'publish', topic, payload, qos, dup, retain, messageId: qos === 0 ? undefined : 7 })

const packets: ReadonlyArray<readonly [string, string, 0 | 1 | 2]> = [
  ['telemetry', '{"a":1}', 0], ['devices/d1/telemetry', '{"a":2}', 1], ['devices/é/telemetry', 'x'.repeat(120), 2], ['t', '', 0], ['t', '', 1],
  ['t', 'y'.repeat(127), 1], ['t', 'z'.repeat(16_400), 1], ['t', 'w'.repeat(200_000), 0]
]
const run = Buffer.concat(packets.map(([topic, payload, qos], i) => publish(topic, payload, qos, qos > 0 && i % 2 === 1, i % 3 === 0)))
const expected = packets.map(([topic, payload]) => [topic, payload])

void t.test('every packet of a run is visited in order, whatever its QoS, flags and length', async (t) => {
  const { visited, result } = walk(run)
  t.equal(result, -1)
  t.same(visited, expected)
})

void t.test('the run may stand anywhere in its buffer', async (t) => {
  const around = Buffer.concat([Buffer.alloc(13, 0x30), run, Buffer.alloc(7, 0x30)])
  t.same(walk(around, 13, 13 + run.length), { visited: expected, result: -1 })
})

void t.test('an empty run visits nothing', async (t) => {
  t.same(walk(Buffer.alloc(0)), { visited: [], result: -1 })
})

void t.test('a cut run visits the whole packets and names the offset of the cut one', async (t) => {
  const small = Buffer.concat(packets.slice(0, 6).map(([topic, payload, qos]) => publish(topic, payload, qos)))
  const starts = [0]
  for (const [topic, payload, qos] of packets.slice(0, 6)) starts.push(starts[starts.length - 1] + publish(topic, payload, qos).length)
  for (let end = 0; end < small.length; end++) {
    const whole = starts.filter((start) => start <= end).length - 1
    const { visited, result } = walk(Buffer.concat([small.subarray(0, end), Buffer.alloc(300, 0x30)]), 0, end)
    if (visited.length !== whole || result !== (starts[whole] === end ? -1 : starts[whole])) t.fail(`cut at ${end}`)
  }
  t.pass()
})

void t.test('what is no PUBLISH stops the walk', async (t) => {
  const good = publish('a', 'b', 0)
  for (const [what, bad] of [
    ['another packet type', mqtt.generate({ cmd: 'pingreq' })], ['QoS 3', Buffer.from([0x36, 5, 0, 1, 0x61, 0, 1])], ['a remaining length of five bytes', Buffer.from([0x30, 0x80, 0x80, 0x80, 0x80, 1, 0, 0])],
    ['no room for a topic length', Buffer.from([0x30, 1, 0])], ['a topic longer than the packet', Buffer.from([0x30, 3, 0, 2, 0x61])], ['no room for a packet id', Buffer.from([0x32, 4, 0, 1, 0x61, 0])]
  ] as const) {
    const { visited, result } = walk(Buffer.concat([good, bad, good]))
    t.same([visited.length, result], [1, good.length], what)
  }
})
