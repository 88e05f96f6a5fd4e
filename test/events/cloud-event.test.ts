/** The pure parts of events out: CloudEvents, types, signatures, retries, positions of streams, shares of lanes. */
import t from 'tap'
import fc from 'fast-check'
import { createHmac, randomBytes } from 'node:crypto'
import { cloudEventHeaders, cloudEventJson } from '../../src/events/cloud-event.js'
import { chosenTypes, eventTypes } from '../../src/events/event-types.js'
import { lanesOf } from '../../src/events/lane-claims.js'
import { decodeLaneState, encodeLaneState, newLaneState } from '../../src/events/lane-state.js'
import { delayMs, judge, parseRetryAfter, retryPolicyDefault } from '../../src/events/retry-policy.js'
import { isSecret, newSecret, signatures } from '../../src/events/signature.js'
import { decodePosition, encodePosition } from '../../src/events/stream-position.js'
import { eventLanes } from '../../src/store/event-log.js'
import { eventOf } from './events-bench.js'

t.test('an event is a CloudEvent 1.0 with source, subject, sequence and tenant', async t => {
  const event = eventOf('acme', 'pump-1', 4, { stamp: 1_750_000_000_123_456 })
  t.same(JSON.parse(cloudEventJson(event)), {
    specversion: '1.0', id: 'acme/pump-1/4', source: '/tenants/acme/devices/pump-1', type: 'io.twinfold.twin.changed', time: '2025-06-15T15:06:40.123456Z', subject: 'pump-1', datacontenttype: 'application/json', tenant: 'acme', sequence: '4', sequencetype: 'Integer', data: { number: 4 }
  })
  const ofNone = JSON.parse(cloudEventJson({ ...event, device: '', sequence: undefined, stamp: 1_750_000_000_000_000, type: 'deadletter.added' })) as Record<string, unknown>
  t.match(ofNone, { source: '/tenants/acme', time: '2025-06-15T15:06:40.000Z', type: 'io.twinfold.deadletter.added' })
  t.notOk('subject' in ofNone || 'sequence' in ofNone)
  t.equal(cloudEventHeaders({ ...event, id: 'a "b"%ü' })['ce-id'], 'a%20%22b%22%25%C3%BC')
})

t.test('types are chosen by name, by family, or all; a name that is none is refused', async t => {
  t.same([...chosenTypes(['twin.*', 'alarm.raised']) ?? []].sort(), ['alarm.raised', 'twin.changed', 'twin.created', 'twin.deleted'])
  t.equal(chosenTypes([])?.size, eventTypes.length)
  t.equal(chosenTypes(['*'])?.size, eventTypes.length)
  for (const wrong of ['twin', 'twin.', 'tw*', '**', 'twin.*.*', '', 'TWIN.*']) t.equal(chosenTypes([wrong]), null, wrong)
})

t.test('a signature is the HMAC of id, timestamp and body, for any of them', async t => {
  fc.assert(fc.property(fc.uint8Array({ minLength: 24, maxLength: 64 }), fc.string(), fc.nat(), fc.string(), (key, id, time, body) => {
    const secret = `whsec_${Buffer.from(key).toString('base64')}`
    return isSecret(secret) && signatures([secret, secret], id, time, body) === Array(2).fill(`v1,${createHmac('sha256', key).update(`${id}.${time}.${body}`).digest('base64')}`).join(' ')
  }), { seed: Math.floor(Math.random() * 2 ** 31) })
  // The example of the specification.
  t.equal(signatures(['whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'], 'msg_p5jXN8AQM9LWM0D4loKWxJek', 1614265330, '{"test": 2432232314}'), 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=')
  t.ok(isSecret(newSecret(randomBytes)))
  for (const wrong of ['', 'whsec_', 'whsec_AAAA', `whsec_${'A'.repeat(33)}`, randomBytes(32).toString('base64'), `whsec_${randomBytes(65).toString('base64')}`, 'whsec_!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!']) t.notOk(isSecret(wrong), wrong)
})

t.test('what an answer means, and how long until the next attempt', async t => {
  const of = (status: number): string => judge({ kind: 'status', status, retryAfterMs: null }).kind
  t.same([200, 204, 299].map(of), ['delivered', 'delivered', 'delivered'])
  t.same([301, 307, 408, 409, 425, 429, 500, 502, 503, 504, 101].map(of), Array(11).fill('again'))
  t.same([400, 401, 403, 404, 405, 413, 422, 451].map(of), Array(8).fill('refused'))
  t.equal(of(410), 'gone')
  t.match(judge({ kind: 'status', status: 503, retryAfterMs: 7000 }), { retryAfterMs: 7000 })
  t.match(judge({ kind: 'status', status: 500, retryAfterMs: 7000 }), { retryAfterMs: null })
  fc.assert(fc.property(fc.integer({ min: 1, max: 10_000 }), fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), fc.option(fc.nat(10_000_000)), (attempts, random, retryAfter) => {
    const ms = delayMs(retryPolicyDefault, attempts, retryAfter, random)
    return ms >= 2500 && ms <= 3_600_000 && (retryAfter === null || ms >= Math.min(retryAfter, 3_600_000))
  }))
  t.equal(delayMs(retryPolicyDefault, 3, null, 0.5), 15_000)
  t.equal(parseRetryAfter('120', 0), 120_000)
  t.equal(parseRetryAfter('Thu, 01 Jan 1970 00:01:00 GMT', 10_000), 50_000)
  t.equal(parseRetryAfter('Thu, 01 Jan 1970 00:01:00 GMT', 100_000), 0)
  for (const none of [undefined, 'soon', '-5', '']) t.equal(parseRetryAfter(none, 0), null)
})

t.test('the position of a stream comes back as it was; what is none of ours is refused', async t => {
  const lanes = new Map(Array.from({ length: eventLanes }, (_, lane) => [lane, `${1_750_000_000_000_000 + lane * 977}.0123456789abcdef.00003`]))
  const text = encodePosition({ atMs: 1_750_000_000_000, lanes })
  t.ok(text.length < 400, `${text.length} characters for 16 lanes`)
  t.same(decodePosition(text), { atMs: 1_750_000_000_000, lanes })
  const { deflateRawSync } = await import('node:zlib')
  const packed = (value: unknown): string => `e1${deflateRawSync(JSON.stringify(value)).toString('base64url')}`
  for (const wrong of ['', 'e1', 'e1AAAA', 'x', `e1${'A'.repeat(3000)}`, packed(null), packed([1]), packed([1, [[16, 'x']]]), packed([1, [['0', 'x']]]), packed([1, [[0, 'x'.repeat(300)]]]), packed([1, 'a'.repeat(100_000)])]) {
    t.throws(() => decodePosition(wrong), { code: 'invalid_field' }, wrong.slice(0, 40))
  }
  fc.assert(fc.property(fc.string(), text => { try { decodePosition(`e1${text}`); return false } catch (error) { return (error as { code?: string }).code === 'invalid_field' } }))
})

t.test('every lane is the share of exactly one live node, and a node that goes moves its own only', async t => {
  fc.assert(fc.property(fc.uniqueArray(fc.string({ minLength: 1, maxLength: 12 }), { minLength: 1, maxLength: 6 }), nodes => {
    const owners = (live: readonly string[]): string[] => Array.from({ length: eventLanes }, (_, lane) => {
      const mine = live.filter(node => lanesOf(node, live).includes(lane))
      if (mine.length !== 1) throw new Error(`lane ${lane} is of ${mine.length}`)
      return mine[0]
    })
    const before = owners(nodes)
    const [gone, ...rest] = nodes
    return rest.length === 0 || owners(rest).every((owner, lane) => before[lane] === gone || before[lane] === owner)
  }))
  t.equal(lanesOf('a', []).length, eventLanes)
})

t.test('the state of a lane is versioned: a newer one is refused by name', async t => {
  const state = { ...newLaneState('p', { number: 3, fromUs: 4 }), delivered: 7, done: ['x'] }
  t.same(decodeLaneState(encodeLaneState(state)), state)
  t.throws(() => decodeLaneState(JSON.stringify({ v: 2, position: '' })), { code: 'format_newer' })
  for (const wrong of ['', '{}', '{"v":1}']) t.throws(() => decodeLaneState(wrong), { code: 'corrupt_data' })
})
