import t from 'tap'
import fc from 'fast-check'
import { usPerDay, usPerHour, usPerMinute } from '../../../src/core/reading.js'
import { foldWindows, foldWindowsAt, joinWindows, sliceWindows, statesMax, TierFolder, type BooleanWindows, type NumberWindows, type StringWindows, type TierWindows } from '../../../src/series/tiers/index.js'
import { runs } from '../arbitraries.js'
import { anyNumber, anyValue, chunksOf, picos, pointsOf, same, sensor, start, steady, windowsOf, type Point } from './points.js'

const cutsOf = fc.array(fc.nat(), { maxLength: 6 })

function fold (points: readonly Point[], widthUs: number, cuts: readonly number[] = []): TierWindows {
  const folder = new TierFolder(widthUs)
  for (const chunk of chunksOf('m', points, cuts)) folder.add(chunk)
  return folder.finish()
}

const seriesOf = (values: readonly number[], stepUs = 1e6): Point[] => values.map((value, i) => ({ ts: start + i * stepUs, value }))
const numbersOf = (windows: TierWindows): NumberWindows => {
  const found = windows.find(({ type }) => type === 'number')
  if (found?.type !== 'number') throw new Error('no numbers')
  return found
}

const equal = (a: unknown, b: unknown): void => { if (JSON.stringify(a) !== JSON.stringify(b)) throw new Error(`${JSON.stringify(a)} instead of ${JSON.stringify(b)}`) }
const close = (a: number, b: number, relative: number, scale: number): boolean => Object.is(a, b) || a === b || Math.abs(a - b) <= relative * Math.max(Math.abs(a), Math.abs(b), scale)

/** Plain loops over doubles. */
function naiveNumbers (values: readonly number[], times: readonly number[]): { sum: number, m2: number, increase: number, area: number, min: number, max: number, size: number } {
  let [sum, increase, area] = [0, 0, 0]
  let [min, max] = [NaN, NaN]
  for (let i = 0; i < values.length; i++) {
    sum += values[i]
    if (values[i] < min || min !== min) min = values[i]
    if (values[i] > max || max !== max) max = values[i]
    if (i === 0) continue
    increase += values[i] < values[i - 1] ? values[i] : values[i] - values[i - 1]
    area += values[i - 1] * (times[i] - times[i - 1])
  }
  const mean = sum / values.length
  let m2 = 0
  for (const value of values) m2 += (value - mean) ** 2
  return { sum, m2, increase, area, min, max, size: Math.max(...values.map(Math.abs)) }
}

void t.test('windows of any numbers are those of plain loops over the points', async t => {
  fc.assert(fc.property(pointsOf(anyNumber), cutsOf, fc.constantFrom(usPerMinute, usPerHour), (points, cuts, widthUs) => {
    const expected = windowsOf(points, 'number', widthUs)
    if (expected.length === 0) return
    const w = numbersOf(fold(points, widthUs, cuts))
    if (w.starts.length !== expected.length) throw new Error('another number of windows')
    expected.forEach(({ start: from, points: own }, i) => {
      const values = own.map(({ value }) => value as number)
      const naive = naiveNumbers(values, own.map(({ ts }) => ts))
      const same = w.starts[i] === from && w.counts[i] === own.length && w.firstTs[i] === own[0].ts && w.lastTs[i] === own[own.length - 1].ts &&
        Object.is(w.firsts[i], values[0]) && Object.is(w.lasts[i], values[values.length - 1]) && Object.is(w.mins[i], naive.min) && Object.is(w.maxs[i], naive.max)
      if (!same) throw new Error(`window ${i}`)
      if (!close(w.sums[i], naive.sum, 1e-12, naive.size * own.length)) throw new Error(`sum ${w.sums[i]} instead of ${naive.sum}`)
      if (!close(w.increases[i], naive.increase, 1e-12, naive.size * own.length)) throw new Error(`increase ${w.increases[i]} instead of ${naive.increase}`)
      if (!close(w.areas[i], naive.area, 1e-12, naive.size * (w.lastTs[i] - w.firstTs[i]))) throw new Error(`area ${w.areas[i]} instead of ${naive.area}`)
      // The naive squares lose more than ours where values are huge.
      if (Number.isFinite(naive.m2) && !close(w.m2s[i], naive.m2, 1e-9, (naive.size * 1e-6) ** 2 * own.length)) throw new Error(`m2 ${w.m2s[i]} instead of ${naive.m2}`)
      if (naive.sum !== naive.sum && w.m2s[i] === w.m2s[i]) throw new Error('m2 of NaN')
    })
  }), runs(600))
  t.pass('same')
})

void t.test('sums, increases, areas and squares of decimals are exact, in BigInts', async t => {
  fc.assert(fc.property(pointsOf(sensor), cutsOf, (points, cuts) => {
    const w = fold(points, usPerMinute, cuts)
    if (w.length === 0) return
    const n = numbersOf(w)
    windowsOf(points, 'number', usPerMinute).forEach(({ points: own }, i) => {
      const integers = own.map(({ value }) => picos(value as number))
      const sum = integers.reduce((a, b) => a + b, 0n)
      let [increase, area] = [0n, 0n]
      for (let k = 1; k < own.length; k++) {
        increase += integers[k] < integers[k - 1] ? integers[k] : integers[k] - integers[k - 1]
        area += integers[k - 1] * BigInt(own[k].ts - own[k - 1].ts)
      }
      const squares = BigInt(own.length) * integers.reduce((a, b) => a + b * b, 0n) - sum * sum
      if (n.scales[i] < 0) throw new Error('not exact')
      // Number(text) rounds once.
      const decimalText = (picoUnits: bigint): number => Number(`${picoUnits}e-12`)
      if (n.sums[i] !== decimalText(sum)) throw new Error(`sum ${n.sums[i]} instead of ${decimalText(sum)}`)
      if (n.increases[i] !== decimalText(increase)) throw new Error(`increase ${n.increases[i]} instead of ${decimalText(increase)}`)
      if (n.areas[i] !== decimalText(area)) throw new Error(`area ${n.areas[i]} instead of ${decimalText(area)}`)
      const m2 = Number(`${squares}e-24`) / own.length
      if (!close(n.m2s[i], m2, 1e-15, 0)) throw new Error(`m2 ${n.m2s[i]} instead of ${m2}`)
    })
  }), runs(600))
  t.equal(numbersOf(fold(seriesOf([0.1, 0.2]), usPerMinute)).sums[0], 0.3)
})

void t.test('the cuts of the chunks do not show', async t => {
  fc.assert(fc.property(pointsOf(anyValue), cutsOf, fc.constantFrom(usPerMinute, usPerHour, usPerDay), (points, cuts, widthUs) => {
    same(fold(points, widthUs, cuts), fold(points, widthUs))
  }), runs(300))
  t.pass('in all runs')
})

void t.test('a window is a function of its own points: others before and after change nothing', async t => {
  fc.assert(fc.property(pointsOf(anyValue, 80), (points) => {
    const whole = fold(points, usPerHour)
    const starts = [...new Set(points.map(({ ts }) => Math.floor(ts / usPerHour) * usPerHour))]
    for (const from of starts) {
      const alone = fold(points.filter(({ ts }) => ts >= from && ts < from + usPerHour), usPerHour)
      same(sliceWindows(whole, from, from + usPerHour), alone)
    }
  }), runs(150))
  t.pass('in all runs')
})

void t.test('decimals folded by way of minutes and hours are those folded at once', async t => {
  fc.assert(fc.property(pointsOf(steady), cutsOf, (points, cuts) => {
    const byMinute = fold(points, usPerMinute, cuts)
    const hours = foldWindows(byMinute, usPerHour)
    same(hours, fold(points, usPerHour))
    same(foldWindows(hours, usPerDay), foldWindows(byMinute, usPerDay))
  }), runs(300))
  t.pass('in all runs')
})

void t.test('booleans and strings folded by way of minutes are those folded at once, and those of plain loops', async t => {
  fc.assert(fc.property(pointsOf(fc.oneof(fc.boolean(), fc.constantFrom('', 'on', 'off', 'error'))), cutsOf, (points, cuts) => {
    const hours = foldWindows(fold(points, usPerMinute, cuts), usPerHour)
    same(hours, fold(points, usPerHour))
    for (const series of hours) {
      windowsOf(points, series.type, usPerHour).forEach(({ points: own }, i) => {
        const held = new Map<string, number>()
        let changes = 0
        for (let k = 1; k < own.length; k++) {
          const before = String(own[k - 1].value)
          held.set(before, (held.get(before) ?? 0) + own[k].ts - own[k - 1].ts)
          if (own[k].value !== own[k - 1].value) changes++
        }
        const last = own[own.length - 1].value
        if (series.type === 'boolean') {
          const w: BooleanWindows = series
          equal([w.counts[i], w.changes[i], w.trues[i], w.trueUs[i], w.lasts[i] === 1], [own.length, changes, own.filter(({ value }) => value === true).length, held.get('true') ?? 0, last])
        } else if (series.type === 'string') {
          const w: StringWindows = series
          equal([w.counts[i], w.changes[i], w.lasts[i], [...w.states[i]]], [own.length, changes, last, [...held].sort(([a], [b]) => a < b ? -1 : 1)])
        }
      })
    }
  }), runs(200))
  t.pass('in all runs')
})

void t.test('other doubles agree by whatever tree within rounding, and the same tree gives the same bits', async t => {
  fc.assert(fc.property(pointsOf(fc.double({ min: -1e6, max: 1e6, noNaN: true })), cutsOf, (points, cuts) => {
    if (points.length === 0) return
    const tree = (given: readonly number[]): NumberWindows => numbersOf(foldWindows(foldWindows(fold(points, usPerMinute, given), usPerHour), usPerDay))
    const [a, b, whole] = [tree(cuts), tree([]), numbersOf(fold(points, usPerDay))]
    same([a], [b])
    for (let i = 0; i < a.starts.length; i++) {
      if (!close(a.sums[i], whole.sums[i], 1e-12, 1e8)) throw new Error('further off than rounding')
      if (!close(a.m2s[i], whole.m2s[i], 1e-9, 1)) throw new Error('further off than rounding')
      if (!close(a.increases[i], whole.increases[i], 1e-12, 1e8)) throw new Error('further off than rounding')
      if (!close(a.areas[i], whole.areas[i], 1e-9, 1e12)) throw new Error('further off than rounding')
    }
  }), runs(150))
  t.pass('in all runs')
})

void t.test('parts of a window in several buckets join to the window, in whatever order they are listed', async t => {
  fc.assert(fc.property(pointsOf(fc.oneof(steady, fc.boolean(), fc.constantFrom('a', 'b'))), fc.constantFrom(usPerMinute, 10 * usPerMinute, usPerHour), fc.boolean(), (points, bucketUs, reversed) => {
    const buckets = [...new Set(points.map(({ ts }) => Math.floor(ts / bucketUs)))]
    const parts = buckets.map(bucket => foldWindows(fold(points.filter(({ ts }) => Math.floor(ts / bucketUs) === bucket), usPerMinute), usPerHour))
    const whole = foldWindows(fold(points, usPerMinute), usPerHour)
    same(joinWindows(reversed ? parts.reverse() : parts), whole)
  }), runs(200))
  t.strictSame(joinWindows([]), [])
})

void t.test('slices and groups by bounds take every window once', async t => {
  fc.assert(fc.property(pointsOf(fc.oneof(steady, fc.boolean(), fc.constantFrom('a', 'b'))), fc.array(fc.nat(48), { minLength: 1, maxLength: 5 }), (points, hours) => {
    const w = fold(points, usPerMinute)
    const bounds = [...new Set([0, ...hours])].sort((a, b) => a - b).map(hour => start + hour * usPerHour)
    const slices = bounds.map((bound, i) => sliceWindows(w, bound, bounds[i + 1] ?? Infinity))
    same(joinWindows(slices), w)
    same(foldWindowsAt(w, bounds.filter(bound => bound % usPerDay === 0)), foldWindowsAt(foldWindows(w, usPerHour), bounds.filter(bound => bound % usPerDay === 0)))
  }), runs(100))
  t.pass('in all runs')
})

void t.test('windows of a time zone begin at its midnight', async t => {
  const offsetUs = 5.5 * usPerHour
  const folder = new TierFolder(usPerDay, { offsetUs })
  const points = seriesOf([1, 2, 3, 4], 6 * usPerHour)
  for (const chunk of chunksOf('m', points, [2])) folder.add(chunk)
  t.strictSame([...numbersOf(folder.finish()).starts], [start - 18.5 * usPerHour, start + offsetUs])
  t.strictSame([...numbersOf(foldWindows(fold(points, usPerHour), usPerDay, { offsetUs })).counts], [1, 3])
})

void t.test('a counter grows by its rises; after a reset the new value counts whole', async t => {
  const w = fold(seriesOf([10, 12, 12, 3, 5, 0, 1], 10e6), usPerMinute)
  t.strictSame([...numbersOf(w).increases], [2 + 3 + 2, 0])
  t.strictSame([...numbersOf(foldWindows(w, usPerHour)).increases], [8], 'across the border: from 0 to 1')
})

void t.test('NaN, infinities and values near the end of the range stay what they are', async t => {
  const at = (values: readonly number[]): Record<string, number> => {
    const w = numbersOf(fold(seriesOf(values), usPerMinute))
    return { sum: w.sums[0], min: w.mins[0], max: w.maxs[0], m2: w.m2s[0], scale: w.scales[0] }
  }
  t.strictSame(at([NaN]), { sum: NaN, min: NaN, max: NaN, m2: NaN, scale: -1 })
  t.strictSame(at([NaN, 2, 1]), { sum: NaN, min: 1, max: 2, m2: NaN, scale: -1 })
  t.strictSame(at([1, Infinity]), { sum: Infinity, min: 1, max: Infinity, m2: NaN, scale: -1 })
  t.strictSame(at([-Infinity]), { sum: -Infinity, min: -Infinity, max: -Infinity, m2: NaN, scale: -1 })
  t.strictSame(at([1e300, -1e300]), { sum: 0, min: -1e300, max: 1e300, m2: Infinity, scale: -1 })
  t.strictSame(at([1e300, 1e300]), { sum: 2e300, min: 1e300, max: 1e300, m2: 0, scale: -1 })
  t.strictSame(at([-0]), { sum: 0, min: -0, max: -0, m2: 0, scale: 0 })
  t.strictSame(at([0.1, 0.25]), { sum: 0.35, min: 0.1, max: 0.25, m2: 0.01125, scale: 2 })
})

void t.test('a stable series far from zero keeps its small deviation', async t => {
  const values = Array.from({ length: 60 }, (_, i) => 1e9 + Math.PI + (i % 2) * 1e-3)
  const w = numbersOf(fold(seriesOf(values), usPerMinute))
  const mean = values.reduce((a, b) => a + (b - values[0]), 0) / 60
  const m2 = values.reduce((a, b) => a + (b - values[0] - mean) ** 2, 0)
  t.ok(close(w.m2s[0], m2, 1e-9, 0), `${w.m2s[0]} and ${m2}`)
})

void t.test('of many states in a window those held longest are kept, the rest is in one', async t => {
  const points = Array.from({ length: 40 }, (_, i) => ({ ts: start + i * (i + 1) * 10_000, value: `state ${i}` }))
  const w = fold(points, usPerMinute)[0] as StringWindows
  t.equal(w.states[0].size, statesMax + 1)
  t.equal([...w.states[0].values()].reduce((a, b) => a + b, 0), w.lastTs[0] - w.firstTs[0], 'no time is lost')
  t.ok(w.states[0].has('state 38') && !w.states[0].has('state 3'))
})

void t.test('a chunk older than the one before is refused', async t => {
  const folder = new TierFolder(usPerMinute)
  const [chunk] = chunksOf('m', seriesOf([1, 2]), [])
  folder.add(chunk)
  t.throws(() => { folder.add(chunk) }, { code: 'internal' })
})

void t.test('nothing folds to nothing', async t => {
  t.strictSame(fold([], usPerMinute), [])
  t.strictSame(foldWindows([], usPerHour), [])
  t.strictSame(sliceWindows(fold(seriesOf([1]), usPerMinute), 0, 1), [])
})
