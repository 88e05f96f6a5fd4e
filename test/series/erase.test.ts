/** Erased points go, all others stay, and it makes no difference whether chunks are joined before or after. */
import fc from 'fast-check'
import t from 'tap'
import type { Chunk, Value } from '../../src/core/reading.js'
import { dropErased } from '../../src/series/erase.js'
import { journalColumnName, mergeChunks, valueAt, type MergeSource } from '../../src/series/merge.js'
import type { ErasedPart } from '../../src/store/small-stores.js'

const everything = { fromTs: 0, toTs: Infinity, erasedBefore: 0, oldestTs: 0 }
interface Point { readonly metric: string, readonly ts: number, readonly stamp: number, readonly value: Value }

function pointsOf (chunk: Chunk): Point[] {
  return chunk.columns.flatMap(column => column.metric === journalColumnName ? [] : Array.from({ length: column.values.length }, (_, i): Point => {
    const row = column.rows === null ? i : column.rows[i]
    return { metric: column.metric, ts: chunk.ts[row], stamp: chunk.stamps[row], value: valueAt(column, i) }
  }))
}

const textsOf = (points: readonly Point[]): string[] => points.map(point => JSON.stringify([point.metric, point.ts, point.stamp, String(point.value)])).sort()

function isErased ({ metric, ts, stamp }: Point, parts: readonly ErasedPart[]): boolean {
  return parts.some(part => stamp < part.stamp && (part.metric === undefined || part.metric === null || part.metric === metric) && ts >= (part.fromTs ?? -Infinity) && ts < (part.toTs ?? Infinity))
}

const row = fc.record({ ts: fc.integer({ min: 0, max: 12 }), stamp: fc.integer({ min: 0, max: 12 }), a: fc.option(fc.double(), { nil: null }), b: fc.option(fc.boolean(), { nil: null }), c: fc.option(fc.string(), { nil: null }) })
const part: fc.Arbitrary<ErasedPart> = fc.record({
  stamp: fc.integer({ min: 0, max: 14 }),
  metric: fc.constantFrom(null, 'a', 'b', 'c', 'other'),
  fromTs: fc.integer({ min: 0, max: 12 }),
  toTs: fc.integer({ min: 0, max: 13 })
}, { requiredKeys: ['stamp'] })

function chunkOf (rows: readonly { ts: number, stamp: number, a: number | null, b: boolean | null, c: string | null }[]): Chunk {
  const present = (has: (i: number) => boolean): number[] => rows.flatMap((_, i) => has(i) ? [i] : [])
  const rowsOf = (list: number[]): Uint32Array | null => list.length === rows.length ? null : Uint32Array.from(list)
  const [a, b, c] = [present(i => rows[i].a !== null), present(i => rows[i].b !== null), present(i => rows[i].c !== null)]
  return {
    ts: Float64Array.from(rows, ({ ts }) => ts),
    stamps: Float64Array.from(rows, ({ stamp }) => stamp),
    columns: [
      { metric: 'a', type: 'number', rows: rowsOf(a), values: Float64Array.from(a, i => rows[i].a as number) },
      { metric: 'b', type: 'boolean', rows: rowsOf(b), values: Uint8Array.from(b, i => rows[i].b === true ? 1 : 0) },
      { metric: 'c', type: 'string', rows: rowsOf(c), values: c.map(i => rows[i].c as string) }
    ]
  }
}

t.test('exactly the erased points go, and no row is left without a point', async t => {
  fc.assert(fc.property(fc.array(row, { maxLength: 30 }), fc.array(part, { maxLength: 4 }), (rows, parts) => {
    const chunk = chunkOf(rows)
    const left = dropErased(chunk, parts)
    const expected = pointsOf(chunk).filter(point => !isErased(point, parts))
    if (JSON.stringify(textsOf(pointsOf(left))) !== JSON.stringify(textsOf(expected))) return false
    if (left === chunk) return true
    const used = new Set(left.columns.flatMap(column => Array.from({ length: column.values.length }, (_, i) => column.rows === null ? i : column.rows[i])))
    return used.size === left.ts.length && left.columns.every(column => column.values.length === (column.rows?.length ?? left.ts.length) && column.values.length > 0)
  }), { numRuns: 1000 })
  t.pass('1000 runs')
})

t.test('joined before or after: the same points', async t => {
  const journals = ['00000000000000aa', '00000000000000bb']
  fc.assert(fc.property(fc.array(fc.array(row, { maxLength: 8 }), { minLength: 1, maxLength: 4 }), fc.array(part, { maxLength: 3 }), (chunks, parts) => {
    const sources: MergeSource[] = chunks.map((rows, i) => ({ chunk: chunkOf(rows), journalId: journals[i % 2] }))
    const after = dropErased(mergeChunks(sources, everything, { keepJournals: true }), parts)
    const before = mergeChunks(sources.map(({ chunk, journalId }) => ({ chunk: dropErased(chunk, parts), journalId })), everything, { keepJournals: true })
    return JSON.stringify(textsOf(pointsOf(after))) === JSON.stringify(textsOf(pointsOf(before)))
  }), { numRuns: 500 })
  t.pass('500 runs')
})

t.test('the journal column stays with the rows that stay, and the result can be joined again', async t => {
  fc.assert(fc.property(fc.array(row, { maxLength: 20 }), fc.array(row, { maxLength: 20 }), fc.array(part, { maxLength: 3 }), (one, two, parts) => {
    const merged = mergeChunks([{ chunk: chunkOf(one), journalId: 'a' }, { chunk: chunkOf(two), journalId: 'b' }], everything, { keepJournals: true })
    const left = dropErased(merged, parts)
    const column = left.columns.find(({ metric }) => metric === journalColumnName)
    if (column !== undefined && (column.rows !== null || column.values.length !== left.ts.length)) return false
    const again = mergeChunks([{ chunk: left, journalId: '' }], everything)
    return JSON.stringify(textsOf(pointsOf(again))) === JSON.stringify(textsOf(pointsOf(left)))
  }), { numRuns: 500 })
  t.pass('500 runs')
})

t.test('nothing erased: the chunk itself, untouched', async t => {
  const chunk = chunkOf([{ ts: 5, stamp: 5, a: 1, b: true, c: 'x' }])
  t.equal(dropErased(chunk, []), chunk)
  t.equal(dropErased(chunk, [{ stamp: 5 }, { stamp: 9, metric: 'other' }, { stamp: 9, fromTs: 6 }, { stamp: 9, toTs: 5 }]), chunk)
  t.equal(dropErased(chunk, [{ stamp: 6 }]).ts.length, 0)
})
