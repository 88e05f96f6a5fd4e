import t, { type Test } from 'tap'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import { openEmbeddedStore, type EmbeddedStore } from '../../src/store/embedded/embedded-store.js'
import { LogSyncer } from '../../src/store/embedded/raw-files.js'
import { storeError } from '../../src/store/embedded/store-errors.js'
import { SmallDisk } from '../support/small-disk.js'
import { chunkOf, gather, refOf, sliceOf, slabOf, tenantOf, writeOf } from './store-fixtures.js'

function newDirectory (test: Test): string {
  const directory = mkdtempSync(join(tmpdir(), 'twinfold-store-'))
  test.teardown(() => { rmSync(directory, { recursive: true, force: true }) })
  return directory
}

async function openIn (directory: string, writer = true): Promise<EmbeddedStore> {
  return await openEmbeddedStore({ directory, clock: systemClock, log: silentLog, writer })
}

void t.test('a flush syncs every log that anybody wrote since the last one, an earlier process included', async t => {
  const directory = newDirectory(t)
  const before = await openIn(directory)
  await before.raw.writeHead(writeOf({ chunks: [chunkOf('x', 'd')], slabs: [slabOf('x', { retentionDays: 7 })] }))
  await before.close()
  const store = await openIn(directory)
  const beside = await openIn(directory, false)
  t.teardown(async () => { await beside.close(); await store.close() })
  const synced: string[] = []
  const syncer = new LogSyncer(store.directory, async path => { synced.push(path.slice(store.directory.length + 1)) })
  const rescue = async (path: string): Promise<void> => { t.fail(`${path} needs no rescue`) }
  const logsOf = (path: string): number => synced.filter(name => name.startsWith(`${path}/`) && name.endsWith('.log')).length
  await syncer.sync(rescue)
  t.ok(logsOf('meta') > 0 && logsOf('raw/r365') > 0 && logsOf('raw/r7') > 0, 'windows that this process never opened')
  for (const parent of ['.', 'raw', 'raw/r365', 'raw/r7', 'meta']) t.ok(synced.some(name => join(name) === parent || (name === '' && parent === '.')), `the directory ${parent}`)
  synced.length = 0
  await syncer.sync(rescue)
  t.strictSame(synced, [], 'nothing has changed')
  await beside.raw.writeHead(writeOf({ chunks: [chunkOf('x', 'd', { slice: sliceOf(2) })] }))
  await syncer.sync(rescue)
  t.strictSame([logsOf('raw/r365') > 0, logsOf('raw/r7')], [true, 0], 'another store\'s write')
})

void t.test('after a failed sync a database is durable only once its logs have been replaced', async t => {
  const directory = newDirectory(t)
  const store = await openIn(directory)
  t.teardown(async () => { await store.close() })
  await store.raw.writeHead(writeOf({ chunks: [chunkOf('x', 'd')] }))
  let fails = true
  const syncer = new LogSyncer(store.directory, async path => { if (fails && path.includes('r365')) throw new Error('EIO') })
  await t.rejects(syncer.sync(async () => {}), { message: 'EIO' })
  fails = false
  let rescued = 0
  await t.rejects(syncer.sync(async () => { rescued++ }), { code: 'store_unavailable', message: /could not be synced, nor replaced/ }, 'a sync that succeeds now proves nothing')
  const window = (path: string): string => join(store.directory, path)
  await syncer.sync(async path => {
    rescued++
    for (const log of ['000003.log', '000005.log']) rmSync(join(window(path), log), { force: true })
  })
  t.equal(rescued, 2)
  await syncer.sync(async () => { t.fail('it is mended') })
})

void t.test('LevelDB\'s errors become faults of the one table', async t => {
  const level = (code: string, cause?: Error): Error => Object.assign(new Error(`${code} happened`, { cause }), { code })
  t.match(storeError(level('LEVEL_IO_ERROR'), 'meta'), { code: 'store_unavailable', message: /meta.*LEVEL_IO_ERROR happened/ })
  t.match(storeError(level('LEVEL_DATABASE_NOT_OPEN', level('LEVEL_LOCKED')), 'meta'), { code: 'store_unavailable', message: /another process/ })
  t.match(storeError(level('LEVEL_DATABASE_NOT_OPEN', level('LEVEL_CORRUPTION')), 'raw/r7/x'), { code: 'corrupt_data', message: /raw\/r7\/x is damaged/ })
})

void t.test('a full disk loses nothing that was acknowledged, and writing goes on when there is room again', async t => {
  const mountPoint = newDirectory(t)
  const disk = await SmallDisk.mount(mountPoint, 48 * 1024 * 1024)
  if (typeof disk === 'string') {
    t.pass('a small file system', { skip: disk })
    return
  }
  t.teardown(async () => { await disk.unmount() })
  const directory = join(mountPoint, 'store')
  mkdirSync(directory)
  let store = await openIn(directory)
  const beside = await openIn(directory, false)
  await store.createTenant(tenantOf('x'))
  const acknowledged: number[] = []
  let refused = 0
  let next = 0
  const write = async (through: EmbeddedStore, count: number): Promise<void> => {
    for (let i = 0; i < count; i++) {
      const number = next++
      try {
        await through.raw.writeHead(writeOf({ chunks: [chunkOf('x', 'd', { slice: sliceOf(number), bytes: noise(number) })] }))
        acknowledged.push(number)
      } catch (error) {
        t.match(error, { code: 'store_unavailable' })
        refused++
      }
    }
  }
  for (let round = 0; round < 3; round++) {
    await Promise.all([write(store, 15), write(beside, 15)])
    disk.fill()
    await Promise.all([write(store, 6), write(beside, 6)])
    disk.free()
    const before = acknowledged.length
    await Promise.all([write(store, 10), write(beside, 10)])
    t.ok(acknowledged.length > before, `round ${round}: writes succeed again`)
  }
  t.ok(refused > 0, 'the disk was full indeed')
  await store.raw.flush()
  const check = async (when: string): Promise<void> => {
    const found = new Map((await gather(store.raw.scanChunks(refOf('x', 'd'), 0, 9e15))).map(row => [row.slice.mark, row.bytes]))
    t.strictSame(acknowledged.filter(number => !noise(number).equals(found.get(number) ?? Buffer.alloc(0))), [], when)
    t.match(await store.getTenant('x'), { id: 'x' })
  }
  await check('while open')
  await beside.close()
  await store.close()
  store = await openIn(directory)
  await check('after opening again')
  await store.close()
})

/** 64 KiB that do not compress. */
function noise (seed: number): Buffer {
  const bytes = Buffer.alloc(64 * 1024)
  let state = seed + 1
  for (let i = 0; i < bytes.length; i += 4) {
    state = Math.imul(state, 1664525) + 1013904223 | 0
    bytes.writeInt32LE(Math.imul(state ^ (state >>> 15), 0x2c1b3c6d), i)
  }
  return bytes
}
