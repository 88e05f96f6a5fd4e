/** A keyspace with the tables of entities and events alone (all of them take ten times as long to make), and clients for its tests. */
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { systemClock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import type { CassandraClient } from '../../src/store/cluster/cassandra/cassandra-client.js'
import { CassandraEntities } from '../../src/store/cluster/cassandra/cassandra-entities.js'
import { migrateCassandra } from '../../src/store/cluster/cassandra/migrate.js'
import { schemaFolder } from '../../src/store/migration-files.js'
import type { OutEvent } from '../../src/store/event-log.js'
import { newKeyspace, openClient } from './cassandra-fixture.js'

export async function entityClient (test: Test): Promise<CassandraClient> {
  const folder = mkdtempSync(join(tmpdir(), 'twinfold-schema-'))
  test.teardown(() => { rmSync(folder, { recursive: true, force: true }) })
  for (const name of ['0001-probe.cql', '0009-entities.cql', '0010-events.cql']) copyFileSync(join(schemaFolder('cassandra'), name), join(folder, name))
  const settings = newKeyspace(test)
  await migrateCassandra(settings, { clock: systemClock, log: silentLog, folder })
  return await openClient(test, settings)
}

/** Entities on the client; what they tell of goes into `told`. */
export function entitiesOn (test: Test, client: CassandraClient): { entities: CassandraEntities, told: OutEvent[] } {
  const told: OutEvent[] = []
  const entities = new CassandraEntities(client, { append: async events => { told.push(...events) } })
  test.teardown(async () => { await entities.close() })
  return { entities, told }
}

/** The client with a method in another's stead. */
export function clientWith (client: CassandraClient, methods: Partial<CassandraClient>): CassandraClient {
  return new Proxy(client, {
    get: (target, name) => {
      const own = methods[name as keyof CassandraClient]
      if (own !== undefined) return own
      const value: unknown = Reflect.get(target, name, target)
      return typeof value === 'function' ? (value as (...args: unknown[]) => unknown).bind(target) : value
    }
  })
}
