import t, { type Test } from 'tap'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import { QueryPool } from '../../src/query/query-pool.js'
import { QueryRunner } from '../../src/query/run-query.js'
import { openStore } from '../../src/store/open-store.js'
import type { RangeQuery } from '../../workers/protocol.js'
import { chunkOf, day0, tenantOf } from '../store/store-fixtures.js'

t.setTimeout(60_000)

function poolOf (t: Test, timeoutMs: number): QueryPool {
  const pool = new QueryPool({ store: { kind: 'embedded', directory: '' }, threads: 1, waitingMax: 10, timeoutMs, worker: new URL('./deadline-worker.js', import.meta.url) })
  t.teardown(async () => { await pool.close() })
  return pool
}

/** A thread takes longer to begin than some queries here may take. */
async function untilItAnswers (pool: QueryPool): Promise<void> {
  for (let i = 0; i < 200; i++) {
    if (await pool.run(queryOf('quick-0')).then(() => true, () => false)) return
    await new Promise(resolve => setTimeout(resolve, 50))
  }
  throw new Error('no query was answered')
}

function queryOf (device: string): RangeQuery {
  return { kind: 'range', tenant: 'acme', retentionDays: [365], oldestTs: 0, device, metrics: null, fromTs: day0, toTs: day0 + 1e9, order: 'asc', limit: 10, times: 'ms' }
}

const took = async (action: Promise<unknown>): Promise<number> => {
  const start = performance.now()
  await action.catch(() => {})
  return performance.now() - start
}

t.test('a query past its time costs its caller an answer and its neighbours nothing', async t => {
  const pool = poolOf(t, 2000)
  await untilItAnswers(pool)
  const { timedOut } = pool.stats
  const neighbour = pool.run(queryOf('quick-1200'))
  const patient = pool.run(queryOf('patient'))
  const hanging = pool.run(queryOf('hangs'))
  hanging.catch(() => {})
  await t.rejects(patient, { code: 'store_unavailable', message: 'gave itself up' })
  t.equal((await neighbour).readings, 0)
  t.equal((await pool.run(queryOf('quick-0'))).readings, 0, 'the thread lives')
  await t.rejects(hanging, { code: 'store_unavailable', message: /took longer than 2000 ms/ })
  t.equal((await pool.run(queryOf('quick-0'))).readings, 0, 'beside one that hangs')
  t.strictSame([pool.stats.timedOut - timedOut, pool.stats.threadsReplaced], [1, 0])
})

t.test('threads that are full of hanging queries are replaced in the end, and queries go on', async t => {
  const pool = poolOf(t, 500)
  await untilItAnswers(pool)
  const hanging = Array.from({ length: 4 }, async () => await took(pool.run(queryOf('hangs'))))
  const [longest] = (await Promise.all(hanging)).sort((a, b) => b - a)
  t.ok(longest < 2000, `callers were answered after ${longest} ms`)
  await untilItAnswers(pool)
  t.equal(pool.stats.threadsReplaced, 1)
})

t.test('the reason and the time to wait of a fault come through from the thread', async t => {
  const pool = poolOf(t, 5000)
  await t.rejects(pool.run(queryOf('away')), { code: 'store_unavailable', message: 'Cassandra does not answer', retryAfterMs: 3000 })
  t.ok(await took(pool.run(queryOf('away'))) < 1000, 'quickly')
})

t.test('a query looks at its deadline between the rows that it reads', async t => {
  const directory = mkdtempSync(join(tmpdir(), 'twinfold-deadline-'))
  const store = await openStore({ kind: 'embedded', directory }, { clock: systemClock, log: silentLog, writer: true })
  t.teardown(async () => { await store.close(); rmSync(directory, { recursive: true, force: true }) })
  await store.createTenant(tenantOf('acme'))
  await store.raw.writeHead({
    chunks: Array.from({ length: 50 }, (_, part) => chunkOf('acme', 'd', { part })), slabs: [], seen: [{ tenant: 'acme', device: 'd', day: day0, metrics: ['t'], retentionDays: 365 }]
  })
  let looked = 0
  const runner = new QueryRunner(store, { clock: { nowUs: () => looked++, monotonicMs: systemClock.monotonicMs } })
  await t.rejects(runner.run({ ...queryOf('d'), deadlineUs: 20 }), { code: 'store_unavailable', message: /took too long/ })
  t.equal(looked, 22, 'given up at the first look past the deadline')
  await t.rejects(runner.run({ ...queryOf('d'), deadlineUs: 0 }), { code: 'store_unavailable' }, 'or before it began')
})
