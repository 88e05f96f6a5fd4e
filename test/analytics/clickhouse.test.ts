/** The analytics store on the engine of ClickHouse, over HTTP. */
import t, { type Test } from 'tap'
import { createClient, type ClickHouseClient } from '@clickhouse/client'
import { systemClock } from '../../src/core/clock.js'
import type { TwinfoldError } from '../../src/core/errors.js'
import { timestampUsMax } from '../../src/core/limits.js'
import { silentLog } from '../../src/core/log.js'
import { usPerDay } from '../../src/core/reading.js'
import { openAnalytics, type OpenedAnalytics } from '../../src/store/open-analytics.js'
import { hostileNumbers } from '../series/arbitraries.js'
import { analyticsContract, pointOf } from '../store/analytics.contract.js'
import { day0, newSeed, newTenantId, randomFrom } from '../store/store-fixtures.js'
import { freePort } from '../support/private-process.js'
import { newTestName, services, skipWithout, startClickHouseFront } from '../support/services.js'

t.setTimeout(180_000)

interface Opened { readonly store: OpenedAnalytics, readonly client: ClickHouseClient, readonly database: string, readonly url: string }

/** A database that is dropped when the test ends. */
function openHere (test: Test, url = services().clickHouse?.url ?? ''): Opened {
  const database = newTestName()
  const client = createClient({ url })
  const store = openAnalytics({ url, database }, { clock: systemClock, log: silentLog, watch: false })
  test.teardown(async () => {
    await store.close()
    await client.command({ query: `DROP DATABASE IF EXISTS ${database} SYNC` }).catch(() => {})
    await client.close()
  })
  return { store, client, database, url }
}

async function rowsOf ({ client, database }: Opened, tenant: string, columns: string): Promise<Record<string, unknown>[]> {
  const answer = await client.query({ query: `SELECT ${columns} FROM ${database}.points FINAL WHERE tenant = {tenant:String} ORDER BY device, metric, ts`, query_params: { tenant }, format: 'JSONEachRow' })
  return await answer.json()
}

if (!skipWithout(t, 'clickHouse')) {
  const shared = openHere(t)
  analyticsContract(t, async () => shared.store)

  t.test('of two values for one point the greater (stamp, journal id) stands, in whatever order and parts they come (INVARIANTS 3)', async t => {
    const { store } = shared
    const seed = newSeed()
    const random = randomFrom(seed)
    const tenant = newTenantId()
    // Journal ids that differ in each half, and above what a double holds exactly.
    const journals = ['0000000000000001', '00000000ffffffff', '0000000100000000', '7fffffffffffffff', '8000000000000000', 'fffffffffffffffe', 'ffffffffffffffff']
    const versions = journals.flatMap((journalId, j) => [0, 1, 2 ** 32, 2 ** 52].map((stamp, s) => ({ journalId, stamp, value: s * 100 + j })))
    for (let device = 0; device < 20; device++) {
      const some = versions.filter(() => random() < 0.5)
      if (some.length === 0) continue
      const points = some.sort(() => random() - 0.5).map(version => pointOf(tenant, { device: `d${device}`, ...version }))
      for (let at = 0; at < points.length;) {
        const size = 1 + Math.floor(random() * 4)
        await store.insertPoints(points.slice(at, at + size))
        at += size
      }
      const [winner] = [...some].sort((a, b) => b.stamp - a.stamp || (a.journalId < b.journalId ? 1 : -1))
      t.strictSame((await rowsOf(shared, tenant, 'device, number')).filter(row => row.device === `d${device}`), [{ device: `d${device}`, number: winner.value }], `seed ${seed}`)
    }
  })

  t.test('of values under one stamp and journal the one inserted last stands', async t => {
    const { store } = shared
    const tenant = newTenantId()
    const points = [1, 2, 3].map(value => pointOf(tenant, { value }))
    for (let again = 0; again < 2; again++) await store.insertPoints(points)
    t.strictSame(await rowsOf(shared, tenant, 'number'), [{ number: 3 }])
  })

  t.test('values come back as they were: doubles bit for bit, strings, booleans', async t => {
    const { store } = shared
    const tenant = newTenantId()
    const values = [...hostileNumbers, true, false, '', 'é 💧', '\0\t\n"\\\'', 'x'.repeat(127), 'é'.repeat(64), 'x'.repeat(128), '💧'.repeat(8192), 'x'.repeat(65_536)]
    await store.insertPoints(values.map((value, i) => pointOf(tenant, { value, ts: day0 + i, metric: 'name "é"' })))
    const rows = await rowsOf(shared, tenant, 'metric, type, toString(reinterpretAsUInt64(number)) AS bits, boolean, string, toUnixTimestamp64Micro(ts) - {zero:Int64} AS at'.replace('{zero:Int64}', String(day0)))
    t.equal(rows.length, values.length)
    const bits = (value: number): string => new BigUint64Array(Float64Array.of(value).buffer)[0].toString()
    for (const row of rows) {
      const value = values[Number(row.at)]
      t.strictSame({ type: row.type, bits: row.bits, boolean: row.boolean, string: row.string, metric: row.metric }, {
        type: typeof value, bits: bits(typeof value === 'number' ? value : 0), boolean: value === true, string: typeof value === 'string' ? value : '', metric: 'name "é"'
      })
    }
  })

  t.test('one insert may span a century, and a long list goes in several inserts', async t => {
    const { store } = shared
    const tenant = newTenantId()
    await store.insertPoints(Array.from({ length: 1200 }, (_, i) => pointOf(tenant, { ts: i * 30.5 * usPerDay })))
    t.strictSame(await store.countPoints(tenant, 0, timestampUsMax), { points: 1200, devices: 1 })
    const many = newTenantId()
    await store.insertPoints(Array.from({ length: 120_001 }, (_, i) => pointOf(many, { ts: day0 + i, device: `d${i % 10}` })))
    t.strictSame(await store.countPoints(many, 0, timestampUsMax), { points: 120_001, devices: 10 })
  })

  t.test('the schema is made once by several nodes at once, again where the tables were dropped, and is kept where a newer server was', async t => {
    const { store, client, database, url } = openHere(t)
    const nodes = Array.from({ length: 4 }, () => openAnalytics({ url, database }, { clock: systemClock, log: silentLog, watch: false }))
    t.teardown(async () => { for (const node of nodes) await node.close() })
    await Promise.all(nodes.map(async (node, i) => { await node.insertPoints([pointOf('acme', { device: `d${i}` })]) }))
    t.strictSame(await store.countPoints('acme', 0, timestampUsMax), { points: 4, devices: 4 })
    t.strictSame(await store.migrate(), { applied: [] })
    await client.command({ query: `DROP DATABASE ${database} SYNC` })
    await t.rejects(store.countPoints('acme', 0, timestampUsMax), { code: 'analytics_unavailable' })
    t.strictSame(await store.countPoints('acme', 0, timestampUsMax), { points: 0, devices: 0 })
    await client.insert({ table: `${database}.schema_versions`, format: 'JSONEachRow', values: [{ version: 99, name: '0099-later.sql', checksum: 'x' }], clickhouse_settings: { async_insert: 0 } })
    await t.rejects(store.migrate(), { code: 'format_newer', message: /0099-later\.sql/ })
  })

  t.test('a refused statement says which, not what was in it, and does not count as an outage', async t => {
    const { store } = shared
    for (let i = 0; i < 5; i++) {
      // No port that a caller may use does this; a full disk or a limit of the server would come the same way.
      const error = await store.countPoints('secret-tenant', -1e17, 'nonsense' as unknown as number).then(() => null, (thrown: TwinfoldError) => thrown)
      t.equal(error?.code, 'analytics_unavailable')
      t.notMatch(error?.message, /secret|nonsense|127\.0\.0\.1|8123/)
    }
    t.equal(store.status().state, 'up')
  })
}

t.test('a server that is away is told from one that answers, without its address, and is used again when it is back', async t => {
  const port = await freePort(['127.0.0.1'])
  const away = openAnalytics({ url: `http://127.0.0.1:${port}`, database: 'nowhere' }, { clock: systemClock, log: silentLog, watch: false })
  t.teardown(async () => { await away.close() })
  for (let i = 0; i < 6; i++) {
    const error = await away.insertPoints([pointOf('acme')]).then(() => null, (thrown: TwinfoldError) => thrown)
    t.equal(error?.code, 'analytics_unavailable')
    t.match(error?.message, /ClickHouse/)
    t.notMatch(error?.message, new RegExp(`127\\.0\\.0\\.1|${port}`))
  }
  t.match(away.status(), { state: 'down', reason: /ClickHouse/ })
  if (skipWithout(t, 'clickHouse')) return
  const front = await startClickHouseFront()
  t.teardown(async () => { await front.close() })
  const { store } = openHere(t, front.url)
  await store.insertPoints([pointOf('acme')])
  await front.kill()
  for (let i = 0; i < 4; i++) await t.rejects(store.insertPoints([pointOf('acme', { device: 'late' })]), { code: 'analytics_unavailable' })
  t.equal(store.status().state, 'down')
  await front.start()
  let error: unknown = null
  for (let i = 0; i < 50; i++) {
    error = await store.insertPoints([pointOf('acme', { device: 'late' })]).then(() => null, (thrown: unknown) => thrown)
    if (error === null) break
    await new Promise(resolve => { setTimeout(resolve, 100) })
  }
  t.equal(error, null)
  t.strictSame(await store.countPoints('acme', 0, timestampUsMax), { points: 2, devices: 2 }, 'what was answered for before the kill is still there')
})
