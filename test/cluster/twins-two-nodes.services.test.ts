/** INVARIANTS 5 on two real nodes: many writers on one twin, a node that dies under them, devices deleted and made again, devices that move. */
import mqtt, { type MqttClient } from 'mqtt'
import t, { type Test } from 'tap'
import type { ApiAnswer } from '../../simulators/twinfold-api.js'
import { seededRandom } from '../../simulators/fleet/seeded-random.js'
import { systemClock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import { laneOf, type OutEvent } from '../../src/store/event-log.js'
import { openStore } from '../../src/store/open-store.js'
import type { Store } from '../../src/store/store.js'
import { EventStreamClient, type ToldEvent } from '../support/told-events.js'
import { allChanges, DesiredWriter, getTwin, historyFindings, pauseMs, TwinReporter, until } from '../support/twin-drill.js'
import { skipWithout, startPrivateRedis } from '../support/services.js'
import { addReader, addWriter, Load, newReads, seenBy, write, WriterLedger } from './twins-load.js'
import { redisLosesCopies } from './twins-redis.js'
import { startTwoNodes, tenant, type TwoNodes } from './two-nodes.js'

const waitMs = 30_000
const seed = Number(process.env.SEED ?? Date.now() % 2 ** 31)
const random = seededRandom(seed)

interface World { readonly nodes: TwoNodes, readonly stream: EventStreamClient }

async function requireTold (test: Test, { stream }: World, device: string, version: number): Promise<void> {
  await until(`the stream has ${version} events of ${device}`, waitMs, () => stream.told.of(device).length >= version).catch(error => { test.fail((error as Error).message) })
  test.strictSame(stream.told.findings(device, version), [], 'every version came out as an event, in order')
}

async function pairs (test: Test, { nodes: { a, b } }: World): Promise<void> {
  await a.api.createDevice('pair')
  await seenBy([a, b], 'pair')
  const ledger = new WriterLedger('pair')
  let { version } = await getTwin(b.api, 'pair')
  const rounds = 25
  for (let i = 1; i <= rounds; i++) {
    const before = ledger.successes.length
    await Promise.all([a, b].map(async ({ api, name }) => await write(ledger, api, { leaf: name, number: i, ifMatch: version })))
    if (ledger.successes.length !== before + 1) test.fail(`${ledger.successes.length - before} of two writers with If-Match ${version} succeeded`)
    version++
  }
  test.equal(ledger.conflicts, rounds, 'the other gets 412')
  test.strictSame(ledger.findings(await allChanges(a.api, 'pair')), [])
  test.strictSame([(await getTwin(a.api, 'pair')).version, (await getTwin(b.api, 'pair')).version], [version, version])
}

/** Conditional changes that succeeded and that failed, at least; and how long they may take. */
const enough = 10
const enoughWithinMs = 15_000

async function manyWriters (test: Test, world: World): Promise<void> {
  const { a, b } = world.nodes
  await a.api.createDevice('many')
  await seenBy([a, b], 'many')
  const ledger = new WriterLedger('many')
  const reads = newReads()
  const load = new Load(test)
  for (const node of [a, b]) {
    for (let i = 0; i < 4; i++) addWriter(load, ledger, node, `${node.name}${i}`, { conditional: i % 2 === 0, pauseMs: () => random() * (i % 2 === 0 ? 5 : 60) })
    addReader(load, ledger, node, reads)
  }
  addReader(load, ledger, b, reads)
  await pauseMs(1000 + random() * 500)
  const conditionals = (): number => ledger.successes.filter(({ ifMatch }) => ifMatch !== null).length
  // A busy machine gets as long as it takes to have something to look at.
  for (const untilMs = performance.now() + enoughWithinMs; (conditionals() <= enough || ledger.conflicts <= enough) && performance.now() < untilMs;) await pauseMs(50)
  await a.kill()
  await pauseMs(200)
  await a.start()
  await pauseMs(500)
  await load.stop()
  const { version } = await getTwin(b.api, 'many')
  test.equal((await getTwin(a.api, 'many')).version, version)
  const changes = await allChanges(b.api, 'many')
  test.strictSame(historyFindings(changes, version), [], `${version} versions, a change each`)
  test.strictSame(ledger.findings(changes), [], 'each acknowledged version is its writer\'s, and no version has two')
  test.strictSame(reads.behind, [], `${reads.count} reads, none behind what was acknowledged`)
  test.strictSame(reads.failed.filter(line => line.startsWith('b')), [], 'the node that lives answers all the time')
  await requireTold(test, world, 'many', version)
  const conditional = conditionals()
  test.comment(`${version} versions; ${conditional} with and ${ledger.successes.length - conditional} without If-Match acknowledged, ${ledger.conflicts} conflicts, ${ledger.unknown.size} not answered`)
  test.ok(conditional > enough && ledger.conflicts > enough, 'enough to mean something')
}

interface Life {
  /** `leaf:number` of all that was acknowledged before the device was asked to go. */
  readonly old: ReadonlySet<string>
  readonly oldVersion: number
  /** When the next one was seen first. */
  readonly nextVersion: number
}

const textsOf = (part: object | undefined): string[] => Object.entries(part ?? {}).map(([leaf, value]) => `${leaf}:${String(value)}`)

/** Events of the next life that hold what the one before was told. */
function comebacks (lives: readonly Life[], events: readonly ToldEvent[]): string[] {
  return lives.flatMap(({ old, oldVersion, nextVersion }, i) => {
    const deletion = events.findLast(({ type, sequence }) => type.endsWith('twin.deleted') && Number(sequence) <= nextVersion)
    if (deletion === undefined || Number(deletion.sequence) <= oldVersion) return [`life ${i + 1}: no deletion between ${oldVersion} and ${nextVersion}`]
    return events.filter(({ sequence }) => Number(sequence) > Number(deletion.sequence)).flatMap(({ sequence, data: { patch } }) =>
      [...textsOf(patch.desired), ...textsOf(patch.reported)].filter(text => old.has(text)).map(text => `life ${i + 1} ended with version ${deletion.sequence}, and ${text} is in ${sequence}`))
  })
}

/** 503 (too much contention at the moment) may be tried again. */
async function insist (expected: number, action: () => Promise<ApiAnswer>): Promise<ApiAnswer> {
  for (;;) {
    const answer = await action()
    if (answer.status === expected) return answer
    if (answer.status !== 503) throw new Error(`${answer.status} instead of ${expected}: ${JSON.stringify(answer.body)}`)
    await pauseMs(50)
  }
}

async function deletedAndMade (test: Test, world: World): Promise<void> {
  const { a, b } = world.nodes
  const any = (): typeof a => random() < 0.5 ? a : b
  const ledger = new WriterLedger('phoenix')
  const load = new Load(test)
  for (const node of [a, b]) for (let i = 0; i < 3; i++) addWriter(load, ledger, node, `${node.name}${i}`, { conditional: false, pauseMs: () => random() * 15 })
  const lives: Life[] = []
  const reports = new Set<string>()
  let reporter: TwinReporter | null = null
  test.teardown(() => { reporter?.close() })
  const cycles = 6
  for (let cycle = 0; cycle <= cycles; cycle++) {
    const { body } = await insist(201, async () => await any().api.ask('POST', '/devices', { id: 'phoenix' }))
    const twins = await seenBy([a, b], 'phoenix')
    const before = lives.pop()
    if (before !== undefined) {
      lives.push({ ...before, nextVersion: Math.min(...twins.map(({ version }) => version)) })
      for (const { version, desired, reported } of twins) {
        if (version <= before.oldVersion) test.fail(`version ${version} after ${before.oldVersion}`)
        test.strictSame([...textsOf(desired), ...textsOf(reported)].filter(text => before.old.has(text)), [], 'old state does not come back')
      }
    }
    if (cycle === cycles) break
    const current: TwinReporter = reporter = new TwinReporter({ id: 'phoenix', token: (body as { token: { secret: string } }).token.secret, random, pauseMsMax: 5, inFlight: 8 })
    current.ledger.last = cycle * 1_000_000
    current.run(any().server.mqttPort)
    await pauseMs(200 + random() * 250)
    for (const number of current.ledger.acked) for (const text of textsOf(current.ledger.body(number)).slice(1)) reports.add(text)
    lives.push({ old: new Set([...ledger.successes.map(({ leaf, number }) => `${leaf}:${number}`), ...reports]), oldVersion: ledger.floor, nextVersion: 0 })
    await insist(200, async () => await any().api.ask('DELETE', '/devices/phoenix'))
    if (random() < 0.5) test.strictSame(await Promise.all([a, b].map(async ({ api }) => (await api.ask('GET', '/devices/phoenix/twin')).status)), [404, 404], 'it is gone on both nodes at once')
    current.close()
  }
  await pauseMs(200)
  await load.stop()
  test.strictSame(ledger.strange, [])
  const twin = await getTwin(a.api, 'phoenix')
  await requireTold(test, world, 'phoenix', twin.version)
  const events = world.stream.told.of('phoenix')
  test.strictSame(comebacks(lives, events).slice(0, 5), [], 'no event of a life after the deletion that ended it')
  const last = events.findLastIndex(({ type }) => type.endsWith('twin.deleted'))
  test.strictSame({ ...twin.desired }, Object.assign({}, ...events.slice(last + 1).map(({ data }) => data.patch.desired ?? {})), 'the twin is what its last life was told')
  test.comment(`${cycles} deletions over ${twin.version} versions; ${ledger.successes.length} changes and ${reports.size} reports acknowledged, ${ledger.absent} writers told that it is gone`)
  test.ok(ledger.successes.length > 50 && reports.size > 20, 'enough to mean something')
}

interface Message { readonly version: number, readonly desiredVersion: number, readonly state: { readonly d?: number } }

/** What one connection of the device was told, and what was wrong with it. */
class Connection {
  readonly desired: Message[] = []
  readonly wrong: string[] = []
  readonly client: MqttClient
  onDesired: ((message: Message) => void) | null = null

  constructor (options: { readonly port: number, readonly token: string, readonly clean: boolean, readonly floor: () => number, readonly name: string }) {
    const floor = options.floor()
    this.client = mqtt.connect({ port: options.port, clientId: 'mover', username: options.token, clean: options.clean, reconnectPeriod: 0 })
    this.client.on('error', () => { /* It is taken over, or ended. */ })
    this.client.on('connect', () => { this.client.subscribe(['devices/mover/twin/desired', 'devices/mover/twin/delta'], { qos: 1 }, () => { /* What comes is what counts. */ }) })
    const newest = { desired: 0, delta: 0 }
    this.client.on('message', (topic, payload) => {
      const message = JSON.parse(payload.toString()) as Message
      const kind = topic.endsWith('/desired') ? 'desired' : 'delta'
      if (newest[kind] === 0 && (message.state.d ?? 0) < floor) this.wrong.push(`${options.name}: the first ${kind} has d ${message.state.d ?? 0}, ${floor} was acknowledged before it connected`)
      if (message.version < newest[kind]) this.wrong.push(`${options.name}: ${kind} ${message.version} after ${newest[kind]}`)
      newest[kind] = message.version
      if (kind === 'delta') return
      this.desired.push(message)
      this.onDesired?.(message)
    })
  }

  end (): void { this.client.end(true) }
}

/** Clocks of nodes may be 250 ms apart: what tells of later versions comes behind what the other node told all the same. */
async function toldInOrder (test: Test, { nodes }: World): Promise<void> {
  const open = async (offUs: number): Promise<Store> => {
    const store = await openStore(nodes.store, { clock: { ...systemClock, nowUs: () => systemClock.nowUs() + offUs }, log: silentLog, writer: false })
    test.teardown(async () => { await store.close() })
    return store
  }
  const [ahead, behind] = [await open(0), await open(-200_000)]
  const lane = laneOf(tenant, 'clocks')
  const version = (number: number): OutEvent => ({ id: `clocks/${number}`, tenant, device: 'clocks', type: 'twin.changed', stamp: systemClock.nowUs() + number, data: '{}', sequence: { of: 'twin/', number } })
  const [one, two, three] = [version(1), version(2), version(3)]
  let position = await behind.endOfEvents(lane)
  await ahead.appendEvents([one])
  await ahead.appendEvents([two])
  // As a twin's writer does: the other's last commit again, then its own.
  await behind.appendEvents([two, three])
  const order: string[] = []
  await until('all are read', waitMs, async () => {
    const page = await ahead.readEvents(lane, position, 1)
    position = page.position
    order.push(...page.events.filter(({ event }) => event.device === 'clocks').map(({ event }) => event.id))
    return [one, two, three].every(({ id }) => order.includes(id))
  })
  test.strictSame([...new Set(order)], [one.id, two.id, three.id], 'in order of versions')
}

async function moves (test: Test, { nodes: { a, b } }: World): Promise<void> {
  const token = await a.api.createDevice('mover')
  const writer = new DesiredWriter('mover', random, 10)
  writer.run(a.api)
  await until('it writes', waitMs, () => writer.ledger.ackedMax > 0)
  const connections: Connection[] = []
  test.teardown(() => {
    writer.close()
    for (const connection of connections) connection.end()
  })
  const firstMs: number[] = []
  let seen = 0
  for (let move = 0; move < 10; move++) {
    const [to, other] = random() < 0.5 ? [a, b] : [b, a]
    const old = connections.at(-1)
    const how = ['left', 'cut', 'taken over'][Math.floor(random() * 3)]
    if (how === 'left') await old?.client.endAsync()
    if (how === 'cut') old?.end()
    const floor = Math.max(seen, writer.ledger.ackedMax)
    const startMs = performance.now()
    const connection = new Connection({ port: to.server.mqttPort, token, clean: random() < 0.5, floor: () => floor, name: `move ${move + 1} (${how}, to ${to.name})` })
    connections.push(connection)
    // Who writes is now on this node, now on the other.
    writer.run(random() < 0.3 ? to.api : other.api)
    await until('the first desired comes', waitMs, () => connection.desired.length > 0)
    firstMs.push(performance.now() - startMs)
    await pauseMs(random() * 250)
    seen = Math.max(seen, ...connection.desired.map(({ state }) => state.d ?? 0))
  }
  await writer.finish()
  const connection = connections.at(-1) as Connection
  await until('the device has the newest', waitMs, () => connection.desired.at(-1)?.state.d === writer.ledger.last)
  test.strictSame(connections.flatMap(({ wrong }) => wrong), [], 'first thing on reconnect, and never an older after a newer')
  test.comment(`10 moves, ${writer.ledger.last} changes, ${connections.reduce((sum, { desired }) => sum + desired.length, 0)} told; the first after ${quantiles(firstMs)} of connecting`)

  connection.end()
  const onB = new Connection({ port: b.server.mqttPort, token, clean: true, floor: () => writer.ledger.last, name: 'on b' })
  connections.push(onB)
  await until('it is on b', waitMs, () => onB.desired.length > 0)
  const tookMs: number[] = []
  for (let i = 1; i <= 40; i++) {
    const startMs = performance.now()
    const arrived = new Promise<number>(resolve => { onB.onDesired = ({ state }) => { if (state.d === writer.ledger.last + i) resolve(performance.now() - startMs) } })
    await a.api.ask('PATCH', '/devices/mover/twin', { desired: { d: writer.ledger.last + i } })
    tookMs.push(await arrived)
    await pauseMs(5)
  }
  test.strictSame(onB.wrong, [])
  test.comment(`from the request on one node to the device on the other: ${quantiles(tookMs)}`)
  test.ok(tookMs.sort((x, y) => x - y)[20] < 500, 'at once')
}

function quantiles (times: readonly number[]): string {
  const sorted = times.toSorted((x, y) => x - y)
  return `p50 ${sorted[Math.floor(sorted.length / 2)].toFixed(0)} ms, most ${(sorted.at(-1) as number).toFixed(0)} ms`
}

void t.test('twins of two nodes', { timeout: 200_000 }, async test => {
  if (skipWithout(test, 'cassandra') || skipWithout(test, 'redis')) return
  test.comment(`seed ${seed}, tenant ${tenant}`)
  const redis = await startPrivateRedis()
  test.teardown(async () => { await redis.close() })
  const nodes = await startTwoNodes(test, { skewMs: [0, -100], settings: { TWINFOLD_REDIS: redis.url } })
  const stream = new EventStreamClient(nodes.key, Date.now() - 5000)
  test.teardown(async () => { await stream.close() })
  stream.run(nodes.b.server.httpUrl)
  const world: World = { nodes, stream }
  await test.test('of two writers with the same If-Match, one on each node, one succeeds and one gets 412', async sub => { await pairs(sub, world) })
  await test.test('many writers on one twin through both nodes, one of which dies: one success for each version, and no reader sees less than was acknowledged', async sub => { await manyWriters(sub, world) })
  await test.test('a device deleted and made again while both nodes write: versions go on, old state and old events do not come back', async sub => { await deletedAndMade(sub, world) })
  await test.test('a node whose clock is behind tells of its commits behind those that they were made upon', async sub => { await toldInOrder(sub, world) })
  await test.test('a device that moves between nodes has the newest first thing, at once on every change, and never an older after a newer', async sub => { await moves(sub, world) })
  await test.test('Redis flushed, killed, and back from a stale snapshot under load, a node killed before its copies are there: no reader sees less than was acknowledged', async sub => {
    const versions = await redisLosesCopies(sub, nodes, redis, random)
    for (const [device, version] of versions) await requireTold(sub, world, device, version)
  })
})
