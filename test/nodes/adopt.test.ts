import { readdirSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { adoptJournal, type AdoptOptions } from '../../src/adopt.js'
import { systemClock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import { readAdoption } from '../../src/journal/adoption.js'
import { openJournal, type JournalFiles } from '../../src/journal/journal.js'
import { encodeIdentity, RecordKind } from '../../src/journal/record.js'
import { readReadings } from '../../src/store/read-readings.js'
import { openStore } from '../../src/store/open-store.js'
import type { StoreSpec } from '../../workers/protocol.js'
import { Outcomes } from '../journal/journal-support.js'

interface Teardown { teardown(undo: () => unknown): unknown }

const tsStart = 1_750_000_000_000

/** A journal that a dead node left behind with that many readings of one device, some of its slices closed, and a store. */
async function deadNode (t: Teardown, readings: number): Promise<AdoptOptions & { readonly store: StoreSpec }> {
  const directory = await mkdtemp(join(tmpdir(), 'twinfold-adopt-'))
  t.teardown(async () => { await rm(directory, { recursive: true, force: true, maxRetries: 5 }) })
  const store: StoreSpec = { kind: 'embedded', directory: join(directory, 'store') }
  const opened = await openStore(store, { clock: systemClock, log: silentLog, writer: true })
  await opened.createTenant({ id: 'acme', name: 'acme', createdAt: 0, retention: [{ sinceStamp: 0, days: 3650 }], disabled: false })
  await opened.createDevice({ tenant: 'acme', id: 'pump', type: '', name: '', gateway: false, gatewayId: null, createdAt: 0 })
  await opened.close()
  const journal = await open(directory)
  const outcomes = new Outcomes()
  const identity = encodeIdentity({ tenant: 'acme', device: 'pump', idempotencyKey: '', fingerprint: '' })
  for (let i = 0; i < readings; i++) {
    journal.append({ kind: RecordKind.bodyAuto, flags: 0, identity, body: Buffer.from(JSON.stringify({ ts: tsStart + i, values: { v: i } })), messages: 1 }, outcomes, i)
    if (i % 100 === 50) await journal.mark()
  }
  await outcomes.settled(readings)
  await journal.close()
  return { directory, store, packThreads: 1, nodes: [], clock: systemClock, log: silentLog }
}

async function open (directory: string): Promise<JournalFiles> {
  return await openJournal({ directory: join(directory, 'journal'), clock: systemClock, log: silentLog, diskBytesMax: 2 ** 30 })
}

/** Values of the device by timestamp in ms; a timestamp that comes twice is an error. */
async function stored (spec: StoreSpec): Promise<Map<number, number>> {
  const store = await openStore(spec, { clock: systemClock, log: silentLog, writer: true })
  const found = new Map<number, number>()
  try {
    for await (const chunk of readReadings(store, { tenant: 'acme', device: 'pump', retentionDays: [3650], oldestTs: 0, fromTs: 0, toTs: Infinity, order: 'asc', metrics: null })) {
      const column = chunk.columns[0]
      chunk.ts.forEach((ts, row) => {
        if (found.has(ts / 1000)) throw new Error(`${ts} is there twice`)
        found.set(ts / 1000, column.values[row] as number)
      })
    }
  } finally {
    await store.close()
  }
  return found
}

void t.test('what a dead node had acknowledged is in the store after the adoption, once, and again changes nothing', async t => {
  const options = await deadNode(t, 500)
  const result = await adoptJournal(options)
  t.match(result, { already: false, readings: 500, points: 500, damagedRecords: 0 })
  const expected = new Map(Array.from({ length: 500 }, (_, i) => [tsStart + i, i]))
  t.same(await stored(options.store), expected)
  t.match(await adoptJournal({ ...options, directory: join(options.directory, 'journal') }), { already: true, journalId: result.journalId })
  t.same(await stored(options.store), expected)
})

void t.test('a server does not start on a journal that was adopted, or whose adoption has begun', async t => {
  const options = await deadNode(t, 20)
  await t.rejects(adoptJournal({ ...options, store: { kind: 'embedded', directory: '/dev/null/nowhere' } }))
  t.equal(readAdoption(join(options.directory, 'journal')), null, 'nothing began where the store cannot be opened')
  await (await open(options.directory)).close()
  const broken = { ...options, packThreads: 0 }
  await t.rejects(adoptJournal(broken))
  t.match(readAdoption(join(options.directory, 'journal')), { state: 'begun' })
  await t.rejects(open(options.directory), { code: 'already_exists', message: /is not done; finish it/ })
  await adoptJournal(options)
  await t.rejects(open(options.directory), { code: 'already_exists', message: /move the directory away/ })
  t.equal((await stored(options.store)).size, 20)
})

void t.test('a journal whose node lives is refused, and so is a directory without one', async t => {
  const options = await deadNode(t, 5)
  const [name] = readdirSync(join(options.directory, 'journal'))
  const node = { name: 'n1', bootId: 'b', journalId: name.slice(0, 16), stampLast: 0, wallUs: 0, clockOffsetMs: 0, clock: 'ok', startedAtUs: 0 } as const
  await t.rejects(adoptJournal({ ...options, nodes: [{ ...node, silentMs: 900 }] }), { code: 'already_exists', message: /'n1' runs/ })
  t.equal(readAdoption(join(options.directory, 'journal')), null)
  t.match(await adoptJournal({ ...options, nodes: [{ ...node, silentMs: 60_000 }] }), { already: false })
  await t.rejects(adoptJournal({ ...options, directory: tmpdir() }), { code: 'not_found' })
})
