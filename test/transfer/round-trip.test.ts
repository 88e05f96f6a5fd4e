/** What is exported and imported again is the same, point by point and bit by bit; what is malformed is refused row by row. */
import { gzipSync } from 'node:zlib'
import fc from 'fast-check'
import t from 'tap'
import { TransferWorld } from './transfer-world.js'

t.setTimeout(300_000)

const baseUs = Date.UTC(2024, 4, 31, 23, 50) * 1000
const numbers = [0, -0, NaN, Infinity, -Infinity, 5e-324, Number.MAX_VALUE, 2 ** 53, 0.1 + 0.2, 1e21, 1e-7, -123.456]
const texts = ['', ' ', '5', 'true', 'NaN', '"', 'a,b', 'line\nbreak', '\r\n', 'é💧', "'; drop", '=1+1', '0x10', 'null', '\\N', 'x'.repeat(5000)]
const value = fc.oneof(fc.constantFrom(...numbers), fc.double(), fc.boolean(), fc.constantFrom(...texts), fc.string({ maxLength: 20 }))
const metric = fc.constantFrom('temperature', 'a.b', 'with,comma', 'quo"te', 'é', 'device', 'ts', 'metric', 'value', '__proto__', 'constructor', '5')
const reading = fc.record({
  device: fc.constantFrom('d1', 'd:2', '007'),
  ts: fc.oneof(fc.integer({ min: 0, max: 40 }).map(step => baseUs + step * 30e6), fc.integer({ min: 0, max: 3600e6 }).map(us => baseUs + us)),
  values: fc.uniqueArray(fc.tuple(metric, value), { minLength: 1, maxLength: 6, selector: ([name]) => name })
})

const textOf = (given: unknown): unknown => Object.is(given, -0) ? '-0' : typeof given === 'number' && !Number.isFinite(given) ? { number: String(given) } : given
interface Line { device: string, ts: number, values: Record<string, unknown>, nonFinite?: Record<string, string> }

/** Points of an NDJSON export with times in µs. */
function pointsOf (file: Buffer): string[] {
  return file.toString().split('\n').filter(line => line !== '').flatMap(line => {
    const { device, ts, values, nonFinite = {} } = JSON.parse(line) as Line
    return [
      ...Object.entries(values).map(([name, given]) => JSON.stringify([device, ts, name, textOf(given)])),
      ...Object.entries(nonFinite).map(([name, given]) => JSON.stringify([device, ts, name, { number: given }]))
    ]
  }).sort()
}

type Reading = typeof reading extends fc.Arbitrary<infer R> ? R : never

function ndjsonOf (readings: readonly Reading[]): string {
  return readings.map(({ device, ts, values }) => {
    const text = (given: unknown): string => Object.is(given, -0) ? '-0' : JSON.stringify(given)
    const finite = values.filter(([, given]) => typeof given !== 'number' || Number.isFinite(given))
    const others = values.filter(([, given]) => typeof given === 'number' && !Number.isFinite(given))
    const members = (list: typeof values, write: (given: unknown) => string): string => list.map(([name, given]) => `${JSON.stringify(name)}:${write(given)}`).join(',')
    return `{"device":"${device}","ts":${ts},"values":{${members(finite, text)}},"nonFinite":{${members(others, given => `"${String(given)}"`)}}}\n`
  }).join('')
}

function expectedPoints (readings: readonly Reading[]): string[] {
  const points = new Map<string, string>()
  for (const { device, ts, values } of readings) for (const [name, given] of values) points.set(JSON.stringify([device, ts, name]), JSON.stringify([device, ts, name, textOf(given)]))
  return [...points.values()].sort()
}

t.test('export and import, in every format and shape: the same points', { timeout: 240_000 }, async t => {
  const world = await TransferWorld.open(t)
  const seed = Number(process.env.SEED ?? Date.now() % 2 ** 31)
  t.comment(`seed ${seed}`)
  const devices = ['d1', 'd:2', '007']
  const [readings] = fc.sample(fc.array(reading, { minLength: 400, maxLength: 400 }), { numRuns: 1, seed })
  await world.tenant('source', devices)
  const job = await world.import('source', ndjsonOf(readings), 'ndjson', '&times=us')
  t.match(job, { state: 'done', import: { rows: 400, refusedRows: 0 } }, JSON.stringify(job))
  const expected = expectedPoints(readings)
  t.strictSame(pointsOf(await world.export('source', 'format=ndjson&times=us')), expected)
  for (const [i, [format, shape]] of [['csv', 'wide'], ['csv', 'long'], ['ndjson', 'wide'], ['parquet', 'wide'], ['parquet', 'long']].entries()) {
    const target = `target${i}`
    await world.tenant(target, devices)
    const file = await world.export('source', `format=${format}&shape=${shape}`)
    const copied = await world.import(target, file, format, `&shape=${shape}`)
    t.match(copied, { state: 'done', import: { refusedRows: 0 } }, `${format} ${shape} ${copied.detail} ${JSON.stringify(copied.import?.samples)}`)
    const points = pointsOf(await world.export(target, 'format=ndjson&times=us'))
    t.equal(points.length, expected.length)
    t.strictSame(points.filter((point, at) => point !== expected[at]), [], `${format} ${shape}`)
  }
  await t.test('the same file twice changes nothing', async t => {
    await world.import('target0', await world.export('source', 'format=csv'), 'csv', '&shape=wide')
    t.strictSame(pointsOf(await world.export('target0', 'format=ndjson&times=us')), expected)
  })
  await t.test('a tier is exported too, and as much of each format', async t => {
    const [csv, ndjson] = await Promise.all(['csv', 'ndjson'].map(async format => (await world.export('source', `format=${format}&tier=1h`)).toString().trim().split('\n')))
    t.ok(csv.length > 1)
    t.ok(ndjson.every(line => typeof (JSON.parse(line) as { count: number }).count === 'number'))
    t.ok((await world.export('source', 'format=parquet&tier=1d')).subarray(0, 4).equals(Buffer.from('PAR1')))
  })
})

t.test('what is malformed is refused row by row, named by its line, and the rest is in', { timeout: 240_000 }, async t => {
  const world = await TransferWorld.open(t, { TWINFOLD_IMPORT_BYTES_MAX: '20000000' })
  await world.tenant('acme', ['d1'])
  const now = Date.now()
  const good = `d1,${now},1\n`
  await t.test('rows of CSV', async t => {
    const file = Buffer.concat([
      Buffer.from('\ufeffdevice,ts,m\r\n'), Buffer.from(good), Buffer.from('d1,x,1\n'), Buffer.from(`d1,${now + 1},\xff\n`, 'latin1'), Buffer.from(`d1,${now + 2}\n`),
      Buffer.from(`d1,${now + 3},1e999\n`), Buffer.from(`nobody,${now},1\n`), Buffer.from(`bad id,${now},1\n`), Buffer.from(`d1,${now + 9e8},1\n`), Buffer.from(`d1,${now + 4},"a"b\n`),
      Buffer.from(`d1,${now + 5},${'x'.repeat(10_000_000)}\n`), Buffer.from(`d1,${now + 6},\n`), Buffer.from(`d1,${now + 7},"${'y'.repeat(70_000)}"\n`), Buffer.from(`d1,${now + 8},2\n`), Buffer.from(`d1,${now + 8},"open`)
    ])
    const job = await world.import('acme', file, 'csv')
    t.match(job, { state: 'done', import: { rows: 14, points: 2, refused: { ts_invalid: 1, not_a_reading: 5, value_invalid: 1, device_unknown: 2, ts_future: 1, empty: 1, string_too_long: 1 } } }, JSON.stringify(job))
    t.strictSame(job.import.samples.find(({ reason }) => reason === 'ts_invalid')?.line, 3)
    t.match((await world.json('GET', 'acme', '/dead-letters?limit=50')).status, 200)
  })
  await t.test('lines of NDJSON', async t => {
    const lines = [
      `{"device":"d1","ts":${now - 10},"values":{"n":{"a":1,"b":{"c":true}},"skip":null}}`, '{', '[]', '5', 'null', '{"device":5,"ts":1,"values":{"a":1}}', `{"device":"d1","ts":${now},"values":{"a":[1]}}`,
      `{"device":"d1","ts":${now},"values":{"a":1e999}}`, `{"device":"d1","ts":${now},"values":{}}`, `{"device":"d1","values":{"a":1}}`, `{"device":"d1","ts":${now},"values":${'{"a":'.repeat(12)}1${'}'.repeat(12)}}`,
      `{"device":"d1","ts":${now},"values":{"":1}}`, `{"device":"d1","ts":${now},"values":{"${'m'.repeat(200)}":1}}`, '', `{"device":"d1","ts":${now},"nonFinite":{"a":"x"}}`, '"'
    ]
    const job = await world.import('acme', lines.join('\n'), 'ndjson')
    t.match(job, { state: 'done', import: { rows: 15, points: 2, refusedRows: 14 } }, JSON.stringify(job))
  })
  await t.test('files that are not what they say', async t => {
    for (const [format, file, detail] of [
      ['csv', 'a,b\n1,2\n', /no column 'ts'/], ['csv', 'device,ts,ts\n', /twice/], ['csv', '"device,ts\n', /header|quote/], ['csv', `device,ts,${Array.from({ length: 3000 }, (_, i) => i).join()}\n`, /columns/],
      ['parquet', 'PAR1', /Parquet/], ['parquet', 'x'.repeat(5000), /Parquet/]
    ] as const) {
      const job = await world.import('acme', file, format)
      t.equal(job.state, 'failed', `${format} ${file.slice(0, 20)}`)
      t.match(job.detail, detail)
    }
    const whole = await world.export('acme', 'format=parquet')
    for (const part of [0.3, 0.9, 0.999]) t.equal((await world.import('acme', whole.subarray(0, Math.floor(whole.length * part)), 'parquet')).state, 'failed')
  })
  await t.test('hostile quotes cost bounded time', async t => {
    const startMs = performance.now()
    const job = await world.import('acme', `device,ts,m\n${'"a\n"b\n,"\n'.repeat(100_000)}`, 'csv')
    t.ok(['done', 'failed'].includes(job.state), job.detail)
    t.ok(performance.now() - startMs < 60_000)
  })
  await t.test('requests: each fault names its field', async t => {
    for (const [method, path, status, field] of [
      ['POST', '/imports?format=xml', 400, 'format'], ['POST', '/imports?format=csv&delimiter=%22', 400, 'delimiter'], ['POST', '/imports?format=csv&device=a%20b', 400, 'device'], ['POST', '/imports?format=csv&tsColumn=device', 400, 'tsColumn'],
      ['GET', '/exports', 400, 'devices'], ['GET', '/exports?devices=all&from=x', 400, 'from'], ['GET', '/exports?devices=all&tier=1m&shape=wide', 400, 'shape'], ['GET', '/exports?devices=nobody', 404, undefined], ['GET', '/exports?devices=all&format=parquet&times=ms', 400, 'times'],
      ['DELETE', '/devices/d1/telemetry?from=now&to=now-1h', 400, 'from'], ['DELETE', '/devices/nobody/telemetry', 404, undefined], ['GET', '/jobs/x', 404, undefined]
    ] as const) {
      const answer = await world.raw(method, 'acme', path, method === 'POST' ? 'x' : undefined, method === 'POST' ? { 'content-type': 'text/csv' } : {})
      const problem = await answer.json() as { field?: string }
      t.strictSame([answer.status, problem.field], [status, field], path)
    }
    t.equal((await world.raw('POST', 'acme', '/imports', '{}', { 'content-type': 'application/json' })).status, 415)
    t.equal((await world.raw('POST', 'acme', '/imports?format=csv', '')).status, 400)
  })
  await t.test('gzip is unpacked up to the bound: a bomb is refused, and leaves no file', async t => {
    const packed = gzipSync(`device,ts,m\n${good}`)
    const answer = await world.raw('POST', 'acme', '/imports?format=csv', packed, { 'content-encoding': 'gzip' })
    t.match(await world.finished('acme', (await answer.json() as { id: string }).id), { state: 'done', import: { points: 1 } })
    t.equal((await world.raw('POST', 'acme', '/imports?format=csv', gzipSync(Buffer.alloc(30_000_000)), { 'content-encoding': 'gzip' })).status, 413)
    t.equal((await world.raw('POST', 'acme', '/imports?format=csv', packed.subarray(0, 20), { 'content-encoding': 'gzip' })).status, 400)
    t.equal((await world.raw('POST', 'acme', '/imports?format=csv', 'plain', { 'content-encoding': 'br' })).status, 415)
  })
})
