/** The one place that makes fleet queries and tenant SQL out of an opened analytics store. */
import type { Clock } from '../core/clock.js'
import type { ClickHouseConnection } from './clickhouse/clickhouse-connection.js'
import { FleetClickHouse } from './clickhouse/fleet-clickhouse.js'
import { offSql, SnapshotSql } from './clickhouse/tenant-sql.js'
import type { FleetStore, TenantSql } from './fleet-store.js'

export interface OpenFleetOptions {
  readonly connection: ClickHouseConnection
  /** For snapshots of tenants that ask in SQL; emptied at the first use and at close. */
  readonly sqlDirectory: string
  /** `off`: not offered. `on`: where the engine for it is installed. */
  readonly sql: 'on' | 'off'
  readonly clock: Clock
  /** Before anything is asked: rejects where analytics cannot be had; turns it on where the first question does. */
  readonly ready: () => Promise<void>
}

export interface OpenedFleet {
  readonly fleet: FleetStore
  readonly sql: TenantSql
  close (): Promise<void>
}

/** Nothing is started before the first statement. */
export function openFleet ({ connection, sqlDirectory, sql: wanted, clock, ready }: OpenFleetOptions): OpenedFleet {
  const sql = wanted === 'off' ? offSql('TWINFOLD_SQL=off') : isEngineInstalled() ? new SnapshotSql({ connection, directory: sqlDirectory, clock }) : offSql('it needs the optional package chdb, which is not installed here')
  const store = new FleetClickHouse(connection)
  const whenReady = <Asked, Answer>(call: (asked: Asked) => Promise<Answer>) => async (asked: Asked): Promise<Answer> => {
    await ready()
    return await call(asked)
  }
  return {
    fleet: { queryFleet: whenReady(async query => await store.queryFleet(query)), histogram: whenReady(async query => await store.histogram(query)) },
    sql: { off: sql.off, run: whenReady(async request => await sql.run(request)), close: async () => { await sql.close() } },
    close: async () => { await sql.close() }
  }
}

function isEngineInstalled (): boolean {
  try {
    return import.meta.resolve('chdb') !== ''
  } catch {
    return false
  }
}
