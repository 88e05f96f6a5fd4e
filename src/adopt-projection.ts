/** Brings an adopted journal into analytics: no server follows its outbox any more. */
import { Projector } from './analytics/projector.js'
import { ProjectPool } from './analytics/project-pool.js'
import type { Clock } from './core/clock.js'
import type { Log } from './core/log.js'
import type { Store } from './store/store.js'
import type { ClickHouseSettings, StoreSpec } from '../workers/protocol.js'

export interface AdoptProjectionOptions {
  readonly journalId: string
  /** All of the journal is packed. */
  readonly packer: { readonly cursor: number, readonly stats: { readonly slices: number } }
  readonly cursors: Store
  readonly store: StoreSpec
  readonly clickHouse: ClickHouseSettings
  readonly clock: Clock
  readonly log: Log
}

const leaseMs = 10_000
const attemptsMax = 20
const pauseMs = 1000

/** Resolves to why it is not all in; null where it is. A ClickHouse that does not answer is waited for, not for ever. */
export async function projectAdopted ({ journalId, packer, cursors, store, clickHouse, clock, log }: AdoptProjectionOptions): Promise<string | null> {
  const pool = new ProjectPool({ store, clickHouse, leaseMs })
  try {
    // Its node numbered by its own clock, which may have been ahead.
    const stampNow = (): number => clock.nowUs() + leaseMs * 1000
    const projector = new Projector({ journalId, packer, stampNow, sealsSettled: stampNow, cursors, pool, clock, log, intervalMs: pauseMs })
    for (let attempt = 0; ; attempt++) {
      const failure = await projector.runOnce()
      if (failure === null) return null
      if (attempt >= attemptsMax) return failure.detail
      await new Promise(resolve => { setTimeout(resolve, pauseMs) })
    }
  } finally {
    await pool.close()
  }
}
