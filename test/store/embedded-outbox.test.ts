/** The outbox of the embedded store: the contract, and what is its own (the flag, its days, its threads). */
import t from 'tap'
import type { Clock } from '../../src/core/clock.js'
import { systemClock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import { usPerDay } from '../../src/core/reading.js'
import { openEmbeddedStore, type EmbeddedStore } from '../../src/store/embedded/embedded-store.js'
import { newJournalId, outboxContract } from './outbox.contract.js'
import { chunkOf, newTenantId, sliceOf, writeOf } from './store-fixtures.js'

const always = Number.MAX_SAFE_INTEGER

function flag (on: boolean): SharedArrayBuffer {
  const shared = new SharedArrayBuffer(1)
  new Uint8Array(shared)[0] = on ? 1 : 0
  return shared
}

async function openIn (directory: string, more: { outbox?: SharedArrayBuffer, clock?: Clock, writer?: boolean } = {}): Promise<EmbeddedStore> {
  return await openEmbeddedStore({ directory, clock: systemClock, log: silentLog, writer: true, outbox: flag(true), ...more })
}

const shared = t.testdir()
let sharedStore: Promise<EmbeddedStore> | null = null
const openShared = async (): Promise<EmbeddedStore> => await (sharedStore ??= openIn(shared))
outboxContract(t, openShared)
t.teardown(async () => { await (await sharedStore)?.close() })

void t.test('nothing is written while analytics is off, and from the moment it is on everything is', async t => {
  const on = flag(false)
  const store = await openIn(t.testdir(), { outbox: on })
  t.teardown(async () => { await store.close() })
  const journalId = newJournalId()
  const write = async (mark: number): Promise<void> => {
    await store.raw.writeHead(writeOf({ chunks: [chunkOf(newTenantId(), 'd', { slice: sliceOf(mark, journalId) })], outbox: { journalId, stream: 'pack', sequence: mark } }))
  }
  await write(1)
  new Uint8Array(on)[0] = 1
  await write(2)
  new Uint8Array(on)[0] = 0
  await write(3)
  t.strictSame((await store.outbox?.readOutbox(journalId, 'pack', 0, always, 10))?.map(entry => entry.sequence), [2])
})

void t.test('entries live a week, in order over many days, one repeated on another day is one; their days go as a whole', async t => {
  let nowUs = 20_000 * usPerDay
  const clock: Clock = { ...systemClock, nowUs: () => nowUs }
  const store = await openIn(t.testdir(), { clock })
  t.teardown(async () => { await store.close() })
  const journalId = newJournalId()
  const write = async (mark: number): Promise<void> => {
    await store.raw.writeHead(writeOf({ chunks: [chunkOf(newTenantId(), 'd', { slice: sliceOf(mark, journalId) })], outbox: { journalId, stream: 'pack', sequence: mark } }))
  }
  for (let day = 0; day < 12; day++) {
    await write(day * 10)
    if (day > 0) await write(day * 10 - 10)
    nowUs += usPerDay
  }
  const read = async (after: number, limit: number): Promise<number[] | undefined> => (await store.outbox?.readOutbox(journalId, 'pack', after, always, limit))?.map(entry => entry.sequence)
  const kept = [30, 40, 50, 60, 70, 80, 90, 100, 110]
  t.strictSame(await read(-1, 100), kept)
  t.strictSame(await read(45, 2), [50, 60])
  await store.raw.dropExpired(nowUs, days => days * 100)
  t.strictSame(await read(-1, 100), kept)
  nowUs += 30 * usPerDay
  await store.raw.dropExpired(nowUs, days => days * 100)
  nowUs -= 30 * usPerDay
  t.strictSame(await read(-1, 100), [])
})
