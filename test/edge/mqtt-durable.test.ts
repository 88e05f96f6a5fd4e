/** The edge on the real journal and the real persistence: what was acknowledged is there after a restart. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { systemClock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import { openJournal } from '../../src/journal/journal.js'
import { decodeIdentity } from '../../src/journal/record.js'
import { readSlice, scanRecords } from '../../src/journal/segment-scan.js'
import { openBrokerPersistence } from '../../src/store/embedded/broker/persistence.js'
import { connectPacket, puback, publish, publishesIn, pubrec, startStage, subscribe, until, type RawClient } from './mqtt-harness.js'

interface Teardown { teardown (undo: () => void): unknown }

function temporaryDirectory (t: Teardown): string {
  const directory = mkdtempSync(join(tmpdir(), 'mqtt-test-'))
  t.teardown(() => { rmSync(directory, { recursive: true, force: true }) })
  return directory
}

t.test('the real journal: every acknowledged message is in its segments, in order, and readable', async t => {
  const directory = temporaryDirectory(t)
  const journal = await openJournal({ directory, clock: systemClock, log: silentLog, diskBytesMax: 256 * 1024 * 1024 })
  const stage = await startStage(t, { journal })
  const clients: RawClient[] = []
  const each = 500
  for (let i = 0; i < 10; i++) clients.push(await stage.client({ secret: stage.registry.device('acme', `d${i}`), clientId: `c${i}` }))
  for (let id = 1; id <= each; id++) for (const client of clients) client.send(publish('telemetry', `{"n":${id}}`, { qos: 1, id }))
  for (const client of clients) {
    await until(() => client.packets.length === each)
    t.ok(Buffer.concat(client.packets).equals(Buffer.concat(Array.from({ length: each }, (_, i) => puback(i + 1)))), 'acknowledged in order')
  }
  const found = new Map<string, string[]>()
  for (const piece of readSlice(journal.segmentsFor(0, journal.durableEnd), 0, journal.durableEnd)) {
    scanRecords(piece.buffer, piece.base, piece.from, piece.to, journal.journalId, record => {
      const { tenant, device } = decodeIdentity(piece.buffer.subarray(record.identityStart, record.identityEnd))
      const key = `${tenant}/${device}`
      const publishes = publishesIn(piece.buffer.subarray(record.bodyStart, record.bodyEnd))
      if (publishes.length !== record.messages) t.fail(`${publishes.length} messages instead of ${record.messages}`)
      found.set(key, [...found.get(key) ?? [], ...publishes.map(message => message.payload)])
    }, piece.segmentBase)
  }
  t.equal(found.size, 10)
  for (const [key, payloads] of found) t.same(payloads, Array.from({ length: each }, (_, i) => `{"n":${i + 1}}`), key)
  await stage.edge.close()
  await journal.close()
})

t.test('the real persistence: sessions, queues, retained messages and QoS 2 exchanges live on after a restart', async t => {
  const directory = temporaryDirectory(t)
  const open = async (): ReturnType<typeof openBrokerPersistence> => await openBrokerPersistence({ directory, clock: systemClock, log: silentLog })
  let persistence = await open()
  let stage = await startStage(t, { persistence })
  let secret = stage.registry.credential('application', 'acme')
  const reader = { secret, clientId: 'reader', clean: false }
  const writer = { secret, clientId: 'writer', clean: false }
  const first = await stage.client(reader)
  first.send(subscribe(1, ['news/#', 2], ['news/1', 1]))
  await first.next()
  first.end()
  await until(() => stage.edge.stats.connections === 0)
  const sender = await stage.client(writer)
  sender.send(publish('news/1', 'one', { qos: 1, id: 1 }), publish('news/2', 'two', { qos: 2, id: 2 }), publish('kept', 'kept', { qos: 1, id: 3, retain: true }))
  t.same(await sender.take(3), Buffer.concat([puback(1), pubrec(2), puback(3)]))
  await stage.edge.close()
  await persistence.close()

  persistence = await open()
  stage = await startStage(t, { persistence })
  secret = stage.registry.credential('application', 'acme')
  const again = await stage.client(writer)
  again.send(publish('news/2', 'two', { qos: 2, id: 2, dup: true }))
  t.same(await again.next(), pubrec(2), 'the repeat is acknowledged and not published again')
  const back = await stage.socket()
  back.send(connectPacket(reader))
  t.same(await back.next(), Buffer.from([0x20, 2, 1, 0]))
  t.same(publishesIn(await back.take(2)).map(message => [message.topic, message.payload, message.qos]), [['news/1', 'one', 1], ['news/2', 'two', 2]])
  t.same(await back.settle(), [])
  back.send(subscribe(1, ['#', 0]))
  await back.next()
  t.match(publishesIn(await back.next()), [{ topic: 'kept', payload: 'kept', retain: true }])
  for (let id = 10; id < 60; id++) again.send(publish(`news/${id % 3}`, `${id}`, { qos: id % 3, id, retain: id % 5 === 0 }))
  const live: string[] = []
  while (live.length < 50) live.push(...publishesIn(await back.next()).map(message => message.payload))
  t.same(live.sort(), Array.from({ length: 50 }, (_, i) => `${i + 10}`), 'online, each message comes once')
  await stage.edge.close()
  await persistence.close()
})
