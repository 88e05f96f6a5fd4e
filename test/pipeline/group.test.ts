import t from 'tap'
import fc from 'fast-check'
import { shardOf } from '../../src/core/ids.js'
import { denseReadingsMin } from '../../src/core/limits.js'
import { usPerDay, usPerMinute, type Chunk } from '../../src/core/reading.js'
import { groupSlice, orderByDevice, type GroupContext, type GroupedSlice } from '../../src/pipeline/group.js'
import { SeenCache } from '../../src/pipeline/seen-cache.js'
import { SliceTable } from '../../src/pipeline/slice-table.js'
import { decodeChunk, decodeSlab } from '../../src/series/codec.js'
import { bucketOf, defaultPlan, type PartitionPlan } from '../../src/series/partition-plan.js'
import { fillTable } from './fill-table.js'

interface Sent { readonly device: string, readonly ts: number, readonly stamp: number, readonly values: Readonly<Record<string, number | boolean | string>> }

const plan: PartitionPlan = { widths: [{ fromTs: 0, widthMinutes: 1440 }, { fromTs: 3 * usPerDay, widthMinutes: 60 }], salts: [{ fromStamp: 0, salts: 4 }] }

function group (readings: readonly Sent[], seen = new SeenCache({ devicesMax: 100 })): GroupedSlice {
  const table = new SliceTable()
  fillTable(table, 'tenant', readings.map(({ values, ...reading }) => ({ ...reading, values: Object.entries(values) })))
  const { order, starts } = orderByDevice(table)
  const context: GroupContext = { slice: { journalId: 'feed', mark: 77 }, stamp: 1e15, planOf: () => plan, retentionDaysOf: () => 30, seen }
  return groupSlice(table, order, starts, context)
}

function pointsOf (device: string, chunk: Chunk): string[] {
  const points: string[] = []
  for (const column of chunk.columns) {
    for (let i = 0; i < column.values.length; i++) {
      const row = column.rows === null ? i : column.rows[i]
      const value = column.type === 'boolean' ? column.values[i] === 1 : column.values[i]
      points.push(`${device} ${column.metric} ${chunk.ts[row]} ${chunk.stamps[row]} ${typeof value} ${String(value)}`)
    }
  }
  return points
}

const readingArbitrary = fc.record({
  device: fc.constantFrom('a', 'b', 'c', 'hot', 'hot', 'hot', 'hot'),
  minute: fc.integer({ min: 0, max: 5 * 1440 }),
  values: fc.dictionary(fc.constantFrom('t', 'p', 'mode', 'toString'), fc.oneof(fc.double(), fc.boolean(), fc.string()), { minKeys: 1, noNullPrototype: false })
})

t.test('every point of a slice is in exactly one row, in its bucket or slab, and grouping is repeatable', async t => {
  fc.assert(fc.property(fc.array(readingArbitrary, { maxLength: 60 }), list => {
    const readings = list.map(({ device, minute, values }, i): Sent => ({ device, ts: minute * usPerMinute + i, stamp: 1e15 + i, values }))
    const grouped = group(readings)
    const found: string[] = []
    for (const row of grouped.chunks) {
      const chunk = decodeChunk(row.bytes)
      found.push(...pointsOf(row.device, chunk))
      for (const ts of chunk.ts) {
        const bucket = bucketOf(plan, ts)
        if (bucket.start !== row.bucket.start || bucket.widthMinutes !== row.bucket.widthMinutes) return false
      }
      if (row.minTs !== chunk.ts[0] || row.maxTs !== chunk.ts[chunk.ts.length - 1]) return false
    }
    for (const slab of grouped.slabs) {
      for (const { device, chunk } of decodeSlab(slab.bytes)) {
        if (shardOf(device) !== slab.shard || chunk.ts.some(ts => Math.floor(ts / usPerMinute) * usPerMinute !== slab.minute)) return false
        if (readings.filter(reading => reading.device === device).length >= denseReadingsMin) return false
        found.push(...pointsOf(device, chunk))
      }
    }
    const expected = readings.flatMap(({ device, ts, stamp, values }) => Object.entries(values).map(([metric, value]) => `${device} ${metric} ${ts} ${stamp} ${typeof value} ${String(value)}`))
    const again = group(readings)
    return found.sort().join('|') === expected.sort().join('|') &&
      JSON.stringify(again.chunks.map(row => [...row.bytes])) === JSON.stringify(grouped.chunks.map(row => [...row.bytes]))
  }), { numRuns: 200, verbose: 1 })
  t.pass('held for all slices')
})

t.test('a seen row is written once for a device, day and list of metrics', async t => {
  const seen = new SeenCache({ devicesMax: 100 })
  const day = 2 * usPerDay
  const readings: Sent[] = [
    { device: 'a', ts: day, stamp: 1, values: { t: 1 } },
    { device: 'a', ts: day + 1, stamp: 2, values: { t: 2 } },
    { device: 'a', ts: day + usPerDay, stamp: 3, values: { t: 2 } },
    { device: 'a', ts: day + 2, stamp: 4, values: { p: 2, t: 3 } }
  ]
  const rows = group(readings, seen).seen.map(row => `${row.day / usPerDay} ${row.metrics.join()}`)
  t.same(rows.sort(), ['2 p,t', '2 t', '3 t'])
})

t.test('the seen cache is bounded and only ever errs towards writing again', async t => {
  const seen = new SeenCache({ devicesMax: 10 })
  for (let i = 0; i < 1000; i++) t.equal(seen.isNew(`d${i}`, 1, 1), true)
  t.equal(seen.isNew('d999', 1, 1), false)
  t.equal(seen.isNew('d0', 1, 1), true, 'forgotten long ago')
  for (let shape = 0; shape < 1000; shape++) seen.isNew('d999', 2, shape)
  t.equal(seen.isNew('d999', 2, 999), false)
})

t.test('the default plan puts a day into one bucket', async t => {
  t.same(bucketOf(defaultPlan, 5 * usPerDay + 1), { start: 5 * usPerDay, widthMinutes: 1440 })
})
