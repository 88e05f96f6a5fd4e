/**
 * Port: hot copies of entities. A copy is never trusted alone: it may be missing, flushed, or older than what was acknowledged (a fail-over
 * to a stale replica, a restart from an old snapshot). A reader compares its version with the record's (`cached-entities.ts`); only where
 * the record cannot be asked, and the reader accepts that, a copy is answered unverified. Copies expire.
 */
import type { Entity, EntityKey } from './entity-store.js'

export interface EntityCopies {
  /** In the order asked; null where there is none. Rejects with `store_unavailable`. */
  get(keys: readonly EntityKey[]): Promise<readonly (Entity | null)[]>
  /** Keeps the newer of what is there and what is given; of one version what is there. Rejects with `store_unavailable`. */
  put(key: EntityKey, entity: Entity): Promise<void>
  /** The same of several in one go. Rejects where one of them was not put; others may have been. */
  putAll(copies: readonly { readonly key: EntityKey, readonly entity: Entity }[]): Promise<void>
  forget(key: EntityKey): Promise<void>
}

/** A copy that was not put again for so long is gone. */
export const entityCopyKeptMs = 24 * 3600 * 1000
