import fc from 'fast-check'
import t from 'tap'
import { packBits, packedBytes, unpackBits } from '../../src/series/columns/bit-pack.js'
import { BlockReader, BlockWriter, blockValues } from '../../src/series/columns/blocks.js'
import { ByteReader, ByteWriter, signedBytes } from '../../src/series/columns/bytes.js'
import { fitDecimal } from '../../src/series/columns/decimal.js'
import { readNumbers, writeNumbers } from '../../src/series/columns/numbers.js'
import { DecodeState, EncodeScratch, readIntegers, writeIntegers, type Layout } from '../../src/series/columns/sequence.js'
import { hostileNumbers, runs } from './arbitraries.js'

void t.test('varints and signed numbers come back up to 2^53 - 1 and say how long they are', async t => {
  const edges = [0, 1, 63, 64, 127, 128, 8191, 8192, 16383, 16384, 2 ** 31 - 1, 2 ** 31, 2 ** 32, 2 ** 49, 2 ** 52, 2 ** 53 - 1]
  for (const value of edges) {
    const writer = new ByteWriter(1)
    writer.varint(value)
    writer.signed(value)
    const before = writer.length
    writer.signed(-value)
    t.equal(writer.length - before, signedBytes(value), `length of ${value}`)
    const reader = new ByteReader(writer.take())
    t.strictSame([reader.varint(), reader.signed(), reader.signed()], [value, value, 0 - value])
    t.equal(reader.at, reader.end)
  }
  t.throws(() => new ByteReader(new Uint8Array(9).fill(0xff)).varint(), { code: 'corrupt_data' })
  t.throws(() => new ByteReader(new Uint8Array(12).fill(0xff)).signed(), { code: 'corrupt_data' })
})

void t.test('a length is closed in front of its bytes, however many', async t => {
  for (const length of [0, 1, 127, 128, 16383, 16384, 3_000_000]) {
    const writer = new ByteWriter(8)
    writer.byte(9)
    writer.byte(0)
    const start = writer.length
    writer.raw(new Uint8Array(length).fill(7))
    writer.closeLength(start)
    writer.byte(5)
    const reader = new ByteReader(writer.take())
    t.equal(reader.byte(), 9)
    const part = reader.part()
    t.equal(part.end - part.at, length)
    t.ok(part.bytes.subarray(part.at, part.end).every(byte => byte === 7))
    t.equal(reader.byte(), 5)
  }
})

void t.test('every width from 0 to 53 bits packs and unpacks any count', async t => {
  for (let width = 0; width <= 53; width++) {
    for (const count of [1, 2, 7, 8, 63, 64]) {
      const values = Float64Array.from({ length: count }, (_, i) => i === 0 ? 2 ** width - 1 : (0x9e3779b97f4a7 * (i + 1)) % 2 ** width)
      const bytes = new Uint8Array(packedBytes(count, width) + 8).fill(0xaa)
      const end = packBits(bytes, 0, values, count, width)
      const out = new Float64Array(count + 2)
      unpackBits(bytes, 0, count, width, out, 1)
      if (end !== packedBytes(count, width) || !values.every((value, i) => value === out[i + 1])) t.fail(`width ${width}, ${count} values`)
    }
  }
  t.pass('all widths')
})

void t.test('blocks come back, and passing one over lands where reading it does', async t => {
  const value = fc.oneof(fc.integer({ min: -3, max: 3 }), fc.integer({ min: -(2 ** 30), max: 2 ** 30 }), fc.integer({ min: -(2 ** 51) + 1, max: 2 ** 51 - 1 }))
  const block = fc.oneof(
    fc.array(value, { minLength: blockValues, maxLength: blockValues }),
    fc.tuple(value, fc.array(fc.tuple(fc.nat(63), value), { maxLength: 5 })).map(([base, odd]) => { const values = new Array<number>(blockValues).fill(base); for (const [at, other] of odd) values[at] = other; return values })
  )
  fc.assert(fc.property(fc.array(block, { minLength: 1, maxLength: 6 }), fc.nat(63), (blocks, cut) => {
    const last = blocks[blocks.length - 1].slice(cut)
    const all = [...blocks.slice(0, -1), last]
    const writer = new ByteWriter(16)
    const blockWriter = new BlockWriter()
    blockWriter.start()
    for (const values of all) {
      blockWriter.values.set(values)
      blockWriter.write(writer, values.length)
    }
    blockWriter.finish(writer)
    const bytes = writer.take()
    for (let from = 0; from < all.length; from++) {
      const reader = new ByteReader(bytes)
      const blockReader = new BlockReader(reader)
      all.forEach((values, i) => {
        const out = new Float64Array(values.length)
        if (i < from) blockReader.skip(values.length)
        else blockReader.read(values.length, out, 0)
        if (i >= from) t.strictSame(Array.from(out), values.map(given => given + 0))
      })
      t.equal(reader.at, reader.end)
    }
  }), runs(60))
})

void t.test('integer sequences of any order come back, whole and in part, in both layouts', async t => {
  const sequence = fc.record({
    start: fc.integer({ min: -(2 ** 40), max: 2 ** 40 }), slope: fc.constantFrom(0, 1, 60, 1e6, -7), curve: fc.constantFrom(0, 0, 3),
    noise: fc.constantFrom(0, 1, 100, 2 ** 35), unit: fc.constantFrom(1, 10, 1000), draws: fc.array(fc.nat(1000), { minLength: 1, maxLength: 300 })
  }).map(({ start, slope, curve, noise, unit, draws }) => Float64Array.from(draws, (draw, i) => (start + slope * i + curve * i * i + Math.floor(noise * draw / 1000)) * unit))
  const edges = fc.array(fc.constantFrom(-(2 ** 51) + 1, 2 ** 51 - 1, 0, 1, -1), { minLength: 1, maxLength: 70 }).map(values => Float64Array.from(values))
  fc.assert(fc.property(fc.oneof(sequence, edges), fc.constantFrom<Layout>('blocks', 'varints'), fc.boolean(), fc.nat(), fc.nat(), (values, layout, seekable, a, b) => {
    const count = values.length
    const scratch = new EncodeScratch(count)
    scratch.integers.set(values)
    const writer = new ByteWriter(16)
    writeIntegers(writer, scratch, count, { layout, seekable: seekable && layout === 'blocks' })
    const bytes = writer.take()
    const [from, to] = [a % (count + 1), b % (count + 1)].sort((x, y) => x - y)
    for (const [low, high] of [[0, count], [from, to]]) {
      const out = new Float64Array(high - low)
      readIntegers(new ByteReader(bytes), count, low, high, new DecodeState(layout), out)
      if (!out.every((value, i) => value === values[low + i])) t.fail(`${Array.from(values).join()} [${low}, ${high}) ${layout}`)
    }
  }), runs(400))
  t.pass('all')
})

void t.test('extremes where no sample looks come back beside a smooth curve', async t => {
  for (const extreme of [2 ** 51 - 1, 2 ** 50, 2 ** 50 - 1, 2 ** 49]) {
    const values = Float64Array.from({ length: 300 }, (_, i) => i * i * 1000)
    for (const at of [10, 150, 152]) values[at] = at === 150 ? extreme : -extreme
    values[11] = extreme
    const scratch = new EncodeScratch(300)
    const writer = new ByteWriter(16)
    scratch.integers.set(values)
    writeIntegers(writer, scratch, 300, { layout: 'blocks', seekable: false })
    const out = new Float64Array(300)
    readIntegers(new ByteReader(writer.take()), 300, 0, 300, new DecodeState('blocks'), out)
    t.strictSame(Array.from(out), Array.from(values))
  }
})

void t.test('any part of a number column reads as the same part of the whole', async () => {
  const kinds = fc.oneof(
    fc.array(fc.integer({ min: -999, max: 999 }).map(value => value / 10), { minLength: 1, maxLength: 200 }),
    fc.array(fc.double(), { minLength: 1, maxLength: 200 }),
    fc.array(fc.constantFrom(...hostileNumbers, 1, 2, 3, 4, 5, 6, 7, 8), { minLength: 1, maxLength: 200 })
  )
  fc.assert(fc.property(kinds, fc.boolean(), fc.nat(), fc.nat(), (list, seekable, a, b) => {
    const values = Float64Array.from(list)
    const writer = new ByteWriter(16)
    writeNumbers(writer, new EncodeScratch(values.length), values, values.length, { layout: 'blocks', seekable })
    const [from, to] = [a % (values.length + 1), b % (values.length + 1)].sort((x, y) => x - y)
    const out = new Float64Array(to - from)
    readNumbers(new ByteReader(writer.take()), values.length, from, to, new DecodeState('blocks'), out, 0)
    return out.every((value, i) => Object.is(value, values[from + i]))
  }), runs(400))
})

void t.test('a decimal fit gives every value back that it does not patch', async () => {
  fc.assert(fc.property(fc.array(fc.oneof({ weight: 5, arbitrary: fc.integer({ min: -1e6, max: 1e6 }).map(value => value / 1000) }, { weight: 1, arbitrary: fc.constantFrom(...hostileNumbers) }), { minLength: 1, maxLength: 100 }), list => {
    const values = Float64Array.from(list)
    const integers = new Float64Array(values.length)
    const fit = fitDecimal(values, values.length, integers)
    if (fit === null) return true
    return values.every((value, i) => {
      const back = integers[i] / 10 ** fit.scale
      return fit.patches.includes(i) || Object.is(fit.single ? Math.fround(back) : back, value)
    })
  }), runs(500))
})

void t.test('one value of many places does not raise the places of a long column', async t => {
  const values = Float64Array.from({ length: 360 }, (_, i) => (i * 31 % 100) / 10)
  values[200] = 1.2345678901
  const fit = fitDecimal(values, 360, new Float64Array(360))
  t.equal(fit?.scale, 1)
  t.strictSame(fit?.patches, [200])
})

void t.test('integers that hold still now and then follow a first value of more places', async t => {
  const values = new Float64Array(360).fill(21)
  values[300] = 21.5
  const fit = fitDecimal(values, 360, new Float64Array(360))
  t.equal(fit?.scale, 1)
  t.strictSame(fit?.patches, [])
})
