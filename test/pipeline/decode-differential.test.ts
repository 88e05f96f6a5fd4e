/** Random and hostile JSON, against JSON.parse and a plain reading of the rules. The seed is printed when it fails. */
import fc from 'fast-check'
import t from 'tap'
import { Harness, sameValues, stamp, type Row } from './decode-harness.js'
import { JsonScanner } from '../../src/pipeline/decode/json-scan.js'
import { readNumber } from '../../src/pipeline/decode/number.js'
import { timestampFromIso } from '../../src/pipeline/decode/timestamp.js'

type Values = Row['values']
const seed = Number(process.env.TEST_SEED ?? Math.floor(Math.random() * 2 ** 31))
const check = <T>(property: fc.IProperty<T> | fc.IPropertyWithHooks<T>, runs: number): void => { fc.assert(property as fc.IProperty<T>, { seed, numRuns: runs }) }

/** Test body with the seed in the failure. */
function seeded (t: { pass(): unknown, fail(message: string): unknown }, work: () => void): void {
  try {
    work()
    t.pass()
  } catch (error) {
    t.fail(`TEST_SEED=${seed}: ${(error as Error).message}`)
  }
}

/** `JSON.parse`, or undefined where it throws; invalid UTF-8 is no JSON. */
function parse (bytes: Buffer): { value: unknown } | undefined {
  try {
    return { value: JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)) }
  } catch {
    return undefined
  }
}

function flatten (object: Record<string, unknown>, prefix: string, into: Values): void {
  for (const [key, value] of Object.entries(object)) {
    if (typeof value === 'object' && value !== null) flatten(value as Record<string, unknown>, `${prefix}${key}.`, into)
    else if (value !== null) into[prefix + key] = value as string
  }
}

void t.test(`numbers are bit for bit those of JSON.parse (seed ${seed})`, async (t) => {
  const out = new Float64Array(1)
  const agrees = (text: string): boolean => {
    const bytes = Buffer.from(`${text},`)
    const parsed = parse(bytes.subarray(0, -1))
    const end = readNumber(bytes, 0, out, 0)
    if (parsed === undefined || typeof parsed.value !== 'number') return end !== text.length
    return Number.isFinite(parsed.value) ? end === text.length && Object.is(out[0], parsed.value) : end === -1
  }
  for (const text of ['0', '-0', '-0.0', '0e0', '-0e-400', '9007199254740991', '9007199254740992', '9007199254740993', '900719925474099.3', '0.1', '1e22', '1e23', '123456789012345e22', '4.9e-324', '2.4703282292062327e-324',
    '1.7976931348623157e308', '1.7976931348623159e308', '1e-400', '0.000000000000000000000001', '1.00000000000000000000000000000000001', `1${'0'.repeat(400)}`, `0.${'0'.repeat(400)}1`, `${'1'.repeat(300)}e-300`, '1e00005', '1E+5', '1e99999999999999999999', '0e99999999999999999999',
    '', '-', '+1', '01', '-01', '.5', '5.', '1e', '1e+', '1.e5', '0x1', 'NaN', 'Infinity', '-Infinity', '--1', '1_000', '1e5.5']) {
    t.ok(agrees(text), `'${text.slice(0, 40)}'`)
  }
  seeded(t, () => {
    check(fc.property(fc.double({ noNaN: true, noDefaultInfinity: true }), (value) => agrees(JSON.stringify(value)) && agrees(value.toExponential()) && agrees(value.toPrecision(17))), 20_000)
    const digit = fc.stringMatching(/^[0-9]{1,20}$/)
    check(fc.property(fc.constantFrom('', '-'), digit, fc.option(digit), fc.option(fc.tuple(fc.constantFrom('e', 'E', 'e+', 'e-', 'E-'), fc.integer({ min: 0, max: 340 }))),
      (sign, whole, fraction, exponent) => agrees(sign + whole + (fraction === null ? '' : `.${fraction}`) + (exponent === null ? '' : exponent.join('')))), 20_000)
  })
})

void t.test(`the scanner takes exactly what JSON.parse takes (seed ${seed})`, async (t) => {
  const scanner = new JsonScanner()
  const agrees = (bytes: Buffer): boolean => {
    const end = scanner.skip(bytes, 0, bytes.length)
    const rest = end === -1 ? 'x' : bytes.toString('latin1', end)
    return (end !== -1 && /^[ \t\r\n]*$/.test(rest)) === (parse(bytes) !== undefined)
  }
  const pieces = ['{', '}', '[', ']', ',', ':', '"a"', '"', '1', '-', '0', '.', 'e', 'true', 'false', 'null', 'nul', ' ', '\n', '\\', '\\u00e9', '\\ud800', '\\x', '\u0001', 'é', '😀', '1.5', '1e5', '01', '\u00a0', '\ufeff']
  seeded(t, () => {
    check(fc.property(fc.array(fc.constantFrom(...pieces), { maxLength: 12 }), (parts) => agrees(Buffer.from(parts.join('')))), 30_000)
    check(fc.property(fc.json(), (text) => agrees(Buffer.from(text))), 3_000)
    check(fc.property(fc.json(), fc.nat(), fc.integer({ min: 0, max: 255 }), (text, place, byte) => {
      const bytes = Buffer.from(text)
      bytes[place % bytes.length] = byte
      return agrees(bytes)
    }), 20_000)
    check(fc.property(fc.uint8Array({ maxLength: 6 }), (inside) => agrees(Buffer.concat([Buffer.from('"'), inside, Buffer.from('"')]))), 20_000)
    // Continuation bytes and lead bytes are rare among random ones.
    const utf8Byte = fc.constantFrom(0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1, 0xec, 0xed, 0xee, 0xef, 0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xff)
    check(fc.property(fc.array(utf8Byte, { maxLength: 5 }), (inside) => agrees(Buffer.from([0x22, ...inside, 0x22]))), 40_000)
  })
})

const name = fc.oneof(fc.constantFrom('a', 'b', 'temperature', 'n', 'values', '__proto__', 'toString'), fc.string({ minLength: 1, maxLength: 12, unit: 'grapheme' }))
  .filter((text) => text !== 'ts' && !text.includes('.') && Buffer.byteLength(text) <= 30 && !/[\u0000-\u001f\u007f-\u009f]|\p{Surrogate}/u.test(text))
// JSON.stringify writes -0 as 0; minus zero has tests of its own.
const scalar = fc.oneof(fc.double({ noNaN: true, noDefaultInfinity: true }).filter((number) => !Object.is(number, -0)), fc.integer(), fc.integer().map((n) => n / 100), fc.boolean(), fc.string({ unit: 'grapheme' }), fc.constant(null), fc.constantFrom('ok', 'idle', '-', ''))
const members = fc.dictionary(name, fc.oneof({ depthSize: 'small' }, scalar, fc.dictionary(name, scalar, { maxKeys: 3 })), { maxKeys: 8 })
const ts = fc.option(fc.integer({ min: stamp / 1000 - 86400e3, max: stamp / 1000 }))

void t.test(`readings hold what JSON.parse finds, on the walker's and the template's path (seed ${seed})`, async (t) => {
  const harness = new Harness()
  const expected = (reading: Record<string, unknown>): Values => {
    const values = Object.create(null) as Values
    const { ts: _ts, values: inner, ...rest } = reading
    const isObject = typeof inner === 'object' && inner !== null
    flatten(isObject ? rest : { ...rest, ...(inner === undefined ? {} : { values: inner }) }, '', values)
    if (isObject) flatten(inner as Record<string, unknown>, '', values)
    return values
  }
  seeded(t, () => {
    check(fc.property(fc.array(fc.tuple(members, ts), { minLength: 1, maxLength: 6 }), fc.boolean(), fc.nat({ max: 3 }), (list, wrapped, indent) => {
      const readings = list.map(([values, at]) => ({ ...(at === null ? {} : { ts: at }), ...(wrapped ? { values } : values) } as Record<string, unknown>))
        // Where one name comes from two places, the order in the text decides; that has tests of its own.
        .map((reading) => (typeof reading.values === 'object' && !wrapped ? { ...reading, values: 1 } : reading))
      const bodies = [...readings.map((reading) => [reading]), readings]
      for (const body of bodies) {
        if (typeof body[0].n === 'string' || body.some((reading) => Object.keys(expected(reading)).length === 0)) continue
        for (const text of [JSON.stringify(body, null, indent), JSON.stringify(body, null, indent)]) {
          const { rows, refused } = harness.decode(text)
          if (refused.length > 0) throw new Error(`${refused[0].reason} ${refused[0].detail} of ${text}`)
          body.forEach((reading, i) => {
            if (!sameValues(rows[i].values, expected(reading))) throw new Error(`row ${i} of ${text} is ${JSON.stringify(rows[i].values)}`)
            if (rows[i].ts !== (reading.ts === undefined ? stamp + i : (reading.ts as number) * 1000)) throw new Error(`ts of row ${i} of ${text}`)
          })
        }
      }
    }), 2_000)
  })
})

const samples = [
  '{"m0":21.37,"m1":-5,"m2":0.001,"m3":1e3}',
  '{"ts":1699999999000,"values":{"a":1,"b":true,"s":"idle"}}',
  '{"ts":"2023-11-14T22:13:19.5+01:00","on":false,"gps":{"lat":1.5}}',
  '{"gps":{"lat":1.5},"ok":true}',
  '{"values":{"a":{"b":"x"}}}',
  '[{"a":1},{"a":2,"b":null},{"a":[1]},{"é":"x\\u00e9\\n"}]',
  '[{"bn":"urn:dev:1:","bt":1.6e9,"n":"t","v":1},{"n":"h","vs":"x"}]',
  '{"a":1}\n{"a":2}\n'
]

void t.test(`no truncation and no changed byte of a body throws, goes past its bounds or leaves part of a reading (seed ${seed})`, async (t) => {
  const harness = new Harness()
  const valid = (bytes: Buffer): boolean => parse(bytes[0] === 0xef ? bytes.subarray(3) : bytes) !== undefined
  let cases = 0
  const probe = (bytes: Buffer, kind: 2 | 3, after?: Buffer): void => {
    cases++
    const outcome = harness.decode(bytes, { kind, after })
    if (outcome.stored === 0 && outcome.refused.length === 0) throw new Error(`nothing stored and nothing refused of ${bytes.toString()}`)
    if (kind === 2 && outcome.stored > 0 && !valid(bytes)) throw new Error(`no JSON, and stored: ${bytes.toString()}`)
    const invalid = outcome.refused.some((refusal) => refusal.reason === 'json_invalid')
    if (kind === 2 && invalid && valid(bytes)) throw new Error(`refused as no JSON: ${bytes.toString()}`)
  }
  seeded(t, () => {
    for (const sample of samples) {
      const kind = sample.includes('\n') ? 3 : 2
      const bytes = Buffer.from(sample)
      for (let end = 0; end <= bytes.length; end++) {
        harness.decode(bytes, { kind })
        probe(bytes.subarray(0, end), kind)
        probe(bytes.subarray(0, end), kind, bytes.subarray(end))
      }
      for (let place = 0; place < bytes.length; place++) {
        for (const byte of [...Buffer.from('{}[],:"\\0-9.eE+tfn \n\0'), 0x80, 0xff, 0xc3]) {
          const changed = Buffer.from(bytes)
          changed[place] = byte
          harness.decode(bytes, { kind })
          probe(changed, kind)
        }
      }
    }
    check(fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => { harness.decode(Buffer.from(bytes)) }), 5_000)
  })
  t.ok(cases > 4000, `${cases} bodies`)
})

void t.test('a hundred thousand open brackets end as a refusal, not as a stack overflow', async (t) => {
  const harness = new Harness()
  const deep = 100_000
  for (const [body, reason] of [
    ['['.repeat(deep), 'json_invalid'], ['{"a":'.repeat(deep), 'json_invalid'], ['['.repeat(deep) + ']'.repeat(deep), 'not_a_reading'],
    [`{"a":${'['.repeat(deep)}${']'.repeat(deep)}}`, 'value_invalid'], [`[{"b":1},{"a":${'['.repeat(deep)}${']'.repeat(deep)}}]`, 'value_invalid'], [`[${'{"bn":'.repeat(deep)}1${'}'.repeat(deep)}]`, 'senml_invalid']
  ]) {
    const { refused } = harness.decode(body)
    t.same(refused.map((refusal) => refusal.reason), [reason])
  }
  t.equal(harness.decode(`[{"b":1},{"a":${'['.repeat(deep)}${']'.repeat(deep)}}]`).stored, 1, 'the good reading beside it stays')
})

void t.test(`ISO 8601 timestamps are those of Date, with microseconds (seed ${seed})`, async (t) => {
  const read = (text: string): number => timestampFromIso(Buffer.from(text), 0, Buffer.byteLength(text))
  seeded(t, () => {
    check(fc.property(fc.integer({ min: 0, max: 9e12 }), fc.integer({ min: 0, max: 999 }), (ms, us) => {
      const iso = new Date(ms).toISOString()
      return read(iso) === ms * 1000 && read(`${iso.slice(0, -1)}${String(us).padStart(3, '0')}Z`) === ms * 1000 + us && read(iso.slice(0, 10)) === Date.parse(iso.slice(0, 10)) * 1000
    }), 5_000)
    check(fc.property(fc.integer({ min: 86400e3, max: 9e12 }), fc.integer({ min: -23 * 60, max: 23 * 60 }), (ms, minutes) => {
      const size = Math.abs(minutes)
      const offset = `${minutes < 0 ? '-' : '+'}${String(Math.floor(size / 60)).padStart(2, '0')}:${String(size % 60).padStart(2, '0')}`
      return read(new Date(ms + minutes * 60e3).toISOString().slice(0, -1) + offset) === ms * 1000
    }), 5_000)
  })
  t.equal(read('2023-11-14 22:13:20.0000005z'), stamp + 1, 'a space, lower case, half a microsecond')
  t.equal(read('2023-11-14T22:13:20,5+0000'), stamp + 500000, 'a comma, an offset without colon')
  t.equal(read('2023-11-14T22:13'), stamp - 20e6, 'no seconds')
  t.equal(read('2024-02-29'), Date.UTC(2024, 1, 29) * 1000, 'a leap day')
  for (const text of ['', '2023', '2023-11', '2023-13-01', '2023-00-10', '2023-04-31', '1900-02-29', '2100-02-29', '2023-11-14T', '2023-11-14T24:00:00Z', '2023-11-14T22:60:00Z', '2023-11-14T22:13:60Z', '2023-11-14T22:13:20.Z',
    '2023-11-14T22:13:20.1234567890Z', '2023-11-14T22:13:20ZZ', '2023-11-14T22:13:20+24:00', '2023-11-14T22:13:20+1:00', '2023-11-14T22:13:20+01:60', '2023/11/14', '1969-12-31T23:59:59Z', '2300-01-01', '+2023-11-14', '2023-11-14x22:13:20', '2023-11-14T22-13']) {
    t.ok(Number.isNaN(read(text)), `'${text}'`)
  }
})
