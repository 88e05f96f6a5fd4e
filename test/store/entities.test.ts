/** Entities and the event log on both stores keep one contract. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { systemClock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import { CassandraEntities } from '../../src/store/cluster/cassandra/cassandra-entities.js'
import { CassandraEventLog } from '../../src/store/cluster/cassandra/cassandra-event-log.js'
import { openEmbeddedStore, type EmbeddedStore } from '../../src/store/embedded/embedded-store.js'
import type { EntityStore } from '../../src/store/entity-store.js'
import type { EventLog } from '../../src/store/event-log.js'
import { methodsOf } from '../../src/store/methods-of.js'
import { skipWithout } from '../support/services.js'
import { entityClient } from './cassandra-entities-support.js'
import { cassandraEntityFaults } from './cassandra-entity-faults.js'
import { cassandraEventLogFaults } from './cassandra-event-log-faults.js'
import { entityStoreContract } from './entity-store.contract.js'
import { eventLogContract } from './event-log.contract.js'

t.setTimeout(120_000)

void t.test('embedded', async t => {
  const directory = mkdtempSync(join(tmpdir(), 'twinfold-entities-'))
  let store: Promise<EmbeddedStore> | null = null
  const open = async (): Promise<EmbeddedStore> => await (store ??= openEmbeddedStore({ directory, clock: systemClock, log: silentLog, writer: true }))
  t.teardown(async () => {
    await (await store)?.close()
    rmSync(directory, { recursive: true, force: true })
  })
  entityStoreContract(t, open)
  eventLogContract(t, open)
})

void t.test('cluster', async t => {
  if (skipWithout(t, 'cassandra')) return
  const client = await entityClient(t)
  // The store's own settling time would be waited for a dozen times.
  const log = new CassandraEventLog(client, { clock: systemClock, settleMs: 500, windowMs: 100 })
  const entities = new CassandraEntities(client, { append: async events => { await log.appendEvents(events) } })
  t.teardown(async () => {
    log.close()
    await entities.close()
  })
  const store: EntityStore & EventLog = {
    ...methodsOf(entities, ['getEntity', 'getEntityVersion', 'commitEntities', 'readEntityEvents', 'readEntityItems', 'getEntityItem', 'putEntitySnapshot', 'findEntitySnapshot', 'dropEntityHistory', 'scanEntities']),
    ...methodsOf(log, ['appendEvents', 'readEvents', 'endOfEvents', 'positionAt', 'trimEvents', 'onAppended']),
    settleMs: log.settleMs
  }
  entityStoreContract(t, async () => store)
  eventLogContract(t, async () => store)
  cassandraEntityFaults(t, client)
  cassandraEventLogFaults(t, client)
})
