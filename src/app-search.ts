/** Wires fleet search: what brings devices into it, what asks it, and bulk changes of what it finds. Bulk changes of named devices need no analytics. */
import type { AnalyticsService } from './analytics/analytics-service.js'
import type { Clock } from './core/clock.js'
import type { Lifecycle } from './core/lifecycle.js'
import type { Log } from './core/log.js'
import { usPerMs } from './core/reading.js'
import type { SearchSource } from './edge/http/device-search.js'
import type { LatestValues } from './live/latest-values.js'
import type { DeviceBells } from './nodes/device-bells.js'
import type { PresenceSource } from './presence/presence-sink.js'
import { DeviceSearch, type DeviceSearchOptions } from './search/device-search.js'
import { TwinJobs } from './search/twin-jobs.js'
import { TwinProjector } from './search/twin-projector.js'
import { TwinReader } from './search/twin-reader.js'
import { ClickHouseTwins } from './store/clickhouse/twin-store.js'
import type { OpenedAnalytics } from './store/open-analytics.js'
import type { Store } from './store/store.js'
import type { TenantCache } from './tenancy/tenant-cache.js'
import type { TransferService } from './transfer/transfer-service.js'
import type { Twins } from './twin/twin-model.js'

export interface SearchWiring {
  readonly clock: Clock
  readonly log: Log
  readonly lifecycle: Lifecycle
  readonly store: Store
  readonly journal: { takeStamps (count: number): number }
  readonly tenants: TenantCache
  readonly twins: Twins
  readonly presence: PresenceSource
  readonly bell: DeviceBells
  /** Whether there are other nodes; and what tells this server from them. */
  readonly shared: boolean
  readonly bootId: string | null
  readonly latest: LatestValues
  readonly transfer: TransferService
  /** null: analytics is off. */
  readonly analytics: { readonly service: AnalyticsService, readonly store: OpenedAnalytics } | null
}

export interface SearchParts {
  readonly jobs: TwinJobs
  /** null: analytics is off. */
  readonly search: (SearchSource & { readonly projector: TwinProjector, readonly asked: DeviceSearch }) | null
}

export async function openSearch (wiring: SearchWiring): Promise<SearchParts> {
  const { clock, log, store, twins, transfer } = wiring
  // One that has the store to itself goes on at once after a crash; among several a claim of a server that died runs out first.
  const owner = wiring.bootId ?? 'single'
  const opened = wiring.analytics === null ? null : await openProjection(wiring, wiring.analytics, owner)
  const jobs = new TwinJobs({ store, jobs: transfer, twins, search: opened === null ? null : { asked: opened.asked, store: opened.store }, owner, clock, log })
  transfer.addKind('twins', jobs)
  if (opened === null) return { jobs, search: null }
  const { asked, projector } = opened
  return { jobs, search: { asked, projector, search: async request => await asked.search(request), noteDevice: (tenant, id) => { projector.noteDevice(tenant, id) } } }
}

async function openProjection (wiring: SearchWiring, { service, store: analytics }: NonNullable<SearchWiring['analytics']>, owner: string): Promise<{ asked: DeviceSearch, projector: TwinProjector, store: ClickHouseTwins }> {
  const { clock, log, lifecycle, store, journal, tenants, twins, presence, bell, shared } = wiring
  const search = new ClickHouseTwins(analytics.connection)
  const reader = new TwinReader({ store, twins, presence })
  const projector = new TwinProjector({
    store, reader, search, bell: shared ? bell : null, following: () => service.following, owner, stampNow: () => journal.takeStamps(1), clock, log
  })
  await lifecycle.open({ name: 'search', open: async () => { projector.open() }, close: async () => { await projector.close() } })
  service.onRebuild(() => { projector.refill().catch((error: Error) => { log.warn({ error: error.message }, 'search is not filled anew') }) })
  const asked = new DeviceSearch({ search, projector, reader, latest: latestOf(wiring.latest), tenants, ready: async () => { await service.ready() }, clock })
  return { asked, projector, store: search }
}

function latestOf (latest: LatestValues): DeviceSearchOptions['latest'] {
  return {
    read: async (tenant, device, metrics) => {
      const text = await latest.read(tenant, device, { key: '', form: 'sse', times: 'ms', metrics: [...metrics] })
      const values = JSON.parse(text) as Record<string, { ts: number, value: number | string | boolean }>
      for (const metric of Object.keys(values)) values[metric] = { ts: Math.round(values[metric].ts * usPerMs), value: values[metric].value }
      return values
    }
  }
}
