/** The embedded profile's ClickHouse: the contract, and what a process of its own has to keep when it or its server dies. */
import t from 'tap'
import { fork } from 'node:child_process'
import { existsSync } from 'node:fs'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { systemClock } from '../../src/core/clock.js'
import { timestampUsMax } from '../../src/core/limits.js'
import { silentLog } from '../../src/core/log.js'
import { usPerSecond } from '../../src/core/reading.js'
import { openAnalytics, type OpenedAnalytics } from '../../src/store/open-analytics.js'
import { analyticsContract, pointOf } from '../store/analytics.contract.js'
import { day0 } from '../store/store-fixtures.js'
import { startTestEngine, type TestEngine } from '../support/analytics-engine.js'

t.setTimeout(180_000)

const here = { clock: systemClock, log: silentLog, watch: false }

let shared: Promise<{ test: TestEngine, store: OpenedAnalytics }> | null = null
async function open (): Promise<OpenedAnalytics> {
  shared ??= startTestEngine().then(test => ({ test, store: openAnalytics(test.engine.settings, here) }))
  return (await shared).store
}
t.teardown(async () => {
  const opened = await shared
  await opened?.store.close()
  await opened?.test.close()
})

analyticsContract(t, open)

async function until (what: () => boolean | Promise<boolean>, timeoutMs = 30_000): Promise<boolean> {
  for (const endMs = Date.now() + timeoutMs; Date.now() < endMs;) {
    if (await what()) return true
    await new Promise(resolve => { setTimeout(resolve, 50) })
  }
  return false
}

function isAlive (pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

void t.test('what an insert was answered for survives SIGKILL of the engine in the middle of the next ones, and it starts again by itself', async t => {
  const test = await startTestEngine()
  const store = openAnalytics(test.engine.settings, here)
  t.teardown(async () => { await store.close(); await test.close() })
  await store.migrate()
  const answered: number[] = []
  let next = 0
  let going = true
  const insert = async (): Promise<void> => {
    while (going) {
      const batch = next++
      const points = Array.from({ length: 2000 }, (_, i) => pointOf('acme', { device: `b${batch}`, ts: day0 + i * usPerSecond }))
      try {
        await store.insertPoints(points)
        answered.push(batch)
      } catch {
        await new Promise(resolve => { setTimeout(resolve, 50) })
      }
    }
  }
  const inserters = [insert(), insert()]
  for (let kill = 0; kill < 3; kill++) {
    const before = answered.length
    t.ok(await until(() => answered.length >= before + 3), 'it inserts')
    const { pid } = test.engine
    process.kill(pid as number, 'SIGKILL')
    t.ok(await until(() => test.engine.pid !== pid && test.engine.state === 'up'), 'it is there again')
  }
  going = false
  await Promise.all(inserters)
  const last = [...answered]
  t.ok(await until(async () => await store.ping().then(() => true, () => false)))
  const rows = await store.connection.query<{ device: string, points: number }>(
    `SELECT device, toFloat64(count()) AS points FROM ${store.connection.database}.points FINAL WHERE tenant = 'acme' GROUP BY device`)
  const found = new Map(rows.map(({ device, points }) => [device, points]))
  t.strictSame(last.filter(batch => found.get(`b${batch}`) !== 2000), [], 'every batch that was answered is there whole')
})

void t.test('the engine ends when its server is killed, leaves nothing in the temporary directory, and its data opens at once', async t => {
  const directory = t.testdir()
  const owner = fork(fileURLToPath(new URL('engine-owner.js', import.meta.url)), [directory], { execArgv: [] })
  const { pid, socketPath } = await new Promise<{ pid: number, socketPath: string }>(resolve => { owner.once('message', message => { resolve(message as { pid: number, socketPath: string }) }) })
  t.ok(isAlive(pid))
  owner.kill('SIGKILL')
  const again = await startTestEngine({ directory })
  const store = openAnalytics(again.engine.settings, here)
  t.teardown(async () => { await store.close(); await again.close() })
  t.ok(await until(() => !isAlive(pid), 5000), 'the engine of the dead server is gone')
  t.notOk(existsSync(dirname(socketPath)))
  t.strictSame(await store.countPoints('acme', 0, timestampUsMax), { points: 1, devices: 1 })
})

void t.test('a setting, a parameter and a database of one statement are not seen by the next', async t => {
  const store = await open()
  await store.connection.query('SELECT {x:String} AS x', { x: 'secret' }, { settings: { max_threads: 1, max_result_rows: '7' } })
  await t.rejects(store.connection.query('SELECT {x:String} AS x'), { code: 'analytics_unavailable' })
  t.strictSame(await store.connection.query("SELECT value FROM system.settings WHERE name = 'max_result_rows'"), [{ value: '0' }])
  await t.rejects(store.connection.command('SELECT 1; SELECT 2'), { code: 'analytics_unavailable' }, 'one statement a request')
  await t.rejects(store.connection.query('CREATE TABLE default.x (a Int8) ENGINE = Memory', {}, { settings: { readonly: '1' } }))
  const odd = 'a\'b\\c\t\nd "é" {x:String}'
  t.strictSame(await store.connection.query('SELECT {x:String} AS x, {y:Array(String)} AS y', { x: odd, y: [odd, ''] }), [{ x: odd, y: [odd, ''] }])
})

void t.test('inserts go on beside statements that take long', async t => {
  const store = await open()
  const slow = Promise.all([1, 2].map(async () => await store.connection.query('SELECT sleepEachRow(0.5) FROM numbers(4)', {}, { settings: { max_block_size: '1' } })))
  const startMs = Date.now()
  await store.insertPoints([pointOf('beside')])
  t.ok(Date.now() - startMs < 1500)
  await slow
})
