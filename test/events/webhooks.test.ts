/** Webhooks on a real store against real receivers that refuse, hang, die and come back. */
import t from 'tap'
import { randomInt } from 'node:crypto'
import { systemClock } from '../../src/core/clock.js'
import { eventsKeptUs, laneOf } from '../../src/store/event-log.js'
import { seededRandom } from '../../simulators/fleet/seeded-random.js'
import { bench, disordered, eventOf, expectedSignature, newReceiver, openEvents } from './events-bench.js'

t.setTimeout(60_000)

const tenant = 'acme'
/** Devices in lanes of their own. */
const otherLane = (than: string): string => Array.from({ length: 100 }, (_, i) => `other-${i}`).find(id => laneOf(tenant, id) !== laneOf(tenant, than)) as string

t.test('an event arrives as a signed CloudEvent, and the signature verifies by an independent computation', async t => {
  const { store, events } = await bench(t)
  const receiver = await newReceiver(t)
  const { webhook, secret } = await events.webhooks.create(tenant, { url: receiver.url, headers: { 'x-team': 'ops' } })
  await store.appendEvents([eventOf(tenant, 'pump-1', 7), eventOf('bolt', 'pump-1', 8)])
  await receiver.until(() => receiver.taken.length > 0)
  const [first] = receiver.taken
  t.match(first.headers, { 'content-type': /^application\/cloudevents\+json/, 'webhook-id': 'acme/pump-1/7', 'x-team': 'ops' })
  t.ok(Math.abs(Number(first.headers['webhook-timestamp']) - Date.now() / 1000) < 5)
  t.equal(first.headers['webhook-signature'], expectedSignature(secret, first))
  t.match(first.events[0], { specversion: '1.0', source: '/tenants/acme/devices/pump-1', type: 'io.twinfold.twin.changed', subject: 'pump-1', tenant, sequence: '7', data: { number: 7 } })
  const { secret: newer } = await events.webhooks.rotateSecret(tenant, webhook.id)
  await store.appendEvents([eventOf(tenant, 'pump-1', 9)])
  await receiver.until(() => receiver.taken.length > 1)
  const second = receiver.taken[1]
  t.equal(second.headers['webhook-signature'], `${expectedSignature(newer, second)} ${expectedSignature(secret, second)}`, 'while it changes over, both secrets sign')
  t.same(receiver.ids, ['acme/pump-1/7', 'acme/pump-1/9'], 'nothing of another tenant')
})

t.test('thousands of events reach three webhooks, each device in order, types and filters kept', async t => {
  const { store, events } = await bench(t)
  const seed = randomInt(2 ** 31)
  t.comment(`seed ${seed}`)
  const random = seededRandom(seed)
  for (let i = 0; i < 20; i++) await store.createDevice({ tenant, id: `d${i}`, type: i % 2 === 0 ? 'pump' : 'valve', name: '', gateway: false, gatewayId: null, createdAt: 0, tags: { site: i < 10 ? 'berlin' : 'lyon' } })
  const all = await newReceiver(t)
  const batches = await newReceiver(t)
  const some = await newReceiver(t)
  await events.webhooks.create(tenant, { url: all.url })
  await events.webhooks.create(tenant, { url: batches.url, maxBatch: 100 })
  await events.webhooks.create(tenant, { url: some.url, maxBatch: 10, types: ['command.*'], filter: 'type eq "pump" and tags.site eq "berlin"' })
  const sent = []
  for (let number = 0; number < 2000;) {
    const group = Array.from({ length: 1 + Math.floor(random() * 40) }, () => {
      const device = `d${Math.floor(random() * 20)}`
      return eventOf(tenant, device, number++, { type: number % 3 === 0 ? 'command.changed' : 'twin.changed' })
    })
    sent.push(...group)
    await store.appendEvents([...group, eventOf('bolt', 'x', number)])
  }
  const wanted = sent.filter(({ type, device }) => type === 'command.changed' && Number(device.slice(1)) % 2 === 0 && Number(device.slice(1)) < 10)
  const beganMs = performance.now()
  await Promise.all([all.until(() => all.events.length >= sent.length, 30_000), batches.until(() => batches.events.length >= sent.length, 30_000), some.until(() => some.events.length >= wanted.length)])
  t.comment(`${sent.length} events to three webhooks ${Math.round(performance.now() - beganMs)} ms after the last was appended`)
  for (const [receiver, expected] of [[all, sent], [batches, sent], [some, wanted]] as const) {
    t.same(receiver.ids.sort(), expected.map(({ id }) => id).sort(), 'each exactly once where nothing fails')
    t.same(disordered(receiver.events), [])
  }
  t.ok(batches.taken.every(({ events, headers }) => events.length <= 100 && /cloudevents-batch/.test(String(headers['content-type']))))
  t.ok(batches.taken.length < sent.length / 3, 'they go in batches')
  t.ok(all.connections <= 8, `connections are kept (${all.connections})`)
})

t.test('while a receiver fails, the events of a lane wait in order and other lanes go on', async t => {
  const { store, events } = await bench(t)
  const receiver = await newReceiver(t)
  const bad = 'pump-1'
  const good = otherLane(bad)
  let down = true
  const kinds = [503, 'cut', 500, 429, 'hang', 302] as const
  let tries = 0
  receiver.behave = ({ events: [event] }) => {
    if (!down || event.subject !== bad) return 204
    const kind = kinds[tries++ % kinds.length]
    return kind === 302 ? { status: 302, headers: { location: receiver.url } } : kind
  }
  const { webhook } = await events.webhooks.create(tenant, { url: receiver.url })
  await store.appendEvents([1, 2, 3].flatMap(number => [eventOf(tenant, bad, number), eventOf(tenant, good, number)]))
  await receiver.until(() => receiver.events.filter(({ subject }) => subject === good).length === 3 && tries > 6, 20_000)
  t.same(receiver.events.filter(({ subject }) => subject === bad), [])
  t.ok(receiver.asked.filter(({ events: [event] }) => event.subject === bad).every(({ events: [event] }) => event.data.number === 1), 'nothing overtakes the one that fails')
  const report = await events.webhooks.report(tenant, webhook.id)
  t.equal(report.waiting, 3)
  t.ok(report.oldestUs > 0)
  t.ok(report.lanes[laneOf(tenant, bad)].failingSinceUs > 0)
  t.equal(report.lanes[laneOf(tenant, good)].failingSinceUs, 0)
  down = false
  await receiver.until(() => receiver.events.length === 6)
  t.same(disordered(receiver.events), [])
  t.equal(new Set(receiver.ids).size, 6)
  t.equal(events.stats.sinks.deadLettered, 0)
})

t.test('a receiver that hangs delays no other webhook', async t => {
  const { store, events } = await bench(t)
  const slow = await newReceiver(t)
  const quick = await newReceiver(t)
  slow.behave = () => 'hang'
  await events.webhooks.create(tenant, { url: slow.url })
  await events.webhooks.create(tenant, { url: quick.url })
  const beganMs = performance.now()
  await store.appendEvents(Array.from({ length: 200 }, (_, i) => eventOf(tenant, `d${i % 32}`, i)))
  await quick.until(() => quick.events.length === 200, 5000)
  t.ok(performance.now() - beganMs < 1900, 'before the slow one timed out for the first time')
  t.ok(slow.asked.length <= 4, `four deliveries at once (${slow.asked.length})`)
})

t.test('what a receiver refuses for good becomes a dead letter after three tries, alone out of its batch, and can be replayed', async t => {
  const { store, events } = await bench(t)
  const receiver = await newReceiver(t)
  receiver.behave = received => received.events.some(({ data }) => data.number === 5) ? 422 : 204
  const { webhook } = await events.webhooks.create(tenant, { url: receiver.url, maxBatch: 50 })
  await store.appendEvents(Array.from({ length: 10 }, (_, number) => eventOf(tenant, 'd', number)))
  await receiver.until(() => receiver.events.length === 9)
  await store.appendEvents([eventOf(tenant, 'd', 10)])
  await receiver.until(() => receiver.events.length === 10)
  t.same(receiver.events.map(({ data }) => data.number), [0, 1, 2, 3, 4, 6, 7, 8, 9, 10])
  const page = await events.webhooks.deadLetters(tenant, webhook.id, null, 10)
  t.match(page.items, [{ reason: 'status 422', event: { id: 'acme/d/5' }, cut: false }])
  t.equal(page.items.length, 1)
  t.equal(events.stats.sinks.deadLettered, 1)
  const ids = [page.items[0].id, 'none', `${webhook.id}/00/none`]
  t.match(await events.webhooks.replayLetters(tenant, webhook.id, ids), [{ result: 'failed', reason: 'status 422' }, { result: 'not_found' }, { result: 'not_found' }])
  receiver.behave = () => 200
  t.match(await events.webhooks.replayLetters(tenant, webhook.id, ids.slice(0, 1)), [{ result: 'delivered' }])
  t.equal((await events.webhooks.deadLetters(tenant, webhook.id, null, 10)).items.length, 0)
  t.equal(receiver.events.at(-1)?.id, 'acme/d/5')
})

t.test('what fails for longer than it is tried for becomes a dead letter, and the next has its turn', async t => {
  const { store, events } = await bench(t, { policy: { firstMs: 20, longestMs: 50, giveUpMs: 300 } })
  const receiver = await newReceiver(t)
  receiver.behave = received => received.events[0].data.number === 1 ? 500 : 204
  const { webhook } = await events.webhooks.create(tenant, { url: receiver.url })
  await store.appendEvents([1, 2].map(number => eventOf(tenant, 'd', number)))
  await receiver.until(() => receiver.events.length === 1)
  t.match((await events.webhooks.deadLetters(tenant, webhook.id, null, 10)).items, [{ event: { id: 'acme/d/1' }, reason: 'status 500' }])
  t.ok((await events.webhooks.report(tenant, webhook.id)).lanes[laneOf(tenant, 'd')].recent.length > 2)
})

t.test('410 switches a webhook off; switched on again it begins at that moment', async t => {
  const { store, events } = await bench(t)
  const receiver = await newReceiver(t)
  receiver.behave = () => 410
  const { webhook } = await events.webhooks.create(tenant, { url: receiver.url })
  await store.appendEvents([eventOf(tenant, 'd', 1)])
  await receiver.until(() => receiver.asked.length === 1)
  for (let now = webhook; now.enabled;) {
    now = await events.webhooks.get(tenant, webhook.id)
    if (!now.enabled) t.match(now.gone, { reason: 'status 410' })
  }
  await store.appendEvents([eventOf(tenant, 'd', 2)])
  receiver.behave = () => 204
  const again = await events.webhooks.update(tenant, webhook.id, { enabled: true })
  t.equal(again.gone, null)
  await store.appendEvents([eventOf(tenant, 'd', 3)])
  await receiver.until(() => receiver.events.length === 1)
  t.same(receiver.events.map(({ data }) => data.number), [3])
})

t.test('Retry-After of 429 and 503 is obeyed', async t => {
  const { store, events } = await bench(t, { policy: { firstMs: 10, longestMs: 5000, giveUpMs: 60_000 } })
  const receiver = await newReceiver(t)
  receiver.behave = () => receiver.asked.length === 1 ? { status: 429, headers: { 'retry-after': '1' } } : 204
  await events.webhooks.create(tenant, { url: receiver.url })
  await store.appendEvents([eventOf(tenant, 'd', 1)])
  await receiver.until(() => receiver.taken.length === 1)
  t.ok(receiver.asked[1].atMs - receiver.asked[0].atMs >= 990)
})

t.test('a paused webhook gets what waited when it is resumed; a replay sends everything from a time on again', async t => {
  const { store, events } = await bench(t)
  const receiver = await newReceiver(t)
  const { webhook } = await events.webhooks.create(tenant, { url: receiver.url, maxBatch: 10 })
  await store.appendEvents([eventOf(tenant, 'd', 1)])
  await receiver.until(() => receiver.events.length === 1)
  await events.webhooks.setPaused(tenant, webhook.id, true)
  const fromUs = systemClock.nowUs()
  await store.appendEvents([2, 3].map(number => eventOf(tenant, 'd', number)))
  t.equal((await events.webhooks.report(tenant, webhook.id)).waiting, 2)
  t.equal(receiver.events.length, 1)
  await events.webhooks.setPaused(tenant, webhook.id, false)
  await receiver.until(() => receiver.events.length === 3)
  await events.webhooks.replay(tenant, webhook.id, fromUs)
  await receiver.until(() => receiver.events.length === 5)
  t.same(receiver.events.map(({ data }) => data.number), [1, 2, 3, 2, 3])
  await t.rejects(events.webhooks.replay(tenant, webhook.id, fromUs - eventsKeptUs - 1e6), { code: 'invalid_field', field: 'from' })
})

t.test('an event that the log will not keep is counted and dead-lettered, never silent', async t => {
  const { store, events } = await bench(t)
  const receiver = await newReceiver(t)
  receiver.behave = () => 500
  const { webhook } = await events.webhooks.create(tenant, { url: receiver.url })
  // Begins seven days back, as if it had failed since then.
  const old = systemClock.nowUs() - eventsKeptUs + 60e6
  await events.webhooks.setPaused(tenant, webhook.id, true)
  await store.appendEvents([eventOf(tenant, 'd', 1, { stamp: old }), eventOf(tenant, 'd', 2)])
  await events.webhooks.replay(tenant, webhook.id, old)
  await events.webhooks.setPaused(tenant, webhook.id, false)
  await receiver.until(() => receiver.asked.length > 0)
  await events.webhooks.setPaused(tenant, webhook.id, true)
  // A delivery may be under way still.
  while (events.stats.sinks.agedOut === 0) {
    await events.sinks.age()
    await new Promise(resolve => { setTimeout(resolve, 20) })
  }
  t.match((await events.webhooks.deadLetters(tenant, webhook.id, null, 10)).items, [{ event: { id: 'acme/d/1' }, reason: /too old/ }])
  t.equal((await events.webhooks.report(tenant, webhook.id)).waiting, 1, 'the younger one waits still')
})

t.test('with content state a twin event carries the twin as it is when it is sent', async t => {
  const { store, events } = await bench(t, { twinState: async (_tenant, device, name) => device === 'gone' ? null : { deviceId: device, name, version: 12 } })
  const receiver = await newReceiver(t)
  await events.webhooks.create(tenant, { url: receiver.url, content: 'state' })
  await store.appendEvents([eventOf(tenant, 'd', 1, { data: '{"name":"engine"}' }), eventOf(tenant, 'd', 2, { data: '{}' }), eventOf(tenant, 'd', 3, { type: 'command.changed' })])
  await store.appendEvents([eventOf(tenant, 'gone', 1, { type: 'twin.deleted' })])
  await receiver.until(() => receiver.events.length === 4)
  const datas = receiver.events.filter(({ subject }) => subject === 'd').map(({ data }) => data)
  t.same(datas, [{ name: 'engine', twin: { deviceId: 'd', name: 'engine', version: 12 } }, { twin: { deviceId: 'd', name: '', version: 12 } }, { number: 3 }])
  t.same(receiver.events.find(({ subject }) => subject === 'gone')?.data, { number: 1, twin: null })
})

t.test('in binary mode the attributes are headers and the body is the data', async t => {
  const { store, events } = await bench(t)
  const receiver = await newReceiver(t)
  const { secret } = await events.webhooks.create(tenant, { url: receiver.url, mode: 'binary' })
  await store.appendEvents([eventOf(tenant, 'pump:1', 3)])
  await receiver.until(() => receiver.taken.length === 1)
  const [received] = receiver.taken
  t.match(received.headers, { 'content-type': 'application/json', 'ce-specversion': '1.0', 'ce-id': 'acme/pump:1/3', 'ce-source': '/tenants/acme/devices/pump:1', 'ce-type': 'io.twinfold.twin.changed', 'ce-sequence': '3', 'ce-tenant': 'acme' })
  t.equal(received.body, '{"number":3}')
  t.equal(received.headers['webhook-signature'], expectedSignature(secret, received))
  await t.rejects(events.webhooks.create(tenant, { url: receiver.url, mode: 'binary', maxBatch: 2 }), { code: 'invalid_field', field: 'mode' })
})

t.test('a test event goes out at once and its answer is told', async t => {
  const { events } = await bench(t)
  const receiver = await newReceiver(t)
  const { webhook } = await events.webhooks.create(tenant, { url: receiver.url })
  t.match(await events.webhooks.test(tenant, webhook.id), { delivered: true, status: 204, reason: '' })
  receiver.behave = () => 418
  t.match(await events.webhooks.test(tenant, webhook.id), { delivered: false, status: 418, reason: 'status 418' })
  receiver.behave = () => 'cut'
  t.match(await events.webhooks.test(tenant, webhook.id), { delivered: false, status: null, reason: 'ECONNRESET' })
  t.match(receiver.asked[0].events, [{ type: 'io.twinfold.webhook.test', data: { webhook: webhook.id } }])
})

t.test('a tenant has a bounded number of webhooks, headers that belong to the server are refused, and one is made once', async t => {
  const { events } = await bench(t)
  const url = 'http://127.0.0.1:9/'
  for (let i = 0; i < 19; i++) await events.webhooks.create(tenant, { url, id: `w${i}`, enabled: false })
  await t.rejects(events.webhooks.create(tenant, { url, id: 'w0' }), { code: 'already_exists' })
  const more = await Promise.allSettled(['x', 'y', 'z'].map(async id => await events.webhooks.create(tenant, { url, id, enabled: false })))
  t.same(more.map(({ status }) => status).sort(), ['fulfilled', 'rejected', 'rejected'])
  await t.rejects(events.webhooks.create('bolt', { url, id: 'mqtt-events' }), { code: 'invalid_field', field: 'id' })
  for (const headers of [{ Host: 'x' }, { 'Webhook-Signature': 'v1,x' }, { 'content-length': '1' }, { 'a b': 'x' }, { ok: 'a\r\nb: c' }, { 'ce-id': '1' }]) await t.rejects(events.webhooks.create('bolt', { url, headers } as never), { code: 'invalid_field', field: 'headers' }, JSON.stringify(headers))
  await t.rejects(events.webhooks.create('bolt', { url, types: ['twin.chnaged'] }), { code: 'invalid_field', field: 'types' })
  await t.rejects(events.webhooks.create('bolt', { url, secret: 'whsec_short' }), { code: 'invalid_field', field: 'secret' })
  await t.rejects(events.webhooks.create('bolt', { url, filter: 'reported.x eq 1' }), { code: 'invalid_field', field: 'filter' })
  await t.rejects(events.webhooks.get('bolt', 'w0'), { code: 'not_found' })
})

t.test('dead letters of a webhook are bounded: the oldest go, counted', async t => {
  const { store, events } = await bench(t, { lettersPerLaneMax: 8, policy: { firstMs: 1, longestMs: 1, giveUpMs: 60_000, refusedAttemptsMax: 1 } })
  const receiver = await newReceiver(t)
  receiver.behave = received => received.events[0].data.number === 99 ? 204 : 400
  const { webhook } = await events.webhooks.create(tenant, { url: receiver.url })
  await store.appendEvents([...Array.from({ length: 20 }, (_, number) => eventOf(tenant, 'd', number)), eventOf(tenant, 'd', 99)])
  await receiver.until(() => receiver.taken.length === 1)
  const { items } = await events.webhooks.deadLetters(tenant, webhook.id, null, 100)
  t.ok(items.length <= 8 && items.length >= 6)
  t.equal(items.at(-1)?.event.id, 'acme/d/19')
  t.equal(events.stats.letters.dropped, 20 - items.length)
  t.equal(events.stats.sinks.deadLettered, 20)
  t.equal(await events.webhooks.deleteDeadLetters(tenant, webhook.id, null), items.length)
})

t.test('a server that stops stores how far it got: the next one goes on there, and repeats nothing', async t => {
  const { store, events } = await bench(t)
  const receiver = await newReceiver(t)
  await events.webhooks.create(tenant, { url: receiver.url })
  await store.appendEvents([1, 2].map(number => eventOf(tenant, 'd', number)))
  await receiver.until(() => receiver.events.length === 2)
  await events.close()
  await store.appendEvents([eventOf(tenant, 'd', 3)])
  openEvents(t, store)
  await receiver.until(() => receiver.events.length === 3)
  t.same(receiver.events.map(({ data }) => data.number), [1, 2, 3])
})
