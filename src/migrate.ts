/** `twinfold migrate`: brings the databases of the cluster profile to this version's schema, then ends. Servers may be running. */
import type { Clock } from './core/clock.js'
import type { Log } from './core/log.js'
import type { Config } from './config.js'
import { cassandraSettings, clickHouseSettings } from './store-spec.js'
import { migrateDatabases } from './store/open-migrations.js'

export interface MigrateOptions {
  readonly clock: Clock
  readonly log: Log
}

/**
 * @returns lines that say what was done, for people.
 * @throws TwinfoldError `store_unavailable`, `analytics_unavailable`, `format_newer`, or `internal` naming a file that was changed.
 */
export async function migrate (config: Config, { clock, log }: MigrateOptions): Promise<readonly string[]> {
  if (config.profile !== 'cluster') return ['The embedded store has no schema to migrate; TWINFOLD_STORE=cluster is not set.']
  const done = await migrateDatabases({
    cassandra: cassandraSettings(config),
    clickHouse: clickHouseSettings(config),
    clock,
    log
  })
  return done.map(({ database, applied }) => `${database}: ${applied.length === 0 ? 'up to date' : `applied ${applied.join(', ')}`}`)
}
