/** Search on one engine: devices that a test writes, and the points behind their latest values. */
import type { Test } from 'tap'
import { systemClock } from '../../src/core/clock.js'
import type { FilterSubject } from '../../src/core/filter/evaluate-filter.js'
import { silentLog } from '../../src/core/log.js'
import type { AnalyticsPoint } from '../../src/store/analytics-store.js'
import { ClickHouseTwins } from '../../src/store/clickhouse/twin-store.js'
import { openAnalytics, type OpenedAnalytics } from '../../src/store/open-analytics.js'
import type { SearchQuery, TwinRecord, TwinRow } from '../../src/store/twin-search.js'
import type { JsonObject } from '../../src/twin/twin-model.js'
import type { ClickHouseSettings } from '../../workers/protocol.js'
import { startTestEngine } from '../support/analytics-engine.js'
import { newTestName, services } from '../support/services.js'

export interface SearchEngine {
  readonly analytics: OpenedAnalytics
  readonly search: ClickHouseTwins
}

/** Points of tests: long ago, in one month. */
export const pointTime = Date.UTC(2026, 0, 10) * 1000
export const nowUs = 1_800_000_000_000_000

export async function embeddedEngine (t: Test): Promise<SearchEngine> {
  const test = await startTestEngine()
  t.teardown(async () => { await test.close() })
  return open(t, test.engine.settings as ClickHouseSettings)
}

export async function serverEngine (t: Test): Promise<SearchEngine> {
  const { clickHouse } = services()
  const engine = open(t, { url: clickHouse?.url ?? '', database: newTestName() })
  t.teardown(async () => { await engine.analytics.connection.command(`DROP DATABASE IF EXISTS ${engine.analytics.connection.database}`).catch(() => {}) })
  return engine
}

function open (t: Test, settings: ClickHouseSettings): SearchEngine {
  const analytics = openAnalytics(settings, { clock: systemClock, log: silentLog, watch: false })
  // Teardowns run last in, first out; a server's database is dropped before.
  t.teardown(async () => { await analytics.close() })
  return { analytics, search: new ClickHouseTwins(analytics.connection) }
}

export function recordOf (tenant: string, subject: FilterSubject, more: Partial<TwinRecord> = {}): TwinRecord {
  const { id, type = '', name = '', gateway = null, createdAt, connection = null, tags = {}, desired = {}, reported = {}, lastActivity } = subject
  return {
    device: { tenant, id, type, name, gateway: false, gatewayId: gateway, createdAt: createdAt ?? 1, tags },
    tags, desired: desired as JsonObject, reported: reported as JsonObject, version: 3, desiredVersion: 1, reportedVersion: 2, updatedAt: 5,
    connection: connection === null ? null : { state: connection.state, since: connection.since ?? 0, reason: connection.reason ?? null },
    lastActivity: lastActivity ?? 0, erasedBefore: 0, ...more
  }
}

export function rowOf (tenant: string, subject: FilterSubject, readAt = 1, more: Partial<TwinRecord> = {}): TwinRow {
  return { tenant, id: subject.id, readAt, record: recordOf(tenant, subject, more) }
}

export function point (tenant: string, device: string, metric: string, value: AnalyticsPoint['value'], more: Partial<AnalyticsPoint> = {}): AnalyticsPoint {
  return { tenant, device, metric, value, ts: pointTime, stamp: pointTime, journalId: '00000000000000aa', ...more }
}

export function queryOf (tenant: string, more: Partial<SearchQuery> = {}): SearchQuery {
  return { tenant, filter: null, device: null, nowUs, oldestTs: 0, sort: [], after: null, limit: 1000, documents: false, latest: [], ...more }
}
