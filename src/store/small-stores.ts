/** Ports of small tables: cursors, idempotency keys, erasures, settings of the installation. */
import type { Page } from './registry.js'

/** How far a consumer of a journal has come. */
export interface CursorStore {
  /** Position up to which the journal is packed. */
  getCursor(journalId: string, consumer: string): Promise<number | null>
  /** `sync`: on stable storage when it returns; else it survives SIGKILL only. */
  putCursor(journalId: string, consumer: string, position: number, sync: boolean): Promise<void>
}

export interface IdempotencyRecord {
  readonly tenant: string
  /** The key, prefixed by the credential id, so that two clients of a tenant do not collide. */
  readonly key: string
  /** CRC32C and length of the body, as `crc:length`. */
  readonly fingerprint: string
  /** Arrival stamp of the accepted request, µs. */
  readonly stamp: number
}

export interface IdempotencyStore {
  putIdempotency(records: readonly IdempotencyRecord[]): Promise<void>
  getIdempotency(tenant: string, key: string): Promise<IdempotencyRecord | null>
  /** Removes what is older than the stamp; cost is by age window, not by record. */
  dropIdempotencyBefore(stamp: number): Promise<void>
  /**
   * Where several nodes share the store: reserves the key for 24 hours and resolves to the record that holds it, the given one
   * or an earlier one, which every node then sees. null where one node has the store to itself: nothing needs reserving.
   * A request that finds an earlier reservation is accepted again under its stamp, so that its points are the same points.
   */
  claimIdempotency(record: IdempotencyRecord): Promise<IdempotencyRecord | null>
}

/** Points of the scope with an accept stamp below `stamp` are erased: dropped by packers, readers and sealers. */
export interface Erasure {
  readonly tenant: string
  /** null: the whole tenant. */
  readonly device: string | null
  readonly stamp: number
}

export interface ErasureStore {
  putErasure(erasure: Erasure): Promise<void>
  /** The greatest stamp that erases the device's points (its own or its tenant's), 0 where none. */
  erasedBefore(tenant: string, device: string): Promise<number>
  listErasures(tenant: string, cursor: string | null, limit: number): Promise<Page<Erasure>>
}

/** Installation-wide settings by name, such as "first start is done". */
export interface SettingsStore {
  getSetting(name: string): Promise<string | null>
  putSetting(name: string, value: string): Promise<void>
}
