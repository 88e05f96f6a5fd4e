/** However the bytes are cut, and whatever they are: the same result, or a closed connection, never a crash. */
import t from 'tap'
import { connectPacket, packet, pingreq, publish, publishesIn, pubrel, startStage, subscribe, text, unsubscribe, until, type RawClient, type Stage } from './mqtt-harness.js'

/** Park and Miller's generator, so that a seed repeats a run. */
class Random {
  #state: number
  constructor (readonly seed: number) { this.#state = seed % 2147483646 + 1 }
  below (bound: number): number {
    this.#state = this.#state * 48271 % 2147483647
    return this.#state % bound
  }

  bytes (length: number): Buffer { return Buffer.from(Array.from({ length }, () => this.below(256))) }
}

const seed = Number(process.env.SEED ?? Date.now() % 1e9)

function session (random: Random): Buffer[] {
  const packets: Buffer[] = []
  for (let id = 1; id <= 60; id++) {
    const payload = '"' + 'x'.repeat(random.below(random.below(8) === 0 ? 20_000 : 200)) + `${id}"`
    const qos = random.below(3)
    switch (random.below(8)) {
      case 0: packets.push(subscribe(id, [`devices/gw/commands/${random.below(3)}/request/+`, 1], ['nothing', 0])); break
      case 1: packets.push(unsubscribe(id, 'devices/gw/x')); break
      case 2: packets.push(pingreq); break
      case 3: packets.push(publish('devices/gw/events/door', payload, { qos, id, retain: random.below(4) === 0 })); break
      case 4: packets.push(publish(`devices/child${random.below(4)}/telemetry`, payload, { qos, id })); break
      default: packets.push(publish(random.below(2) === 0 ? 'telemetry' : 'devices/gw/telemetry', payload, { qos, id }))
    }
    if (qos === 2) packets.push(pubrel(id))
  }
  // Answered after everything before it: a session that ends with a QoS 0 publish would have nothing to be waited for.
  packets.push(pingreq)
  return packets
}

async function stageWithGateway (t: Parameters<typeof startStage>[0]): Promise<Stage & { secret: string }> {
  const stage = await startStage(t)
  const secret = stage.registry.device('acme', 'gw')
  for (const child of [0, 1, 2]) stage.registry.device('acme', `child${child}`, 'gw')
  return { ...stage, secret }
}

/** Sends the packets in the given cuts and waits for all answers; every packet but a QoS 0 publish has one. */
async function outcome (stage: Stage, client: RawClient, packets: readonly Buffer[], chunks: readonly Buffer[]): Promise<unknown> {
  client.socket.setNoDelay(true)
  for (const chunk of chunks) {
    client.socket.write(chunk)
    // A pause now and then, so that cuts become reads.
    if (chunk.length < 3000) await new Promise(resolve => { setImmediate(resolve) })
  }
  const answers = packets.filter(each => (each[0] & 0xf6) !== 0x30).length
  await until(() => client.packets.length >= answers && stage.journal.waiting === 0)
  const isAcknowledgement = (each: Buffer): boolean => each[0] === 0x40 || each[0] === 0x50
  return {
    acknowledgements: client.packets.filter(isAcknowledgement).map(each => each.toString('hex')),
    others: client.packets.filter(each => !isAcknowledgement(each)).map(each => each.toString('hex')).sort(),
    journaled: stage.journal.messages().map(each => `${each.device} ${each.topic} ${each.payload}`),
    refused: stage.refused.map(each => `${each.topic} ${each.reason}`)
  }
}

t.test('whole, cut at random, and byte by byte: the same acknowledgements, answers and records', async t => {
  for (let round = 0; round < 4; round++) {
    const random = new Random(seed + round)
    const packets = session(random)
    const bytes = Buffer.concat(packets)
    const cut = (sizeMax: number): Buffer[] => {
      const chunks: Buffer[] = []
      for (let at = 0; at < bytes.length;) {
        const size = 1 + random.below(sizeMax)
        chunks.push(bytes.subarray(at, at += size))
      }
      return chunks
    }
    const results: unknown[] = []
    const short = bytes.length < 40_000
    for (const chunks of [[bytes], packets, cut(4000), cut(200), ...short ? [cut(1)] : []]) {
      const stage = await stageWithGateway(t)
      results.push(await outcome(stage, await stage.client({ secret: stage.secret }), packets, chunks))
    }
    for (const result of results.slice(1)) t.same(result, results[0], `seed ${seed + round}`)
  }
})

t.test('CONNECT byte by byte, with packets behind it', async t => {
  const stage = await stageWithGateway(t)
  const client = await stage.socket()
  const bytes = Buffer.concat([connectPacket({ secret: stage.secret }), publish('telemetry', '1', { qos: 1, id: 1 }), publish('devices/child1/telemetry', '2', { qos: 1, id: 2 })])
  client.socket.setNoDelay(true)
  for (const byte of bytes) {
    client.socket.write(Buffer.from([byte]))
    await new Promise(resolve => { setImmediate(resolve) })
  }
  t.same((await client.take(3)).toString('hex'), '200200004002000140020002')
})

t.test('a large packet among small ones, split anywhere, arrives whole', async t => {
  const stage = await stageWithGateway(t)
  const random = new Random(seed)
  const client = await stage.client({ secret: stage.secret })
  const sent: string[] = []
  for (let id = 1; id <= 30; id++) {
    const payload = `"${'y'.repeat(random.below(200_000))}"`
    sent.push(payload)
    const bytes = publish('telemetry', payload, { qos: 1, id })
    const at = random.below(Math.min(bytes.length, 10))
    client.socket.write(bytes.subarray(0, at))
    client.socket.write(bytes.subarray(at))
  }
  await until(() => client.packets.length === 30)
  t.ok(stage.journal.messages().map(each => each.payload).join() === sent.join(), `seed ${seed}`)
})

t.test('random bytes and damaged sessions close connections and harm nobody else', async t => {
  const stage = await stageWithGateway(t)
  const random = new Random(seed)
  const witness = await stage.client({ secret: stage.registry.device('acme', 'witness'), clientId: 'witness' })
  for (let round = 0; round < 150; round++) {
    const authenticated = random.below(3) > 0
    const client = authenticated ? await stage.client({ secret: stage.secret, clientId: `g${round}` }) : await stage.socket()
    let bytes: Buffer
    if (random.below(3) === 0) {
      bytes = random.bytes(1 + random.below(400))
    } else {
      bytes = Buffer.concat([...authenticated ? [] : [connectPacket({ secret: stage.secret, clientId: `g${round}` })], ...session(random).slice(0, 12)])
      for (let damage = 1 + random.below(5); damage > 0; damage--) bytes[random.below(bytes.length)] = random.below(256)
    }
    for (let at = 0; at < bytes.length;) client.send(bytes.subarray(at, at += 1 + random.below(300)))
    client.socket.end()
    await until(() => client.closed)
    client.end()
    if (round % 10 === 0) t.same(await witness.settle(), [], `seed ${seed}, round ${round}`)
  }
  for (const tenant of new Set(stage.journal.messages().map(each => each.tenant))) t.equal(tenant, 'acme')
  for (const { identity } of stage.journal.records) t.equal(identity.device, 'gw')
  witness.send(publish('telemetry', 'alive', { qos: 1, id: 1 }))
  t.equal((await witness.next())[0], 0x40)
  await until(() => stage.edge.stats.sessions === 1)
})

t.test('what the journal gets is made of whole, valid PUBLISH packets, whatever stood around them', async t => {
  const stage = await stageWithGateway(t)
  const client = await stage.client({ secret: stage.secret })
  const good = publish('telemetry', '1', { qos: 1, id: 1 })
  client.send(good, good, packet(0x32, text('telemetry'), Buffer.from([0, 0])))
  await client.untilClosed()
  await until(() => stage.journal.messages().length === 2)
  t.same(publishesIn(stage.journal.records[0].body).map(each => each.payload), ['1', '1'])
})
