import fc from 'fast-check'
import t from 'tap'
import type { Chunk, Column, Value, ValueType } from '../../src/core/reading.js'
import { decodeChunk, encodeChunk } from '../../src/series/codec.js'
import { journalColumnName, mergeChunks, readingsOf, type MergeRange, type MergeSource } from '../../src/series/merge.js'
import { canonical, runs } from './arbitraries.js'

const everything: MergeRange = { fromTs: -Infinity, toTs: Infinity, erasedBefore: 0, oldestTs: 0 }

interface Point { readonly ts: number, readonly stamp: number, readonly metric: string, readonly value: Value }

const typeOf = (value: Value): ValueType => typeof value as ValueType

/** A chunk of readings in the order given: points of equal (ts, stamp) that follow one another share a row. */
function chunkOf (readings: readonly { ts: number, stamp: number, values: Record<string, Value> }[]): Chunk {
  const gathered = new Map<string, { metric: string, type: ValueType, rows: number[], values: Value[] }>()
  readings.forEach(({ values }, row) => {
    for (const [metric, value] of Object.entries(values)) {
      const key = `${metric} ${typeOf(value)}`
      const column = gathered.get(key) ?? { metric, type: typeOf(value), rows: [], values: [] }
      gathered.set(key, column)
      column.rows.push(row)
      column.values.push(value)
    }
  })
  const columns = [...gathered.values()].map(({ metric, type, rows: list, values }): Column => {
    const rows = Uint32Array.from(list)
    if (type === 'number') return { metric, type, rows, values: Float64Array.from(values as number[]) }
    if (type === 'boolean') return { metric, type, rows, values: Uint8Array.from(values, value => value === true ? 1 : 0) }
    return { metric, type, rows, values: values as string[] }
  })
  return { ts: Float64Array.from(readings, ({ ts }) => ts), stamps: Float64Array.from(readings, ({ stamp }) => stamp), columns }
}

const reading = fc.record({
  ts: fc.integer({ min: 0, max: 12 }),
  stamp: fc.integer({ min: 1, max: 9 }),
  names: fc.subarray(['a', 'b', 'c'], { minLength: 0 }),
  kind: fc.constantFrom(0, 1, 2)
})

/** The value is a function of the point's stamp and journal, as it is where nothing was accepted twice under one stamp. */
function valueOf (ts: number, stamp: number, metric: string, journalId: string, kind: number): Value {
  const seed = ts * 1000 + stamp * 10 + metric.charCodeAt(0) % 10 + (journalId === 'j2' ? 0.5 : 0)
  return kind === 0 ? seed : kind === 1 ? `${seed}` : Math.floor(seed) % 2 === 0
}

const source: fc.Arbitrary<MergeSource> = fc.tuple(fc.array(reading, { maxLength: 8 }), fc.constantFrom('j1', 'j2')).map(([list, journalId]) => ({
  journalId,
  chunk: chunkOf(list.map(({ ts, stamp, names }) => ({
    ts, stamp, values: Object.fromEntries(names.map(metric => [metric, valueOf(ts, stamp, metric, journalId, (ts + stamp) % 3)]))
  })))
}))

function pointsOf ({ chunk }: MergeSource): Point[] {
  return chunk.columns.flatMap(({ metric, type, rows, values }) => Array.from(values as ArrayLike<number | string>, (value, i) => {
    const row = rows === null ? i : rows[i]
    return { ts: chunk.ts[row], stamp: chunk.stamps[row], metric, value: type === 'boolean' ? value === 1 : value, row }
  }))
}

/** What the promise says, point by point: greatest (stamp, journal, arrival). */
function expectedPoints (sources: readonly MergeSource[], range: MergeRange): Map<string, Value> {
  const all = sources.flatMap((given, at) => pointsOf(given).map(point => ({ ...point, journalId: given.journalId, at })))
    .filter(({ ts, stamp }) => ts >= range.fromTs && ts < range.toTs && ts >= range.oldestTs && stamp >= range.erasedBefore)
  all.sort((a, b) => a.stamp - b.stamp || (a.journalId < b.journalId ? -1 : a.journalId > b.journalId ? 1 : 0) || a.at - b.at || (a as unknown as { row: number }).row - (b as unknown as { row: number }).row)
  const winners = new Map<string, Value>()
  for (const { ts, metric, value } of all) winners.set(`${ts} ${metric}`, value)
  return winners
}

function actualPoints (chunk: Chunk, order: 'asc' | 'desc'): Map<string, Value> {
  const points = new Map<string, Value>()
  for (const { ts, values } of readingsOf(chunk, order)) {
    for (const [metric, value] of values) {
      t.notOk(points.has(`${ts} ${metric}`), 'a point is given once')
      points.set(`${ts} ${metric}`, value)
    }
  }
  return points
}

const sorted = (points: Map<string, Value>): [string, Value][] => [...points].sort(([a], [b]) => a < b ? -1 : 1)
const range = fc.record({ fromTs: fc.integer({ min: -1, max: 6 }), toTs: fc.integer({ min: 4, max: 14 }), erasedBefore: fc.integer({ min: 0, max: 5 }), oldestTs: fc.integer({ min: 0, max: 5 }) })

void t.test('of several values for a point the one with the greatest stamp, journal and arrival wins, whatever its type', async t => {
  fc.assert(fc.property(fc.array(source, { maxLength: 5 }), range, (sources, given) => {
    const merged = mergeChunks(sources, given)
    const expected = sorted(expectedPoints(sources, given))
    t.strictSame(sorted(actualPoints(merged, 'asc')), expected)
    t.strictSame(sorted(actualPoints(merged, 'desc')), expected)
  }), runs(400))
})

void t.test('order of arrival decides between values of one stamp and journal, within a chunk and across', async t => {
  const one = chunkOf([{ ts: 5, stamp: 1, values: { a: 1, b: 1 } }, { ts: 5, stamp: 1, values: { a: 'two' } }])
  const two = chunkOf([{ ts: 5, stamp: 1, values: { b: true } }])
  const merged = mergeChunks([{ chunk: one, journalId: 'j' }, { chunk: two, journalId: 'j' }], everything)
  t.strictSame([...readingsOf(merged, 'asc')], [{ ts: 5, values: [['a', 'two'], ['b', true]] }])
  t.equal(merged.ts.length, 1, 'points of one stamp share a row')
})

void t.test('merging in any order and grouping gives the same chunk', async t => {
  fc.assert(fc.property(fc.array(source, { minLength: 1, maxLength: 6 }), fc.array(fc.nat()), fc.array(fc.nat(2), { minLength: 6, maxLength: 6 }), range, (sources, shuffle, groups, given) => {
    const all = canonical(mergeChunks(sources, given))
    const mixed = [...sources]
    shuffle.forEach((at, i) => {
      const from = i % mixed.length
      const to = at % mixed.length
      ;[mixed[from], mixed[to]] = [mixed[to], mixed[from]]
    })
    t.strictSame(canonical(mergeChunks(mixed, given)), all, 'commutative')
    // A merged group is stored under the journal that its sources share, or tells its journals itself.
    const merged = [0, 1, 2].map(group => mixed.filter((_, i) => groups[i] === group)).filter(list => list.length > 0)
      .map(list => ({ chunk: decodeChunk(encodeChunk(mergeChunks(list, everything))), journalId: list[0].journalId }))
    t.strictSame(canonical(mergeChunks(merged, given)), all, 'associative')
    const again = { chunk: mergeChunks(sources, given), journalId: sources[0].journalId }
    t.strictSame(canonical(mergeChunks([again, again], given)), all, 'idempotent')
    t.strictSame(canonical(mergeChunks([again, ...sources], given)), all, 'a merged chunk beside its sources changes nothing')
  }), runs(300))
})

void t.test('a merged chunk keeps the stamp of every point, so that it can be merged and erased again', async t => {
  const early = chunkOf([{ ts: 1, stamp: 10, values: { a: 1, b: 1 } }])
  const late = chunkOf([{ ts: 1, stamp: 30, values: { b: 3 } }])
  const merged = mergeChunks([{ chunk: late, journalId: 'j' }, { chunk: early, journalId: 'j' }], everything)
  t.strictSame(Array.from(merged.stamps), [10, 30])
  const middle = chunkOf([{ ts: 1, stamp: 20, values: { a: 2, b: 2 } }])
  const again = mergeChunks([{ chunk: merged, journalId: 'j' }, { chunk: middle, journalId: 'j' }], everything)
  t.strictSame([...readingsOf(again, 'asc')], [{ ts: 1, values: [['a', 2], ['b', 3]] }])
  const erased = mergeChunks([{ chunk: merged, journalId: 'j' }], { ...everything, erasedBefore: 11 })
  t.strictSame([...readingsOf(erased, 'asc')], [{ ts: 1, values: [['b', 3]] }])
})

void t.test('rows ascend, lists ascend, and a row without a winning point is dropped', async t => {
  fc.assert(fc.property(fc.array(source, { maxLength: 5 }), sources => {
    const merged = mergeChunks(sources, everything)
    for (let i = 1; i < merged.ts.length; i++) {
      t.ok(merged.ts[i] > merged.ts[i - 1] || (merged.ts[i] === merged.ts[i - 1] && merged.stamps[i] >= merged.stamps[i - 1]))
    }
    const seen = new Set<number>()
    for (const { metric, rows } of merged.columns) {
      if (metric === journalColumnName) continue
      for (let i = 0; i < (rows?.length ?? merged.ts.length); i++) {
        seen.add(rows === null ? i : rows[i])
        if (rows !== null && i > 0) t.ok(rows[i] > rows[i - 1])
      }
    }
    t.equal(seen.size, merged.ts.length)
  }), runs(150))
})

void t.test('the journal of rows is kept where sources differ in it or the caller asks for it', async t => {
  const make = (value: number): Chunk => chunkOf([{ ts: 1, stamp: 5, values: { a: value } }])
  const journals = (chunk: Chunk): unknown => chunk.columns.find(({ metric }) => metric === journalColumnName)?.values
  t.equal(journals(mergeChunks([{ chunk: make(1), journalId: 'x' }], everything)), undefined)
  t.strictSame(journals(mergeChunks([{ chunk: make(1), journalId: 'x' }], everything, { keepJournals: true })), ['x'])
  const both = mergeChunks([{ chunk: make(2), journalId: 'y' }, { chunk: make(1), journalId: 'x' }], everything)
  t.strictSame(journals(both), ['y'])
  const stored = decodeChunk(encodeChunk(both), new Set(['a']))
  t.strictSame([...readingsOf(mergeChunks([{ chunk: stored, journalId: '' }, { chunk: make(1), journalId: 'x' }], everything), 'asc')], [{ ts: 1, values: [['a', 2]] }])
  t.strictSame([...readingsOf(both, 'desc')].length, 1, 'readers do not see the journal column as a metric')
})

void t.test('readings come in the order asked for, without those that have no value', async t => {
  const given = chunkOf([{ ts: 1, stamp: 1, values: { a: 1 } }, { ts: 2, stamp: 1, values: {} }, { ts: 3, stamp: 1, values: { a: false, b: 'x' } }, { ts: 3, stamp: 2, values: { c: -0 } }])
  const ascending = [{ ts: 1, values: [['a', 1]] }, { ts: 3, values: [['b', 'x'], ['c', -0], ['a', false]] }]
  const byName = (list: Iterable<{ ts: number, values: readonly (readonly [string, Value])[] }>): unknown => [...list].map(({ ts, values }) => ({ ts, values: [...values].sort(([a], [b]) => a < b ? -1 : 1) }))
  t.strictSame(byName(readingsOf(given, 'asc')), byName(ascending as never))
  t.strictSame(byName(readingsOf(given, 'desc')), byName([...ascending].reverse() as never))
})

void t.test('no sources, empty chunks and an empty range give an empty chunk', async t => {
  t.equal(mergeChunks([], everything).ts.length, 0)
  const given = [{ chunk: chunkOf([]), journalId: 'j' }, { chunk: chunkOf([{ ts: 1, stamp: 1, values: { a: 1 } }]), journalId: 'j' }]
  t.strictSame(mergeChunks(given, { ...everything, fromTs: 5, toTs: 5 }).columns, [])
  t.strictSame([...readingsOf(mergeChunks(given, { ...everything, oldestTs: 2 }), 'asc')], [])
})
