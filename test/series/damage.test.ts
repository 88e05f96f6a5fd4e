import t from 'tap'
import fc from 'fast-check'
import { TwinfoldError } from '../../src/core/errors.js'
import type { Chunk, Column } from '../../src/core/reading.js'
import { decodeChunk, decodeSlab, decodeSlabDevice, encodeChunk, encodeSlab, readChunkHeader, readSlabDirectory } from '../../src/series/codec.js'
import { runs } from './arbitraries.js'

/** Every form that FORMAT.md draws stands in it once at least. */
function sample (): Chunk {
  const count = 150
  const from = (value: (i: number) => number): Float64Array => Float64Array.from({ length: count }, (_, i) => value(i))
  const even = Uint32Array.from({ length: 75 }, (_, i) => i * 2)
  const columns: Column[] = [
    { metric: 'constant', type: 'number', rows: null, values: from(() => 21.5) },
    { metric: 'plain', type: 'number', rows: null, values: from(() => Math.PI) },
    { metric: 'walk', type: 'number', rows: null, values: from(i => (2000 + (i * 7919 % 41)) / 100) },
    { metric: 'counter', type: 'number', rows: null, values: from(i => 1e9 + i * 60 + (i > 100 ? 7 : 0)) },
    { metric: 'curve', type: 'number', rows: null, values: from(i => i * i * i) },
    { metric: 'spikes', type: 'number', rows: null, values: from(i => i % 50 === 3 ? 1e9 + i : 0) },
    { metric: 'patched', type: 'number', rows: null, values: from(i => i === 9 ? NaN : i === 80 ? -0 : i / 10) },
    { metric: 'single', type: 'number', rows: null, values: from(i => Math.fround(i / 10)) },
    { metric: 'double', type: 'number', rows: null, values: from(i => Math.sin(i)) },
    { metric: 'repeats', type: 'number', rows: null, values: from(i => Math.sin(Math.floor(i / 20))) },
    { metric: 'on', type: 'boolean', rows: even, values: Uint8Array.from(even, row => row % 3 === 0 ? 1 : 0) },
    { metric: 'state', type: 'string', rows: even, values: Array.from(even, row => ['ok', 'wärm', '💧', '\ud800'][row % 4]) }
  ]
  return { ts: from(i => 1.7e15 + i * 1e6 + (i * 31 % 5) * 1000), stamps: from(i => 1.7e15 + i * 1e6 + i * 13 % 101), columns }
}

/** What a consumer relies on, whatever the bytes were. */
function wellFormed (chunk: Chunk | null): void {
  if (chunk === null) return
  const rowCount = chunk.ts.length
  if (chunk.stamps.length !== rowCount) throw new Error('as many stamps as timestamps')
  for (const { metric, type, rows, values } of chunk.columns) {
    if (values.length !== (rows === null ? rowCount : rows.length)) throw new Error(`column ${metric} has a value for each of its rows`)
    for (let i = 0; i < (rows?.length ?? 0); i++) {
      const row = (rows as Uint32Array)[i]
      if (row >= rowCount || (i > 0 && row <= (rows as Uint32Array)[i - 1])) throw new Error(`rows of column ${metric} ascend`)
    }
    if (type === 'string' && (values as readonly unknown[]).some(value => typeof value !== 'string')) throw new Error(`column ${metric} holds strings`)
    if (type === 'boolean' && (values as Uint8Array).some(value => value !== 0 && value !== 1)) throw new Error(`column ${metric} holds 0 and 1`)
  }
}

const readers: Record<string, (bytes: Uint8Array) => unknown> = {
  decodeChunk: bytes => { wellFormed(decodeChunk(bytes)) },
  filtered: bytes => { wellFormed(decodeChunk(bytes, new Set(['walk', 'state']))) },
  readChunkHeader: bytes => readChunkHeader(bytes)
}
const slabReaders: Record<string, (bytes: Uint8Array) => unknown> = {
  decodeSlab: bytes => { for (const { chunk } of decodeSlab(bytes)) wellFormed(chunk) },
  decodeSlabDevice: bytes => { wellFormed(decodeSlabDevice(bytes, 'device-07')) },
  readSlabDirectory: bytes => readSlabDirectory(bytes)
}

/** Forty columns that repeat one another, which a general compressor finds. */
function squeezable (): Chunk {
  const { ts, columns: [constant, , walk, counter, , , patched] } = sample()
  const copies = Array.from({ length: 10 }, (_, i) => [constant, walk, counter, patched].map(column => ({ ...column, metric: `${column.metric} ${i}` })))
  return { ts, stamps: ts, columns: copies.flat() }
}

const chunkSamples = { plain: encodeChunk(sample()), squeezed: encodeChunk(squeezable(), { squeeze: true }) }
const slabSample = encodeSlab(Array.from({ length: 50 }, (_, i) => ({ device: `device-${String(i * 37 % 50).padStart(2, '0')}`, rows: 3 })), sample())

/** True where it was refused with a code of the table; a crash of any other kind is thrown on. */
function refused (read: (bytes: Uint8Array) => unknown, bytes: Uint8Array): boolean {
  try {
    read(bytes)
    return false
  } catch (error) {
    if (error instanceof TwinfoldError && (error.code === 'corrupt_data' || error.code === 'format_newer')) return true
    throw error
  }
}

void t.test('the samples are what they claim to be', async t => {
  t.equal(chunkSamples.squeezed[1] & 1, 1, 'squeezing paid')
  t.strictSame(decodeChunk(chunkSamples.plain).columns.map(({ metric }) => metric), sample().columns.map(({ metric }) => metric))
  t.equal(decodeSlab(slabSample).length, 50)
})

void t.test('every truncation of a chunk or slab is refused', async t => {
  for (const [name, bytes] of Object.entries(chunkSamples)) {
    for (let length = 0; length < bytes.length; length++) {
      if (!refused(readers.decodeChunk, bytes.slice(0, length))) t.fail(`${name} cut at ${length} was decoded`)
      for (const read of Object.values(readers)) refused(read, bytes.slice(0, length))
    }
  }
  for (let length = 0; length < slabSample.length; length++) {
    if (!refused(slabReaders.decodeSlab, slabSample.slice(0, length))) t.fail(`slab cut at ${length} was decoded`)
    for (const read of Object.values(slabReaders)) refused(read, slabSample.slice(0, length))
  }
  t.pass('all cuts')
})

void t.test('appended bytes are refused', async t => {
  t.ok(refused(readers.decodeChunk, Uint8Array.of(...chunkSamples.plain, 0)))
  t.ok(refused(slabReaders.decodeSlab, Uint8Array.of(...slabSample, 0)))
})

void t.test('every damaged byte either decodes or is refused, in bounded time', async t => {
  const all: [Uint8Array, Record<string, (bytes: Uint8Array) => unknown>][] = [[chunkSamples.plain, readers], [chunkSamples.squeezed, readers], [slabSample, slabReaders]]
  let refusals = 0
  for (const [original, reads] of all) {
    const bytes = original.slice()
    for (let at = 0; at < bytes.length; at++) {
      for (const mask of [1, 8, 32, 128, 255]) {
        bytes[at] ^= mask
        for (const read of Object.values(reads)) if (refused(read, bytes)) refusals++
        bytes[at] ^= mask
      }
    }
  }
  t.ok(refusals > 1000, `${refusals} refused`)
})

void t.test('several damaged bytes and random bytes either decode or are refused', async () => {
  const damage = fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 2, maxLength: 8 })
  fc.assert(fc.property(fc.constantFrom('plain', 'squeezed', 'slab'), damage, (which, changes) => {
    const original = which === 'slab' ? slabSample : chunkSamples[which as 'plain' | 'squeezed']
    const bytes = original.slice()
    for (const [at, value] of changes) bytes[at % bytes.length] = value
    for (const read of Object.values(which === 'slab' ? slabReaders : readers)) refused(read, bytes)
    return true
  }), runs(3000))
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), fc.constantFrom(0, 1, 2, 3, 128), (tail, flags) => {
    const bytes = Uint8Array.of(1, flags, ...tail)
    for (const read of [...Object.values(readers), ...Object.values(slabReaders)]) refused(read, bytes)
    return true
  }), runs(3000))
})
