import fc from 'fast-check'
import t from 'tap'
import type { Chunk, Column } from '../../src/core/reading.js'
import { decodeChunk, decodeSlab, decodeSlabDevice, encodeChunk, encodeSlab, readSlabDirectory } from '../../src/series/codec.js'
import { canonical, chunk, runs } from './arbitraries.js'

/** Rows [from, to) of a chunk without the columns that have no value there: the plain way. */
function cut (given: Chunk, from: number, to: number): Chunk {
  const columns: Column[] = []
  for (const column of given.columns) {
    const rows: number[] = []
    const values: (number | string)[] = []
    for (let i = 0; i < column.values.length; i++) {
      const row = column.rows === null ? i : column.rows[i]
      if (row < from || row >= to) continue
      rows.push(row - from)
      values.push(column.values[i])
    }
    if (rows.length === 0) continue
    const { metric, type } = column
    const own = Uint32Array.from(rows)
    if (type === 'string') columns.push({ metric, type, rows: own, values: values as string[] })
    else if (type === 'number') columns.push({ metric, type, rows: own, values: Float64Array.from(values as number[]) })
    else columns.push({ metric, type, rows: own, values: Uint8Array.from(values as number[]) })
  }
  return { ts: given.ts.slice(from, to), stamps: given.stamps.slice(from, to), columns }
}

/** Devices in an order of their own, with rows that add up to `rows`. */
const devicesOf = (rows: number): fc.Arbitrary<{ device: string, rows: number }[]> => fc.tuple(
  fc.uniqueArray(fc.oneof(fc.integer({ min: 0, max: 999 }).map(i => `sensor-${i}`), fc.stringMatching(/^[A-Za-z0-9._:@-]{1,20}$/)), { minLength: rows, maxLength: rows }),
  fc.array(fc.integer({ min: 1, max: 4 }), { minLength: rows, maxLength: rows })
).map(([names, counts]) => {
  const devices: { device: string, rows: number }[] = []
  for (let left = rows; left > 0;) {
    const count = Math.min(left, counts[devices.length])
    devices.push({ device: names[devices.length], rows: count })
    left -= count
  }
  return devices
})

const slab = chunk(150).chain(given => devicesOf(given.ts.length).map(devices => ({ given, devices })))

void t.test('every device of a slab gets exactly its rows, one at a time and all at once, in order of id', async t => {
  fc.assert(fc.property(slab, ({ given, devices }) => {
    const bytes = encodeSlab(devices, given)
    const all = decodeSlab(bytes)
    t.strictSame(all.map(({ device }) => device), devices.map(({ device }) => device).sort())
    t.strictSame(readSlabDirectory(bytes).map(({ device }) => device), all.map(({ device }) => device))
    let row = 0
    for (const { device, rows } of devices) {
      const expected = canonical(cut(given, row, row += rows))
      t.strictSame(canonical(decodeSlabDevice(bytes, device) as Chunk), expected)
      t.strictSame(canonical(all.find(entry => entry.device === device)?.chunk as Chunk), expected)
    }
    t.equal(decodeSlabDevice(bytes, 'nobody'), null)
  }), runs(40))
})

void t.test('a slab of one device, of 16, 17 and of thousands finds the first, the last and none in between', async t => {
  for (const count of [0, 1, 2, 15, 16, 17, 32, 33, 4000]) {
    const names = Array.from({ length: count }, (_, i) => `d${String(i * 2).padStart(5, '0')}`)
    const given: Chunk = {
      ts: Float64Array.from({ length: count }, (_, i) => 1.7e15 + i), stamps: new Float64Array(count).fill(5),
      columns: [{ metric: 'm', type: 'number', rows: null, values: Float64Array.from({ length: count }, (_, i) => i / 10) }]
    }
    const bytes = encodeSlab(names.map(device => ({ device, rows: 1 })), given)
    for (let i = 0; i < count; i += Math.max(1, Math.floor(count / 40))) {
      t.equal(decodeSlabDevice(bytes, names[i])?.columns[0].values[0], i / 10)
      t.equal(decodeSlabDevice(bytes, `d${String(i * 2 + 1).padStart(5, '0')}`), null)
      t.equal(decodeSlabDevice(bytes, names[i].slice(0, 5)), null, 'a prefix of an id is another device')
      t.equal(decodeSlabDevice(bytes, `${names[i]}0`), null)
    }
    t.equal(decodeSlabDevice(bytes, ''), null)
    t.equal(decodeSlabDevice(bytes, 'zzz'), null)
    t.equal(decodeSlab(bytes).length, count)
  }
})

void t.test('one metric of one device is read alone', async t => {
  const rows = Uint32Array.of(1, 3)
  const given: Chunk = {
    ts: Float64Array.of(1, 2, 3, 4), stamps: Float64Array.of(1, 2, 3, 4),
    columns: [
      { metric: 'a', type: 'number', rows, values: Float64Array.of(10, 30) },
      { metric: 'b', type: 'string', rows: null, values: ['w', 'x', 'y', 'z'] },
      { metric: 'c', type: 'boolean', rows: Uint32Array.of(0), values: Uint8Array.of(1) }
    ]
  }
  const bytes = encodeSlab([{ device: 'y', rows: 2 }, { device: 'x', rows: 2 }], given)
  t.strictSame(canonical(decodeSlabDevice(bytes, 'x', new Set(['a'])) as Chunk), canonical({ ts: Float64Array.of(3, 4), stamps: Float64Array.of(3, 4), columns: [{ metric: 'a', type: 'number', rows: Uint32Array.of(1), values: Float64Array.of(30) }] }))
  t.strictSame(decodeSlabDevice(bytes, 'x', new Set(['c']))?.columns, [])
})

void t.test('a directory that does not fit its rows is refused by the writer', async t => {
  const given: Chunk = { ts: new Float64Array(2), stamps: new Float64Array(2), columns: [] }
  t.throws(() => encodeSlab([{ device: 'a', rows: 1 }], given), { code: 'internal' })
  t.throws(() => encodeSlab([{ device: 'a', rows: 2 }, { device: 'b', rows: 0 }], given), { code: 'internal' })
  t.throws(() => encodeSlab([{ device: 'a', rows: 1 }, { device: 'a', rows: 1 }], given), { code: 'internal' })
  t.throws(() => encodeSlab([{ device: 'é', rows: 2 }], given), { code: 'internal' })
  t.throws(() => encodeSlab([{ device: '', rows: 2 }], given), { code: 'internal' })
  t.throws(() => encodeSlab([{ device: 'x'.repeat(256), rows: 2 }], given), { code: 'internal' })
})

void t.test('a chunk is no slab and a slab no chunk', async t => {
  const given: Chunk = { ts: new Float64Array(1), stamps: new Float64Array(1), columns: [] }
  t.throws(() => decodeChunk(encodeSlab([{ device: 'a', rows: 1 }], given)), { code: 'corrupt_data' })
  t.throws(() => decodeSlab(encodeChunk(given)), { code: 'corrupt_data' })
  t.throws(() => readSlabDirectory(Uint8Array.of(2, 128, 0)), { code: 'format_newer' })
})

void t.test('a sparse device costs little beside its values', async t => {
  const count = 2000
  const given: Chunk = {
    ts: Float64Array.from({ length: count }, (_, i) => 1.7e15 + (i * 7919 % 60000) * 1000),
    stamps: Float64Array.from({ length: count }, (_, i) => 1.7e15 + (i * 7919 % 60000) * 1000 + 3000 + i % 100),
    columns: ['temperature', 'humidity', 'battery'].map((metric, at) => ({ metric, type: 'number', rows: null, values: Float64Array.from({ length: count }, (_, i) => (200 + i * (31 + at) % 64) / 10) }))
  }
  const bytes = encodeSlab(Array.from({ length: count }, (_, i) => ({ device: `sensor-${String(i).padStart(6, '0')}`, rows: 1 })), given)
  t.ok(bytes.length / count < 12, `${(bytes.length / count).toFixed(2)} bytes for an id, two times and three values`)
})
