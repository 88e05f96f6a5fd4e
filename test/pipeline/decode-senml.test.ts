/** SenML packs (RFC 8428) in JSON, and the same packs in CBOR: what they resolve to and what refuses them. */
import { Encoder } from 'cbor-x'
import t from 'tap'
import { RecordKind } from '../../src/journal/record.js'
import { Harness, stamp, type Options, type Outcome } from './decode-harness.js'

type Field = number | string | boolean | null | object
type Pack = ReadonlyArray<Record<string, Field>>
const labels: Readonly<Record<string, number>> = { bver: -1, bn: -2, bt: -3, bu: -4, bv: -5, bs: -6, n: 0, u: 1, v: 2, vs: 3, vb: 4, s: 5, t: 6, ut: 7, vd: 8 }
const encoder = new Encoder({ mapsAsObjects: false, useRecords: false, variableMapSize: true })

function toCbor (pack: Pack): Buffer {
  return encoder.encode(pack.map((record) => new Map(Object.entries(record).map(([label, value]) =>
    [Object.hasOwn(labels, label) ? labels[label] : label, label === 'vd' && typeof value === 'string' ? Buffer.from(value, 'base64url') : value]))))
}

/** The pack in both formats, each by its own kind and by content. */
function forms (pack: Pack): ReadonlyArray<readonly [string, Buffer, RecordKind]> {
  const json = Buffer.from(JSON.stringify(pack))
  return [['JSON', json, RecordKind.bodySenmlJson], ['CBOR', toCbor(pack), RecordKind.bodySenmlCbor]]
}

const plain = (outcome: Outcome): unknown => outcome.rows.map(({ device, ts, values }) => ({ device, ts, values: { ...values } }))
const tsS = stamp / 1e6 - 1000
const tsUs = tsS * 1e6

interface Resolved { readonly pack: Pack, readonly options?: Options, readonly rows: ReadonlyArray<{ device?: string, ts?: number, values: Record<string, number | string | boolean> }> }

const resolved: Record<string, Resolved> = {
  'one record without time is a reading at its arrival': { pack: [{ n: 'temperature', u: 'Cel', v: 23.5 }], rows: [{ values: { temperature: 23.5 } }] },
  'the base name stands before every name after it': { pack: [{ bn: 'urn:dev:mac:0024befffe804ff1/', n: 'a', v: 1 }, { n: 'b', v: 2 }, { bn: 'x:', n: 'c', v: 3 }], rows: [{ values: { 'urn:dev:mac:0024befffe804ff1/a': 1, 'urn:dev:mac:0024befffe804ff1/b': 2, 'x:c': 3 } }] },
  'a base name alone names a record': { pack: [{ bn: 'level', v: 4 }], rows: [{ values: { level: 4 } }] },
  'the own id before a name stays in it': { pack: [{ bn: 'own:', n: 'a', v: 1 }], rows: [{ values: { 'own:a': 1 } }] },
  'base time plus time, records of one time are one reading': { pack: [{ bn: 'd:', bt: tsS, n: 'a', v: 1 }, { n: 'b', v: 2 }, { n: 'a', t: 5, v: 3 }, { n: 'b', t: 5, v: 4 }], rows: [{ ts: tsUs, values: { 'd:a': 1, 'd:b': 2 } }, { ts: tsUs + 5e6, values: { 'd:a': 3, 'd:b': 4 } }] },
  'times below 2^28 are relative to the arrival, before and after': { pack: [{ n: 'a', t: -10.5, v: 1 }, { n: 'a', t: 2, v: 2 }, { n: 'a', v: 3 }], rows: [{ ts: stamp - 10.5e6, values: { a: 1 } }, { ts: stamp + 2e6, values: { a: 2 } }, { ts: stamp + 2, values: { a: 3 } }] },
  'a base time may be relative too': { pack: [{ bt: -100, n: 'a', v: 1 }, { n: 'a', t: 40, v: 2 }], rows: [{ ts: stamp - 100e6, values: { a: 1 } }, { ts: stamp - 60e6, values: { a: 2 } }] },
  'microseconds survive': { pack: [{ n: 'a', t: tsS + 0.123456, v: 1 }], rows: [{ ts: tsUs + 123456, values: { a: 1 } }] },
  'the base value is added': { pack: [{ bn: 'd', bv: 20, n: '/a', v: 1.5 }, { n: '/b', v: -1 }], rows: [{ values: { 'd/a': 21.5, 'd/b': 19 } }] },
  'a base value is the value where there is none': { pack: [{ bv: 20, n: 'a' }, { n: 'b', vs: 'x' }], rows: [{ values: { a: 20, b: 'x' } }] },
  'sums are metrics of their own, with the base sum added': { pack: [{ bs: 100, n: 'a', v: 1, s: 5 }, { n: 'b', s: 7 }, { n: 'c', v: 2 }], rows: [{ values: { a: 1, 'a.sum': 105, 'b.sum': 107, c: 2, 'c.sum': 100 } }] },
  'all kinds of values': { pack: [{ n: 'a', v: 1 }, { n: 'b', vs: 'text' }, { n: 'c', vb: false }, { n: 'd', vd: 'aGkgCg' }], rows: [{ values: { a: 1, b: 'text', c: false, d: 'aGkgCg' } }] },
  'records that only set base fields': { pack: [{ bn: 'd:', bt: tsS }, { n: 'a', v: 1 }, { bu: 'A', bver: 10 }], rows: [{ ts: tsUs, values: { 'd:a': 1 } }] },
  'unknown fields are passed over': { pack: [{ n: 'a', v: 1, ct: 'x', extra: [1, { deep: true }] }], rows: [{ values: { a: 1 } }] },
  'update time and units are not kept': { pack: [{ n: 'a', v: 1, ut: 60, u: 'V' }], rows: [{ values: { a: 1 } }] },
  'of two records with one name and time the last wins': { pack: [{ n: 'a', v: 1 }, { n: 'a', vs: 'x' }], rows: [{ values: { a: 'x' } }] },
  'in a multi-device body the name is split at its last slash': { pack: [{ bn: 'd1/', bt: tsS, n: 'a', v: 1 }, { n: 'b', v: 2 }, { bn: 'urn:dev:d2/', n: 'a', v: 3 }], options: { multiDevice: true }, rows: [{ device: 'd1', ts: tsUs, values: { a: 1, b: 2 } }, { device: 'urn:dev:d2', ts: tsUs, values: { a: 3 } }] }
}

for (const [name, { pack, options, rows }] of Object.entries(resolved)) {
  void t.test(`resolved: ${name}`, async (t) => {
    for (const [format, body, kind] of forms(pack)) {
      const harness = new Harness()
      const outcome = harness.decode(body, { ...options, kind })
      t.same(outcome.refused, [], format)
      t.same(plain(outcome), rows.map((row) => ({ device: row.device ?? 'own', ts: row.ts ?? stamp, values: row.values })), format)
      t.same(outcome.rows.map((row) => row.stamp - stamp), rows.map((_, i) => i), `${format}: stamps follow the order of the readings`)
    }
  })
}

interface Refused { readonly pack: Pack, readonly options?: Options, readonly reason: string, readonly names?: RegExp }

const refusedPacks: Record<string, Refused> = {
  'an unknown field that has to be understood': { pack: [{ n: 'a', v: 1 }, { n: 'b', v: 2, quality_: 1 }], reason: 'senml_invalid', names: /record 1.*quality_/ },
  'a version above 10': { pack: [{ bver: 11, n: 'a', v: 1 }], reason: 'senml_invalid', names: /11/ },
  'a record without value': { pack: [{ n: 'a', v: 1 }, { n: 'b' }], reason: 'senml_invalid', names: /record 1/ },
  'an empty record': { pack: [{}], reason: 'senml_invalid' },
  'two values': { pack: [{ n: 'a', v: 1, vs: 'x' }], reason: 'senml_invalid', names: /"v" and "vs"/ },
  'a value of the wrong type': { pack: [{ n: 'a', v: 'x' }], reason: 'senml_invalid', names: /"v"/ },
  'a time that is text': { pack: [{ n: 'a', v: 1, t: 'now' }], reason: 'senml_invalid', names: /"t"/ },
  'a null value': { pack: [{ n: 'a', v: null }], reason: 'senml_invalid' },
  'a name that is a number': { pack: [{ n: 5, v: 1 }], reason: 'senml_invalid' },
  'only base fields': { pack: [{ bn: 'a', bt: 5 }], reason: 'empty' },
  'no record': { pack: [], reason: 'empty' }
}

for (const [name, { pack, reason, names }] of Object.entries(refusedPacks)) {
  void t.test(`refused whole: ${name}`, async (t) => {
    for (const [format, body, kind] of forms(pack)) {
      const { rows, refused } = new Harness().decode(body, { kind })
      t.equal(rows.length, 0, format)
      t.same(refused.map((refusal) => refusal.reason), [reason], format)
      t.same(refused[0].payload, body, `${format}: the payload is the pack as sent`)
      t.match(refused[0].detail, names ?? /./)
    }
  })
}

const refusedReadings: Record<string, Refused> = {
  'a time before the retention': { pack: [{ n: 'x', t: 1e9, v: 1 }], reason: 'ts_expired' },
  'a time too far ahead': { pack: [{ n: 'x', t: 601, v: 1 }], reason: 'ts_future' },
  'a time beyond the year 2255': { pack: [{ n: 'x', t: 1e12, v: 1 }], reason: 'ts_invalid' },
  'no name at all': { pack: [{ t: -1, v: 1 }], reason: 'metric_name_invalid' },
  'a name with a space': { pack: [{ n: 'a b', t: -1, v: 1 }], reason: 'metric_name_invalid', names: /4\.5\.1/ },
  'a name that begins with a dash': { pack: [{ n: '-a', t: -1, v: 1 }], reason: 'metric_name_invalid' },
  'a name of 129 bytes': { pack: [{ n: 'a'.repeat(129), t: -1, v: 1 }], reason: 'metric_name_invalid' },
  'a string that is too long': { pack: [{ n: 'x', t: -1, vs: 'x'.repeat(65537) }], reason: 'string_too_long' },
  '257 metrics at one time': { pack: Array.from({ length: 257 }, (_, i) => ({ n: `m${i}`, t: -1, v: i })), reason: 'too_many_metrics' }
}

for (const [name, { pack, reason, names }] of Object.entries(refusedReadings)) {
  void t.test(`only its reading refused, kept so that it can be replayed: ${name}`, async (t) => {
    for (const [format, body, kind] of forms([{ n: 'good', t: -5, v: 1 }, ...pack, { n: 'good', t: -4, v: 2 }])) {
      const harness = new Harness()
      const { rows, refused } = harness.decode(body, { kind })
      t.same(rows.map((row) => [row.values.good, row.stamp - stamp]), [[1, 0], [2, 2]], format)
      t.same(refused.map((refusal) => refusal.reason), [reason], format)
      t.match(refused[0].detail, names ?? /./)
      const again = harness.decode(refused[0].payload, { kind })
      t.same(again.refused.map((refusal) => [refusal.reason, refusal.payload]), [[reason, refused[0].payload]], `${format}: its payload is a pack that fails in the same way`)
    }
  })
}

void t.test('a refused reading replays to what it would have been, however the time moved on', async (t) => {
  const pack: Pack = [{ bn: 'd1/', bt: -7, bv: 100, bs: 3, n: 'a', v: 1 }, { n: 'b', vs: 'x' }, { n: 'c', vb: true }, { n: 'e', vd: 'aGk' }]
  for (const [format, body, kind] of forms(pack)) {
    const harness = new Harness()
    const { refused } = harness.decode(body, { kind, multiDevice: true, deviceAllowed: () => false })
    t.same(refused.map((refusal) => [refusal.reason, refusal.device]), [['device_unknown', 'd1']], format)
    const replayed = harness.decode(refused[0].payload, { kind, multiDevice: true, stamp: stamp + 3600e6 })
    const direct = harness.decode(body, { kind, multiDevice: true })
    t.same(plain(replayed), plain(direct), format)
    t.same(plain(direct), [{ device: 'd1', ts: stamp - 7e6, values: { a: 101, 'a.sum': 3, b: 'x', 'b.sum': 3, c: true, 'c.sum': 3, e: 'aGk', 'e.sum': 3 } }])
  }
})

void t.test('in a multi-device body a name without device refuses its reading, and one device does not carry another down', async (t) => {
  for (const [format, body, kind] of forms([{ n: 'd1/a', v: 1 }, { n: 'lonely', v: 2 }, { n: 'bad/a', v: 3 }, { n: 'd1/b', v: 4 }])) {
    const { rows, refused } = new Harness().decode(body, { kind, multiDevice: true, deviceAllowed: (device) => device !== 'bad' })
    t.same(rows.map((row) => ({ ...row.values })), [{ a: 1, b: 4 }], format)
    t.same(refused.map((refusal) => [refusal.reason, refusal.device]), [['not_a_reading', ''], ['device_unknown', 'bad']], format)
  }
})

void t.test('packs are known by their content: bn, bt, bu or a text n in the first record, integer keys in CBOR', async (t) => {
  const harness = new Harness()
  for (const body of ['[{"n":"a","v":1}]', '[{"bn":"a","v":1}]', '[{"v":1,"bt":-1,"n":"a"}]', ' [ {"bu":"V","v":1,"\\u006e":"a"} ]', '\ufeff[{"n":"a","v":1}]']) {
    const { rows } = harness.decode(body)
    t.same(rows.map((row) => ({ ...row.values })), [{ a: 1 }], body)
  }
  t.same(harness.decode(toCbor([{ n: 'a', v: 1 }])).rows.map((row) => ({ ...row.values })), [{ a: 1 }])
})

void t.test('what is no pack is refused whole', async (t) => {
  const harness = new Harness()
  for (const [body, reason] of [['{"n":"a","v":1}', 'senml_invalid'], ['[1]', 'senml_invalid'], ['[[]]', 'senml_invalid'], ['[null]', 'senml_invalid'], ['[{"n":"a","v":1}', 'json_invalid'], ['[{"n":"a","v":1}]]', 'json_invalid'], ['', 'json_invalid'], ['[{"n":"a","v":1e999}]', 'value_invalid'], ['[{"n":"\xff"}]', 'json_invalid']]) {
    const { rows, refused } = harness.decode(Buffer.from(body, 'latin1'), { kind: RecordKind.bodySenmlJson })
    t.equal(rows.length, 0)
    t.same(refused.map((refusal) => refusal.reason), [reason], body)
  }
  t.same(harness.decode('[{"n":"a","v":1},{"n":"b","v":2,"must_":1}]').rows, [], 'found by content, and nothing of it is stored')
})

void t.test('no truncation and no changed byte of a pack throws or leaves part of it', async (t) => {
  const harness = new Harness()
  for (const [format, body, kind] of forms([{ bn: 'd:', bt: tsS, bv: 1, n: 'a', v: 1.5 }, { n: 'b', vs: 'é', t: 1 }, { n: 'c', vd: 'aGk' }])) {
    let silent = 0
    for (let end = 0; end < body.length; end++) {
      const { rows, refused } = harness.decode(body.subarray(0, end), { kind })
      if (rows.length > 0 || refused.length !== 1) silent++
    }
    t.equal(silent, 0, `${format}: every truncation is refused whole`)
    for (let place = 0; place < body.length; place++) {
      for (let byte = 0; byte < 256; byte++) {
        const changed = Buffer.from(body)
        changed[place] = byte
        const { rows, refused } = harness.decode(changed, { kind, anyTime: true })
        if (rows.length + refused.length === 0) silent++
      }
    }
    t.equal(silent, 0, `${format}: every changed byte ends in rows or a refusal`)
  }
})
