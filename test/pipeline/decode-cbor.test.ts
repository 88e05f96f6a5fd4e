/** CBOR bodies (RFC 8949) in the shapes of JSON readings, from another encoder and byte by byte. */
import { Encoder, Tag } from 'cbor-x'
import fc from 'fast-check'
import t from 'tap'
import { RecordKind } from '../../src/journal/record.js'
import { cborDepthMax, CborScanner } from '../../src/pipeline/decode/cbor-scan.js'
import { halfToDouble } from '../../src/pipeline/decode/cbor-value.js'
import { Harness, sameValues, stamp, type Options, type Row } from './decode-harness.js'

const encoder = new Encoder({ useRecords: false, variableMapSize: true, mapsAsObjects: true })
const seed = Number(process.env.TEST_SEED ?? Math.floor(Math.random() * 2 ** 31))
const tsMs = 1_699_999_999_000
const tsUs = tsMs * 1000
const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex')
/** `{"a": item}` */
const valueOf = (item: string): Buffer => hex(`a1 61 61 ${item}`)

interface Stored { readonly body: Buffer, readonly options?: Options, readonly rows: ReadonlyArray<{ ts?: number, device?: string, values: Row['values'] }> }

const stored: Record<string, Stored> = {
  'a map is a reading': { body: encoder.encode({ temperature: 21.3, on: true, state: 'é' }), rows: [{ values: { temperature: 21.3, on: true, state: 'é' } }] },
  'ts and values': { body: encoder.encode({ ts: tsMs, values: { a: 1 } }), rows: [{ ts: tsUs, values: { a: 1 } }] },
  'ts as text': { body: encoder.encode({ ts: '2023-11-14T22:13:19Z', a: 1 }), rows: [{ ts: tsUs, values: { a: 1 } }] },
  'ts with tag 1 is in seconds': { body: encoder.encode({ ts: new Tag(tsMs / 1000 + 0.5, 1), a: 1 }), rows: [{ ts: tsUs + 5e5, values: { a: 1 } }] },
  'ts with tag 0 is text': { body: encoder.encode({ a: 1, ts: new Tag('2023-11-14T22:13:19Z', 0) }), rows: [{ ts: tsUs, values: { a: 1 } }] },
  'an array of readings': { body: encoder.encode([{ a: 1 }, { ts: tsMs, a: 2 }]), rows: [{ ts: stamp, values: { a: 1 } }, { ts: tsUs, values: { a: 2 } }] },
  'nested maps flatten': { body: encoder.encode({ gps: { lat: 1, fix: { ok: false } }, b: 2 }), rows: [{ values: { 'gps.lat': 1, 'gps.fix.ok': false, b: 2 } }] },
  'null and undefined are no value': { body: encoder.encode({ a: null, b: undefined, c: 1 }), rows: [{ values: { c: 1 } }] },
  'device in a multi-device body': { body: encoder.encode([{ device: 'd1', a: 1 }, { a: 2, device: 'd2' }]), options: { multiDevice: true }, rows: [{ device: 'd1', ts: stamp, values: { a: 1 } }, { device: 'd2', ts: stamp + 1, values: { a: 2 } }] },
  'self-described CBOR': { body: hex('d9d9f7 a1 61 61 01'), rows: [{ values: { a: 1 } }] },
  'indefinite lengths everywhere': { body: hex('9f bf 7f 61 61 61 62 ff 01 61 63 7f 61 78 60 61 79 ff ff bf 61 61 02 ff ff'), rows: [{ ts: stamp, values: { ab: 1, c: 'xy' } }, { ts: stamp + 1, values: { a: 2 } }] },
  'the last of two equal keys wins': { body: hex('a2 61 61 01 61 61 02'), rows: [{ values: { a: 2 } }] },
  'an integer of 8 bytes': { body: valueOf('1b 001fffffffffffff'), rows: [{ values: { a: 2 ** 53 - 1 } }] },
  'a negative integer': { body: valueOf('39 03e7'), rows: [{ values: { a: -1000 } }] },
  'the greatest negative integer': { body: valueOf('3b ffffffffffffffff'), rows: [{ values: { a: -(2 ** 64) } }] },
  'half floats': { body: hex('a3 61 61 f9 3e00 61 62 f9 8000 61 63 f9 0001'), rows: [{ values: { a: 1.5, b: -0, c: 2 ** -24 } }] },
  'NaN and infinities of every size': { body: hex('a6 61 61 f9 7e00 61 62 f9 7c00 61 63 f9 fc00 61 64 fa 7fc00000 61 65 fb fff0000000000000 61 66 fa 7f800000'), rows: [{ values: { a: NaN, b: Infinity, c: -Infinity, d: NaN, e: -Infinity, f: Infinity } }] },
  'bignums': { body: hex('a2 61 61 c2 49 010000000000000000 61 62 c3 41 04'), rows: [{ values: { a: 2 ** 64, b: -5 } }] },
  'decimal fractions': { body: hex('a1 61 61 c4 82 21 19 6ab3'), rows: [{ values: { a: 273.15 } }] },
  'other tags are transparent': { body: hex('a1 61 61 d8 64 d8 65 18 2a'), rows: [{ values: { a: 42 } }] },
  'by content, an array of maps with text keys is no SenML': { body: encoder.encode([{ n: 'x', v: 1 }]), rows: [{ values: { n: 'x', v: 1 } }] }
}

for (const [name, { body, options, rows }] of Object.entries(stored)) {
  void t.test(`stored: ${name}`, async (t) => {
    for (const kind of [RecordKind.bodyCbor, RecordKind.bodyAuto]) {
      const { rows: found, refused } = new Harness().decode(body, { ...options, kind })
      t.same(refused, [])
      t.equal(found.length, rows.length)
      rows.forEach((row, i) => {
        t.ok(sameValues(found[i].values, row.values), `values of row ${i}`, { found: found[i].values })
        t.same([found[i].ts, found[i].device, found[i].stamp], [row.ts ?? stamp, row.device ?? 'own', stamp + i])
      })
    }
  })
}

const nest = (depth: number): Record<string, unknown> => { let value: unknown = 1; for (let i = 0; i < depth; i++) value = { a: value }; return value as Record<string, unknown> }
const refused: Record<string, { body: Buffer, options?: Options, reason: string }> = {
  'nothing': { body: hex(''), reason: 'cbor_invalid' },
  'an empty map': { body: hex('a0'), reason: 'empty' },
  'an empty array': { body: hex('80'), reason: 'empty' },
  'an empty array of indefinite length': { body: hex('9fff'), reason: 'empty' },
  'a number': { body: hex('01'), reason: 'not_a_reading' },
  'an array of numbers': { body: hex('8101'), reason: 'not_a_reading' },
  'a map with integer keys': { body: hex('a10101'), reason: 'not_a_reading' },
  'an array as value': { body: valueOf('8101'), reason: 'value_invalid' },
  'a byte string as value': { body: valueOf('4101'), reason: 'value_invalid' },
  'an unassigned simple value': { body: valueOf('f8ff'), reason: 'value_invalid' },
  'a bignum beyond a double': { body: valueOf(`c2 58 81 ${'ff'.repeat(129)}`), reason: 'value_invalid' },
  'a bigfloat': { body: valueOf('c5 82 01 01'), reason: 'value_invalid' },
  'eleven levels': { body: encoder.encode(nest(11)), reason: 'too_deep' },
  'more nesting than is looked at': { body: Buffer.concat([hex('a16161'), Buffer.alloc(cborDepthMax + 1, 0x81), hex('01')]), reason: 'too_deep' },
  'a hundred thousand open arrays': { body: Buffer.alloc(100_000, 0x81), reason: 'too_deep' },
  'an array of 2^32 items': { body: hex('9a ffffffff a1 61 61 01'), reason: 'cbor_invalid' },
  'a map of 2^63 pairs': { body: hex('bb 8000000000000000'), reason: 'cbor_invalid' },
  'text of 2^64 - 1 bytes': { body: valueOf('7b ffffffffffffffff 61'), reason: 'cbor_invalid' },
  'text that is no UTF-8': { body: valueOf('62 c328'), reason: 'cbor_invalid' },
  'a character split between chunks': { body: valueOf('7f 61 c3 61 a9 ff'), reason: 'cbor_invalid' },
  'a byte string as chunk of text': { body: valueOf('7f 41 61 ff'), reason: 'cbor_invalid' },
  'a chunk of indefinite length': { body: valueOf('7f 7f 61 61 ff ff'), reason: 'cbor_invalid' },
  'a break in a definite map': { body: hex('a1 61 61 ff'), reason: 'cbor_invalid' },
  'a break between key and value': { body: hex('bf 61 61 ff'), reason: 'cbor_invalid' },
  'a break after a tag': { body: hex('bf 61 61 c1 ff'), reason: 'cbor_invalid' },
  'reserved additional information': { body: valueOf('1c'), reason: 'cbor_invalid' },
  'a simple value in the wrong form': { body: valueOf('f8 14'), reason: 'cbor_invalid' },
  'bytes after the item': { body: hex('a1 61 61 01 00'), reason: 'cbor_invalid' },
  'ts as NaN': { body: hex('a2 62 7473 f9 7e00 61 61 01'), reason: 'ts_invalid' },
  'ts as array': { body: hex('a2 62 7473 80 61 61 01'), reason: 'ts_invalid' },
  'ts in untagged seconds': { body: encoder.encode({ ts: tsMs / 1000, a: 1 }), reason: 'ts_expired' },
  'a name with a control character': { body: hex('a1 61 00 01'), reason: 'metric_name_invalid' },
  'a device that is no text': { body: encoder.encode({ device: 5, a: 1 }), options: { multiDevice: true }, reason: 'not_a_reading' },
  'a device that is not allowed': { body: encoder.encode({ device: 'd', a: 1 }), options: { multiDevice: true, deviceAllowed: () => false }, reason: 'device_unknown' }
}

for (const [name, { body, options, reason }] of Object.entries(refused)) {
  void t.test(`refused: ${name}`, async (t) => {
    const outcome = new Harness().decode(body, { kind: RecordKind.bodyCbor, ...options })
    t.equal(outcome.stored, 0)
    t.same(outcome.refused.map((refusal) => refusal.reason), [reason], outcome.refused[0]?.detail)
  })
}

void t.test('a bad reading of an array is refused with its own bytes and its device, and the others stay', async (t) => {
  const bad = encoder.encode({ list: [1], device: 'd2' })
  const body = Buffer.concat([hex('84'), encoder.encode({ device: 'd1', a: 1 }), bad, hex('07'), encoder.encode({ device: 'd3', a: 3 })])
  const { rows, refused } = new Harness().decode(body, { multiDevice: true })
  t.same(rows.map((row) => [row.device, row.values.a, row.stamp - stamp]), [['d1', 1, 0], ['d3', 3, 3]])
  t.same(refused.map((refusal) => [refusal.reason, refusal.device, refusal.payload.toString('hex')]), [['value_invalid', 'd2', bad.toString('hex')], ['not_a_reading', '', '07']])
})

void t.test('half floats are those of RFC 8949 appendix D', async (t) => {
  t.same([0x0000, 0x3c00, 0x7bff, 0xc400, 0x0400, 0x0001].map(halfToDouble), [0, 1, 65504, -4, 2 ** -14, 2 ** -24])
  let steps = 0
  for (let bits = 1; bits < 0x7c00; bits++) {
    if (halfToDouble(bits) > halfToDouble(bits - 1) && halfToDouble(bits | 0x8000) === -halfToDouble(bits)) steps++
  }
  t.equal(steps, 0x7c00 - 1, 'each is greater than the one before it')
})

void t.test(`what another encoder writes is decoded bit for bit (seed ${seed})`, async (t) => {
  const harness = new Harness()
  const name = fc.stringMatching(/^[a-z]{1,8}$/).filter((text) => text !== 'ts' && text !== 'values')
  const value = fc.oneof(fc.double().filter((number) => !Object.is(number, -0)), fc.integer(), fc.boolean(), fc.string({ unit: 'grapheme' }))
  try {
    fc.assert(fc.property(fc.array(fc.dictionary(name, value, { minKeys: 1, maxKeys: 30 }), { minLength: 1, maxLength: 5 }), (readings) => {
      const { rows } = harness.decode(encoder.encode(readings))
      return rows.length === readings.length && rows.every((row, i) => sameValues(row.values, readings[i]))
    }), { seed, numRuns: 2000 })
    t.pass()
  } catch (error) {
    t.fail(`TEST_SEED=${seed}: ${(error as Error).message}`)
  }
})

void t.test(`no truncation, changed byte or random bytes throw or leave part of a body (seed ${seed})`, async (t) => {
  const harness = new Harness()
  const scanner = new CborScanner()
  let silent = 0
  const probe = (bytes: Buffer): void => {
    const { rows, refused } = harness.decode(bytes, { kind: RecordKind.bodyCbor, anyTime: true })
    if (rows.length + refused.length === 0) silent++
    const wellFormed = scanner.skip(bytes, 0, bytes.length) === bytes.length
    if (!wellFormed && (rows.length > 0 || refused.length !== 1)) silent++
  }
  for (const { body } of Object.values(stored)) {
    for (let end = 0; end < body.length; end++) probe(body.subarray(0, end))
    for (let place = 0; place < body.length; place++) {
      for (let byte = 0; byte < 256; byte++) {
        const changed = Buffer.from(body)
        changed[place] = byte
        probe(changed)
      }
    }
  }
  try {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 30 }), (bytes) => { probe(Buffer.from(bytes)) }), { seed, numRuns: 20_000 })
  } catch (error) {
    t.fail(`TEST_SEED=${seed}: ${(error as Error).message}`)
  }
  t.equal(silent, 0)
})
