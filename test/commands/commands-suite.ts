/** What commands keep on every store (INVARIANTS 6). */
import type { Test } from 'tap'
import type { Command } from '../../src/commands/command.js'
import type { Store } from '../../src/store/store.js'
import { commandWorld, operator, requestOf, tenant, type CommandWorld } from './command-world.js'
import type { CommandServiceOptions } from '../../src/commands/command-service.js'

export function commandsSuite (t: Test, open: () => Promise<Store>, more: Partial<CommandServiceOptions> = {}): void {
  let devices = 0
  const run = Math.random().toString(36).slice(2, 8)
  const newDevice = (): string => `pump-${run}-${++devices}`
  const world = async (t: Test, options: Partial<CommandServiceOptions> = {}): Promise<CommandWorld> => await commandWorld(t, await open(), { ...more, ...options })

  void t.test('a command goes through queued, sent, delivered and the device\'s answer, each with its time and event', async t => {
    const w = await world(t)
    const device = newDevice()
    const asked = await w.ask(device)
    t.equal(await w.state(device, asked.id), 'queued')
    const link = w.connect(device, { answer: 'hold' })
    await link.until(1)
    t.equal(link.handed[0].topic, `devices/${device}/commands/reboot/request/${asked.id}`)
    t.equal(link.handed[0].payload, '{"delay":1}')
    t.equal(link.handed[0].qos, 1)
    const sent = await w.service.get(tenant, device, asked.id) as Command
    t.ok(sent.attempts[0].at <= link.handed[0].atUs, 'sent was written down before it was handed over')
    link.ack()
    await w.until(device, asked.id, 'delivered')
    t.match(await w.answer(device, asked, { status: 'succeeded', payload: { uptime: 3 } }), { kind: 'applied' })
    const done = await w.service.get(tenant, device, asked.id) as Command
    t.match(done, { answer: { outcome: 'succeeded', status: 'succeeded', payload: { uptime: 3 }, late: false }, end: null })
    // Where nodes share the store an event may come again, always the same one.
    const events = [...new Map((await w.events(device)).map(logged => [logged.event.id, logged])).values()]
    t.same(events.map(({ event }) => (JSON.parse(event.data) as { state: string }).state), ['queued', 'sent', 'delivered', 'succeeded'])
    t.same(events.map(({ event }) => event.sequence), [1, 2, 3, 4].map(number => ({ of: 'commands', number })))
  })

  void t.test('commands are handed over by priority, then by age, ten under way at most', async t => {
    const w = await world(t)
    const device = newDevice()
    const asked: Command[] = []
    for (let i = 0; i < 25; i++) asked.push(await w.ask(device, { priority: i % 3, name: `n${i}` }))
    const expected = [...asked].sort((a, b) => b.priority - a.priority || a.createdAt - b.createdAt).map(({ id }) => id)
    const link = w.connect(device, { answer: 'hold' })
    await link.until(10)
    await new Promise(resolve => { setTimeout(resolve, 20) })
    t.equal(link.handed.length, 10, 'no more than ten')
    link.ack(3)
    await link.until(13)
    link.answer = 'acked'
    link.ack()
    await link.until(25)
    t.same(link.handed.map(({ id }) => id), expected)
  })

  void t.test('a topic that is not subscribed to gets nothing until it is; QoS 0 stays sent', async t => {
    const w = await world(t)
    const device = newDevice()
    const link = w.connect(device, { names: ['other'], qos: 0 })
    const asked = await w.ask(device)
    const other = await w.ask(device, { name: 'other' })
    await link.until(1)
    t.equal(link.handed[0].id, other.id)
    t.equal(await w.state(device, asked.id), 'queued')
    link.names = null
    w.service.sessions.ready(link)
    await link.until(2)
    t.same([link.handed[1].id, link.handed[1].qos], [asked.id, 0])
    t.equal(await w.state(device, asked.id), 'sent')
  })

  void t.test('expired is what was never handed over; unanswered what was, with what is known of its delivery', async t => {
    const w = await world(t)
    const device = newDevice()
    const never = await w.ask(device, { timeoutMs: 60, name: 'never' })
    await w.until(device, never.id, 'expired')
    const link = w.connect(device, { answer: 'hold' })
    t.equal(link.handed.length, 0)
    const unknown = await w.ask(device, { name: 'unknown' })
    await link.until(1)
    w.clock.offsetUs += 61e6
    await w.until(device, unknown.id, 'unanswered')
    t.equal(w.service.view(await w.service.get(tenant, device, unknown.id) as Command).delivery, 'unknown')
    link.ack()
    for (const begun = Date.now(); Date.now() - begun < 10_000 && w.service.view(await w.service.get(tenant, device, unknown.id) as Command).delivery !== 'confirmed';) await new Promise(resolve => { setTimeout(resolve, 3) })
    t.match(w.service.view(await w.service.get(tenant, device, unknown.id) as Command), { state: 'unanswered', delivery: 'confirmed' }, 'a late acknowledgement is known, and changes no state')
    const late = await w.answer(device, unknown, { status: 500 })
    t.match(late, { kind: 'applied' })
    t.match(await w.service.get(tenant, device, unknown.id), { end: { kind: 'unanswered' }, answer: { outcome: 'failed', status: 500, late: true } })
    t.match(await w.answer(device, never, { status: 'ok' }), { kind: 'refused' }, 'what was never sent cannot be answered')
  })

  void t.test('an answer that was accepted in time is the truth, however late it is seen', async t => {
    const w = await world(t)
    const device = newDevice()
    const link = w.connect(device)
    const asked = await w.ask(device)
    await link.until(1)
    const stamp = w.clock.nowUs()
    w.clock.offsetUs += 61e6
    await w.until(device, asked.id, 'unanswered')
    await w.answer(device, asked, { status: 'done' }, { stamp })
    t.match(await w.service.get(tenant, device, asked.id), { end: null, answer: { late: false, at: stamp } })
    t.equal(await w.state(device, asked.id), 'succeeded')
  })

  void t.test('a second answer never overwrites the first, and a repeat from the journal is none', async t => {
    const w = await world(t)
    const device = newDevice()
    const link = w.connect(device)
    const asked = await w.ask(device)
    await link.until(1)
    const at = 1e9
    t.match(await w.answer(device, asked, { status: 'ok', payload: 1 }, { position: at }), { kind: 'applied' })
    t.match(await w.answer(device, asked, { status: 'ok', payload: 1 }, { position: at }), { kind: 'unchanged' })
    for (let i = 1; i <= 7; i++) t.match(await w.answer(device, asked, { status: 'failed', payload: i === 1 ? 'x'.repeat(5000) : i }, { position: at + i }), { kind: 'applied' })
    const command = await w.service.get(tenant, device, asked.id) as Command
    t.match(command, { answer: { payload: 1, outcome: 'succeeded' }, lateAnswersBeyond: 2 })
    t.same(command.lateAnswers.map(({ payload, payloadOmittedBytes }) => payload ?? payloadOmittedBytes), [5002, 2, 3, 4, 5])
    t.match(await w.answer(newDevice(), asked, { status: 'ok' }), { kind: 'refused', code: 'not_found' }, 'another device cannot answer it')
    t.match(await w.answer(device, { id: asked.id, name: 'other' }, { status: 'ok' }, { position: at + 20 }), { kind: 'refused', code: 'not_found' })
    for (const body of ['', '[]', '{}', '{"status":{}}', `{"status":"ok","payload":"${'x'.repeat(65536)}"}`]) t.match(await w.answer(device, asked, body), { kind: 'refused' }, body.slice(0, 30))
  })

  void t.test('with retries it is sent again on a later connection, unless delivery was confirmed; without, once', async t => {
    const w = await world(t)
    const device = newDevice()
    const once = await w.ask(device, { name: 'once', priority: 9 })
    const again = await w.ask(device, { name: 'again', retries: 1 })
    const first = w.connect(device, { answer: 'hold' })
    await first.until(2)
    w.disconnect(first)
    const second = w.connect(device, { answer: 'hold' })
    await second.until(1)
    t.same(second.handed.map(({ id }) => id), [again.id], 'the same command id')
    second.ack()
    await w.until(device, again.id, 'delivered')
    w.disconnect(second)
    const third = w.connect(device)
    const marker = await w.ask(device, { name: 'marker' })
    await third.until(1)
    t.same(third.handed.map(({ id }) => id), [marker.id])
    t.match(await w.service.get(tenant, device, again.id), { attempts: { length: 2 } })
    t.equal(await w.state(device, once.id), 'sent')
  })

  void t.test('ifConnected is undeliverable where the device is not there, and when its connection ends before', async t => {
    const w = await world(t)
    const device = newDevice()
    t.match(await w.ask(device, { delivery: 'ifConnected' }), { end: { kind: 'undeliverable', cause: 'not_connected' } })
    const link = w.connect(device, { qos: -1 })
    const asked = await w.ask(device, { delivery: 'ifConnected' })
    t.equal(await w.state(device, asked.id), 'queued')
    w.disconnect(link)
    await w.until(device, asked.id, 'undeliverable')
  })

  void t.test('a command is cancelled only before it is handed over', async t => {
    const w = await world(t)
    const device = newDevice()
    const waiting = await w.ask(device)
    t.match(await w.service.cancel(tenant, device, waiting.id), { kind: 'cancelled' })
    t.match(await w.service.cancel(tenant, device, waiting.id), { kind: 'too_late' })
    const link = w.connect(device)
    const sent = await w.ask(device)
    await link.until(1)
    t.match(await w.service.cancel(tenant, device, sent.id), { kind: 'too_late', command: { end: null } })
    t.same(link.handed.map(({ id }) => id), [sent.id], 'the cancelled one is never handed over')
    t.match(await w.service.cancel(tenant, device, 'nothing'), { kind: 'not_found' })
  })

  void t.test('no more than the limit may be pending, and a key gives the same command', async t => {
    const w = await world(t, { pendingMax: 3 })
    const device = newDevice()
    const idempotency = { key: 'k1', fingerprint: 'a' }
    const outcomes = await Promise.all(Array.from({ length: 6 }, async () => await w.service.create(tenant, device, requestOf(w.clock, { idempotency }), operator)))
    t.same(new Set(outcomes.map(outcome => 'command' in outcome ? outcome.command.id : outcome.kind)).size, 1)
    t.same(outcomes.map(({ kind }) => kind).sort(), ['created', ...Array.from({ length: 5 }, () => 'repeated')])
    t.match(await w.service.create(tenant, device, requestOf(w.clock, { idempotency: { key: 'k1', fingerprint: 'b' } }), operator), { kind: 'mismatch' })
    const more = await Promise.all(Array.from({ length: 5 }, async () => await w.service.create(tenant, device, requestOf(w.clock), operator)))
    t.equal(more.filter(({ kind }) => kind === 'created').length, 2)
    t.equal(more.filter(({ kind }) => kind === 'limit_reached').length, 3)
    const first = outcomes.find(({ kind }) => kind === 'created') as { command: Command }
    await w.service.cancel(tenant, device, first.command.id)
    t.match(await w.service.create(tenant, device, requestOf(w.clock, { idempotency }), operator), { kind: 'repeated', command: { id: first.command.id, end: { kind: 'cancelled' } } }, 'finished ones too')
    t.match(await w.service.create(tenant, device, requestOf(w.clock), operator), { kind: 'created' }, 'there is room again')
  })

  void t.test('a request waits for the end, and no longer than it said', async t => {
    const w = await world(t)
    const device = newDevice()
    const asked = await w.ask(device)
    t.match(await w.service.wait(tenant, device, asked.id, 20), { id: asked.id, answer: null })
    const waiting = w.service.wait(tenant, device, asked.id, 20_000)
    const link = w.connect(device)
    await link.until(1)
    await w.answer(device, asked, { status: true })
    t.match(await waiting, { answer: { outcome: 'succeeded' } })
    t.equal(await w.service.wait(tenant, device, 'nothing', 5000), null)
  })

  void t.test('a device that polls is given commands once, marked as sent before, and again with retries left', async t => {
    const w = await world(t)
    const device = newDevice()
    const once = await w.ask(device, { priority: 9 })
    const again = await w.ask(device, { retries: 1 })
    t.same((await w.service.poll(tenant, device, 10)).map(({ id }) => id), [once.id, again.id])
    t.match(await w.service.get(tenant, device, once.id), { attempts: [{ via: 'http' }] })
    t.same((await w.service.poll(tenant, device, 10)).map(({ id }) => id), [again.id])
    t.same(await w.service.poll(tenant, device, 10), [])
    t.match(await w.answer(device, once, { status: 0 }), { kind: 'applied' })
  })

  void t.test('a deleted device leaves nothing behind, and its numbers go on', async t => {
    const w = await world(t)
    const device = newDevice()
    const link = w.connect(device)
    const sent = await w.ask(device)
    await link.until(1)
    await w.until(device, sent.id, 'delivered')
    w.disconnect(link)
    const queued = await w.ask(device)
    await w.service.deviceDeleted(tenant, device)
    t.same(await w.service.list(tenant, device, { state: null, name: null, before: null, limit: 10 }), { commands: [], next: null })
    t.equal(await w.service.get(tenant, device, queued.id), null)
    const told = (await w.events(device)).map(({ event }) => JSON.parse(event.data) as { commandId: string, state: string })
    t.equal(told.find(({ commandId, state }) => commandId === queued.id && state === 'undeliverable')?.state, 'undeliverable')
    t.equal(told.find(({ commandId, state }) => commandId === sent.id && state === 'unanswered')?.state, 'unanswered')
    await w.ask(device)
    const events = new Map((await w.events(device)).map(({ event }) => [event.id, event.sequence?.number ?? 0]))
    const numbers = [...events.values()]
    t.same(numbers, [...new Set(numbers)].sort((a, b) => a - b))
  })

  void t.test('lists are newest first, page by page, by state and name', async t => {
    const w = await world(t)
    const device = newDevice()
    const asked: Command[] = []
    for (let i = 0; i < 12; i++) asked.push(await w.ask(device, { name: i % 2 === 0 ? 'even' : 'odd' }))
    for (const i of [1, 2, 5, 8]) await w.service.cancel(tenant, device, asked[i].id)
    const pages: string[] = []
    for (let before: string | null = null; ;) {
      const page = await w.service.list(tenant, device, { state: null, name: null, before, limit: 5 })
      pages.push(...page.commands.map(({ id }) => id))
      before = page.next
      if (before === null) break
    }
    t.same(pages, asked.map(({ id }) => id).reverse())
    const cancelled = await w.service.list(tenant, device, { state: 'cancelled', name: null, before: null, limit: 10 })
    t.same(cancelled.commands.map(({ id }) => id), [8, 5, 2, 1].map(i => asked[i].id))
    const odd = await w.service.list(tenant, device, { state: 'queued', name: 'odd', before: null, limit: 10 })
    t.same(odd.commands.map(({ id }) => id), [11, 9, 7, 3].map(i => asked[i].id))
  })

  void t.test('after a restart deadlines hold for devices that never come back, and what was queued is delivered', async t => {
    const store = await open()
    const device = newDevice()
    const absent = newDevice()
    const before = await commandWorld(t, store, more)
    const soon = await before.ask(absent, { timeoutMs: 400 })
    const kept = await before.ask(device)
    await before.service.close()
    const after = await commandWorld(t, store, { ...more, journalId: before.journalId })
    await after.until(absent, soon.id, 'expired')
    const link = after.connect(device)
    await link.until(1)
    t.equal(link.handed[0].id, kept.id)
  })
}
