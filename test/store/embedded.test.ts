import t, { type Test } from 'tap'
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import { ClassicLevel } from 'classic-level'
import { systemClock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import { usPerDay } from '../../src/core/reading.js'
import { openEmbeddedStore, type EmbeddedStore } from '../../src/store/embedded/embedded-store.js'
import { rawWindowEnd } from '../../src/store/embedded/windows.js'
import { bucketWidthsMinutes } from '../../src/series/partition-plan.js'
import { claimStoreContract } from './claim-store.contract.js'
import { deadLetterContract } from './dead-letter.contract.js'
import { rowOf, writeRow, type WriterData } from './embedded-threads.js'
import { erasedPartsContract } from './erased-parts.contract.js'
import { jobStoreContract } from './job-store.contract.js'
import { planContract } from './plan.contract.js'
import { rawStoreContract } from './raw-store.contract.js'
import { registryContract } from './registry.contract.js'
import { sealRequestsContract } from './seal-requests.contract.js'
import { smallContract } from './small.contract.js'
import { tierStoreContract } from './tier-store.contract.js'
import { chunkOf, day0, deviceOf, gather, refOf, sliceOf, slabOf, tenantOf, writeOf } from './store-fixtures.js'

const threads = fileURLToPath(new URL('./embedded-threads.js', import.meta.url))

function newDirectory (test: Test): string {
  const directory = mkdtempSync(join(tmpdir(), 'twinfold-store-'))
  test.teardown(() => { rmSync(directory, { recursive: true, force: true }) })
  return directory
}

async function openIn (directory: string, writer = true): Promise<EmbeddedStore> {
  return await openEmbeddedStore({ directory, clock: systemClock, log: silentLog, writer })
}

async function opened (test: Test): Promise<{ store: EmbeddedStore, directory: string }> {
  const directory = newDirectory(test)
  const store = await openIn(directory)
  test.teardown(async () => { await store.close() })
  return { store, directory }
}

// One store for all contract tests, as they use names of their own.
const shared = newDirectory(t)
let sharedStore: Promise<EmbeddedStore> | null = null
const openShared = async (): Promise<EmbeddedStore> => await (sharedStore ??= openIn(shared))
t.teardown(async () => { await (await sharedStore)?.close() })
registryContract(t, openShared)
planContract(t, openShared)
deadLetterContract(t, openShared)
smallContract(t, openShared)
jobStoreContract(t, openShared)
erasedPartsContract(t, openShared)
rawStoreContract(t, openShared)
tierStoreContract(t, openShared)
claimStoreContract(t, openShared)
sealRequestsContract(t, openShared)

void t.test('a store beside the owner\'s reads at once what the owner has written, and keeps the same contracts', async t => {
  const { store, directory } = await opened(t)
  const beside = await openIn(directory, false)
  t.teardown(async () => { await beside.close() })
  const open = async (): Promise<EmbeddedStore> => beside
  rawStoreContract(t, open)
  tierStoreContract(t, open)
  sealRequestsContract(t, open)
  deadLetterContract(t, open)
  for (let i = 0; i < 20; i++) {
    await store.createDevice(deviceOf('x', `d${i}`))
    t.match(await beside.getDevice('x', `d${i}`), { id: `d${i}` })
  }
  await t.rejects(beside.createDevice(deviceOf('x', 'late')), { code: 'internal' })
  await t.rejects(beside.putPlanIfVersion('x', 'd', (await beside.getPlan('x', 'd')).plan, 0), { code: 'internal' })
})

void t.test('windows of used keys go when all in them is older than the stamp', async t => {
  const { store } = await opened(t)
  const records = Array.from({ length: 60 }, (_, hour) => ({ tenant: 'x', key: `k${hour}`, fingerprint: 'f', stamp: day0 + hour * 3600e6 }))
  await store.putIdempotency(records)
  await store.dropIdempotencyBefore(records[36].stamp)
  t.equal(await store.getIdempotency('x', 'k0'), null)
  t.strictSame(await store.getIdempotency('x', 'k36'), records[36])
})

void t.test('what is written is there after closing and opening again', async t => {
  const directory = newDirectory(t)
  for (let round = 0; round < 3; round++) {
    const store = await openIn(directory)
    for (let i = 0; i < round * 10; i++) t.equal((await gather(store.raw.scanChunks(refOf('x', 'd1', { bucket: rowOf('x', 1, i).chunk.bucket }), 0, 9e15))).some(row => row.part === i), true)
    for (let i = round * 10; i < round * 10 + 10; i++) await writeRow(store, 'x', 1, i)
    await store.raw.flush()
    await store.raw.flush()
    await store.close()
  }
})

void t.test('threads that write side by side lose nothing, even where one dies in the middle', async t => {
  const { store, directory } = await opened(t)
  const rows = 80
  const start = (writer: number, dieAfter?: number): Promise<unknown> => {
    const workerData: WriterData = { directory, tenant: 'x', writer, rows, dieAfter }
    return once(new Worker(threads, { workerData }), 'exit')
  }
  const own = (async () => { for (let i = 0; i < rows; i++) await writeRow(store, 'x', 9, i) })()
  await Promise.all([start(1), start(2), start(3, 40), own])
  await store.raw.compact()
  for (const [writer, count] of [[1, rows], [2, rows], [3, 40], [9, rows]]) {
    const parts = new Set<number>()
    for (let window = 0; window < 4; window++) {
      const { bucket } = rowOf('x', writer, window).chunk
      for await (const row of store.raw.scanChunks(refOf('x', `d${writer}`, { bucket }), 0, 9e15)) parts.add(row.part)
    }
    t.equal(parts.size, count, `writer ${writer}`)
    t.equal((await gather(store.raw.scanSlabs('x', writer, [365], 0, 9e15))).length, count, `writer ${writer}`)
  }
})

void t.test('a thread that used a database first and ends takes nothing from the others', async t => {
  const { store, directory } = await opened(t)
  const workerData: WriterData = { directory, tenant: 'x', writer: 1, rows: 40, dieAfter: 20 }
  for (let round = 0; round < 3; round++) {
    await once(new Worker(threads, { workerData }), 'exit')
    for (let i = 0; i < 20; i++) await writeRow(store, 'x', 2, i)
    t.equal((await gather(store.raw.scanSlabs('x', 1, [365], 0, 9e15))).length, 20)
  }
  t.equal(await store.raw.dropExpired(day0 + 1000 * usPerDay, days => days), 4, 'and holds nothing back')
})

function startChild (test: Test, directory: string, ...more: string[]): ChildProcess {
  const child = spawn(process.execPath, [threads, 'child', directory, ...more], { stdio: ['ignore', 'pipe', 'pipe'] })
  test.teardown(() => { child.kill('SIGKILL') })
  return child
}

void t.test('what was acknowledged survives SIGKILL', async t => {
  const directory = newDirectory(t)
  const acknowledged = new Map<number, number>()
  for (let round = 0; round < 2; round++) {
    const child = startChild(t, directory)
    let text = ''
    await new Promise<void>(resolve => {
      child.stdout?.on('data', (data: Buffer) => {
        text += data.toString()
        if (text.length > 6000 + round * 3000) child.kill('SIGKILL')
      })
      child.once('close', () => { resolve() })
    })
    for (const line of text.slice(0, text.lastIndexOf('\n')).split('\n').slice(1)) {
      const [writer, i] = line.split(' ').map(Number)
      acknowledged.set(writer, Math.max(i, acknowledged.get(writer) ?? 0))
    }
  }
  t.equal(acknowledged.size, 3)
  const store = await openIn(directory)
  for (const [writer, last] of acknowledged) {
    const slabs = await gather(store.raw.scanSlabs('killed', writer, [365], 0, 9e15))
    const marks = new Set(slabs.map(slab => slab.slice.mark))
    const parts = new Set<number>()
    for (let window = 0; window < 4; window++) {
      for await (const row of store.raw.scanChunks(refOf('killed', `d${writer}`, { bucket: rowOf('killed', writer, window).chunk.bucket }), 0, 9e15)) parts.add(row.part)
    }
    const missing = Array.from({ length: last + 1 }, (_, i) => i).filter(i => !parts.has(i) || !marks.has(i + 1))
    t.strictSame(missing, [], `writer ${writer}: ${last + 1} rows acknowledged`)
    t.ok((await store.getCursor(writer.toString(16).padStart(16, '0'), 'test') ?? -1) >= 0)
  }
  await store.close()
})

void t.test('a second process is told that the store is in use', async t => {
  const directory = newDirectory(t)
  const child = startChild(t, directory, 'hold')
  await once(child.stdout as NodeJS.ReadableStream, 'data')
  await t.rejects(openIn(directory), { code: 'store_unavailable', message: /in use by another process/ })
  child.kill('SIGKILL')
  await once(child, 'close')
  await (await openIn(directory)).close()
})

void t.test('data of a newer version is refused, with path and versions', async t => {
  const directory = newDirectory(t)
  const store = await openIn(directory)
  await store.raw.writeHead(writeOf({ chunks: [chunkOf('x', 'd')] }))
  await store.close()
  t.equal(readFileSync(join(directory, 'FORMAT'), 'latin1'), '1\n')
  writeFileSync(join(directory, 'FORMAT'), '2\n')
  await t.rejects(openIn(directory), { code: 'format_newer', message: /store format 2.*up to 1/ })
  writeFileSync(join(directory, 'FORMAT'), 'nonsense\n')
  await t.rejects(openIn(directory), { code: 'corrupt_data' })
  writeFileSync(join(directory, 'FORMAT'), '1\n')
  const window = join(directory, 'raw/r365', readdirSync(join(directory, 'raw/r365'))[0])
  const database = new ClassicLevel<string, string>(window)
  await database.put('\0format', '7')
  await database.close()
  const again = await openIn(directory)
  await t.rejects(gather(again.raw.scanChunks(refOf('x', 'd'), 0, 9e15)), { code: 'format_newer', message: /raw\/r365\/.* has store format 7/ })
  await t.rejects(again.raw.writeHead(writeOf({ chunks: [chunkOf('x', 'd')] })), { code: 'format_newer' })
  await again.close()
})

void t.test('reading where nothing was written makes no files', async t => {
  const { store, directory } = await opened(t)
  t.strictSame(await gather(store.raw.scanChunks(refOf('x', 'd'), 0, 9e15)), [])
  t.strictSame(await gather(store.raw.scanSeen(refOf('x', 'd'))), [])
  t.strictSame(await gather(store.raw.scanSlabs('x', 1, [365], 0, 9e15)), [])
  t.strictSame(await gather(store.raw.scanDirty('x', 1, [365])), [])
  t.equal(await store.raw.readSealed(refOf('x', 'd')), null)
  t.strictSame(await gather(store.raw.scanSlabsToMerge(sliceOf(1), 10)), [])
  t.equal(await store.getIdempotency('x', 'k'), null)
  t.strictSame(readdirSync(directory).sort(), ['FORMAT', 'meta'])
})

void t.test('retention drops whole windows, unopened, and nothing that a tenant may still read', async t => {
  const { store, directory } = await opened(t)
  const dayWindows = Array.from({ length: 40 }, (_, i) => day0 + i * usPerDay)
  const monthWindows = Array.from({ length: 10 }, (_, i) => day0 + i * 30 * usPerDay)
  const rows = [...dayWindows.map(start => ({ start, days: 7 })), ...monthWindows.map(start => ({ start, days: 60 }))]
  for (const { start, days } of rows) {
    await store.raw.writeHead(writeOf({
      chunks: Array.from({ length: 5 }, (_, part) => chunkOf('x', 'd', { part, bucket: { start, widthMinutes: 1440 }, retentionDays: days })),
      slabs: [slabOf('x', { minute: start, retentionDays: days })],
      seen: [{ tenant: 'x', device: 'd', day: start, metrics: ['m'], retentionDays: days }]
    }))
  }
  await store.close()
  const again = await openIn(directory)
  t.teardown(async () => { await again.close() })
  const now = day0 + 200 * usPerDay
  const countOf = (days: number): number => readdirSync(join(directory, `raw/r${days}`)).length
  t.equal(await again.raw.dropExpired(day0, days => days), 0)
  const keep = (days: number): number => days === 7 ? 175 : 60
  const dropped = await again.raw.dropExpired(now, keep)
  t.equal(again.openDatabases, 1, 'no window was opened to be dropped')
  // Days 0 to 24 ended 175 days ago; day 0 may hold a 30-day bucket, so it stays until that has ended too.
  t.equal(countOf(7), 40 - 24)
  t.equal(countOf(60), 10 - 4)
  t.equal(dropped, 24 + 4)
  t.ok(existsSync(join(directory, 'raw/r7/2024-03-18')))
  t.notOk(readdirSync(directory).some(name => name.startsWith('.trash')))
  for (const { start, days } of rows) {
    const left = await gather(again.raw.scanChunks(refOf('x', 'd', { retentionDays: [days], bucket: { start, widthMinutes: 1440 } }), 0, 9e15))
    if (start + usPerDay + keep(days) * usPerDay > now) t.equal(left.length, 5, `day ${(start - day0) / usPerDay} of class ${days} is kept`)
    else if (start !== day0) t.equal(left.length === 0 || days === 60, true, `day ${(start - day0) / usPerDay} of class ${days}`)
  }
  t.ok((await gather(again.raw.scanSlabsToMerge(sliceOf(99), 1000))).length > 0, 'slabs of dropped windows stop nobody')
})

void t.test('a class that is not asked for is not looked at', async t => {
  const { store } = await opened(t)
  await store.raw.writeHead(writeOf({ chunks: [7, 30, 365].map((retentionDays, i) => chunkOf('x', 'd', { retentionDays, slice: sliceOf(i), maxTs: day0 + i })) }))
  t.strictSame((await gather(store.raw.scanChunks(refOf('x', 'd', { retentionDays: [30] }), 0, 9e15))).map(row => row.maxTs - day0), [1])
})

void t.test('a window ends where the last bucket ends that can begin in it', async t => {
  for (const days of [1, 7, 30, 31, 365, 36_500]) {
    for (let start = day0; start < day0 + 60 * usPerDay; start += days <= 30 ? usPerDay : 30 * usPerDay) {
      const next = start + (days <= 30 ? usPerDay : 30 * usPerDay)
      let end = next
      for (const width of bucketWidthsMinutes) {
        for (let bucket = Math.ceil(start / (width * 60e6)) * width * 60e6; bucket < next; bucket += width * 60e6) end = Math.max(end, bucket + width * 60e6)
      }
      t.equal(rawWindowEnd(days, start), end, `${days} days, window ${start}`)
    }
  }
})

void t.test('a window that another thread reads is dropped when it has let go, and written anew after that', async t => {
  const { store, directory } = await opened(t)
  const beside = await openIn(directory, false)
  t.teardown(async () => { await beside.close() })
  await store.raw.writeHead(writeOf({ chunks: Array.from({ length: 100 }, (_, part) => chunkOf('x', 'd', { part })) }))
  t.equal((await gather(beside.raw.scanChunks(refOf('x', 'd'), 0, 9e15))).length, 100)
  t.equal(await store.raw.dropExpired(day0 + 1000 * usPerDay, days => days), 1)
  t.strictSame(await gather(beside.raw.scanChunks(refOf('x', 'd'), 0, 9e15)), [])
  await beside.raw.writeHead(writeOf({ chunks: [chunkOf('x', 'd')] }))
  t.equal((await gather(store.raw.scanChunks(refOf('x', 'd'), 0, 9e15))).length, 1)
})

void t.test('what an interrupted drop has left is removed at the next start', async t => {
  const directory = newDirectory(t)
  await (await openIn(directory)).close()
  mkdirSync(join(directory, '.trash-raw+r7+2024-01-01'))
  writeFileSync(join(directory, '.trash-raw+r7+2024-01-01', 'CURRENT'), 'x')
  await (await openIn(directory)).close()
  t.strictSame(readdirSync(directory).sort(), ['FORMAT', 'meta'])
})

void t.test('a thread keeps a bounded number of windows open, however many it reads and writes', async t => {
  const { store } = await opened(t)
  for (let i = 0; i < 40; i++) await store.raw.writeHead(writeOf({ chunks: [chunkOf('x', 'd', { bucket: { start: day0 + i * usPerDay, widthMinutes: 1440 }, retentionDays: 7 })] }))
  t.ok(store.openDatabases <= 33, `${store.openDatabases} open`)
  for (let i = 0; i < 40; i++) t.equal((await gather(store.raw.scanChunks(refOf('x', 'd', { bucket: { start: day0 + i * usPerDay, widthMinutes: 1440 }, retentionDays: [7] }), 0, 9e15))).length, 1)
  t.ok(store.openDatabases <= 33, `${store.openDatabases} open`)
})

void t.test('opening a store with hundreds of windows opens none of them', async t => {
  const directory = newDirectory(t)
  const store = await openIn(directory)
  for (let i = 0; i < 20; i++) await store.raw.writeHead(writeOf({ chunks: [chunkOf('x', 'd', { bucket: { start: day0 + i * usPerDay, widthMinutes: 1440 }, retentionDays: 7 })] }))
  await store.close()
  for (let i = 20; i < 400; i++) mkdirSync(join(directory, 'raw/r7', new Date((day0 + i * usPerDay) / 1000).toISOString().slice(0, 10)))
  const again = await openIn(directory)
  t.equal(again.openDatabases, 1)
  t.equal((await gather(again.raw.scanChunks(refOf('x', 'd', { bucket: { start: day0, widthMinutes: 1440 }, retentionDays: [7] }), 0, 9e15))).length, 1)
  t.equal(again.openDatabases, 2)
  await again.close()
})

void t.test('a damaged database is a fault that names it', async t => {
  const directory = newDirectory(t)
  const store = await openIn(directory)
  await store.createTenant(tenantOf('x'))
  await store.raw.writeHead(writeOf({ chunks: [chunkOf('x', 'd')] }))
  await store.close()
  const window = readdirSync(join(directory, 'raw/r365'))[0]
  writeFileSync(join(directory, 'raw/r365', window, 'CURRENT'), 'nonsense')
  const again = await openIn(directory)
  await t.rejects(gather(again.raw.scanChunks(refOf('x', 'd'), 0, 9e15)), { code: /corrupt_data|store_unavailable/, message: /raw\/r365\// })
  t.match(await again.getTenant('x'), { id: 'x' }, 'the rest is served')
  await again.close()
})
