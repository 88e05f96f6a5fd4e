/** What every implementation of the raw port keeps. */
import type { Test } from 'tap'
import { shardOf } from '../../src/core/ids.js'
import { timestampUsMax } from '../../src/core/limits.js'
import { usPerDay, usPerHour, usPerMinute } from '../../src/core/reading.js'
import { bucketWidthsMinutes, type Bucket } from '../../src/series/partition-plan.js'
import { chunkOf, day0, gather, newSeed, newTenantId, randomFrom, readable, refOf, retentionDays, slabOf, sliceOf, writeOf, type OpenStore } from './store-fixtures.js'

const always = timestampUsMax

export function rawStoreContract (t: Test, open: OpenStore): void {
  chunkContract(t, open)
  slabContract(t, open)
  sealedContract(t, open)
  spansContract(t, open)
}

function chunkContract (t: Test, open: OpenStore): void {
  void t.test('raw: chunks come newest end first over all salts, those in the range alone', async t => {
    const { raw } = await open()
    const tenant = newTenantId()
    const seed = newSeed()
    const random = randomFrom(seed)
    const chunks = Array.from({ length: 200 }, (_, i) => {
      const minTs = day0 + Math.floor(random() * 20 * usPerHour)
      return chunkOf(tenant, 'd', { salt: i % 3, slice: sliceOf(i), minTs, maxTs: minTs + Math.floor(random() * usPerHour), bytes: Buffer.from(`c${i}`) })
    })
    for (let i = 0; i < chunks.length; i += 50) await raw.writeHead(writeOf({ chunks: chunks.slice(i, i + 50) }))
    const ranges = [[0, always], [day0 + usPerHour, day0 + 2 * usPerHour], [day0, day0 + 1], [chunks[9].maxTs, chunks[9].maxTs + 1], [chunks[9].minTs, chunks[9].minTs + 1], [day0 + usPerDay, always]]
    for (const [from, to] of ranges) {
      const rows = await gather(raw.scanChunks(refOf(tenant, 'd', { salts: 3 }), from, to))
      const expected = chunks.filter(chunk => chunk.maxTs >= from && chunk.minTs < to)
      t.strictSame(rows.map(row => Buffer.from(row.bytes).toString()).sort(), expected.map(chunk => Buffer.from(chunk.bytes).toString()).sort(), `seed ${seed}, from ${from} to ${to}`)
      t.ok(rows.every((row, i) => i === 0 || rows[i - 1].maxTs >= row.maxTs), `descending, seed ${seed}`)
    }
    const [row] = readable(await gather(raw.scanChunks(refOf(tenant, 'd', { salts: 3 }), 0, always))).filter(({ text }) => text === 'c17')
    const { retentionDays: _class, ...written } = chunks[17]
    t.strictSame(row, readable([written])[0])
    t.equal((await gather(raw.scanChunks(refOf(tenant, 'd', { salts: 1 }), 0, always))).length, chunks.filter(chunk => chunk.salt === 0).length)
  })

  void t.test('raw: the same key written again is one row, the same slice in another part is another', async t => {
    const { raw } = await open()
    const tenant = newTenantId()
    await raw.writeHead(writeOf({ chunks: [chunkOf(tenant, 'd'), chunkOf(tenant, 'd', { part: 1 })] }))
    await raw.writeHead(writeOf({ chunks: [chunkOf(tenant, 'd', { bytes: Buffer.from('new') })] }))
    t.strictSame((await gather(raw.scanChunks(refOf(tenant, 'd'), 0, always))).map(row => Buffer.from(row.bytes).toString()).sort(), ['chunk', 'new'])
  })

  void t.test('raw: no read returns rows of another tenant, device or bucket (INVARIANTS 7)', async t => {
    const { raw } = await open()
    const base = newTenantId()
    const tenants = [base, `${base}b`, `${base}-`]
    const devices = ['a', 'ab', 'a.', 'b']
    const buckets = [{ start: day0, widthMinutes: 1440 }, { start: day0, widthMinutes: 60 }, { start: day0, widthMinutes: 43_200 }, { start: day0 + usPerDay, widthMinutes: 1440 }] as const
    for (const tenant of tenants) {
      await raw.writeHead(writeOf({
        chunks: devices.flatMap(device => buckets.map(bucket => chunkOf(tenant, device, { bucket, bytes: Buffer.from(`${tenant} ${device} ${bucket.start} ${bucket.widthMinutes}`) }))),
        slabs: [5, 6].map(shard => slabOf(tenant, { shard, bytes: Buffer.from(`${tenant} ${shard}`) })),
        seen: devices.map(device => ({ tenant, device, day: day0, metrics: [`${tenant} ${device}`], retentionDays }))
      }))
    }
    for (const tenant of tenants) {
      for (const device of devices) {
        for (const bucket of buckets) {
          const rows = await gather(raw.scanChunks(refOf(tenant, device, { bucket, salts: 4 }), 0, always))
          t.strictSame(rows.map(row => Buffer.from(row.bytes).toString()), [`${tenant} ${device} ${bucket.start} ${bucket.widthMinutes}`])
        }
        t.strictSame((await gather(raw.scanSeen(refOf(tenant, device)))).map(row => row.metrics), [[`${tenant} ${device}`]])
        for await (const mark of raw.scanDirty(tenant, shardOf(device), [retentionDays])) t.equal(mark.tenant, tenant)
      }
      t.strictSame((await gather(raw.scanSlabs(tenant, 5, [retentionDays], 0, always))).map(row => Buffer.from(row.bytes).toString()), [`${tenant} 5`])
    }
  })

  void t.test('raw: rows of several retention classes are read as one', async t => {
    const { raw } = await open()
    const tenant = newTenantId()
    const classes = [7, 30, 365, 3650]
    await raw.writeHead(writeOf({
      chunks: classes.map((days, i) => chunkOf(tenant, 'd', { retentionDays: days, slice: sliceOf(i), maxTs: day0 + i })),
      slabs: classes.map((days, i) => slabOf(tenant, { retentionDays: days, minute: day0 + i * usPerMinute })),
      seen: classes.map((days, i) => ({ tenant, device: 'd', day: day0 + i * usPerDay, metrics: ['m'], retentionDays: days }))
    }))
    const ref = refOf(tenant, 'd', { retentionDays: classes })
    t.strictSame((await gather(raw.scanChunks(ref, 0, always))).map(row => row.maxTs - day0), [3, 2, 1, 0])
    t.strictSame((await gather(raw.scanSlabs(tenant, 7, classes, 0, always))).map(row => (row.minute - day0) / usPerMinute), [3, 2, 1, 0])
    t.strictSame((await gather(raw.scanSeen(ref))).map(row => (row.day - day0) / usPerDay), [3, 2, 1, 0])
    t.strictSame((await raw.listHeadSlices(ref)).map(slice => slice.mark).sort(), [0, 1, 2, 3])
  })

  void t.test('raw: a wide bucket keeps its rows together under every class', async t => {
    const { raw } = await open()
    const tenant = newTenantId()
    const bucket = { start: day0, widthMinutes: 43_200 } as const
    for (const days of [7, 30, 31, 400]) {
      const chunks = Array.from({ length: 30 }, (_, i) => chunkOf(tenant, `d${days}`, { bucket, slice: sliceOf(i), minTs: day0 + i * usPerDay, maxTs: day0 + i * usPerDay + 5, retentionDays: days }))
      await raw.writeHead(writeOf({ chunks }))
      t.equal((await gather(raw.scanChunks(refOf(tenant, `d${days}`, { bucket, retentionDays: [days] }), day0 + 10 * usPerDay, day0 + 20 * usPerDay))).length, 10)
    }
  })

  void t.test('raw: seen days come newest first over years, each list of metrics once', async t => {
    const { raw } = await open()
    const tenant = newTenantId()
    const days = Array.from({ length: 20 }, (_, i) => day0 + i * 37 * usPerDay)
    for (let again = 0; again < 2; again++) {
      await raw.writeHead(writeOf({ seen: days.map(day => ({ tenant, device: 'd', day, metrics: ['a', 'grün'], retentionDays: 3650 })) }))
    }
    await raw.writeHead(writeOf({ seen: [{ tenant, device: 'd', day: days[3], metrics: ['b'], retentionDays: 3650 }] }))
    const rows = await gather(raw.scanSeen(refOf(tenant, 'd', { retentionDays: [3650] })))
    t.strictSame([...new Set(rows.map(row => row.day))], [...days].reverse())
    t.strictSame(rows.filter(row => row.day === days[3]).map(row => row.metrics).sort(), [['a', 'grün'], ['b']])
    t.equal(rows.length, 21)
  })
}

function slabContract (t: Test, open: OpenStore): void {
  void t.test('raw: slabs come in descending order of minute, from both ends of the range on', async t => {
    const { raw } = await open()
    const tenant = newTenantId()
    const minutes = [0, 1, 9, 10, 11, 59, 60, 1439, 1440, 43_200, 50_000].map(minute => day0 + minute * usPerMinute)
    await raw.writeHead(writeOf({ slabs: minutes.flatMap(minute => [1, 2].map(mark => slabOf(tenant, { minute, slice: sliceOf(mark) }))) }))
    const read = async (from: number, to: number): Promise<number[]> => (await gather(raw.scanSlabs(tenant, 7, [retentionDays], from, to))).map(row => (row.minute - day0) / usPerMinute)
    t.strictSame(await read(0, always), [50_000, 50_000, 43_200, 43_200, 1440, 1440, 1439, 1439, 60, 60, 59, 59, 11, 11, 10, 10, 9, 9, 1, 1, 0, 0])
    t.strictSame(await read(minutes[2], minutes[4]), [11, 11, 10, 10, 9, 9])
    t.strictSame(await read(minutes[3], minutes[3]), [10, 10])
    t.strictSame(await read(minutes[1] + usPerMinute, minutes[2] - usPerMinute), [])
  })

  void t.test('raw: the merger gets whole shards of the oldest slabs, none that is too new, and each once', async t => {
    const { raw } = await open()
    const journalId = '00000000000000c1'
    const tenants = [newTenantId(), newTenantId()]
    for (let mark = 10; mark <= 40; mark += 10) {
      await raw.writeHead(writeOf({ slabs: tenants.flatMap(tenant => [3, 4].map(shard => slabOf(tenant, { shard, minute: day0 + mark * usPerMinute / 10, slice: sliceOf(mark, journalId) }))) }))
    }
    await raw.writeHead(writeOf({ slabs: [slabOf(tenants[0], { shard: 3, slice: sliceOf(10, '00000000000000c2') })] }))
    const before = sliceOf(40, journalId)
    const all = await gather(raw.scanSlabsToMerge(before, 1000))
    t.equal(all.length, 12)
    t.ok(all.every(slab => slab.slice.mark < 40 && slab.slice.journalId === journalId && slab.retentionDays === retentionDays))
    const groups = all.map(slab => `${slab.tenant} ${slab.shard}`)
    t.equal(groups.filter((group, i) => i === 0 || group !== groups[i - 1]).length, 4, 'a shard\'s slabs follow one another')
    for (let left = 12; left > 0; left -= 3) {
      const some = await gather(raw.scanSlabsToMerge(before, 3))
      t.equal(some.length, 3)
      await raw.replaceSlabs(some, writeOf({ chunks: [chunkOf(some[0].tenant, 'd', { slice: some[2].slice, part: left })] }))
    }
    t.strictSame(await gather(raw.scanSlabsToMerge(before, 1000)), [])
    t.equal((await gather(raw.scanSlabsToMerge(sliceOf(41, journalId), 1000))).length, 4, 'newer ones are still there')
    t.equal((await gather(raw.scanSlabs(tenants[0], 3, [retentionDays], 0, always))).length, 2)
    t.equal((await raw.listHeadSlices(refOf(tenants[0], 'd'))).length + (await raw.listHeadSlices(refOf(tenants[1], 'd'))).length > 0, true)
  })

  void t.test('raw: late slabs alone can be merged, however many current ones there are, and nothing is lost by it', async t => {
    const { raw } = await open()
    const tenant = newTenantId()
    const journalId = '00000000000000c5'
    const now = day0 + 40 * usPerDay + 33 * usPerMinute
    const slab = (mark: number, agoMinutes: number) => slabOf(tenant, { shard: mark % 5, minute: Math.floor((now - agoMinutes * usPerMinute) / usPerMinute) * usPerMinute, slice: sliceOf(mark, journalId), stamp: now + mark })
    const current = Array.from({ length: 20 }, (_, i) => slab(10 + i, i % 3))
    const late = [slab(11, 40 * 1440), slab(13, 100), slab(17, 16)]
    await raw.writeHead(writeOf({ slabs: [...current, ...late, slab(31, 200)] }))
    const bound = { beforeMinute: now - 15 * usPerMinute, sinceStamp: now }
    const before = sliceOf(30, journalId)
    const found = await gather(raw.scanSlabsToMerge(before, 100, bound))
    t.strictSame(found.map(({ slice, minute }) => `${slice.mark} ${minute}`).sort(), late.map(({ slice, minute }) => `${slice.mark} ${minute}`).sort(), 'none that is current, none of a slice that is not packed')
    t.equal(found[0].minute, late[0].minute, 'oldest first')
    t.equal((await gather(raw.scanSlabsToMerge(before, 2, bound))).length, 2)
    await raw.replaceSlabs(found, writeOf({ chunks: [chunkOf(tenant, 'd', { slice: found[0].slice })] }))
    t.strictSame(await gather(raw.scanSlabsToMerge(before, 100, bound)), [])
    t.equal((await gather(raw.scanSlabsToMerge(before, 100))).length, 20, 'the current ones wait for their turn')
    // A slice that is packed again.
    await raw.writeHead(writeOf({ slabs: [late[1]] }))
    t.equal((await gather(raw.scanSlabsToMerge(before, 100, { ...bound, sinceStamp: 0 }))).length, 1)
    t.equal((await gather(raw.scanSlabsToMerge(sliceOf(32, journalId), 100))).length, 22)
  })

  void t.test('raw: a slice that is packed again after its merge is visible and is merged again', async t => {
    const { raw } = await open()
    const tenant = newTenantId()
    const journalId = '00000000000000c3'
    const slab = slabOf(tenant, { slice: sliceOf(5, journalId) })
    for (let again = 0; again < 3; again++) {
      await raw.writeHead(writeOf({ slabs: [slab] }))
      t.equal((await gather(raw.scanSlabs(tenant, 7, [retentionDays], 0, always))).length, 1)
      const [found] = await gather(raw.scanSlabsToMerge(sliceOf(6, journalId), 10))
      t.match(found, { tenant, minute: slab.minute })
      await raw.replaceSlabs([found], writeOf({}))
      t.strictSame(await gather(raw.scanSlabsToMerge(sliceOf(6, journalId), 10)), [])
      t.strictSame(await gather(raw.scanSlabs(tenant, 7, [retentionDays], 0, always)), [])
    }
  })

  void t.test('raw: whatever merges run beside it, a slab is found from the moment its write returns', async t => {
    const { raw } = await open()
    const tenant = newTenantId()
    const journalId = '00000000000000c4'
    let writing = true
    const merging = (async () => {
      // An empty merge: it takes nothing away but what says that there is nothing.
      while (writing) for await (const slab of raw.scanSlabsToMerge(sliceOf(0, journalId), 10)) t.fail(`slab of mark ${slab.slice.mark} is not before 0`)
    })()
    for (let i = 0; i < 60; i++) {
      const minute = day0 + i * 20 * usPerMinute
      await raw.writeHead(writeOf({ slabs: [slabOf(tenant, { minute, slice: sliceOf(i, journalId) })] }))
      await gather(raw.scanSlabsToMerge(sliceOf(i, journalId), 1))
      t.equal((await gather(raw.scanSlabs(tenant, 7, [retentionDays], minute, minute))).length, 1)
    }
    writing = false
    await merging
  })

  void t.test('raw: replaceSlabs keeps a slab that it also writes, and works over several windows', async t => {
    const { raw } = await open()
    const tenant = newTenantId()
    const slabs = [0, 40, 80].map(days => slabOf(tenant, { minute: day0 + days * usPerDay }))
    await raw.writeHead(writeOf({ slabs }))
    await raw.replaceSlabs(slabs, writeOf({ slabs: [{ ...slabs[1], bytes: Buffer.from('rest') }], chunks: [0, 40].map(days => chunkOf(tenant, 'd', { bucket: { start: day0 + days * usPerDay, widthMinutes: 1440 } })) }))
    t.strictSame((await gather(raw.scanSlabs(tenant, 7, [retentionDays], 0, always))).map(slab => Buffer.from(slab.bytes).toString()), ['rest'])
    for (const days of [0, 40]) t.equal((await gather(raw.scanChunks(refOf(tenant, 'd', { bucket: { start: day0 + days * usPerDay, widthMinutes: 1440 } }), 0, always))).length, 1)
  })
}

function sealedContract (t: Test, open: OpenStore): void {
  void t.test('raw: a seal removes exactly what it covers, and its bucket is clean then', async t => {
    const { raw } = await open()
    const tenant = newTenantId()
    const chunks = [1, 2, 3].flatMap(mark => [0, 1].map(salt => chunkOf(tenant, 'd', { salt, slice: sliceOf(mark), retentionDays: mark === 3 ? 30 : 365 })))
    await raw.writeHead(writeOf({ chunks: [...chunks, chunkOf(tenant, 'd2')] }))
    const ref = refOf(tenant, 'd', { salts: 2, retentionDays: [30, 365] })
    const dirty = async (): Promise<number[]> => (await gather(raw.scanDirty(tenant, shardOf('d'), [30, 365]))).filter(mark => mark.device === 'd').map(mark => mark.slice.mark).sort()
    t.strictSame(await dirty(), [1, 2, 3])
    t.equal(await raw.readSealed(ref), null)
    const sealed = { generation: { epoch: 1, sequence: 1 }, covered: [sliceOf(1), sliceOf(3)], chunks: [{ minTs: day0, maxTs: day0 + 9, bytes: Buffer.from('one') }, { minTs: day0 + 10, maxTs: day0 + 19, bytes: Buffer.from('two') }] }
    await raw.writeSealed(ref, { retentionDays: 365 }, sealed)
    t.strictSame(await dirty(), [2])
    t.strictSame((await gather(raw.scanChunks(ref, 0, always))).map(row => row.slice.mark), [2, 2])
    const stored = await raw.readSealed(ref)
    t.strictSame({ ...stored, chunks: readable(stored?.chunks ?? []) }, { ...sealed, chunks: readable(sealed.chunks) })
    t.equal((await raw.listHeadSlices(refOf(tenant, 'd2'))).length, 1, 'another device keeps its head')
  })

  void t.test('raw: the highest generation wins, whatever comes later', async t => {
    const { raw } = await open()
    const tenant = newTenantId()
    const ref = refOf(tenant, 'd', { retentionDays: [365, 400] })
    const seal = async (epoch: number, sequence: number, days = 365): Promise<void> => {
      await raw.writeSealed(ref, { retentionDays: days }, { generation: { epoch, sequence }, covered: [sliceOf(epoch * 100 + sequence)], chunks: [{ minTs: day0, maxTs: day0, bytes: Buffer.from(`${epoch}.${sequence}`) }] })
    }
    const read = async (): Promise<string[]> => ((await raw.readSealed(ref))?.chunks ?? []).map(chunk => Buffer.from(chunk.bytes).toString())
    await seal(2, 5)
    await raw.writeHead(writeOf({ chunks: [chunkOf(tenant, 'd', { slice: sliceOf(109) })] }))
    await seal(1, 9)
    t.strictSame(await read(), ['2.5'])
    t.equal((await raw.listHeadSlices(ref)).length, 1, 'a lower generation removes nothing either')
    await seal(2, 4)
    t.strictSame(await read(), ['2.5'])
    await seal(2, 6, 400)
    t.strictSame(await read(), ['2.6'])
    await seal(10, 0)
    t.strictSame(await read(), ['10.0'])
  })
}

function spansContract (t: Test, open: OpenStore): void {
  void t.test('raw: head spans name every chunk that meets the range, whatever its bucket, salt and class, and no other', async t => {
    const { raw } = await open()
    const tenant = newTenantId()
    const seed = newSeed()
    const random = randomFrom(seed)
    const chunks = Array.from({ length: 300 }, (_, i) => {
      const widthMinutes = bucketWidthsMinutes[Math.floor(random() * 4)]
      const widthUs = widthMinutes * usPerMinute
      const minTs = day0 + Math.floor(random() * 100) * usPerDay + Math.floor(random() * usPerDay)
      const start = Math.floor(minTs / widthUs) * widthUs
      const maxTs = Math.min(start + widthUs - 1, minTs + Math.floor(random() * 3 * usPerHour))
      return chunkOf(tenant, random() < 0.8 ? 'd' : 'd.', { bucket: { start, widthMinutes }, salt: Math.floor(random() * 3), slice: sliceOf(i), minTs, maxTs, retentionDays: [7, 365, 3650][i % 3] })
    })
    for (let i = 0; i < chunks.length; i += 100) await raw.writeHead(writeOf({ chunks: chunks.slice(i, i + 100) }))
    const list = async (from: number, to: number): Promise<string[]> => (await raw.listHeadSpans({ tenant, device: 'd', retentionDays: [7, 365, 3650] }, from, to))
      .map(({ bucket, slice, minTs, maxTs }) => `${slice.mark} ${bucket.start} ${bucket.widthMinutes} ${minTs} ${maxTs}`).sort()
    const ranges = [[0, always], [0, Infinity], [day0, day0 + usPerDay], [day0 + 50 * usPerDay, day0 + 50 * usPerDay + 1], [day0 + 200 * usPerDay, always]]
    for (let i = 0; i < 20; i++) {
      const from = day0 + Math.floor(random() * 100 * usPerDay)
      ranges.push([from, from + Math.floor(random() * 10 * usPerDay)], [chunks[i].maxTs, chunks[i].maxTs + 1], [chunks[i].minTs, chunks[i].minTs + 1])
    }
    for (const [from, to] of ranges) {
      const expected = chunks.filter(({ device, minTs, maxTs }) => device === 'd' && maxTs >= from && minTs < to)
      t.strictSame(await list(from, to), expected.map(({ bucket, slice, minTs, maxTs }) => `${slice.mark} ${bucket.start} ${bucket.widthMinutes} ${minTs} ${maxTs}`).sort(), `seed ${seed}, ${from} to ${to}`)
    }
    t.strictSame(await raw.listHeadSpans({ tenant: `${tenant}x`, device: 'd', retentionDays: [365] }, 0, always), [])
  })

  void t.test('raw: a chunk is named from the moment its write returns, and not when its seal has removed it', async t => {
    const { raw } = await open()
    const tenant = newTenantId()
    const range = { tenant, device: 'd', retentionDays: [retentionDays] }
    for (let day = 0; day < 5; day++) {
      const bucket = { start: day0 + day * usPerDay, widthMinutes: 1440 } as const
      for (let mark = 1; mark <= 20; mark++) {
        await raw.writeHead(writeOf({ chunks: [chunkOf(tenant, 'd', { bucket, slice: sliceOf(mark) })] }))
        t.equal((await raw.listHeadSpans(range, bucket.start, bucket.start + usPerDay)).length, mark)
      }
      await raw.writeSealed(refOf(tenant, 'd', { bucket }), { retentionDays }, { generation: { epoch: 1, sequence: 1 }, covered: Array.from({ length: 19 }, (_, i) => sliceOf(i + 1)), chunks: [] })
      t.strictSame((await raw.listHeadSpans(range, 0, always)).filter(span => span.bucket.start === bucket.start).map(({ slice }) => slice.mark), [20])
    }
    t.equal((await raw.listHeadSpans(range, 0, always)).length, 5)
  })

  void t.test('raw: a scan for dirty buckets passes over what is not wanted', async t => {
    const { raw } = await open()
    const tenant = newTenantId()
    const devices = Array.from({ length: 400 }, (_, i) => `d${i}`).filter(device => shardOf(device) === shardOf('d0'))
    const buckets = [0, 1, 2, 40].flatMap(day => [60, 1440].map(widthMinutes => ({ start: day0 + day * usPerDay, widthMinutes: widthMinutes as 60 | 1440 })))
    await raw.writeHead(writeOf({ chunks: devices.flatMap(device => buckets.flatMap(bucket => [1, 2, 3, 4, 5, 6].map(mark => chunkOf(tenant, device, { bucket, slice: sliceOf(mark) })))) }))
    const wanteds: ((bucket: Bucket) => boolean)[] = [() => true, () => false, ({ start }) => start === day0 + usPerDay, ({ widthMinutes }) => widthMinutes === 1440, ({ start }) => start > day0 + usPerDay]
    for (const wanted of wanteds) {
      const marks = await gather(raw.scanDirty(tenant, shardOf('d0'), [retentionDays], wanted))
      const expected = devices.flatMap(device => buckets.filter(wanted).flatMap(bucket => [1, 2, 3, 4, 5, 6].map(mark => `${device} ${bucket.start} ${bucket.widthMinutes} ${mark}`)))
      t.strictSame(marks.map(({ device, bucket, slice }) => `${device} ${bucket.start} ${bucket.widthMinutes} ${slice.mark}`).sort(), expected.sort())
    }
  })
}
