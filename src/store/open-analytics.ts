/** The one place that turns ClickHouse settings into an analytics store: the server's wiring and the projecting thread use it. */
import type { Clock } from '../core/clock.js'
import type { Log } from '../core/log.js'
import type { ClickHouseSettings } from '../../workers/protocol.js'
import { ClickHouseAnalytics } from './clickhouse/clickhouse-analytics.js'
import { EngineProcess, type EngineProcessOptions } from './embedded/analytics/engine-process.js'

/** `connection`: for what else is asked of the same ClickHouse. */
export type OpenedAnalytics = ClickHouseAnalytics

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

export type { EngineProcess }

/** The engine of the embedded profile. Nothing is started before its `start`. */
export function embeddedAnalyticsEngine (options: EngineProcessOptions): EngineProcess {
  return new EngineProcess(options)
}
