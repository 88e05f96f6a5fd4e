/** Points of one series, chunks of them in any cuts, and a naive fold with loops and BigInts to hold the real one against. */
import fc from 'fast-check'
import { usPerMinute, type Chunk, type Column, type Value } from '../../../src/core/reading.js'
import type { SeriesWindows, TierWindows } from '../../../src/series/tiers/index.js'
import { hostileNumbers } from '../arbitraries.js'

export interface Point { readonly ts: number, readonly value: Value }

export const start = 1_700_000_040_000_000 - 1_700_000_040_000_000 % 86_400_000_000

/** One series as merged chunks, cut after the given numbers of points. */
export function chunksOf (metric: string, points: readonly Point[], cuts: readonly number[]): Chunk[] {
  const bounds = [0, ...cuts.map(cut => cut % (points.length + 1)).sort((a, b) => a - b), points.length]
  return bounds.slice(1).map((to, i) => {
    const part = points.slice(bounds[i], to)
    return { ts: Float64Array.from(part, ({ ts }) => ts), stamps: Float64Array.from(part, ({ ts }) => ts + 5), columns: columnsOf(metric, part) }
  })
}

function columnsOf (metric: string, points: readonly Point[]): Column[] {
  const rowsOf = (type: string): Uint32Array | null => {
    const rows = Uint32Array.from(points.flatMap(({ value }, row) => typeof value === type ? [row] : []))
    return rows.length === points.length ? null : rows
  }
  const valuesOf = (type: string): unknown[] => points.filter(({ value }) => typeof value === type).map(({ value }) => value)
  const columns: Column[] = [
    { metric: '', type: 'string', rows: null, values: points.map(() => 'journal') },
    { metric, type: 'boolean', rows: rowsOf('boolean'), values: Uint8Array.from(valuesOf('boolean') as boolean[], value => value ? 1 : 0) },
    { metric, type: 'number', rows: rowsOf('number'), values: Float64Array.from(valuesOf('number') as number[]) },
    { metric, type: 'string', rows: rowsOf('string'), values: valuesOf('string') as string[] }
  ]
  return columns.filter(({ values }, i) => i === 0 || values.length > 0)
}

/** Times of a few hours: regular, in ms, in bursts, hours apart. */
export function pointsOf (value: fc.Arbitrary<Value>, maxLength = 200): fc.Arbitrary<Point[]> {
  const step = fc.oneof(fc.constant(1e6), fc.constant(10e6), fc.integer({ min: 1, max: 5000 }).map(ms => ms * 1000), fc.integer({ min: 1, max: 3e9 }), fc.constant(3600e6))
  return fc.tuple(fc.nat(7200e6), fc.array(fc.tuple(step, value), { maxLength })).map(([from, list]) => {
    let ts = start + from
    return list.map(([stepUs, own]) => ({ ts: ts += stepUs, value: own }))
  })
}

export const decimal = (places: number, most: number): fc.Arbitrary<number> => fc.integer({ min: -most, max: most }).map(integer => integer / 10 ** places)
export const sensor = fc.oneof(decimal(1, 1000), decimal(2, 100_000), decimal(0, 50), decimal(3, 1_000_000))
/** Small enough for integrals over a day to be exact. */
export const steady = fc.oneof(decimal(1, 1000), decimal(2, 10_000), decimal(0, 50))
export const anyNumber = fc.oneof({ weight: 4, arbitrary: sensor }, { weight: 2, arbitrary: fc.constantFrom(...hostileNumbers, 1e300, -1e300) }, { weight: 1, arbitrary: fc.double() })
export const anyValue: fc.Arbitrary<Value> = fc.oneof(anyNumber, fc.boolean(), fc.constantFrom('', 'on', 'off', 'x\ud800', 'wärm'), fc.integer({ min: 0, max: 40 }).map(i => `state ${i}`))

export interface NaiveWindow { readonly start: number, readonly points: readonly Point[] }

export function windowsOf (points: readonly Point[], type: string, widthUs: number): NaiveWindow[] {
  const byStart = new Map<number, Point[]>()
  for (const point of points) {
    if (typeof point.value !== type) continue
    const at = Math.floor(point.ts / widthUs) * widthUs
    const list = byStart.get(at)
    if (list === undefined) byStart.set(at, [point])
    else list.push(point)
  }
  return [...byStart].sort((a, b) => a[0] - b[0]).map(([at, list]) => ({ start: at, points: list }))
}

/** Decimal text of up to 12 places to an integer of 10^-12. */
export function picos (value: number): bigint {
  const [whole, fraction = ''] = value.toFixed(12).split('.')
  return BigInt(whole + fraction)
}

const text = (value: unknown): string => value instanceof Map ? JSON.stringify([...value]) : Object.is(value, -0) ? '-0' : String(value)

/** Equal exactly where the windows are, bit for bit. */
export function canonical (windows: TierWindows): unknown {
  return windows.map((series: SeriesWindows) => Object.fromEntries(Object.entries(series).map(([name, values]) => [name, typeof values === 'string' ? values : Array.from(values as ArrayLike<unknown>, text)])))
}

export const minuteUs = usPerMinute

/** Throws where windows differ in a bit, for use in properties. */
export function same (actual: TierWindows, expected: TierWindows): void {
  const [a, b] = [JSON.stringify(canonical(actual)), JSON.stringify(canonical(expected))]
  if (a !== b) throw new Error(`not the same bits:\n${a}\n${b}`)
}
