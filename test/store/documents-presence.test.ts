/** Documents and presence, embedded and on the real Cassandra: the same promises. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { systemClock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import { CassandraDocuments } from '../../src/store/cluster/cassandra/cassandra-documents.js'
import { CassandraPresence } from '../../src/store/cluster/cassandra/cassandra-presence.js'
import { openEmbeddedStore, type EmbeddedStore } from '../../src/store/embedded/embedded-store.js'
import { skipWithout } from '../support/services.js'
import { FailingCassandra, migratedKeyspace, openClient } from './cassandra-fixture.js'
import { documentContract } from './document.contract.js'
import { presenceContract } from './presence.contract.js'
import { newTenantId } from './store-fixtures.js'

t.setTimeout(120_000)

const directory = mkdtempSync(join(tmpdir(), 'twinfold-documents-'))
let embedded: Promise<EmbeddedStore> | null = null
const openEmbedded = async (): Promise<EmbeddedStore> => await (embedded ??= openEmbeddedStore({ directory, clock: systemClock, log: silentLog, writer: true }))
t.teardown(async () => {
  await (await embedded)?.close()
  rmSync(directory, { recursive: true, force: true })
})

void t.test('embedded', async t => {
  documentContract(t, openEmbedded)
  presenceContract(t, openEmbedded)

  void t.test('a store beside the owner\'s reads documents and writes none', async t => {
    const owner = await openEmbedded()
    const beside = await openEmbeddedStore({ directory, clock: systemClock, log: silentLog })
    t.teardown(async () => { await beside.close() })
    const tenant = newTenantId()
    await owner.putDocument('model', tenant, 'm', '{}', 0)
    t.strictSame(await beside.getDocument('model', tenant, 'm'), { id: 'm', revision: 1, body: '{}' })
    await t.rejects(beside.putDocument('model', tenant, 'm', '{}', 1), { code: 'internal' })
  })
})

void t.test('cluster', async t => {
  if (skipWithout(t, 'cassandra')) return
  const settings = await migratedKeyspace(t)
  const client = await openClient(t, settings)
  const second = await openClient(t, settings)
  const [documents, presence] = [new CassandraDocuments(client), new CassandraPresence(client)]
  documentContract(t, async () => documents)
  presenceContract(t, async () => presence)

  void t.test('a document whose answer was lost was written once, and its writer knows', async t => {
    const failing = new FailingCassandra(client)
    const dying = new CassandraDocuments(failing)
    const tenant = newTenantId()
    await dying.putDocument('model', tenant, 'listed', '{}', 0)
    for (let revision = 0; revision < 3; revision++) {
      let lost = 0
      failing.failAs(() => lost++ === 0 ? 'after' : null)
      t.equal(await dying.putDocument('model', tenant, 'm', `{"r":${revision}}`, revision), true)
      failing.failAs(() => null)
      t.strictSame(await documents.getDocument('model', tenant, 'm'), { id: 'm', revision: revision + 1, body: `{"r":${revision}}` })
    }
    let lost = 0
    // Another writes between the lost answer and the second attempt.
    failing.failAs(async () => {
      if (lost++ > 0) return null
      await new CassandraDocuments(second).putDocument('model', tenant, 'm', '{"other":1}', 3)
      return 'before'
    })
    t.equal(await dying.putDocument('model', tenant, 'm', '{"mine":1}', 3), false)
    failing.failAs(() => lost++ === 2 ? 'after' : null)
    t.equal(await dying.deleteDocument('model', tenant, 'm', 4), true)
    t.equal(await documents.getDocument('model', tenant, 'm'), null)
  })

  void t.test('of writers on two nodes one a revision succeeds', async t => {
    const stores = [documents, new CassandraDocuments(second)]
    const tenant = newTenantId()
    const wins = [0, 0]
    await Promise.all(stores.map(async (store, node) => {
      for (let i = 0; i < 15;) {
        const { revision, body } = await store.getDocument('alarm', tenant, 'count') ?? { revision: 0, body: '{"count":0}' }
        const { count } = JSON.parse(body) as { count: number }
        if (!await store.putDocument('alarm', tenant, 'count', JSON.stringify({ count: count + 1 }), revision)) continue
        wins[node]++
        i++
      }
    }))
    t.strictSame(await documents.getDocument('alarm', tenant, 'count'), { id: 'count', revision: 30, body: '{"count":30}' })
    t.strictSame(wins, [15, 15])
  })
})
