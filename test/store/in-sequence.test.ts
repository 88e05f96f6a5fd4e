/**
 * Events of a sequence come in the order of their numbers from a log that several nodes write with clocks of their own. The log is the real
 * one; its clocks and its table are simulated here, as the seeds are to be many. On real Cassandra: cassandra-event-log-faults.ts.
 */
import t, { type Test } from 'tap'
import type { CassandraClient, Row } from '../../src/store/cluster/cassandra/cassandra-client.js'
import { CassandraEventLog } from '../../src/store/cluster/cassandra/cassandra-event-log.js'
import { laneOf, type LoggedEvent, type OutEvent } from '../../src/store/event-log.js'
import { belongsBefore, inSequence, type PlacedEvent } from '../../src/store/in-sequence.js'
import { decodeEvents } from '../../src/store/out-event-codec.js'
import { outEventOf } from './event-log.contract.js'
import { newSeed, randomFrom } from './store-fixtures.js'

t.setTimeout(60_000)

const settleMs = 2000
const windowMs = 1000
/** The greatest difference of two clocks, and what may pass before an event is told, so that they are within the window together. */
const clocksDifferMs = 250
const delayMsMax = windowMs - clocksDifferMs
const lane = 3
const devices = Array.from({ length: 100 }, (_, i) => `d${i}`).filter(device => laneOf('x', device) === lane).slice(0, 3)

type Draw = (below: number) => number

/** Rows that show up some time after they were written, and time that moves when it is told to. */
class Simulation {
  /** Not at the start of a slot of the log, and close enough to its end to cross it. */
  nowMs = 300_000 * 5_000_000 - 2500
  readonly #rows: (Row & { readonly lane: number, readonly slot: number, readonly writtenMs: number, readonly visibleMs: number })[] = []
  readonly #delayMs: () => number

  constructor (delayMs: () => number) { this.#delayMs = delayMs }

  /** What a node has: `offMs` is how far its clock is ahead. */
  log (offMs: number): CassandraEventLog {
    const clock = { nowUs: () => Math.floor((this.nowMs + offMs) * 1000), monotonicMs: () => this.nowMs }
    return new CassandraEventLog(this as unknown as CassandraClient, { clock, settleMs, windowMs })
  }

  async write (_cql: string, [of, slot, stamp, writer, events]: readonly unknown[]): Promise<void> {
    this.#rows.push({ lane: of as number, slot: slot as number, stamp, writer, events, writtenMs: this.nowMs, visibleMs: this.nowMs + this.#delayMs() })
    this.#rows.sort((a, b) => (a.stamp as number) - (b.stamp as number) || ((a.writer as string) < (b.writer as string) ? -1 : 1))
  }

  /** Told in a row that was there soon enough. */
  idsWithin (ms: number): Set<string> {
    return new Set(this.#rows.filter(({ visibleMs, writtenMs }) => visibleMs - writtenMs <= ms).flatMap(({ events }) => decodeEvents(events as Buffer).map(({ id }) => id)))
  }

  async page (_cql: string, [of, slot, from, fromWriter, to]: readonly unknown[], rows: number, pageState: string | null): Promise<{ rows: Row[], pageState: string | null }> {
    const found = this.#rows.filter(row => row.lane === of && row.slot === slot && row.visibleMs <= this.nowMs && (row.stamp as number) <= (to as number) &&
      ((row.stamp as number) > (from as number) || (row.stamp === from && (row.writer as string) >= (fromWriter as string))))
    const at = Number(pageState ?? 0)
    return { rows: found.slice(at, at + rows), pageState: at + rows < found.length ? String(at + rows) : null }
  }
}

function placed (placedUs: number, device: string, number: number, id: string, counts = true): PlacedEvent {
  return { position: String(placedUs).padStart(6, '0'), placedUs, event: outEventOf('x', device, number, { id, ...(counts ? {} : { sequence: undefined }) }) }
}

interface Telling { readonly atMs: number, readonly node: number, readonly events: readonly OutEvent[] }

/** Versions that nodes commit one after the other, and tell some time later; who commits on another's version tells that one before. */
function tellings (draw: Draw, { nodes, startMs }: { readonly nodes: number, readonly startMs: number }): Telling[] {
  const all: Telling[] = []
  const last = new Map<string, { readonly node: number, readonly event: OutEvent }>()
  let atMs = startMs
  const paceMs = [5, 60, 400][draw(3)]
  for (let i = 0; i < 60; i++) {
    atMs += draw(paceMs)
    const node = draw(nodes)
    const delayMs = draw(2) === 0 ? 0 : draw(delayMsMax)
    if (draw(5) === 0) {
      all.push({ atMs: atMs + delayMs, node, events: [outEventOf('x', devices[draw(devices.length)], i, { id: `other${i}`, sequence: undefined })] })
      continue
    }
    const device = devices[draw(devices.length)]
    const of = `s${draw(2)}`
    const before = last.get(`${device}/${of}`)
    const number = (before?.event.sequence?.number ?? 0) + 1
    const event = outEventOf('x', device, number, { id: `${device}/${of}/${number}`, sequence: { of, number } })
    all.push({ atMs: atMs + delayMs, node, events: before === undefined || before.node === node ? [event] : [before.event, event] })
    last.set(`${device}/${of}`, { node, event })
  }
  return all.sort((a, b) => a.atMs - b.atMs)
}

/** Where first tellings of a sequence do not ascend. */
function disordered (events: readonly LoggedEvent[]): string[] {
  const newest = new Map<string, number>()
  const seen = new Set<string>()
  return events.flatMap(({ event: { id, device, sequence } }) => {
    if (seen.has(id) || sequence === undefined) return []
    seen.add(id)
    const name = `${device}/${sequence.of}`
    const before = newest.get(name) ?? 0
    newest.set(name, Math.max(before, sequence.number))
    return sequence.number > before ? [] : [`${id} after ${before}`]
  })
}

interface Drill { readonly simulation: Simulation, readonly reader: CassandraEventLog, readonly found: readonly LoggedEvent[], readonly told: ReadonlySet<string> }

/** Nodes tell, and one reads behind them, in pages as they come. */
async function drill (t: Test, draw: Draw, name: string, delayMs: () => number): Promise<Drill> {
  const simulation = new Simulation(delayMs)
  const startMs = simulation.nowMs
  const offsMs = Array.from({ length: 2 + draw(3) }, () => draw(clocksDifferMs) - clocksDifferMs / 2)
  const nodes = offsMs.map(offMs => simulation.log(offMs))
  const reader = simulation.log(draw(clocksDifferMs) - clocksDifferMs / 2)
  const all = tellings(draw, { nodes: nodes.length, startMs: simulation.nowMs })
  const told = new Set(all.flatMap(({ events }) => events.map(({ id }) => id)))
  const found: LoggedEvent[] = []
  let position = reader.positionAt(lane, startMs * 1000)
  const read = async (): Promise<number> => {
    const page = await reader.readEvents(lane, position, 1 + draw(draw(2) === 0 ? 3 : 40))
    if (page.position < position || (page.events.length > 0 && page.position === position)) t.fail(`${name}: from ${position} to ${page.position}`)
    position = page.position
    found.push(...page.events)
    return page.events.length
  }
  const endMs = all[all.length - 1].atMs + settleMs + windowMs + 1000
  for (let next = 0; simulation.nowMs < endMs;) {
    simulation.nowMs = Math.min(simulation.nowMs + 1 + draw(150), next < all.length ? all[next].atMs : endMs)
    if (simulation.nowMs === all[next]?.atMs) {
      const { node, events } = all[next++]
      await nodes[node].appendEvents(events)
    }
    if (draw(4) === 0) await read()
  }
  while (await read() > 0) { /* On to the end. */ }
  return { simulation, reader, found, told }
}

async function readFrom (reader: CassandraEventLog, position: string, limit: number): Promise<LoggedEvent[]> {
  const found: LoggedEvent[] = []
  for (;;) {
    const page = await reader.readEvents(lane, position, limit)
    found.push(...page.events)
    position = page.position
    if (page.events.length === 0) return found
  }
}

const missing = (wanted: Iterable<string>, found: readonly LoggedEvent[]): string[] => {
  const ids = new Set(found.map(({ event }) => event.id))
  return [...wanted].filter(id => !ids.has(id))
}

void t.test('nodes whose clocks differ: every event comes, those of a sequence in the order of their numbers, and no position misses one', async t => {
  const seed = newSeed()
  const random = randomFrom(seed)
  const draw: Draw = below => Math.floor(random() * below)
  let again = 0
  let all = 0
  for (let round = 0; round < 150; round++) {
    const name = `seed ${seed} round ${round}`
    const { reader, found, told } = await drill(t, draw, name, () => draw(settleMs / 2))
    const findings = [...missing(told, found), ...disordered(found)]
    if (found.some(({ position }, i) => i > 0 && position < found[i - 1].position)) findings.push('a position falls')
    for (let i = 0; i < 4; i++) {
      const at = draw(found.length)
      const rest = await readFrom(reader, found[at].position, 1 + draw(30))
      findings.push(...missing(found.slice(at + 1).map(({ event }) => event.id), rest).map(id => `${id} is missed from ${at} on`), ...disordered(rest).map(text => `from ${at} on: ${text}`))
    }
    if (findings.length > 0) t.strictSame(findings, [], name)
    again += found.length
    all += told.size
  }
  // Pages of one event, of versions each of which is told late, or told again by another node: far more than there is.
  t.ok(again > all && again < 4 * all, `seed ${seed}: ${again} events of ${all}`)
})

void t.test('rows that show up when readers are past them hide no event that was there in time', async t => {
  const seed = newSeed()
  const random = randomFrom(seed)
  const draw: Draw = below => Math.floor(random() * below)
  for (let round = 0; round < 100; round++) {
    const name = `seed ${seed} round ${round}`
    const { simulation, found } = await drill(t, draw, name, () => draw(5) === 0 ? settleMs * draw(5) : draw(settleMs / 2))
    const inTime = simulation.idsWithin(settleMs / 2)
    if (inTime.size < 20) t.fail(`${name}: ${inTime.size} in time`)
    const lost = missing(inTime, found)
    if (lost.length > 0) t.strictSame(lost, [], name)
  }
  t.comment(`seed ${seed}`)
})

void t.test('whatever a page is cut at: lower numbers stand before higher ones, those of the page once, and positions lead on', async t => {
  const seed = newSeed()
  const random = randomFrom(seed)
  const draw: Draw = below => Math.floor(random() * below)
  for (let round = 0; round < 500; round++) {
    const name = `seed ${seed} round ${round}`
    const all = Array.from({ length: 1 + draw(20) }, (_, i): PlacedEvent => placed(i * 10, `d${draw(2)}`, draw(6), `e${i}`, draw(4) > 0))
    const cut = 1 + draw(all.length)
    const [page, behind] = [all.slice(0, cut), all.slice(cut)]
    const belongs = belongsBefore(page)
    const end = page[page.length - 1].position
    const whole = inSequence(page, belongs === null ? [] : behind.filter(({ event }) => belongs(event)), { after: '', end, windowUs: 1000, limit: 1000 })
    t.equal(whole.position, end)
    const ids = whole.events.map(({ event }) => event.id)
    if (new Set(ids).size !== ids.length || missing(page.map(({ event }) => event.id), whole.events).length > 0) t.fail(`${name}: ${ids.join()} of ${page.length}`)
    for (const device of ['d0', 'd1']) {
      const told = whole.events.filter(({ event }) => event.device === device && event.sequence !== undefined).map(({ event }) => event.sequence?.number as number)
      if (told.some((number, i) => i > 0 && number < told[i - 1])) t.fail(`${name}: ${told.join()}`)
    }
    const limit = 1 + draw(5)
    const some = inSequence(page, behind, { after: '', end, windowUs: 1000, limit })
    t.strictSame(some.events, inSequence(page, behind, { after: '', end, windowUs: 1000, limit: 1000 }).events.slice(0, some.events.length))
    t.ok(some.position > '' && (some.events.length <= limit || some.events.slice(0, -1).every(({ position }) => position === '')), name)
    some.events.forEach(({ position }, i) => {
      const again = new Set(all.filter(event => event.position > position).map(({ event }) => event.id))
      if (!some.events.slice(i + 1).every(({ event }) => again.has(event.id))) t.fail(`${name}: a position skips`)
    })
    const passed = all.filter(({ position }) => position <= some.position).map(({ event }) => event.id)
    if (missing(passed, some.events).length > 0) t.fail(`${name}: the page's position skips`)
  }
})

void t.test('an event further behind a higher number than the window keeps its place', async t => {
  const page = [placed(0, 'd', 2, 'two'), placed(1001, 'd', 1, 'one')]
  t.strictSame(inSequence(page, [], { after: '', end: 'z', windowUs: 1000, limit: 10 }), { events: page.map(({ position, event }) => ({ position, event })), position: 'z' })
  t.strictSame(inSequence(page, [], { after: '', end: 'z', windowUs: 1001, limit: 10 }).events.map(({ event }) => event.id), ['one', 'two'])
})
