import t from 'tap'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import { openStore } from '../../src/store/open-store.js'
import { newKeyspace } from '../store/cassandra-fixture.js'
import { newTestName, services, skipWithout } from '../support/services.js'
import { plans, wrongAnswers } from './aggregates-suite.js'

const seed = Number(process.env.TEST_SEED ?? Date.now() % 1e9)
t.setTimeout(180_000)

for (const [name, plan] of Object.entries(plans)) {
  void t.test(`every window equals a walk over the points, sealed, unsealed, late, erased and in between: ${name} (seed ${seed})`, async t => {
    const directory = mkdtempSync(join(tmpdir(), 'twinfold-windows-'))
    const store = await openStore({ kind: 'embedded', directory }, { clock: systemClock, log: silentLog, writer: true })
    t.teardown(async () => { await store.close(); rmSync(directory, { recursive: true, force: true }) })
    t.same(await wrongAnswers(store, { tenant: 'acme', plan, seed: seed + name.length, rounds: 30 }), [])
  })
}

void t.test(`the same on Cassandra (seed ${seed})`, async t => {
  const { redis } = services()
  if (skipWithout(t, 'cassandra') || skipWithout(t, 'redis') || redis === null) return
  const spec = { kind: 'cluster', cassandra: newKeyspace(t), redis: { url: redis.url, prefix: newTestName() }, outbox: false } as const
  const store = await openStore(spec, { clock: systemClock, log: silentLog, writer: true })
  t.teardown(async () => { await store.close() })
  const plan = plans['a width that changes in mid-day, twice']
  t.same(await wrongAnswers(store, { tenant: 'acme', plan, seed, rounds: 8 }), [])
})
