import t from 'tap'
import fc from 'fast-check'
import { lttb, minMax, type ShapePoints } from '../../src/query/downsample.js'

const pointsOf = (values: readonly number[]): ShapePoints => ({ ts: Float64Array.from(values, (_, i) => 1.7e15 + i * 1e6), values: Float64Array.from(values) })
const series = fc.array(fc.oneof(fc.integer({ min: -1000, max: 1000 }), fc.constantFrom(NaN, Infinity, 0)), { maxLength: 400 }).map(pointsOf)

void t.test('a shape has no more points than asked for, all of them points of the series, in order of time', async t => {
  t.doesNotThrow(() => { fc.assert(fc.property(series, fc.integer({ min: 1, max: 60 }), (points, most) => {
    const known = new Map(Array.from(points.ts, (ts, i) => [ts, points.values[i]]))
    const finite = points.values.filter(Number.isFinite)
    for (const { ts, values } of [lttb(points, most), minMax(points, Math.max(2, most), points.ts[0], points.ts[0] + 400e6)]) {
      if (ts.length > Math.max(2, most)) return false
      for (let i = 0; i < ts.length; i++) if (known.get(ts[i]) !== values[i] || (i > 0 && ts[i] <= ts[i - 1])) return false
      if (finite.length > 0 && ts.length === 0) return false
    }
    return true
  })) })
})

void t.test('a single spike among thousands of points is kept', async t => {
  const values = Array.from({ length: 10_000 }, (_, i) => Math.sin(i / 500))
  values[6543] = 50
  const points = pointsOf(values)
  t.ok(lttb(points, 50).values.includes(50))
  const { values: kept } = minMax(points, 50, points.ts[0], points.ts[9999] + 1)
  t.equal(Math.max(...kept), 50)
  t.equal(Math.min(...kept), Math.min(...values))
})

void t.test('the largest triangles of a small series are those that a hand finds', async t => {
  const { values } = lttb(pointsOf([0, 0, 10, 0, 0, -5, 0, 0]), 4)
  t.same([...values], [0, 10, -5, 0])
})
