import t, { type Test } from 'tap'
import { randomInt } from 'node:crypto'
import { systemClock, type Clock } from '../../src/core/clock.js'
import { shardOf } from '../../src/core/ids.js'
import { timestampUsMax } from '../../src/core/limits.js'
import { usPerDay, usPerHour, usPerMinute, type Chunk } from '../../src/core/reading.js'
import { groupSlice, orderByDevice } from '../../src/pipeline/group.js'
import { SlabMerge } from '../../src/pipeline/merge-slabs.js'
import { SeenCache } from '../../src/pipeline/seen-cache.js'
import { SliceTable } from '../../src/pipeline/slice-table.js'
import { planLookup } from '../../src/pipeline/task-lookup.js'
import { readReadings } from '../../src/store/read-readings.js'
import { decodeChunk, decodeSlabRows, readSlabDirectory } from '../../src/series/codec.js'
import type { PartitionPlan } from '../../src/series/partition-plan.js'
import type { CassandraRawStore } from '../../src/store/cluster/cassandra/cassandra-raw-store.js'
import type { HeadWrite, RawStore } from '../../src/store/raw-store.js'
import type { Store } from '../../src/store/store.js'
import { fillTable, type SentReading } from '../pipeline/fill-table.js'
import { skipWithout } from '../support/services.js'
import { openRawKeyspace, WatchedClient, type RawKeyspace } from './cassandra-raw-support.js'
import { newJournalId } from './outbox.contract.js'
import { chunkOf, day0, gather, newSeed, newTenantId, randomFrom, refOf, retentionDays, slabOf, sliceOf, writeOf } from './store-fixtures.js'

const always = timestampUsMax
const textOf = (row: { readonly bytes: Uint8Array }): string => Buffer.from(row.bytes).toString()

t.setTimeout(240_000)
if (!skipWithout(t, 'cassandra')) {
  const keyspace = await openRawKeyspace()
  t.teardown(async () => { await keyspace.close() })
  repetitionTests(t, keyspace)
  crashTests(t, keyspace)
  lifetimeTests(t, keyspace)
  sizeTests(t, keyspace)
  nodeTests(t, keyspace)
  markTests(t, keyspace)
  modelTests(t, keyspace)
}

/** A slice with chunks in two buckets and salts, slabs of two shards and seen days. */
function sliceWrite (tenant: string, journalId: string, mark: number, stamp: number): HeadWrite {
  const slice = sliceOf(mark, journalId)
  return writeOf({
    chunks: ['a', 'b'].flatMap(device => [0, 1].map(i => chunkOf(tenant, device, {
      slice, salt: i, bucket: { start: day0 + i * usPerDay, widthMinutes: 1440 }, bytes: Buffer.from(`chunk ${device} ${i} ${mark}`)
    }))),
    slabs: [1, 2, 17].map(shard => slabOf(tenant, { shard, slice, stamp, bytes: Buffer.from(`slab ${shard} ${mark}`) })),
    seen: ['a', 'b'].map(device => ({ tenant, device, day: day0, metrics: ['m'], retentionDays })),
    outbox: { journalId, stream: 'pack', sequence: mark }
  })
}

/** All that readers see of such slices. */
async function readAll (raw: RawStore, tenant: string): Promise<string[]> {
  const texts: string[] = []
  for (const shard of [1, 2, 17]) for await (const slab of raw.scanSlabs(tenant, shard, [retentionDays], 0, always)) texts.push(textOf(slab))
  for (const device of ['a', 'b', 'merged']) {
    for (const i of [0, 1]) {
      for await (const row of raw.scanChunks(refOf(tenant, device, { salts: 2, bucket: { start: day0 + i * usPerDay, widthMinutes: 1440 } }), 0, always)) texts.push(textOf(row))
    }
    for await (const row of raw.scanSeen(refOf(tenant, device))) texts.push(`seen ${row.device}`)
  }
  return texts.sort()
}

async function dirtyOf (raw: RawStore, tenant: string, device: string): Promise<string[]> {
  return (await gather(raw.scanDirty(tenant, shardOf(device), [retentionDays]))).filter(mark => mark.device === device).map(mark => `${mark.bucket.start} ${mark.slice.mark}`).sort()
}

async function countRows ({ client }: RawKeyspace): Promise<Record<string, number>> {
  const counts: Record<string, number> = {}
  for (const table of ['head_chunks', 'dirty_marks', 'dirty_buckets', 'slabs', 'slab_periods', 'slab_journals', 'series_seen', 'sealed_chunks', 'sealed_headers', 'outbox', 'outbox_shelves']) {
    counts[table] = (await client.read(`SELECT COUNT(*) AS n FROM ${table}`, []))[0].n as number
  }
  return counts
}

function repetitionTests (t: Test, keyspace: RawKeyspace): void {
  void t.test('a slice that is packed again, by whichever thread, writes the same rows', async t => {
    const tenant = newTenantId()
    const write = sliceWrite(tenant, newJournalId(), 7, day0 + usPerDay)
    await keyspace.store().writeHead(write)
    const [once, rows] = [await readAll(keyspace.store(), tenant), await countRows(keyspace)]
    for (let again = 0; again < 3; again++) await keyspace.store().writeHead(write)
    t.strictSame(await readAll(keyspace.store(), tenant), once)
    t.strictSame(await countRows(keyspace), rows)
    t.equal(once.length, 4 + 3 + 2)
  })

  void t.test('a merge of the same slabs, repeated, writes the same rows', async t => {
    const tenant = newTenantId()
    const journalId = newJournalId()
    const store = keyspace.store()
    await store.writeHead(sliceWrite(tenant, journalId, 7, day0 + usPerDay))
    const slabs = await gather(store.scanSlabsToMerge(sliceOf(8, journalId), 100))
    const merged = mergeOf(tenant, journalId)
    for (let again = 0; again < 3; again++) await keyspace.store().replaceSlabs(slabs, merged)
    t.strictSame((await readAll(store, tenant)).filter(text => text === 'merged'), ['merged'])
    t.strictSame((await readAll(store, tenant)).filter(text => text.startsWith('slab')), [])
  })
}

function mergeOf (tenant: string, journalId: string): HeadWrite {
  return writeOf({
    chunks: [chunkOf(tenant, 'merged', { slice: sliceOf(7, journalId), part: 1_000_000, bytes: Buffer.from('merged') })],
    outbox: { journalId, stream: 'merge', sequence: day0 + 2 * usPerDay }
  })
}

function crashTests (t: Test, keyspace: RawKeyspace): void {
  void t.test('a node that dies anywhere in a slice leaves what the repetition makes whole: nothing missing, nothing twice', async t => {
    const steps = new WatchedClient(keyspace.client)
    const stamp = day0 + usPerDay
    await keyspace.store({ client: steps }).writeHead(sliceWrite(newTenantId(), newJournalId(), 7, stamp))
    t.ok(steps.writes >= 12, `${steps.writes} writes`)
    let expected: string[] | null = null
    for (let step = 0; step <= steps.writes; step++) {
      const tenant = newTenantId()
      const journalId = newJournalId()
      const write = sliceWrite(tenant, journalId, 7, stamp)
      const dying = keyspace.store({ client: new WatchedClient(keyspace.client, step) }).writeHead(write)
      if (step < steps.writes) await t.rejects(dying, { code: 'store_unavailable' })
      else await dying
      const store = keyspace.store()
      const [entry] = await store.readOutbox(journalId, 'pack', 0, always, 1)
      if (entry !== undefined) {
        const rows = await store.readEntry(entry)
        t.equal(rows.chunks.length + rows.slabs.length, 7, `step ${step}: an outbox entry names rows that are there`)
      }
      // The repetition reads an older cursor, in another process.
      await keyspace.store().writeHead(write)
      const all = await readAll(keyspace.store(), tenant)
      expected ??= all
      t.strictSame(all, expected, `step ${step}`)
      for (const device of ['a', 'b']) t.strictSame(await dirtyOf(store, tenant, device), [`${day0} 7`, `${day0 + usPerDay} 7`], `step ${step}: the sealer finds it`)
      t.equal((await store.readOutbox(journalId, 'pack', 0, always, 10)).length, 1)
      t.equal((await gather(store.scanSlabsToMerge(sliceOf(8, journalId), 10))).length, 3, `step ${step}: the merger finds it`)
    }
  })

  void t.test('a node that dies anywhere in a merge leaves every reading in a slab or in a chunk, and the next merge ends it', async t => {
    const stamp = day0 + usPerDay
    for (let step = 0; ; step++) {
      const tenant = newTenantId()
      const journalId = newJournalId()
      const store = keyspace.store()
      await store.writeHead(sliceWrite(tenant, journalId, 7, stamp))
      const slabs = await gather(store.scanSlabsToMerge(sliceOf(8, journalId), 100))
      const client = new WatchedClient(keyspace.client, step)
      const died = await keyspace.store({ client }).replaceSlabs(slabs, mergeOf(tenant, journalId)).then(() => false, () => true)
      const seen = await readAll(keyspace.store(), tenant)
      const slabsLeft = seen.filter(text => text.startsWith('slab')).length
      t.ok(seen.includes('merged') || slabsLeft === 3, `step ${step}: ${seen.join(', ')}`)
      const [merge] = await store.readOutbox(journalId, 'merge', 0, always, 1)
      t.ok(merge !== undefined || slabsLeft === 3, `step ${step}: a projection that finds no slab finds the merge`)
      if (merge !== undefined) t.equal((await store.readEntry(merge)).chunks.length, 1)
      if (!died) {
        t.equal(slabsLeft, 0)
        t.ok(step >= 6, `${step} steps`)
        return
      }
      const left = await gather(keyspace.store().scanSlabsToMerge(sliceOf(8, journalId), 100))
      await keyspace.store().replaceSlabs(left, mergeOf(tenant, journalId))
      t.strictSame((await readAll(keyspace.store(), tenant)).filter(text => /slab|merged/.test(text)), ['merged'], `step ${step}`)
    }
  })

  void t.test('a node that dies anywhere in a seal leaves the old generation or the new one whole, and no slice outside both', async t => {
    const chunks = (generation: string): { minTs: number, maxTs: number, bytes: Buffer }[] => Array.from({ length: 5 }, (_, i) => ({ minTs: day0 + i, maxTs: day0 + i, bytes: Buffer.from(`${generation} ${i}`) }))
    const first = { generation: { epoch: 1, sequence: 1 }, covered: [sliceOf(1)], chunks: chunks('old') }
    const second = { generation: { epoch: 1, sequence: 2 }, covered: [sliceOf(1), sliceOf(2), sliceOf(3)], chunks: chunks('new') }
    for (let step = 0; ; step++) {
      const tenant = newTenantId()
      const store = keyspace.store()
      const narrow = refOf(tenant, 'd', { salts: 2 })
      const ref = refOf(tenant, 'd', { salts: 4 })
      await store.writeHead(writeOf({ chunks: [1, 2, 3, 4].map(mark => chunkOf(tenant, 'd', { slice: sliceOf(mark), salt: mark % 4 })) }))
      await store.writeSealed(narrow, { retentionDays }, first)
      const died = await keyspace.store({ client: new WatchedClient(keyspace.client, step) }).writeSealed(ref, { retentionDays }, second).then(() => false, () => true)
      // The reader looks at the head first.
      const head = (await gather(store.scanChunks(ref, 0, always))).map(row => row.slice.mark)
      const sealed = await store.readSealed(ref)
      const texts = (sealed?.chunks ?? []).map(textOf)
      t.strictSame(texts, chunks(texts[0]?.startsWith('new') ? 'new' : 'old').map(textOf), `step ${step}`)
      const covered = sealed?.covered.map(slice => slice.mark) ?? []
      t.strictSame([...new Set([...head, ...covered])].sort(), [1, 2, 3, 4], `step ${step}: every slice`)
      await keyspace.store().writeSealed(ref, { retentionDays }, second)
      t.strictSame((await store.readSealed(ref))?.chunks.map(textOf), chunks('new').map(textOf))
      t.strictSame((await store.listHeadSlices(ref)).map(slice => slice.mark), [4])
      t.strictSame(await dirtyOf(store, tenant, 'd'), [`${day0} 4`])
      for (let salt = 0; salt < 4; salt++) {
        const rows = await keyspace.client.read('SELECT sequence FROM sealed_chunks WHERE tenant = ? AND device = ? AND width = ? AND start = ? AND salt = ?', [tenant, 'd', 1440, day0, salt])
        t.ok(rows.every(row => row.sequence === 2), 'nothing is left of the older generation')
      }
      if (!died) return
    }
  })

  void t.test('a sealer that wakes up late removes nothing and changes nothing', async t => {
    const tenant = newTenantId()
    const ref = refOf(tenant, 'd', { salts: 2 })
    const store = keyspace.store()
    await store.writeHead(writeOf({ chunks: [1, 2].map(mark => chunkOf(tenant, 'd', { slice: sliceOf(mark), salt: mark % 2 })) }))
    const seal = (sequence: number, covered: number[]): Parameters<CassandraRawStore['writeSealed']>[2] =>
      ({ generation: { epoch: 1, sequence }, covered: covered.map(mark => sliceOf(mark)), chunks: [{ minTs: day0, maxTs: day0, bytes: Buffer.from(`${sequence}`) }] })
    // It looked before the newer one was there, and writes after it.
    const late = new WatchedClient(keyspace.client)
    const read = late.read.bind(late)
    let looks = 0
    late.read = async (cql, parameters) => {
      const rows = await read(cql, parameters)
      if (looks++ === 0) await store.writeSealed(ref, { retentionDays }, seal(9, []))
      return rows
    }
    await keyspace.store({ client: late }).writeSealed(ref, { retentionDays }, seal(3, [1, 2]))
    t.strictSame((await store.readSealed(ref))?.chunks.map(textOf), ['9'])
    t.strictSame((await store.listHeadSlices(ref)).map(slice => slice.mark).sort(), [1, 2])
  })

  void t.test('a reader finds a whole generation while newer ones replace it', async t => {
    const ref = refOf(newTenantId(), 'd', { salts: 3 })
    const store = keyspace.store()
    let writing = true
    const writer = (async () => {
      for (let sequence = 1; sequence <= 60; sequence++) {
        await store.writeSealed(ref, { retentionDays }, { generation: { epoch: 1, sequence }, covered: [], chunks: Array.from({ length: 7 }, () => ({ minTs: day0, maxTs: day0, bytes: Buffer.from(`${sequence}`) })) })
      }
      writing = false
    })()
    const reader = keyspace.store()
    let reads = 0
    let last = 0
    while (writing) {
      const sealed = await reader.readSealed(ref)
      if (sealed === null) continue
      reads++
      t.equal(new Set(sealed.chunks.map(textOf)).size, 1)
      t.equal(sealed.chunks.length, 7)
      t.ok(sealed.generation.sequence >= last, 'and never an older one again')
      last = sealed.generation.sequence
    }
    await writer
    t.ok(reads > 5, `${reads} reads`)
  })
}

function lifetimeTests (t: Test, keyspace: RawKeyspace): void {
  void t.test('every row outlives the retention of its newest point, and no row is for ever by accident', async t => {
    const { client } = keyspace
    const tenant = newTenantId()
    const journalId = newJournalId()
    const store = keyspace.store()
    const widths = [1, 60, 1440, 43_200] as const
    for (const days of [1, 30, 365, 3650]) {
      await store.writeHead(writeOf({
        chunks: widths.map(widthMinutes => chunkOf(tenant, `d${days}`, { bucket: { start: day0, widthMinutes }, slice: sliceOf(1, journalId), retentionDays: days })),
        slabs: [slabOf(tenant, { shard: 1, retentionDays: days, slice: sliceOf(days, journalId), stamp: day0 })],
        seen: [{ tenant, device: `d${days}`, day: day0, metrics: ['m'], retentionDays: days }],
        outbox: { journalId, stream: 'pack', sequence: days }
      }))
      const lives = async (cql: string, parameters: readonly unknown[], seconds: number): Promise<void> => {
        const rows = await client.read(cql, parameters)
        t.ok(rows.length > 0, cql)
        for (const row of rows) t.ok(row.ttl as number > seconds - 60 && row.ttl as number <= seconds, `${days} days: ${String(row.ttl)} s of ${seconds}`)
      }
      for (const width of widths) {
        const ttl = (days + 1) * 86_400 + width * 60
        await lives('SELECT TTL(bytes) AS ttl FROM head_chunks WHERE tenant = ? AND device = ? AND width = ? AND start = ? AND salt = 0', [tenant, `d${days}`, width, day0], ttl)
        const ref = refOf(tenant, `d${days}`, { bucket: { start: day0, widthMinutes: width } })
        await store.writeSealed(ref, { retentionDays: days }, { generation: { epoch: 1, sequence: 1 }, covered: [], chunks: [{ minTs: day0, maxTs: day0, bytes: Buffer.from('x') }] })
        await lives('SELECT TTL(covered) AS ttl FROM sealed_headers WHERE tenant = ? AND device = ? AND width = ? AND start = ?', [tenant, `d${days}`, width, day0], ttl)
        await lives('SELECT TTL(bytes) AS ttl FROM sealed_chunks WHERE tenant = ? AND device = ? AND width = ? AND start = ? AND salt = 0', [tenant, `d${days}`, width, day0], ttl + 3600)
      }
      await lives('SELECT TTL(bytes) AS ttl FROM slabs WHERE journal = ? AND period = ? AND salt = 1 AND tenant = ? AND shard = 1 AND minute = ? AND mark = ?', [journalId, day0, tenant, day0, days], (days + 1) * 86_400 + 60)
      await lives('SELECT TTL(metrics) AS ttl FROM series_seen WHERE tenant = ? AND device = ?', [tenant, `d${days}`], (days + 2) * 86_400)
    }
    const [entry] = await client.read('SELECT TTL(entry) AS ttl FROM outbox WHERE journal = ? AND stream = ? AND range_start = 0 AND sequence = 30', [journalId, 'pack'])
    t.ok(entry.ttl as number > 7 * 86_400 - 60)
  })

  void t.test('a retention longer than Cassandra can count is kept for ever', async t => {
    const tenant = newTenantId()
    const store = keyspace.store()
    await store.writeHead(writeOf({ chunks: [chunkOf(tenant, 'd', { retentionDays: 36_500 })], seen: [{ tenant, device: 'd', day: day0, metrics: ['m'], retentionDays: 36_500 }] }))
    t.equal((await gather(store.scanChunks(refOf(tenant, 'd'), 0, always))).length, 1)
    const [row] = await keyspace.client.read('SELECT TTL(bytes) AS ttl FROM head_chunks WHERE tenant = ? AND device = ? AND width = 1440 AND start = ? AND salt = 0', [tenant, 'd', day0])
    t.equal(row.ttl, null)
  })

  void t.test('what Cassandra does by itself is no work here', async t => {
    const store = keyspace.store()
    t.equal(await store.dropExpired(), 0)
    await store.flush()
    await store.compact()
    t.ok(await store.sizeBytes() >= 0)
  })
}

function sizeTests (t: Test, keyspace: RawKeyspace): void {
  void t.test('a bucket of 64 salts is read as one', async t => {
    const tenant = newTenantId()
    const store = keyspace.store()
    const chunks = Array.from({ length: 640 }, (_, i) => chunkOf(tenant, 'd', { salt: i % 64, slice: sliceOf(i), minTs: day0 + i, maxTs: day0 + i, bytes: Buffer.from(`${i}`) }))
    await store.writeHead(writeOf({ chunks }))
    const ref = refOf(tenant, 'd', { salts: 64 })
    t.strictSame((await gather(store.scanChunks(ref, 0, always))).map(textOf), Array.from({ length: 640 }, (_, i) => `${639 - i}`))
    t.strictSame((await gather(store.scanChunks(ref, day0 + 100, day0 + 103))).map(textOf), ['102', '101', '100'])
    await store.writeSealed(ref, { retentionDays }, { generation: { epoch: 1, sequence: 1 }, covered: chunks.slice(0, 600).map(chunk => chunk.slice), chunks: chunks.slice(0, 100) })
    t.strictSame((await store.listHeadSlices(ref)).map(slice => slice.mark).sort((a, b) => a - b), Array.from({ length: 40 }, (_, i) => 600 + i))
    t.strictSame((await store.readSealed(refOf(tenant, 'd')))?.chunks.map(textOf), chunks.slice(0, 100).map(textOf), 'also by a plan that is behind')
    t.equal((await dirtyOf(store, tenant, 'd')).length, 40)
  })

  void t.test('a bucket of 20,000 chunks is read newest first, and a range of it without the rest\'s bytes', async t => {
    const tenant = newTenantId()
    const store = keyspace.store()
    const count = 20_000
    for (let from = 0; from < count; from += 2000) {
      await store.writeHead(writeOf({ chunks: Array.from({ length: 2000 }, (_, i) => chunkOf(tenant, 'd', { slice: sliceOf(from + i), salt: 0, minTs: day0 + (from + i) * 1000, maxTs: day0 + (from + i) * 1000 + 999, bytes: Buffer.from(`${from + i}`) })) }))
    }
    const ref = refOf(tenant, 'd')
    let next = count - 1
    for await (const row of store.scanChunks(ref, 0, always)) {
      if (textOf(row) !== `${next}`) t.fail(`${textOf(row)} instead of ${next}`)
      next--
    }
    t.equal(next, -1)
    const watched = new WatchedClient(keyspace.client)
    const some = await gather(keyspace.store({ client: watched }).scanChunks(ref, day0 + 5_000_000, day0 + 5_010_000))
    t.strictSame(some.map(textOf), Array.from({ length: 10 }, (_, i) => `${5009 - i}`))
    t.ok(watched.reads <= 3, `${watched.reads} reads`)
    for await (const row of store.scanChunks(ref, 0, always)) {
      t.equal(textOf(row), `${count - 1}`, 'and a reader may stop')
      break
    }
    t.equal((await store.listHeadSlices(ref)).length, count)
    const covered = Array.from({ length: count }, (_, i) => sliceOf(i))
    await store.writeSealed(ref, { retentionDays }, { generation: { epoch: 1, sequence: 1 }, covered, chunks: [{ minTs: day0, maxTs: day0, bytes: Buffer.from('all') }] })
    t.strictSame(await gather(store.scanChunks(ref, 0, always)), [])
    t.strictSame((await store.readSealed(ref))?.covered, covered)
  })

  void t.test('after 200 rounds of merging, a query of a sparse device reads what waits, not what ever was', async t => {
    const tenant = newTenantId()
    const journalId = newJournalId()
    const store = keyspace.store()
    const rounds = 200
    for (let round = 0; round < rounds; round++) {
      const stamp = day0 + round * usPerMinute
      await store.writeHead(writeOf({ slabs: [1, 2, 3].map(shard => slabOf(tenant, { shard, minute: stamp, stamp, slice: sliceOf(round, journalId) })) }))
      if (round < 3) continue
      const slabs = await gather(store.scanSlabsToMerge(sliceOf(round - 2, journalId), 1000))
      await store.replaceSlabs(slabs, writeOf({ chunks: [chunkOf(tenant, 'd', { slice: sliceOf(round - 3, journalId), part: 1_000_000 })] }))
    }
    const client = new WatchedClient(keyspace.client)
    const reader = keyspace.store({ client })
    t.equal((await gather(reader.scanSlabs(tenant, 2, [retentionDays], 0, always))).length, 3)
    const journals = (await keyspace.client.read('SELECT journal FROM slab_journals WHERE shelf = 0', [])).length
    const ofJournal = (await keyspace.client.read('SELECT period FROM slab_periods WHERE journal = ?', [journalId])).length
    t.ok(ofJournal <= 6, `${ofJournal} periods are listed`)
    const others = (await keyspace.client.read('SELECT COUNT(*) AS n FROM slab_periods', []))[0].n as number
    t.ok(client.reads <= 1 + journals + others, `${client.reads} reads of ${journals} journals with ${others} periods`)
    const [{ low }] = await keyspace.client.read('SELECT low FROM slab_journals WHERE shelf = 0 AND journal = ?', [journalId])
    t.ok(low as number > day0 + (rounds - 8) * usPerMinute, 'tombstones of what was merged lie before the reader\'s range')
    // The journal has ended: its last slabs are merged, and it costs a reader nothing any more.
    for (let again = 0; again < 2; again++) await store.replaceSlabs(await gather(store.scanSlabsToMerge(sliceOf(Infinity, journalId), 1000)), writeOf({}))
    t.strictSame(await keyspace.client.read('SELECT period FROM slab_periods WHERE journal = ?', [journalId]), [])
    await store.writeHead(writeOf({ slabs: [slabOf(tenant, { shard: 2, stamp: day0, slice: sliceOf(1, journalId) })] }))
    t.equal((await gather(keyspace.store().scanSlabs(tenant, 2, [retentionDays], 0, always))).length, 1, 'a slice that is packed again is seen even so')
  })
}

function nodeTests (t: Test, keyspace: RawKeyspace): void {
  void t.test('two nodes write one device: both read all of it, and each merges its own', async t => {
    const tenant = newTenantId()
    const journals = [newJournalId(), newJournalId()]
    const nodes = journals.map(() => keyspace.store())
    for (let mark = 1; mark <= 5; mark++) {
      await Promise.all(nodes.map(async (node, i) => {
        const slice = sliceOf(mark, journals[i])
        await node.writeHead(writeOf({
          chunks: [chunkOf(tenant, 'd', { slice, bytes: Buffer.from(`${i}.${mark}`), maxTs: day0 + mark })],
          slabs: [slabOf(tenant, { shard: 4, slice, stamp: day0 + mark * usPerMinute, bytes: Buffer.from(`${i}.${mark}`) })]
        }))
      }))
    }
    const wanted = journals.flatMap((_, i) => [1, 2, 3, 4, 5].map(mark => `${i}.${mark}`)).sort()
    // The other node's first slabs ever.
    await new Promise(resolve => setTimeout(resolve, 260))
    for (const node of [...nodes, keyspace.store()]) {
      t.strictSame((await gather(node.scanChunks(refOf(tenant, 'd'), 0, always))).map(textOf).sort(), wanted)
      t.strictSame((await gather(node.scanSlabs(tenant, 4, [retentionDays], 0, always))).map(textOf).sort(), wanted)
    }
    t.equal((await dirtyOf(nodes[0], tenant, 'd')).length, 10)
    const slabs = await gather(nodes[0].scanSlabsToMerge(sliceOf(5, journals[0]), 100))
    t.strictSame(slabs.map(textOf).sort(), wanted.slice(0, 4))
    await nodes[0].replaceSlabs(slabs, writeOf({}))
    t.strictSame((await gather(nodes[1].scanSlabs(tenant, 4, [retentionDays], 0, always))).map(textOf).sort(), wanted.slice(4))
    t.strictSame(await gather(nodes[0].scanSlabsToMerge(sliceOf(5, journals[0]), 100)), [])
    t.equal((await gather(nodes[1].scanSlabsToMerge(sliceOf(9, journals[1]), 100))).length, 5)
  })

  void t.test('what a node wrote is read by another at once, its first slab within a quarter of a second', async t => {
    const tenant = newTenantId()
    const journalId = newJournalId()
    const [writer, reader] = [keyspace.store(), keyspace.store()]
    await gather(reader.scanSlabs(tenant, 4, [retentionDays], 0, always))
    for (let mark = 1; mark <= 20; mark++) {
      await writer.writeHead(writeOf({ slabs: [slabOf(tenant, { shard: 4, slice: sliceOf(mark, journalId), stamp: day0 + mark * usPerMinute })] }))
      if (mark === 1) await new Promise(resolve => setTimeout(resolve, 260))
      t.equal((await gather(reader.scanSlabs(tenant, 4, [retentionDays], 0, always))).length, mark)
    }
  })

  void t.test('a period stays listed while a slice of it is still being written, whatever merges run meanwhile', async t => {
    const tenant = newTenantId()
    const journalId = newJournalId()
    const merger = keyspace.store()
    await merger.writeHead(writeOf({ slabs: [slabOf(tenant, { shard: 4, slice: sliceOf(5, journalId), stamp: day0 })] }))
    const client = new WatchedClient(keyspace.client)
    const writePartition = client.writePartition.bind(client)
    client.writePartition = async statements => {
      // The writer has listed the period; its slab comes after these merges.
      for (let again = 0; again < 3; again++) await merger.replaceSlabs(await gather(merger.scanSlabsToMerge(sliceOf(6, journalId), 100)), writeOf({}))
      await writePartition(statements)
    }
    await keyspace.store({ client }).writeHead(writeOf({ slabs: [slabOf(tenant, { shard: 4, slice: sliceOf(6, journalId), stamp: day0 + 10 * usPerMinute })] }))
    t.strictSame((await gather(keyspace.store().scanSlabs(tenant, 4, [retentionDays], 0, always))).map(slab => slab.slice.mark), [6])
    t.strictSame((await gather(merger.scanSlabsToMerge(sliceOf(7, journalId), 100))).map(slab => slab.slice.mark), [6])
  })

  void t.test('readers see every slab or its chunk at every moment of writing and merging by several threads', async t => {
    const tenant = newTenantId()
    const journalId = newJournalId()
    let written = 0
    let merged = 0
    let running = true
    const last = 150
    const packing = (async () => {
      const threads = [keyspace.store(), keyspace.store()]
      for (let mark = 1; mark <= last; mark += 2) {
        // Two slices side by side; the cursor passes both when both are done.
        await Promise.all([mark, mark + 1].map(async (each, i) => {
          await threads[i].writeHead(writeOf({ slabs: [slabOf(tenant, { shard: 9, slice: sliceOf(each, journalId), stamp: day0 + each * usPerMinute / 3, bytes: Buffer.from(`${each}`) })] }))
        }))
        written = mark + 1
      }
    })()
    const merging = (async () => {
      const merger = keyspace.store()
      while (running) {
        const slabs = await gather(merger.scanSlabsToMerge(sliceOf(written + 1, journalId), 7))
        if (slabs.length === 0) continue
        await merger.replaceSlabs(slabs, writeOf({ chunks: slabs.map(slab => chunkOf(tenant, 'd', { slice: slab.slice, part: 1_000_000, bytes: slab.bytes })) }))
        merged += slabs.length
      }
    })()
    const reader = keyspace.store()
    await new Promise(resolve => setTimeout(resolve, 300))
    let reads = 0
    const finished = packing.then(() => true)
    for (let done = false; !done;) {
      done = await Promise.race([finished, Promise.resolve(false)])
      const floor = written
      const found = new Set((await gather(reader.scanSlabs(tenant, 9, [retentionDays], 0, always))).map(textOf))
      for await (const row of reader.scanChunks(refOf(tenant, 'd'), 0, always)) found.add(textOf(row))
      const missing = Array.from({ length: floor }, (_, i) => `${i + 1}`).filter(mark => !found.has(mark))
      if (missing.length > 0) t.fail(`missing ${missing.join(' ')} of ${floor}`)
      reads++
    }
    while (merged < last) await new Promise(resolve => setTimeout(resolve, 20))
    running = false
    await merging
    t.ok(reads > 5, `${reads} reads`)
    t.strictSame(await gather(reader.scanSlabs(tenant, 9, [retentionDays], 0, always)), [])
    t.equal((await gather(reader.scanChunks(refOf(tenant, 'd'), 0, always))).length, last)
  })
}

class MovedClock implements Clock {
  aheadUs = 0
  nowUs (): number { return systemClock.nowUs() + this.aheadUs }
  monotonicMs (): number { return systemClock.monotonicMs() + this.aheadUs / 1000 }
}

function markTests (t: Test, keyspace: RawKeyspace): void {
  const marksOf = async (tenant: string, device: string): Promise<number> => (await keyspace.client.read('SELECT period FROM dirty_marks WHERE tenant = ? AND shard = ? AND width = 1440 AND start = ?', [tenant, shardOf(device), day0])).length

  void t.test('a bucket is noted once a period, however many slices it gets', async t => {
    const tenant = newTenantId()
    const client = new WatchedClient(keyspace.client)
    const store = keyspace.store({ client })
    for (let mark = 0; mark < 50; mark++) await store.writeHead(writeOf({ chunks: [chunkOf(tenant, 'd', { slice: sliceOf(mark) })] }))
    t.ok(client.writes <= 50 + 4, `${client.writes} writes`)
    t.equal((await dirtyOf(store, tenant, 'd')).length, 50)
  })

  void t.test('notes of sealed buckets go when their period is past, and no chunk is ever without one', async t => {
    const tenant = newTenantId()
    const clock = new MovedClock()
    const [writer, sealer] = [keyspace.store({ clock }), keyspace.store({ clock })]
    const ref = refOf(tenant, 'd')
    const seal = async (sequence: number): Promise<void> => {
      const covered = await sealer.listHeadSlices(ref)
      await sealer.writeSealed(ref, { retentionDays }, { generation: { epoch: 1, sequence }, covered, chunks: [] })
    }
    let mark = 0
    for (let round = 1; round <= 30; round++) {
      const slice = sliceOf(++mark)
      await writer.writeHead(writeOf({ chunks: [chunkOf(tenant, 'd', { slice })] }))
      t.strictSame(await dirtyOf(sealer, tenant, 'd'), [`${day0} ${mark}`], `round ${round}`)
      await seal(round)
      t.strictSame(await dirtyOf(sealer, tenant, 'd'), [], `round ${round}`)
      clock.aheadUs += randomInt(1, 100) * usPerMinute
      t.strictSame(await dirtyOf(sealer, tenant, 'd'), [])
    }
    t.ok(await marksOf(tenant, 'd') <= 4, `${await marksOf(tenant, 'd')} notes are left`)
    clock.aheadUs += 3 * usPerHour
    t.strictSame(await dirtyOf(sealer, tenant, 'd'), [])
    t.equal(await marksOf(tenant, 'd'), 0)
    t.equal((await keyspace.client.read('SELECT start FROM dirty_buckets WHERE tenant = ? AND shard = ?', [tenant, shardOf('d')])).length, 0)
    await writer.writeHead(writeOf({ chunks: [chunkOf(tenant, 'd', { slice: sliceOf(99) })] }))
    t.strictSame(await dirtyOf(sealer, tenant, 'd'), [`${day0} 99`], 'a late one is noted anew')
  })

  void t.test('a thread that stands still while it notes a bucket notes it again', async t => {
    const tenant = newTenantId()
    const clock = new MovedClock()
    const client = new WatchedClient(keyspace.client)
    const write = client.write.bind(client)
    let stood = false
    client.write = async (cql, parameters) => {
      if (cql.includes('dirty_marks') && !stood) {
        stood = true
        clock.aheadUs += 5 * usPerHour
      }
      await write(cql, parameters)
    }
    const store = keyspace.store({ client, clock })
    await store.writeHead(writeOf({ chunks: [chunkOf(tenant, 'd')] }))
    t.equal(await marksOf(tenant, 'd'), 2)
    t.strictSame(await dirtyOf(keyspace.store({ clock }), tenant, 'd'), [`${day0} 1`])
  })
}

/** Slices of sparse and dense devices of two journals, repeated, late, merged: the answer and the projection equal a model. */
function modelTests (t: Test, keyspace: RawKeyspace): void {
  const seed = newSeed()
  void t.test(`every answer equals the model, and the outbox names every point (seed ${seed})`, async t => {
    const random = randomFrom(seed)
    const tenant = newTenantId()
    const devices = ['a', 'b', 'c', 'hot', 'cold']
    const plan: PartitionPlan = { widths: [{ fromTs: 0, widthMinutes: 1440 }, { fromTs: day0 + usPerHour, widthMinutes: 60 }], salts: [{ fromStamp: 0, salts: 3 }] }
    const journals = [newJournalId(), newJournalId()].map(journalId => ({ journalId, mark: 0, packed: [] as (() => Promise<void>)[] }))
    const newStore = (): Store => ({ raw: keyspace.store(), getPlan: async () => ({ plan, version: 1 }), erasedBefore: async () => 0, erasedParts: async () => [] }) as Partial<Store> as Store
    const store = newStore()
    const plans = planLookup(store, { leaseMs: 60_000, rememberedMax: 100 })
    const merger = new SlabMerge({ store: newStore(), plans, monotonicMs: () => 0, nowUs: systemClock.nowUs })
    /** device, ts -> value accepted last. */
    const model = new Map<string, number>()
    let stamp = day0
    for (let round = 0; round < 60; round++) {
      const journal = journals[Math.floor(random() * 2)]
      const readings: SentReading[] = []
      for (let i = Math.floor(random() * 60); i >= 0; i--) {
        const device = random() < 0.4 ? 'hot' : devices[Math.floor(random() * devices.length)]
        const ts = day0 + Math.floor(random() * 3 * 3600) * 1e6 - (random() < 0.1 ? usPerDay : 0)
        readings.push({ device, ts, stamp: ++stamp, values: [['t', Math.floor(random() * 1e6)]] })
      }
      for (const { device, ts, values } of readings) model.set(`${device} ${ts}`, values[0][1] as number)
      journal.mark += 1000
      const slice = sliceOf(journal.mark, journal.journalId)
      const at = stamp += Math.floor(random() * 40e6)
      const write = async (): Promise<void> => {
        const table = new SliceTable()
        fillTable(table, tenant, readings)
        const { order, starts } = orderByDevice(table)
        const rows = groupSlice(table, order, starts, { slice, stamp: at, planOf: () => plan, retentionDaysOf: () => retentionDays, seen: new SeenCache({ devicesMax: 10 }) })
        await keyspace.store().writeHead({ ...rows, outbox: { journalId: slice.journalId, stream: 'pack', sequence: slice.mark } })
      }
      await write()
      journal.packed.push(write)
      if (random() < 0.3) await journal.packed[Math.floor(random() * journal.packed.length)]()
      if (random() < 0.4) {
        const { journalId, mark } = journals[Math.floor(random() * 2)]
        await merger.merge({ kind: 'merge', journalId, before: Math.floor(random() * mark), slabsMax: 1 + Math.floor(random() * 200) })
      }
      if (round % 10 === 9) await compareWithModel(t, newStore(), tenant, devices, model)
    }
    for (const { journalId } of journals) await merger.merge({ kind: 'merge', journalId, before: Infinity, slabsMax: 1e6 })
    await compareWithModel(t, newStore(), tenant, devices, model)
    const projected = await project(keyspace.store(), tenant, journals.map(({ journalId }) => journalId))
    t.strictSame([...projected].sort(), [...model].map(([key, value]) => `${key} ${value}`).sort())
  })
}

async function compareWithModel (t: Test, store: Store, tenant: string, devices: readonly string[], model: ReadonlyMap<string, number>): Promise<void> {
  const answers: string[] = []
  for (const device of devices) {
    const request = { tenant, device, retentionDays: [retentionDays], oldestTs: 0, fromTs: 0, toTs: always, order: 'asc', metrics: null } as const
    for await (const chunk of readReadings(store, request)) {
      const column = chunk.columns.find(({ metric }) => metric === 't')
      chunk.ts.forEach((ts, row) => { answers.push(`${device} ${ts} ${Number(column?.values[row])}`) })
    }
  }
  t.strictSame(answers.sort(), [...model].map(([key, value]) => `${key} ${value}`).sort())
}

/** What a projection that reads the outbox from its beginning holds in the end: of each point the value accepted last. */
async function project (raw: CassandraRawStore, tenant: string, journals: readonly string[]): Promise<string[]> {
  const best = new Map<string, { stamp: number, value: number }>()
  const take = (device: string, chunk: Chunk, from = 0, to = chunk.ts.length): void => {
    const column = chunk.columns.find(({ metric }) => metric === 't')
    for (let row = from; row < to; row++) {
      const key = `${device} ${chunk.ts[row]}`
      if ((best.get(key)?.stamp ?? -1) <= chunk.stamps[row]) best.set(key, { stamp: chunk.stamps[row], value: Number(column?.values[row]) })
    }
  }
  for (const journalId of journals) {
    for (const stream of ['pack', 'merge'] as const) {
      for (let after = -1; ;) {
        const entries = await raw.readOutbox(journalId, stream, after, always, 7)
        if (entries.length === 0) break
        after = entries[entries.length - 1].sequence
        for (const entry of entries) {
          const { chunks, slabs } = await raw.readEntry(entry)
          for (const row of chunks) if (row.tenant === tenant) take(row.device, decodeChunk(row.bytes))
          for (const { bytes } of slabs) {
            const chunk = decodeSlabRows(bytes)
            for (const { device, firstRow, rows } of readSlabDirectory(bytes)) take(device, chunk, firstRow, firstRow + rows)
          }
        }
      }
    }
  }
  return [...best].map(([key, { value }]) => `${key} ${value}`)
}
