/** Events out on Cassandra: two nodes share the lanes, and one takes over from another that falls silent. */
import t, { type Test } from 'tap'
import { setTimeout as pause } from 'node:timers/promises'
import { systemClock } from '../../src/core/clock.js'
import { TwinfoldError } from '../../src/core/errors.js'
import { chosenTypes } from '../../src/events/event-types.js'
import type { EventsOptions } from '../../src/events/events.js'
import { CassandraClaims } from '../../src/store/cluster/cassandra/cassandra-claims.js'
import type { CassandraClient } from '../../src/store/cluster/cassandra/cassandra-client.js'
import { CassandraDocuments } from '../../src/store/cluster/cassandra/cassandra-documents.js'
import { CassandraEventLog } from '../../src/store/cluster/cassandra/cassandra-event-log.js'
import { methodsOf } from '../../src/store/methods-of.js'
import { migratedKeyspace, openClient } from '../store/cassandra-fixture.js'
import { skipWithout } from '../support/services.js'
import { disordered, eventOf, newReceiver, openEvents, type CloudEvent } from './events-bench.js'

t.setTimeout(120_000)

type NodeStore = EventsOptions['store']

/** The store of one node. `dead`: nothing reaches it any more. */
function storeOf (t: Test, client: CassandraClient): { store: NodeStore, life: { dead: boolean } } {
  // The store's own settling time would be waited for again and again.
  const log = new CassandraEventLog(client, { clock: systemClock, settleMs: 400, windowMs: 100 })
  t.teardown(() => { log.close() })
  const life = { dead: false }
  const whole = {
    ...methodsOf(log, ['appendEvents', 'readEvents', 'endOfEvents', 'positionAt', 'trimEvents', 'onAppended']),
    ...methodsOf(new CassandraDocuments(client), ['getDocument', 'putDocument', 'deleteDocument', 'listDocuments', 'documentTenants']),
    ...methodsOf(new CassandraClaims(client, { clock: systemClock }), ['takeClaim', 'releaseClaim']),
    getDevice: async () => null,
    settleMs: log.settleMs
  }
  const store = new Proxy(whole, {
    get: (target, name) => {
      const member = target[name as keyof typeof target] as unknown
      if (typeof member !== 'function' || name === 'positionAt' || name === 'onAppended') return member
      return async (...given: unknown[]) => {
        if (life.dead) throw new TwinfoldError('store_unavailable', 'this node is dead')
        return await (member as (...parameters: unknown[]) => Promise<unknown>)(...given)
      }
    }
  }) as unknown as NodeStore
  return { store, life }
}

t.test('on Cassandra', async t => {
  if (skipWithout(t, 'cassandra')) return
  const client = await openClient(t, await migratedKeyspace(t))
  t.test('two nodes share the lanes; when one falls silent the other takes over, nothing is lost and each device stays in order', async t => { await takesOver(t, client) })
  t.test('a stream on one node has what another told, and goes on where it broke', async t => { await streamsGoOn(t, client) })
})

async function takesOver (t: Test, client: CassandraClient): Promise<void> {
  const a = storeOf(t, client)
  const b = storeOf(t, client)
  const live = ['a', 'b']
  const more = { live: () => live, leaseMs: 1500, refreshMs: 300 }
  const receiver = await newReceiver(t)
  const nodeA = openEvents(t, a.store, { ...more, node: 'a' })
  const nodeB = openEvents(t, b.store, { ...more, node: 'b' })
  await nodeA.webhooks.create('acme', { url: receiver.url, maxBatch: 10 })
  for (let waitedMs = 0; nodeA.stats.lanes + nodeB.stats.lanes < 16 && waitedMs < 20_000; waitedMs += 50) await pause(50)
  t.equal(nodeA.stats.lanes + nodeB.stats.lanes, 16, 'all lanes are served')
  t.ok(nodeA.stats.lanes > 0 && nodeB.stats.lanes > 0, `by both: ${nodeA.stats.lanes} and ${nodeB.stats.lanes}`)
  const devices = 24
  let number = 0
  const append = async (store: NodeStore): Promise<void> => {
    number++
    await store.appendEvents(Array.from({ length: devices }, (_, i) => eventOf('acme', `d${i}`, number)))
  }
  for (let i = 0; i < 10; i++) await append(i % 2 === 0 ? a.store : b.store)
  await receiver.until(() => new Set(receiver.ids).size === number * devices, 20_000)
  a.life.dead = true
  live.splice(0, 1)
  const diedMs = performance.now()
  for (let i = 0; i < 10; i++) await append(b.store)
  await receiver.until(() => new Set(receiver.ids).size === number * devices, 30_000)
  t.comment(`all of the dead node's lanes were served again after ${Math.round(performance.now() - diedMs)} ms with a lease of 1500 ms`)
  t.same(disordered(receiver.events), [])
  t.equal(nodeB.stats.lanes, 16)
  for (let waitedMs = 0; nodeA.stats.lanes > 0 && waitedMs < 10_000; waitedMs += 50) await pause(50)
  t.equal(nodeA.stats.lanes, 0, 'the silent one knows that its leases are over')
}

async function streamsGoOn (t: Test, client: CassandraClient): Promise<void> {
  const { store } = storeOf(t, client)
  const { store: other } = storeOf(t, client)
  const events = openEvents(t, store)
  const got: CloudEvent[] = []
  let lastId = ''
  const watch = async (): Promise<() => void> => {
    const start = await events.streams.prepare({ principal: { credentialId: 'c', role: 'viewer', tenant: 'bolt', device: null }, tenant: 'bolt', types: chosenTypes([]) as Set<string>, devices: null, filter: null, ...(lastId === '' ? {} : { lastId }) })
    const reader = events.streams.watch(start, {
      writable: true,
      write: text => {
        for (const line of text.split('\n')) {
          if (line.startsWith('data: ')) got.push(JSON.parse(line.slice(6)) as CloudEvent)
          if (line.startsWith('id: ')) lastId = line.slice(4)
        }
      },
      end: () => {}
    })
    return () => { events.streams.end(reader) }
  }
  const until = async (count: number): Promise<void> => {
    for (let i = 0; new Set(got.map(({ id }) => id)).size < count; i++) {
      if (i > 1000) throw new Error(`${got.length} of ${count}`)
      await pause(10)
    }
  }
  let stop = await watch()
  await other.appendEvents(Array.from({ length: 50 }, (_, i) => eventOf('bolt', `d${i % 10}`, i)))
  await until(50)
  stop()
  await other.appendEvents(Array.from({ length: 50 }, (_, i) => eventOf('bolt', `d${i % 10}`, 50 + i)))
  stop = await watch()
  await until(100)
  stop()
  t.same(disordered(got), [])
}
