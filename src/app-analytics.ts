/** Wires analytics: ClickHouse of either profile, the thread that brings data into it, and the service that the edges ask. */
import { join } from 'node:path'
import { AnalyticsService, followingSetting } from './analytics/analytics-service.js'
import { Projector } from './analytics/projector.js'
import { ProjectPool } from './analytics/project-pool.js'
import { Rebuild } from './analytics/rebuild.js'
import { Upkeep } from './analytics/upkeep.js'
import type { Config } from './config.js'
import type { Clock } from './core/clock.js'
import type { Lifecycle } from './core/lifecycle.js'
import type { Log } from './core/log.js'
import type { PendingStamps } from './core/pending-stamps.js'
import type { DependencyStatus } from './store/dependency-status.js'
import { embeddedAnalyticsEngine, openAnalytics, type EngineProcess, type OpenedAnalytics } from './store/open-analytics.js'
import type { Store } from './store/store.js'
import { clickHouseSettings } from './store-spec.js'
import type { StoreSpec } from '../workers/protocol.js'

export interface AnalyticsWiring {
  readonly clock: Clock
  readonly log: Log
  readonly lifecycle: Lifecycle
  readonly watched: (() => readonly DependencyStatus[])[]
  readonly store: Store
  readonly spec: StoreSpec
  readonly journal: { readonly journalId: string, takeStamps (count: number): number }
  /** What seals are numbered by. */
  readonly sealStamps: PendingStamps
  readonly packer: { readonly cursor: number, readonly stats: { readonly slices: number }, drain (timeoutMs: number): Promise<boolean> }
  readonly leaseMs: number
}

export interface OpenedService {
  readonly service: AnalyticsService
  readonly projector: Projector
  readonly upkeep: Upkeep
  readonly store: OpenedAnalytics
  /** null: a ClickHouse server. */
  readonly engine: EngineProcess | null
}

const projectIntervalMs = 1000
/** What was accepted before analytics was turned on is packed by then, or waits for a store that is away. */
const packedWithinMs = 60_000

export function analyticsEngine (config: Config, { clock, log }: { clock: Clock, log: Log }): EngineProcess {
  return embeddedAnalyticsEngine({
    directory: join(config.dataDirectory, 'analytics'), memoryBytesMax: config.analyticsMemoryMb * 1024 ** 2, threads: config.analyticsThreads, log, monotonicMs: () => clock.monotonicMs()
  })
}

/** Before the packer packs anything. null: analytics is off. */
export async function openAnalyticsService (config: Config, wiring: AnalyticsWiring): Promise<OpenedService | null> {
  const { clock, log, lifecycle, watched, store, spec, journal, sealStamps, packer, leaseMs } = wiring
  if (config.profile === 'embedded' && config.analytics === 'off') {
    // What is packed from now on is in no outbox: turned on again, it has to catch up.
    if (await store.getSetting(followingSetting) !== null) await store.putSetting(followingSetting, '')
    return null
  }
  const engine = spec.kind === 'embedded' ? analyticsEngine(config, { clock, log }) : null
  const clickHouse = engine?.settings ?? clickHouseSettings(config)
  if (clickHouse === null) return null
  if (engine !== null) await lifecycle.open({ name: 'analytics engine', close: async () => { await engine.close() } })
  const analytics = openAnalytics(clickHouse, { clock, log, watch: engine === null })
  await lifecycle.open({ name: 'analytics', close: async () => { await analytics.close() } })
  if (engine === null) watched.push(() => [analytics.status()])
  const pool = new ProjectPool({ store: spec, clickHouse, leaseMs })
  await lifecycle.open({ name: 'project thread', close: async () => { await pool.close() } })
  const projector = new Projector({
    journalId: journal.journalId, packer, stampNow: () => journal.takeStamps(1), sealsSettled: () => sealStamps.settled(), cursors: store, marks: analytics, pool, clock, log, intervalMs: projectIntervalMs
  })
  const upkeep = new Upkeep({ store, analytics, pool, owner: journal.journalId, clock, log })
  const rebuild = new Rebuild({ store, analytics, pool, clock, log })
  const service = new AnalyticsService({
    projector,
    analytics,
    upkeep,
    rebuild,
    embedded: engine === null || spec.kind !== 'embedded' || spec.outbox === undefined
      ? null
      : { engine, flag: new Uint8Array(spec.outbox), settings: store, mode: config.analytics === 'on' ? 'on' : 'auto', packed: async () => { await packer.drain(packedWithinMs) } },
    clock,
    log
  })
  await lifecycle.open({
    name: 'projector',
    open: async () => { await service.open() },
    close: async () => {
      service.close()
      await Promise.all([projector.close(), upkeep.close()])
    }
  })
  return { service, projector, upkeep, store: analytics, engine }
}
