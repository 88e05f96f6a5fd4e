import t from 'tap'
import { TwinfoldError } from '../../src/core/errors.js'
import { RecordFlags, RecordKind } from '../../src/journal/record.js'
import { bench } from './http-support.js'

void t.test('letters are listed newest first by filter, and shown with payload and, where it is one, text', async t => {
  const b = await bench(t)
  for (let i = 1; i <= 5; i++) b.store.letter('acme', `${i}-0`, i === 3 ? { reason: 'ts_future', device: 'pump-2' } : {})
  b.store.letter('acme', '6-0', { payload: Buffer.from([0xff, 0xfe]), payloadBytes: 70_000 })
  b.store.letter('bolt', '7-0')
  const seen: string[] = []
  for (let cursor: string | null = ''; cursor !== null;) {
    const page: { json: { deadLetters: { id: string }[], next: string | null } } = await b.call('GET', `dead-letters?limit=4${cursor === '' ? '' : `&cursor=${cursor}`}`, { key: b.keys.viewer })
    seen.push(...page.json.deadLetters.map(({ id }) => id))
    cursor = page.json.next
  }
  t.same(seen, ['6-0', '5-0', '4-0', '3-0', '2-0', '1-0'])
  t.same((await b.call('GET', 'dead-letters?reason=ts_future&device=pump-2', { key: b.keys.viewer })).json.deadLetters.map((item: { id: string }) => item.id), ['3-0'])
  t.equal((await b.call('GET', 'dead-letters?reason=nonsense', { key: b.keys.viewer })).json.field, 'reason')
  t.match((await b.call('GET', 'dead-letters/1-0', { key: b.keys.viewer })).json, { text: '{"temperature":', payload: Buffer.from('{"temperature":').toString('base64'), truncated: false, receivedAt: '1970-01-01T00:00:00.000001Z' })
  t.match((await b.call('GET', 'dead-letters/6-0', { key: b.keys.viewer })).json, { text: null, payload: '//4=', truncated: true, payloadBytes: 70_000 })
})

void t.test('a replay keeps the stamp, and a letter goes only after its record is durable', async t => {
  const b = await bench(t)
  b.store.letter('acme', '11-0', { format: RecordKind.bodyNdjson })
  b.store.letter('acme', '12-0', { device: '', format: RecordKind.bodyAuto })
  b.store.letter('acme', '13-0', { format: RecordKind.mqttPublishes })
  b.journal.held = true
  const answer = b.call('POST', 'dead-letters/replay', { key: b.keys.operator, body: { ids: ['11-0', '12-0', '13-0'], corrections: { '11-0': { text: '{"temperature":1}' } } } })
  while (b.journal.pending.length < 3) await new Promise(resolve => setImmediate(resolve))
  t.equal(b.store.letters.size, 3, 'all are there until the commit')
  b.journal.commit()
  t.match((await answer).json, { replayed: 3 })
  t.equal(b.store.letters.size, 0)
  t.same(b.journal.records.map(record => [record.stamp, record.kind, record.flags, record.decoded.device, record.body.toString()]), [
    [11, RecordKind.bodyNdjson, RecordFlags.replay, 'pump-1', '{"temperature":1}'],
    [12, RecordKind.bodyAuto, RecordFlags.replay | RecordFlags.multiDevice, '', '{"temperature":'],
    [13, RecordKind.bodyAuto, RecordFlags.replay, 'pump-1', '{"temperature":']
  ])
})

void t.test('what cannot be replayed is told by letter and stays', async t => {
  const b = await bench(t)
  b.store.letter('acme', '1-0', { payloadBytes: 100_000 })
  b.store.letter('acme', '2-0', { device: 'gone' })
  b.store.letter('acme', '3-0')
  b.store.letter('bolt', '4-0')
  const answer = await b.call('POST', 'dead-letters/replay', { key: b.keys.operator, body: { ids: ['1-0', '2-0', '3-0', '4-0', '5-0'] } })
  const results = Object.fromEntries((answer.json.results as { id: string, result: string }[]).map(({ id, result }) => [id, result]))
  t.same(results, { '1-0': 'truncated', '2-0': 'device_unknown', '3-0': 'replayed', '4-0': 'not_found', '5-0': 'not_found' })
  t.same([...b.store.letters.keys()], ['acme\x001-0', 'acme\x002-0', 'bolt\x004-0'])
  const corrected = await b.call('POST', 'dead-letters/replay', { key: b.keys.operator, body: { ids: ['1-0'], corrections: { '1-0': { base64: Buffer.from('{"a":1}').toString('base64') } } } })
  t.equal(corrected.json.replayed, 1)
  t.equal(b.journal.records.at(-1)?.body.toString(), '{"a":1}')
})

void t.test('no letter is lost when the journal fails or there is pressure', async t => {
  const b = await bench(t)
  b.store.letter('acme', '1-0')
  b.store.letter('acme', '2-0')
  const replay = async (): ReturnType<typeof b.call> => await b.call('POST', 'dead-letters/replay', { key: b.keys.operator, body: { ids: ['1-0', '2-0'] } })
  b.journal.commitError = new Error('no')
  t.equal((await replay()).status, 503)
  b.journal.commitError = null
  b.journal.appendError = new TwinfoldError('journal_full', 'full')
  t.equal((await replay()).status, 503)
  b.journal.appendError = null
  b.pressure.set('slow')
  t.equal((await replay()).status, 429)
  t.equal(b.store.letters.size, 2)
  b.pressure.set('open')
  t.equal((await replay()).json.replayed, 2)
})

void t.test('letters are deleted one by one or by list', async t => {
  const b = await bench(t)
  for (let i = 1; i <= 4; i++) b.store.letter('acme', `${i}-0`)
  b.store.letter('bolt', '9-0')
  t.equal((await b.call('DELETE', 'dead-letters/1-0', { key: b.keys.operator })).status, 204)
  t.equal((await b.call('DELETE', 'dead-letters/1-0', { key: b.keys.operator })).status, 404)
  t.equal((await b.call('DELETE', 'dead-letters', { key: b.keys.operator, body: { ids: ['2-0', '3-0', '9-0'] } })).json.deleted, 2)
  t.same([...b.store.letters.keys()], ['acme\x004-0', 'bolt\x009-0'])
})
