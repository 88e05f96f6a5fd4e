import fc from 'fast-check'
import t from 'tap'
import { TwinfoldError } from '../../src/core/errors.js'
import type { Chunk, Column } from '../../src/core/reading.js'
import { decodeChunk, encodeChunk, readChunkHeader } from '../../src/series/codec.js'
import { chunkRowsMax } from '../../src/series/columns/bounds.js'
import { canonical, chunk, hostileNumbers, runs } from './arbitraries.js'

const numbers = (metric: string, values: ArrayLike<number>): Column => ({ metric, type: 'number', rows: null, values: Float64Array.from(values) })

function rowsWith (count: number, columns: readonly Column[], step = 1e6): Chunk {
  return {
    ts: Float64Array.from({ length: count }, (_, i) => 1.7e15 + i * step),
    stamps: Float64Array.from({ length: count }, (_, i) => 1.7e15 + i * step + 5000 + (i * 7919) % 300),
    columns
  }
}

function bytesOfColumn (values: ArrayLike<number>): number {
  const empty = encodeChunk(rowsWith(values.length, [])).length
  return encodeChunk(rowsWith(values.length, [numbers('m', values)])).length - empty
}

void t.test('every chunk comes back bit for bit, squeezed or not', async t => {
  fc.assert(fc.property(chunk(200), fc.boolean(), (given, squeeze) => {
    t.equal(JSON.stringify(canonical(decodeChunk(encodeChunk(given, { squeeze })))), JSON.stringify(canonical(given)))
  }), runs(300))
})

void t.test('long columns of several blocks come back bit for bit', async t => {
  fc.assert(fc.property(chunk(900).filter(({ ts }) => ts.length > 130), given => {
    t.strictSame(canonical(decodeChunk(encodeChunk(given))), canonical(given))
  }), runs(25))
})

void t.test('a block of one repeated double reads as such whatever the block before it held', async t => {
  const values = [...new Array<number>(63).fill(NaN), -0, Infinity, Infinity, Infinity]
  const [column] = decodeChunk(encodeChunk(rowsWith(values.length, [numbers('m', values)]))).columns
  t.ok(values.every((value, i) => Object.is(value, column.values[i])))
})

void t.test('every pair of hostile doubles comes back bit for bit, alone and among decimals', async t => {
  for (const a of hostileNumbers) {
    for (const b of hostileNumbers) {
      const decimals = Array.from({ length: 70 }, (_, i) => (200 + i % 13) / 10)
      decimals[3] = a
      decimals[66] = b
      const given = rowsWith(70, [numbers('pair', Array.from({ length: 70 }, (_, i) => i % 3 === 0 ? a : b)), numbers('among', decimals)])
      const [pair, among] = decodeChunk(encodeChunk(given)).columns
      const same = [pair, among].every((column, i) => Array.from(column.values as Float64Array).every((value, row) => Object.is(value, given.columns[i].values[row])))
      if (!same) t.fail(`${a} and ${b} changed`)
    }
  }
  t.pass('all pairs')
})

void t.test('-0 among decimals survives and costs little', async t => {
  const values = Array.from({ length: 360 }, (_, i) => i % 40 === 7 ? -0 : (i % 9 - 4) / 10)
  const given = rowsWith(360, [numbers('m', values)])
  const decoded = decodeChunk(encodeChunk(given)).columns[0].values as Float64Array
  t.ok(values.every((value, i) => Object.is(value, decoded[i])))
  t.ok(bytesOfColumn(values) < 400, 'one odd value in forty must not cost the decimal form')
})

void t.test('the header tells readings and time bounds, whatever the order of the rows', async t => {
  const given: Chunk = { ts: Float64Array.of(5e14, 1e14, 3e14), stamps: Float64Array.of(9e14, 2 ** 53 - 1, 9e14 + 1), columns: [] }
  for (const squeeze of [false, true]) {
    t.strictSame(readChunkHeader(encodeChunk(given, { squeeze })), { readings: 3, minTs: 1e14, maxTs: 5e14, minStamp: 9e14, maxStamp: 2 ** 53 - 1 })
  }
  const doubles: Chunk = { ts: Float64Array.of(0.5, -3), stamps: Float64Array.of(Infinity, 1), columns: [] }
  t.strictSame(readChunkHeader(encodeChunk(doubles)), { readings: 2, minTs: -3, maxTs: 0.5, minStamp: 1, maxStamp: Infinity })
  t.strictSame(readChunkHeader(encodeChunk({ ts: new Float64Array(0), stamps: new Float64Array(0), columns: [] })), { readings: 0, minTs: 0, maxTs: 0, minStamp: 0, maxStamp: 0 })
})

void t.test('a filter gives exactly the wanted columns, as a whole decode has them', async t => {
  fc.assert(fc.property(chunk(60), fc.array(fc.nat(4)), fc.boolean(), (given, picks, many) => {
    const wanted = new Set(picks.map(i => given.columns[i]?.metric ?? `absent ${i}`))
    if (many) for (let i = 0; i < 20; i++) wanted.add(`filler ${i}`)
    const expected = { ...given, columns: given.columns.filter(({ metric }) => wanted.has(metric)) }
    t.strictSame(canonical(decodeChunk(encodeChunk(given), wanted)), canonical(expected))
  }), runs(150))
})

void t.test('columns that are not wanted are not decoded: damage in them goes unseen', async t => {
  const given = rowsWith(64, [numbers('a', Array.from({ length: 64 }, (_, i) => i % 5)), numbers('b', Array.from({ length: 64 }, (_, i) => i % 7))])
  const bytes = encodeChunk(given)
  // Tag, length of the name, name, length of the values, form.
  const at = Buffer.from(bytes).indexOf(Buffer.of(0, 1, 'a'.charCodeAt(0))) + 4
  bytes[at] = 0xf0
  t.throws(() => decodeChunk(bytes, new Set(['a'])), { code: 'corrupt_data' })
  t.strictSame(canonical(decodeChunk(bytes, new Set(['b']))), canonical({ ...given, columns: [given.columns[1]] }))
})

void t.test('a newer version is refused by name, version 0 and unknown flags as damage', async t => {
  const bytes = encodeChunk(rowsWith(3, []))
  t.throws(() => decodeChunk(Uint8Array.of(2, ...bytes.subarray(1))), { code: 'format_newer' })
  t.throws(() => readChunkHeader(Uint8Array.of(255)), { code: 'format_newer' })
  t.throws(() => decodeChunk(Uint8Array.of(0, ...bytes.subarray(1))), { code: 'corrupt_data' })
  t.throws(() => decodeChunk(Uint8Array.of(1, 64, ...bytes.subarray(2))), { code: 'corrupt_data' })
  t.throws(() => decodeChunk(new Uint8Array(0)), { code: 'corrupt_data' })
})

void t.test('a chunk beyond its bounds or of unequal lengths is refused by the writer', async t => {
  t.throws(() => encodeChunk({ ts: new Float64Array(chunkRowsMax + 1), stamps: new Float64Array(chunkRowsMax + 1), columns: [] }), { code: 'limit_reached' })
  const wide = rowsWith(chunkRowsMax, Array.from({ length: 33 }, (_, i) => ({ metric: `m${i}`, type: 'number', rows: null, values: new Float64Array(chunkRowsMax) })))
  t.throws(() => encodeChunk(wide), { code: 'limit_reached' })
  t.throws(() => encodeChunk(rowsWith(3, [numbers('m', [1, 2])])), { code: 'internal' })
  t.throws(() => encodeChunk({ ts: new Float64Array(2), stamps: new Float64Array(1), columns: [] }), { code: 'internal' })
})

void t.test('common columns are nearly free', async t => {
  const count = 360
  const from = (value: (i: number) => number): number[] => Array.from({ length: count }, (_, i) => value(i))
  t.ok(bytesOfColumn(from(() => 21.5)) <= 8, 'constant')
  t.ok(bytesOfColumn(from(i => 38241352 + 60 * i)) <= 14, 'counter by 60')
  t.ok(bytesOfColumn(from(i => i < 180 ? 7 : 7 + 60 * (i - 179))) <= 24, 'counter that stands still for half the time')
  t.ok(bytesOfColumn(from(i => Math.floor(i / 30))) <= 45, 'value that changes every half hour')
  t.ok(bytesOfColumn(from(i => i % 2)) <= 2 + 60, 'toggling state')
  t.ok(bytesOfColumn(from(i => 21 + (i * 37 % 21) / 100)) <= 0.9 * count, 'two decimals within 0.2')
  t.ok(bytesOfColumn(from(i => Math.fround(21 + (i * 37 % 21) / 100))) <= 0.9 * count, 'the same in single precision')
})

void t.test('a constant step of timestamps and constant stamps cost a few bytes in all', async t => {
  for (const step of [1, 1000, 1e6, 60e6]) {
    const ts = Float64Array.from({ length: 1000 }, (_, i) => 1.7e15 + i * step)
    t.ok(encodeChunk({ ts, stamps: new Float64Array(1000).fill(1.7e15 + 3), columns: [] }).length <= 50, `step ${step}, one stamp`)
    t.ok(encodeChunk({ ts, stamps: ts, columns: [] }).length <= 55, `step ${step}, arrival time is timestamp`)
  }
  const jittered = Float64Array.from({ length: 1000 }, (_, i) => 1.7e15 + i * 1e6 + (i * 7919 % 16) * 1000)
  t.ok(encodeChunk({ ts: jittered, stamps: jittered, columns: [] }).length <= 850, 'jitter of 16 ms is stored in ms')
})

void t.test('squeezing never makes a chunk larger, and repetitive text much smaller', async t => {
  const texts = Array.from({ length: 300 }, (_, i) => `state of the machine number ${i} is unknown`)
  const given = rowsWith(300, [{ metric: 's', type: 'string', rows: null, values: texts }])
  const plain = encodeChunk(given)
  const squeezed = encodeChunk(given, { squeeze: true })
  t.ok(squeezed.length < plain.length / 2)
  t.strictSame(canonical(decodeChunk(squeezed)), canonical(given))
  fc.assert(fc.property(chunk(80), any => encodeChunk(any, { squeeze: true }).length <= encodeChunk(any).length), runs(50))
})

void t.test('columns of the same sparse rows share one list', async t => {
  const rows = Uint32Array.from({ length: 150 }, (_, i) => i * 2 + (i * i % 7 === 0 ? 1 : 0))
  const columnsOf = (count: number): Column[] => Array.from({ length: count }, (_, i) => ({ metric: `m${i}`, type: 'number', rows: rows.slice(), values: new Float64Array(150).fill(i) }))
  const one = encodeChunk(rowsWith(400, columnsOf(1))).length
  const ten = encodeChunk(rowsWith(400, columnsOf(10))).length
  t.ok(ten - one <= 9 * 8, `${ten - one} bytes for nine more columns`)
  t.strictSame(canonical(decodeChunk(encodeChunk(rowsWith(400, columnsOf(10))))), canonical(rowsWith(400, columnsOf(10))))
})

void t.test('a few bytes that claim many rows in many columns are refused before memory is taken', async t => {
  const given = rowsWith(chunkRowsMax, [{ metric: 'm', type: 'number', rows: null, values: new Float64Array(chunkRowsMax) }], 1e6)
  const bytes = encodeChunk({ ...given, stamps: given.ts })
  // The one column again and again: its bytes are the last seven.
  const column = bytes.subarray(bytes.length - 6)
  const repeated = Buffer.concat([bytes.subarray(0, bytes.length - 7), Uint8Array.of(0xff, 0x07), ...new Array<Uint8Array>(1023).fill(column)])
  t.equal(bytes[bytes.length - 7], 1, 'the byte before is the count of columns')
  const before = process.memoryUsage().arrayBuffers
  t.throws(() => decodeChunk(repeated), { code: 'corrupt_data', message: /points/ })
  t.ok(process.memoryUsage().arrayBuffers - before < 16 * 1024 * 1024)
})

void t.test('a TwinfoldError is what damage throws', async t => {
  try {
    decodeChunk(Uint8Array.of(1))
    t.fail('not refused')
  } catch (error) {
    t.ok(error instanceof TwinfoldError)
  }
})
