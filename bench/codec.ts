/**
 * What the chunk codec costs: bytes and nanoseconds a point by chunk size.
 *
 *   node dist/bench/codec.js [directory with solar-plant/*.csv.gz]
 *
 * Without the directory, only synthetic sensors are measured (seeded, so that runs compare). `names` is the share of the
 * metric names in the bytes; the other columns leave them out, because storage blocks share names.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import type { Chunk, Column } from '../src/core/reading.js'
import { decodeChunk, decodeSlabDevice, encodeChunk, encodeSlab } from '../src/series/codec.js'
import { mergeChunks, readingsOf } from '../src/series/merge.js'

interface Table { readonly ts: Float64Array, readonly stamps: Float64Array, readonly names: readonly string[], readonly columns: readonly Float64Array[] }

/** Numerical Recipes' linear congruential generator. */
function randomFrom (seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 32
  }
}

function solarTable (directory: string): Table {
  const lines: string[] = []
  let names: string[] = []
  for (const file of readdirSync(join(directory, 'solar-plant')).filter(name => name.endsWith('.csv.gz')).sort()) {
    const [head, ...rest] = gunzipSync(readFileSync(join(directory, 'solar-plant', file))).toString('utf8').trim().split('\n')
    names = head.split(',').slice(1)
    lines.push(...rest)
  }
  const table = emptyTable(names, lines.length)
  const random = randomFrom(1)
  lines.forEach((line, row) => {
    const cells = line.split(',')
    table.ts[row] = Date.parse(cells[0]) * 1000
    table.stamps[row] = table.ts[row] + 20_000 + Math.floor(random() * 30_000)
    for (let i = 0; i < names.length; i++) table.columns[i][row] = Number(cells[i + 1])
  })
  return table
}

function emptyTable (names: readonly string[], rows: number): Table {
  return { ts: new Float64Array(rows), stamps: new Float64Array(rows), names, columns: names.map(() => new Float64Array(rows)) }
}

/** Ten columns: random walks of two decimals, a counter, a constant, noise, a state, singles. */
function syntheticTable (rows: number): Table {
  const table = emptyTable(['m0', 'm1', 'm2', 'm3', 'm4', 'm5', 'm6', 'm7', 'm8', 'm9'], rows)
  const random = randomFrom(2)
  const walk = [2000, 4500, 101300, 700]
  for (let row = 0; row < rows; row++) {
    table.ts[row] = 1.7e15 + row * 1e6
    table.stamps[row] = table.ts[row] + 5000 + Math.floor(random() * 4000)
    for (let i = 0; i < 4; i++) table.columns[i][row] = (walk[i] += Math.floor(random() * 21) - 10) / 100
    table.columns[4][row] = row * 7 + Math.floor(random() * 2)
    table.columns[5][row] = 230
    table.columns[6][row] = Math.floor(random() * 1000) / 10
    table.columns[7][row] = Math.floor(row / 97) % 3
    table.columns[8][row] = Math.fround(table.columns[0][row] + 0.1)
    table.columns[9][row] = table.columns[1][row] > 45 ? 1 : 0
  }
  return table
}

function fullDoubles (rows: number): Table {
  const table = emptyTable(['a', 'b', 'c', 'd'], rows)
  const random = randomFrom(3)
  for (let row = 0; row < rows; row++) {
    table.ts[row] = 1.7e15 + row * 1e6
    table.stamps[row] = table.ts[row]
    for (let i = 0; i < 4; i++) table.columns[i][row] = 20 + Math.sin(row / 50 + i) + random()
  }
  return table
}

function cut (table: Table, size: number, chunksMax: number): Chunk[] {
  const chunks: Chunk[] = []
  const rows = table.ts.length
  const stride = Math.max(size, Math.floor(rows / chunksMax))
  for (let from = 0; from + size <= rows && chunks.length < chunksMax; from += stride) {
    const columns: Column[] = table.names.map((metric, i) => ({ metric, type: 'number', rows: null, values: table.columns[i].slice(from, from + size) }))
    chunks.push({ ts: table.ts.slice(from, from + size), stamps: table.stamps.slice(from, from + size), columns })
  }
  return chunks
}

/** Nanoseconds a call of `work` takes for one unit, the best of several rounds. */
function nanoseconds (units: number, work: () => void): number {
  let best = Infinity
  for (let round = 0; round < 7; round++) {
    const start = performance.now()
    work()
    best = Math.min(best, (performance.now() - start) * 1e6 / units)
  }
  return best
}

function measure (title: string, table: Table): void {
  const nameBytes = table.names.reduce((sum, name) => sum + name.length, 0)
  for (const size of [8, 60, 360, 1000]) {
    const chunks = cut(table, size, Math.max(1, Math.floor(60_000 / size)))
    const points = chunks.length * size * table.names.length
    let encoded: Uint8Array[] = []
    const encodeNs = nanoseconds(points, () => { encoded = chunks.map(chunk => encodeChunk(chunk)) })
    const decodeNs = nanoseconds(points, () => { for (const bytes of encoded) decodeChunk(bytes) })
    const wanted = new Set([table.names[1]])
    const oneNs = nanoseconds(chunks.length, () => { for (const bytes of encoded) decodeChunk(bytes, wanted) })
    const squeezed = chunks.map(chunk => encodeChunk(chunk, { squeeze: true }))
    const plainBytes = encoded.reduce((sum, bytes) => sum + bytes.length, 0)
    const squeezedBytes = squeezed.reduce((sum, bytes) => sum + bytes.length, 0)
    const perPoint = (bytes: number): string => ((bytes - nameBytes * chunks.length) / points).toFixed(3)
    console.log(`${title.padEnd(10)} ${String(size).padStart(5)} rows: ${perPoint(plainBytes)} bytes/point (+${(nameBytes * chunks.length / points).toFixed(3)} names), ` +
      `squeezed with names ${(squeezedBytes / points).toFixed(3)}; encode ${encodeNs.toFixed(1)} ns, decode ${decodeNs.toFixed(1)} ns a point; one metric of a chunk ${oneNs.toFixed(0)} ns`)
  }
}

function measureSlab (): void {
  const table = syntheticTable(3000)
  const [chunk] = cut(table, 3000, 1)
  const devices = Array.from({ length: 1500 }, (_, i) => ({ device: `sensor-${String(i).padStart(6, '0')}`, rows: 2 }))
  let bytes = encodeSlab(devices, chunk)
  const encodeNs = nanoseconds(30_000, () => { bytes = encodeSlab(devices, chunk) })
  const one = new Set(['m1'])
  const readNs = nanoseconds(devices.length, () => { for (const { device } of devices) decodeSlabDevice(bytes, device, one) })
  console.log(`slab       1500 devices x 2 rows x 10 metrics: ${(bytes.length / 30_000).toFixed(3)} bytes/point, encode ${encodeNs.toFixed(1)} ns a point, one metric of one device ${readNs.toFixed(0)} ns`)
}

function measureMerge (): void {
  const chunks = cut(syntheticTable(8000), 1000, 8)
  const sources = chunks.map(chunk => ({ chunk, journalId: '0000000000000001' }))
  const range = { fromTs: -Infinity, toTs: Infinity, erasedBefore: 0, oldestTs: 0 }
  let merged = mergeChunks(sources, range)
  const mergeNs = nanoseconds(80_000, () => { merged = mergeChunks(sources, range) })
  let values = 0
  const readNs = nanoseconds(80_000, () => { for (const reading of readingsOf(merged, 'desc')) values += reading.values.length })
  console.log(`merge      8 chunks x 1000 rows x 10 metrics: ${mergeNs.toFixed(1)} ns a point, readingsOf ${readNs.toFixed(1)} ns a point (${values} values)`)
}

const directory = process.argv[2]
if (directory !== undefined) measure('solar', solarTable(directory))
measure('synthetic', syntheticTable(60_000))
measure('doubles', fullDoubles(60_000))
measureSlab()
measureMerge()
