/** Hostile chunks for the codec's property tests, and comparison bit for bit. */
import fc from 'fast-check'
import type { Chunk, Column, ValueType } from '../../src/core/reading.js'

/** Doubles at which codecs break. */
export const hostileNumbers = [
  NaN, 0, -0, Infinity, -Infinity, 5e-324, -5e-324, 2.2250738585072014e-308, Number.MAX_VALUE, -Number.MAX_VALUE,
  2 ** 53, 2 ** 53 - 1, 2 ** 53 + 2, -(2 ** 53), 2 ** 51, 2 ** 51 - 1, -(2 ** 51), 2 ** 52, 2 ** 31, 2 ** 32, 2 ** 32 - 1, -(2 ** 31) - 1,
  0.1, 0.1 + 0.2, 1 / 3, Math.PI, 1e15, 1e-15, 1e22, 123456.789, -0.5, 888.8, -999.9, Math.fround(21.3), Math.fround(0.1), 1e-7, 4503599627370497.5
]

export const number = fc.oneof(
  { weight: 3, arbitrary: fc.integer({ min: -100_000, max: 100_000 }).map(value => value / 100) },
  { weight: 1, arbitrary: fc.constantFrom(...hostileNumbers) },
  { weight: 1, arbitrary: fc.double() }
)

/** Columns as they come: smooth, constant, counting, of one hostile kind, or anything. */
function numbers (count: number): fc.Arbitrary<Float64Array> {
  const walk = fc.record({ start: fc.integer({ min: -1e6, max: 1e6 }), scale: fc.constantFrom(1, 10, 100, 1e6, 1e12), steps: fc.array(fc.integer({ min: -50, max: 50 }), { minLength: count, maxLength: count }) })
    .map(({ start, scale, steps }) => { let value = start; return Float64Array.from(steps, step => (value += step) / scale) })
  return fc.oneof(
    walk,
    walk.map(values => values.map(Math.fround)),
    number.map(value => new Float64Array(count).fill(value)),
    fc.tuple(fc.integer({ min: 0, max: 2 ** 51 - 2 }), fc.integer({ min: -(2 ** 42), max: 2 ** 42 })).map(([start, step]) => Float64Array.from({ length: count }, (_, i) => start + i * step)),
    fc.array(fc.constantFrom(...hostileNumbers), { minLength: count, maxLength: count }).map(values => Float64Array.from(values)),
    fc.array(number, { minLength: count, maxLength: count }).map(values => Float64Array.from(values)),
    fc.array(fc.double(), { minLength: count, maxLength: count }).map(values => Float64Array.from(values)),
    // Mostly decimals, with a few values that must be patched.
    walk.chain(values => fc.array(fc.tuple(fc.nat(Math.max(0, count - 1)), fc.constantFrom(...hostileNumbers)), { maxLength: 3 })
      .map(patches => { for (const [at, value] of patches) if (count > 0) values[at] = value; return values }))
  )
}

const text = fc.oneof(
  fc.string({ maxLength: 12 }), fc.string({ unit: 'binary', maxLength: 5 }), fc.constantFrom('', 'on', 'off', '\ud800', '\udc00x', 'é', '💧', '\0'),
  fc.constant('x'.repeat(65536))
)

function rowsOf (rowCount: number): fc.Arbitrary<Uint32Array | null> {
  const list = fc.array(fc.boolean(), { minLength: rowCount, maxLength: rowCount }).map(present => Uint32Array.from(present.flatMap((has, row) => has ? [row] : [])))
  const every = fc.integer({ min: 1, max: 5 }).map(step => Uint32Array.from({ length: Math.ceil(rowCount / step) }, (_, i) => i * step))
  return fc.oneof(fc.constant(null), list, every)
}

export function column (metric: string, type: ValueType, rowCount: number): fc.Arbitrary<Column> {
  return rowsOf(rowCount).chain((rows): fc.Arbitrary<Column> => {
    const count = rows === null ? rowCount : rows.length
    if (type === 'number') return numbers(count).map(values => ({ metric, type, rows, values }))
    if (type === 'boolean') return fc.array(fc.constantFrom(0, 1), { minLength: count, maxLength: count }).map(values => ({ metric, type, rows, values: Uint8Array.from(values) }))
    return fc.array(text, { minLength: count, maxLength: count }).map(values => ({ metric, type, rows, values }))
  })
}

const types: readonly ValueType[] = ['number', 'boolean', 'string']
const metricName = fc.oneof(fc.constantFrom('temperature', 't', 'a.b.c', 'é', '\ud800'), fc.string({ minLength: 1, maxLength: 20 }))

const times = (count: number): fc.Arbitrary<Float64Array> => fc.oneof(
  fc.tuple(fc.integer({ min: 0, max: 2 ** 52 }), fc.constantFrom(0, 1, 1000, 1e6, 60e6, -1e6)).map(([start, step]) => Float64Array.from({ length: count }, (_, i) => Math.max(0, start + i * step))),
  fc.array(fc.integer({ min: 1.6e15, max: 1.6e15 + 1e9 }), { minLength: count, maxLength: count }).map(values => Float64Array.from(values)),
  fc.array(fc.maxSafeNat(), { minLength: count, maxLength: count }).map(values => Float64Array.from(values)),
  fc.array(number, { minLength: count, maxLength: count }).map(values => Float64Array.from(values))
)

/** A chunk of up to `rowsMax` rows, several columns, some of them of one metric and several types. */
export function chunk (rowsMax: number): fc.Arbitrary<Chunk> {
  return fc.nat(rowsMax).chain(rowCount => fc.record({
    ts: times(rowCount),
    stamps: times(rowCount),
    columns: fc.uniqueArray(fc.tuple(metricName, fc.constantFrom(...types)), { maxLength: 5, selector: ([metric, type]) => `${type} ${metric}` })
      .chain(keys => fc.tuple(...keys.map(([metric, type]) => column(metric, type, rowCount))))
  }))
}

/** A form of a chunk that is equal exactly where the chunks mean the same, bit for bit; lists of all rows count as null. */
export function canonical (given: Chunk): unknown {
  const bits = (values: ArrayLike<number>): string[] => Array.from(values, value => Object.is(value, -0) ? '-0' : String(value))
  return {
    ts: bits(given.ts),
    stamps: bits(given.stamps),
    columns: given.columns.map(({ metric, type, rows, values }) => ({
      metric, type,
      rows: rows === null || rows.length === given.ts.length ? null : Array.from(rows),
      values: type === 'string' ? [...values as readonly string[]] : bits(values as ArrayLike<number>)
    }))
  }
}

/** Runs of a property test; fast-check prints the seed of a failure, which then goes here. */
export const runs = (numRuns: number): fc.Parameters<unknown> => ({ numRuns, verbose: 0 })
