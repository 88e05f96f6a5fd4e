/** Dead letters and the small stores on Cassandra: expiry, deaths between writes, and what reading costs after many trims. */
import t from 'tap'
import type { CassandraClient, Row } from '../../src/store/cluster/cassandra/cassandra-client.js'
import { CassandraDeadLetters } from '../../src/store/cluster/cassandra/cassandra-dead-letters.js'
import { CassandraSmallStores } from '../../src/store/cluster/cassandra/cassandra-small-stores.js'
import type { DeadLetter } from '../../src/store/dead-letter-store.js'
import { skipWithout } from '../support/services.js'
import { diesAt, FailingCassandra, migratedKeyspace, openClient, type Failure } from './cassandra-fixture.js'
import { day0, newTenantId } from './store-fixtures.js'

t.setTimeout(180_000)

const failures: readonly Failure[] = ['before', 'after']
const hourUs = 3600e6
const daySeconds = 86_400

function letterOf (tenant: string, stamp: number, index = 0): DeadLetter {
  return { tenant, id: `${stamp}-${index}`, stamp, reason: 'empty', detail: 'no', device: 'd', source: 'mqtt', format: 2, payload: Buffer.alloc(100, index), payloadBytes: 100 }
}

/** Notes which statements are read with, and how many rows come. */
class ReadCounter extends FailingCassandra {
  rows = 0
  statements: string[] = []

  override async read (cql: string, parameters: readonly unknown[]): Promise<readonly Row[]> {
    const rows = await super.read(cql, parameters)
    this.statements.push(cql)
    this.rows += rows.length
    return rows
  }

  override async * stream (cql: string, parameters: readonly unknown[], pageRows: number): AsyncIterable<Row> {
    this.statements.push(cql)
    for await (const row of super.stream(cql, parameters, pageRows)) {
      this.rows++
      yield row
    }
  }

  reset (): void {
    this.rows = 0
    this.statements = []
  }
}

function suites (): void {
  const setUp = (async () => {
    const settings = await migratedKeyspace(t)
    const client = await openClient(t, settings)
    const failing = new FailingCassandra(client)
    return { client, second: await openClient(t, settings), failing, store: new CassandraDeadLetters(client), dying: new CassandraDeadLetters(failing) }
  })()

  const rowsOf = async (client: CassandraClient, table: string, tenant: string): Promise<number> => (await client.read(`SELECT COUNT(*) AS rows FROM ${table} WHERE tenant = ? ALLOW FILTERING`, [tenant]))[0].rows as number

  void t.test('letters and keys expire by themselves, what leads to letters a day after them', async t => {
    const { client, store } = await setUp
    const tenant = newTenantId()
    await store.putDeadLetters([letterOf(tenant, day0)])
    const small = new CassandraSmallStores(client)
    await small.putIdempotency([{ tenant, key: 'k', fingerprint: 'f', stamp: day0 }])
    await small.claimIdempotency({ tenant, key: 'k', fingerprint: 'f', stamp: day0 })
    const expected = { dead_letter: ['reason', 30], dead_letter_payload: ['payload', 30], idempotency: ['fingerprint', 1], idempotency_claim: ['fingerprint', 1] } as const
    for (const [table, [column, days]] of Object.entries(expected)) {
      const [row] = await client.read(`SELECT TTL(${column}) AS left FROM ${table} WHERE tenant = ? ALLOW FILTERING`, [tenant])
      t.ok(row.left as number > days * daySeconds - 60 && row.left as number <= days * daySeconds, `${table}: ${String(row.left)}`)
    }
    for (const table of ['dead_letter_partition', 'dead_letter_tenant']) {
      const [row] = await client.read('SELECT default_time_to_live AS ttl FROM system_schema.tables WHERE keyspace_name = ? AND table_name = ?', [client.keyspace, table])
      t.equal(row.ttl, 31 * daySeconds, table)
    }
  })

  void t.test('a writer of letters that dies leaves only whole ones, and repeating the slice completes them', async t => {
    const { failing, dying, store } = await setUp
    for (const failure of failures) {
      for (let write = 0, died = true; died; write++) {
        const tenant = newTenantId()
        const letters = Array.from({ length: 4 }, (_, i) => letterOf(tenant, day0 + Math.floor(i / 2) * hourUs, i))
        failing.failAs(diesAt(write, failure))
        died = await dying.putDeadLetters(letters).then(() => false, () => true)
        failing.failAs(() => null)
        const seen = (await store.listDeadLetters(tenant, {}, null, 100)).items
        t.ok(seen.every(letter => Buffer.compare(letter.payload, Buffer.alloc(100, Number(letter.id.split('-')[1]))) === 0), `${failure} ${write}: ${seen.length} seen, all whole`)
        await store.putDeadLetters(letters)
        t.strictSame((await store.listDeadLetters(tenant, {}, null, 100)).items.map(({ id }) => id), letters.map(({ id }) => id).sort().reverse())
        t.ok((await store.deadLetterTenants()).includes(tenant))
        if (write > 50) throw new Error('the writes do not end')
      }
    }
  })

  void t.test('a trim that dies leaves the letters that are to stay, and the next one finishes it', async t => {
    const { client, failing, dying, store } = await setUp
    for (const failure of failures) {
      // The writes of a trim are by partition: some of the first, the middle and the last are enough.
      for (const write of [0, 1, 5, 13, 20, 27, 34, 41, 60]) {
        const tenant = newTenantId()
        const letters = Array.from({ length: 30 }, (_, i) => letterOf(tenant, day0 + Math.floor(i / 10) * hourUs + i, i))
        await store.putDeadLetters(letters)
        const staying = letters.slice(-5).map(({ id }) => id).reverse()
        failing.failAs(diesAt(write, failure))
        await dying.trimDeadLetters(tenant, 5, 1e9).catch(() => {})
        failing.failAs(() => null)
        const seen = (await store.listDeadLetters(tenant, {}, null, 100)).items
        t.strictSame(seen.slice(0, 5).map(({ id }) => id), staying, `${failure} ${write}`)
        await store.trimDeadLetters(tenant, 5, 1e9)
        t.strictSame((await store.listDeadLetters(tenant, {}, null, 100)).items.map(({ id }) => id), staying)
        t.ok(await rowsOf(client, 'dead_letter', tenant) < 30)
      }
    }
  })

  void t.test('a trim reads no payload, removes whole hours as partitions, and leaves nothing behind', async t => {
    const { client, store } = await setUp
    const counter = new ReadCounter(client)
    const tenant = newTenantId()
    const letters = Array.from({ length: 600 }, (_, i) => letterOf(tenant, day0 + Math.floor(i / 100) * hourUs + i, i))
    await store.putDeadLetters(letters)
    const deleted: string[] = []
    counter.failAs((_, cql) => {
      deleted.push(cql)
      return null
    })
    t.equal(await new CassandraDeadLetters(counter).trimDeadLetters(tenant, 150, 1e9), 450)
    t.notOk(counter.statements.some(cql => cql.includes('dead_letter_payload')), 'no payload read')
    t.notOk(deleted.some(cql => cql.includes('id = ?')), 'no row deleted by itself')
    for (const table of ['dead_letter', 'dead_letter_payload']) t.equal(await rowsOf(client, table, tenant), 150, table)
    t.equal(await rowsOf(client, 'dead_letter_partition', tenant), 32, 'two hours are left')
  })

  void t.test('after 40 trims a page and a trim read what is there, not what was', async t => {
    const { client } = await setUp
    const counter = new ReadCounter(client)
    const store = new CassandraDeadLetters(counter)
    const tenant = newTenantId()
    for (let round = 0; round < 40; round++) {
      await store.putDeadLetters(Array.from({ length: 40 }, (_, i) => letterOf(tenant, day0 + round * 60e6 + i, i)))
      await store.trimDeadLetters(tenant, 50, 1e9)
    }
    counter.reset()
    const page = await store.listDeadLetters(tenant, {}, null, 20)
    t.equal(page.items.length, 20)
    t.ok(counter.rows <= 20 + 50 + 32, `a page took ${counter.rows} rows and ${counter.statements.length} statements`)
    counter.reset()
    t.equal(await store.trimDeadLetters(tenant, 50, 1e9), 0)
    t.ok(counter.statements.length <= 40 && counter.rows <= 90, `a trim took ${counter.rows} rows and ${counter.statements.length} statements`)
  })

  void t.test('letters that two nodes put and trim at once: the newest stay', async t => {
    const { client, second } = await setUp
    const stores = [new CassandraDeadLetters(client), new CassandraDeadLetters(second)]
    const tenant = newTenantId()
    await Promise.all(stores.map(async (store, node) => {
      for (let round = 0; round < 30; round++) {
        await store.putDeadLetters(Array.from({ length: 10 }, (_, i) => letterOf(tenant, day0 + round * 600e6 + i * 10 + node, node)))
        if (round % 5 === node) await store.trimDeadLetters(tenant, 40, 1e9)
      }
    }))
    await stores[0].trimDeadLetters(tenant, 40, 1e9)
    const listed = (await stores[1].listDeadLetters(tenant, {}, null, 100)).items
    t.equal(listed.length, 40)
    t.ok(listed[39].stamp >= day0 + 27 * 600e6, 'from the last rounds of both')
    t.ok(listed.some(({ id }) => id.endsWith('-0')) && listed.some(({ id }) => id.endsWith('-1')))
  })

  void t.test('an id that is no letter\'s is refused on the way in and found nowhere', async t => {
    const { store } = await setUp
    const tenant = newTenantId()
    await t.rejects(store.putDeadLetters([{ ...letterOf(tenant, day0), id: 'x-1' }]), { code: 'internal' })
    for (const id of ['', 'x', '1-0', `${day0}`, `${day0}9-1`, `${day0}-\0`]) {
      t.equal(await store.getDeadLetter(tenant, id), null)
      t.equal(await store.deleteDeadLetters(tenant, [id]), 0)
    }
  })

  void t.test('an erasure counts from the moment its writer returned, is listed when it counts, and never shrinks', async t => {
    const { client, failing } = await setUp
    const [store, dying] = [new CassandraSmallStores(client), new CassandraSmallStores(failing)]
    for (const failure of failures) {
      for (let write = 0; write < 4; write++) {
        const tenant = newTenantId()
        await store.putErasure({ tenant, device: 'd', stamp: 10 })
        failing.failAs(diesAt(write, failure))
        const done = await dying.putErasure({ tenant, device: 'e', stamp: 20 }).then(() => true, () => false)
        await dying.putErasure({ tenant, device: 'd', stamp: 5 }).catch(() => {})
        failing.failAs(() => null)
        const erased = await store.erasedBefore(tenant, 'e')
        if (done) t.equal(erased, 20)
        t.equal(await store.erasedBefore(tenant, 'd'), 10)
        t.strictSame((await store.listErasures(tenant, null, 9)).items, [{ tenant, device: 'd', stamp: 10 }, ...(erased === 20 ? [{ tenant, device: 'e', stamp: 20 }] : [])], `${failure} ${write}`)
      }
    }
  })

  void t.test('of 20 claims of a key through two nodes all see one holder, a lost answer included', async t => {
    const { second, failing } = await setUp
    const stores = [new CassandraSmallStores(failing), new CassandraSmallStores(second)]
    for (let round = 0; round < 3; round++) {
      const tenant = newTenantId()
      let lost = 0
      failing.failAs(() => lost++ === 0 ? 'after' : null)
      const holders = await Promise.all(Array.from({ length: 20 }, async (_, i) => await stores[i % 2].claimIdempotency({ tenant, key: 'k', fingerprint: `${i}`, stamp: day0 + i })))
      t.equal(new Set(holders.map(holder => holder.stamp)).size, 1)
      t.equal(new Set(holders.map(holder => holder.fingerprint)).size, 1)
    }
    failing.failAs(() => null)
  })

  void t.test('a cursor put back to an earlier position stands there', async t => {
    const { client, second } = await setUp
    const journal = '00000000000000d1'
    await new CassandraSmallStores(client).putCursor(journal, 'c', 2 ** 52, false)
    await new CassandraSmallStores(second).putCursor(journal, 'c', 3, true)
    t.equal(await new CassandraSmallStores(client).getCursor(journal, 'c'), 3)
  })
}

if (!skipWithout(t, 'cassandra')) suites()
