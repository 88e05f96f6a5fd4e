/** What every implementation of the outbox port keeps (src/store/outbox.ts). */
import type { Test } from 'tap'
import { randomBytes } from 'node:crypto'
import { usPerMinute } from '../../src/core/reading.js'
import type { Outbox, OutboxEntry, OutboxSlot, OutboxStream } from '../../src/store/outbox.js'
import { chunkOf, day0, gather, newTenantId, readable, refOf, retentionDays, slabOf, sliceOf, writeOf, type OpenStore } from './store-fixtures.js'

const always = Number.MAX_SAFE_INTEGER
const stamp = day0 + 400 * usPerMinute

export function newJournalId (): string {
  return randomBytes(8).toString('hex')
}

export function outboxContract (t: Test, open: OpenStore): void {
  const opened = async (): Promise<{ raw: Awaited<ReturnType<OpenStore>>['raw'], outbox: Outbox }> => {
    const { raw, outbox } = await open()
    if (outbox === null) throw new Error('the store keeps no outbox')
    return { raw, outbox }
  }
  const slot = (journalId: string, sequence: number, stream: OutboxStream = 'pack'): OutboxSlot => ({ journalId, stream, sequence })
  const sequences = (entries: readonly OutboxEntry[]): number[] => entries.map(entry => entry.sequence)

  void t.test('outbox: an entry names the rows of its slice, and their bytes are read from it', async t => {
    const { raw, outbox } = await opened()
    const tenants = [newTenantId(), newTenantId()]
    const journalId = newJournalId()
    const slice = sliceOf(77, journalId)
    const chunks = tenants.flatMap(tenant => ['a', 'b:1', 'x.y'].flatMap((device, i) => [0, 1].map(part => chunkOf(tenant, device, {
      slice, part, salt: i, bucket: { start: day0 + i * 60 * usPerMinute, widthMinutes: 60 }, minTs: day0 + i * 1000, maxTs: day0 + i * 1_000_000, bytes: Buffer.from(`${tenant} ${device} ${part}`)
    }))))
    const slabs = tenants.flatMap(tenant => [0, 255].map(shard => slabOf(tenant, { shard, slice, stamp, minute: day0 - shard * usPerMinute, bytes: Buffer.from(`${tenant} ${shard}`) })))
    await raw.writeHead(writeOf({ chunks, slabs, outbox: slot(journalId, 77) }))
    const [entry, ...others] = await outbox.readOutbox(journalId, 'pack', 0, always, 10)
    t.strictSame(others, [])
    t.match(entry, { journalId, stream: 'pack', sequence: 77 })
    t.strictSame(entry.chunks, chunks.map(({ bytes: _bytes, retentionDays: _class, ...row }) => row))
    t.strictSame(entry.slabs.map(({ tenant, shard, minute, slice }) => ({ tenant, shard, minute, slice })), slabs.map(({ tenant, shard, minute, slice }) => ({ tenant, shard, minute, slice })))
    const rows = await outbox.readEntry(entry)
    t.strictSame(readable(rows.chunks), readable(chunks.map(({ retentionDays: _class, ...row }) => row)))
    t.strictSame(readable(rows.slabs).map(row => row.text), tenants.flatMap(tenant => [0, 255].map(shard => `${tenant} ${shard}`)))
  })

  void t.test('outbox: entries come in order, after the cursor, up to the bound, at most as many as asked for', async t => {
    const { raw, outbox } = await opened()
    const tenant = newTenantId()
    const journalId = newJournalId()
    // Positions far apart and close together, over many gigabytes.
    const marks = [1, 2, 900, 1e6, 1e6 + 1, 33e6, 34e6, 5e9, 5e9 + 40e6, 3e12]
    for (const mark of [...marks].reverse()) await raw.writeHead(writeOf({ chunks: [chunkOf(tenant, 'd', { slice: sliceOf(mark, journalId) })], outbox: slot(journalId, mark) }))
    const read = async (after: number, upTo: number, limit: number): Promise<number[]> => sequences(await outbox.readOutbox(journalId, 'pack', after, upTo, limit))
    t.strictSame(await read(-1, always, 100), marks)
    t.strictSame(await read(0, always, 100), marks)
    t.strictSame(await read(1, 5e9, 100), marks.slice(1, 8), 'after is excluded, up to included')
    t.strictSame(await read(2, 5e9 - 1, 100), marks.slice(2, 7))
    t.strictSame(await read(900, 900, 100), [])
    t.strictSame(await read(901, 900, 100), [])
    t.strictSame(await read(3e12, always, 100), [])
    const walked: number[] = []
    for (let after = -1; ;) {
      const entries = await outbox.readOutbox(journalId, 'pack', after, always, 3)
      if (entries.length === 0) break
      t.ok(entries.length <= 3)
      walked.push(...sequences(entries))
      after = walked[walked.length - 1]
    }
    t.strictSame(walked, marks, 'a cursor that walks misses none')
  })

  void t.test('outbox: streams and journals are apart, and a repeated slice is one entry', async t => {
    const { raw, outbox } = await opened()
    const tenant = newTenantId()
    const journals = [newJournalId(), newJournalId()]
    for (let again = 0; again < 3; again++) {
      for (const journalId of journals) {
        await raw.writeHead(writeOf({ chunks: [chunkOf(tenant, 'd', { slice: sliceOf(5, journalId) })], outbox: slot(journalId, 5) }))
        await raw.writeHead(writeOf({ chunks: [chunkOf(tenant, 'e', { slice: sliceOf(5, journalId) })], outbox: slot(journalId, 5, 'merge') }))
      }
    }
    for (const journalId of journals) {
      const packed = await outbox.readOutbox(journalId, 'pack', 0, always, 10)
      t.strictSame(packed.map(entry => entry.chunks.map(row => `${row.device} ${row.slice.journalId}`)), [[`d ${journalId}`]])
      const merged = await outbox.readOutbox(journalId, 'merge', 0, always, 10)
      t.strictSame(merged.map(entry => entry.chunks.map(row => `${row.device} ${row.slice.journalId}`)), [[`e ${journalId}`]])
    }
    t.strictSame(await outbox.readOutbox(newJournalId(), 'pack', 0, always, 10), [])
  })

  void t.test('outbox: slabs that were merged are left out of their entry, and the merge\'s entry has their chunks', async t => {
    const { raw, outbox } = await opened()
    const tenant = newTenantId()
    const journalId = newJournalId()
    for (let mark = 1; mark <= 3; mark++) {
      await raw.writeHead(writeOf({ slabs: [1, 2].map(shard => slabOf(tenant, { shard, slice: sliceOf(mark, journalId), stamp: stamp + mark, bytes: Buffer.from(`${mark} ${shard}`) })), outbox: slot(journalId, mark) }))
    }
    const some = (await gather(raw.scanSlabsToMerge(sliceOf(3, journalId), 100))).filter(slab => slab.shard === 1)
    t.equal(some.length, 2)
    const mergedAt = stamp + 7 * 3600e6
    await raw.replaceSlabs(some, writeOf({ chunks: [chunkOf(tenant, 'd', { slice: sliceOf(2, journalId), part: 1_000_000, bytes: Buffer.from('merged') })], outbox: slot(journalId, mergedAt, 'merge') }))
    const texts: string[][] = []
    for (const entry of await outbox.readOutbox(journalId, 'pack', 0, always, 10)) {
      t.equal(entry.slabs.length, 2)
      texts.push(readable((await outbox.readEntry(entry)).slabs).map(row => row.text))
    }
    t.strictSame(texts, [['1 2'], ['2 2'], ['3 1', '3 2']])
    const [merge] = await outbox.readOutbox(journalId, 'merge', 0, always, 10)
    t.equal(merge.sequence, mergedAt)
    t.strictSame(readable((await outbox.readEntry(merge)).chunks).map(row => row.text), ['merged'])
  })

  void t.test('outbox: a write without an entry leaves none, an entry without rows is read as such', async t => {
    const { raw, outbox } = await opened()
    const journalId = newJournalId()
    await raw.writeHead(writeOf({ chunks: [chunkOf(newTenantId(), 'd', { slice: sliceOf(1, journalId) })] }))
    await raw.writeHead(writeOf({ outbox: slot(journalId, 2) }))
    const entries = await outbox.readOutbox(journalId, 'pack', 0, always, 10)
    t.strictSame(entries, [{ journalId, stream: 'pack', sequence: 2, chunks: [], slabs: [] }])
    t.strictSame(await outbox.readEntry(entries[0]), { chunks: [], slabs: [] })
  })

  void t.test('outbox: an entry of thousands of rows is read whole', async t => {
    const { raw, outbox } = await opened()
    const tenant = newTenantId()
    const journalId = newJournalId()
    const slice = sliceOf(9, journalId)
    const chunks = Array.from({ length: 3000 }, (_, i) => chunkOf(tenant, `sensor-${i}`, { slice, minTs: day0 + i, maxTs: day0 + 2 * i, bytes: Buffer.from(`${i}`) }))
    await raw.writeHead(writeOf({ chunks, outbox: slot(journalId, 9) }))
    const [entry] = await outbox.readOutbox(journalId, 'pack', 8, 9, 1)
    t.equal(entry.chunks.length, 3000)
    const rows = await outbox.readEntry(entry)
    t.strictSame(rows.chunks.map(row => `${row.device} ${row.minTs} ${Buffer.from(row.bytes).toString()}`), chunks.map(row => `${row.device} ${row.minTs} ${Buffer.from(row.bytes).toString()}`))
  })

  void t.test('outbox: a seal names its bucket once its rows are there, in a stream of its own', async t => {
    const { raw, outbox } = await opened()
    const tenant = newTenantId()
    const journalId = newJournalId()
    await raw.writeHead(writeOf({ chunks: [chunkOf(tenant, 'd', { slice: sliceOf(9, journalId) })], outbox: slot(journalId, 9) }))
    const ref = refOf(tenant, 'd')
    for (const sequence of [stamp + 1, stamp + 2, stamp + 2]) {
      await raw.writeSealed(ref, { retentionDays }, {
        generation: { epoch: 1, sequence }, covered: [sliceOf(9, journalId)], chunks: [{ minTs: day0, maxTs: day0 + 1000, bytes: Buffer.from('sealed') }], outbox: slot(journalId, sequence, 'seal')
      })
    }
    const entries = await outbox.readOutbox(journalId, 'seal', stamp, always, 10)
    t.strictSame(sequences(entries), [stamp + 1, stamp + 2])
    for (const { sealed, chunks, slabs } of entries) {
      t.strictSame(sealed, { tenant, device: 'd', bucket: ref.bucket })
      t.strictSame([chunks, slabs], [[], []])
    }
    t.strictSame(sequences(await outbox.readOutbox(journalId, 'seal', stamp + 1, always, 10)), [stamp + 2])
    t.strictSame(sequences(await outbox.readOutbox(journalId, 'pack', 0, always, 10)), [9])
    const [packed] = await outbox.readOutbox(journalId, 'pack', 0, always, 10)
    t.strictSame((await outbox.readEntry(packed)).chunks, [], 'the sealed chunk is gone from the head')
  })
}
