/** The projection between the real stores: rows and outbox in Cassandra, points in the engine of ClickHouse. */
import t from 'tap'
import { createClient } from '@clickhouse/client'
import { ErasureLookup } from '../../src/analytics/erasure-lookup.js'
import { Projector } from '../../src/analytics/projector.js'
import { runProjectTask } from '../../src/analytics/project-task.js'
import { systemClock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import { shardOf } from '../../src/core/ids.js'
import { usPerMinute, usPerSecond, type Chunk } from '../../src/core/reading.js'
import { SlabMerge } from '../../src/pipeline/merge-slabs.js'
import { planLookup } from '../../src/pipeline/task-lookup.js'
import { encodeChunk, encodeSlab } from '../../src/series/codec.js'
import { openClusterStore } from '../../src/store/cluster/cluster-store.js'
import { openAnalytics } from '../../src/store/open-analytics.js'
import type { Store } from '../../src/store/store.js'
import { newJournalId } from '../store/outbox.contract.js'
import { newKeyspace } from '../store/cassandra-fixture.js'
import { chunkOf, newTenantId, slabOf, sliceOf, tenantOf, writeOf } from '../store/store-fixtures.js'
import { newTestName, services, skipWithout } from '../support/services.js'

t.setTimeout(180_000)

const bucketStart = Math.floor(systemClock.nowUs() / 86_400e6) * 86_400e6

function readings (count: number, from: number, stamp: number, value: number): Chunk {
  return {
    ts: Float64Array.from({ length: count }, (_, i) => bucketStart + (from + i) * usPerSecond),
    stamps: Float64Array.from({ length: count }, (_, i) => stamp + i),
    columns: [{ metric: 'temperature', type: 'number', rows: null, values: new Float64Array(count).fill(value) }]
  }
}

/** One node: a journal whose slices are written by hand, its merger and its projector. */
class Node {
  readonly journalId = newJournalId()
  readonly packer = { cursor: 0, stats: { slices: 0 } }
  readonly #store: Store
  readonly #analytics: ReturnType<typeof openAnalytics>
  readonly tenant: string
  #stamp = systemClock.nowUs()

  constructor (store: Store, analytics: ReturnType<typeof openAnalytics>, tenant: string) {
    this.#store = store
    this.#analytics = analytics
    this.tenant = tenant
  }

  takeStamps (count: number): number {
    const first = Math.max(systemClock.nowUs(), this.#stamp + 1)
    this.#stamp = first + count - 1
    return first
  }

  /** A slice with a chunk of `dense` and a slab of two sparse devices of one shard. */
  async pack (from: number, value: number, stamp = this.takeStamps(100)): Promise<void> {
    const mark = this.packer.cursor + 1000
    const slice = sliceOf(mark, this.journalId)
    const shard = shardOf('s1')
    const minute = Math.floor((bucketStart + from * usPerSecond) / usPerMinute) * usPerMinute
    const chunk = readings(10, from, stamp, value)
    await this.#store.raw.writeHead(writeOf({
      chunks: [chunkOf(this.tenant, 'dense', { slice, bucket: { start: bucketStart, widthMinutes: 1440 }, minTs: chunk.ts[0], maxTs: chunk.ts[9], bytes: encodeChunk(chunk) })],
      slabs: [slabOf(this.tenant, { shard, slice, minute, stamp, bytes: encodeSlab([{ device: 's1', rows: 2 }], readings(2, from, stamp + 20, value)) })],
      outbox: { journalId: this.journalId, stream: 'pack', sequence: mark }
    }))
    this.packer.cursor = mark
    this.packer.stats.slices++
  }

  async merge (): Promise<number> {
    const merge = new SlabMerge({ store: this.#store, plans: planLookup(this.#store, { leaseMs: 1000, rememberedMax: 10 }), monotonicMs: systemClock.monotonicMs, nowUs: systemClock.nowUs })
    const { slabs } = await merge.merge({ kind: 'merge', journalId: this.journalId, before: this.packer.cursor + 1, slabsMax: 100, firstSequence: this.takeStamps(100) })
    return slabs
  }

  /** As after a start of the process: everything but the cursors is forgotten. */
  projector (): Projector {
    const { monotonicMs } = systemClock
    const erasures = new ErasureLookup({ store: this.#store, leaseMs: 0, erasuresMax: 100, monotonicMs })
    const outbox = this.#store.outbox
    if (outbox === null) throw new Error('no outbox')
    return new Projector({
      journalId: this.journalId, packer: this.packer, stampNow: () => this.takeStamps(1), sealsSettled: () => this.takeStamps(1), cursors: this.#store, clock: systemClock, log: silentLog, intervalMs: 1000,
      pool: { project: async task => await runProjectTask(task, { outbox, store: this.#store, analytics: this.#analytics, erasures, monotonicMs }) }
    })
  }
}

if (!skipWithout(t, 'cassandra') && !skipWithout(t, 'redis') && !skipWithout(t, 'clickHouse')) {
  const keyspace = newKeyspace(t)
  const database = newTestName()
  const url = services().clickHouse?.url ?? ''
  const store = await openClusterStore({ spec: { kind: 'cluster', cassandra: keyspace, redis: { url: services().redis?.url ?? '', prefix: database }, outbox: true }, clock: systemClock, log: silentLog, writer: true })
  const analytics = openAnalytics({ url, database }, { clock: systemClock, log: silentLog, watch: false })
  const client = createClient({ url })
  t.teardown(async () => {
    await client.command({ query: `DROP DATABASE IF EXISTS ${database} SYNC` })
    await client.close()
    await analytics.close()
    await store.close()
  })
  const count = async (tenant: string): Promise<number> => (await analytics.countPoints(tenant, 0, bucketStart * 2)).points
  const valuesOf = async (tenant: string): Promise<number[]> => {
    const answer = await client.query({ query: `SELECT DISTINCT number FROM ${database}.points FINAL WHERE tenant = {tenant:String} ORDER BY number`, query_params: { tenant }, format: 'JSONEachRow' })
    return (await answer.json<{ number: number }>()).map(row => row.number)
  }

  t.test('every point is counted once over slices, merges and restarts, and a merge of what was projected costs no insert', async t => {
    const tenant = newTenantId()
    await store.createTenant(tenantOf(tenant))
    const node = new Node(store, analytics, tenant)
    let projector = node.projector()
    for (let i = 0; i < 5; i++) await node.pack(i * 10, i)
    t.equal(await projector.runOnce(), null)
    t.equal(await count(tenant), 60)
    // Repeated slices are the same rows and the same entries.
    const { cursor } = node.packer
    node.packer.cursor = 0
    for (let i = 0; i < 5; i++) await node.pack(i * 10, i)
    t.equal(node.packer.cursor, cursor)
    projector = node.projector()
    t.equal(await projector.runOnce(), null)
    t.equal(await count(tenant), 60)
    const { points } = projector.stats
    t.equal(await node.merge(), 5)
    t.equal(await projector.runOnce(), null)
    t.equal(projector.stats.points, points)
    t.ok(projector.stats.rowsPassed > 0)
    // Slabs that are merged before they are read are found in the merge.
    for (let i = 5; i < 9; i++) await node.pack(i * 10, i)
    t.equal(await node.merge(), 4)
    projector = node.projector()
    t.equal(await projector.runOnce(), null)
    t.equal(projector.stats.rowsMissing, 4)
    t.equal(await count(tenant), 108)
    t.match(projector.status, { state: 'up', lagSeconds: 0 })
  })

  t.test('of values through two nodes the greatest stamp wins, whichever node projects last (INVARIANTS 3)', async t => {
    for (const order of [0, 1]) {
      const tenant = newTenantId()
      await store.createTenant(tenantOf(tenant))
      const nodes = [new Node(store, analytics, tenant), new Node(store, analytics, tenant)]
      const stamp = systemClock.nowUs()
      await nodes[0].pack(0, 1, stamp)
      await nodes[1].pack(0, 2, stamp + 1_000_000)
      for (const node of order === 0 ? nodes : [...nodes].reverse()) t.equal(await node.projector().runOnce(), null)
      t.strictSame(await valuesOf(tenant), [2])
      t.equal(await count(tenant), 12)
      await nodes[0].pack(0, 3, stamp + 500_000)
      t.equal(await nodes[0].projector().runOnce(), null)
      t.strictSame(await valuesOf(tenant), [2], 'a late duplicate with a smaller stamp changes nothing')
      await nodes[0].pack(0, 4, stamp + 2_000_000)
      t.equal(await nodes[0].projector().runOnce(), null)
      t.strictSame(await valuesOf(tenant), [4], 'one with a greater stamp wins')
      t.equal(await count(tenant), 12)
    }
  })

  t.test('erased points are left out', async t => {
    const tenant = newTenantId()
    await store.createTenant(tenantOf(tenant))
    const node = new Node(store, analytics, tenant)
    await node.pack(0, 1)
    await store.putErasure({ tenant, device: 'dense', stamp: node.takeStamps(1) })
    await node.pack(10, 2)
    t.equal(await node.projector().runOnce(), null)
    t.equal(await count(tenant), 2 + 12)
    await store.putErasure({ tenant, device: null, stamp: node.takeStamps(1) })
    await node.pack(20, 3)
    await node.pack(30, 4)
    t.equal(await node.projector().runOnce(), null)
    t.equal(await count(tenant), 2 + 12 + 24)
  })
}
