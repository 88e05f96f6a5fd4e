import t from 'tap'
import { systemClock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import { laneOf } from '../../src/store/event-log.js'
import { openStore } from '../../src/store/open-store.js'
import type { Store } from '../../src/store/store.js'
import type { ClusterSpec } from '../../workers/protocol.js'
import { dropKeyspace } from '../support/keyspace.js'
import { newTestName, services, skipWithout } from '../support/services.js'
import { AlarmService } from '../../src/alarms/alarm-service.js'
import { eventsOf, ManualClock, newDevices, newEngine, sliceEdges } from './engine-world.js'

const second = 1e6

t.test('two nodes on one keyspace raise one alarm for one cause, and a device that moves is cleared by the other', async t => {
  if (skipWithout(t, 'cassandra') || skipWithout(t, 'redis')) return
  const keyspace = newTestName()
  const { cassandra, redis } = services()
  const spec: ClusterSpec = {
    kind: 'cluster',
    cassandra: { contactPoints: [cassandra?.contactPoint ?? ''], dataCenter: cassandra?.dataCenter ?? '', keyspace, replication: { [cassandra?.dataCenter ?? '']: 1 }, consistency: 'LOCAL_QUORUM', user: '', password: '', tls: false },
    redis: { url: redis?.url ?? '', prefix: keyspace },
    outbox: false
  }
  const stores: Store[] = []
  for (let i = 0; i < 2; i++) stores.push(await openStore(spec, { clock: systemClock, log: silentLog, writer: true }))
  t.teardown(async () => {
    for (const store of stores) await store.close()
    await dropKeyspace(keyspace)
  })
  const startedUs = systemClock.nowUs()
  const clock = new ManualClock()
  const tenant = 'acme'
  const devices = Array.from({ length: 20 }, (_, i) => `d${i}`)
  await newDevices(stores[0], tenant, devices)
  const [a, b] = stores.map((store, i) => newEngine(store, clock, { shared: true, leaseMs: 5000, node: `node-${i}` }))
  await a.engine.open()
  await b.engine.open()
  const { rule } = await a.rules.put(tenant, 'hot', { source: { metric: 't' }, condition: { op: 'gt', value: 80 } }, null)
  const all = (value: number): ReturnType<typeof sliceEdges>[] => [sliceEdges(tenant, rule, new Map(devices.map(id => [id, [{ ts: clock.us, value }]])))]

  await Promise.all([a.engine.take(all(99), clock.us), b.engine.take(all(99), clock.us)])
  t.equal(a.engine.writer.stats.raised + b.engine.writer.stats.raised, devices.length, 'each by one of them')
  clock.us += second
  // The devices went to node b, which has raised, or seen raised, the same.
  await b.engine.take(all(10), clock.us)
  t.equal(b.engine.writer.activeOf(tenant), 0)
  clock.us += 6 * second
  await a.engine.take(all(10), clock.us)
  clock.us += second
  await a.engine.take(all(99), clock.us)

  // Acknowledged and cleared at the same moment through two nodes: both stand.
  const [one, other] = [a, b].map(({ engine, rules }, i) => new AlarmService({ documents: stores[i], engine, rules, clock, log: silentLog }))
  await Promise.all([one.acknowledge(tenant, 'hot~d0', 'me', ''), other.clear(tenant, 'hot~d0')])
  t.match(await one.get(tenant, 'hot~d0'), { state: 'cleared', acknowledged: true, clearReason: 'manual' })
  // What was told just now can be read when every reader can see it.
  await new Promise(resolve => { setTimeout(resolve, stores[0].settleMs + 100) })
  for (const device of devices.slice(1)) {
    const { once } = await eventsOf(stores[1], tenant, device, stores[1].positionAt(laneOf(tenant, device), startedUs))
    t.same(once.map(({ type }) => type), ['alarm.raised', 'alarm.cleared', 'alarm.raised'], device)
  }
  await a.engine.close()
  await b.engine.close()
})
