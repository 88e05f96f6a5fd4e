/** Streams of events: they begin where they are asked to, go on where they broke, at the client's pace, and end when they must. */
import t from 'tap'
import { randomInt } from 'node:crypto'
import { seededRandom } from '../../simulators/fleet/seeded-random.js'
import { systemClock } from '../../src/core/clock.js'
import { chosenTypes } from '../../src/events/event-types.js'
import type { EventSink, EventStreamReader } from '../../src/events/event-stream-reader.js'
import type { EventStreamRequest } from '../../src/events/event-streams.js'
import type { Events } from '../../src/events/events.js'
import { encodePosition } from '../../src/events/stream-position.js'
import type { Principal } from '../../src/tenancy/model.js'
import { bench, disordered, eventOf, type CloudEvent } from './events-bench.js'

t.setTimeout(60_000)

const principal: Principal = { credentialId: 'c1', role: 'operator', tenant: 'acme', device: null }

/** A client that may stop taking. */
class Client implements EventSink {
  writable = true
  ended: 'soft' | 'hard' | null = null
  lastId = ''
  readonly events: CloudEvent[] = []
  readonly words: string[] = []
  reader: EventStreamReader | null = null
  /** Becomes full after each write where it is set. */
  room = Infinity
  #text = ''

  write (text: string): void {
    this.#text += text
    const blocks = this.#text.split('\n\n')
    this.#text = blocks.pop() as string
    for (const block of blocks) {
      const fields = new Map(block.split('\n').map(line => [line.slice(0, line.indexOf(': ')), line.slice(line.indexOf(': ') + 2)]))
      const data = fields.get('data')
      if (data?.includes('specversion') === true) this.events.push(JSON.parse(data) as CloudEvent)
      else if (data !== undefined) this.words.push(fields.get('event') as string)
      this.lastId = fields.get('id') ?? this.lastId
    }
    if (--this.room <= 0) this.writable = false
  }

  end (hard: boolean): void { this.ended = hard ? 'hard' : 'soft' }

  take (writes: number): void {
    this.room = writes
    this.writable = true
    this.reader?.drained()
  }

  async until (holds: () => boolean): Promise<void> {
    const endMs = performance.now() + 10_000
    while (!holds()) {
      if (performance.now() > endMs) throw new Error(`not so: ${this.events.length} events, ${this.words.join()}`)
      await new Promise(resolve => { setTimeout(resolve, 5) })
    }
  }
}

async function watch (events: Events, more: Partial<EventStreamRequest> = {}): Promise<Client> {
  const client = new Client()
  const start = await events.streams.prepare({ principal, tenant: 'acme', types: chosenTypes([]) as Set<string>, devices: null, filter: null, ...more })
  client.reader = events.streams.watch(start, client)
  return client
}

t.test('a stream begins at the end, gets what it chose, and nothing of another tenant', async t => {
  const { store, events } = await bench(t)
  await store.appendEvents([eventOf('acme', 'd', 1)])
  const all = await watch(events)
  const one = await watch(events, { devices: new Set(['d']), types: chosenTypes(['command.*']) as Set<string> })
  await store.appendEvents([eventOf('acme', 'd', 2), eventOf('bolt', 'd', 3), eventOf('acme', 'e', 4, { type: 'command.changed' }), eventOf('acme', 'd', 5, { type: 'command.changed' })])
  await all.until(() => all.events.length === 3)
  t.same(all.events.map(({ data }) => data.number).sort(), [2, 4, 5])
  await one.until(() => one.events.length === 1)
  t.same(one.events.map(({ data }) => data.number), [5])
})

t.test('a stream from a time on has everything since', async t => {
  const { store, events } = await bench(t)
  await store.appendEvents([eventOf('acme', 'd', 1)])
  const fromUs = systemClock.nowUs()
  await store.appendEvents([eventOf('acme', 'd', 2), eventOf('acme', 'e', 3)])
  const client = await watch(events, { fromUs })
  await client.until(() => client.events.length === 2)
  t.same(client.events.map(({ data }) => data.number).sort(), [2, 3])
  const old = await watch(events, { fromUs: fromUs - 8 * 24 * 3600 * 1e6 })
  await old.until(() => old.events.length === 3)
  t.same(old.words, ['gap'], 'who asks for more than is kept is told')
})

t.test('a stream that breaks again and again loses nothing, in whatever place', async t => {
  const { store, events } = await bench(t)
  const seed = randomInt(2 ** 31)
  t.comment(`seed ${seed}`)
  const random = seededRandom(seed)
  let client = await watch(events)
  const got: CloudEvent[] = []
  const sent: string[] = []
  for (let number = 0; number < 1500;) {
    const group = Array.from({ length: 1 + Math.floor(random() * 30) }, () => eventOf('acme', `d${Math.floor(random() * 20)}`, number++))
    await store.appendEvents(group)
    sent.push(...group.map(({ id }) => id))
    if (random() < 0.2) {
      await new Promise(resolve => { setTimeout(resolve, random() * 10) })
      events.streams.end(client.reader as EventStreamReader, true)
      got.push(...client.events)
      client = await watch(events, { lastId: client.lastId })
    }
  }
  const ids = new Set<string>()
  await client.until(() => {
    for (const { id } of [...got.splice(0), ...client.events]) ids.add(id)
    return ids.size === sent.length
  })
  t.same([...ids].sort(), sent.sort())
  t.ok(events.stats.streams.resumed > 3)
})

t.test('a client that takes little is behind and gets everything in order; one that takes nothing is cut', async t => {
  const { store, events } = await bench(t, { streamLimits: { keepAliveMs: 60, stalledMsMax: 400 } })
  const slow = await watch(events)
  const dead = await watch(events)
  slow.take(1)
  dead.take(1)
  for (let i = 0; i < 20; i++) await store.appendEvents(Array.from({ length: 50 }, (_, j) => eventOf('acme', `d${j % 7}`, i * 50 + j)))
  while (slow.events.length < 1000) {
    await slow.until(() => !slow.writable || slow.events.length === 1000)
    slow.take(1)
  }
  t.same(disordered(slow.events), [])
  t.equal(new Set(slow.events.map(({ id }) => id)).size, 1000)
  await dead.until(() => dead.ended !== null)
  t.equal(dead.ended, 'hard')
  t.ok(dead.events.length < 1000)
  t.equal(events.stats.streams.stalled, 1)
})

t.test('the number of streams is bounded, revoked ones end, and a server that stops says so', async t => {
  const { events } = await bench(t, { streamLimits: { perTenantMax: 3, perNodeMax: 4 } })
  const clients = await Promise.all([watch(events), watch(events), watch(events, { principal: { ...principal, credentialId: 'c2' } })])
  await t.rejects(watch(events), { code: 'throttled' })
  const other = await watch(events, { tenant: 'bolt', principal: { ...principal, tenant: 'bolt' } })
  await t.rejects(watch(events, { tenant: 'cork' }), { code: 'throttled' })
  t.equal(events.disconnect(({ credentialId }) => credentialId === 'c2'), 1)
  t.same(clients.map(({ ended }) => ended), [null, null, 'soft'])
  t.same(clients[2].words, ['revoked'])
  t.equal(events.stats.streams.streams, 3)
  events.streams.endAll()
  t.same(other.words, ['closing'])
  await t.rejects(watch(events), { code: 'not_ready' })
})

t.test('a stream that was away longer than events are kept is told of the gap; a stream that idles is told where it is', async t => {
  const { events } = await bench(t, { streamLimits: { keepAliveMs: 40 } })
  const client = await watch(events, { lastId: encodePosition({ atMs: Date.now() - 8 * 24 * 3600 * 1000, lanes: new Map() }) })
  t.same(client.words, ['gap'])
  client.lastId = ''
  await client.until(() => client.lastId !== '')
  await t.rejects(watch(events, { lastId: 'mine' }), { code: 'invalid_field', field: 'Last-Event-ID' })
})
