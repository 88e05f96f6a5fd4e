/** Commands on Cassandra, and two nodes on one keyspace: what one has done the other knows, and nothing is sent twice. */
import t from 'tap'
import { systemClock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import { openClusterStore } from '../../src/store/cluster/cluster-store.js'
import type { Store } from '../../src/store/store.js'
import { newKeyspace } from '../store/cassandra-fixture.js'
import { newTestName, services, skipWithout } from '../support/services.js'
import { commandsSuite } from './commands-suite.js'
import { commandWorld, requestOf, operator, tenant } from './command-world.js'

t.setTimeout(180_000)

if (!skipWithout(t, 'cassandra') && !skipWithout(t, 'redis')) {
  const cassandra = newKeyspace(t)
  const redis = { url: services().redis?.url ?? '', prefix: `${newTestName()}:` }
  let shared: Promise<Store> | null = null
  const open = async (): Promise<Store> => await (shared ??= openClusterStore({ spec: { kind: 'cluster', cassandra, redis, outbox: true }, clock: systemClock, log: silentLog, writer: true }).then(async store => {
    await store.open()
    return store
  }))
  t.teardown(async () => { await (await shared)?.close() })
  commandsSuite(t, open, { shared: true })

  void t.test('two nodes that both believe they have the device send each command once', async t => {
    const store = await open()
    const a = await commandWorld(t, store, { shared: true })
    const b = await commandWorld(t, store, { shared: true })
    // What one node rings the other hears.
    let relaying = false
    for (const [from, to] of [[a, b], [b, a]]) {
      from.bells.onRing((tenant, device, reason, name) => {
        if (relaying) return
        setImmediate(() => {
          relaying = true
          to.bells.ring(tenant, device, reason, name)
          relaying = false
        })
      })
    }
    const device = `twice-${newTestName()}`
    const links = [a.connect(device), b.connect(device)]
    const asked = await Promise.all(Array.from({ length: 24 }, async (_, i) => {
      const outcome = await (i % 2 === 0 ? a : b).service.create(tenant, device, requestOf(systemClock, { name: `n${i}`, retries: 3 }), operator)
      return outcome.kind === 'created' ? outcome.command.id : outcome.kind
    }))
    for (const id of asked) await a.until(device, id, 'delivered')
    const handed = links.flatMap(link => link.handed.map(({ id }) => id))
    t.same([...handed].sort(), [...asked].sort(), 'each once, over both connections')
    const waiting = a.service.wait(tenant, device, asked[0], 30_000)
    await b.answer(device, { id: asked[0], name: 'n0' }, { status: 200 })
    t.match(await waiting, { answer: { outcome: 'succeeded' } }, 'an answer that came to the other node ends the wait here')
    // Every change has a number of its own, though two nodes made them.
    const numbers = new Map<number, string>()
    for (const { event } of await a.events(device)) {
      const number = event.sequence?.number ?? -1
      t.equal(numbers.get(number) ?? event.id, event.id, 'one event for a number')
      numbers.set(number, event.id)
    }
    t.same([...numbers.keys()].sort((x, y) => x - y), Array.from({ length: numbers.size }, (_, i) => i + 1), 'no gaps')
  })
}
