/** INVARIANTS 5: readers by way of the hot copies never see less than was acknowledged, whatever becomes of Redis. */
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import t from 'tap'
import { systemClock } from '../../src/core/clock.js'
import { TwinfoldError } from '../../src/core/errors.js'
import { silentLog } from '../../src/core/log.js'
import { CachedEntityReader } from '../../src/store/cached-entities.js'
import { openEmbeddedStore, type EmbeddedStore } from '../../src/store/embedded/embedded-store.js'
import type { Entity, EntityKey } from '../../src/store/entity-store.js'
import { openEntityCopies, type OpenedEntityCopies } from '../../src/store/open-copies.js'
import { skipWithout, startPrivateRedis, type PrivateRedis } from '../support/services.js'
import { newSeed, randomFrom } from './store-fixtures.js'

t.setTimeout(60_000)

const keyOf = (device: string): EntityKey => ({ tenant: 't', device, kind: 'twin', name: '' })
const entityOf = (version: number, state: string | null = `{"v":${version}}`): Entity => ({ version, state, writer: '00000000000000aa', writerFrom: version })

interface Teardown { teardown(undo: () => unknown): unknown }

async function openRecord (t: Teardown): Promise<EmbeddedStore> {
  const directory = mkdtempSync(join(tmpdir(), 'twinfold-copies-'))
  const store = await openEmbeddedStore({ directory, clock: systemClock, log: silentLog, writer: true })
  t.teardown(async () => {
    await store.close()
    rmSync(directory, { recursive: true, force: true })
  })
  return store
}

/** Commits the next version. */
async function commit (store: EmbeddedStore, reader: CachedEntityReader | null, device: string, state?: string | null): Promise<Entity> {
  const key = keyOf(device)
  const expected = await store.getEntityVersion(key)
  const entity = entityOf(expected + 1, state)
  const [done] = await store.commitEntities([{ key, expected, version: entity.version, state: entity.state, writer: entity.writer, events: [], outbox: [] }], false)
  if (!done) throw new Error('the test is the only writer')
  reader?.noteCommitted(key, entity)
  return entity
}

async function until (what: string, holds: () => Promise<boolean>): Promise<void> {
  const deadlineMs = performance.now() + 10_000
  while (!await holds()) {
    if (performance.now() > deadlineMs) throw new Error(`it does not come true: ${what}`)
    await new Promise(resolve => { setTimeout(resolve, 5) })
  }
}

function suites (): void {
  const setUp = (async (): Promise<{ redis: PrivateRedis, opened: OpenedEntityCopies, admin: Redis }> => {
    const redis = await startPrivateRedis()
    t.teardown(async () => { await redis.close() })
    const opened = openEntityCopies({ url: redis.url, prefix: 'copies' }, { clock: systemClock, log: silentLog })
    t.teardown(async () => { await opened.close() })
    const admin = new Redis(redis.url, { retryStrategy: () => 100 })
    admin.on('error', () => { /* It is killed now and then. */ })
    t.teardown(() => { admin.disconnect() })
    return { redis, opened, admin }
  })()

  void t.test('copies keep the newest of what is put in any order, expire, and are forgotten', async t => {
    const { opened: { copies }, admin } = await setUp
    const key = keyOf('order')
    t.strictSame(await copies.get([]), [])
    t.strictSame(await copies.get([key]), [null])
    const versions = [3, 1, 9, 2, 9, 10, 4]
    await Promise.all(versions.map(async version => { await copies.put(key, entityOf(version)) }))
    t.strictSame(await copies.get([key, keyOf('none'), key]), [entityOf(10), null, entityOf(10)])
    const state = JSON.stringify({ text: 'ü\n +-', big: 'x'.repeat(100_000) })
    await copies.put(key, entityOf(11, state))
    t.strictSame(await copies.get([key]), [entityOf(11, state)])
    await copies.put(key, entityOf(2 ** 52, null))
    t.strictSame(await copies.get([key]), [entityOf(2 ** 52, null)], 'deleted')
    const [name] = await admin.keys('*order*')
    t.ok(await admin.pttl(name) > 23 * 3600e3)
    await admin.set(name, 'what nobody wrote')
    t.strictSame(await copies.get([key]), [null])
    await copies.put(key, entityOf(1))
    t.strictSame(await copies.get([key]), [entityOf(1)])
    await copies.forget(key)
    t.strictSame(await copies.get([key]), [null])
    await admin.script('FLUSH')
    await copies.put(key, entityOf(7))
    t.strictSame(await copies.get([key, { ...key, name: 'n' }, { ...key, kind: 'commands' }, { ...key, tenant: 't2' }]), [entityOf(7), null, null, null])
  })

  void t.test('a reader is served by a copy of the record\'s version, and by the record else', async t => {
    const { opened: { copies } } = await setUp
    const store = await openRecord(t)
    let reads = 0
    const counted = { getEntityVersion: async (key: EntityKey) => await store.getEntityVersion(key), getEntity: async (key: EntityKey) => { reads++; return await store.getEntity(key) } }
    const reader = new CachedEntityReader({ store: counted, copies })
    t.strictSame(await reader.getEntity(keyOf('r')), { version: 0, state: null, writer: '', writerFrom: 0 })
    await commit(store, reader, 'r')
    await until('the copy is there', async () => (await copies.get([keyOf('r')]))[0] !== null)
    reads = 0
    t.strictSame(await reader.read(keyOf('r')), { entity: entityOf(1), verified: true })
    t.equal(reads, 0)
    await commit(store, null, 'r')
    t.strictSame(await reader.read(keyOf('r')), { entity: entityOf(2), verified: true }, 'the copy is one behind')
    t.equal(reads, 1)
    await until('the copy was put right', async () => (await copies.get([keyOf('r')]))[0]?.version === 2)
    await commit(store, reader, 'r', null)
    t.strictSame(await reader.getEntity(keyOf('r')), entityOf(3, null), 'deleted')
    t.strictSame(await new CachedEntityReader({ store, copies: null }).read(keyOf('r')), { entity: entityOf(3, null), verified: true }, 'without copies')
  })

  void t.test('an entity that changes faster than Redis takes it is put with its newest version, together with others', async t => {
    const { opened: { copies } } = await setUp
    const store = await openRecord(t)
    let puts = 0
    let calls = 0
    const counted = { get: copies.get.bind(copies), put: copies.put.bind(copies), forget: copies.forget.bind(copies), putAll: async (some: Parameters<typeof copies.putAll>[0]) => { calls++; puts += some.length; await copies.putAll(some) } }
    const reader = new CachedEntityReader({ store, copies: counted })
    const keys = Array.from({ length: 150 }, (_, i) => keyOf(`many${i}`))
    for (let version = 1; version <= 20; version++) for (const key of keys) reader.noteCommitted(key, entityOf(version))
    await until('the newest are there', async () => (await copies.get(keys)).every(copy => copy?.version === 20))
    t.ok(puts <= 2 * keys.length && calls <= 4, `${puts} puts in ${calls} calls for ${20 * keys.length} commits`)
    reader.noteCommitted(keys[0], entityOf(19))
    await copies.putAll([])
    t.equal((await copies.get([keys[0]]))[0]?.version, 20, 'never an older one after a newer')
    t.equal(reader.stats.putsLeftOut, 0)
  })

  void t.test('flushed, killed in the middle and brought back from an old snapshot: nobody reads less than was acknowledged', async t => {
    const { redis, opened: { copies }, admin } = await setUp
    const seed = newSeed()
    t.comment(`seed ${seed}`)
    const random = randomFrom(seed)
    const store = await openRecord(t)
    const readers = [1, 2].map(() => new CachedEntityReader({ store, copies }))
    const devices = Array.from({ length: 8 }, (_, i) => `s${i}`)
    const acked = new Map<string, number>(devices.map(device => [device, 0]))
    let running = true
    const older: string[] = []
    let seen = 0
    const writers = devices.map(async device => {
      while (running) {
        acked.set(device, (await commit(store, readers[0], device)).version)
        await new Promise(resolve => { setTimeout(resolve, random() * 4) })
      }
    })
    const looking = [0, 1, 2, 3].map(async i => {
      while (running) {
        const device = devices[Math.floor(random() * devices.length)]
        const floor = acked.get(device) ?? 0
        const { version, state } = await readers[i % 2].getEntity(keyOf(device))
        seen++
        if (version < floor || (version > 0 && state !== `{"v":${version}}`)) older.push(`${device}: ${version} after ${floor}, ${state}`)
        await new Promise(resolve => { setImmediate(resolve) })
      }
    })
    const wait = async (ms: number): Promise<void> => { await new Promise(resolve => { setTimeout(resolve, ms) }) }
    await wait(150)
    await admin.flushall()
    await wait(150)
    // An old snapshot: what Redis held now comes back after much was committed.
    await admin.save()
    const directory = ((await admin.config('GET', 'dir')) as string[])[1]
    copyFileSync(join(directory, 'dump.rdb'), join(directory, 'old.rdb'))
    await wait(300)
    await redis.kill()
    await wait(150)
    copyFileSync(join(directory, 'old.rdb'), join(directory, 'dump.rdb'))
    await redis.start()
    await until('copies are answered again', async () => await copies.get([keyOf('s0')]).then(() => true, () => false))
    await wait(200)
    redis.pause()
    await wait(300)
    redis.resume()
    await wait(300)
    running = false
    await Promise.all([...writers, ...looking])
    t.strictSame(older, [])
    const hits = readers[0].stats.hits + readers[1].stats.hits
    t.ok(hits > 0 && seen > hits, `${seen} reads, ${hits} by copies, ${[...acked.values()].reduce((sum, version) => sum + version, 0)} commits`)
  })

  void t.test('while the record is away the copy is answered, unverified, to readers that accept that', async t => {
    const { redis, opened: { copies } } = await setUp
    const store = await openRecord(t)
    let away = false
    const down = async <T>(ask: () => Promise<T>): Promise<T> => {
      if (away) throw new TwinfoldError('store_unavailable', 'planned')
      return await ask()
    }
    const reader = new CachedEntityReader({ copies, store: { getEntity: async key => await down(async () => await store.getEntity(key)), getEntityVersion: async key => await down(async () => await store.getEntityVersion(key)) } })
    await commit(store, reader, 'u')
    await until('the copy is there', async () => (await copies.get([keyOf('u')]))[0] !== null)
    away = true
    await t.rejects(reader.getEntity(keyOf('u')), { code: 'store_unavailable' })
    t.strictSame(await reader.read(keyOf('u'), { acceptUnverified: true }), { entity: entityOf(1), verified: false })
    await t.rejects(reader.read(keyOf('none'), { acceptUnverified: true }), { code: 'store_unavailable' })
    away = false
    await redis.kill()
    t.strictSame(await reader.read(keyOf('u'), { acceptUnverified: true }), { entity: entityOf(1), verified: true }, 'Redis is away')
    away = true
    await t.rejects(reader.read(keyOf('u'), { acceptUnverified: true }), { code: 'store_unavailable' }, 'both are')
  })
}

if (!skipWithout(t, 'redis')) suites()
