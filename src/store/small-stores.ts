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
export interface Erasure extends ErasedPart {
  readonly tenant: string
  /** null: the whole tenant. */
  readonly device: string | null
}

/** Which points of a device are erased, and up to which accept stamp. */
export interface ErasedPart {
  readonly stamp: number
  /** null or absent: all metrics. */
  readonly metric?: string | null
  /** Event times, µs, [fromTs, toTs); absent: all. */
  readonly fromTs?: number
  readonly toTs?: number
}

/** Erasures of parts of a device (a metric, a range) that are kept; one more is refused with `limit_reached`. */
export const erasedPartsMax = 256

export interface ErasureStore {
  /** A whole device or tenant, or a part of a device. One that an earlier one contains, or the other way round, may be stored as one. */
  putErasure(erasure: Erasure): Promise<void>
  /** The greatest stamp that erases the whole device (its own or its tenant's erasure), 0 where none. */
  erasedBefore(tenant: string, device: string): Promise<number>
  /** All that is erased of the device: its tenant's, its own, and parts of it. Few; empty as a rule. */
  erasedParts(tenant: string, device: string): Promise<readonly ErasedPart[]>
  /** Of whole devices and tenants, and of parts. */
  listErasures(tenant: string, cursor: string | null, limit: number): Promise<Page<Erasure>>
}

/** Installation-wide settings by name, such as "first start is done". */
export interface SettingsStore {
  getSetting(name: string): Promise<string | null>
  putSetting(name: string, value: string): Promise<void>
}
