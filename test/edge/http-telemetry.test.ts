import t from 'tap'
import { TwinfoldError } from '../../src/core/errors.js'
import { RecordFlags, RecordKind } from '../../src/journal/record.js'
import { bench, type Bench, type Keys } from './http-support.js'

const reading = '{"temperature":21.3}'
const turn = async (): Promise<void> => { await new Promise(resolve => setImmediate(resolve)) }
const turns = async (): Promise<void> => { for (let i = 0; i < 20; i++) await turn() }

void t.test('who may send for whom, by status', async t => {
  const b = await bench(t)
  const rows: readonly [keyof Keys | null, string, number, string | null][] = [
    ['device', 'devices/pump-1/telemetry', 202, 'pump-1'],
    ['device', 'telemetry', 202, 'pump-1'],
    ['device', 'devices/pump-2/telemetry', 404, null],
    ['device', 'devices/bolt-1/telemetry', 404, null],
    ['device', 'devices/child-1/telemetry', 404, null],
    ['gateway', 'devices/child-1/telemetry', 202, 'child-1'],
    ['gateway', 'devices/pump-1/telemetry', 404, null],
    ['gateway', 'telemetry', 202, 'gate-1'],
    ['application', 'devices/pump-2/telemetry', 202, 'pump-2'],
    ['application', 'telemetry', 202, ''],
    ['operator', 'devices/pump-2/telemetry', 202, 'pump-2'],
    ['operator', 'devices/nobody/telemetry', 404, null],
    ['operator', 'devices/a%2Fb/telemetry', 404, null],
    ['viewer', 'devices/pump-1/telemetry', 403, null],
    ['viewer', 'telemetry', 403, null],
    ['admin', 'devices/pump-1/telemetry', 400, null],
    ['foreignDevice', 'devices/pump-1/telemetry', 404, null],
    [null, 'telemetry', 401, null]
  ]
  // Twice: once from the registry, once from the caches.
  for (const pass of ['cold', 'warm']) {
    for (const [who, url, status, device] of rows) {
      const before = b.journal.records.length
      const answer = await b.call('POST', url, { key: who === null ? undefined : b.keys[who], body: reading })
      t.equal(answer.status, status, `${pass}: ${who ?? 'nobody'} to ${url}`)
      t.equal(b.journal.records.length - before, status === 202 ? 1 : 0, 'only what is accepted reaches the journal')
      if (status !== 202) {
        t.match(answer.headers['content-type'], /^application\/problem\+json/)
        continue
      }
      const record = b.journal.records[before]
      t.equal(record.decoded.device, device)
      t.equal(record.flags, device === '' ? RecordFlags.multiDevice : 0)
      t.equal(record.decoded.tenant, 'acme')
      t.equal(record.body.toString(), reading)
      t.match(answer.json, { accepted: true, stamp: b.journal.stamp })
    }
  }
  t.equal(b.edge.stats.bodiesBytes, 0, 'no body stays accounted')
})

void t.test('a platform key sends inside a tenant that it names', async t => {
  const b = await bench(t)
  t.equal((await b.call('POST', 'devices/pump-1/telemetry', { key: b.keys.admin, body: reading, headers: { 'x-tenant': 'acme' } })).status, 202)
  t.equal((await b.call('POST', 'devices/pump-1/telemetry', { key: b.keys.admin, body: reading, headers: { 'x-tenant': 'bolt' } })).status, 404)
  t.equal((await b.call('POST', 'devices/pump-1/telemetry', { key: b.keys.admin, body: reading, headers: { 'x-tenant': 'nope' } })).status, 404)
})

void t.test('an unknown device, another tenant\'s and another device\'s get the same words', async t => {
  const b = await bench(t)
  const said = async (key: string, id: string): Promise<string> => (await b.call('POST', `devices/${id}/telemetry`, { key, body: reading })).text.replaceAll(id, '?')
  for (const key of [b.keys.operator, b.keys.device]) {
    const unknown = await said(key, 'nobody')
    t.equal(await said(key, 'bolt-1'), unknown)
    if (key === b.keys.device) t.equal(await said(key, 'pump-2'), unknown)
  }
})

void t.test('every content type has its format; others are refused with what is accepted', async t => {
  const b = await bench(t)
  const rows: readonly [string | null, number][] = [
    [null, RecordKind.bodyAuto],
    ['application/json', RecordKind.bodyAuto],
    ['Application/JSON; charset=UTF-8', RecordKind.bodyAuto],
    ['application/octet-stream', RecordKind.bodyAuto],
    ['application/x-ndjson', RecordKind.bodyNdjson],
    ['application/ndjson', RecordKind.bodyNdjson],
    ['application/senml+json', RecordKind.bodySenmlJson],
    ['application/senml+cbor', RecordKind.bodySenmlCbor],
    ['application/cbor', RecordKind.bodyCbor],
    ['text/plain', 415],
    ['application/x-www-form-urlencoded', 415],
    ['application/json; charset=latin1', 415],
    ['nonsense', 415]
  ]
  for (const [type, expected] of rows) {
    const answer = await b.call('POST', 'telemetry', { key: b.keys.device, body: Buffer.from(reading), headers: type === null ? {} : { 'content-type': type } })
    t.equal(answer.status, expected === 415 ? 415 : 202, `${type}`)
    if (expected === 415) t.match(answer.json, { code: 'unsupported_media_type', retryable: false })
    else t.equal(b.journal.records.at(-1)?.kind, expected, `${type}`)
  }
  const zipped = await b.call('POST', 'telemetry', { key: b.keys.device, body: reading, headers: { 'content-encoding': 'gzip' } })
  t.equal(zipped.status, 415)
  t.match(zipped.json.detail, /Content-Encoding/)
})

void t.test('bodies: empty 400, at the limit 202, above it 413, and bytes are never changed', async t => {
  const b = await bench(t, { bodyBytesMax: 1000 })
  for (const headers of [{}, { 'content-type': 'application/json' }] as Record<string, string>[]) {
    const empty = await b.call('POST', 'telemetry', { key: b.keys.device, headers })
    t.equal(empty.status, 400)
    t.equal(empty.json.code, 'invalid_request')
  }
  const junk = Buffer.from(Array.from({ length: 1000 }, (_, i) => (i * 37) % 256))
  t.equal((await b.call('POST', 'telemetry', { key: b.keys.device, body: junk })).status, 202)
  t.same(b.journal.records.at(-1)?.body, junk)
  const large = await b.call('POST', 'telemetry', { key: b.keys.device, body: Buffer.alloc(1001) })
  t.equal(large.status, 413)
  t.equal(large.json.code, 'payload_too_large')
  t.equal(b.edge.stats.bodiesBytes, 0)
})

void t.test('202 is answered after the commit, not before, and in any number', async t => {
  const b = await bench(t)
  b.journal.held = true
  let answered = 0
  const calls = Array.from({ length: 50 }, async () => {
    const answer = await b.call('POST', 'telemetry', { key: b.keys.device, body: reading })
    answered++
    return answer
  })
  while (b.journal.pending.length < 50) await turn()
  t.equal(answered, 0, 'nothing is answered while the commit runs')
  t.ok(b.edge.stats.bodiesBytes === 50 * reading.length, 'bodies are accounted until the commit')
  b.journal.commit()
  const answers = await Promise.all(calls)
  t.ok(answers.every(({ status }) => status === 202))
  t.equal(new Set(answers.map(({ json }) => json.stamp)).size, 50, 'each got its own stamp')
  t.equal(b.edge.stats.bodiesBytes, 0)
})

void t.test('what the journal did not take is refused with 503 and Retry-After', async t => {
  const b = await bench(t)
  for (const code of ['journal_full', 'journal_unavailable'] as const) {
    b.journal.appendError = new TwinfoldError(code, 'no')
    const answer = await b.call('POST', 'telemetry', { key: b.keys.device, body: reading })
    t.equal(answer.status, 503)
    t.match(answer.json, { code, retryable: true })
    t.match(answer.headers['retry-after'], /^[1-9][0-9]*$/)
  }
  b.journal.appendError = null
  b.journal.commitError = new Error('disk on fire at /secret/path')
  const failed = await b.call('POST', 'telemetry', { key: b.keys.device, body: reading })
  t.equal(failed.status, 503)
  t.equal(failed.json.code, 'journal_unavailable')
  t.notMatch(failed.text, /secret/)
  b.journal.commitError = null
  t.equal((await b.call('POST', 'telemetry', { key: b.keys.device, body: reading })).status, 202, 'slots are free again')
  t.equal(b.edge.stats.bodiesBytes, 0)
})

void t.test('under pressure telemetry waits, then 429; reads and refusals do not wait', async t => {
  const b = await bench(t, { pressureWaitMs: 60_000, pressureWaitersMax: 2 })
  b.pressure.set('slow')
  const first = b.call('POST', 'telemetry', { key: b.keys.device, body: reading })
  const second = b.call('POST', 'telemetry', { key: b.keys.device, body: reading })
  while (b.edge.stats.pressureWaiting < 2) await turn()
  const third = await b.call('POST', 'telemetry', { key: b.keys.device, body: reading })
  t.equal(third.status, 429, 'more waiters than the bound')
  t.match(third.headers['retry-after'], /^[1-9]/)
  t.equal((await b.call('POST', 'telemetry', { key: b.keys.viewer, body: reading })).status, 403, 'a refusal does not wait')
  t.equal((await b.call('GET', 'devices/pump-1', { key: b.keys.device })).status, 200)
  t.equal(b.journal.records.length, 0)
  b.pressure.set('open')
  t.equal((await first).status, 202)
  t.equal((await second).status, 202)
  t.equal(b.edge.stats.pressureWaiting, 0)
  t.equal(b.pressure.waiting, 0)
})

void t.test('a wait that lasts too long ends with 429 and nothing accepted; refuse is 503 at once', async t => {
  const b = await bench(t, { pressureWaitMs: 5 })
  b.pressure.set('slow')
  const slow = await b.call('POST', 'telemetry', { key: b.keys.device, body: reading })
  t.equal(slow.status, 429)
  t.match(slow.json, { code: 'throttled', retryable: true })
  t.equal(b.pressure.waiting, 0, 'the waiter is withdrawn')
  b.pressure.set('refuse')
  const refused = await b.call('POST', 'telemetry', { key: b.keys.device, body: reading })
  t.equal(refused.status, 503)
  t.equal(refused.json.code, 'journal_unavailable')
  t.equal(b.journal.records.length, 0)
})

void t.test('bodies together are bounded: beyond, 429', async t => {
  const b = await bench(t, { bodiesBytesMax: 100 })
  b.journal.held = true
  const first = b.call('POST', 'telemetry', { key: b.keys.device, body: Buffer.alloc(80, 32) })
  while (b.journal.pending.length < 1) await turn()
  const second = await b.call('POST', 'telemetry', { key: b.keys.device, body: Buffer.alloc(30, 32) })
  t.equal(second.status, 429)
  b.journal.commit()
  t.equal((await first).status, 202)
  b.journal.held = false
  t.equal((await b.call('POST', 'telemetry', { key: b.keys.device, body: Buffer.alloc(30, 32) })).status, 202)
})

void t.test('a device is looked up once per lease, and a deletion here is seen at once', async t => {
  const b = await bench(t, { deviceLeaseMs: 5000 })
  const send = async (): Promise<number> => (await b.call('POST', 'devices/pump-2/telemetry', { key: b.keys.application, body: reading })).status
  await send()
  const calls = b.store.getDeviceCalls
  for (let i = 0; i < 10; i++) t.equal(await send(), 202)
  t.equal(b.store.getDeviceCalls, calls)
  b.clock.us += 6e6
  t.equal(await send(), 202)
  t.equal(b.store.getDeviceCalls, calls + 1, 'asked again after the lease')
  t.equal((await b.call('DELETE', 'devices/pump-2', { key: b.keys.operator })).status, 200)
  t.equal(await send(), 404)
})

void t.test('a store that fails is a fault, and tells nothing of itself', async t => {
  const b = await bench(t)
  b.store.fault = new Error('corruption in /var/lib/secret/000042.ldb')
  const answer = await b.call('POST', 'devices/pump-2/telemetry', { key: b.keys.application, body: reading })
  t.equal(answer.status, 500)
  t.equal(answer.json.code, 'internal')
  t.notMatch(answer.text, /secret|ldb/)
})

const withKey = async (b: Bench, key: string, body: string, url = 'telemetry', who = b.keys.device): ReturnType<Bench['call']> =>
  await b.call('POST', url, { key: who, body, headers: { 'idempotency-key': key } })

void t.test('Idempotency-Key: the same request again gets the first answer and the journal is not touched', async t => {
  const b = await bench(t)
  const first = await withKey(b, 'k1', reading)
  t.equal(first.status, 202)
  t.notOk('idempotent-replayed' in first.headers)
  const { decoded } = b.journal.records[0]
  t.match(decoded.idempotencyKey, new RegExp(`^${b.principals.get(b.keys.device)?.credentialId ?? ''}:k1$`))
  const again = await withKey(b, 'k1', reading)
  t.equal(again.status, 202)
  t.equal(again.text, first.text)
  t.equal(again.headers['idempotent-replayed'], 'true')
  t.equal(b.journal.records.length, 1)
  for (const [name, answer] of [['other body', await withKey(b, 'k1', '{"temperature":21.4}')], ['other device', await withKey(b, 'k1', reading, 'devices/child-1/telemetry', b.keys.device)]] as const) {
    t.ok(answer.status === 422 || (name === 'other device' && answer.status === 404), `${name}: ${answer.status}`)
  }
  t.equal((await withKey(b, 'k1', reading, 'devices/pump-1/telemetry', b.keys.application)).status, 202, 'another credential\'s keys are its own')
  t.equal(b.journal.records.length, 2)
  t.equal((await withKey(b, 'k1', reading, 'devices/pump-2/telemetry', b.keys.application)).status, 422, 'the same bytes for another device')
  t.equal(b.edge.stats.bodiesBytes, 0)
})

void t.test('Idempotency-Key: it outlives packing, for 24 hours', async t => {
  const b = await bench(t)
  const first = await withKey(b, 'k2', reading)
  const { decoded } = b.journal.records[0]
  await b.store.putIdempotency([{ tenant: 'acme', key: decoded.idempotencyKey, fingerprint: decoded.fingerprint, stamp: first.json.stamp }])
  b.idempotency.packedUpTo(first.json.stamp)
  t.equal(b.idempotency.size, 0)
  const again = await withKey(b, 'k2', reading)
  t.equal(again.text, first.text)
  t.equal((await withKey(b, 'k2', '{}')).status, 422)
  t.equal(b.journal.records.length, 1)
  b.clock.us += 25 * 3600e6
  t.equal((await withKey(b, 'k2', '{}')).status, 202, 'after 24 hours the key is free')
  t.equal(b.journal.records.length, 2)
})

void t.test('Idempotency-Key: duplicates at the same time wait for the first; a failed first frees the key', async t => {
  const b = await bench(t)
  b.journal.held = true
  const calls = Array.from({ length: 5 }, async () => await withKey(b, 'k3', reading))
  await turns()
  t.equal(b.journal.records.length, 1)
  b.journal.commitError = new Error('no')
  b.journal.commit()
  await turns()
  t.equal(b.journal.records.length, 2, 'the next of those that waited goes first now')
  b.journal.commitError = null
  b.journal.commit()
  const statuses = (await Promise.all(calls)).map(({ status }) => status).sort()
  t.same(statuses, [202, 202, 202, 202, 503])
  t.equal(b.journal.records.length, 2)
  b.journal.held = false
  b.journal.appendError = new TwinfoldError('journal_full', 'full')
  t.equal((await withKey(b, 'k4', reading)).status, 503)
  b.journal.appendError = null
  t.equal((await withKey(b, 'k4', '{"other":1}')).status, 202, 'nothing was accepted under k4 before')
  t.equal(b.edge.stats.bodiesBytes, 0)
})

void t.test('Idempotency-Key: malformed keys are refused by name', async t => {
  const b = await bench(t)
  for (const key of ['', ' ', 'a b', 'ü', 'x'.repeat(129)]) {
    const answer = await withKey(b, key, reading)
    t.equal(answer.status, 400, JSON.stringify(key.slice(0, 10)))
    t.equal(answer.json.field, 'Idempotency-Key')
  }
  t.equal((await withKey(b, 'x'.repeat(128), reading)).status, 202)
})
