import t, { type Test } from 'tap'
import { systemClock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import { usPerHour } from '../../src/core/reading.js'
import { isExpired, sealBucket } from '../../src/sealing/seal-bucket.js'
import { openStore } from '../../src/store/open-store.js'
import type { RawStore } from '../../src/store/raw-store.js'
import type { Store } from '../../src/store/store.js'
import type { SealTask } from '../../workers/seal-protocol.js'
import { tenantOf } from '../store/store-fixtures.js'
import { temporaryDirectory } from '../support/server.js'
import { dayAgo, planOfWidth, SealWorld } from './seal-world.js'

const start = dayAgo(20)

async function world (t: { teardown(undo: () => unknown): unknown }): Promise<SealWorld> {
  const { directory, remove } = await temporaryDirectory('sealing-steps')
  const store = await openStore({ kind: 'embedded', directory }, { clock: systemClock, log: silentLog, writer: true })
  t.teardown(async () => {
    await store.close()
    await remove()
  })
  return await SealWorld.make(store, { tenant: 'acme', devices: new Map([['d', planOfWidth(1440, 2)]]) })
}

function taskOf (world: SealWorld, epoch: number, more: Partial<SealTask> = {}): SealTask {
  const stamp = world.takeStamps(1)
  return {
    kind: 'seal', tenant: 'acme', device: 'd', bucket: { start, widthMinutes: 1440 }, generation: { epoch, sequence: stamp }, asOf: stamp, nowUs: systemClock.nowUs(),
    leaseEndUs: systemClock.nowUs() + 60e6, growing: false, again: false, outbox: null, ...more
  }
}

/** The store of a sealer to which something happens at a step. */
function stepped (store: Store, steps: { readonly afterHead?: () => Promise<void>, readonly beforeWrite?: () => Promise<void>, readonly afterWrite?: () => Promise<void> }): Store {
  const raw: RawStore = Object.create(store.raw, {
    scanChunks: { value: async function * (...parameters: Parameters<RawStore['scanChunks']>) {
      yield * store.raw.scanChunks(...parameters)
      await steps.afterHead?.()
    } },
    readSealed: { value: async (...parameters: Parameters<RawStore['readSealed']>) => await store.raw.readSealed(...parameters) },
    writeSealed: { value: async (...parameters: Parameters<RawStore['writeSealed']>) => {
      await steps.beforeWrite?.()
      await store.raw.writeSealed(...parameters)
      await steps.afterWrite?.()
    } }
  }) as RawStore
  return new Proxy(store, { get: (target, name) => name === 'raw' ? raw : Reflect.get(target, name) as unknown })
}

const seal = async (world: SealWorld, task: SealTask, store: Store = world.store) => await sealBucket(task, { store, nowUs: systemClock.nowUs, cpuMs: systemClock.monotonicMs })
const crash = async (): Promise<void> => { throw new Error('the process dies here') }

async function send (world: SealWorld, hour: number, value: number) {
  return await world.send([{ device: 'd', ts: start + hour * usPerHour, values: { v: value } }, { device: 'd', ts: start + hour * usPerHour + 1000, values: { v: value, name: `n${value}` } }])
}

async function holds (t: Test, w: SealWorld, what: string): Promise<void> {
  t.same(await w.compare(), [], `${what}: every point is answered once`)
  t.same((await w.verify()).listed, [], `${what}: tiers are the fold of raw`)
}

for (const step of ['afterHead', 'beforeWrite', 'afterWrite'] as const) {
  void t.test(`points that land ${step} stay in the head and are in the next seal`, async t => {
    const w = await world(t)
    await send(w, 1, 1)
    const store = stepped(w.store, { [step]: async () => {
      await send(w, 2, 2)
      // Corrects a point that is being sealed.
      await send(w, 1, 3)
    } })
    t.equal((await seal(w, taskOf(w, 1), store)).outcome, 'sealed')
    await holds(t, w, 'after the seal')
    t.ok(await w.headSlices() > 0, 'the bucket is dirty again')
    t.equal((await seal(w, taskOf(w, 1))).outcome, 'sealed')
    await holds(t, w, 'after the next')
    t.equal(await w.headSlices(), 0)
    t.equal((await seal(w, taskOf(w, 1))).outcome, 'clean', 'then there is nothing to do')
  })

  void t.test(`a sealer that dies ${step} leaves nothing that the next one does not finish`, async t => {
    const w = await world(t)
    const first = await send(w, 1, 1)
    await t.rejects(seal(w, taskOf(w, 1), stepped(w.store, { [step]: crash })))
    await holds(t, w, 'after the crash')
    await w.store.raw.writeHead(first)
    await send(w, 1, 2)
    t.equal((await seal(w, taskOf(w, 2))).outcome, 'sealed')
    await holds(t, w, 'after the next seal')
  })

  void t.test(`a sealer that stands still ${step} while another takes over changes nothing when it goes on`, async t => {
    const w = await world(t)
    await send(w, 1, 1)
    const late = taskOf(w, 1)
    const store = stepped(w.store, { [step]: async () => {
      await send(w, 1, 2)
      t.equal((await seal(w, taskOf(w, 2))).outcome, 'sealed')
      await send(w, 3, 3)
      t.equal((await seal(w, taskOf(w, 2))).outcome, 'sealed')
      await send(w, 4, 4)
    } })
    await seal(w, late, store)
    await holds(t, w, 'after it woke up')
    t.equal((await w.store.raw.readSealed({ tenant: 'acme', device: 'd', bucket: late.bucket, retentionDays: [365], salts: 2 }))?.generation.epoch, 2, 'the newer rows stand')
    t.equal((await seal(w, taskOf(w, 2))).outcome, 'sealed')
    await holds(t, w, 'after the next seal')
    t.equal(await w.headSlices(), 0)
  })
}

void t.test('a part of a slice that comes after another part of it was sealed is not taken for sealed', async t => {
  const w = await world(t)
  const write = await send(w, 1, 1)
  t.equal((await seal(w, taskOf(w, 1), stepped(w.store, { beforeWrite: async () => {
    // A merge of slabs whose newest slice is the same.
    const later = w.slice([{ device: 'd', ts: start + 5 * usPerHour, values: { v: 5 } }])
    await w.store.raw.writeHead({ ...later, chunks: later.chunks.map(chunk => ({ ...chunk, slice: write.chunks[0].slice, part: 1_000_000 })) })
  } }))).outcome, 'sealed')
  await holds(t, w, 'after the seal')
  t.equal(await w.headSlices(), 1)
  await seal(w, taskOf(w, 1))
  await holds(t, w, 'after the next')
})

void t.test('what was not read under the claim is not written', async t => {
  const w = await world(t)
  await send(w, 1, 1)
  t.equal((await seal(w, taskOf(w, 1, { leaseEndUs: systemClock.nowUs() + 500_000 }))).outcome, 'lease-over')
  t.equal(await w.headSlices(), 1)
})

void t.test('a damaged chunk stays where it is, is named, and keeps nothing else from being sealed', async t => {
  const w = await world(t)
  await send(w, 1, 1)
  const write = w.slice([{ device: 'd', ts: start + 7 * usPerHour, values: { v: 7 } }])
  await w.store.raw.writeHead({ ...write, chunks: write.chunks.map(chunk => ({ ...chunk, bytes: Buffer.from('not a chunk') })) })
  const result = await seal(w, taskOf(w, 1))
  t.equal(result.outcome, 'sealed')
  t.equal(result.damaged.length, 1)
  t.equal(await w.headSlices(), 1)
  const again = await seal(w, taskOf(w, 1))
  t.equal(again.outcome, 'damaged', 'it is not sealed again for the damage alone')
})

void t.test('erased points are in no generation that is sealed after the erasure', async t => {
  const w = await world(t)
  await send(w, 1, 1)
  await seal(w, taskOf(w, 1))
  await w.store.putErasure({ tenant: 'acme', device: 'd', stamp: w.takeStamps(1), metric: 'name' })
  await seal(w, taskOf(w, 1, { again: true }))
  t.same([...(await w.stored('d')).keys()].map(key => key.split('\0')[0]), ['v', 'v'])
  t.same((await w.verify()).listed, [])
  await w.store.putErasure({ tenant: 'acme', device: 'd', stamp: w.takeStamps(1) })
  t.equal((await seal(w, taskOf(w, 1, { again: true }))).tierRows, 0)
  t.equal((await w.stored('d')).size, 0)
  t.same((await w.verify()).listed, [])
})

void t.test('a bucket whose raw points may be gone in part is not touched', async t => {
  const bucket = { start: 0, widthMinutes: 1440 } as const
  const day = 86_400e6
  t.equal(isExpired(tenantOf('a', 10), { bucket, nowUs: 12 * day }), false)
  t.equal(isExpired(tenantOf('a', 10), { bucket, nowUs: 12 * day + 1 }), true)
})
