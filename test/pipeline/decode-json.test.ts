/** JSON bodies: every documented shape and refusal, each on the walker's path and again on the template's. */
import t from 'tap'
import { RecordKind } from '../../src/journal/record.js'
import { Harness, sameValues, stamp, type Options, type Row } from './decode-harness.js'

type Values = Row['values']
interface Stored { readonly body: string, readonly options?: Options, readonly rows: ReadonlyArray<{ ts?: number, device?: string, values: Values }> }

const tsMs = 1_699_999_999_000
const tsUs = tsMs * 1000
const nested = (depth: number): string => '{"a":'.repeat(depth) + '1' + '}'.repeat(depth)

const stored: Record<string, Stored> = {
  'a flat object is a reading at its arrival': { body: '{"temperature":21.3}', rows: [{ ts: stamp, values: { temperature: 21.3 } }] },
  'ts and values': { body: `{"ts":${tsMs},"values":{"a":1,"b":true,"c":"x"}}`, rows: [{ ts: tsUs, values: { a: 1, b: true, c: 'x' } }] },
  'ts beside flat metrics, at any place': { body: `{"a":1,"ts":${tsMs},"b":2}`, rows: [{ ts: tsUs, values: { a: 1, b: 2 } }] },
  'values before ts, with a flat metric between': { body: `{"values":{"a":1},"b":2,"ts":${tsMs}}`, rows: [{ ts: tsUs, values: { a: 1, b: 2 } }] },
  'ts inside values is a metric': { body: `{"ts":${tsMs},"values":{"ts":5,"device":"d"}}`, rows: [{ ts: tsUs, values: { ts: 5, device: 'd' } }] },
  'values that is no object is a metric': { body: '{"values":5}', rows: [{ values: { values: 5 } }] },
  'fractions of a millisecond round to microseconds': { body: `{"ts":${tsMs}.1234,"a":1}`, rows: [{ ts: tsUs + 123, values: { a: 1 } }] },
  'ts with an exponent': { body: '{"ts":1.699999999e12,"a":1}', rows: [{ ts: tsUs, values: { a: 1 } }] },
  'ts as ISO 8601 in UTC': { body: '{"ts":"2023-11-14T22:13:19.123456Z","a":1}', rows: [{ ts: tsUs + 123456, values: { a: 1 } }] },
  'ts as ISO 8601 with an offset': { body: '{"ts":"2023-11-15T03:43:19+05:30","a":1}', rows: [{ ts: tsUs, values: { a: 1 } }] },
  'ts as ISO 8601 without a zone is UTC': { body: '{"ts":"2023-11-14T22:13:19","a":1}', rows: [{ ts: tsUs, values: { a: 1 } }] },
  'ts written with escapes': { body: '{"ts":"2023-11-14\\u005422:13:19Z","a":1}', rows: [{ ts: tsUs, values: { a: 1 } }] },
  'ts null is no ts': { body: '{"ts":null,"a":1}', rows: [{ ts: stamp, values: { a: 1 } }] },
  'the last ts wins': { body: `{"ts":5,"a":1,"ts":${tsMs}}`, rows: [{ ts: tsUs, values: { a: 1 } }] },
  'nested objects flatten with dots': { body: '{"gps":{"lat":1.5,"fix":{"ok":true}},"v":2}', rows: [{ values: { 'gps.lat': 1.5, 'gps.fix.ok': true, v: 2 } }] },
  'ten levels of objects': { body: nested(10), rows: [{ values: { 'a.a.a.a.a.a.a.a.a.a': 1 } }] },
  'null is no value': { body: '{"a":null,"b":1,"c":null}', rows: [{ values: { b: 1 } }] },
  'of two members of one name the last wins': { body: '{"a":1,"b":2,"a":"x"}', rows: [{ values: { a: 'x', b: 2 } }] },
  'a null after a value takes it back': { body: '{"a":1,"b":2,"a":null,"c":3}', rows: [{ values: { b: 2, c: 3 } }] },
  'a value after a null counts': { body: '{"a":null,"a":7}', rows: [{ values: { a: 7 } }] },
  'names that flatten to one are one': { body: '{"a":{"b":1},"a.b":2}', rows: [{ values: { 'a.b': 2 } }] },
  'minus zero stays minus zero': { body: '{"a":-0,"b":-0.0,"c":-0e5}', rows: [{ values: { a: -0, b: -0, c: -0 } }] },
  'escapes in names and strings': { body: '{"t\\u00e9\\n\\ud83d\\ude00":1}'.replace('\\n', ''), rows: [{ values: { 'té😀': 1 } }] },
  'strings with escapes and UTF-8': { body: '{"a":"x\\"\\\\\\/\\b\\n\\u20ac€😀"}', rows: [{ values: { a: 'x"\\/\b\n€€😀' } }] },
  'an empty string is a value': { body: '{"a":""}', rows: [{ values: { a: '' } }] },
  'a name that objects have already': { body: '{"__proto__":1,"constructor":2}', rows: [{ values: JSON.parse('{"__proto__":1,"constructor":2}') as Values }] },
  'a byte order mark is passed over': { body: '\ufeff{"a":1}', rows: [{ values: { a: 1 } }] },
  'white space of all kinds': { body: ' \t\r\n{ "a" :\t1 ,\n"b"\r:2 }\n ', rows: [{ values: { a: 1, b: 2 } }] },
  'in a device body `device` is a metric': { body: '{"device":"pump","a":1}', rows: [{ values: { device: 'pump', a: 1 } }] },
  'array elements without ts get microseconds of their own': { body: '[{"a":1},{"a":2},{"b":3}]', rows: [{ ts: stamp, values: { a: 1 } }, { ts: stamp + 1, values: { a: 2 } }, { ts: stamp + 2, values: { b: 3 } }] },
  'arrays mix shapes': { body: `[{"ts":${tsMs},"values":{"a":1}},{"a":2}]`, rows: [{ ts: tsUs, values: { a: 1 } }, { ts: stamp + 1, values: { a: 2 } }] },
  'an array element with a number `n` is a reading': { body: '[{"n":5,"v":1}]', rows: [{ values: { n: 5, v: 1 } }] },
  'a single object with SenML names is a reading': { body: '{"n":"x","v":1}', rows: [{ values: { n: 'x', v: 1 } }] },
  'device at the start of a multi-device reading': { body: `[{"device":"d1","ts":${tsMs},"a":1},{"device":"d2","values":{"a":2}}]`, options: { multiDevice: true }, rows: [{ device: 'd1', ts: tsUs, values: { a: 1 } }, { device: 'd2', ts: stamp + 1, values: { a: 2 } }] },
  'device at the end of a multi-device reading': { body: '{"a":1,"device":"d1"}', options: { multiDevice: true }, rows: [{ device: 'd1', values: { a: 1 } }] },
  'device written with escapes': { body: '{"a":1,"device":"d\\u0031"}', options: { multiDevice: true }, rows: [{ device: 'd1', values: { a: 1 } }] },
  'NDJSON, blank lines and CRLF': { body: '{"a":1}\r\n\r\n  \n{"a":2}\n', options: { kind: RecordKind.bodyNdjson }, rows: [{ ts: stamp, values: { a: 1 } }, { ts: stamp + 1, values: { a: 2 } }] },
  'NDJSON without a last line end, and a line that is an array': { body: '[{"a":1},{"a":2}]\n{"a":3}', options: { kind: RecordKind.bodyNdjson }, rows: [{ ts: stamp, values: { a: 1 } }, { ts: stamp + 1, values: { a: 2 } }, { ts: stamp + 2, values: { a: 3 } }] }
}

for (const [name, { body, options, rows }] of Object.entries(stored)) {
  void t.test(`stored: ${name}`, async (t) => {
    const harness = new Harness()
    for (const pass of ['walked', 'predicted', 'predicted again']) {
      const outcome = harness.decode(body, options)
      t.same(outcome.refused, [], `${pass}: nothing refused`)
      t.equal(outcome.rows.length, rows.length, `${pass}: rows`)
      rows.forEach((row, i) => {
        const actual = outcome.rows[i]
        t.ok(sameValues(actual.values, row.values), `${pass}: values of row ${i}`, { found: actual.values })
        t.equal(actual.ts, row.ts ?? stamp, `${pass}: ts of row ${i}`)
        t.equal(actual.stamp, stamp + i, `${pass}: stamp of row ${i}`)
        t.equal(actual.device, row.device ?? 'own', `${pass}: device of row ${i}`)
      })
    }
  })
}

interface Refused { readonly body: string | Buffer, readonly options?: Options, readonly reason: string, readonly names?: RegExp }
const many = (count: number): string => `{${Array.from({ length: count }, (_, i) => `"m${i}":${i}`).join(',')}}`

const refused: Record<string, Refused> = {
  'an empty body': { body: '', reason: 'empty' },
  'only white space': { body: ' \n ', reason: 'empty' },
  'an empty object': { body: '{}', reason: 'empty' },
  'only nulls': { body: '{"a":null}', reason: 'empty' },
  'empty values': { body: `{"ts":${tsMs},"values":{}}`, reason: 'empty' },
  'empty nested objects': { body: '{"a":{"b":{}}}', reason: 'empty' },
  'an empty array': { body: '[]', reason: 'empty' },
  'NDJSON without a line': { body: '\n \r\n', options: { kind: RecordKind.bodyNdjson }, reason: 'empty' },
  'a bare number': { body: '21.5', reason: 'not_a_reading' },
  'a bare word': { body: 'hello', reason: 'not_a_reading' },
  'an array of numbers': { body: '[1]', reason: 'not_a_reading' },
  'an array of arrays': { body: '[[{"a":1}]]', reason: 'not_a_reading' },
  'an array as value': { body: '{"a":1,"list":[1,2]}', reason: 'value_invalid', names: /"list"/ },
  'an array in a nested object': { body: '{"a":{"list":[]}}', reason: 'value_invalid', names: /"a\.list"/ },
  'a number beyond a double': { body: '{"big":1e999}', reason: 'value_invalid', names: /"big"/ },
  'a negative number beyond a double': { body: '{"big":-1e309}', reason: 'value_invalid', names: /"big"/ },
  'half of a surrogate pair in a string': { body: '{"a":"x\\ud800"}', reason: 'value_invalid', names: /"a"/ },
  'half of a surrogate pair in a name': { body: '{"\\udc00":1}', reason: 'metric_name_invalid' },
  'an empty name': { body: '{"":1}', reason: 'metric_name_invalid' },
  'a name with a line feed': { body: '{"a\\nb":1}', reason: 'metric_name_invalid' },
  'a name with NUL': { body: '{"a\\u0000":1}', reason: 'metric_name_invalid' },
  'a name of 129 bytes': { body: `{"${'n'.repeat(129)}":1}`, reason: 'metric_name_invalid', names: /128 bytes/ },
  'a name of 65 two-byte characters': { body: `{"${'é'.repeat(65)}":1}`, reason: 'metric_name_invalid' },
  'a flattened name of 129 bytes': { body: `{"${'n'.repeat(64)}":{"${'n'.repeat(64)}":1}}`, reason: 'metric_name_invalid' },
  'a string of 65,537 bytes': { body: `{"a":"${'x'.repeat(65537)}"}`, reason: 'string_too_long', names: /"a"/ },
  'a string of 65,538 bytes in two-byte characters': { body: `{"a":"${'é'.repeat(32769)}"}`, reason: 'string_too_long' },
  '257 metrics': { body: many(257), reason: 'too_many_metrics', names: /256/ },
  'eleven levels of objects': { body: nested(11), reason: 'too_deep', names: /10 objects/ },
  'a million levels of objects': { body: nested(1e6), reason: 'too_deep' },
  'ts in seconds': { body: '{"ts":1699999999,"a":1}', reason: 'ts_expired', names: /milliseconds/ },
  'ts older than the retention': { body: `{"ts":${(stamp - 30 * 86400e6) / 1000 - 1},"a":1}`, reason: 'ts_expired' },
  'ts too far ahead': { body: `{"ts":${(stamp + 600e6) / 1000 + 1},"a":1}`, reason: 'ts_future' },
  'ts below zero': { body: '{"ts":-1,"a":1}', reason: 'ts_invalid' },
  'ts beyond the year 2255': { body: '{"ts":1e15,"a":1}', reason: 'ts_invalid' },
  'ts beyond a double': { body: '{"ts":1e999,"a":1}', reason: 'ts_invalid' },
  'ts as digits in a string': { body: `{"ts":"${tsMs}","a":1}`, reason: 'ts_invalid' },
  'ts of no calendar day': { body: '{"ts":"2023-02-29T00:00:00Z","a":1}', reason: 'ts_invalid' },
  'ts true': { body: '{"ts":true,"a":1}', reason: 'ts_invalid' },
  'ts as object': { body: '{"ts":{},"a":1}', reason: 'ts_invalid' },
  'a multi-device reading without device': { body: '{"a":1}', options: { multiDevice: true }, reason: 'not_a_reading', names: /"device"/ },
  'a device that is no string': { body: '{"device":5,"a":1}', options: { multiDevice: true }, reason: 'not_a_reading' },
  'a device that is no id': { body: '{"device":"a/b","a":1}', options: { multiDevice: true }, reason: 'device_unknown' },
  'an empty device': { body: '{"device":"","a":1}', options: { multiDevice: true }, reason: 'device_unknown' },
  'a device that is not allowed': { body: '{"device":"other","a":1}', options: { multiDevice: true, deviceAllowed: () => false }, reason: 'device_unknown', names: /"other"/ },
  'a mark record': { body: '{"a":1}', options: { kind: RecordKind.mark }, reason: 'not_a_reading' }
}

for (const [name, { body, options, reason, names }] of Object.entries(refused)) {
  void t.test(`refused: ${name}`, async (t) => {
    const harness = new Harness()
    harness.decode('[{"a":1,"ts":1699999999000},{"big":1},{"a":"x"},{"m0":0}]')
    harness.decode('[{"device":"d","a":1}]', { multiDevice: true })
    for (const pass of [1, 2]) {
      const outcome = harness.decode(body, options)
      t.equal(outcome.stored, 0, `pass ${pass}: nothing stored`)
      t.equal(outcome.refused.length, 1, `pass ${pass}: one refusal`)
      t.equal(outcome.refused[0].reason, reason, outcome.refused[0].detail)
      t.match(outcome.refused[0].detail, names ?? /./)
    }
  })
}

void t.test('limits are reached, not just passed: the largest legal reading is stored', async (t) => {
  const harness = new Harness()
  t.equal(harness.decode(many(256)).stored, 1)
  t.equal(harness.decode(many(256)).stored, 1, 'predicted')
  t.equal(harness.decode(`{"${'n'.repeat(128)}":1}`).stored, 1)
  for (const pass of [1, 2]) t.equal(harness.decode(`{"a":"${'x'.repeat(65536)}"}`).stored, 1, `pass ${pass}`)
  t.equal(harness.decode(`{"a":"${'x'.repeat(65537)}"}`).stored, 0, 'one byte more, against the learned template')
})

void t.test('a bad reading of an array is refused with its own bytes and the others stay', async (t) => {
  const harness = new Harness()
  const body = ' [ {"a":1} , {"a":[1]} , 7 , {"ts":5,"a":2},{"a":3}]'
  for (const pass of [1, 2]) {
    const { rows, refused } = harness.decode(body)
    t.same(rows.map((row) => [row.values.a, row.ts - stamp, row.stamp - stamp]), [[1, 0, 0], [3, 4, 4]], `pass ${pass}`)
    t.same(refused.map((refusal) => [refusal.reason, refusal.payload.toString()]), [['value_invalid', '{"a":[1]}'], ['not_a_reading', '7'], ['ts_expired', '{"ts":5,"a":2}']], `pass ${pass}`)
  }
})

void t.test('a broken array is refused whole, once, with nothing of it stored and no bad element reported apart', async (t) => {
  const harness = new Harness()
  for (const body of ['[{"a":1},{"a":[1]},{"a":2}', '[{"a":1},{"a":[1]},{"a":2}]x', '[{"a":[]},{"a":2}}', '[{"a":1},]', '[{"a":1} {"a":2}]', '[7,{"a":tru}]']) {
    for (const pass of [1, 2]) {
      const { rows, refused } = harness.decode(body)
      t.equal(rows.length, 0, `${body}, pass ${pass}`)
      t.same(refused.map((refusal) => [refusal.reason, refusal.payload.toString()]), [['json_invalid', body]], `pass ${pass}`)
    }
  }
})

void t.test('a broken line of NDJSON is refused alone', async (t) => {
  const harness = new Harness()
  for (const pass of [1, 2]) {
    const { rows, refused } = harness.decode('{"a":1}\n{"a":2\n[{"a":3},{"a":]\n{"a":4}\n', { kind: RecordKind.bodyNdjson })
    t.same(rows.map((row) => [row.values.a, row.ts - stamp]), [[1, 0], [4, 3]], `pass ${pass}`)
    t.same(refused.map((refusal) => [refusal.reason, refusal.payload.toString()]), [['json_invalid', '{"a":2'], ['json_invalid', '[{"a":3},{"a":]']])
  }
})

void t.test('a refusal in a multi-device body names the device wherever it stands in the reading', async (t) => {
  const harness = new Harness()
  const { refused } = harness.decode('[{"device":"d1","a":[]},{"a":[],"x":{"device":"no"},"device":"d2"},{"a":[]},{"device":"d3","ts":1,"a":2}]', { multiDevice: true })
  t.same(refused.map((refusal) => refusal.device), ['d1', 'd2', '', 'd3'])
})

void t.test('a device is asked for once per run of its readings, and a forbidden one refuses only its own', async (t) => {
  const harness = new Harness()
  const asked: string[] = []
  const body = '[{"device":"d1","a":1},{"device":"d1","a":2},{"device":"bad","a":3},{"device":"d1","a":4}]'
  for (const pass of [1, 2]) {
    asked.length = 0
    const { rows, refused } = harness.decode(body, { multiDevice: true, deviceAllowed: (device) => { asked.push(device); return device !== 'bad' } })
    t.same(rows.map((row) => row.values.a), [1, 2, 4], `pass ${pass}`)
    t.same(refused.map((refusal) => [refusal.reason, refusal.device]), [['device_unknown', 'bad']])
    t.same([...new Set(asked)], ['d1', 'bad'])
  }
})

void t.test('readings without ts of one device never share a timestamp within a slice', async (t) => {
  const harness = new Harness()
  const lastUnstamped = new Map<number, number>()
  const seen = new Set<number>()
  const note = (outcome: { rows: Row[] }): void => {
    for (const row of outcome.rows) {
      t.notOk(seen.has(row.ts), `ts ${row.ts - stamp} is new`)
      seen.add(row.ts)
    }
  }
  note(harness.decode('[{"a":1},{"a":2},{"a":3}]', { lastUnstamped }))
  note(harness.append('{"a":4}', { lastUnstamped, stamp: stamp + 1 }))
  note(harness.append('[{"a":5},{"a":6}]', { lastUnstamped, stamp: stamp + 2 }))
  note(harness.append('{"a":7}', { lastUnstamped, stamp: stamp + 100 }))
  t.equal(seen.size, 7)
  t.ok(seen.has(stamp + 100), 'later readings keep their arrival')
  t.equal(harness.append('[{"a":8},{"a":9}', { lastUnstamped, stamp: stamp + 200 }).stored, 0)
  t.equal(harness.append('{"a":8}', { lastUnstamped, stamp: stamp + 201 }).rows[0].ts, stamp + 201, 'a broken array takes no timestamps')
})

void t.test('a template gives way when the same keys carry other types, nulls or another order', async (t) => {
  const harness = new Harness()
  const bodies = ['{"a":1,"b":2}', '{"a":true,"b":2}', '{"a":"x","b":2}', '{"a":null,"b":2}', '{"b":2,"a":1}', '{"a":1,"b":2,"c":3}', '{"a":1}', '{"a":{"b":1},"b":2}', '{"a":1, "b":2}', '{"a":"1","b":2}']
  for (let round = 0; round < 3; round++) {
    for (const body of bodies) {
      const expected = body.includes('{"b":1}') ? { 'a.b': 1, b: 2 } : body.includes('null') ? { b: 2 } : JSON.parse(body) as Values
      t.ok(sameValues(harness.decode(body).rows[0].values, expected), `${body}, round ${round}`)
    }
  }
})

void t.test('an array whose first element looks like SenML is a pack, also after readings that look like it', async (t) => {
  const harness = new Harness()
  harness.decode('[{"a":1},{"n":"x","v":1},{"n":"x","v":1}]')
  const { rows } = harness.decode('[{"n":"x","v":1}]')
  t.same(rows.map((row) => ({ ...row.values })), [{ x: 1 }])
  t.same(harness.decode('{"n":"x","v":1}').rows.map((row) => ({ ...row.values })), [{ n: 'x', v: 1 }])
})

void t.test('a plain Uint8Array that begins inside its memory is read at its own offsets', async (t) => {
  const harness = new Harness()
  harness.decode('{"a":5}')
  const memory = new TextEncoder().encode('{"x":9}{"a":7}{"x":9}')
  const stored = harness.decoder.decode(RecordKind.bodyAuto, memory.subarray(5), 2, 9, {
    table: harness.table, tenant: 't', device: 'own', deviceNumber: 0, multiDevice: false, stamp, oldestTs: 0, newestTs: Infinity,
    lastUnstamped: new Map(), refuse: (reason) => { t.fail(reason) }, deviceAllowed: () => true
  })
  t.equal(stored, 1)
  t.same({ ...harness.rows(1)[0].values }, { a: 7 })
})

void t.test('templates of device bodies and multi-device bodies are kept apart', async (t) => {
  const harness = new Harness()
  const body = '{"device":"d1","a":1}'
  for (let round = 0; round < 3; round++) {
    t.same(harness.decode(body).rows[0].device, 'own')
    t.same(harness.decode(body, { multiDevice: true }).rows[0].device, 'd1')
  }
})

void t.test('names that the table forgets are learned again, and none is mixed up', async (t) => {
  const harness = new Harness()
  for (let round = 0; round < 4; round++) {
    t.ok(sameValues(harness.decode('{"a":1,"b":2}').rows[0].values, { a: 1, b: 2 }))
    harness.table.forgetNames()
    t.ok(sameValues(harness.decode('{"b":1,"c":2}').rows[0].values, { b: 1, c: 2 }))
  }
})

void t.test('more shapes than there are templates are all decoded right', async (t) => {
  const harness = new Harness()
  for (let round = 0; round < 2; round++) {
    let wrong = 0
    for (let i = 0; i < 5000; i++) {
      const { rows } = harness.decode(`{"ts":${tsMs},"values":{"a":${i},"m${i}":${i + 0.5}}}`)
      if (!sameValues(rows[0].values, { a: i, [`m${i}`]: i + 0.5 })) wrong++
    }
    t.equal(wrong, 0)
  }
})
