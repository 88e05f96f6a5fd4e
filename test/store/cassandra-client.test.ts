/** The client against a real Cassandra: rows as they come, pages, conditional writes, and what its errors mean. */
import t from 'tap'
import { createServer, connect as connectTcp, type Socket } from 'node:net'
import { systemClock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import type { CassandraClient, Row } from '../../src/store/cluster/cassandra/cassandra-client.js'
import { migrateCassandra } from '../../src/store/cluster/cassandra/migrate.js'
import { openCassandra, type OpenCassandraOptions } from '../../src/store/cluster/cassandra/open-cassandra.js'
import type { CassandraSettings } from '../../workers/protocol.js'
import { dropKeyspace } from '../support/keyspace.js'
import { newTestName, services, skipWithout } from '../support/services.js'

const keyspace = newTestName()

function settings (over: Partial<CassandraSettings> = {}): CassandraSettings {
  const { cassandra } = services()
  return {
    contactPoints: [cassandra?.contactPoint ?? ''], dataCenter: cassandra?.dataCenter ?? '', keyspace, replication: {},
    consistency: 'LOCAL_QUORUM', user: '', password: '', tls: false, ...over
  }
}

async function open (over: Partial<CassandraSettings> = {}, options: Partial<OpenCassandraOptions> = {}): Promise<CassandraClient> {
  return await openCassandra(settings(over), { clock: systemClock, log: silentLog, ...options })
}

t.test('on a real Cassandra', { timeout: 120_000 }, async t => {
  if (skipWithout(t, 'cassandra')) return
  await migrateCassandra(settings(), { clock: systemClock, log: silentLog })
  t.teardown(async () => { await dropKeyspace(keyspace) })
  const client = await open()
  t.teardown(async () => { await client.close() })
  t.equal(client.keyspace, keyspace)

  t.test('rows: bigints are numbers, blobs are buffers, nothing is null', async t => {
    await client.write('CREATE TABLE kinds (id text PRIMARY KEY, big bigint, bytes blob, small tinyint, middle smallint, whole int, yes boolean, real double, words text)', [])
    const insert = 'INSERT INTO kinds (id, big, bytes, small, middle, whole, yes, real, words) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)'
    const values: readonly unknown[][] = [
      ['low', -(2 ** 53 - 1), Buffer.alloc(0), -128, -32_768, -(2 ** 31), false, -0, ''],
      ['high', 2 ** 53 - 1, Buffer.from([0, 255]), 127, 32_767, 2 ** 31 - 1, true, Number.MAX_VALUE, 'ä\0☃'],
      ['none', null, null, null, null, null, null, null, null]
    ]
    for (const row of values) await client.write(insert, row)
    for (const [id, big, bytes, small, middle, whole, yes, real, words] of values) {
      t.strictSame(await client.read('SELECT * FROM kinds WHERE id = ?', [id]), [{ id, big, bytes, middle, real, small, whole, words, yes }])
    }
    await client.write('INSERT INTO kinds (id, big) VALUES (?, 9007199254740993)', ['beyond'])
    await t.rejects(client.read('SELECT big FROM kinds WHERE id = ?', ['beyond']), { code: 'corrupt_data', message: /big holds 9007199254740993/ })
    t.strictSame(await client.read('SELECT * FROM kinds WHERE id = ?', ['absent']), [])
  })

  t.test('writeAll writes everything, pulling no more than there is room for; pages and streams give every row once', async t => {
    await client.write('CREATE TABLE many (part int, number int, words text, PRIMARY KEY ((part), number))', [])
    let pulled = 0
    let ahead = 0
    const count = 12_345
    function * statements (): Generator<{ cql: string, parameters: unknown[] }> {
      for (; pulled < count; pulled++) {
        const { running, waiting } = client.status()
        ahead = Math.max(ahead, running + waiting)
        yield { cql: 'INSERT INTO many (part, number, words) VALUES (1, ?, ?)', parameters: [pulled, `w${pulled}`] }
      }
    }
    await client.writeAll(statements())
    t.equal(pulled, count)
    t.ok(ahead <= 513, `${ahead} at once`)
    t.comment(`at most ${ahead} at once`)
    const all = Array.from({ length: count }, (_, number) => number)
    const numbers = (rows: readonly Row[]): unknown[] => rows.map(row => row.number)
    t.same(numbers(await client.read('SELECT number FROM many WHERE part = 1', [])), all, 'read goes on past the first page')
    const streamed: Row[] = []
    for await (const row of client.stream('SELECT number FROM many WHERE part = 1', [], 1000)) streamed.push(row)
    t.same(numbers(streamed), all)
    const paged: unknown[] = []
    const sizes: number[] = []
    for (let state: string | null = null, first = true; first || state !== null; first = false) {
      const page: Awaited<ReturnType<CassandraClient['page']>> = await client.page('SELECT number FROM many WHERE part = 1', [], 5000, state)
      sizes.push(page.rows.length)
      paged.push(...numbers(page.rows))
      state = page.pageState
    }
    t.same(paged, all)
    t.same(sizes.slice(0, 3), [5000, 5000, 2345])
    t.same(await client.page('SELECT number FROM many WHERE part = 2', [], 10, null), { rows: [], pageState: null })
    let seen = 0
    for await (const row of client.stream('SELECT number FROM many WHERE part = 1', [], 10)) {
      t.equal(row.number, seen)
      if (++seen === 25) break
    }
  })

  t.test('writeAll rejects with the first failure, and pulls no further', async t => {
    let pulled = 0
    function * statements (): Generator<{ cql: string, parameters: unknown[] }> {
      for (; pulled < 100_000; pulled++) yield { cql: 'INSERT INTO many (part, number, words) VALUES (3, ?, ?)', parameters: [pulled === 10 ? 'not a number' : pulled, 'w'] }
    }
    await t.rejects(client.writeAll(statements()), { code: 'internal' })
    t.ok(pulled < 5000, String(pulled))
    t.equal(client.status().running, 0, 'nothing of it runs any more')
    await client.writeAll([])
  })

  t.test('writePartition is one batch: all of it or nothing', async t => {
    const statement = (number: unknown): { cql: string, parameters: unknown[] } => ({ cql: 'INSERT INTO many (part, number, words) VALUES (4, ?, ?)', parameters: [number, 'b'] })
    await client.writePartition(Array.from({ length: 100 }, (_, number) => statement(number)))
    await client.writePartition([])
    t.equal((await client.read('SELECT number FROM many WHERE part = 4', [])).length, 100)
    await t.rejects(client.writePartition([statement(1000), statement('x')]), { code: 'internal' })
    t.equal((await client.read('SELECT number FROM many WHERE part = 4', [])).length, 100)
  })

  t.test('a conditional write says whether it was applied, and what is there; one of twenty at once succeeds', async t => {
    await client.write('CREATE TABLE test_claims (id text PRIMARY KEY, holder text, version bigint)', [])
    const claim = 'INSERT INTO test_claims (id, holder, version) VALUES (?, ?, ?) IF NOT EXISTS'
    t.strictSame(await client.writeIf(claim, ['a', 'one', 1]), { applied: true, row: null })
    t.strictSame(await client.writeIf(claim, ['a', 'two', 2]), { applied: false, row: { id: 'a', holder: 'one', version: 1 } })
    t.strictSame(await client.writeIf('UPDATE test_claims SET version = ? WHERE id = ? IF version = ?', [2, 'a', 7]), { applied: false, row: { version: 1 } })
    t.strictSame(await client.writeIf('UPDATE test_claims SET version = ? WHERE id = ? IF version = ?', [2, 'absent', 7]), { applied: false, row: null })
    t.strictSame(await client.writeIf('UPDATE test_claims SET version = ? WHERE id = ? IF version = ?', [2, 'a', 1]), { applied: true, row: null })
    t.strictSame(await client.readSerial('SELECT version FROM test_claims WHERE id = ?', ['a']), [{ version: 2 }])
    const other = await open()
    t.teardown(async () => { await other.close() })
    const outcomes = await Promise.allSettled(Array.from({ length: 20 }, async (_, i) => await (i % 2 === 0 ? client : other).writeIf(claim, ['b', `h${i}`, i])))
    const winners = outcomes.flatMap((outcome, i) => outcome.status === 'fulfilled' && outcome.value.applied ? [`h${i}`] : [])
    const [held] = await client.readSerial('SELECT holder FROM test_claims WHERE id = ?', ['b'])
    // One whose answer was lost in the contention may hold it without knowing.
    t.ok(winners.length <= 1, winners.join(' '))
    if (winners.length === 1) t.equal(held.holder, winners[0])
    t.equal(client.status().state, 'up', 'contention is not an outage')
  })

  t.test('a wrong statement is the caller\'s fault: `internal`, and the circuit stays closed however often it comes', async t => {
    for (let i = 0; i < 20; i++) {
      await t.rejects(client.read('SELECT nothing FROM many WHERE part = 1', []), { code: 'internal', message: /refuses a statement/ })
      await t.rejects(client.write('INSERT INTO many (part, number) VALUES (?, ?)', ['x', 'y']), { code: 'internal' })
    }
    t.match(client.status(), { name: 'Cassandra', state: 'up', reason: '', failures: 0, running: 0, waiting: 0 })
  })
})

t.test('where nothing listens, opening is tried for the given time and names the contact points', async t => {
  const started = performance.now()
  await t.rejects(open({ contactPoints: ['127.0.0.1:1', '127.0.0.1:2'], dataCenter: 'dc' }, { openWithinMs: 1000 }), { code: 'store_unavailable', message: /127\.0\.0\.1:1, 127\.0\.0\.1:2 \(data centre dc\)/ })
  const tookMs = performance.now() - started
  t.ok(tookMs > 300 && tookMs < 10_000, `${Math.round(tookMs)} ms`)
})

t.test('a wrong data centre is said at once', { timeout: 30_000 }, async t => {
  if (skipWithout(t, 'cassandra')) return
  const started = performance.now()
  await t.rejects(open({ keyspace: 'system', dataCenter: 'nowhere' }), { code: 'store_unavailable', message: /nowhere.*datacenter1/s })
  t.ok(performance.now() - started < 10_000)
})

t.test('connections that break are made again, and idempotent statements in between reject or are answered, in bounded time', { timeout: 60_000 }, async t => {
  if (skipWithout(t, 'cassandra')) return
  const [host, port = '9042'] = settings().contactPoints[0].split(':')
  const sockets = new Set<Socket>()
  const refusing = { now: false }
  const proxy = createServer(inner => {
    if (refusing.now) {
      inner.destroy()
      return
    }
    const outer = connectTcp(Number(port), host)
    for (const socket of [inner, outer]) {
      sockets.add(socket)
      socket.on('error', () => {}).on('close', () => {
        sockets.delete(socket)
        inner.destroy()
        outer.destroy()
      })
    }
    inner.pipe(outer).pipe(inner)
  })
  await new Promise<void>(resolve => { proxy.listen(0, host, resolve) })
  t.teardown(() => {
    proxy.close()
    for (const socket of sockets) socket.destroy()
  })
  const address = proxy.address()
  if (address === null || typeof address === 'string') return
  // The driver takes a node's port from the contact point for the node it connected to first.
  const client = await open({ contactPoints: [`${host}:${address.port}`], keyspace: 'system' }, { probeMs: 100 })
  t.teardown(async () => { await client.close() })
  const ask = async (): Promise<unknown> => await client.read('SELECT key FROM local', [])
  t.same(await ask(), [{ key: 'local' }])
  t.ok(sockets.size > 0, 'through the proxy')
  refusing.now = true
  for (const socket of sockets) socket.destroy()
  for (let i = 0; i < 10; i++) await t.rejects(ask(), { code: 'store_unavailable' })
  t.match(client.status(), { state: 'down', reason: /Cassandra has been down since .*last error: Cassandra/ })
  const started = performance.now()
  await t.rejects(ask(), { message: /has been down since/ })
  t.ok(performance.now() - started < 50, 'refused at once')
  refusing.now = false
  while (client.status().state !== 'up') await new Promise(resolve => { setTimeout(resolve, 20) })
  t.ok(performance.now() - started < 5000, `up again after ${Math.round(performance.now() - started)} ms`)
  t.same(await ask(), [{ key: 'local' }])
})
