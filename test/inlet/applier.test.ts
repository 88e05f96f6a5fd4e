import fc from 'fast-check'
import { setTimeout as delay } from 'node:timers/promises'
import { readFileSync, writeFileSync } from 'node:fs'
import t from 'tap'
import { systemClock } from '../../src/core/clock.js'
import { Applier } from '../../src/inlet/applier.js'
import type { MessageOutcome } from '../../src/inlet/device-message.js'
import { JournalIntents } from '../../src/inlet/intents.js'
import { JournalInlet } from '../../src/inlet/journal-inlet.js'
import { JournalReader } from '../../src/inlet/journal-reader.js'
import { encodeMessage, messagesIn } from '../../src/inlet/message-record.js'
import { Pressure } from '../../src/gate/pressure.js'
import { encodeIdentity, RecordKind } from '../../src/journal/record.js'
import { ReplicatedJournal } from '../../src/journal/replicated-journal.js'
import type { EntityKey } from '../../src/store/entity-store.js'
import { mib, temporaryDirectory } from '../journal/journal-support.js'
import { appended, MemoryCursors, RecordingHandler, startWorld, telemetry, type Seen } from './inlet-support.js'

const drainMs = 10_000

void t.test('messages are applied in the order of the journal, at most 512 at a time, each once', async t => {
  const twins = new RecordingHandler('twin/')
  let release = (): void => {}
  twins.gate = new Promise(resolve => { release = resolve })
  const world = await startWorld(temporaryDirectory(t), [twins])
  t.teardown(async () => { await world.close() })
  world.applier.open()
  const said = Array.from({ length: 2000 }, async (_, i) => { await world.say(`d${i % 7}`, 'twin/reported', `{"n":${i}}`) })
  await Promise.all(said)
  release()
  t.ok(await world.applier.drain(drainMs))
  t.same(twins.seen.map(({ text }) => text), Array.from({ length: 2000 }, (_, i) => `{"n":${i}}`))
  t.ok(Math.max(...twins.batches) <= 512, `batches: ${twins.batches.join(' ')}`)
  t.ok(twins.seen.every((seen, i) => i === 0 || (seen.position > twins.seen[i - 1].position && seen.stamp > twins.seen[i - 1].stamp)), 'positions and stamps grow')
  t.same([world.applier.stats.applied, world.applier.stats.refused, world.applier.waiting], [2000, 0, 0])
  t.equal(world.applier.appliedTo, world.files.durableEnd)
})

void t.test('messages of one device keep their order across handlers', async t => {
  const order: Seen[] = []
  const slow = new RecordingHandler('twin/', order)
  slow.gate = delay(30)
  const world = await startWorld(temporaryDirectory(t), [slow, new RecordingHandler('commands/', order), new RecordingHandler('events/', order)])
  t.teardown(async () => { await world.close() })
  const paths = ['twin/reported', 'events/door', 'commands/reboot/response/1', 'twin/reported', 'twin/a/reported', 'events/door']
  const seed = Date.now() % 2 ** 31
  const pick = (i: number): string => paths[(Math.imul(i + seed, 2654435761) >>> 8) % paths.length]
  for (let i = 0; i < 600; i++) void world.say(`d${i % 3}`, pick(i), String(i))
  await world.say('last', 'events/end', 'end')
  world.applier.open()
  t.ok(await world.applier.drain(drainMs))
  for (const device of ['d0', 'd1', 'd2']) {
    const numbers = order.filter(seen => seen.device === device).map(({ text }) => Number(text))
    t.same(numbers, [...numbers].sort((a, b) => a - b), `${device}, seed ${seed}`)
    t.equal(numbers.length, 200)
  }
})

void t.test('while the store is away messages wait, and nothing is lost or doubled when it is back', async t => {
  const twins = new RecordingHandler('twin/')
  twins.away = true
  const world = await startWorld(temporaryDirectory(t), [twins], { lagMsMax: 5 })
  t.teardown(async () => { await world.close() })
  world.applier.open()
  for (let i = 0; i < 100; i++) await world.say('d1', 'twin/reported', String(i))
  while (twins.calls < 5) await delay(1)
  t.equal(world.applier.stuck, true)
  t.equal(world.applier.behind, false, 'senders are not slowed for what they cannot help')
  t.ok(world.applier.appliedTo < world.files.durableEnd)
  twins.away = false
  t.ok(await world.applier.drain(drainMs))
  t.same(twins.seen.map(({ text }) => text), Array.from({ length: 100 }, (_, i) => String(i)))
  t.same(twins.repeats, [])
  t.equal(world.applier.stuck, false)
})

void t.test('beyond its bound nothing more is kept in memory, and the rest is read from the segments', async t => {
  const twins = new RecordingHandler('twin/')
  let release = (): void => {}
  twins.gate = new Promise(resolve => { release = resolve })
  const world = await startWorld(temporaryDirectory(t), [twins], { waitingMax: 50, lagMsMax: 1, segmentBytesMax: mib / 2 })
  t.teardown(async () => { await world.close() })
  world.applier.open()
  const count = 3000
  for (let i = 0; i < count; i += 100) {
    await Promise.all([...Array.from({ length: 100 }, async (_, j) => { await world.say(`d${j % 5}`, 'twin/reported', String(i + j)) }), telemetry(world.journal, 40_000)])
  }
  await delay(5)
  t.equal(world.applier.behind, true, 'senders are slowed')
  t.ok(world.applier.waiting <= 50 + 512, `${world.applier.waiting} are kept`)
  release()
  // More comes while it reads on.
  for (let i = count; i < count + 500; i += 50) await Promise.all(Array.from({ length: 50 }, async (_, j) => { await world.say(`d${j % 5}`, 'twin/reported', String(i + j)) }))
  t.ok(await world.applier.drain(drainMs))
  t.same(twins.seen.map(({ text }) => Number(text)), Array.from({ length: count + 500 }, (_, i) => i))
  t.ok(world.applier.stats.spills >= 1)
  t.ok(twins.seen.every(seen => !seen.replayed), 'none is from before the start')
  t.equal(world.applier.behind, false)
})

void t.test('after a crash what the cursor does not cover is applied again, marked, and changes nothing twice', async t => {
  const directory = temporaryDirectory(t)
  const applied = new Map<string, number>()
  const cursors = new MemoryCursors()
  const before = new RecordingHandler('twin/', [], applied)
  const first = await startWorld(directory, [before], { cursors, cursorEveryMs: 3_600_000 })
  first.applier.open()
  for (let i = 0; i < 20; i++) await first.say('d1', 'twin/reported', String(i))
  t.ok(await first.applier.drain(drainMs))
  // As after SIGKILL: no cursor was written, and ten more are durable and not applied.
  before.away = true
  for (let i = 20; i < 30; i++) await first.say('d1', 'twin/reported', String(i))
  await first.files.close()
  const after = new RecordingHandler('twin/', [], applied)
  const second = await startWorld(directory, [after], { cursors })
  t.teardown(async () => { await first.applier.close(); await second.close() })
  second.applier.open()
  await second.say('d1', 'twin/reported', '30')
  t.ok(await second.applier.drain(drainMs))
  t.same(after.repeats.map(({ text }) => Number(text)), Array.from({ length: 20 }, (_, i) => i))
  t.same(after.seen.map(({ text }) => Number(text)), Array.from({ length: 11 }, (_, i) => i + 20))
  t.same(after.seen.map(({ replayed }) => replayed), [...Array<boolean>(10).fill(true), false])
  t.same(after.repeats.map(({ position }) => position), before.seen.slice(0, 20).map(({ position }) => position), 'each has the position it had')
  await second.applier.close()
  t.equal(cursors.positions.get('applied'), second.files.durableEnd)
})

void t.test('a message that makes its handler fail is refused to the dead letters, and its neighbours are applied', async t => {
  const twins = new RecordingHandler('twin/')
  twins.poison = text => text === '37' || text === '71'
  const world = await startWorld(temporaryDirectory(t), [twins])
  t.teardown(async () => { await world.close() })
  for (let i = 0; i < 99; i++) void world.say('d1', 'twin/reported', String(i))
  await world.say('d1', 'twin/reported', 'refuse')
  await world.say('d1', 'nobody/takes/this', 'x')
  world.applier.open()
  t.ok(await world.applier.drain(drainMs))
  t.same(twins.seen.map(({ text }) => Number(text)), Array.from({ length: 99 }, (_, i) => i).filter(i => i !== 37 && i !== 71))
  t.same(world.letters.map(({ reason, device, format, payload }) => [reason, device, format, messagesIn({ kind: 7, position: 0, end: 0, stamp: 0, messages: 1, identity: { tenant: 'acme', device: '', idempotencyKey: '', fingerprint: '' }, body: Buffer.from(payload), replayed: false }, '').messages.map(message => [message.path, Buffer.from(message.payload).toString()])]), [
    ['worker_failed', 'd1', RecordKind.deviceMessages, [['twin/reported', '37']]],
    ['worker_failed', 'd1', RecordKind.deviceMessages, [['twin/reported', '71']]],
    ['twin_refused', 'd1', RecordKind.deviceMessages, [['twin/reported', 'refuse']]],
    ['event_refused', 'd1', RecordKind.deviceMessages, [['nobody/takes/this', 'x']]]
  ])
  t.equal(new Set(world.letters.map(({ id }) => id)).size, 4, 'each has its id')
  t.match(world.letters[2].detail, /it says so itself.*devices\/d1\/twin\/reported/)
  t.equal(world.applier.stats.poisoned, 2)
})

void t.test('closed while the store is away: the cursor stays before what is not applied', async t => {
  const directory = temporaryDirectory(t)
  const cursors = new MemoryCursors()
  const applied = new Map<string, number>()
  const away = new RecordingHandler('twin/', [], applied)
  const first = await startWorld(directory, [away], { cursors })
  first.applier.open()
  await first.say('d1', 'twin/reported', '0')
  t.ok(await first.applier.drain(drainMs))
  away.away = true
  await first.say('d1', 'twin/reported', '1')
  while (away.calls < 3) await delay(1)
  await first.close()
  const handler = new RecordingHandler('twin/', [], applied)
  const second = await startWorld(directory, [handler], { cursors, from: cursors.positions.get('applied') ?? -1 })
  t.teardown(async () => { await second.close() })
  second.applier.open()
  t.ok(await second.applier.drain(drainMs))
  t.same(handler.seen.map(({ text }) => text), ['1'])
  t.same(handler.repeats, [], 'and no more than that is repeated')
})

void t.test('the cursor never passes a message that is not applied, whatever comes between', async t => {
  const seed = Date.now() % 2 ** 31
  await fc.assert(fc.asyncProperty(fc.array(fc.constantFrom('say', 'telemetry', 'away', 'back', 'pause'), { minLength: 5, maxLength: 60 }), async steps => {
    const directory = temporaryDirectory(t)
    const applied = new Map<string, number>()
    const handler = new RecordingHandler('twin/', [], applied)
    const world = await startWorld(directory, [handler], { waitingMax: 3, cursorEveryMs: 1 })
    world.applier.open()
    let said = 0
    let lowest = 0
    for (const step of steps) {
      if (step === 'say') await world.say('d1', 'twin/reported', String(said++))
      else if (step === 'telemetry') await telemetry(world.journal, 200)
      else if (step === 'pause') await delay(2)
      else handler.away = step === 'away'
      const at = world.applier.appliedTo
      if (at < lowest) throw new Error(`the cursor went back from ${lowest} to ${at}`)
      lowest = at
      // What was said at or after the cursor is all that may be missing.
      const missing = said - handler.seen.length
      if (missing > 0 && at >= world.files.durableEnd) throw new Error(`the cursor is at the end and ${missing} are not applied`)
    }
    await world.close()
    const cursor = world.cursors.positions.get('applied') ?? 0
    const again = new RecordingHandler('twin/', [], applied)
    const second = await startWorld(directory, [again], { from: cursor })
    second.applier.open()
    const drained = await second.applier.drain(drainMs)
    await second.close()
    const texts = [...handler.seen, ...again.seen].map(({ text }) => Number(text))
    return drained && texts.length === said && texts.every((text, i) => text === i)
  }), { seed, numRuns: 25 })
  t.pass(`seed ${seed}`)
})

void t.test('the reader finds every message in pieces of any size, past damage and large records', async t => {
  const directory = temporaryDirectory(t)
  const world = await startWorld(directory, [], { segmentBytesMax: 2 * mib })
  const texts: string[] = []
  const seed = Date.now() % 2 ** 31
  for (let i = 0; i < 300; i++) {
    const random = Math.imul(i + seed, 2654435761) >>> 0
    if (i % 40 === 39) await telemetry(world.journal, 3 * mib)
    else if (random % 3 === 0) await telemetry(world.journal, 1 + random % 9000)
    else {
      const text = `${i} ${'x'.repeat(random % 3000)}`
      texts.push(text)
      await appended(world.journal, 'd1', 'events/e', text)
    }
  }
  const end = world.files.durableEnd
  const read = async (pieceBytes: number): Promise<string[]> => {
    const reader = new JournalReader(world.files, pieceBytes)
    const found: string[] = []
    for (let at = 0, turns = 0; at < end; turns++) {
      const piece = await reader.read(at, end, 0)
      if (piece.next <= at) throw new Error(`no progress at ${at}`)
      for (const record of piece.records) for (const { payload } of messagesIn(record, '').messages) found.push(Buffer.from(payload).toString())
      at = piece.next
    }
    return found
  }
  for (const pieceBytes of [100, 5000, 64 * 1024, mib]) t.same(await read(pieceBytes), texts, `pieces of ${pieceBytes} bytes, seed ${seed}`)
  const { records } = await new JournalReader(world.files, mib).read(0, end, 0)
  const segments = world.files.segmentsFor(0, end)
  await world.files.close()
  const [damaged] = segments
  const bytes = readFileSync(damaged.path)
  bytes.fill(0xee, records[5].position - damaged.base + 10, records[5].position - damaged.base + 40)
  writeFileSync(damaged.path, bytes)
  const found = await read(64 * 1024)
  t.ok(found.length < texts.length && found.length > texts.length - 5, `${texts.length - found.length} messages are damaged, seed ${seed}`)
  t.ok(found.every(text => texts.includes(text)), 'the others are whole')
})

void t.test('changes that were noted before a crash are repeated once each, before what the device said later', async t => {
  const directory = temporaryDirectory(t)
  const cursors = new MemoryCursors()
  const first = await startWorld(directory, [], { cursors })
  first.applier.open()
  const intents = new JournalIntents(first.journal)
  const key: EntityKey = { tenant: 'acme', device: 'd1', kind: 'twin', name: '' }
  await intents.note(key)
  await intents.note({ ...key, name: 'config' })
  await intents.note(key)
  t.ok(await first.applier.drain(drainMs))
  await appended(first.journal, 'd1', 'events/x', 'later')
  await first.close()
  t.ok((cursors.positions.get('applied') ?? -1) < first.files.durableEnd, 'the cursor stays behind what may not have been told')
  const told: string[] = []
  const events = new RecordingHandler('events/')
  const second = await startWorld(directory, [events], {
    from: cursors.positions.get('applied') ?? -1,
    intents: { repeat: repeated => { told.push(`${repeated.device} ${repeated.kind} '${repeated.name}' ${events.seen.length}`); return Promise.resolve() } }
  })
  t.teardown(async () => { await second.close() })
  second.applier.open()
  await new JournalIntents(second.journal).note({ ...key, device: 'd2' })
  t.ok(await second.applier.drain(drainMs))
  t.same(told, ["d1 twin '' 0", "d1 twin 'config' 0"])
})

void t.test('what a device says over HTTP is answered when it is applied, with null when only durable, and refused under pressure', async t => {
  const twins = new RecordingHandler('twin/')
  const world = await startWorld(temporaryDirectory(t), [twins])
  t.teardown(async () => { await world.close() })
  world.applier.open()
  const pressure = new Pressure()
  const inlet = new JournalInlet({ journal: world.journal, applier: world.applier, pressure, waitingMax: 2 })
  const say = async (text: string, waitMs = 5000): Promise<MessageOutcome | null> => await inlet.submit({ tenant: 'acme', device: 'd1', path: 'twin/reported', payload: Buffer.from(text) }, waitMs)
  t.same(await say('{}'), { kind: 'applied' })
  t.match(await say('refuse'), { kind: 'refused', code: 'invalid_field' })
  twins.away = true
  t.same(await say('1', 20), null)
  t.same(await say('2', 0), null)
  const waiting = [say('3'), say('4')]
  await t.rejects(say('5'), { code: 'throttled' })
  twins.away = false
  t.same(await Promise.all(waiting), [{ kind: 'applied' }, { kind: 'applied' }])
  t.same(twins.seen.map(({ text }) => text), ['{}', '1', '2', '3', '4'])
  t.equal(inlet.waiting, 0)
  pressure.set('slow')
  await t.rejects(say('6'), { code: 'throttled' })
})

void t.test('with ack: replicated a message is acknowledged when it is applied, telemetry around it when it is packed, in order', async t => {
  const twins = new RecordingHandler('twin/')
  twins.away = true
  let replicated: ReplicatedJournal | null = null
  const world = await startWorld(temporaryDirectory(t), [twins], { onApplied: position => { replicated?.appliedUpTo(position) } })
  t.teardown(async () => { await world.close() })
  replicated = new ReplicatedJournal({ journal: world.journal })
  world.applier.open()
  const acked: string[] = []
  const identity = encodeIdentity({ tenant: 'acme', device: 'd1', idempotencyKey: '', fingerprint: '' })
  const append = (name: string, kind: typeof RecordKind.bodyAuto | typeof RecordKind.deviceMessages): void => {
    replicated?.append({ kind, flags: 0, identity, body: encodeMessage('devices/d1/twin/reported', Buffer.from(name)), messages: 1 }, { committed: () => { acked.push(name) }, failed: () => { acked.push(`${name} failed`) } }, 0)
  }
  append('telemetry 1', RecordKind.bodyAuto)
  append('message', RecordKind.deviceMessages)
  append('telemetry 2', RecordKind.bodyAuto)
  while (twins.calls < 2) await delay(1)
  t.same(acked, [])
  replicated.packedUpTo(world.files.durableEnd)
  t.same(acked, ['telemetry 1'])
  twins.away = false
  t.ok(await world.applier.drain(drainMs))
  t.same(acked, ['telemetry 1', 'message', 'telemetry 2'])
})

void t.test('a body that does not add up gives what stands before, and never reads beyond itself', t => {
  const whole = Buffer.concat([encodeMessage('devices/d1/events/a', Buffer.from('1')), encodeMessage('devices/d2/twin/reported', Buffer.alloc(300, 0x20))])
  const seed = Date.now() % 2 ** 31
  const read = (body: Buffer): readonly string[] => messagesIn({ kind: 7, position: 100, end: 200, stamp: 5, messages: 2, identity: { tenant: 'acme', device: '', idempotencyKey: '', fingerprint: '' }, body, replayed: false }, 'j').messages.map(({ device, path, position, stamp, payload }) => `${device} ${path} ${position} ${stamp} ${payload.length}`)
  t.same(read(whole), ['d1 events/a 100 5 1', 'd2 twin/reported 101 6 300'])
  fc.assert(fc.property(fc.nat(whole.length), fc.nat(whole.length - 1), fc.nat(255), (length, at, byte) => {
    const body = Buffer.from(whole.subarray(0, length))
    if (at < length) body[at] = byte
    return read(body).length <= 30
  }), { seed, numRuns: 2000 })
  t.end()
})

void t.test('an applier that closes with nothing to do closes at once', async t => {
  const world = await startWorld(temporaryDirectory(t), [])
  world.applier.open()
  const startedMs = systemClock.monotonicMs()
  await world.close()
  t.ok(systemClock.monotonicMs() - startedMs < 500)
  t.ok(world.applier instanceof Applier)
})
