/**
 * The latest values through the hot state, on the real Redis: the same answers as from the store alone, whatever the hot state has
 * lost, missed or been refused; and what is answered while the store is away.
 */
import t, { type Test } from 'tap'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '../../src/core/clock.js'
import { TwinfoldError } from '../../src/core/errors.js'
import { silentLog } from '../../src/core/log.js'
import { usPerDay, usPerHour } from '../../src/core/reading.js'
import { openJournal } from '../../src/journal/journal.js'
import { encodeIdentity, RecordKind, type SliceMark } from '../../src/journal/record.js'
import { SlicePacker } from '../../src/pipeline/pack-slice.js'
import { planLookup } from '../../src/pipeline/task-lookup.js'
import { QueryRunner } from '../../src/query/run-query.js'
import { openRedis } from '../../src/store/cluster/redis/open-redis.js'
import { RedisHotState } from '../../src/store/cluster/redis/redis-hot-state.js'
import type { HotState, KnownLatest } from '../../src/store/hot-state.js'
import { openStore } from '../../src/store/open-store.js'
import type { Store } from '../../src/store/store.js'
import type { HotTask, LatestQuery, PackTask } from '../../workers/protocol.js'
import { seededRandom } from '../../simulators/fleet/seeded-random.js'
import { newTestName, services, skipWithout } from '../support/services.js'

t.setTimeout(120_000)

interface Faults { hotAway: boolean, storeAway: boolean, complete: number, storeReads: number }

/** The store with a hot state, either of which may be away. */
function withHot (store: Store, hot: HotState, faults: Faults): Store {
  const away = (what: string): TwinfoldError => new TwinfoldError('store_unavailable', `${what} does not answer`, { retryAfterMs: 2000 })
  const guarded = <T extends object>(part: T, isAway: () => boolean, what: string, more: (name: string | symbol) => unknown = () => undefined): T => new Proxy(part, {
    get (target, name) {
      const other = more(name)
      if (other !== undefined) return other
      const member: unknown = Reflect.get(target, name)
      if (typeof member !== 'function') return member
      return (...args: unknown[]): unknown => {
        if (isAway()) {
          // Streams fail at their first row, the rest rejects.
          if (String(name).startsWith('scan')) return (async function * () { throw away(what); yield 0 })()
          return Promise.reject(away(what))
        }
        if (name === 'scanSeen') faults.storeReads++
        const answer = (member as (...given: unknown[]) => unknown).apply(target, args)
        if (name === 'getLatest') void (answer as Promise<KnownLatest>).then(({ complete }) => { if (complete) faults.complete++ }, () => {})
        return answer
      }
    }
  })
  const raw = guarded(store.raw, () => faults.storeAway, 'Cassandra')
  const guardedHot = guarded(hot, () => faults.hotAway, 'Redis')
  return guarded(store, () => faults.storeAway, 'Cassandra', name => name === 'raw' ? raw : name === 'hot' ? guardedHot : undefined)
}

async function bench (t: Test) {
  const directory = mkdtempSync(join(tmpdir(), 'twinfold-latest-'))
  const embedded = await openStore({ kind: 'embedded', directory: join(directory, 'store') }, { clock: systemClock, log: silentLog, writer: true })
  const journal = await openJournal({ directory: join(directory, 'journal'), clock: systemClock, log: silentLog, diskBytesMax: 2 ** 30 })
  const redis = openRedis({ url: services().redis?.url ?? '', prefix: newTestName() }, { clock: systemClock, log: silentLog, name: 'hot state' })
  const flush = async (): Promise<void> => {
    await redis.run(async client => {
      for await (const keys of client.scanStream({ match: `${redis.prefix}:*`, count: 1000 })) if ((keys as string[]).length > 0) await client.unlink(keys as string[])
    })
  }
  t.teardown(async () => {
    await flush()
    await redis.close()
    await journal.close()
    await embedded.close()
    rmSync(directory, { recursive: true, force: true })
  })
  await embedded.createTenant({ id: 'acme', name: '', createdAt: 0, retention: [{ sinceStamp: 0, days: 365 }], disabled: false })
  const faults: Faults = { hotAway: false, storeAway: false, complete: 0, storeReads: 0 }
  const store = withHot(embedded, new RedisHotState(redis), faults)
  const control = { nowMs: 0 }
  const clock = { nowUs: systemClock.nowUs, monotonicMs: () => control.nowMs }
  const packer = new SlicePacker({ store, plans: planLookup(store, { leaseMs: 60_000, rememberedMax: 100 }), leaseMs: 60_000, monotonicMs: () => control.nowMs })
  const append = (device: string, readings: object[]): void => {
    journal.append({ kind: RecordKind.bodyAuto, flags: 0, identity: encodeIdentity({ tenant: 'acme', device, idempotencyKey: '', fingerprint: '' }), body: Buffer.from(JSON.stringify(readings)), messages: 1 }, null, 0)
  }
  const nextTask = async (): Promise<PackTask> => {
    const mark = await journal.mark() as SliceMark
    return { kind: 'pack', journalId: journal.journalId, mark, segments: journal.segmentsFor(mark.from, mark.to) }
  }
  const queryOf = (device: string, more: Partial<LatestQuery> = {}): LatestQuery => ({ kind: 'latest', tenant: 'acme', retentionDays: [365], oldestTs: 0, device, metrics: null, times: 'ms', ...more })
  const runner = new QueryRunner(store, { clock })
  const plain = new QueryRunner(embedded, { clock })
  const ask = async (which: QueryRunner, query: LatestQuery): Promise<{ text: string, source: string | undefined }> => {
    const { body, source } = await which.run(query)
    return { text: Buffer.from(body).toString(), source }
  }
  return {
    embedded, packer, append, nextTask, queryOf, faults, control, flush,
    latest: async (device: string, more?: Partial<LatestQuery>) => await ask(runner, queryOf(device, more)),
    truth: async (device: string, more?: Partial<LatestQuery>) => (await ask(plain, queryOf(device, more))).text
  }
}

if (!skipWithout(t, 'redis')) {
  const seed = Number(process.env.TEST_SEED ?? Date.now() % 1e9)
  void t.test(`through the hot state every answer is the store's, whatever the hot state missed or lost (seed ${seed})`, async t => {
    const random = seededRandom(seed)
    const b = await bench(t)
    const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)]
    const nowMs = Date.now()
    const devices = ['a', 'b', 'c']
    for (let round = 0; round < 150; round++) {
      b.control.nowMs += 6000
      b.faults.hotAway = random() < 0.2
      for (let i = 0; i < 1 + Math.floor(random() * 4); i++) {
        const device = pick(devices)
        b.append(device, Array.from({ length: 1 + Math.floor(random() * 12) }, () => ({
          ts: nowMs - Math.floor(random() * 50) * (random() < 0.3 ? 3_600_000 : 1),
          values: { [pick(['t', 'p', 'q'])]: pick([1, -0, 2.5, true, 'x', round]), ...device === 'c' && random() < 0.02 ? { log: 'l'.repeat(5000) } : {} }
        })))
      }
      const task = await b.nextTask()
      await b.packer.pack(task)
      if (random() < 0.1) await b.packer.pack(task)
      b.faults.hotAway = random() < 0.1
      if (random() < 0.05) await b.flush()
      if (random() < 0.04) await b.embedded.putErasure({ tenant: 'acme', device: pick(devices), stamp: systemClock.nowUs() })
      if (random() < 0.1) await b.embedded.putErasure({ tenant: 'acme', device: pick(devices), stamp: systemClock.nowUs(), metric: pick(['t', 'p']) })
      if (random() < 0.1) await b.embedded.putErasure({ tenant: 'acme', device: pick(devices), stamp: systemClock.nowUs(), fromTs: (nowMs - pick([5, 20, 3_600_000])) * 1000, toTs: (nowMs + 1) * 1000 })
      b.control.nowMs += 201
      for (const device of devices) {
        if (random() < 0.3) continue
        const more = pick<Partial<LatestQuery>>([{}, {}, { metrics: ['p', 'zz'] }, { oldestTs: nowMs * 1000 - 5 * usPerHour }])
        const { text, source } = await b.latest(device, more)
        t.equal(text, await b.truth(device, more), `round ${round}, device ${device}`)
        t.equal(source, undefined)
      }
    }
    t.ok(b.faults.complete > 30, `${b.faults.complete} answers from the hot state`)
  })

  void t.test('a device that is complete is answered without reading its readings', async t => {
    const b = await bench(t)
    b.append('a', [{ ts: Date.now(), values: { t: 1 } }])
    await b.packer.pack(await b.nextTask())
    await b.latest('a', { metrics: ['t'] })
    const { storeReads } = b.faults
    b.append('a', [{ ts: Date.now() + 1, values: { p: 2 } }])
    await b.packer.pack(await b.nextTask())
    t.equal((await b.latest('a')).text, await b.truth('a'))
    t.equal(b.faults.storeReads, storeReads)
  })

  void t.test('a hot state that was away while newer values were packed does not answer the older ones, on any node', async t => {
    const b = await bench(t)
    const ts = Date.now()
    b.append('a', [{ ts, values: { t: 1 } }])
    await b.packer.pack(await b.nextTask())
    await b.latest('a')
    b.faults.hotAway = true
    b.append('a', [{ ts: ts + 1, values: { t: 2 } }])
    await b.packer.pack(await b.nextTask())
    b.faults.hotAway = false
    b.control.nowMs += 201
    t.match((await b.latest('a')).text, /"value":2/)
  })

  void t.test('while the store is away the latest values are those known, with what arrives meanwhile, and say so', async t => {
    const b = await bench(t)
    const ts = Date.now()
    b.append('a', [{ ts, values: { t: 1, p: 1 } }])
    await b.packer.pack(await b.nextTask())
    await b.latest('a')
    b.faults.storeAway = true
    b.control.nowMs += 10_000
    t.strictSame(await b.latest('a'), { text: `{"p":{"ts":${ts},"value":1},"t":{"ts":${ts},"value":1}}`, source: 'hot' })
    b.append('a', [{ ts: ts + 5, values: { t: 2 } }])
    const task = await b.nextTask()
    await t.rejects(b.packer.pack(task), { code: 'store_unavailable' })
    const hotTask: HotTask = { ...task, kind: 'hot' }
    t.strictSame(await b.packer.packHot(hotTask), { put: true })
    t.strictSame(await b.latest('a', { metrics: ['t'] }), { text: `{"t":{"ts":${ts + 5},"value":2}}`, source: 'hot' })
    t.strictSame(await b.latest('a', { oldestTs: ts * 1000 + 1 }), { text: `{"t":{"ts":${ts + 5},"value":2}}`, source: 'hot' }, 'retention holds')
    await t.rejects(b.latest('stranger'), { code: 'store_unavailable', message: 'Cassandra does not answer', retryAfterMs: 2000 })
    b.faults.hotAway = true
    await t.rejects(b.latest('a'), { code: 'store_unavailable', message: 'Cassandra does not answer' })
    b.faults.storeAway = b.faults.hotAway = false
    await b.packer.pack(task)
    b.control.nowMs += 201
    t.strictSame(await b.latest('a'), { text: await b.truth('a'), source: undefined })
  })

  void t.test('a range is not touched by an outage of the hot state, and rejects at once in one of the store', async t => {
    const b = await bench(t)
    const ts = Date.now()
    b.append('a', [{ ts, values: { t: 1 } }])
    await b.packer.pack(await b.nextTask())
    const range = { kind: 'range', tenant: 'acme', retentionDays: [365], oldestTs: 0, device: 'a', metrics: null, fromTs: ts * 1000 - usPerDay, toTs: ts * 1000 + usPerDay, order: 'asc', limit: 10, times: 'ms' } as const
    const store = withHot(b.embedded, { getLatest: async () => { throw new Error('not asked') } } as unknown as HotState, b.faults)
    const runner = new QueryRunner(store, { clock: systemClock })
    b.faults.hotAway = true
    t.equal((await runner.run(range)).readings, 1)
    b.faults.storeAway = true
    await t.rejects(runner.run(range), { code: 'store_unavailable', retryAfterMs: 2000 })
  })
}
