/** Migrations: the files as they are read, and their application to a real Cassandra by several migrators at once. */
import t, { type Test } from 'tap'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Client } from 'cassandra-driver'
import { readConfig } from '../../src/config.js'
import { systemClock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import { migrate } from '../../src/migrate.js'
import { migrateCassandra, type MigrateCassandraOptions } from '../../src/store/cluster/cassandra/migrate.js'
import { pendingMigrations, readMigrations, schemaFolder, splitStatements, type MigrateResult } from '../../src/store/migration-files.js'
import type { CassandraSettings } from '../../workers/protocol.js'
import { dropKeyspace } from '../support/keyspace.js'
import { newTestName, services, skipWithout } from '../support/services.js'

t.test('a script is split at its semicolons, not at those of comments and quoted text', async t => {
  t.strictSame(splitStatements(`
    -- one; with 'a quote
    CREATE TABLE a (b int); // two; "
    INSERT INTO a (b) VALUES ('it''s; -- so'); /* three; ' */
    CREATE FUNCTION f() AS $$ x; y; $$;
    SELECT "a;b" FROM c -- the last needs no semicolon
  `), ['CREATE TABLE a (b int)', 'INSERT INTO a (b) VALUES (\'it\'\'s; -- so\')', 'CREATE FUNCTION f() AS $$ x; y; $$', 'SELECT "a;b" FROM c'])
  t.strictSame(splitStatements(' ;; -- nothing\n'), [])
  t.strictSame(splitStatements('SELECT 4 - 2/1;'), ['SELECT 4 - 2/1'])
})

t.test('the files of the project: numbered once each, in order, every statement safe to repeat', async t => {
  for (const [name, extension] of [['cassandra', 'cql'], ['clickhouse', 'sql']]) {
    const files = readMigrations(schemaFolder(name), extension)
    t.ok(files.length > 0)
    t.same(files.map(file => file.version), files.map((_, index) => index + 1), `${name}: no gaps`)
    for (const { name: file, statements } of files) {
      // Beside what makes a thing once: settings, and rows of a table that keeps the greatest of equal keys.
      for (const statement of statements) t.match(statement, /\bIF NOT EXISTS\b|\bMODIFY SETTING\b|^INSERT INTO \{database\}\.(?:hour_marks|latest)\b/, `${file}: ${statement.slice(0, 60)}`)
    }
  }
})

function folderOf (t: Test, files: Readonly<Record<string, string>>): string {
  const folder = mkdtempSync(join(tmpdir(), 'twinfold-schemas-'))
  t.teardown(() => { rmSync(folder, { recursive: true }) })
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text)
  return folder
}

t.test('two files of one number and empty files are refused; a comment may be bettered, a statement may not', async t => {
  t.throws(() => readMigrations(folderOf(t, { '0001-a.cql': 'A;', '0001-b.cql': 'B;' }), 'cql'), { code: 'internal', message: /0001-a\.cql and 0001-b\.cql have one number/ })
  t.throws(() => readMigrations(folderOf(t, { '0001-a.cql': '-- nothing' }), 'cql'), { code: 'internal', message: /0001-a\.cql holds no statement/ })
  const read = (text: string): ReturnType<typeof readMigrations> => readMigrations(folderOf(t, { '0001-a.cql': text, 'notes.md': 'x', '0002-b.sql': 'y' }), 'cql')
  const before = read('CREATE A;\nCREATE B;')
  t.same(pendingMigrations(read('-- why\nCREATE A; -- so\nCREATE B'), before, 'X'), [])
  t.throws(() => pendingMigrations(read('CREATE A; CREATE C;'), before, 'X'), { code: 'internal', message: /0001-a\.cql was changed after it had been applied/ })
  t.throws(() => pendingMigrations([], before, 'X'), { code: 'format_newer', message: /the X schema has version 1 \(0001-a\.cql\); this server knows up to 0/ })
})

const options = { clock: systemClock, log: silentLog }

function freshSettings (t: Test): CassandraSettings {
  const { cassandra } = services()
  const keyspace = newTestName()
  t.teardown(async () => { await dropKeyspace(keyspace) })
  return { contactPoints: [cassandra?.contactPoint ?? ''], dataCenter: cassandra?.dataCenter ?? '', keyspace, replication: {}, consistency: 'LOCAL_QUORUM', user: '', password: '', tls: false }
}

async function withClient<T> (settings: CassandraSettings, use: (client: Client) => Promise<T>): Promise<T> {
  const client = new Client({ contactPoints: [...settings.contactPoints], localDataCenter: settings.dataCenter })
  try {
    return await use(client)
  } finally {
    await client.shutdown()
  }
}

t.test('four migrators at once on a fresh keyspace: each file is applied once, nobody fails, and again does nothing', { timeout: 120_000 }, async t => {
  if (skipWithout(t, 'cassandra')) return
  const settings = freshSettings(t)
  const names = readMigrations(schemaFolder('cassandra'), 'cql').map(file => file.name)
  const results = await Promise.all(Array.from({ length: 4 }, async () => await migrateCassandra(settings, options)))
  t.same(results.flatMap(result => result.applied), names)
  const started = performance.now()
  t.same(await migrateCassandra(settings, options), { applied: [] })
  t.comment(`nothing to do took ${Math.round(performance.now() - started)} ms`)
  await withClient(settings, async client => {
    const recorded = await client.execute(`SELECT version, name FROM ${settings.keyspace}.schema_migrations WHERE part = 0`)
    t.same(recorded.rows.map(row => row.name as string), names)
    t.equal((await client.execute(`SELECT * FROM ${settings.keyspace}.schema_lock`)).rowLength, 0, 'the lock was given back')
    const [made] = (await client.execute('SELECT replication, durable_writes FROM system_schema.keyspaces WHERE keyspace_name = ?', [settings.keyspace])).rows
    t.match(made, { replication: { class: 'org.apache.cassandra.locator.NetworkTopologyStrategy', datacenter1: '1' }, durable_writes: true })
  })
})

t.test('a changed file is named, a newer schema is refused, a new file is applied, also when migrators race for it', { timeout: 120_000 }, async t => {
  if (skipWithout(t, 'cassandra')) return
  const settings = freshSettings(t)
  const one = { '0001-a.cql': 'CREATE TABLE IF NOT EXISTS a (id int PRIMARY KEY);' }
  const two = { ...one, '0002-b.cql': 'CREATE TABLE IF NOT EXISTS b (id int PRIMARY KEY); ALTER TABLE a ADD IF NOT EXISTS note text;' }
  const run = async (files: Readonly<Record<string, string>>, over: Partial<MigrateCassandraOptions> = {}): Promise<MigrateResult> => await migrateCassandra(settings, { ...options, folder: folderOf(t, files), ...over })
  t.same(await run(one), { applied: ['0001-a.cql'] })
  await t.rejects(run({ '0001-a.cql': 'CREATE TABLE IF NOT EXISTS a (id text PRIMARY KEY);' }), { code: 'internal', message: /0001-a\.cql was changed/ })
  const raced = await Promise.all([run(two), run(two), run(two)])
  t.same(raced.flatMap(result => result.applied), ['0002-b.cql'])
  await t.rejects(run(one), { code: 'format_newer', message: /version 2 \(0002-b\.cql\); this server knows up to 1/ })
  await t.rejects(run({ ...two, '0003-c.cql': 'CREATE TABEL c' }), { code: 'internal', message: /CREATE TABEL c/ })
  t.same(await run({ ...two, '0003-c.cql': 'CREATE TABLE IF NOT EXISTS c (id int PRIMARY KEY)' }), { applied: ['0003-c.cql'] }, 'the failed one left no lock and no record')
})

t.test('a dead migrator\'s lock is waited for, named when that takes too long, and free after its lease', { timeout: 120_000 }, async t => {
  if (skipWithout(t, 'cassandra')) return
  const settings = freshSettings(t)
  const first = { '0001-a.cql': 'CREATE TABLE IF NOT EXISTS a (id int PRIMARY KEY);' }
  await migrateCassandra(settings, { ...options, folder: folderOf(t, first) })
  const folder = folderOf(t, { ...first, '0002-b.cql': 'CREATE TABLE IF NOT EXISTS b (id int PRIMARY KEY);' })
  await withClient(settings, async client => {
    await client.execute(`INSERT INTO ${settings.keyspace}.schema_lock (name, holder) VALUES ('schema', 'the dead one') IF NOT EXISTS USING TTL 4`)
  })
  await t.rejects(migrateCassandra(settings, { ...options, folder, lockWithinMs: 500 }), { code: 'store_unavailable', message: /is being changed by the dead one/ })
  t.same(await migrateCassandra(settings, { ...options, folder }), { applied: ['0002-b.cql'] })
})

t.test('a migrator that was paused beyond its lease finds out before its next statement', { timeout: 120_000 }, async t => {
  if (skipWithout(t, 'cassandra')) return
  const settings = freshSettings(t)
  const folder = folderOf(t, { '0001-a.cql': 'CREATE TABLE IF NOT EXISTS a (id int PRIMARY KEY); CREATE TABLE IF NOT EXISTS b (id int PRIMARY KEY);' })
  await withClient(settings, async client => {
    let stolen = false
    // Between two statements the lock passes to another, as it would after a long pause.
    const steal = setInterval(() => {
      client.execute(`UPDATE ${settings.keyspace}.schema_lock USING TTL 30 SET holder = 'another' WHERE name = 'schema' IF EXISTS`).then(result => { stolen ||= result.wasApplied() }, () => {})
    }, 20)
    t.teardown(() => { clearInterval(steal) })
    await t.rejects(migrateCassandra(settings, { ...options, folder, lockWithinMs: 2000 }), { code: 'store_unavailable', message: /was lost to another|is being changed by another/ })
    clearInterval(steal)
    t.ok(stolen)
    const [lock] = (await client.execute(`SELECT holder FROM ${settings.keyspace}.schema_lock`)).rows
    t.equal(lock.holder, 'another', 'it does not release what is not its own')
  })
})

t.test('twinfold migrate says what it did', { timeout: 120_000 }, async t => {
  t.match(await migrate(readConfig({}), options), [/TWINFOLD_STORE=cluster is not set/])
  if (skipWithout(t, 'cassandra')) return
  const { keyspace, contactPoints, dataCenter } = freshSettings(t)
  const config = readConfig({ TWINFOLD_STORE: 'cluster', TWINFOLD_CASSANDRA: contactPoints.join(','), TWINFOLD_CASSANDRA_DATA_CENTER: dataCenter, TWINFOLD_CASSANDRA_KEYSPACE: keyspace })
  t.match(await migrate(config, options), [/^Cassandra: applied 0001-probe\.cql, 0002-/])
  t.same(await migrate(config, options), ['Cassandra: up to date'])
})
