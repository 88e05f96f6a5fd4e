/**
 * `twinfold rebuild analytics [--tenant ID]`: brings everything into analytics anew from the store. In a cluster beside running servers;
 * embedded only while the server is not running, since one process has the store (a running server does it by
 * `POST /api/v1/analytics/rebuild`).
 */
import { Rebuild } from './analytics/rebuild.js'
import { ProjectPool } from './analytics/project-pool.js'
import { analyticsEngine } from './app-analytics.js'
import type { Config } from './config.js'
import type { Clock } from './core/clock.js'
import { TwinfoldError } from './core/errors.js'
import type { Log } from './core/log.js'
import { openAnalytics } from './store/open-analytics.js'
import { openStore } from './store/open-store.js'
import { wantFill } from './search/projection-state.js'
import { clickHouseSettings, storeSpec } from './store-spec.js'

interface Tools {
  readonly clock: Clock
  readonly log: Log
  /** Progress, for people. */
  readonly tell: (text: string) => void
}

const leaseMs = 10_000
const engineWaitMs = 60_000

/**
 * @param tenant null: all.
 * @returns lines for people.
 * @throws TwinfoldError `store_unavailable` (embedded, also while the server is running), `analytics_unavailable`, `not_found`
 */
export async function rebuildAnalytics (config: Config, tenant: string | null, { clock, log, tell }: Tools): Promise<readonly string[]> {
  const spec = storeSpec(config)
  if (config.analytics === 'off') throw new TwinfoldError('invalid_request', 'analytics is off: TWINFOLD_ANALYTICS=off')
  const store = await openStore(spec, { clock, log, writer: true }).catch((error: Error) => {
    if (spec.kind !== 'embedded') throw error
    throw new TwinfoldError('store_unavailable', `${error.message}\nWhile the server is running it rebuilds analytics itself: POST /api/v1/analytics/rebuild with a platform admin key`, { cause: error })
  })
  const engine = spec.kind === 'embedded' ? analyticsEngine(config, { clock, log }) : null
  let pool: ProjectPool | null = null
  try {
    if (tenant !== null && await store.getTenant(tenant) === null) throw new TwinfoldError('not_found', `there is no tenant '${tenant}'`)
    engine?.start()
    if (engine !== null && await engine.settled(engineWaitMs) !== 'up') throw new TwinfoldError('analytics_unavailable', engine.reason)
    const clickHouse = engine?.settings ?? clickHouseSettings(config)
    if (clickHouse === null) throw new TwinfoldError('invalid_request', 'there is no analytics to rebuild: set TWINFOLD_CLICKHOUSE')
    const analytics = openAnalytics(clickHouse, { clock, log, watch: false })
    pool = new ProjectPool({ store: spec, clickHouse, leaseMs })
    let toldMs = clock.monotonicMs()
    try {
      const rebuild = new Rebuild({ store, analytics, pool, clock, log })
      // Devices for search are filled by the server: one that runs begins soon, else it does at its start.
      await wantFill(store, clock.nowUs())
      const { devices, points, hours, damaged } = await rebuild.run(tenant, progress => {
        if (clock.monotonicMs() - toldMs < 1000) return
        toldMs = clock.monotonicMs()
        tell(`${progress.devices} devices, ${progress.points} points, ${progress.hours} sealed hours; ${progress.detail}\n`)
      })
      return [`Analytics is rebuilt: ${devices} devices, ${points} points, ${hours} sealed hours${damaged > 0 ? `, ${damaged} devices with damaged rows (see the log)` : ''}.`]
    } finally {
      await analytics.close()
    }
  } finally {
    await pool?.close()
    await engine?.close()
    await store.close()
  }
}
