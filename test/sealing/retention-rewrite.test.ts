import t from 'tap'
import { systemClock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import { RetentionRewrite } from '../../src/sealing/retention-rewrite.js'
import type { CassandraClient } from '../../src/store/cluster/cassandra/cassandra-client.js'
import { openStore } from '../../src/store/open-store.js'
import type { Store } from '../../src/store/store.js'
import type { Tenant } from '../../src/tenancy/model.js'
import { migratedKeyspace, openClient } from '../store/cassandra-fixture.js'
import { services, skipWithout } from '../support/services.js'
import { until } from './server-metrics.js'
import { dayAgo, planOfWidth, SealWorld } from './seal-world.js'

t.setTimeout(150_000)

const start = dayAgo(4)
const days = 30
const daySeconds = 86_400

void t.test('a longer retention on Cassandra: what is sealed lives as long as what comes now, after an interruption too; a shorter one rewrites nothing', { timeout: 140_000 }, async t => {
  if (skipWithout(t, 'cassandra') || skipWithout(t, 'redis')) return
  const cassandra = await migratedKeyspace(t)
  const client = await openClient(t, cassandra)
  const store = await openStore({ kind: 'cluster', cassandra, redis: { url: services().redis?.url as string, prefix: cassandra.keyspace }, outbox: false }, { clock: systemClock, log: silentLog, writer: true })
  t.teardown(async () => { await store.close() })
  const devices = new Map([['a', planOfWidth(1440)], ['b', planOfWidth(60, 2)], ['c', planOfWidth(43_200)]])
  const world = await SealWorld.make(store, { tenant: 'acme', devices, days })
  await world.send([...devices.keys()].flatMap(device => Array.from({ length: 30 }, (_, i) => ({ device, ts: start + i * 600e6, values: { v: i, s: i % 2 === 0 ? 'on' : 'off' } }))))
  const sealer = world.sealer()
  await sealer.sealDue()
  const shortest = async (): Promise<{ raw: number, tiers: number }> => ({ raw: await shortestTtl(client, ['sealed_chunks']), tiers: await shortestTtl(client, ['tier_rows_1m', 'tier_rows_1h', 'tier_rows_1d']) })
  const before = await shortest()
  t.ok(before.raw <= 33 * daySeconds, `raw lives ${before.raw / daySeconds} days`)

  const rewrite = rewriterOf(store, world)
  await rewrite.run()
  t.equal(rewrite.stats.requests, 0, 'nothing has changed')

  await change(store, { retention: [{ sinceStamp: 0, days }, { sinceStamp: world.takeStamps(1), days: 10 }] })
  await rewrite.run()
  t.equal(rewrite.stats.requests, 0, 'a shorter one')
  // Gives its claim back, so that others need not wait for the lease.
  await rewrite.close()

  const stamp = world.takeStamps(1)
  await change(store, { retention: [{ sinceStamp: 0, days }, { sinceStamp: stamp - 1, days: 10 }, { sinceStamp: stamp, days: 200 }] })
  // Stopped when it has begun; another node goes on.
  const interrupted = rewriterOf(store, world, { owner: 'first', requestsPerSecond: 5 })
  const running = interrupted.run()
  await until(async () => interrupted.stats.requests > 0, 20_000)
  await interrupted.close()
  await running
  const other = rewriterOf(store, world, { owner: 'second' })
  await other.run()
  t.ok(other.stats.requests > 0)
  await sealer.sealDue()
  const after = await shortest()
  t.ok(after.raw > 190 * daySeconds, `raw lives ${after.raw / daySeconds} days`)
  t.ok(after.tiers > before.tiers - 3600)
  t.same(await world.compare(), [])
  const verified = await world.verify()
  t.same(verified.listed, [])
  t.ok(verified.buckets >= 3)
  const done = other.stats.requests
  await other.run()
  t.equal(other.stats.requests, done, 'once for every change')

  await change(store, { tierRetention: [{ sinceStamp: 0, days: { '1m': 365, '1h': 1825, '1d': 3650 } }, { sinceStamp: world.takeStamps(1), days: { '1m': 5000, '1h': 5000, '1d': 5000 } }] })
  await other.run()
  t.ok(other.stats.requests > done, 'tiers have retentions of their own')
  await sealer.sealDue()
  t.ok((await shortest()).tiers > 4900 * daySeconds)
  t.same((await world.verify()).listed, [])
  await other.close()
  await sealer.close()
})

function rewriterOf (store: Store, world: SealWorld, { owner = 'test', requestsPerSecond = 2000 } = {}): RetentionRewrite {
  return new RetentionRewrite({ store, owner, takeStamp: () => world.takeStamps(1), clock: systemClock, log: silentLog, requestsPerSecond })
}

async function change (store: Store, settings: Partial<Tenant>): Promise<void> {
  const tenant = await store.getTenant('acme')
  if (tenant === null) throw new Error('no tenant')
  await store.updateTenant({ ...tenant, ...settings })
}

/** Of all rows, seconds from now. */
async function shortestTtl (client: CassandraClient, tables: readonly string[]): Promise<number> {
  let least = Infinity
  for (const table of tables) for (const row of await client.read(`SELECT ttl(bytes) AS ttl FROM ${table}`, [])) least = Math.min(least, row.ttl as number)
  return least
}
