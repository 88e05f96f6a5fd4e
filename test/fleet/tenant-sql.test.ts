/** Tenant SQL: what it answers, that it never sees another tenant's rows or the host, and that bombs meet limits. */
import t, { type Test } from 'tap'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '../../src/core/clock.js'
import type { TwinfoldError } from '../../src/core/errors.js'
import { usPerMinute } from '../../src/core/reading.js'
import type { ClickHouseConnection } from '../../src/store/clickhouse/clickhouse-connection.js'
import { SnapshotSql, sqlLimits, type SnapshotSqlOptions } from '../../src/store/clickhouse/tenant-sql.js'
import type { SqlAnswer } from '../../src/store/fleet-store.js'
import { skipWithout } from '../support/services.js'
import { guardSql } from '../../src/store/clickhouse/sql-guard.js'
import { callableNames } from '../../src/store/clickhouse/sql-functions.js'
import { SqlProcess } from '../../src/store/clickhouse/sql-process.js'
import { SqlSnapshot } from '../../src/store/clickhouse/sql-snapshot.js'
import { hostileSql } from './hostile-sql.js'
import { fleetDatabase, putDevices, putPoints, type WorldPoint } from './fleet-world.js'

t.setTimeout(300_000)

const day0 = Date.UTC(2026, 0, 30) * 1000

function openSql (t: Test, connection: ClickHouseConnection, more: Partial<SnapshotSqlOptions> = {}): SnapshotSql {
  const directory = mkdtempSync(join(tmpdir(), 'tenant-sql-'))
  const sql = new SnapshotSql({ connection, directory: join(directory, 'sql'), clock: systemClock, ...more })
  t.teardown(async () => {
    await sql.close()
    rmSync(directory, { recursive: true, force: true })
  })
  return sql
}

const ask = async (sql: SnapshotSql, query: string, tenant = 'acme', oldestTs = 0): Promise<SqlAnswer> => await sql.run({ tenant, query, format: 'json', oldestTs })
const rowsOf = (answer: SqlAnswer): unknown => JSON.parse(Buffer.from(answer.body).toString())
const refused = async (call: Promise<unknown>): Promise<TwinfoldError> => await call.then(answer => { throw new Error(`it was answered: ${JSON.stringify(answer).slice(0, 200)}`) }, (error: unknown) => error as TwinfoldError)

const secret = 'secret-of-bolt'

async function twoTenants (t: Test): Promise<ClickHouseConnection> {
  const connection = await fleetDatabase(t)
  const points = Array.from({ length: 4000 }, (_, index): WorldPoint => ({ tenant: 'acme', device: `d-${index % 4}`, metric: index % 2 === 0 ? 'temperature' : 'state', ts: day0 + index * usPerMinute, value: index % 2 === 0 ? index : index % 3 === 0 ? "it's on" : true, version: 1 }))
  await putPoints(connection, points)
  await putPoints(connection, [...points.slice(0, 100), ...points.slice(200, 202).map(point => ({ ...point, value: 1e6, version: 2 }))])
  await putPoints(connection, points.map(point => ({ ...point, tenant: 'bolt', device: secret, value: secret })))
  await putDevices(connection, [{ tenant: 'acme', id: 'd-0', type: 'pump', gateway: '', tags: { site: 'berlin' } }, { tenant: 'bolt', id: secret, type: secret, gateway: secret, tags: { [secret]: secret } }])
  return connection
}

if (!skipWithout(t, 'clickHouse')) {
  t.test('a tenant asks its own rows in SQL, each point once, with the value that was accepted last', async t => {
    const sql = openSql(t, await twoTenants(t))
    t.match(rowsOf(await ask(sql, 'SELECT count() AS n, uniqExact(device) AS devices, max(number) AS most FROM points')), [{ n: 4000, devices: 4, most: 1e6 }])
    t.match(rowsOf(await ask(sql, 'SELECT count() AS n FROM points', 'bolt')), [{ n: 4000 }])
    t.match(rowsOf(await ask(sql, `-- by site
      WITH hot AS (SELECT device, avg(number) AS mean FROM points WHERE metric = 'temperature' /* only numbers */ GROUP BY device)
      SELECT d.tags['site'] AS site, round(max(mean), 1) AS top, CAST(1 AS Nullable(UInt8)) AS one FROM hot AS h LEFT JOIN devices AS d ON d.device = h.device GROUP BY site ORDER BY site DESC LIMIT 5;`)), [{ site: 'berlin' }, { site: '' }])
    t.match(rowsOf(await ask(sql, `SELECT toStartOfDay(ts) AS day, quantile(0.9)(number) AS q, countIf(type = 'string') AS texts, any(string) FROM points GROUP BY day ORDER BY day LIMIT 1`)), [{ day: '2026-01-30 00:00:00.000000' }].map(() => ({})))
    t.match(rowsOf(await ask(sql, `SELECT string FROM points WHERE string = 'it''s on' AND device IN (SELECT device FROM points) LIMIT 1`)), [{ string: "it's on" }])
    t.match(rowsOf(await ask(sql, 'SELECT extract(day FROM ts) AS d, row_number() OVER (PARTITION BY device ORDER BY ts) AS n FROM points, (SELECT 1 AS one) AS x ORDER BY ts LIMIT 2')), [{ n: 1 }, { n: 1 }])
    const csv = await sql.run({ tenant: 'acme', query: 'SELECT device, number FROM points ORDER BY ts LIMIT 2', format: 'csv', oldestTs: 0 })
    t.equal(Buffer.from(csv.body).toString(), '"device","number"\n"d-0",0\n"d-1",0\n')
    t.equal(csv.rows, 2)
    const lines = await sql.run({ tenant: 'acme', query: 'SELECT ts FROM points ORDER BY ts LIMIT 3', format: 'ndjson', oldestTs: 0 })
    t.equal(Buffer.from(lines.body).toString().trim().split('\n').length, 3)
    t.match(await refused(ask(sql, 'SELECT nothing FROM points')), { code: 'invalid_field', field: 'query', message: /nothing/ })
    t.strictSame(rowsOf(await ask(sql, 'SELECT 1 FROM tiers_1h')), [])
  })

  t.test('what is too many is cut and said, and what has expired is not seen', async t => {
    const connection = await twoTenants(t)
    const sql = openSql(t, connection, { limits: { ...sqlLimits, rows: 100, bytes: 50_000 }, freshMs: 1000 })
    const many = await ask(sql, 'SELECT * FROM points ORDER BY ts')
    t.match(many, { rows: 100, truncated: true })
    t.equal((rowsOf(many) as unknown[]).length, 100)
    t.match(await ask(sql, 'SELECT * FROM points ORDER BY ts LIMIT 100'), { rows: 100, truncated: false })
    const wide = await ask(sql, `SELECT repeat('x', 1000) AS x FROM points LIMIT 90`)
    t.ok(wide.truncated && wide.body.length <= 50_001 && wide.rows < 50)
    t.match(rowsOf(await ask(sql, 'SELECT count() AS n FROM points', 'acme', day0 + 1000 * usPerMinute)), [{ n: 3000 }])
  })

  t.test('points that came since are in the next snapshot', async t => {
    const connection = await twoTenants(t)
    const sql = openSql(t, connection, { freshMs: 0 })
    t.match(rowsOf(await ask(sql, 'SELECT count() AS n FROM points')), [{ n: 4000 }])
    await putPoints(connection, [{ tenant: 'acme', device: 'd-9', metric: 'late', ts: day0 - 40 * 1440 * usPerMinute, value: 1, version: 9 }, { tenant: 'acme', device: 'd-0', metric: 'temperature', ts: day0, value: -5, version: 9 }])
    t.match(rowsOf(await ask(sql, 'SELECT count() AS n, min(number) AS least FROM points')), [{ n: 4001, least: -5 }])
  })

  t.test('one statement at a time for a tenant, so many tenants at once, and idle processes make room', async t => {
    const connection = await twoTenants(t)
    const sql = openSql(t, connection, { processesMax: 1 })
    const first = ask(sql, 'SELECT count() FROM points AS a, points AS b')
    t.match(await refused(ask(sql, 'SELECT 1')), { code: 'throttled' })
    t.match(await refused(ask(sql, 'SELECT 1', 'bolt')), { code: 'throttled' })
    await first
    t.match(rowsOf(await ask(sql, 'SELECT uniqExact(device) AS n FROM points', 'bolt')), [{ n: 1 }])
    t.match(rowsOf(await ask(sql, 'SELECT uniqExact(device) AS n FROM points')), [{ n: 4 }])
  })

  t.test('bombs meet the limits, and the next statement is answered', async t => {
    const sql = openSql(t, await twoTenants(t), { limits: { ...sqlLimits, seconds: 2, memoryBytes: 200 * 1024 ** 2 } })
    await ask(sql, 'SELECT 1')
    const bombs = [
      'SELECT count() FROM points AS a, points AS b, points AS c WHERE a.number + b.number + c.number = 0.5',
      'SELECT a.device, b.string, c.string FROM points AS a CROSS JOIN points AS b CROSS JOIN points AS c ORDER BY rowNumberInAllBlocks() DESC, cityHash64(a.ts, b.ts, c.ts)',
      `SELECT length(repeat(repeat('x', 1000000), 1000000))`,
      'SELECT sum(length(range(toUInt64(number) * 100000 + 100000000))) FROM points',
      'SELECT groupArray(a.ts) FROM points AS a, points AS b, points AS c',
      `SELECT arrayMap(x -> arrayMap(y -> range(100000), range(100000)), range(100000))`,
      `SELECT ${'('.repeat(3000)}1${')'.repeat(3000)}`,
      `SELECT ${Array.from({ length: 9000 }, () => '1').join('+')}`,
      `SELECT replaceRegexpAll(repeat('a', 1000000), '(a*)*b', 'x')`,
      'SELECT uniqExact(cityHash64(a.ts, b.ts, c.ts)) FROM points AS a, points AS b, points AS c'
    ]
    for (const bomb of bombs) {
      const began = Date.now()
      const outcome = await ask(sql, bomb).then(() => 'answered', (error: unknown) => (error as TwinfoldError).code)
      t.ok(['answered', 'limit_reached', 'invalid_field', 'analytics_unavailable'].includes(outcome), `${outcome} after ${Date.now() - began} ms: ${bomb.slice(0, 80)}`)
      t.ok(Date.now() - began < 15_000, 'in time')
      t.match(rowsOf(await ask(sql, 'SELECT count() AS n FROM points')), [{ n: 4000 }], 'the next one')
    }
  })

  t.test('the first wall: every hostile statement is refused before the engine sees it, and none of what may be called reads tables', async t => {
    for (const query of hostileSql) {
      try {
        t.fail(`it passed: ${query} as ${guardSql(query)}`)
      } catch (error) {
        t.match(error, { code: 'invalid_field', field: 'query' }, query.slice(0, 100))
      }
    }
    // What looks hostile and is only text, or means nothing, is written so that there is one way to read it.
    t.equal(guardSql(`SELECT 'a\\' FROM x -- ' FROM points`), `SELECT 'a\\' FROM x -- ' FROM points`)
    t.equal(guardSql(`SELECT x'41', - -1 -- done`), `SELECT x '41' , - - 1`)
    const connection = await fleetDatabase(t)
    const known = await connection.query<{ name: string }>('SELECT lower(name) AS name FROM system.table_functions')
    const tableFunctions = new Set(known.map(({ name }) => name))
    t.strictSame(callableNames.filter(name => tableFunctions.has(name)), [])
    const engines = await connection.query<{ name: string }>('SELECT lower(name) AS name FROM system.functions')
    const functions = new Set(engines.map(({ name }) => name))
    const types = ['nullable', 'lowcardinality', 'decimal', 'datetime', 'datetime64', 'fixedstring', 'enum8', 'enum16', 'interval']
    t.strictSame(callableNames.filter(name => !functions.has(name) && !types.includes(name) && !/^decimal\d/.test(name)), [], 'each of them exists')
  })

  t.test('the second wall: the process itself shows no other tenant, no file of the host and takes no write, were the first not there', async t => {
    const directory = mkdtempSync(join(tmpdir(), 'tenant-sql-'))
    t.teardown(() => { rmSync(directory, { recursive: true, force: true }) })
    const connection = await twoTenants(t)
    const snapshot = new SqlSnapshot(connection, join(directory, 'sql'), 1e6)
    await snapshot.refresh('bolt', 0)
    const tables = await snapshot.refresh('acme', 0)
    const engine = join(directory, 'engine')
    mkdirSync(engine)
    const open = async (): Promise<SqlProcess> => {
      const process = new SqlProcess({ ...sqlLimits, seconds: 3 }, engine)
      t.teardown(() => { process.kill() })
      await process.open({ directory: join(engine, `data-${Date.now()}`), tables, oldestTs: 0 })
      return process
    }
    let process = await open()
    for (const file of ['/tmp/x', '/tmp/x.csv']) rmSync(file, { force: true })
    const foreign = `${snapshot.directoryOf('bolt')}/files/*.parquet`
    const more = [`SELECT * FROM file('${foreign}')`, `SELECT * FROM file('${foreign}', Parquet)`, `SELECT * FROM file('/etc/hostname', 'LineAsString')`, `SELECT * FROM merge('', '.*')`, `SELECT * FROM merge(REGEXP('.*'), '.*')`, `SELECT name, value FROM system.settings`, `SELECT * FROM system.processes`]
    for (const query of [...hostileSql, ...more]) {
      let shown = ''
      try {
        const reply = await process.run(query, 'ndjson')
        if (reply.kind === 'answer') shown = Buffer.from(reply.body).toString()
      } catch {
        process = await open()
      }
      t.notMatch(shown, secret, `no row of another tenant: ${query.slice(0, 80)}`)
      t.notMatch(shown, /root:.*:0:0|bolt/, `nothing of the host: ${query.slice(0, 80)}`)
    }
    t.notOk(existsSync('/tmp/x.csv') || existsSync('/tmp/x'), 'nothing was written')
    t.match(await process.run('SELECT count() AS n FROM points', 'ndjson'), { kind: 'answer', rows: 1 })
    for (const query of [`SELECT * FROM file('/etc/passwd', 'LineAsString')`, `INSERT INTO FUNCTION file('/tmp/x.csv') SELECT 1`, 'SET readonly = 0', 'SELECT 1 SETTINGS readonly = 0', 'CREATE TABLE default.x (a Int8) ENGINE = Memory', `SELECT * FROM url('http://127.0.0.1:8123/', 'LineAsString')`, 'DROP VIEW default.points', `SELECT * FROM executable('id', 'TSV', 'x String')`]) {
      t.match(await process.run(query, 'ndjson'), { kind: 'refused' }, query)
    }
  })

  t.test('nothing of a tenant is left on disk when it closes', async t => {
    const directory = mkdtempSync(join(tmpdir(), 'tenant-sql-'))
    t.teardown(() => { rmSync(directory, { recursive: true, force: true }) })
    const sql = new SnapshotSql({ connection: await twoTenants(t), directory: join(directory, 'sql'), clock: systemClock })
    await ask(sql, 'SELECT 1')
    t.equal(readdirSync(join(directory, 'sql')).length, 1)
    await sql.close()
    t.notOk(existsSync(join(directory, 'sql')))
  })
}
