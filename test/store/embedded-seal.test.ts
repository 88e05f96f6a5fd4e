/** Seals of the embedded store, looked at between their writes. */
import t from 'tap'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import { usPerDay } from '../../src/core/reading.js'
import { DatabasePool } from '../../src/store/embedded/database-pool.js'
import { EmbeddedRawStore } from '../../src/store/embedded/embedded-raw-store.js'
import { openEmbeddedStore, type EmbeddedStore } from '../../src/store/embedded/embedded-store.js'
import { KeeperMember } from '../../src/store/embedded/keeper-member.js'
import type { Operation } from '../../src/store/embedded/level.js'
import { EmbeddedOutboxWriter } from '../../src/store/embedded/outbox.js'
import { EmbeddedTierStore } from '../../src/store/embedded/tiers.js'
import { tierKinds } from '../../src/store/tier-store.js'
import { chunkOf, day0, gather, refOf, sliceOf, writeOf } from './store-fixtures.js'
import { sealStepsContract } from './tier-store.contract.js'

t.setTimeout(180_000)

class SteppedPool extends DatabasePool {
  beforeWrite: () => Promise<void> = async () => {}
  #tail: Promise<void> = Promise.resolve()

  override async write (path: string, operations: Operation[], sync = false): Promise<void> {
    const turn = this.#tail.then(async () => { await this.beforeWrite() })
    this.#tail = turn.catch(() => {})
    await turn
    await super.write(path, operations, sync)
  }
}

const directory = mkdtempSync(join(tmpdir(), 'twinfold-seal-'))
t.teardown(() => { rmSync(directory, { recursive: true, force: true }) })
const owner = await openEmbeddedStore({ directory, clock: systemClock, log: silentLog, writer: true })
const keeper = new KeeperMember({ directory: owner.directory })
const pool = new SteppedPool({ directory: owner.directory, keeper, clock: systemClock, log: silentLog, openMax: 16, idleMs: 60_000, pinned: [] })
t.teardown(async () => {
  await pool.close()
  await keeper.close()
  await owner.close()
})

const parts = { directory: owner.directory, pool, owner: null }
const outbox = new EmbeddedOutboxWriter(pool, systemClock, new SharedArrayBuffer(1))
const stepped = { raw: new EmbeddedRawStore({ ...parts, outbox }), tiers: new EmbeddedTierStore(parts) }
sealStepsContract(t, async beforeWrite => {
  pool.beforeWrite = beforeWrite
  return stepped
}, async () => owner)

void t.test('retention of each tier drops its windows, unopened, and leaves the others', async t => {
  const inner = mkdtempSync(join(tmpdir(), 'twinfold-seal-'))
  t.teardown(() => { rmSync(inner, { recursive: true, force: true }) })
  const store: EmbeddedStore = await openEmbeddedStore({ directory: inner, clock: systemClock, log: silentLog, writer: true })
  const days = Array.from({ length: 30 }, (_, i) => day0 + i * 40 * usPerDay)
  for (const start of days) {
    const bucket = { start, widthMinutes: 1440 } as const
    await store.raw.writeSealed(refOf('x', 'd', { bucket }), { retentionDays: 365 }, { generation: { epoch: 1, sequence: 1 }, covered: [], chunks: [], tiers: tierKinds.map(kind => ({ kind, start, bucket, asOf: 0, bytes: Buffer.from('x'), retentionDays: 365 })) })
  }
  await store.raw.flush()
  await store.close()
  const again = await openEmbeddedStore({ directory: inner, clock: systemClock, log: silentLog, writer: true })
  t.teardown(async () => { await again.close() })
  const now = days[29] + usPerDay
  t.equal(await again.tiers.dropExpiredTiers(day0, () => 365), 0)
  const dropped = await again.tiers.dropExpiredTiers(now, tier => tier === '1m' ? 365 : tier === '1h' ? 400 : 3650)
  t.equal(again.openDatabases, 1)
  t.ok(dropped > 15, `${dropped} windows`)
  const left = async (kind: typeof tierKinds[number]): Promise<number[]> => (await gather(again.tiers.scanTiers({ tenant: 'x', device: 'd', retentionDays: [365] }, kind, 0, 9e15))).map(row => row.start)
  t.strictSame(await left('1d'), days)
  for (const [kind, keep] of [['1m', 365], ['1h', 400], ['q1h', 400]] as const) {
    const rows = await left(kind)
    t.ok(days.filter(start => start + keep * usPerDay >= now).every(start => rows.includes(start)), `${kind}: all within retention`)
    t.ok(rows.length < 30, `${kind}: ${rows.length} rows`)
  }
  const bytes = await again.raw.sizeBytes()
  await again.raw.compact()
  t.ok(bytes > 0)
})

void t.test('listing head spans and tier rows where nothing was written makes no files, and opens nothing that is not there', async t => {
  const before = owner.openDatabases
  t.strictSame(await owner.raw.listHeadSpans({ tenant: 'none', device: 'd', retentionDays: [17] }, 0, 9e15), [])
  t.strictSame(await gather(owner.tiers.scanTiers({ tenant: 'none', device: 'd', retentionDays: [17] }, '1h', 0, 9e15)), [])
  t.equal(owner.openDatabases, before)
})

void t.test('what a seal says is sealed has its tier rows after a claim moved to another process', async t => {
  const inner = mkdtempSync(join(tmpdir(), 'twinfold-seal-'))
  t.teardown(() => { rmSync(inner, { recursive: true, force: true }) })
  let epoch = 0
  for (const process of ['p1', 'p2', 'p2', 'p3']) {
    const store = await openEmbeddedStore({ directory: inner, clock: systemClock, log: silentLog, writer: true })
    const claim = await store.takeClaim('shard/1', process, 600_000)
    // The lease of a process that ended is over with it.
    t.ok(claim !== null && claim.epoch >= epoch + (process === 'p2' && epoch === 2 ? 0 : 1), `${process}: ${claim?.epoch}`)
    epoch = claim?.epoch ?? 0
    await store.raw.writeHead(writeOf({ chunks: [chunkOf('x', 'd', { slice: sliceOf(epoch) })] }))
    await store.raw.writeSealed(refOf('x', 'd'), { retentionDays: 365 }, { generation: { epoch, sequence: 1 }, covered: [sliceOf(epoch)], chunks: [], tiers: [{ kind: '1d', start: day0, bucket: { start: day0, widthMinutes: 1440 }, asOf: 0, bytes: Buffer.from(`${epoch}`), retentionDays: 365 }] })
    t.strictSame((await gather(store.tiers.scanTiers(refOf('x', 'd'), '1d', 0, 9e15))).map(row => Buffer.from(row.bytes).toString()), [`${epoch}`])
    const beside = await openEmbeddedStore({ directory: inner, clock: systemClock, log: silentLog })
    await t.rejects(beside.takeClaim('shard/1', process, 1), { code: 'internal' })
    await beside.close()
    await store.close()
  }
})
