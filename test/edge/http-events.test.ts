/** Webhooks and the stream of events over HTTP, as operators and clients see them. */
import t, { type Test } from 'tap'
import { once } from 'node:events'
import { request, type IncomingMessage } from 'node:http'
import { openEvents, newStore, eventOf, newReceiver, type CloudEvent } from '../events/events-bench.js'
import type { EventsOptions } from '../../src/events/events.js'
import { bench, type Bench } from './http-support.js'
import type { Events } from '../../src/events/events.js'
import type { EmbeddedStore } from '../../src/store/embedded/embedded-store.js'
import { systemClock } from '../../src/core/clock.js'

t.setTimeout(60_000)

async function withEvents (t: Test, more: Partial<EventsOptions> = {}): Promise<Bench & { events: Events, eventStore: EmbeddedStore }> {
  const { store } = await newStore(t)
  const events = openEvents(t, store, more)
  const b = await bench(t, { events, clock: systemClock })
  return Object.assign(b, { events, eventStore: store })
}

/** A client of server-sent events, as a browser would be. */
class StreamClient {
  readonly events: { name: string, data: CloudEvent }[] = []
  lastId = ''
  ended = false
  #text = ''
  readonly response: IncomingMessage

  constructor (response: IncomingMessage) {
    this.response = response
    response.setEncoding('utf8')
    response.on('data', (text: string) => {
      const blocks = (this.#text + text).split('\n\n')
      this.#text = blocks.pop() as string
      for (const block of blocks) {
        const fields = new Map(block.split('\n').map(line => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 2)]))
        this.lastId = fields.get('id') ?? this.lastId
        if (fields.has('data')) this.events.push({ name: fields.get('event') as string, data: JSON.parse(fields.get('data') as string) as CloudEvent })
      }
    })
    response.on('close', () => { this.ended = true })
    response.on('error', () => {})
  }

  async until (holds: () => boolean): Promise<void> {
    for (let i = 0; !holds(); i++) {
      if (i > 1000) throw new Error(`not so: ${this.events.length} events`)
      await new Promise(resolve => { setTimeout(resolve, 10) })
    }
  }
}

async function watch (b: Bench, query: string, key: string, lastId?: string): Promise<StreamClient> {
  const asked = request(`http://127.0.0.1:${b.edge.port}/api/v1/events?${query}`, { agent: false, headers: { authorization: `Bearer ${key}`, ...(lastId === undefined ? {} : { 'last-event-id': lastId }) } })
  asked.end()
  const [response] = await once(asked, 'response') as [IncomingMessage]
  return new StreamClient(response)
}

t.test('a webhook is made, shown without its secret, changed, tested, paused and deleted; by operators of its tenant only', async t => {
  const b = await withEvents(t)
  const { keys } = b
  const receiver = await newReceiver(t)
  for (const key of [keys.application, keys.viewer, keys.device]) t.equal((await b.call('POST', 'webhooks', { key, body: { url: receiver.url } })).status, 403)
  const made = await b.call('POST', 'webhooks', { key: keys.operator, body: { url: receiver.url, types: ['twin.*'], headers: { authorization: 'Bearer inner' }, description: 'to us' } })
  t.equal(made.status, 201)
  t.match(made.json, { id: /^wh_[0-9a-f]{24}$/, secret: /^whsec_/, url: receiver.url, enabled: true, paused: false, maxBatch: 1, content: 'thin', headers: { authorization: '***' } })
  const path = `webhooks/${made.json.id as string}`
  t.equal(made.headers.location, `/api/v1/${path}`)
  const shown = await b.call('GET', path, { key: keys.operator })
  t.notOk(shown.text.includes('whsec_') || shown.text.includes('inner'), 'neither the secret nor the headers are shown again')
  t.same((await b.call('GET', 'webhooks', { key: keys.operator })).json.webhooks, [shown.json])
  t.same((await b.call('GET', 'webhooks', { key: keys.foreignOperator })).json.webhooks, [])
  for (const [method, sub] of [['GET', ''], ['PATCH', ''], ['DELETE', ''], ['POST', '/test'], ['POST', '/pause'], ['GET', '/deliveries'], ['GET', '/dead-letters']] as const) {
    t.equal((await b.call(method, path + sub, { key: keys.foreignOperator, ...(method === 'PATCH' ? { body: { enabled: false } } : {}) })).status, 404, `${method} ${sub}`)
  }
  t.match((await b.call('POST', `${path}/test`, { key: keys.operator })).json, { delivered: true, status: 204 })
  t.match((await b.call('PATCH', path, { key: keys.operator, body: { maxBatch: 5, types: [] } })).json, { maxBatch: 5, types: [], url: receiver.url })
  t.match((await b.call('POST', `${path}/pause`, { key: keys.operator })).json, { paused: true })
  await b.eventStore.appendEvents([eventOf('acme', 'pump-1', 1)])
  t.match((await b.call('GET', `${path}/deliveries`, { key: keys.operator })).json, { state: 'paused', waiting: 1, delivered: 0 })
  t.match((await b.call('POST', `${path}/resume`, { key: keys.operator })).json, { paused: false })
  await receiver.until(() => receiver.ids.includes('acme/pump-1/1'))
  t.match((await b.call('GET', `${path}/deliveries`, { key: keys.operator })).json, { state: 'up', attempts: [{ outcome: 'delivered', firstId: 'acme/pump-1/1', events: 1 }] })
  t.match((await b.call('POST', `${path}/rotate-secret`, { key: keys.operator, body: {} })).json, { secret: /^whsec_/, oldValidUntil: /Z$/ })
  t.equal((await b.call('POST', `${path}/replay`, { key: keys.operator, body: { from: 'now-1h' } })).status, 202)
  await receiver.until(() => receiver.ids.filter(id => id === 'acme/pump-1/1').length === 2)
  t.equal((await b.call('POST', `${path}/replay`, { key: keys.operator, body: { from: 'now-8d' } })).status, 400)
  t.equal((await b.call('DELETE', path, { key: keys.operator })).status, 204)
  t.equal((await b.call('DELETE', path, { key: keys.operator })).status, 404)
  await b.eventStore.appendEvents([eventOf('acme', 'pump-1', 2)])
  t.notOk(receiver.ids.includes('acme/pump-1/2'))
})

t.test('targets inside are refused by default, with a problem that names the field and tells nothing of the network', async t => {
  const b = await withEvents(t, { targets: { allowPrivate: false, allow: [] } })
  const { operator } = b.keys
  for (const url of ['http://127.0.0.1:1/', 'http://0x7f.1/', 'http://[::ffff:127.0.0.1]/', 'http://localhost:6379/', 'http://169.254.169.254/latest/meta-data/', 'http://user:pw@example.com/']) {
    const answer = await b.call('POST', 'webhooks', { key: operator, body: { url } })
    t.match(answer, { status: 400, json: { code: 'invalid_field', field: 'url' } }, url)
    t.notMatch(answer.text, /127\.0|refused by|ECONN/)
  }
  for (const body of [{}, { url: 5 }, { url: 'https://example.com', maxBatch: 101 }, { url: 'https://example.com', types: ['x'] }, { url: 'https://example.com', id: 'A B' }, { url: 'https://example.com', unknown: 1 }, { url: 'https://example.com', devices: Array(1001).fill('d') }]) {
    t.equal((await b.call('POST', 'webhooks', { key: operator, body })).status, 400, JSON.stringify(body).slice(0, 80))
  }
})

t.test('dead letters of a webhook are listed, replayed and deleted', async t => {
  const b = await withEvents(t)
  const { operator } = b.keys
  const receiver = await newReceiver(t)
  receiver.behave = () => 400
  t.equal((await b.call('POST', 'webhooks', { key: operator, body: { id: 'w', url: receiver.url } })).status, 201)
  t.equal((await b.call('POST', 'webhooks', { key: operator, body: { id: 'w', url: receiver.url } })).status, 409)
  await b.eventStore.appendEvents([1, 2, 3].map(number => eventOf('acme', 'pump-1', number)))
  await receiver.until(() => receiver.asked.length === 9)
  await receiver.until(() => b.events.stats.sinks.deadLettered === 3)
  const first = await b.call('GET', 'webhooks/w/dead-letters?limit=2', { key: operator })
  t.match(first.json.deadLetters, [{ reason: 'status 400', attempts: 3, event: { id: 'acme/pump-1/1', specversion: '1.0', data: { number: 1 } } }, { event: { id: 'acme/pump-1/2' } }])
  const second = await b.call('GET', `webhooks/w/dead-letters?limit=2&cursor=${first.json.next as string}`, { key: operator })
  t.match(second.json, { deadLetters: [{ event: { id: 'acme/pump-1/3' } }], next: null })
  receiver.behave = () => 200
  const ids = (first.json.deadLetters as { id: string }[]).map(({ id }) => id)
  t.match((await b.call('POST', 'webhooks/w/dead-letters/replay', { key: operator, body: { ids } })).json, { delivered: 2 })
  t.same(receiver.ids, ['acme/pump-1/1', 'acme/pump-1/2'])
  t.same((await b.call('DELETE', 'webhooks/w/dead-letters', { key: operator, body: { ids } })).json, { deleted: 0 })
  t.same((await b.call('DELETE', 'webhooks/w/dead-letters', { key: operator, body: { all: true } })).json, { deleted: 1 })
  t.equal((await b.call('DELETE', 'webhooks/w/dead-letters', { key: operator, body: { all: false } })).status, 400)
})

t.test('a stream of events goes on after Last-Event-ID; a device gets its own only; revoked and stopped streams end with a word', async t => {
  const b = await withEvents(t)
  const { keys } = b
  await b.edge.open()
  const all = await watch(b, '', keys.viewer)
  t.match(all.response, { statusCode: 200, headers: { 'content-type': /^text\/event-stream/ } })
  const own = await watch(b, '', keys.device)
  const chosen = await watch(b, 'types=command.*,device.event&devices=pump-1,pump-2', keys.application)
  await all.until(() => all.lastId !== '')
  await b.eventStore.appendEvents([eventOf('acme', 'pump-1', 1), eventOf('acme', 'pump-2', 2, { type: 'device.event', data: '{"type":"x",\n"payload":1}' }), eventOf('acme', 'child-1', 3, { type: 'command.changed' }), eventOf('bolt', 'bolt-1', 4)])
  await all.until(() => all.events.length === 3)
  await own.until(() => own.events.length === 1)
  await chosen.until(() => chosen.events.length === 1)
  t.match(own.events, [{ name: 'twin.changed', data: { id: 'acme/pump-1/1' } }])
  t.match(chosen.events, [{ name: 'device.event', data: { subject: 'pump-2', data: { payload: 1 } } }])
  t.same(new Set(all.events.map(({ data }) => data.tenant)), new Set(['acme']))
  const { lastId } = all
  all.response.destroy()
  await b.eventStore.appendEvents([5, 6].map(number => eventOf('acme', 'pump-1', number)))
  const again = await watch(b, '', keys.viewer, lastId)
  await again.until(() => again.events.length === 2)
  t.same(again.events.map(({ data }) => data.data.number), [5, 6])
  const since = await watch(b, 'from=now-1m', keys.viewer)
  await since.until(() => since.events.length === 5)
  t.equal(b.events.disconnect(({ role }) => role === 'viewer'), 2)
  await again.until(() => again.ended)
  t.equal(again.events.at(-1)?.name, 'revoked')
  await b.edge.close()
  await own.until(() => own.ended)
  t.equal(own.events.at(-1)?.name, 'closing')
})

t.test('what is asked wrongly of a stream is answered with a problem', async t => {
  const b = await withEvents(t, { streamLimits: { perTenantMax: 0 } })
  const { keys } = b
  t.equal((await b.call('GET', 'events', { key: keys.viewer })).status, 429)
  t.ok((await b.call('GET', 'events', { key: keys.viewer })).headers['retry-after'])
  for (const query of ['types=nothing', 'devices=a%20b', 'filter=reported.x%20eq%201', 'filter=%28', 'from=yesterday', 'all=1']) t.equal((await b.call('GET', `events?${query}`, { key: keys.viewer })).status, 400, query)
  t.equal((await b.call('GET', 'events?devices=pump-2', { key: keys.device })).status, 403)
  t.equal((await b.call('GET', 'events')).status, 401)
  const none = await bench(t)
  for (const path of ['events', 'webhooks', 'events/mqtt']) t.equal((await none.call('GET', path, { key: none.keys.operator })).status, 503, path)
})

t.test('MQTT topics of events are switched on and off by operators', async t => {
  const b = await withEvents(t, { publish: async () => {} })
  const { keys } = b
  t.same((await b.call('GET', 'events/mqtt', { key: keys.viewer })).json, { enabled: false, types: [], since: null })
  t.equal((await b.call('PUT', 'events/mqtt', { key: keys.application, body: { enabled: true } })).status, 403)
  t.match((await b.call('PUT', 'events/mqtt', { key: keys.operator, body: { enabled: true, types: ['alarm.*'] } })).json, { enabled: true, types: ['alarm.*'], since: /Z$/ })
  t.equal((await b.call('PUT', 'events/mqtt', { key: keys.operator, body: { enabled: true, types: ['alarms'] } })).status, 400)
  t.match((await b.call('GET', 'events/mqtt', { key: keys.viewer })).json, { enabled: true, types: ['alarm.*'] })
  t.match((await b.call('GET', 'events/mqtt', { key: keys.foreignOperator })).json, { enabled: false })
  t.same((await b.call('GET', 'webhooks', { key: keys.operator })).json.webhooks, [])
})
