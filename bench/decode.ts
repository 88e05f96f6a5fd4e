/**
 * What the decoders cost: nanoseconds a message and a point, table writes included, beside JSON.parse of the same text.
 * Run: `npm run -s build && node dist/bench/decode.js`
 */
import { Encoder } from 'cbor-x'
import { RecordKind } from '../src/journal/record.js'
import { BodyDecoder } from '../src/pipeline/decode/body.js'
import type { DecodeContext } from '../src/pipeline/decode/decode-types.js'
import { SliceTable } from '../src/pipeline/slice-table.js'

const stamp = 1_700_000_000_000_000
const bodiesPerRound = 64
const roundMsMin = 400
const roundsPerCase = 3

interface Case { readonly name: string, readonly kind: RecordKind, readonly points: number, readonly multiDevice?: boolean, readonly make: (i: number) => Buffer }

/** A generator of its own, so that every run decodes the same text (mulberry32). */
function seeded (seed: number): () => number {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}
const random = seeded(7)

function metrics (count: number, decimals: number, prefix = 'm'): Record<string, number> {
  const values: Record<string, number> = {}
  for (let i = 0; i < count; i++) values[`${prefix}${i}`] = decimals === 17 ? random() * 100 : Number((random() * 100).toFixed(decimals))
  return values
}
const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value))
const readings = (make: (i: number) => unknown): unknown[] => Array.from({ length: 100 }, (_, i) => make(i))
const encoder = new Encoder({ useRecords: false, variableMapSize: true })

const cases: readonly Case[] = [
  { name: 'flat, 10 metrics', kind: RecordKind.bodyAuto, points: 10, make: () => json(metrics(10, 2)) },
  { name: 'flat, 10 metrics with long names', kind: RecordKind.bodyAuto, points: 10, make: () => json(metrics(10, 2, 'temperature_')) },
  { name: 'flat, 10 full doubles', kind: RecordKind.bodyAuto, points: 10, make: () => json(metrics(10, 17)) },
  { name: 'ts + values, 10 metrics', kind: RecordKind.bodyAuto, points: 10, make: (i) => json({ ts: stamp / 1000 + i, values: metrics(10, 2) }) },
  { name: 'eight shapes in turn, 10 metrics', kind: RecordKind.bodyAuto, points: 10, make: (i) => json(metrics(10, 2, `shape${i % 8}_`)) },
  { name: 'numbers, booleans, strings, nested', kind: RecordKind.bodyAuto, points: 5, make: (i) => json({ t: 21.5 + i, on: i % 2 === 0, state: i % 3 === 0 ? 'idle' : 'running', gps: { lat: 52.1 + i, lon: 4.3 } }) },
  { name: 'array of 100 × 10, ts', kind: RecordKind.bodyAuto, points: 1000, make: () => json(readings((i) => ({ ts: stamp / 1000 + i, values: metrics(10, 2) }))) },
  { name: 'array of 100 × 10, no ts', kind: RecordKind.bodyAuto, points: 1000, make: () => json(readings(() => metrics(10, 2))) },
  { name: 'array of 100 × 10, 50 devices', kind: RecordKind.bodyAuto, points: 1000, multiDevice: true, make: () => json(readings((i) => ({ device: `device-${i % 50}`, ts: stamp / 1000 + i, values: metrics(10, 2) }))) },
  { name: 'NDJSON of 100 × 10', kind: RecordKind.bodyNdjson, points: 1000, make: () => Buffer.from(readings((i) => ({ ts: stamp / 1000 + i, ...metrics(10, 2) })).map((reading) => JSON.stringify(reading)).join('\n')) },
  { name: 'SenML JSON, 10 records', kind: RecordKind.bodyAuto, points: 10, make: (i) => json(Object.entries(metrics(10, 2)).map(([n, v], at) => at === 0 ? { bn: 'urn:dev:1:', bt: stamp / 1e6 + i, n, v } : { n, v })) },
  { name: 'CBOR, array of 100 × 10', kind: RecordKind.bodyAuto, points: 1000, make: () => encoder.encode(readings((i) => ({ ts: stamp / 1000 + i, values: metrics(10, 2) }))) }
]

function contextOf (table: SliceTable, multiDevice: boolean): DecodeContext {
  return {
    table, tenant: 't', device: multiDevice ? '' : 'd', deviceNumber: multiDevice ? -1 : table.deviceNumber('t', 'd'), multiDevice, stamp,
    oldestTs: 0, newestTs: stamp + 600e6, lastUnstamped: new Map(),
    refuse (reason, detail) { throw new Error(`${reason}: ${detail}`) },
    deviceAllowed: () => true
  }
}

/** Best nanoseconds a call of several rounds. */
function time (work: (i: number) => void): number {
  let best = Infinity
  for (let round = 0; round < roundsPerCase; round++) {
    let calls = 0
    const start = process.hrtime.bigint()
    let elapsedNs = 0
    while (elapsedNs < roundMsMin * 1e6) {
      for (let i = 0; i < bodiesPerRound; i++) work(i)
      calls += bodiesPerRound
      elapsedNs = Number(process.hrtime.bigint() - start)
    }
    best = Math.min(best, elapsedNs / calls)
  }
  return best
}

const table = new SliceTable()
const decoder = new BodyDecoder(table)
console.log(`${'case'.padEnd(36)} ${'bytes'.padStart(6)} ${'ns/msg'.padStart(9)} ${'ns/point'.padStart(9)} ${'JSON.parse ns/msg'.padStart(18)}`)
for (const { name, kind, points, multiDevice, make } of cases) {
  const bodies = Array.from({ length: bodiesPerRound }, (_, i) => make(i))
  table.reset()
  let context = contextOf(table, multiDevice === true)
  const decodeNs = time((i) => {
    decoder.decode(kind, bodies[i], 0, bodies[i].length, context)
    if (i === bodiesPerRound - 1) {
      table.reset()
      context = contextOf(table, multiDevice === true)
    }
  })
  const isJson = kind === RecordKind.bodyAuto && bodies[0][0] < 0x80
  const parseNs = isJson ? time((i) => { JSON.parse(bodies[i].toString()) }) : NaN
  const parsed = isJson ? parseNs.toFixed(0) : '-'
  console.log(`${name.padEnd(36)} ${String(bodies[0].length).padStart(6)} ${decodeNs.toFixed(0).padStart(9)} ${(decodeNs / points).toFixed(1).padStart(9)} ${parsed.padStart(18)}`)
}
