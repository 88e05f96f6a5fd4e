/** Commands over HTTP, on the real service and an embedded store. */
import t from 'tap'
import type { Test } from 'tap'
import { systemClock } from '../../src/core/clock.js'
import type { DeviceInlet, MessageOutcome } from '../../src/inlet/device-message.js'
import { commandWorld, embeddedStore, type CommandWorld } from '../commands/command-world.js'
import { bench, type Bench } from './http-support.js'

interface World { readonly b: Bench, readonly w: CommandWorld, inletAnswer: 'apply' | 'later' }

async function open (t: Test): Promise<World> {
  const store = await embeddedStore(t)
  const w = await commandWorld(t, store, { pendingMax: 3 })
  let position = 0
  const world = { inletAnswer: 'apply' as World['inletAnswer'] }
  const inlet: DeviceInlet = {
    submit: async ({ tenant, device, path, payload }): Promise<MessageOutcome | null> => {
      if (world.inletAnswer === 'later') return null
      const [outcome] = await w.service.answers.apply([{ journalId: 'j', position: ++position, stamp: systemClock.nowUs(), tenant, device, path, payload, replayed: false }])
      return outcome
    }
  }
  const b = await bench(t, { commands: w.service, inlet, clock: systemClock })
  return Object.assign(world, { b, w })
}

void t.test('202 with a Location; 200 when it came to its end while it was waited for', async t => {
  const { b, w } = await open(t)
  const asked = await b.call('POST', 'devices/pump-1/commands', { key: b.keys.operator, body: { name: 'reboot', payload: { delay: 1 }, reason: 'update' } })
  t.equal(asked.status, 202)
  t.equal(asked.headers.location, `/api/v1/devices/pump-1/commands/${asked.json.id as string}`)
  t.match(asked.json, { state: 'queued', finished: false, deviceId: 'pump-1', priority: 5, reason: 'update', known: { delivery: 'none', sentAt: null, end: null }, said: { answer: null }, requestedBy: { kind: 'operator', via: 'http' } })
  const waiting = b.call('POST', 'devices/pump-1/commands?wait=20000', { key: b.keys.application, body: { name: 'ping', priority: 9 } })
  const link = w.connect('pump-1')
  await link.until(2)
  const ping = link.handed.find(({ topic }) => topic.includes('/ping/'))
  t.equal(ping?.payload, '', 'no payload, no bytes')
  await w.answer('pump-1', { id: ping?.id ?? '', name: 'ping' }, { status: 'ok', payload: { ms: 4 } })
  const done = await waiting
  t.equal(done.status, 200)
  t.match(done.json, { state: 'succeeded', finished: true, known: { delivery: 'confirmed', end: null }, said: { answer: { outcome: 'succeeded', status: 'ok', payload: { ms: 4 }, late: false } } })
  const short = await b.call('POST', 'devices/pump-1/commands?wait=10', { key: b.keys.operator, body: { name: 'slow' } })
  t.equal(short.status, 202)
  t.match((await b.call('GET', `devices/pump-1/commands/${short.json.id as string}`, { key: b.keys.viewer })).json, { name: 'slow' })
})

void t.test('the deadline goes along in an envelope where that is asked for', async t => {
  const { b, w } = await open(t)
  const link = w.connect('pump-1')
  const expiresAt = new Date(Date.now() + 60_000).toISOString()
  await b.call('POST', 'devices/pump-1/commands', { key: b.keys.operator, body: { name: 'n', payload: [1], envelope: true, expiresAt } })
  await link.until(1)
  t.same(JSON.parse(link.handed[0].payload), { payload: [1], expiresAt: Date.parse(expiresAt) })
})

void t.test('what is asked wrongly is refused and says where', async t => {
  const { b } = await open(t)
  let deep: unknown = 1
  for (let i = 0; i < 25; i++) deep = { deep }
  const rows: readonly [unknown, number, string][] = [
    [{}, 400, 'invalid_field'], [{ name: 'a/b' }, 400, 'invalid_field'], [{ name: '' }, 400, 'invalid_field'], [{ name: 'n', priority: 10 }, 400, 'invalid_field'], [{ name: 'n', retries: 11 }, 400, 'invalid_field'],
    [{ name: 'n', expiresAt: '2020-01-01T00:00:00Z' }, 400, 'invalid_field'], [{ name: 'n', expiresAt: Date.now() + 31 * 24 * 3_600_000 }, 400, 'invalid_field'], [{ name: 'n', expiresAt: Date.now() + 1000, timeoutMs: 5 }, 400, 'invalid_field'],
    [{ name: 'n', timeoutMs: 0 }, 400, 'invalid_field'], [{ name: 'n', delivery: 'maybe' }, 400, 'invalid_field'], [{ name: 'n', other: 1 }, 400, 'invalid_field'], [{ name: 'n', payload: deep }, 400, 'invalid_field'],
    [{ name: 'n', payload: 'x'.repeat(64 * 1024) }, 413, 'payload_too_large'], [{ name: 'n', reason: 'x'.repeat(257) }, 400, 'invalid_field']
  ]
  for (const [body, status, code] of rows) {
    const answer = await b.call('POST', 'devices/pump-1/commands', { key: b.keys.operator, body })
    t.match({ status: answer.status, code: answer.json.code as string }, { status, code }, JSON.stringify(body).slice(0, 80))
  }
  t.same((await b.call('GET', 'devices/pump-1/commands', { key: b.keys.operator })).json, { commands: [], next: null })
  t.equal((await b.call('POST', 'devices/pump-1/commands?wait=60001', { key: b.keys.operator, body: { name: 'n' } })).status, 400)
})

void t.test('who may do what; another tenant sees nothing', async t => {
  const { b } = await open(t)
  const body = { name: 'n' }
  const asked = await b.call('POST', 'devices/pump-1/commands', { key: b.keys.operator, body })
  const one = `devices/pump-1/commands/${asked.json.id as string}`
  for (const [method, url, key, status] of [
    ['POST', 'devices/pump-1/commands', b.keys.viewer, 403], ['POST', 'devices/pump-1/commands', b.keys.device, 403], ['POST', 'devices/pump-1/commands', b.keys.foreignOperator, 404],
    ['GET', one, b.keys.foreignOperator, 404], ['GET', 'devices/pump-1/commands', b.keys.foreignDevice, 404], ['GET', one, b.keys.device, 200], ['GET', one, b.keys.gateway, 404],
    ['GET', 'devices/pump-1/commands/pending', b.keys.operator, 403], ['GET', 'devices/pump-1/commands/pending', b.keys.foreignDevice, 404], ['POST', `${one}/cancel`, b.keys.device, 403],
    ['POST', `${one}/response`, b.keys.operator, 403], ['GET', 'devices/nobody/commands', b.keys.operator, 404], ['GET', 'devices/pump-1/commands/0', b.keys.operator, 404]
  ] as const) {
    const answer = await b.call(method, url, { key, ...method === 'POST' ? { body: url.endsWith('response') ? { status: 1 } : url.endsWith('cancel') ? undefined : body } : {} })
    t.equal(answer.status, status, `${method} ${url}`)
  }
})

void t.test('an Idempotency-Key gives the same command, and refuses another body; the limit of pending ones is told', async t => {
  const { b } = await open(t)
  const ask = async (body: unknown, key: string | null, as = b.keys.operator) => await b.call('POST', 'devices/pump-1/commands', { key: as, body, headers: key === null ? {} : { 'idempotency-key': key } })
  const first = await ask({ name: 'n' }, 'k')
  const again = await ask({ name: 'n' }, 'k')
  t.equal(again.json.id, first.json.id)
  t.equal(again.headers['idempotent-replayed'], 'true')
  t.match(await ask({ name: 'm' }, 'k'), { status: 422, json: { code: 'idempotency_mismatch' } })
  const other = await ask({ name: 'n' }, 'k', b.keys.application)
  t.not(other.json.id, first.json.id, 'keys are a credential\'s own')
  t.equal((await ask({ name: 'n' }, null)).status, 202)
  t.match(await ask({ name: 'n' }, null), { status: 409, json: { code: 'limit_reached' } })
})

void t.test('cancelled before it is handed over; 409 with its state afterwards', async t => {
  const { b, w } = await open(t)
  const asked = await b.call('POST', 'devices/pump-1/commands', { key: b.keys.operator, body: { name: 'n' } })
  const cancel = async (id: string) => await b.call('POST', `devices/pump-1/commands/${id}/cancel`, { key: b.keys.operator })
  t.match(await cancel(asked.json.id as string), { status: 200, json: { state: 'cancelled', known: { end: { cause: 'cancelled' } } } })
  const link = w.connect('pump-1')
  const sent = await b.call('POST', 'devices/pump-1/commands', { key: b.keys.operator, body: { name: 'n' } })
  await link.until(1)
  await w.until('pump-1', sent.json.id as string, 'delivered')
  t.match(await cancel(sent.json.id as string), { status: 409, json: { code: 'too_late', detail: /is delivered/ } })
  t.equal((await cancel('nothing')).status, 404)
})

void t.test('a device that does not speak MQTT fetches and answers its commands', async t => {
  const world = await open(t)
  const { b } = world
  const asked = await b.call('POST', 'devices/pump-1/commands', { key: b.keys.operator, body: { name: 'n', payload: 7 } })
  const pending = await b.call('GET', 'devices/pump-1/commands/pending', { key: b.keys.device })
  t.match(pending.json, { commands: [{ id: asked.json.id as string, name: 'n', payload: 7, attempts: 1 }] })
  t.same((await b.call('GET', 'devices/pump-1/commands/pending', { key: b.keys.device })).json, { commands: [] }, 'once')
  const respond = async (id: string, body: unknown) => await b.call('POST', `devices/pump-1/commands/${id}/response`, { key: b.keys.device, body })
  t.match(await respond(asked.json.id as string, { status: 'broken', payload: 'no disk' }), { status: 200, json: { outcome: 'applied' } })
  t.match((await b.call('GET', `devices/pump-1/commands/${asked.json.id as string}`, { key: b.keys.operator })).json, { state: 'failed', known: { delivery: 'confirmed', attempts: [{ via: 'http' }] }, said: { answer: { status: 'broken', payload: 'no disk' } } })
  t.equal((await respond('nothing', { status: 1 })).status, 404)
  t.equal((await respond(asked.json.id as string, {})).status, 400)
  const unsent = await b.call('POST', 'devices/pump-1/commands', { key: b.keys.operator, body: { name: 'n' } })
  t.match(await respond(unsent.json.id as string, { status: 'ok' }), { status: 400 }, 'it was never given out')
  world.inletAnswer = 'later'
  t.match(await respond(asked.json.id as string, { status: 'ok' }), { status: 202, json: { outcome: 'accepted' } })
})

void t.test('lists are newest first, with a cursor of their own query', async t => {
  const { b } = await open(t)
  const ids: string[] = []
  for (let i = 0; i < 3; i++) ids.push((await b.call('POST', 'devices/pump-1/commands', { key: b.keys.operator, body: { name: `n${i}` } })).json.id as string)
  const first = await b.call('GET', 'devices/pump-1/commands?limit=2', { key: b.keys.viewer })
  t.same(first.json.commands.map(({ id }: { id: string }) => id), [ids[2], ids[1]])
  const second = await b.call('GET', `devices/pump-1/commands?limit=2&cursor=${first.json.next as string}`, { key: b.keys.viewer })
  t.same(second.json.commands.map(({ id }: { id: string }) => id), [ids[0]])
  t.equal((await b.call('GET', `devices/pump-1/commands?limit=2&state=queued&cursor=${first.json.next as string}`, { key: b.keys.viewer })).status, 400)
  t.same((await b.call('GET', 'devices/pump-1/commands?name=n1', { key: b.keys.viewer })).json.commands.map(({ id }: { id: string }) => id), [ids[1]])
})

void t.test('without commands the routes answer 503; who waits is answered when the server stops', async t => {
  const b = await bench(t)
  t.equal((await b.call('POST', 'devices/pump-1/commands', { key: b.keys.operator, body: { name: 'n' } })).status, 503)
  const world = await open(t)
  const waiting = world.b.call('POST', 'devices/pump-1/commands?wait=60000', { key: world.b.keys.operator, body: { name: 'n' } })
  while (world.w.service.stats.waiting === 0) await new Promise(resolve => { setTimeout(resolve, 2) })
  world.w.service.stopWaiting()
  t.equal((await waiting).status, 202)
})
