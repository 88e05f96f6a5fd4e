import t from 'tap'
import { usPerDay, usPerMinute, type Column } from '../../../src/core/reading.js'
import { BucketFolder } from '../../../src/sealing/fold-bucket.js'
import { encodeChunk } from '../../../src/series/codec.js'
import { bundledMonths, solarReadings } from '../../../simulators/solar-data.js'

/**
 * What the pyramid of a day costs beside the raw chunks of one-second readings. Sizes are deterministic: data, jitter of the accept stamps
 * (1.5 ms on average, as journals show) and codecs have no chance in them.
 */
const rowsOfDay = 86_400
const day = Date.UTC(2017, 5, 14) * 1000
const chunkBytesMax = 256 * 1024

let state = 11
const random = (): number => (state = state * 48271 % 2147483647) / 2147483647
const gauss = (): number => Math.sqrt(-2 * Math.log(random())) * Math.cos(2 * Math.PI * random())

const ts = Float64Array.from({ length: rowsOfDay }, (_, i) => day + i * 1e6)
let stamp = 0
const stamps = ts.map(time => stamp = Math.max(stamp + 1, time + 2000 + Math.floor(-Math.log(random()) * 1500)))
const numbers = (metric: string, value: (i: number) => number): Column => ({ metric, type: 'number', rows: null, values: Float64Array.from(ts, (_, i) => value(i)) })

function rawBytes (columns: readonly Column[]): number {
  for (let rows = rowsOfDay; ; rows = Math.ceil(rows / 2)) {
    const sizes: number[] = []
    for (let from = 0; from < rowsOfDay; from += rows) {
      const part = columns.map(column => ({ ...column, values: column.values.slice(from, from + rows) }) as Column)
      sizes.push(encodeChunk({ ts: ts.subarray(from, from + rows), stamps: stamps.subarray(from, from + rows), columns: part }, { squeeze: true }).length)
      if (sizes[sizes.length - 1] > chunkBytesMax) break
    }
    if (sizes.every(size => size <= chunkBytesMax)) return sizes.reduce((a, b) => a + b)
  }
}

/** What a seal writes for the day. */
function tierBytes (columns: readonly Column[]): number {
  const folder = new BucketFolder()
  folder.add({ ts, stamps, columns })
  return folder.finish().reduce((sum, { bytes }) => sum + bytes.length, 0)
}

/** The plant's day at one second: each value held, or a line from one to the next in steps of 0.1. */
function solar (held: boolean): Column[] {
  const found: { ts: number, values: Record<string, unknown> }[] = []
  for (const { tsMs, valuesJson } of solarReadings(bundledMonths())) {
    if (tsMs * 1000 >= day - 2 * usPerMinute && tsMs * 1000 < day + usPerDay + 2 * usPerMinute) found.push({ ts: tsMs * 1000, values: JSON.parse(valuesJson) as Record<string, unknown> })
  }
  if (found.length < 1000) throw new Error(`${found.length} readings of the day`)
  const metrics = Object.entries(found[0].values).flatMap(([metric, value]) => typeof value === 'number' ? [metric] : [])
  return metrics.map(metric => {
    let at = 0
    return numbers(metric, i => {
      while (at + 1 < found.length - 1 && found[at + 1].ts <= ts[i]) at++
      const [a, b] = [found[at], found[at + 1]]
      const share = held ? 0 : Math.max(0, Math.min(1, (ts[i] - a.ts) / (b.ts - a.ts)))
      const [from, to] = [Number(a.values[metric]), Number(b.values[metric] ?? a.values[metric])]
      return share === 0 ? from : Math.round((from + (to - from) * share) * 10) / 10
    })
  })
}

function walk (step: number, scale: number): () => number {
  let level = 20 * scale
  return () => (level += Math.round(gauss() * step)) / scale
}

function mixed (): Column[] {
  let [counter, on, which] = [0, 0, 0]
  return [
    numbers('constant', () => 21.5), numbers('counter', () => counter += Math.floor(random() * 5)), numbers('energy_wh', i => Math.floor(i / 7)),
    numbers('noise', () => Math.floor(random() * 1000) / 10), numbers('temperature', walk(1, 10)),
    { metric: 'on', type: 'boolean', rows: null, values: Uint8Array.from(ts, () => on ^= random() < 0.01 ? 1 : 0) },
    { metric: 'state', type: 'string', rows: null, values: Array.from(ts, () => ['idle', 'run', 'error'][which = random() < 0.002 ? Math.floor(random() * 3) : which]) }
  ]
}

/** Per cent of raw that the pyramid may cost. */
const bounds: readonly (readonly [string, () => Column[], number])[] = [
  ['the solar plant, values held', () => solar(true), 5],
  ['the solar plant, lines between values', () => solar(false), 10],
  ['noise of ten bits', () => [numbers('noise', () => Math.floor(random() * 1024) / 10)], 10],
  ['mixed sensors', mixed, 15],
  ['random walks with two decimals', () => Array.from({ length: 5 }, (_, i) => numbers(`sensor_${i}`, walk(3, 100))), 17]
]

for (const [what, columns, most] of bounds) {
  void t.test(`the pyramid of ${what} costs at most ${most} % of raw`, { timeout: 120_000 }, async t => {
    const own = columns()
    const [raw, tiers] = [rawBytes(own), tierBytes(own)]
    t.comment(`${what}: ${(100 * tiers / raw).toFixed(1)} % of raw`)
    t.ok(tiers <= raw * most / 100, `${tiers} bytes beside ${raw}: ${(100 * tiers / raw).toFixed(1)} %`)
  })
}
