import t from 'tap'
import { letterMessage } from '../../src/edge/http/message-letter.js'
import type { DeviceMessage, MessageOutcome } from '../../src/inlet/device-message.js'
import { DeviceEvents } from '../../src/inlet/device-events.js'
import { messagesIn } from '../../src/inlet/message-record.js'
import { refusedLetter } from '../../src/inlet/refused-letter.js'
import { RecordFlags, RecordKind } from '../../src/journal/record.js'
import type { OutEvent } from '../../src/store/event-log.js'
import { bench } from '../edge/http-support.js'

const message = (text: string | Buffer, more: Partial<DeviceMessage> = {}): DeviceMessage => ({
  journalId: 'aa', position: 100, stamp: 5, tenant: 'acme', device: 'pump-1', path: 'events/door', payload: Buffer.from(text as string), replayed: false, ...more
})

void t.test('an event over HTTP: who may, for which device, and what is answered', async t => {
  const submitted: string[] = []
  let outcome: MessageOutcome | null = { kind: 'applied' }
  const b = await bench(t, {
    inlet: {
      submit: ({ tenant, device, path, payload }) => {
        submitted.push(`${tenant} ${device} ${path} ${Buffer.from(payload).toString()}`)
        return Promise.resolve(outcome)
      }
    }
  })
  const post = async (key: string, device: string, type = 'door', body: unknown = { open: true }): Promise<{ status: number, code: string, outcome: string }> => {
    const answer = await b.call('POST', `devices/${device}/events/${type}`, { key, body })
    return { status: answer.status, code: answer.json.code, outcome: answer.json.outcome }
  }
  t.match(await post(b.keys.device, 'pump-1'), { status: 200, outcome: 'applied' })
  t.match(await post(b.keys.gateway, 'child-1'), { status: 200 })
  t.match(await post(b.keys.application, 'pump-2'), { status: 200 })
  t.same(submitted, ['acme pump-1 events/door {"open":true}', 'acme child-1 events/door {"open":true}', 'acme pump-2 events/door {"open":true}'])
  for (const [key, device, status] of [[b.keys.device, 'pump-2', 404], [b.keys.gateway, 'pump-1', 404], [b.keys.application, 'nobody', 404], [b.keys.foreignDevice, 'pump-1', 404], [b.keys.viewer, 'pump-1', 403]] as const) {
    t.equal((await post(key, device)).status, status, device)
  }
  t.equal((await post(b.keys.device, 'pump-1', 'a%2Fb')).status, 400)
  t.equal((await post(b.keys.device, 'pump-1', 'x'.repeat(129))).status, 400)
  t.equal((await post(b.keys.device, 'pump-1', 'door', 'x'.repeat(200_000))).status, 413)
  t.equal(submitted.length, 3)
  outcome = null
  t.match(await post(b.keys.device, 'pump-1'), { status: 202, outcome: 'accepted' })
  outcome = { kind: 'refused', code: 'payload_too_large', detail: 'large' }
  t.match(await post(b.keys.device, 'pump-1'), { status: 413, code: 'payload_too_large' })
  const without = await bench(t)
  t.equal((await without.call('POST', 'devices/pump-1/events/door', { key: without.keys.device, body: {} })).status, 503)
})

void t.test('an event is told with its JSON as it was sent, else as base64', async t => {
  const told: OutEvent[] = []
  const events = new DeviceEvents({ appendEvents: added => { told.push(...added); return Promise.resolve() } })
  t.same(['events/door', 'twin/reported', 'commands/a/response/1'].map(path => events.takes(path)), [true, false, false])
  const payloads: [string | Buffer, unknown][] = [
    ['{"open":true,\n "n":12345678901234567890}', { payload: { open: true, n: 12345678901234567890 } }],
    ['"text"', { payload: 'text' }],
    ['', { payload: '', contentEncoding: 'base64' }],
    ['open', { payload: 'b3Blbg==', contentEncoding: 'base64' }],
    [Buffer.from([0xff, 0]), { payload: '/wA=', contentEncoding: 'base64' }],
    ['{"a":1},"type":"forged"', { payload: Buffer.from('{"a":1},"type":"forged"').toString('base64'), contentEncoding: 'base64' }]
  ]
  t.same(await events.apply(payloads.map(([payload], i) => message(payload, { position: 100 + i }))), payloads.map(() => ({ kind: 'applied' })))
  t.same(told.map(({ data }) => JSON.parse(data) as unknown), payloads.map(([, expected]) => ({ deviceId: 'pump-1', type: 'door', ...expected as object })))
  t.ok(told[0].data.includes('12345678901234567890') && !told[0].data.includes('\n'), 'numbers to the digit, on one line')
  t.same(told.map(({ id, type, stamp }) => `${id} ${type} ${stamp}`), payloads.map((_, i) => `aa/${100 + i} device.event 5`))
  told.length = 0
  t.match(await events.apply([message('1'), message('x'.repeat(200 * 1024)), message('2')]), [{ kind: 'applied' }, { kind: 'refused', code: 'payload_too_large' }, { kind: 'applied' }])
  t.equal(told.length, 2)
  await events.apply([message(Buffer.alloc(180 * 1024, 0xff), { device: 'd'.repeat(128), path: `events/${'"'.repeat(128)}` })])
  t.ok((told.at(-1)?.data.length ?? Infinity) <= 256 * 1024, 'the largest fits the event log')
})

void t.test('a refused message is shown without its packet, and a replay goes back to the applier, corrected or not', async t => {
  const b = await bench(t)
  const letters = ['[1]', '{"a":'].map((text, i) => refusedLetter({ message: message(text, { path: 'twin/reported', position: 200 + i, stamp: 7 }), code: 'invalid_field', detail: 'no object' }))
  for (const letter of letters) b.store.letters.set(`acme\0${letter.id}`, letter)
  t.match(letterMessage(letters[0]), { topic: 'devices/pump-1/twin/reported' })
  const shown = (await b.call('GET', `dead-letters/${letters[0].id}`, { key: b.keys.operator })).json
  t.match(shown, { text: '[1]', payloadBytes: 3, reason: 'twin_refused', device: 'pump-1', truncated: false })
  t.match(shown.detail, /invalid_field: no object.*devices\/pump-1\/twin\/reported/)
  const answer = await b.call('POST', 'dead-letters/replay', { key: b.keys.operator, body: { ids: letters.map(({ id }) => id), corrections: { [letters[1].id]: { text: '{"a":1}' } } } })
  t.match(answer.json, { replayed: 2 })
  t.same(b.journal.records.map(({ kind, flags, stamp, body }) => [kind, flags, stamp, ...messagesIn({ kind, position: 0, end: 0, stamp: 7, messages: 1, identity: { tenant: 'acme', device: '', idempotencyKey: '', fingerprint: '' }, body, replayed: false }, 'bb').messages.map(each => `${each.device} ${each.path} ${Buffer.from(each.payload).toString()}`)]), [
    [RecordKind.deviceMessages, RecordFlags.replay, 7, 'pump-1 twin/reported [1]'],
    [RecordKind.deviceMessages, RecordFlags.replay, 7, 'pump-1 twin/reported {"a":1}']
  ])
})
