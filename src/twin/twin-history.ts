/**
 * Twins of the past: folded from the nearest snapshot on, or from the first event. Reads a page of events at a time; what is before the kept
 * history is answered by null, never by a guess.
 */
import type { EntityKey, EntitySnapshot, EntityStore } from '../store/entity-store.js'
import { decodeEvent, type StoredTwinEvent } from './event-codec.js'
import { reduce } from './reduce.js'
import { decodeState } from './state-codec.js'
import { absentTwin, type TwinState } from './twin-state.js'

type Store = Pick<EntityStore, 'readEntityEvents' | 'findEntitySnapshot'>

const pageEvents = 250

/** The state of a snapshot. */
export function snapshotState ({ version, stamp, state }: EntitySnapshot): TwinState {
  return state === null ? absentTwin(version, stamp) : decodeState(state)
}

/**
 * Folds events on top of the base until one is not wanted. null: the history has a gap before it.
 * @param base null: the first event that is kept must make the twin anew, or be the first of all
 */
export async function foldEvents (store: Store, key: EntityKey, base: TwinState | null, toVersion: number, wanted: (event: StoredTwinEvent) => boolean): Promise<TwinState | null> {
  let state = base
  let from = base === null ? 1 : base.version + 1
  for (;;) {
    const page = await store.readEntityEvents(key, from, toVersion, pageEvents)
    for (const row of page) {
      const event = decodeEvent(row)
      // A deletion stays when all before it is dropped, and says all there is to say.
      if (state === null) {
        if (event.version !== 1 && event.kind !== 'deleted') return null
        state = absentTwin(event.version - 1, 0)
      } else if (event.version !== state.version + 1) {
        return null
      }
      if (!wanted(event)) return state
      state = reduce(state, event)
    }
    if (page.length < pageEvents) return state
    from = page[page.length - 1].version + 1
  }
}

/** The state as it was at a version or a stamp (µs); null: before the kept history. */
export async function stateAt (store: Store, key: EntityKey, when: { readonly version: number } | { readonly stamp: number }): Promise<TwinState | null> {
  const snapshot = await store.findEntitySnapshot(key, when)
  const base = snapshot === null ? null : snapshotState(snapshot)
  const toVersion = 'version' in when ? when.version : Number.MAX_SAFE_INTEGER
  const state = await foldEvents(store, key, base, toVersion, event => !('stamp' in when) || event.stamp <= when.stamp)
  if (state !== null && 'version' in when && state.version !== when.version) return null
  return state
}

/** Newest first, versions below `before`. @param newest the twin's version now */
export async function changesBefore (store: Store, key: EntityKey, newest: number, before: number | null, limit: number): Promise<readonly StoredTwinEvent[]> {
  const to = Math.min(newest, before === null ? newest : before - 1)
  if (to < 1) return []
  const rows = await store.readEntityEvents(key, Math.max(1, to - limit + 1), to, limit)
  return rows.map(decodeEvent).reverse()
}
