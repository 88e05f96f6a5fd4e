/**
 * Two nodes, two replicas of everything: who is asked (routing by token), how many have to answer (consistency), and what a dead or
 * hanging node does to either.
 */
import t, { type Test } from 'tap'
import { setTimeout as pause } from 'node:timers/promises'
import { Client } from 'cassandra-driver'
import { systemClock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import type { CassandraClient } from '../../src/store/cluster/cassandra/cassandra-client.js'
import { migrateCassandra } from '../../src/store/cluster/cassandra/migrate.js'
import { openCassandra, type OpenCassandraOptions } from '../../src/store/cluster/cassandra/open-cassandra.js'
import type { CassandraSettings } from '../../workers/protocol.js'
import { skipWithout, startPrivateCassandra } from '../support/services.js'

async function until (what: string, check: () => Promise<boolean>, withinMs = 60_000): Promise<number> {
  const started = performance.now()
  while (!await check()) {
    if (performance.now() - started > withinMs) throw new Error(`${what} has not come in ${withinMs} ms`)
    await pause(100)
  }
  return Math.round(performance.now() - started)
}

t.test('two nodes', { timeout: 500_000 }, async t => {
  if (skipWithout(t, 'cassandra')) return
  const cassandra = await startPrivateCassandra({ nodes: 2 })
  t.teardown(async () => { await cassandra.close() })
  const settings = (over: Partial<CassandraSettings> = {}): CassandraSettings => ({
    contactPoints: cassandra.contactPoints, dataCenter: cassandra.dataCenter, keyspace: 'both', replication: { [cassandra.dataCenter]: 2 },
    consistency: 'LOCAL_QUORUM', user: '', password: '', tls: false, ...over
  })
  const closing: CassandraClient[] = []
  t.teardown(async () => { for (const client of closing) await client.close() })
  const open = async (over: Partial<CassandraSettings> = {}, options: Partial<OpenCassandraOptions> = {}): Promise<CassandraClient> => {
    const client = await openCassandra(settings(over), { clock: systemClock, log: silentLog, probeMs: 200, ...options })
    closing.push(client)
    return client
  }
  const insert = 'INSERT INTO kept (id, words) VALUES (?, ?)'
  const select = 'SELECT words FROM kept WHERE id = ?'

  await t.test('four migrators that begin at different nodes make one schema', async t => {
    const names = await Promise.all(Array.from({ length: 4 }, async (_, i) =>
      await migrateCassandra(settings({ contactPoints: [cassandra.contactPoints[i % 2]] }), { clock: systemClock, log: silentLog })))
    const applied = names.flatMap(result => result.applied)
    t.ok(applied.length > 0)
    t.equal(new Set(applied).size, applied.length, 'each file once')
    await migrateCassandra(settings({ keyspace: 'single', replication: {} }), { clock: systemClock, log: silentLog })
  })

  const coordinators = new Map<unknown, Set<string>>()
  let current: unknown = null
  const note = (host: string, cql: string): void => { if (cql.includes('kept')) coordinators.set(current, (coordinators.get(current) ?? new Set()).add(host)) }
  // One replica of everything: right routing is exactly one node.
  const single = await open({ keyspace: 'single' }, { onAnswer: note })
  await single.write('CREATE TABLE kept (id int PRIMARY KEY, words text)', [])

  async function checkRouting (t: Test): Promise<void> {
    coordinators.clear()
    for (let round = 0; round < 3; round++) {
      for (let id = 0; id < 40; id++) {
        current = id
        await single.write(insert, [id, 'w'])
        await single.read(select, [id])
        await single.writePartition([{ cql: insert, parameters: [id, 'v'] }])
      }
    }
    // Against what the servers say of their tokens, as a client sees it that has just been opened.
    const bare = new Client({ contactPoints: [...cassandra.contactPoints], localDataCenter: cassandra.dataCenter, keyspace: 'single', protocolOptions: { port: Number(cassandra.contactPoints[0].split(':')[1]) } })
    await bare.connect()
    const owners = [...coordinators.keys()].map(id => {
      const key = Buffer.alloc(4)
      key.writeInt32BE(id as number)
      return (bare.getReplicas('single', key) as { address: string }[]).map(host => host.address)
    })
    await bare.shutdown()
    t.same([...coordinators.values()].map(hosts => [...hosts]), owners, 'every partition has one coordinator, its replica')
    t.equal(new Set(owners.flat()).size, 2, 'and both nodes have some')
  }

  await t.test('a statement goes to the node that holds its partition', checkRouting)

  const quorum = await open()
  const one = await open({ consistency: 'LOCAL_ONE' })
  // Its probe stays out of it: Cassandra lets a read at EACH_QUORUM run into a time-out where it refuses a write at once.
  const each = await open({ consistency: 'EACH_QUORUM' }, { probeMs: 3_600_000 })
  const hasty = await open({ consistency: 'LOCAL_ONE' }, { requestTimeoutMs: 1000 })
  await quorum.write('CREATE TABLE kept (id int PRIMARY KEY, words text)', [])
  for (const client of [quorum, one, each, hasty]) {
    for (let id = 0; id < 20; id++) {
      await client.write(insert, [id, 'before'])
      t.same(await client.read(select, [id]), [{ words: 'before' }])
    }
  }

  await t.test('a node that hangs: what is idempotent is answered by the other, what is not is not tried again', async t => {
    cassandra.pause(1)
    let slowest = 0
    const outcomes = await Promise.allSettled(Array.from({ length: 60 }, async (_, id) => {
      const started = performance.now()
      await hasty.write(insert, [id % 20, 'hung'])
      slowest = Math.max(slowest, performance.now() - started)
    }))
    t.same(outcomes.filter(outcome => outcome.status === 'rejected').map(outcome => String(outcome.reason)), [])
    t.ok(slowest > 900 && slowest < 10_000, `the slowest took ${Math.round(slowest)} ms: a time-out and another node`)
    const conditional = await Promise.allSettled(Array.from({ length: 6 }, async (_, i) => await hasty.writeIf('INSERT INTO kept (id, words) VALUES (?, ?) IF NOT EXISTS', [1000 + i, 'x'])))
    for (const outcome of conditional) t.match(outcome, { status: 'rejected', reason: { code: 'store_unavailable' } })
    cassandra.resume(1)
    await until('the quorum', async () => await quorum.write(insert, [0, 'before']).then(() => true, () => false))
  })

  await t.test('a dead node: too few for a quorum says how many are alive, one is enough for LOCAL_ONE', async t => {
    await cassandra.kill(1)
    let reason = ''
    // Until the others have noticed, the reason is a time-out, which names the replicas too.
    await until('the answer of a node that knows', async () => await quorum.write(insert, [1, 'lost']).then(() => false, (error: Error) => {
      reason = error.message
      return reason.endsWith('are alive')
    }))
    t.match(reason, /1 of the 2 replicas that LOCAL_QUORUM needs are alive/)
    await t.rejects(quorum.read(select, [1]), { code: 'store_unavailable', message: /1 of the 2 replicas that LOCAL_QUORUM needs are alive/ })
    // For this one Cassandra counts the living as none when they are too few.
    await t.rejects(each.write(insert, [1, 'lost']), { code: 'store_unavailable', message: /[01] of the 2 replicas that EACH_QUORUM needs are alive/ })
    for (let i = 0; i < 10; i++) await quorum.write(insert, [2, 'lost']).catch(() => {})
    await until('the open circuit', async () => quorum.status().state === 'down', 10_000)
    t.match(quorum.status().reason, /1 of the 2 replicas that LOCAL_QUORUM needs are alive/, 'and so says the state')
    await pause(1000)
    t.equal(quorum.status().state, 'down', 'the probe asks at the same consistency')
    for (let id = 0; id < 20; id++) {
      await one.write(insert, [id, 'alone'])
      t.same(await one.read(select, [id]), [{ words: 'alone' }])
    }
    t.equal(one.status().state, 'up')
    t.same(await migrateCassandra(settings({ consistency: 'LOCAL_ONE' }), { clock: systemClock, log: silentLog }), { applied: [] }, 'a server starts on a schema that is there')
  })

  await t.test('the node comes back: the quorum is there again, and both replicas are used', async t => {
    await cassandra.start(1)
    const afterMs = await until('the closed circuit', async () => quorum.status().state === 'up')
    t.comment(`the circuit closed ${afterMs} ms after the node was up`)
    for (let id = 0; id < 20; id++) {
      await until('the write', async () => await quorum.write(insert, [id, 'after']).then(() => true, () => false), 20_000)
      t.same(await quorum.read(select, [id]), [{ words: 'after' }])
    }
    await until('the write everywhere', async () => await each.write(insert, [1, 'each']).then(() => true, () => false), 20_000)
    t.same(await each.read(select, [1]), [{ words: 'each' }])
  })

  await t.test('all nodes die and come back: everything is found again, and routed as before', async t => {
    await Promise.all([cassandra.kill(0), cassandra.kill(1)])
    await until('the open circuit', async () => await single.write(insert, [1, 'x']).then(() => false, () => single.status().state === 'down'))
    t.match(single.status().reason, /no node can be reached|broke/)
    await cassandra.start(0)
    await cassandra.start(1)
    for (const client of [single, quorum, one]) await until('the closed circuit', async () => client.status().state === 'up')
    for (const client of [quorum, one]) {
      await until('the write', async () => await client.write(insert, [3, 'again']).then(() => true, () => false), 20_000)
      t.same(await client.read(select, [3]), [{ words: 'again' }])
    }
    // A host that has just come up is spared for a while by the driver.
    await pause(2000)
    await checkRouting(t)
  })
})
