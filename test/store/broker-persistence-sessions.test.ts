import { EventEmitter } from 'node:events'
import { ClassicLevel } from 'classic-level'
import { join } from 'node:path'
import t from 'tap'
import type { TwinfoldError } from '../../src/core/errors.js'
import { openBrokerPersistence, type BrokerPersistence } from '../../src/store/embedded/broker/persistence.js'
import type { BrokerPacket } from '../../src/store/broker/types.js'
import { all, message, open, payloads, queueOf, randomFrom, temporaryDirectory, TestClock } from './broker-persistence-fixture.js'
import { silentLog } from '../../src/core/log.js'

const sub = (topic: string, qos = 1): { topic: string, qos: number } => ({ topic, qos })
const to = (...clientIds: string[]): { clientId: string }[] => clientIds.map((clientId) => ({ clientId }))

/** Everything in the database but format and run number, so that a test can say "nothing is left". */
async function rowsIn (directory: string): Promise<string[]> {
  const database = new ClassicLevel<Buffer, Buffer>(directory, { keyEncoding: 'buffer', valueEncoding: 'buffer' })
  const keys = await database.keys().all()
  await database.close()
  return keys.map((key) => key.toString('latin1')).filter((key) => key !== 'f' && key !== 'n')
}

void t.test('what is queued is there after reopening, in order, under the identifiers it was sent with', async (t) => {
  const directory = temporaryDirectory(t)
  const client = { id: 'acme/c' }
  let persistence = await open(directory)
  await persistence.addSubscriptions(client, [sub('acme/#', 2)])
  for (let i = 0; i < 50; i++) await persistence.outgoingEnqueueCombi(await persistence.subscriptionsByTopic('acme/t'), message('acme/t', String(i), 1 + i % 2))
  const queued = await queueOf(persistence, client.id)
  for (const [i, packet] of queued.slice(0, 6).entries()) await persistence.outgoingUpdate(client, { ...packet, messageId: 100 + i })
  await persistence.outgoingClearMessageId(client, { cmd: 'puback', messageId: 102 } as never)
  await persistence.outgoingUpdate(client, { cmd: 'pubrel', messageId: 103 })
  await persistence.close()

  persistence = await open(directory)
  const again = await queueOf(persistence, client.id)
  t.same(again.map(({ cmd, messageId, dup }) => `${cmd} ${messageId ?? '-'} ${dup ?? '-'}`).slice(0, 6),
    ['publish 100 true', 'publish 101 true', 'pubrel 103 -', 'publish 104 true', 'publish 105 true', 'publish - false'])
  t.same(payloads(again.filter(({ cmd }) => cmd === 'publish')), [0, 1, 4, 5, ...Array.from({ length: 44 }, (_, i) => i + 6)].map(String))
  t.same(again.slice(-2).map(({ qos }) => qos), [1, 2])
  t.same(await persistence.subscriptionsByClient(client), [{ topic: 'acme/#', qos: 2, rh: undefined, rap: undefined, nl: undefined }])

  await persistence.outgoingClearMessageId(client, { cmd: 'pubcomp', messageId: 103 } as never)
  t.equal((await queueOf(persistence, client.id)).length, 48)
  await persistence.cleanSubscriptions(client)
  await persistence.close()
  t.same(await rowsIn(directory), [], 'a discarded session leaves nothing')
})

void t.test('a message for many sessions is stored once, and goes with its last reference', async (t) => {
  const directory = temporaryDirectory(t)
  const ids = Array.from({ length: 1000 }, (_, i) => `acme/c${i}`)
  let persistence = await open(directory)
  await persistence.outgoingEnqueueCombi(to(...ids), message('acme/t', Buffer.alloc(100_000, 1)))
  t.equal(persistence.stats.queued, 1000)
  t.ok(persistence.stats.queuedBytes < 101_000, `${persistence.stats.queuedBytes} bytes`)
  await persistence.close()
  t.equal((await rowsIn(directory)).filter((key) => key.startsWith('m')).length, 1)

  persistence = await open(directory)
  t.match(persistence.stats, { queued: 1000, sessions: 1000 })
  for (const id of ids.slice(1)) await persistence.cleanSubscriptions({ id })
  t.same((await queueOf(persistence, ids[0])).map(({ payload }) => payload.length), [100_000])
  const [packet] = await queueOf(persistence, ids[0])
  await persistence.outgoingUpdate({ id: ids[0] }, { ...packet, messageId: 9 })
  t.match(await persistence.outgoingClearMessageId({ id: ids[0] }, { cmd: 'puback', messageId: 9 } as never), { topic: 'acme/t', messageId: 9 })
  t.match(persistence.stats, { queued: 0, queuedBytes: 0 })
  await persistence.cleanSubscriptions({ id: ids[0] })
  await persistence.close()
  t.same(await rowsIn(directory), [])
})

void t.test('overlapping filters queue a message once, at the highest QoS granted, not above its own', async (t) => {
  const persistence = await open(temporaryDirectory(t))
  const client = { id: 'acme/c' }
  await persistence.addSubscriptions(client, [sub('acme/#', 1), sub('acme/t', 2), sub('acme/+', 1), sub('acme/low/#', 1)])
  for (const [topic, qos] of [['acme/t', 2], ['acme/t', 1], ['acme/low/x', 2]] as const) {
    await persistence.outgoingEnqueueCombi(await persistence.subscriptionsByTopic(topic), message(topic, 'x', qos, true))
  }
  const queued = await queueOf(persistence, client.id)
  t.same(queued.map(({ qos }) => qos), [2, 1, 1])
  t.ok(queued.every(({ retain }) => !retain), 'RETAIN is 0 for an established subscription')
  const identity = queued[0]
  for (const left of [3, 3, 2]) {
    await persistence.outgoingClearMessageId(client, { ...identity, messageId: undefined })
    t.equal((await queueOf(persistence, client.id)).length, left, 'it goes when all three deliveries were taken back')
  }
  await persistence.close()
})

void t.test('a full queue refuses the newest, keeps the order of the rest, and counts', async (t) => {
  const directory = temporaryDirectory(t)
  const refused: string[] = []
  const limits = { queuedPerSessionMax: 5, queuedBytesPerSessionMax: 3000, queuedPerTenantMax: 12, queuedBytesPerTenantMax: 20_000 }
  let persistence = await open(directory, { limits, onLimit: (kind, subject) => refused.push(`${kind} ${subject}`) })
  for (let i = 0; i < 8; i++) await persistence.outgoingEnqueue({ clientId: 'acme/a' }, message('acme/t', String(i)))
  t.same(payloads(await queueOf(persistence, 'acme/a')), ['0', '1', '2', '3', '4'])
  t.same(refused, Array(3).fill('queued acme/a'))
  const big = Buffer.alloc(1400, 1)
  for (let i = 0; i < 3; i++) await persistence.outgoingEnqueue({ clientId: 'acme/b' }, message('acme/t', big))
  t.equal((await queueOf(persistence, 'acme/b')).length, 2)
  t.equal(refused.pop(), 'queued_bytes acme/b')
  await persistence.outgoingEnqueueCombi(to('acme/c', 'acme/d', 'acme/e', 'acme/f', 'acme/g', 'acme/h'), message('acme/t', 'many'))
  t.equal(persistence.stats.queued, 12)
  t.same(refused.slice(-1), ['queued_tenant acme/h'])
  await persistence.outgoingEnqueue({ clientId: 'other/a' }, message('other/t', 'x'))
  t.equal(persistence.stats.queued, 13, 'another tenant does not feel it')

  await t.resolves(persistence.outgoingUpdate({ id: 'acme/a' }, { ...message('acme/t', 'refused'), messageId: 4 }), 'a connected subscriber still gets what was refused')
  await t.resolves(persistence.outgoingUpdate({ id: 'acme/a' }, { cmd: 'pubrel', messageId: 4 }))
  t.equal(persistence.stats.untracked, 2)
  await persistence.close()

  persistence = await open(directory, { limits, onLimit: (kind, subject) => refused.push(`${kind} ${subject}`) })
  await persistence.outgoingEnqueue({ clientId: 'acme/c' }, message('acme/t', 'x'))
  t.same(refused.slice(-1), ['queued_tenant acme/c'], 'the counts survive reopening')
  const [first] = await queueOf(persistence, 'acme/a')
  await persistence.outgoingClearMessageId({ id: 'acme/a' }, first)
  await persistence.outgoingEnqueue({ clientId: 'acme/a' }, message('acme/t', '5'))
  t.same(payloads(await queueOf(persistence, 'acme/a')), ['1', '2', '3', '4', '5'], 'what leaves makes room')
  await persistence.close()
})

void t.test('sessions and subscriptions are bounded', async (t) => {
  const directory = temporaryDirectory(t)
  const refused: string[] = []
  const persistence = await open(directory, { limits: { sessionsPerTenantMax: 2, subscriptionsPerSessionMax: 3 }, onLimit: (kind, subject) => refused.push(`${kind} ${subject}`) })
  for (const id of ['acme/a', 'acme/b', 'acme/c', 'other/a']) await persistence.addSubscriptions({ id }, [sub(`${id}/x`)])
  t.same(refused, ['sessions acme/c'])
  t.same(await persistence.subscriptionsByClient({ id: 'acme/c' }), [])
  await persistence.outgoingEnqueue({ clientId: 'acme/c' }, message('acme/t', 'x'))
  t.same(refused, ['sessions acme/c', 'sessions acme/c'])
  t.equal(persistence.stats.queued, 0)
  await persistence.addSubscriptions({ id: 'acme/a' }, [sub('acme/1'), sub('acme/2'), sub('acme/3'), sub('acme/1', 2)])
  t.same((await persistence.subscriptionsByClient({ id: 'acme/a' })).map(({ topic, qos }) => `${topic} ${qos}`), ['acme/a/x 1', 'acme/1 2', 'acme/2 1'])
  t.equal(refused[2], 'subscriptions acme/a')
  await persistence.removeSubscriptions({ id: 'acme/b' }, ['acme/b/x'])
  await persistence.addSubscriptions({ id: 'acme/c' }, [sub('acme/c/x')])
  t.match(persistence.stats, { sessions: 3, subscriptions: 5 }, 'a session that ends makes room')
  await persistence.addSubscriptions({ id: 'acme/a' }, [{ topic: 'acme/forbidden', qos: 128 }])
  t.equal(persistence.stats.subscriptions, 5, 'a filter that was refused is not stored')
  await persistence.close()
})

void t.test('a session ends after its expiry, with all it has, at a cost by sessions ended', async (t) => {
  const directory = temporaryDirectory(t)
  const clock = new TestClock()
  const limits = { sessionExpiryMs: 1000 }
  let persistence = await open(directory, { clock, limits })
  for (let i = 0; i < 250; i++) {
    await persistence.addSubscriptions({ id: `acme/old${i}` }, [sub('acme/#'), sub(`acme/${i}`)])
  }
  await persistence.outgoingEnqueueCombi(await persistence.subscriptionsByTopic('acme/t'), message('acme/t', 'x'))
  await persistence.incomingStorePacket({ id: 'acme/old7' }, { ...message('acme/t', 'in', 2), messageId: 3 })
  clock.passMs(600)
  await persistence.addSubscriptions({ id: 'acme/young' }, [sub('acme/#')])
  await persistence.outgoingEnqueueCombi(await persistence.subscriptionsByTopic('acme/u'), message('acme/u', 'y'))
  t.equal(await persistence.sweepExpired(), 0)
  await persistence.close()

  persistence = await open(directory, { clock, limits })
  clock.passMs(600)
  const operations = persistence.stats.operations
  t.equal(await persistence.sweepExpired(), 250, 'the time of disconnect survives reopening')
  t.match(persistence.stats, { sessions: 1, queued: 1, incoming: 0, subscriptions: 1, sessionsExpired: 250 })
  t.ok(persistence.stats.operations - operations < 250 * 8, 'rows of expired sessions only are touched')
  t.same(payloads(await queueOf(persistence, 'acme/young')), ['y'])
  t.same((await persistence.subscriptionsByTopic('acme/7')).map(({ clientId }) => clientId), ['acme/young'])

  await persistence.addSubscriptions({ id: 'acme/old3' }, [sub('acme/3')])
  t.same(await queueOf(persistence, 'acme/old3'), [], 'a client that comes back later begins anew')
  await persistence.outgoingEnqueue({ clientId: 'acme/old3' }, message('acme/3', 'new'))
  clock.passMs(600)
  t.equal(await persistence.sweepExpired(), 1)
  clock.passMs(600)
  t.equal(await persistence.sweepExpired(), 1)
  await persistence.close()
  t.same(await rowsIn(directory), [])
})

void t.test('a new session that begins while the old one is being removed keeps its own messages only', async (t) => {
  const seed = Date.now() % 2 ** 31
  const random = randomFrom(seed)
  const directory = temporaryDirectory(t)
  let persistence = await open(directory)
  const client = { id: 'acme/c' }
  let expected: string[] = []
  for (let round = 0; round < 40; round++) {
    const cleaning = persistence.cleanSubscriptions(client)
    if (random(2) === 0) await Promise.resolve()
    expected = []
    for (let i = random(20); i >= 0; i--) {
      expected.push(`${round}/${i}`)
      const enqueued = persistence.outgoingEnqueue({ clientId: client.id }, message('acme/t', expected[expected.length - 1]))
      if (random(3) === 0) await enqueued
    }
    await cleaning
    t.same(payloads(await queueOf(persistence, client.id)), expected, `round ${round}, seed ${seed}`)
    if (random(4) === 0) {
      await persistence.close()
      persistence = await open(directory)
      t.same(payloads(await queueOf(persistence, client.id)), expected, `reopened in round ${round}, seed ${seed}`)
    }
  }
  t.equal(persistence.stats.queued, expected.length)
  await persistence.cleanSubscriptions(client)
  await persistence.close()
  t.same(await rowsIn(directory), [])
})

void t.test('any order of deliveries and acknowledgements leaves what was not acknowledged', async (t) => {
  const seed = Date.now() % 2 ** 31
  const random = randomFrom(seed)
  const directory = temporaryDirectory(t)
  let persistence = await open(directory)
  const clients = ['acme/a', 'acme/b', 'acme/c'].map((id) => ({ id }))
  const model = new Map(clients.map(({ id }) => [id, [] as { name: string, state: string }[]]))
  const stateOf = ({ cmd, messageId }: BrokerPacket): string => cmd === 'pubrel' ? `pubrel ${messageId}` : `publish ${messageId ?? '-'}`
  let messageId = 0
  for (let step = 0; step < 1500; step++) {
    const client = clients[random(3)]
    const queue = model.get(client.id) ?? []
    const what = random(10)
    if (what < 4) {
      const targets = clients.filter(() => random(2) === 0)
      await persistence.outgoingEnqueueCombi(to(...targets.map(({ id }) => id)), message('acme/t', `m${step}`, 2))
      for (const { id } of targets) model.get(id)?.push({ name: `m${step}`, state: 'publish -' })
    } else if (what < 6) {
      const waiting = queue.findIndex(({ state }) => state === 'publish -')
      if (waiting === -1) continue
      const packet = (await queueOf(persistence, client.id))[waiting]
      messageId++
      await persistence.outgoingUpdate(client, { ...packet, messageId })
      queue[waiting].state = `publish ${messageId}`
    } else if (what < 9) {
      const sent = queue.filter(({ state }) => state !== 'publish -')
      if (sent.length === 0) continue
      const entry = sent[random(sent.length)]
      const id = Number(entry.state.split(' ')[1])
      if (entry.state.startsWith('publish') && random(2) === 0) {
        await persistence.outgoingUpdate(client, { cmd: 'pubrel', messageId: id })
        entry.state = `pubrel ${id}`
      } else {
        await Promise.all([1, 2].map(async () => await persistence.outgoingClearMessageId(client, { messageId: id } as never)))
        queue.splice(queue.indexOf(entry), 1)
      }
    } else if (random(20) === 0) {
      await persistence.close()
      persistence = await open(directory)
    }
  }
  for (const { id } of clients) {
    const queue = await queueOf(persistence, id)
    t.same(queue.map(stateOf), model.get(id)?.map(({ state }) => state), `${id}, seed ${seed}`)
    t.same(payloads(queue.filter(({ cmd }) => cmd === 'publish')), model.get(id)?.filter(({ state }) => state.startsWith('publish')).map(({ name }) => name), `seed ${seed}`)
  }
  t.equal(persistence.stats.queued, [...model.values()].flat().length)
  for (const client of clients) await persistence.cleanSubscriptions(client)
  t.match(persistence.stats, { queued: 0, queuedBytes: 0, sessions: 0 })
  await persistence.close()
  t.same(await rowsIn(directory), [])
})

void t.test('a message whose write is under way is neither missed nor taken for damaged when its session comes back', async (t) => {
  const persistence = await open(temporaryDirectory(t))
  await persistence.outgoingEnqueue({ clientId: 'acme/c' }, message('acme/t', 'first'))
  for (let i = 0; i < 30; i++) {
    const enqueued = persistence.outgoingEnqueue({ clientId: 'acme/c' }, message('acme/t', String(i)))
    t.equal((await queueOf(persistence, 'acme/c')).length, i + 2)
    await enqueued
  }
  t.equal(persistence.stats.rowsDamaged, 0)
  await persistence.close()
})

void t.test('what an old connection still does neither hides a message from the new one nor renumbers it', async (t) => {
  const persistence = await openBrokerPersistence({ directory: temporaryDirectory(t), clock: new TestClock(), log: silentLog, sweepEveryMs: 0 })
  const events = new EventEmitter()
  await persistence.setup(Object.assign(events, { id: 'broker', counter: 0 }))
  const [old, present] = [{ id: 'acme/c', clean: false }, { id: 'acme/c', clean: false }]
  for (const name of ['taken', 'sent', 'waiting']) await persistence.outgoingEnqueue({ clientId: 'acme/c' }, message('acme/t', name, 2))
  events.emit('client', old)
  const packets = await all<BrokerPacket>(persistence.outgoingStream(old))
  await persistence.outgoingUpdate(old, { ...packets[0], messageId: 1 })
  await persistence.outgoingUpdate(old, { ...packets[1], messageId: 2 })
  t.same(payloads(await all(persistence.outgoingStream(old))), ['waiting'], 'nothing goes twice on one connection')

  events.emit('clientDisconnect', old)
  events.emit('client', present)
  const late = [persistence.outgoingUpdate(old, { cmd: 'pubrel', messageId: 1 }), persistence.outgoingUpdate(old, { ...packets[2], messageId: 3 })]
  await Promise.all(late)
  const again = await all<BrokerPacket>(persistence.outgoingStream(present))
  t.same(again.map(({ cmd, messageId, dup }) => [cmd, messageId, dup]), [['pubrel', 1, undefined], ['publish', 2, true], ['publish', undefined, false]])

  const resent = { ...again[1] }
  await persistence.outgoingUpdate(present, resent)
  const live = { ...packets[1], messageId: 77 }
  await persistence.outgoingUpdate(present, live)
  t.match(live, { messageId: 2, dup: true }, 'delivered by the subscription as well: the same identifier, so QoS 2 stays exactly once')
  await persistence.close()
})

void t.test('two messages of a session never wait under one packet identifier', async (t) => {
  const persistence = await open(temporaryDirectory(t))
  const client = { id: 'acme/c' }
  const sent: number[] = []
  for (let i = 0; i < 20; i++) {
    const packet = { ...message('acme/t', String(i)), messageId: 65_533 + i % 3 }
    await persistence.outgoingEnqueue({ clientId: client.id }, packet)
    await persistence.outgoingUpdate(client, packet)
    sent.push(packet.messageId)
  }
  t.equal(new Set(sent).size, 20)
  t.ok(sent.every((id) => id >= 1 && id <= 65_535), sent.join())
  const cleared = await persistence.outgoingClearMessageId(client, { messageId: sent[13] } as never)
  t.same(payloads([cleared as BrokerPacket]), ['13'])
  await persistence.close()
})

void t.test('QoS 2 identifiers are remembered until PUBREL, bounded, and for persistent sessions across reopening', async (t) => {
  const directory = temporaryDirectory(t)
  const limits = { incomingPerClientMax: 3, incomingPerTenantMax: 5, incomingPayloadBytesMax: 10 }
  const refused: string[] = []
  let persistence = await open(directory, { limits, onLimit: (kind, subject) => refused.push(`${kind} ${subject}`) })
  const store = async (id: string, messageId: number, clean?: boolean, payload = 'x'): Promise<void> => {
    await persistence.incomingStorePacket({ id, clean }, { ...message('acme/t', payload, 2), messageId })
  }
  const has = async (id: string, messageId: number): Promise<boolean> => await persistence.incomingGetPacket({ id }, { messageId }).then(() => true, () => false)
  for (const messageId of [7, 1, 5, 5, 2]) await store('acme/a', messageId)
  t.same([await has('acme/a', 7), await has('acme/a', 1), await has('acme/a', 5), await has('acme/a', 2)], [false, true, true, true], 'the oldest is forgotten')
  await store('acme/b', 1, true)
  await store('acme/b', 2, true, 'a longer payload')
  await store('acme/c', 1)
  t.notOk(await has('acme/c', 1))
  t.same(refused, ['incoming acme/a', 'incoming acme/c'])
  t.equal((await persistence.incomingGetPacket({ id: 'acme/b' }, { messageId: 2 })).payload.length, 0, 'a large payload is not kept')
  await persistence.close()

  persistence = await open(directory, { limits })
  t.same([await has('acme/a', 1), await has('acme/b', 1)], [true, false], 'a clean session ended with the process')
  await persistence.incomingDelPacket({ id: 'acme/a' }, { messageId: 1 })
  await t.rejects(persistence.incomingDelPacket({ id: 'acme/a' }, { messageId: 1 }))
  await persistence.cleanIncoming({ id: 'acme/a' })
  await persistence.cleanSubscriptions({ id: 'acme/a' })
  t.equal(persistence.stats.incoming, 0)
  await persistence.close()
  t.same(await rowsIn(directory), [])
})

void t.test('wills survive, are bounded, and a takeover does not remove the new connection\'s will', async (t) => {
  const directory = temporaryDirectory(t)
  const will = (payload: string): BrokerPacket => ({ topic: 'acme/gone', payload: Buffer.from(payload), qos: 1, retain: false })
  let persistence = await open(directory, { limits: { willsPerTenantMax: 2 } })
  for (const id of ['acme/a', 'acme/b', 'acme/c']) await persistence.putWill({ id }, will(id))
  t.match(persistence.stats, { wills: 2, refused: { wills: 1 } })
  await persistence.close()
  persistence = await open(directory)
  t.same(payloads(await all(persistence.streamWill({}))), ['acme/a', 'acme/b'])
  t.same(await all(persistence.streamWill({ broker: 1 })), [])

  const newer = { id: 'acme/a', closed: false }
  await persistence.delWill(newer)
  await persistence.putWill(newer, will('newer'))
  t.equal(await persistence.delWill({ id: 'acme/a' }), undefined, 'the old connection\'s end')
  t.same(payloads([await persistence.getWill({ id: 'acme/a' }) as BrokerPacket]), ['newer'])
  newer.closed = true
  t.same(payloads([await persistence.delWill({ id: 'acme/a' }) as BrokerPacket]), ['newer'], 'its own end')
  await persistence.delWill({ id: 'acme/b' })
  await persistence.close()
  t.same(await rowsIn(directory), [])
})

void t.test('a database of a newer format is refused by directory and version, a foreign or damaged one too', async (t) => {
  const directory = join(temporaryDirectory(t), 'db')
  await (await open(directory)).close()
  const write = async (key: string, value: string | null): Promise<void> => {
    const database = new ClassicLevel(directory)
    if (value === null) await database.del(key)
    else await database.put(key, value)
    await database.close()
  }
  const failure = async (): Promise<TwinfoldError> => await openBrokerPersistence({ directory, clock: new TestClock(), log: silentLog }).then(() => { throw new Error('it opened') }, (error: TwinfoldError) => error)
  await write('f', '2')
  const newer = await failure()
  t.equal(newer.code, 'format_newer')
  t.match(newer.message, directory)
  t.match(newer.message, /format 2;.* up to 1/)
  await write('f', 'x')
  t.equal((await failure()).code, 'corrupt_data')
  await write('f', null)
  t.equal((await failure()).code, 'corrupt_data')
  await write('f', '1')
  const held = await open(directory)
  t.equal((await failure()).code, 'store_unavailable', 'one process at a time')
  await held.close()
  await t.rejects(held.outgoingEnqueue({ clientId: 'acme/a' }, message('acme/t', 'x')), { code: 'not_ready' })
})

void t.test('damaged rows are passed over and counted; the others stay readable', async (t) => {
  const directory = temporaryDirectory(t)
  let persistence = await open(directory)
  for (const name of ['a', 'b', 'c']) {
    await persistence.storeRetained(message(`acme/${name}`, name, 1, true))
    await persistence.outgoingEnqueue({ clientId: 'acme/s' }, message('acme/t', name))
  }
  await persistence.close()
  const database = new ClassicLevel<Buffer, Buffer>(directory, { keyEncoding: 'buffer', valueEncoding: 'buffer' })
  await database.put(Buffer.from('racme/b'), Buffer.from([0xff, 0xff, 0xff, 0xff, 1]))
  const [, second] = await database.keys({ gte: Buffer.from('m'), lt: Buffer.from('n') }).all()
  await database.put(second, Buffer.alloc(3))
  await database.close()
  persistence = await open(directory)
  t.same(payloads(await all(persistence.createRetainedStream('acme/#'))), ['a', 'c'])
  t.same(payloads(await queueOf(persistence, 'acme/s')), ['a', 'c'])
  t.match(persistence.stats, { rowsDamaged: 2, queued: 2 })
  await persistence.close()
})

void t.test('reopening 10,000 sessions reads no payload and is quick', async (t) => {
  const directory = temporaryDirectory(t)
  let persistence: BrokerPersistence = await open(directory)
  const ids = Array.from({ length: 10_000 }, (_, i) => `acme/device-${i}`)
  await Promise.all(ids.map(async (id) => await persistence.addSubscriptions({ id }, [sub(`acme/devices/${id}/commands/#`), sub('acme/all', 1)])))
  for (let i = 0; i < 5; i++) await persistence.outgoingEnqueueCombi(await persistence.subscriptionsByTopic('acme/all'), message('acme/all', Buffer.alloc(5000, i)))
  await persistence.close()
  const startedAt = performance.now()
  persistence = await open(directory)
  t.comment(`reopened 10,000 sessions, 20,000 subscriptions, 50,000 queue entries in ${Math.round(performance.now() - startedAt)} ms`)
  t.match(persistence.stats, { sessions: 10_000, subscriptions: 20_000, queued: 50_000 })
  t.equal((await persistence.subscriptionsByTopic('acme/devices/acme/device-77/commands/x')).length, 1)
  t.equal((await queueOf(persistence, ids[5000])).length, 5)
  await persistence.close()
})
