/** The one place that turns ClickHouse settings into an analytics store: the server's wiring and the projecting thread use it. */
import type { Clock } from '../core/clock.js'
import type { Log } from '../core/log.js'
import type { ClickHouseSettings } from '../../workers/protocol.js'
import type { AnalyticsStore } from './analytics-store.js'
import { ClickHouseAnalytics } from './cluster/clickhouse/clickhouse-analytics.js'
import type { Watched } from './dependency-status.js'
import type { MigrateResult } from './cluster/migration-files.js'

export interface OpenedAnalytics extends AnalyticsStore, Watched {
  /** Makes the schema now rather than at the first use. */
  migrate (): Promise<MigrateResult>
}

export interface OpenAnalyticsOptions {
  readonly clock: Clock
  readonly log: Log
  /** Ask ClickHouse every second whether it is there, so that its state is right while nobody calls: the main thread's does. */
  readonly watch: boolean
}

/** Does not wait for ClickHouse: the schema is made by the first call that finds it there. */
export function openAnalytics (settings: ClickHouseSettings, options: OpenAnalyticsOptions): OpenedAnalytics {
  return new ClickHouseAnalytics({ settings, ...options })
}
