import t from 'tap'
import fc from 'fast-check'
import { TwinfoldError } from '../../../src/core/errors.js'
import { usPerHour, usPerMinute, type Value } from '../../../src/core/reading.js'
import { decodeSketchRow, decodeTierRow, encodeSketchRow, encodeTierRow, foldWindows, SketchFolder, TierFolder, tierFormatVersion, type SketchWindows, type TierWindows } from '../../../src/series/tiers/index.js'
import { runs } from '../arbitraries.js'
import { anyNumber, anyValue, chunksOf, pointsOf, same, sensor, start, type Point } from './points.js'

/** Several metrics, each with points of its own, as one row would hold them. */
function windowsOf (metrics: Readonly<Record<string, readonly Point[]>>, widthUs: number): TierWindows {
  return Object.keys(metrics).sort((a, b) => a < b ? -1 : 1).flatMap(metric => {
    const folder = new TierFolder(widthUs)
    for (const chunk of chunksOf(metric, metrics[metric], [])) folder.add(chunk)
    return folder.finish()
  })
}

function sketchesOf (metrics: Readonly<Record<string, readonly Point[]>>): SketchWindows {
  return Object.keys(metrics).sort((a, b) => a < b ? -1 : 1).flatMap(metric => {
    const folder = new SketchFolder(usPerHour)
    for (const chunk of chunksOf(metric, metrics[metric], [])) folder.add(chunk)
    return folder.finish()
  })
}

const name = fc.oneof(fc.constantFrom('temperature', 'temp', 'tempo', 'é', '\ud800', 'relay_1', 'relay_2'), fc.string({ minLength: 1, maxLength: 12 }))

void t.test('windows come back bit for bit, whatever the points', async t => {
  for (const value of [sensor, anyNumber, anyValue, fc.double(), fc.double().map(Math.fround), fc.constantFrom(0, -0), fc.integer()] as fc.Arbitrary<Value>[]) {
    fc.assert(fc.property(fc.dictionary(name, pointsOf(value, 120), { maxKeys: 4 }), fc.constantFrom(usPerMinute, usPerHour), (metrics, widthUs) => {
      const windows = windowsOf(metrics, widthUs)
      same(decodeTierRow(encodeTierRow(windows, widthUs, start)), windows)
      same(decodeTierRow(encodeTierRow(foldWindows(windows, usPerHour), usPerHour, start - 17)), foldWindows(windows, usPerHour))
    }), runs(120))
  }
  t.pass('all')
})

void t.test('regular series, as they mostly are, come back bit for bit', async t => {
  const regular = fc.tuple(fc.constantFrom(1e6, 5e6, 60e6), fc.integer({ min: -500, max: 5000 }), fc.array(fc.integer({ min: -9, max: 9 }), { minLength: 60, maxLength: 600 }), fc.constantFrom(1, 10, 100, 3))
    .map(([stepUs, from, steps, divisor]) => { let level = from; return steps.map((step, i) => ({ ts: start + i * stepUs, value: (level += step) / divisor })) })
  fc.assert(fc.property(fc.dictionary(name, regular, { minKeys: 1, maxKeys: 6 }), metrics => {
    const windows = windowsOf(metrics, usPerMinute)
    same(decodeTierRow(encodeTierRow(windows, usPerMinute, start)), windows)
  }), runs(100))
  t.pass('all')
})

void t.test('a reader of one metric gets its windows and no others', async t => {
  fc.assert(fc.property(fc.dictionary(name, pointsOf(anyValue, 40), { minKeys: 1, maxKeys: 5 }), fc.nat(), (metrics, pick) => {
    const windows = windowsOf(metrics, usPerMinute)
    const names = Object.keys(metrics)
    const wanted = new Set([names[pick % names.length]])
    same(decodeTierRow(encodeTierRow(windows, usPerMinute, start), wanted), windows.filter(({ metric }) => wanted.has(metric)))
    same(decodeTierRow(encodeTierRow(windows, usPerMinute, start), new Set(['no such metric'])), [])
  }), runs(100))
  t.pass('all')
})

void t.test('the same windows are the same bytes, in whatever order the series are listed', async t => {
  fc.assert(fc.property(fc.dictionary(name, pointsOf(anyValue, 40), { maxKeys: 5 }), metrics => {
    const windows = windowsOf(metrics, usPerMinute)
    return Buffer.compare(encodeTierRow(windows, usPerMinute, start), encodeTierRow([...windows].reverse(), usPerMinute, start)) === 0
  }), runs(60))
  t.pass('all')
})

const bins = (windows: SketchWindows): unknown => windows.map(({ metric, starts, sketches }) => ({
  metric, starts: [...starts],
  sketches: sketches.map(({ positive, negative, zeros, positiveInfinities, negativeInfinities, nans, count, min, max }) => [
    ...[positive, negative].map(({ counts, firstKey, least, greatest }) => Array.from({ length: Math.max(0, greatest - least + 1) }, (_, i) => [least + i, counts[least + i - firstKey]])),
    zeros, positiveInfinities, negativeInfinities, nans, count, String(min), String(max)
  ])
}))

void t.test('sketches come back bin for bin', async t => {
  fc.assert(fc.property(fc.dictionary(name, pointsOf(anyNumber, 150), { maxKeys: 4 }), metrics => {
    const windows = sketchesOf(metrics)
    const bytes = encodeSketchRow(windows, usPerHour, start)
    const [a, b] = [JSON.stringify(bins(decodeSketchRow(bytes))), JSON.stringify(bins(windows))]
    if (a !== b) throw new Error(`${a}\n${b}`)
    if (Buffer.compare(encodeSketchRow(decodeSketchRow(bytes), usPerHour, start), bytes) !== 0) throw new Error('other bytes')
  }), runs(300))
  t.pass('all')
})

void t.test('a day of hourly sketches of a constant is a few bytes', async t => {
  const points = Array.from({ length: 24 * 60 }, (_, i) => ({ ts: start + i * 60e6, value: 21.5 }))
  const bytes = encodeSketchRow(sketchesOf({ t: points }), usPerHour, start)
  t.ok(bytes.length <= 48, `${bytes.length} bytes`)
})

void t.test('an empty row is a row', async t => {
  t.strictSame(decodeTierRow(encodeTierRow([], usPerMinute, start)), [])
  t.strictSame(decodeSketchRow(encodeSketchRow([], usPerHour, start)), [])
})

/** A row with every form that FORMAT.md draws. */
function sample (): Readonly<Record<string, readonly Point[]>> {
  const at = (stepUs: number, count: number, value: (i: number) => Value): Point[] => Array.from({ length: count }, (_, i) => ({ ts: start + i * stepUs, value: value(i) }))
  return {
    constant: at(1e6, 600, () => 21.5),
    counter: at(1e6, 600, i => i % 200 * 3),
    doubles: at(1e6, 600, i => Math.sin(i)),
    mixed: at(7e6, 300, i => i % 90 === 4 ? NaN : i % 97 === 3 ? -0 : i % 50 / 100),
    on: at(3e6, 200, i => i % 7 < 3),
    state: at(3e6, 200, i => `state ${i % (i < 100 ? 2 : 30)}`),
    types: at(9e6, 60, i => i % 3 === 0 ? 'text' : i % 3 === 1 ? i : true),
    'wärm \ud800': at(11e6, 40, i => i * i * 1e9)
  }
}

const rows: Record<string, { bytes: Uint8Array, read: (bytes: Uint8Array) => unknown }> = {
  windows: { bytes: encodeTierRow(windowsOf(sample(), usPerMinute), usPerMinute, start), read: bytes => decodeTierRow(bytes).map(checked) },
  one: { bytes: encodeTierRow(windowsOf(sample(), usPerMinute), usPerMinute, start), read: bytes => decodeTierRow(bytes, new Set(['mixed'])).map(checked) },
  packed: { bytes: encodeTierRow(windowsOf({ a: sample().doubles.map(({ ts, value }) => ({ ts, value: Math.round(Number(value) * 1e3) / 1e3 })) }, usPerMinute), usPerMinute, start), read: bytes => decodeTierRow(bytes).map(checked) },
  sketches: { bytes: encodeSketchRow(sketchesOf(sample()), usPerHour, start), read: bytes => decodeSketchRow(bytes).flatMap(({ sketches }) => sketches.map(sketch => sketch.quantile(0.5))) }
}

/** What a consumer relies on, whatever the bytes were. */
function checked (series: TierWindows[number]): void {
  const { length } = series.starts
  for (const [key, values] of Object.entries(series)) if (typeof values !== 'string' && (values as ArrayLike<unknown>).length !== length) throw new Error(`column ${key} of ${series.metric}`)
  for (let i = 1; i < length; i++) if (!(series.starts[i] > series.starts[i - 1])) throw new Error('starts ascend')
}

/** True where it was refused with a code of the table; any other fault is thrown on. */
function refused (read: (bytes: Uint8Array) => unknown, bytes: Uint8Array): boolean {
  try {
    read(bytes)
    return false
  } catch (error) {
    if (error instanceof TwinfoldError && (error.code === 'corrupt_data' || error.code === 'format_newer')) return true
    throw error
  }
}

void t.test('a newer version is refused by name, version 0 and the other kind of row as damage', async t => {
  for (const { bytes, read } of Object.values(rows)) {
    t.throws(() => read(Uint8Array.of(tierFormatVersion + 1, ...bytes.slice(1))), { code: 'format_newer' })
    t.throws(() => read(Uint8Array.of(0, ...bytes.slice(1))), { code: 'corrupt_data' })
  }
  t.throws(() => decodeTierRow(rows.sketches.bytes), { code: 'corrupt_data' })
  t.throws(() => decodeSketchRow(rows.windows.bytes), { code: 'corrupt_data' })
})

void t.test('every truncation is refused, and so is what is appended to a row that is not squeezed', async t => {
  for (const [which, { bytes, read }] of Object.entries(rows)) {
    for (let length = 0; length < bytes.length; length++) if (!refused(read, bytes.slice(0, length)) && which !== 'one') t.fail(`${which} cut at ${length}`)
    if (bytes[1] < 128) t.ok(refused(read, Uint8Array.of(...bytes, 0)), which)
  }
  t.pass('all cuts')
})

void t.test('every damaged byte either decodes or is refused', async t => {
  let refusals = 0
  for (const { bytes, read } of Object.values(rows)) {
    const damaged = bytes.slice()
    for (let at = 0; at < damaged.length; at++) {
      for (const mask of [1, 4, 16, 64, 128, 255]) {
        damaged[at] ^= mask
        if (refused(read, damaged)) refusals++
        damaged[at] ^= mask
      }
    }
  }
  t.ok(refusals > 1000, `${refusals} refused`)
})

void t.test('several damaged bytes and random bytes either decode or are refused', async t => {
  const names = Object.keys(rows)
  fc.assert(fc.property(fc.nat(names.length - 1), fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 2, maxLength: 8 }), (which, changes) => {
    const { bytes, read } = rows[names[which]]
    const damaged = bytes.slice()
    for (const [at, value] of changes) damaged[at % damaged.length] = value
    refused(read, damaged)
  }), runs(4000))
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), fc.constantFrom(0, 1, 128, 129), (tail, flags) => {
    for (const { read } of Object.values(rows)) refused(read, Uint8Array.of(tierFormatVersion, flags, ...tail))
  }), runs(4000))
  t.pass('no other fault')
})
