/** One task of the projection: what it takes from the outbox, and in what order points leave it. */
import t from 'tap'
import { pointsOf } from '../../src/analytics/chunk-points.js'
import { PointBatch } from '../../src/analytics/point-batch.js'
import { projectTaskLimits } from '../../src/analytics/project-task.js'
import type { Chunk } from '../../src/core/reading.js'
import type { AnalyticsPoint } from '../../src/store/analytics-store.js'
import type { OutboxEntry } from '../../src/store/outbox.js'
import { pointOf } from '../store/analytics.contract.js'
import { randomFrom } from '../store/store-fixtures.js'
import { journalId, MemoryWorld } from './memory-world.js'

const always = Number.MAX_SAFE_INTEGER

t.test('a merge that a first look missed while it saw a later one is not passed', async t => {
  const world = new MemoryWorld(randomFrom(11))
  for (let i = 0; i < 20; i++) { world.closeSlice(); world.packSome() }
  for (let i = 0; i < 20; i++) world.packSome()
  for (let i = 0; i < 20; i++) world.mergeSome()
  const whole = world.readOutbox.bind(world)
  const merges = await whole(journalId, 'merge', 0, always, 1000)
  t.ok(merges.length > 2)
  // Ranges that are read side by side: the first merge became visible after its range was read, the others before theirs were.
  let looks = 0
  world.readOutbox = async (...args): Promise<readonly OutboxEntry[]> => {
    const entries = await whole(...args)
    return args[1] === 'merge' && looks++ === 0 ? entries.filter(entry => entry.sequence !== merges[0].sequence) : entries
  }
  await world.project({ kind: 'project', journalId, stream: 'pack', after: 0, upTo: world.packer.cursor, whole: 0 }, projectTaskLimits)
  t.notSame(world.analytics.readable(), world.expected.readable(), 'slabs were merged before they were read')
  const result = await world.project({ kind: 'project', journalId, stream: 'merge', after: 0, upTo: always, whole: 0 }, projectTaskLimits)
  t.match(result, { failure: null, atEnd: true, entries: merges.length, cursor: merges[merges.length - 1].sequence })
  t.strictSame(world.analytics.readable(), world.expected.readable())
})

t.test('of values of two types for one point under one stamp the one that arrived last stands, as for every reader', async t => {
  for (const [numberRow, stringRow] of [[0, 1], [1, 0]]) {
    const chunk: Chunk = {
      ts: Float64Array.of(1000, 1000),
      stamps: Float64Array.of(5, 5),
      columns: [
        { metric: 'm', type: 'number', rows: Uint32Array.of(numberRow), values: Float64Array.of(1) },
        { metric: 'm', type: 'string', rows: Uint32Array.of(stringRow), values: ['text'] }
      ]
    }
    for (const columns of [chunk.columns, [...chunk.columns].reverse()]) {
      const points = [...pointsOf({ tenant: 'acme', device: 'd', journalId, chunk: { ...chunk, columns }, erased: [] })]
      t.strictSame(points[points.length - 1].value, numberRow > stringRow ? 1 : 'text')
    }
  }
})

t.test('a journal column says which journal each point has', async t => {
  const chunk: Chunk = {
    ts: Float64Array.of(1, 2),
    stamps: Float64Array.of(5, 6),
    columns: [{ metric: '', type: 'string', rows: null, values: ['00000000000000bb', journalId] }, { metric: 'm', type: 'boolean', rows: null, values: Uint8Array.of(1, 0) }]
  }
  const points = [...pointsOf({ tenant: 'acme', device: 'd', journalId: '', chunk, erased: [] })]
  t.strictSame(points.map(point => [point.metric, point.value, point.journalId]), [['m', true, '00000000000000bb'], ['m', false, journalId]])
})

t.test('a batch is bounded by points and by text, and says how far everything is in', async t => {
  const inserts: number[] = []
  let fails = false
  const insertPoints = async (points: readonly AnalyticsPoint[]): Promise<void> => {
    if (fails) throw new Error('planned')
    inserts.push(points.length)
  }
  const batch = new PointBatch({ insertPoints }, { pointsMax: 4, textCharsMax: 1000 }, 7)
  t.equal(batch.durable, 7)
  await batch.add(Array.from({ length: 3 }, (_, i) => pointOf('acme', { stamp: i })))
  batch.endEntry(10)
  t.equal(batch.durable, 7, 'added is not in')
  await batch.add(Array.from({ length: 2 }, () => pointOf('acme', { stamp: 9 })))
  t.strictSame(inserts, [4])
  t.match({ durable: batch.durable, durableStamp: batch.durableStamp, waiting: batch.waiting }, { durable: 10, durableStamp: 2, waiting: 1 })
  batch.endEntry(20)
  fails = true
  await t.rejects(batch.flush())
  t.equal(batch.durable, 10, 'a failed insert moves nothing')
  fails = false
  await batch.flush()
  t.match({ durable: batch.durable, durableStamp: batch.durableStamp }, { durable: 20, durableStamp: 9 })
  batch.endEntry(30)
  t.equal(batch.durable, 30, 'an entry without points is done at once')
  await batch.add(Array.from({ length: 3 }, () => pointOf('acme', { value: 'x'.repeat(600) })))
  t.strictSame(inserts, [4, 1, 2])
})

t.test('a damaged row is reported and left out, and what comes after it is not held up', async t => {
  const world = new MemoryWorld(randomFrom(12))
  for (let i = 0; i < 10; i++) { world.closeSlice(); world.packSome() }
  for (let i = 0; i < 10; i++) world.packSome()
  const read = world.readEntry.bind(world)
  let damaged = 0
  world.readEntry = async entry => {
    const rows = await read(entry)
    return { chunks: rows.chunks, slabs: rows.slabs.map(row => damaged++ === 0 ? { ...row, bytes: Buffer.from([1, 128, 5]) } : row) }
  }
  const result = await world.project({ kind: 'project', journalId, stream: 'pack', after: 0, upTo: world.packer.cursor, whole: 0 }, projectTaskLimits)
  t.match(result, { failure: null, atEnd: true, cursor: world.packer.cursor })
  t.equal(result.damaged.length, 1)
  t.match(result.damaged[0], /slab acme/)
  t.ok(world.analytics.byKey.size > 10 && world.analytics.byKey.size < world.expected.byKey.size)
})
