/**
 * Snapshots, so that a state of the past is made of a thousand events at most, and the cut of what is older than the history is kept. Runs behind
 * the commits: a snapshot that fails is missing, and the next one makes up for it. One at a time for each twin, so that no snapshot
 * is written after the history was dropped.
 */
import { KeyedLock } from '../core/keyed-lock.js'
import type { Log } from '../core/log.js'
import { usPerDay } from '../core/reading.js'
import type { EntityKey, EntityStore } from '../store/entity-store.js'
import { encodeState } from './state-codec.js'
import { keyText } from './twin-cache.js'
import type { TwinState } from './twin-state.js'

/** A snapshot every so many events, or with the first change of a (UTC) day. */
export const snapshotEvents = 1000

export interface TwinUpkeepOptions {
  readonly store: Pick<EntityStore, 'putEntitySnapshot' | 'findEntitySnapshot' | 'dropEntityHistory'>
  readonly historyDays: number
  readonly log: Log
}

/** Twins that may wait for a snapshot; of more, it is left out until the next is due. */
const waitingMax = 10_000

export class TwinUpkeep {
  readonly #options: TwinUpkeepOptions
  readonly #lock = new KeyedLock()
  readonly #running = new Set<Promise<void>>()
  readonly stats = { snapshots: 0, left: 0, failed: 0, cuts: 0 }

  constructor (options: TwinUpkeepOptions) {
    this.#options = options
  }

  /** After a commit that led from one state to the other. Never throws. */
  committed (key: EntityKey, before: TwinState, after: TwinState): void {
    if (!isSnapshotDue(before, after)) return
    if (this.#running.size >= waitingMax) {
      this.stats.left++
      return
    }
    const running = this.#lock.run(keyText(key), async () => { await this.#snapshot(key, before, after) }).catch((error: unknown) => {
      this.stats.failed++
      this.#options.log.debug({ tenant: key.tenant, device: key.device, error: String(error) }, 'a snapshot of a twin was not written')
    }).finally(() => { this.#running.delete(running) })
    this.#running.add(running)
  }

  /** Takes away everything before the version: the twin was deleted. @throws TwinfoldError `store_unavailable` */
  async drop (key: EntityKey, belowVersion: number): Promise<void> {
    await this.#lock.run(keyText(key), async () => { await this.#options.store.dropEntityHistory(key, belowVersion) })
  }

  /** Resolves when nothing runs any more. */
  async close (): Promise<void> {
    while (this.#running.size > 0) await Promise.all(this.#running)
  }

  async #snapshot (key: EntityKey, before: TwinState, after: TwinState): Promise<void> {
    const { store, historyDays } = this.#options
    await store.putEntitySnapshot(key, { version: after.version, stamp: after.updatedAt, state: encodeState(after) })
    this.stats.snapshots++
    if (dayOf(before.updatedAt) === dayOf(after.updatedAt)) return
    // The newest that is old enough: with it every younger state can be made.
    const base = await store.findEntitySnapshot(key, { stamp: after.updatedAt - historyDays * usPerDay })
    if (base === null) return
    await store.dropEntityHistory(key, base.version)
    this.stats.cuts++
  }
}

function isSnapshotDue (before: TwinState, after: TwinState): boolean {
  if (!before.alive || !after.alive) return false
  return Math.floor(before.version / snapshotEvents) !== Math.floor(after.version / snapshotEvents) || dayOf(before.updatedAt) !== dayOf(after.updatedAt)
}

function dayOf (us: number): number {
  return Math.floor(us / usPerDay)
}
