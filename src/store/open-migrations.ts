/** The one place that knows which databases of a configuration have a schema, and brings them to this version's. */
import type { Clock } from '../core/clock.js'
import type { Log } from '../core/log.js'
import type { CassandraSettings, ClickHouseSettings } from '../../workers/protocol.js'
import { migrateCassandra } from './cluster/cassandra/migrate.js'
import { ClickHouseAnalytics } from './clickhouse/clickhouse-analytics.js'

export interface MigratedDatabase {
  readonly database: 'Cassandra' | 'ClickHouse'
  /** Names of the files that were applied now. */
  readonly applied: readonly string[]
}

export interface MigrateDatabasesOptions {
  readonly cassandra: CassandraSettings
  /** null: none is configured. */
  readonly clickHouse: ClickHouseSettings | null
  readonly clock: Clock
  readonly log: Log
  /** How long a Cassandra that does not answer is waited for, milliseconds. */
  readonly openWithinMs?: number
}

/** Cassandra first, then ClickHouse. @throws TwinfoldError as migrateCassandra and ClickHouseAnalytics.migrate do. */
export async function migrateDatabases ({ cassandra, clickHouse, clock, log, openWithinMs }: MigrateDatabasesOptions): Promise<readonly MigratedDatabase[]> {
  const done: MigratedDatabase[] = [{ database: 'Cassandra', ...await migrateCassandra(cassandra, { clock, log, openWithinMs }) }]
  if (clickHouse === null) return done
  const analytics = new ClickHouseAnalytics({ settings: clickHouse, clock, log, watch: false })
  try {
    return [...done, { database: 'ClickHouse', ...await analytics.migrate() }]
  } finally {
    await analytics.close()
  }
}
