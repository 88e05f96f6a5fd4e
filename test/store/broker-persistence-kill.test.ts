/** Real processes and sockets: a broker on this persistence is killed with SIGKILL and started again. */
import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { connect as connectSocket } from 'node:net'
import { fileURLToPath } from 'node:url'
import mqtt, { type IClientOptions, type MqttClient } from 'mqtt'
import mqttPacket, { type IPublishPacket, type Packet } from 'mqtt-packet'
import t from 'tap'
import type { BrokerPersistenceStats } from '../../src/store/embedded/broker/persistence.js'
import { randomFrom, temporaryDirectory } from './broker-persistence-fixture.js'

interface Report {
  readonly port?: number
  readonly stats?: BrokerPersistenceStats
  readonly published?: string
}

class BrokerProcess {
  readonly #child: ChildProcess
  readonly published: string[] = []
  port = 0
  #told: (report: Report) => void = () => {}

  private constructor (directory: string) {
    this.#child = fork(fileURLToPath(new URL('./broker-persistence-server.js', import.meta.url)), [directory], { execArgv: [] })
    this.#child.on('message', (report: Report) => {
      if (report.published !== undefined) this.published.push(report.published)
      else this.#told(report)
    })
  }

  static async start (directory: string): Promise<BrokerProcess> {
    const broker = new BrokerProcess(directory)
    broker.port = (await broker.#answer()).port as number
    return broker
  }

  async #answer (): Promise<Report> {
    return await new Promise((resolve) => { this.#told = resolve })
  }

  async stats (): Promise<BrokerPersistenceStats> {
    const answer = this.#answer()
    this.#child.send('stats')
    return (await answer).stats as BrokerPersistenceStats
  }

  /** Waits until the condition holds; the test's own time limit ends it otherwise. */
  async until (holds: (stats: BrokerPersistenceStats) => boolean): Promise<void> {
    while (!holds(await this.stats())) await new Promise((resolve) => setTimeout(resolve, 10))
  }

  async kill (): Promise<void> {
    const exited = once(this.#child, 'exit')
    this.#child.kill('SIGKILL')
    await exited
  }
}

async function client (port: number, clientId: string, options: IClientOptions = {}): Promise<MqttClient> {
  const client = mqtt.connect(`mqtt://127.0.0.1:${port}`, { clientId, reconnectPeriod: 0, resubscribe: false, ...options })
  client.on('error', () => {})
  await new Promise((resolve) => client.once('connect', resolve))
  return client
}

/** Collects messages until there are `count` of them. */
async function take (port: number, clientId: string, count: number): Promise<string[]> {
  const messages: string[] = []
  const subscriber = mqtt.connect(`mqtt://127.0.0.1:${port}`, { clientId, clean: false, reconnectPeriod: 0, resubscribe: false })
  const done = new Promise<void>((resolve) => {
    subscriber.on('message', (_topic, payload) => { if (messages.push(String(payload)) === count) resolve() })
  })
  await done
  // A surplus message would come now.
  await subscriber.publishAsync('acme/other', 'x', { qos: 1 })
  await subscriber.endAsync()
  return messages
}

void t.test('retained messages, sessions and queued messages survive SIGKILL, all of them once and in order', async (t) => {
  const directory = temporaryDirectory(t)
  let broker = await BrokerProcess.start(directory)
  const subscriber = await client(broker.port, 'acme/app', { clean: false })
  await subscriber.subscribeAsync('acme/queue/#', { qos: 2 })
  await subscriber.endAsync()
  const publisher = await client(broker.port, 'acme/publisher')
  const sent: string[] = []
  for (let i = 0; i < 200; i++) {
    sent.push(`m${i}`)
    publisher.publish(`acme/queue/${i % 7}`, `m${i}`, { qos: i % 2 === 0 ? 1 : 2 })
    if (i < 50) publisher.publish(`acme/state/${i}`, `s${i}`, { qos: 1, retain: true })
  }
  await broker.until(({ queued, retained }) => queued === 200 && retained === 50)
  await broker.kill()
  publisher.end(true)

  broker = await BrokerProcess.start(directory)
  t.match(await broker.stats(), { queued: 200, retained: 50, sessions: 1 })
  const received = await take(broker.port, 'acme/app', 200)
  t.same([...received].sort(), [...sent].sort(), 'each once')
  for (const qos of [0, 1]) {
    const inOrder = sent.filter((_, i) => i % 2 === qos)
    t.same(received.filter((name) => Number(name.slice(1)) % 2 === qos), inOrder, `QoS ${qos + 1} in the order they were published`)
  }
  await broker.until(({ queued, queuedBytes }) => queued === 0 && queuedBytes === 0)

  const dashboard = await client(broker.port, 'acme/dashboard')
  const states: string[] = []
  const all = new Promise<void>((resolve) => dashboard.on('message', (_topic, payload) => { if (states.push(String(payload)) === 50) resolve() }))
  await dashboard.subscribeAsync('acme/state/+', { qos: 1 })
  await all
  t.same(states.sort(), Array.from({ length: 50 }, (_, i) => `s${i}`).sort())
  await dashboard.endAsync()
  await broker.kill()
})

void t.test('whatever Aedes had finished publishing when the process died is delivered after a restart', async (t) => {
  const seed = Date.now() % 2 ** 31
  const random = randomFrom(seed)
  const directory = temporaryDirectory(t)
  let broker = await BrokerProcess.start(directory)
  const subscriber = await client(broker.port, 'acme/app', { clean: false })
  await subscriber.subscribeAsync('acme/queue', { qos: 1 })
  await subscriber.endAsync()
  const finished: string[] = []
  for (let round = 0; round < 3; round++) {
    const publisher = await client(broker.port, 'acme/publisher')
    for (let i = 0; i < 300; i++) publisher.publish('acme/queue', `${round}-${i}`, { qos: 1 })
    const enough = 20 + random(150)
    while (broker.published.length < enough) await new Promise((resolve) => setTimeout(resolve, 1))
    await broker.kill()
    publisher.end(true)
    finished.push(...broker.published)
    broker = await BrokerProcess.start(directory)
  }
  const { queued } = await broker.stats()
  const received = await take(broker.port, 'acme/app', queued)
  t.ok(finished.length >= 60 && finished.every((name) => received.includes(name)), `${finished.length} of ${queued}, seed ${seed}`)
  t.equal(new Set(received).size, received.length, 'none twice')
  for (const round of ['0-', '1-', '2-']) {
    const numbers = received.filter((name) => name.startsWith(round)).map((name) => Number(name.slice(2)))
    t.same(numbers, Array.from({ length: numbers.length }, (_, i) => i), `round ${round} without a hole, seed ${seed}`)
  }
  await broker.kill()
})

/** A client that acknowledges nothing by itself. */
class RawClient {
  readonly #socket
  readonly received: Packet[] = []
  #wake: () => void = () => {}

  constructor (port: number, clientId: string) {
    const parser = mqttPacket.parser()
    this.#socket = connectSocket(port, '127.0.0.1')
    this.#socket.on('error', () => {})
    this.#socket.on('data', (bytes) => parser.parse(bytes))
    parser.on('packet', (packet) => {
      this.received.push(packet)
      this.#wake()
    })
    this.send({ cmd: 'connect', protocolId: 'MQTT', protocolVersion: 4, clientId, clean: false, keepalive: 0 })
  }

  send (packet: Packet): void {
    this.#socket.write(mqttPacket.generate(packet))
  }

  async publishes (count: number): Promise<IPublishPacket[]> {
    for (;;) {
      const found = this.received.filter((packet) => packet.cmd === 'publish')
      if (found.length >= count) return found
      await new Promise<void>((resolve) => { this.#wake = resolve })
    }
  }

  async answer (cmd: Packet['cmd']): Promise<Packet> {
    for (;;) {
      const found = this.received.find((packet) => packet.cmd === cmd)
      if (found !== undefined) return found
      await new Promise<void>((resolve) => { this.#wake = resolve })
    }
  }

  destroy (): void {
    this.#socket.destroy()
  }
}

void t.test('what was sent and not acknowledged comes again with DUP and its identifier, and a QoS 2 handshake goes on where it was', async (t) => {
  const directory = temporaryDirectory(t)
  let broker = await BrokerProcess.start(directory)
  let raw = new RawClient(broker.port, 'acme/app')
  raw.send({ cmd: 'subscribe', messageId: 1, subscriptions: [{ topic: 'acme/queue', qos: 2 }] })
  await raw.answer('suback')
  const publisher = await client(broker.port, 'acme/publisher')
  for (let i = 0; i < 6; i++) await publisher.publishAsync('acme/queue', String(i), { qos: 2 })
  const first = await raw.publishes(6)
  t.ok(first.every(({ dup }) => !dup))
  // The first is taken over (PUBREC), the second finished, the rest left alone.
  raw.send({ cmd: 'pubrec', messageId: first[0].messageId as number })
  raw.send({ cmd: 'pubrec', messageId: first[1].messageId as number })
  await broker.until(({ queuedBytes, queued }) => queued === 6 && queuedBytes < 6 * 40 - 60)
  raw.send({ cmd: 'pubcomp', messageId: first[1].messageId as number })
  await broker.until(({ queued }) => queued === 5)
  raw.destroy()
  await publisher.publishAsync('acme/queue', '6', { qos: 2 })
  await broker.until(({ queued }) => queued === 6)
  await broker.kill()
  publisher.end(true)

  broker = await BrokerProcess.start(directory)
  raw = new RawClient(broker.port, 'acme/app')
  const again = await raw.publishes(5)
  t.match(await raw.answer('connack'), { sessionPresent: true, returnCode: 0 })
  t.match(await raw.answer('pubrel'), { messageId: first[0].messageId })
  t.same(again.map(({ payload, dup }) => `${String(payload)} ${dup}`), ['2 true', '3 true', '4 true', '5 true', '6 false'])
  t.same(again.slice(0, 4).map(({ messageId }) => messageId), first.slice(2).map(({ messageId }) => messageId))
  t.notOk(first.some(({ messageId }) => messageId === again[4].messageId), 'a new message has an identifier of its own')
  raw.send({ cmd: 'pubcomp', messageId: first[0].messageId as number })
  for (const { messageId } of again) raw.send({ cmd: 'pubrec', messageId: messageId as number })
  for (const { messageId } of again) raw.send({ cmd: 'pubcomp', messageId: messageId as number })
  await broker.until(({ queued }) => queued === 0)
  raw.destroy()
  await broker.kill()
})
