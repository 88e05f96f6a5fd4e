import t from 'tap'
import { mergeChunks } from '../../src/series/merge.js'
import { concatChunks } from '../../src/sealing/concat-chunks.js'
import { grewSince } from '../../src/sealing/retention-rewrite.js'
import { SealedCutter } from '../../src/sealing/cut-sealed.js'
import { DirtySweep } from '../../src/sealing/dirty-sweep.js'
import { ChunkFlags, decodeChunk } from '../../src/series/chunk.js'
import { SealSchedule } from '../../src/sealing/seal-schedule.js'
import { shardsOf } from '../../src/sealing/shard-share.js'
import type { SealRequest } from '../../src/store/seal-requests.js'
import type { ScanTask } from '../../workers/seal-protocol.js'
import { seededRandom } from '../../simulators/fleet/seeded-random.js'
import { newSeed, tenantOf } from '../store/store-fixtures.js'
import { chunkOf } from './seal-world.js'

const all = { fromTs: -Infinity, toTs: Infinity, erasedBefore: -Infinity, oldestTs: -Infinity }
const bucket = { start: 0, widthMinutes: 1440 } as const
const name = (device: string) => ({ tenant: 'a', device, bucket })

void t.test('chunks that follow one another are joined as mergeChunks joins them', async t => {
  const seed = newSeed()
  t.comment(`seed ${seed}`)
  const random = seededRandom(seed)
  let joined = 0
  for (let round = 0; round < 300; round++) {
    let ts = 0
    const sources = Array.from({ length: 1 + Math.floor(random() * 5) }, (_, i) => ({
      journalId: random() < 0.8 ? 'aa' : 'bb',
      chunk: chunkOf(Array.from({ length: 1 + Math.floor(random() * 6) }, () => {
        ts += random() < 0.05 ? 0 : 1 + Math.floor(random() * 10)
        return { ts: random() < 0.02 ? 1 : ts, stamp: Math.floor(random() * 100), values: { v: random(), ...(random() < 0.5 ? { b: true } : {}), ...(random() < 0.5 ? { s: `x${i}` } : {}), ...(random() < 0.4 ? { m: random() < 0.5 ? 1 : 'one' } : {}) } }
      }).sort((a, b) => a.ts - b.ts))
    }))
    const expected = mergeChunks(sources, all, { keepJournals: true })
    const found = concatChunks(sources)
    if (found === null) continue
    joined++
    t.same(found, expected)
    // What was joined before is joined with what follows.
    const more = { journalId: 'aa', chunk: chunkOf([{ ts: ts + 100, stamp: 5, values: { v: 1 } }]) }
    const next = concatChunks([{ chunk: found, journalId: '' }, more])
    if (next !== null) t.same(next, mergeChunks([...sources, more], all, { keepJournals: true }))
  }
  t.ok(joined > 20, `${joined} of 300`)
})

void t.test('shards are shared evenly, and a node that goes moves its own share only', async t => {
  const nodes = ['n1', 'n2', 'n3', 'n4']
  const shares = new Map(nodes.map(node => [node, shardsOf(node, nodes)]))
  t.same([...shares.values()].flat().sort((a, b) => a - b), Array.from({ length: 256 }, (_, shard) => shard), 'every shard has one node')
  for (const share of shares.values()) t.ok(share.length > 35 && share.length < 95, `${share.length} shards`)
  for (const node of nodes.slice(0, 3)) {
    const after = new Set(shardsOf(node, nodes.slice(0, 3)))
    for (const shard of shares.get(node) ?? []) t.ok(after.has(shard))
  }
  t.equal(shardsOf('alone', []).length, 256)
})

void t.test('buckets are due in order; one device is sealed once at a time; failures wait longer and longer', async t => {
  const schedule = new SealSchedule({ entriesMax: 100 })
  schedule.note(name('late'), { dueUs: 300 })
  schedule.note(name('early'), { dueUs: 100 })
  schedule.note(name('early'), { dueUs: 200 })
  t.equal(schedule.take(99), null)
  const early = schedule.take(100)
  t.equal(early?.device, 'early')
  schedule.note(name('early'), { dueUs: 150 })
  t.equal(schedule.take(200), null, 'it is being sealed')
  t.equal(schedule.take(300)?.device, 'late')
  t.match(schedule.overdue(300), { count: 3, oldestUs: 100 })
  if (early === null) return
  const first = schedule.failed(early, 1000)
  t.equal(schedule.take(1000), null)
  const again = schedule.take(1000 + first)
  t.equal(again?.attempts, 1)
  t.ok(schedule.failed(again ?? early, 5000) > first)
})

void t.test('the schedule is bounded, keeps requests together, and gives all it took', async t => {
  const schedule = new SealSchedule({ entriesMax: 50 })
  const random = seededRandom(7)
  for (let i = 0; i < 50; i++) t.equal(schedule.note(name(`d${i}`), { dueUs: Math.floor(random() * 1000) }), true)
  t.equal(schedule.note(name('more'), { dueUs: 1 }), false)
  const request = (stamp: number): SealRequest => ({ ...name('d7'), stamp })
  for (const stamp of [1, 2, 2]) t.equal(schedule.note(name('d7'), { dueUs: 5000, request: request(stamp) }), true)
  let last = -1
  let taken = 0
  for (let entry = schedule.take(2000); entry !== null; entry = schedule.take(2000)) {
    t.ok(entry.dueUs >= last)
    last = entry.dueUs
    if (entry.device === 'd7') t.same(entry.requests.map(({ stamp }) => stamp), [1, 2])
    schedule.finished(entry)
    taken++
  }
  t.equal(taken, 50)
  t.equal(schedule.size, 0)
})

void t.test('only what is kept longer is sealed again for it', async t => {
  const tenant = { ...tenantOf('a', 30), retention: [{ sinceStamp: 0, days: 30 }, { sinceStamp: 100, days: 10 }] }
  t.equal(grewSince(tenant, 50), false)
  t.equal(grewSince({ ...tenant, retention: [...tenant.retention, { sinceStamp: 200, days: 20 }] }, 150), true)
  t.equal(grewSince({ ...tenant, tierRetention: [{ sinceStamp: 0, days: { '1m': 10, '1h': 20, '1d': 30 } }, { sinceStamp: 300, days: { '1m': 5, '1h': 20, '1d': 31 } }] }, 150), true)
})

void t.test('chunks are squeezed where that pays, and a device whose numbers are noise is not tried for every chunk', async t => {
  const random = seededRandom(3)
  const rows = (valueOf: (i: number) => number) => chunkOf(Array.from({ length: 40_000 }, (_, i) => ({ ts: i * 1e6, stamp: i * 1e6, values: { v: valueOf(i) } })))
  const squeezed = (cutter: SealedCutter): boolean[] => cutter.chunks.map(({ bytes }) => (bytes[1] & ChunkFlags.squeezed) !== 0)
  const noise = new SealedCutter({ squeeze: true })
  const noisy = rows(() => random())
  noise.add(noisy)
  t.notOk(squeezed(noise).some(Boolean))
  const calm = new SealedCutter({ squeeze: true })
  calm.add(rows(i => [1, 5, 2, 9, 4, 4, 7][i % 7]))
  t.ok(squeezed(calm).every(Boolean))
  const growing = new SealedCutter({ squeeze: false })
  growing.add(rows(i => [1, 5, 2, 9, 4, 4, 7][i % 7]))
  t.notOk(squeezed(growing).some(Boolean))
  let at = 0
  for (const { bytes } of noise.chunks) {
    const { ts, columns } = decodeChunk(bytes)
    t.same(columns[0].values, noisy.columns[0].values.slice(at, at += ts.length))
  }
  t.equal(at, 40_000)
})

void t.test('the sweep asks for past buckets alone, and tells of what it found', async t => {
  const asked: ScanTask[] = []
  const found: string[] = []
  const sweep = new DirtySweep({
    listTenants: async () => ({ items: [tenantOf('a', 30)], next: null }),
    scan: async task => {
      asked.push(task)
      return { kind: 'scan', buckets: [{ ...name('d'), slices: 3 }], shardsDone: task.shards.length, more: false, cpuMs: 1 }
    },
    endBefore: () => 4711,
    found: (_, { device }) => found.push(device) > 0,
    clock: { nowUs: () => 0, monotonicMs: () => 0 },
    roundMs: 1000
  })
  t.equal(await sweep.step([1, 2]), true)
  t.match(asked, [{ endBefore: 4711, shards: [1, 2] }])
  t.same(found, ['d'])
})
