/** Service control and the helpers on it, as far as that takes no Cassandra of its own; test/cluster has the rest. */
import { createClient } from '@clickhouse/client'
import { spawnSync } from 'node:child_process'
import { createServer, type Server, type Socket } from 'node:net'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { finished } from 'node:stream/promises'
import { pathToFileURL } from 'node:url'
import t from 'tap'
import { freePort } from './support/private-process.js'
import { repositoryDirectory, serviceControl } from './support/service-control.js'
import { services, skipWithout, startClickHouseFront } from './support/services.js'

async function listen (answer: (socket: Socket) => void): Promise<{ readonly port: number, close (): void }> {
  const port = await freePort(['127.0.0.1'])
  const sockets = new Set<Socket>()
  const server: Server = createServer(socket => {
    sockets.add(socket)
    socket.on('error', () => { /* The probe hung up. */ })
    answer(socket)
  })
  await new Promise<void>(resolve => { server.listen(port, '127.0.0.1', () => { resolve() }) })
  return { port, close: () => { server.close(); for (const socket of sockets) socket.destroy() } }
}

t.test('a probe believes only an answer in the service\'s own protocol', async t => {
  const { probeCassandra, probeRedis, probeClickHouse } = await serviceControl('probes')
  const silent = await listen(() => { /* Accepts, and says nothing. */ })
  const closing = await listen(socket => { socket.end() })
  const web = await listen(socket => { socket.once('data', () => socket.end('HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n')) })
  const redisWithPassword = await listen(socket => { socket.once('data', () => socket.write('-NOAUTH Authentication required.\r\n')) })
  const cassandraError = await listen(socket => { socket.once('data', () => socket.write(Buffer.from([0x84, 0, 0, 0, 0x00, 0, 0, 0, 0]))) })
  const slowRedis = await listen(socket => { socket.once('data', () => { socket.write('+PO'); setTimeout(() => socket.write('NG\r\n'), 50) }) })
  t.teardown(() => { for (const server of [silent, closing, web, redisWithPassword, cassandraError, slowRedis]) server.close() })
  for (const probe of [probeCassandra, probeRedis, probeClickHouse]) {
    for (const [what, { port }] of Object.entries({ silent, closing, web, redisWithPassword, cassandraError })) t.equal((await probe('127.0.0.1', port, 200)).answers, false, `${probe.name} at ${what}`)
    t.match(await probe('127.0.0.1', await freePort(['127.0.0.1']), 200), { answers: false, reason: 'nothing listens' })
  }
  t.match(await probeRedis('127.0.0.1', redisWithPassword.port, 200), { reason: /NOAUTH/ }, 'the reason is Redis\'s own')
  t.equal((await probeRedis('127.0.0.1', slowRedis.port, 1000)).answers, true, 'an answer in two pieces is an answer')
})

t.test('what the state file calls running answers', async t => {
  const { probeCassandra, probeRedis, probeClickHouse } = await serviceControl('probes')
  const { cassandra, redis, clickHouse } = services()
  if (!skipWithout(t, 'cassandra')) t.ok((await probeCassandra('127.0.0.1', Number(cassandra?.contactPoint.split(':')[1]))).answers, 'cassandra')
  if (!skipWithout(t, 'redis')) t.ok((await probeRedis('127.0.0.1', Number(new URL(redis?.url ?? '').port))).answers, 'redis')
  if (!skipWithout(t, 'clickHouse')) t.ok((await probeClickHouse('127.0.0.1', Number(new URL(clickHouse?.url ?? '').port))).answers, 'clickHouse')
})

t.test('scripts/services refuses what it does not understand, and says so', async t => {
  const call = (args: string[], environment: NodeJS.ProcessEnv = {}) => spawnSync(join(repositoryDirectory, 'scripts/services'), args, { encoding: 'utf8', env: { ...process.env, ...environment }, timeout: 30_000 })
  for (const args of [[], ['sideways'], ['up', 'mongodb'], ['up', '--data'], ['down', 'redis', '--data']]) t.match(call(args), { status: 2, stderr: /^usage: / }, args.join(' '))
  t.match(call(['status'], { TWINFOLD_SERVICES_REDIS_PORT: 'many' }), { status: 1, stderr: /TWINFOLD_SERVICES_REDIS_PORT='many': must be a whole number from 1 to 65535/ })
  t.match(call(['status'], { TWINFOLD_SERVICES_REDIS_PROT: '1' }), { status: 1, stderr: /TWINFOLD_SERVICES_REDIS_PROT is not a setting/ })
})

t.test('one statement is told from two, and data from statements', async t => {
  const { secondStatement, isRead, insertFromFile } = await serviceControl('clickhouse-sql')
  for (const one of ['SELECT 1', 'SELECT 1;', 'SELECT 1 ; ; ', "SELECT ';' || 'a''b;'", 'SELECT `a;b` /* ; */ FROM t -- ; x', "INSERT INTO t VALUES (1); SELECT 2", "SELECT 'it\\'s; ok'"]) t.equal(secondStatement(one), null, one)
  for (const two of ['SELECT 1; SELECT 2', "SELECT ';'; DROP TABLE t", 'SELECT 1;\n-- a\nSELECT 2']) t.not(secondStatement(two), null, two)
  for (const read of ['SELECT 1', ' (select 1)', '-- a\nWITH 1 AS x SELECT x', '/* DROP */ SHOW TABLES', 'EXPLAIN SELECT 1']) t.ok(isRead(read), read)
  for (const write of ['DROP TABLE t', 'INSERT INTO t VALUES (1)', '/* SELECT */ DROP TABLE t', 'SELECTED', 'SET a = 1']) t.notOk(isRead(write), write)
  t.equal(insertFromFile('INSERT INTO d.t (a, b) FORMAT JSONEachRow')?.("/x/it's"), "INSERT INTO d.t (a, b) FROM INFILE '/x/it\\'s' FORMAT JSONEachRow")
  t.equal(insertFromFile('INSERT INTO t SETTINGS async_insert=0 FORMAT CSV;')?.('/x'), "INSERT INTO t FROM INFILE '/x' SETTINGS async_insert=0 FORMAT CSV")
  for (const other of ['INSERT INTO t VALUES', 'INSERT INTO t SELECT * FROM u FORMAT JSON', 'SELECT 1 FORMAT JSON']) t.equal(insertFromFile(other), null, other)
})

t.test('a suite without its service is named, and counted as skipped', async t => {
  const { TestReport } = await import(pathToFileURL(join(repositoryDirectory, 'scripts/test-report.mjs')).href) as { TestReport: new () => { readonly passed: number, readonly failed: number, readonly skipped: number, readonly withoutService: Map<string, string[]>, follow (stream: NodeJS.ReadableStream, write: (text: string) => void): void } }
  const report = new TestReport()
  const stream = new PassThrough()
  let written = ''
  report.follow(stream, text => { written += text })
  stream.end(['# Subtest: dist/test/a.test.js', '    # Subtest: x', '        ok 1 - fine', '        ok 2 - needs redis # SKIP redis is missing: no apt-get', '        ok 3 - elsewhere # SKIP not on this system', '    ok 1 - x # time=3ms', 'ok 1 - dist/test/a.test.js # time=5ms',
    '# Subtest: dist/test/b.test.js', '    not ok 1 - wrong', '      ---', '      found: 1', '      ...', 'not ok 2 - dist/test/b.test.js # time=5ms', 'not ok 3 - dist/test/c.test.js # time=1ms', ''].join('\n'))
  await finished(stream)
  await new Promise(resolve => { setImmediate(resolve) })
  t.match(report, { passed: 1, failed: 2, skipped: 2 }, 'a file that did not run is one failure')
  t.same([...report.withoutService], [['dist/test/a.test.js', ['redis is missing: no apt-get']]])
  t.match(written, /found: 1/, 'failures keep their details')
})

t.test('the ClickHouse front serves the real client as a server does', { timeout: 120_000 }, async t => {
  if (skipWithout(t, 'clickHouse')) return
  const front = await startClickHouseFront()
  // What the client logs of refusals is not news here.
  const quiet = { level: 127 as never }
  const root = createClient({ url: front.url, log: quiet })
  const client = createClient({ url: front.url, database: 'd', compression: { request: true, response: true }, log: quiet })
  t.teardown(async () => { await client.close(); await root.close(); await front.close() })
  const rows = async (query: string, more: object = {}): Promise<unknown[]> => await (await client.query({ query, format: 'JSONEachRow', ...more })).json()

  await t.rejects(rows('SELECT 1'), { code: '81', type: 'UNKNOWN_DATABASE' }, 'a database that is not there')
  await root.command({ query: 'CREATE DATABASE d' })
  await client.command({ query: 'CREATE TABLE p (k UInt64, s String, v UInt64) ENGINE = ReplacingMergeTree(v) ORDER BY k;' })
  const inserted = await client.insert({ table: 'p', values: [{ k: 1, s: 'old', v: 1 }, { k: 1, s: "né;w\n'\t\\", v: 2 }], format: 'JSONEachRow' })
  t.equal(inserted.summary?.written_rows, '2')
  t.same(await rows('SELECT * FROM p FINAL'), [{ k: 1, s: "né;w\n'\t\\", v: 2 }])
  t.same(await rows('SELECT {s:String} s, {n:UInt64} n, {a:Array(String)} a', { query_params: { s: "x'y\t\\z\n{n:UInt64}", n: 5, a: ["a'b", 'c'] } }), [{ s: "x'y\t\\z\n{n:UInt64}", n: 5, a: ["a'b", 'c'] }])
  t.same(await rows('SELECT length({s:String}) l', { query_params: { s: 'k'.repeat(100_000) }, use_multipart_params: true }), [{ l: 100_000 }], 'long parameters')

  t.same(await rows("SELECT getSetting('max_block_size') x", { clickhouse_settings: { max_block_size: '4321' } }), [{ x: 4321 }])
  t.not(((await rows("SELECT getSetting('max_block_size') x"))[0] as { x: number }).x, 4321, 'a setting holds for its own request')
  await t.rejects(rows('SELECT 1', { clickhouse_settings: { nonsense: 1 } }), { code: '115' })
  await t.rejects(client.command({ query: 'DROP TABLE p', clickhouse_settings: { readonly: '1' } }), { code: '164', type: 'READONLY' })
  await t.rejects(rows('SELECT * FROM nothing'), { code: '60', type: 'UNKNOWN_TABLE' })
  await t.rejects(client.command({ query: 'SELECT 1; DROP TABLE p' }), { code: '62', type: 'SYNTAX_ERROR' }, 'two statements')
  await t.rejects(client.insert({ table: 'p', values: [{ k: 'no number' }], format: 'JSONEachRow' }), { code: '27' })
  await t.rejects(rows('SELECT count() FROM numbers(1000000000000) WHERE cityHash64(number) = 1', { clickhouse_settings: { max_execution_time: 1 } }), { code: '159' }, 'a time-out')

  const together = await Promise.all(Array.from({ length: 40 }, async (_, index) => await rows(`SELECT ${index} n`)))
  t.same(together.map(found => (found[0] as { n: number }).n), Array.from({ length: 40 }, (_, index) => index), 'many at once, each its own answer')

  const abort = new AbortController()
  setTimeout(() => { abort.abort() }, 50)
  await t.rejects(rows('SELECT sleep(1)', { abort_signal: abort.signal }), { message: /abort/ })
  t.same(await rows('SELECT count() c FROM p FINAL'), [{ c: 1 }], 'an aborted query leaves the engine alive')

  await client.insert({ table: 'p', values: Array.from({ length: 20_000 }, (_, index) => ({ k: 10 + index, s: `s${index}`, v: 1 })), format: 'JSONEachRow' })
  await front.kill()
  t.equal((await client.ping()).success, false, 'killed: nothing answers')
  await front.start()
  t.same(await rows('SELECT count() c FROM p FINAL'), [{ c: 20_001 }], 'what was inserted is there after a restart')
})
