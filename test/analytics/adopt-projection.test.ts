/** A dead node's journal, adopted: what it had packed and projected, packed alone, or only accepted is in ClickHouse once (INVARIANTS 3). */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { adoptJournal } from '../../src/adopt.js'
import { Projector } from '../../src/analytics/projector.js'
import { ProjectPool } from '../../src/analytics/project-pool.js'
import { systemClock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import { openJournal, type JournalFiles } from '../../src/journal/journal.js'
import { encodeIdentity, RecordKind } from '../../src/journal/record.js'
import { PackPool } from '../../src/pipeline/pack-pool.js'
import { Packer } from '../../src/pipeline/packer.js'
import { openAnalytics } from '../../src/store/open-analytics.js'
import { openStore } from '../../src/store/open-store.js'
import type { ClickHouseSettings, StoreSpec } from '../../workers/protocol.js'
import { Outcomes } from '../journal/journal-support.js'
import { migratedKeyspace } from '../store/cassandra-fixture.js'
import { newTestName, services, skipWithout } from '../support/services.js'

t.setTimeout(180_000)

const tsStart = Math.floor(Date.now() / 1000) * 1000 - 3_600_000
const devices = ['dense', 'sparse-1', 'sparse-2']
const leaseMs = 1000

/** Readings of the devices from `from` on; the first hundred once more, with another value. */
async function append (journal: JournalFiles, from: number, count: number, marked: boolean): Promise<void> {
  const outcomes = new Outcomes()
  let n = 0
  const add = (i: number, v: number): void => {
    for (const device of i % 10 === 0 ? devices : [devices[0]]) {
      const identity = encodeIdentity({ tenant: 'acme', device, idempotencyKey: '', fingerprint: '' })
      journal.append({ kind: RecordKind.bodyAuto, flags: 0, identity, body: Buffer.from(JSON.stringify({ ts: tsStart + i * 100, values: { v } })), messages: 1 }, outcomes, n++)
    }
  }
  for (let i = from; i < from + count; i++) {
    add(i, i)
    if (marked && i % 60 === 50) await journal.mark()
  }
  for (let i = from; i < from + 100; i++) add(i, i + 0.5)
  await outcomes.settled(n)
}

/** As the node did while it lived. */
async function packAndProject (journal: JournalFiles, spec: StoreSpec, clickHouse: ClickHouseSettings): Promise<void> {
  const store = await openStore(spec, { clock: systemClock, log: silentLog, writer: true })
  const pool = new PackPool({ store: spec, threads: 1, leaseMs })
  const projects = new ProjectPool({ store: spec, clickHouse, leaseMs })
  const packer = new Packer({ journal, cursors: store, pool, clock: systemClock, log: silentLog, sliceIntervalMs: 10, onPacked: () => {} }, { cursor: journal.recovered.cursor, marks: journal.recovered.marks })
  try {
    packer.open()
    if (!await packer.drain(30_000)) throw new Error('not packed')
    const stampNow = (): number => journal.takeStamps(1)
    const failure = await new Projector({ journalId: journal.journalId, packer, stampNow, sealsSettled: stampNow, cursors: store, pool: projects, clock: systemClock, log: silentLog, intervalMs: 100 }).runOnce()
    if (failure !== null) throw new Error(failure.detail)
  } finally {
    await packer.close()
    await projects.close()
    await pool.close()
    await store.close()
  }
}

async function drill (t: Test, spec: StoreSpec, url: string, directory: string): Promise<void> {
  const store = await openStore(spec, { clock: systemClock, log: silentLog, writer: true })
  await store.createTenant({ id: 'acme', name: 'acme', createdAt: 0, retention: [{ sinceStamp: 0, days: 3650 }], disabled: false })
  for (const id of devices) await store.createDevice({ tenant: 'acme', id, type: '', name: '', gateway: false, gatewayId: null, createdAt: 0 })
  const clickHouse = { url, database: newTestName() }
  const analytics = openAnalytics(clickHouse, { clock: systemClock, log: silentLog, watch: false })
  t.teardown(async () => {
    await analytics.connection.command(`DROP DATABASE IF EXISTS ${clickHouse.database} SYNC`, {}).catch(() => {})
    await analytics.close()
  })
  await store.close()
  const journal = await openJournal({ directory: join(directory, 'journal'), clock: systemClock, log: silentLog, diskBytesMax: 2 ** 30 })
  await append(journal, 0, 300, false)
  await packAndProject(journal, spec, clickHouse)
  const count = async (): Promise<number> => (await analytics.countPoints('acme', 0, 9e15)).points
  t.equal(await count(), 300 + 60, 'what the node projected while it lived')
  // Slices that it closed and did not pack, and what it had not closed.
  await append(journal, 300, 300, true)
  await append(journal, 600, 300, false)
  await journal.close()
  const result = await adoptJournal({ directory, store: spec, packThreads: 1, nodes: [], clickHouse, clock: systemClock, log: silentLog })
  t.match(result, { already: false, damagedRecords: 0 })
  t.notOk(result.notInAnalytics)
  const rows = await analytics.connection.query<{ device: string, at: number, v: number }>(
    `SELECT device, toFloat64(toUnixTimestamp64Micro(ts)) / 1000 AS at, number AS v FROM ${clickHouse.database}.points FINAL WHERE tenant = 'acme' ORDER BY device, at`)
  const expected = devices.flatMap(device => Array.from({ length: 900 }, (_, i) => i).filter(i => device === 'dense' || i % 10 === 0)
    .map(i => ({ device, at: tsStart + i * 100, v: i % 300 < 100 ? i + 0.5 : i })))
  t.strictSame(rows, expected, 'every point once, with the value accepted last')
  t.match(await adoptJournal({ directory, store: spec, packThreads: 1, nodes: [], clickHouse, clock: systemClock, log: silentLog }), { already: true })
  t.equal(await count(), expected.length)
}

for (const kind of ['embedded', 'cluster'] as const) {
  void t.test(`an adopted journal is in analytics exactly once (${kind})`, async t => {
    if (skipWithout(t, 'clickHouse') || (kind === 'cluster' && (skipWithout(t, 'cassandra') || skipWithout(t, 'redis')))) return
    const directory = await mkdtemp(join(tmpdir(), 'twinfold-adopt-'))
    t.teardown(async () => { await rm(directory, { recursive: true, force: true, maxRetries: 5 }) })
    const url = services().clickHouse?.url ?? ''
    if (kind === 'embedded') {
      const outbox = new SharedArrayBuffer(1)
      new Uint8Array(outbox)[0] = 1
      await drill(t, { kind, directory: join(directory, 'store'), outbox }, url, directory)
      return
    }
    const cassandra = await migratedKeyspace(t)
    await drill(t, { kind, cassandra, redis: { url: services().redis?.url as string, prefix: cassandra.keyspace }, outbox: true }, url, directory)
  })
}
