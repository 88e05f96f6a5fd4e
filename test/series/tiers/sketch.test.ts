import t from 'tap'
import fc from 'fast-check'
import { usPerDay, usPerHour } from '../../../src/core/reading.js'
import { decodeSketchRow, encodeSketchRow, foldSketches, joinSketches, nearestRank, relativeError, Sketch, SketchFolder, type SketchWindows } from '../../../src/series/tiers/index.js'
import { bundledMonths, solarReadings } from '../../../simulators/solar-data.js'
import { hostileNumbers, runs } from '../arbitraries.js'
import { anyNumber, chunksOf, pointsOf, start, type Point } from './points.js'

const quantiles = [0, 0.001, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1]

const sketchOf = (values: Iterable<number>): Sketch => {
  const sketch = new Sketch()
  for (const value of values) sketch.add(value)
  return sketch
}

const bytesOf = (sketch: Sketch): string => Buffer.from(encodeSketchRow([{ metric: 'm', starts: Float64Array.of(start), sketches: [sketch] }], usPerHour, start)).toString('hex')

/** The first quantile that is off by more than 1 %, or null. */
function worst (sketch: Sketch, values: readonly number[]): string | null {
  const sorted = Float64Array.from(values.filter(value => value === value)).sort()
  for (const q of quantiles) {
    const exact = sorted.length === 0 ? NaN : sorted[nearestRank(q, sorted.length) - 1]
    const found = sketch.quantile(q)
    // A rounding of the bound itself is no fault.
    if (!Object.is(found, exact) && !(found === exact) && !(Math.abs(found - exact) <= relativeError * (1 + 1e-9) * Math.abs(exact))) return `q ${q}: ${found} instead of ${exact}`
  }
  return null
}

void t.test('quantiles of the real plant are within 1 % of exact, by hour, day and month', async t => {
  const columns = new Map<string, { ts: number, value: number }[]>()
  for (const { tsMs, valuesJson } of solarReadings(bundledMonths().slice(0, 1))) {
    for (const [metric, value] of Object.entries(JSON.parse(valuesJson) as Record<string, unknown>)) {
      if (typeof value !== 'number') continue
      const list = columns.get(metric)
      if (list === undefined) columns.set(metric, [{ ts: tsMs * 1000, value }])
      else list.push({ ts: tsMs * 1000, value })
    }
  }
  let compared = 0
  for (const [metric, points] of columns) {
    const folder = new SketchFolder(usPerHour)
    for (const chunk of chunksOf(metric, points, [1000, 7000])) folder.add(chunk)
    let sketches: SketchWindows = folder.finish()
    for (const widthUs of [usPerHour, usPerDay, 1000 * usPerDay]) {
      sketches = foldSketches(sketches, widthUs)
      const byStart = new Map<number, number[]>()
      for (const { ts, value } of points) {
        const at = Math.floor(ts / widthUs) * widthUs
        const list = byStart.get(at)
        if (list === undefined) byStart.set(at, [value])
        else list.push(value)
      }
      const [series] = sketches
      if (series.starts.length !== byStart.size) t.fail(`${metric} has other windows`)
      series.sketches.forEach((sketch, i) => {
        const off = worst(sketch, byStart.get(series.starts[i]) ?? [])
        if (off !== null) t.fail(`${metric} at ${series.starts[i]}: ${off}`)
        compared++
      })
    }
  }
  t.ok(compared > 10_000, `${compared} sketches of ${columns.size} metrics`)
})

void t.test('quantiles of hostile values within 15 orders of magnitude are within 1 %', async t => {
  const bounded = fc.oneof(fc.double({ min: -1e9, max: 1e9, noNaN: true }).map(value => Math.abs(value) < 1e-6 ? 0 : value), fc.constantFrom(0, -0, NaN, 1, -1, 1e-6, 1e9), fc.integer({ min: -24, max: 36 }).map(power => 1.7 ** power))
  fc.assert(fc.property(fc.array(bounded, { maxLength: 300 }), values => {
    const off = worst(sketchOf(values), values)
    if (off !== null) throw new Error(off)
  }), runs(500))
  let state = 7
  const random = (): number => (state = state * 48271 % 2147483647) / 2147483647
  const shapes: Record<string, () => number> = {
    exponential: () => -Math.log(1 - random()),
    pareto: () => (1 - random()) ** -2,
    bimodal: () => random() < 0.5 ? 1e-3 * random() : 1e6 + random(),
    signed: () => (random() - 0.5) ** 3,
    rare: () => random() < 0.01 ? 1e5 : 0
  }
  for (const [shape, next] of Object.entries(shapes)) {
    const values = Array.from({ length: 50_000 }, next)
    t.equal(worst(sketchOf(values), values), null, shape)
  }
})

void t.test('any doubles: bins stay bounded, least and greatest are exact, nothing is lost', async t => {
  fc.assert(fc.property(fc.array(fc.oneof(fc.double(), fc.constantFrom(...hostileNumbers)), { maxLength: 200 }), values => {
    const sketch = sketchOf(values)
    const numbers = values.filter(value => value === value)
    for (const { least, greatest } of [sketch.positive, sketch.negative]) if (greatest - least >= 2048) throw new Error('too many bins')
    if (sketch.count !== numbers.length || sketch.nans !== values.length - numbers.length) throw new Error('count')
    if (sketch.positive.total() + sketch.negative.total() + sketch.zeros + sketch.positiveInfinities + sketch.negativeInfinities !== sketch.count) throw new Error('lost')
    if (numbers.length > 0 && (sketch.quantile(0) !== Math.min(...numbers) + 0 || sketch.quantile(1) !== Math.max(...numbers) + 0)) throw new Error('ends')
    let before = -Infinity
    for (const q of quantiles) {
      const found = sketch.quantile(q)
      if (found < before) throw new Error('quantiles ascend')
      before = found
    }
  }), runs(1000))
  t.pass('all')
})

void t.test('order and merges do not show, not in a byte', async t => {
  fc.assert(fc.property(fc.array(fc.oneof(anyNumber, fc.double()), { maxLength: 120 }), fc.nat(), (values, cut) => {
    const whole = bytesOf(sketchOf(values))
    if (bytesOf(sketchOf([...values].reverse())) !== whole) throw new Error('order')
    const at = cut % (values.length + 1)
    const merged = sketchOf(values.slice(at))
    const other = sketchOf(values.slice(0, at))
    const before = bytesOf(other)
    merged.merge(other)
    if (bytesOf(merged) !== whole) throw new Error('merge')
    if (bytesOf(other) !== before) throw new Error('the merged one changed')
  }), runs(150))
  t.pass('all')
})

void t.test('sketches of parts join, and of hours fold, to those of the whole', async t => {
  const fold = (points: readonly Point[], widthUs: number): SketchWindows => {
    const folder = new SketchFolder(widthUs)
    for (const chunk of chunksOf('m', points, [points.length >> 1])) folder.add(chunk)
    return folder.finish()
  }
  const bytes = (windows: SketchWindows, widthUs: number): string => Buffer.from(encodeSketchRow(windows, widthUs, start)).toString('hex')
  fc.assert(fc.property(pointsOf(anyNumber), fc.nat(7200), (points, second) => {
    const border = start + second * 1e6
    const parts = [points.filter(({ ts }) => ts < border), points.filter(({ ts }) => ts >= border)].map(part => fold(part, usPerHour))
    const whole = bytes(fold(points, usPerHour), usPerHour)
    if (bytes(joinSketches(parts), usPerHour) !== whole || bytes(joinSketches([...parts].reverse()), usPerHour) !== whole) throw new Error('join')
    if (bytes(foldSketches(fold(points, usPerHour), usPerDay), usPerDay) !== bytes(fold(points, usPerDay), usPerDay)) throw new Error('fold')
    if (bytes(decodeSketchRow(encodeSketchRow(parts[0], usPerHour, start)), usPerHour) !== bytes(parts[0], usPerHour)) throw new Error('codec')
  }), runs(60))
  t.pass('all')
})

void t.test('an empty sketch has no quantile', async t => {
  t.strictSame(new Sketch().quantile(0.5), NaN)
  t.strictSame(sketchOf([NaN]).quantile(0.5), NaN)
  t.equal(nearestRank(0.5, 4), 2)
  t.equal(nearestRank(0, 4), 1)
})
