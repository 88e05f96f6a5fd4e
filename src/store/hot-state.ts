/**
 * Port: the newest value of every metric of a device, kept in memory near all nodes (DESIGN 3.6). A cache: it may be empty,
 * flushed or behind at any time, and never decides anything. The embedded profile has none and reads the raw store.
 *
 * The newest event time wins; of two values for one time the one accepted last (stamp, then journal id). Where that cannot be
 * told, or a value is not kept (too large, too many metrics), the device is not complete, and its answers come from the store.
 *
 * What a reader may take as the whole truth is settled by two marks together, so that a cache that lost something is noticed:
 * the generation (hot-generation.ts), which packers change in the store when they could not write here, and the cache's own
 * instance, which changes when it is restarted or another replica takes over.
 */
import type { Value } from '../core/reading.js'

export interface LatestValue {
  readonly metric: string
  /** Event time, µs. */
  readonly ts: number
  readonly value: Value
  /** Accept stamp, µs. */
  readonly stamp: number
  /** Journal that accepted it, 16 hex digits; '' where that is not known. */
  readonly journalId: string
}

export interface DeviceLatest {
  readonly tenant: string
  readonly device: string
  readonly values: readonly LatestValue[]
}

export interface KnownLatest {
  /** In order of metric; empty: nothing is known. */
  readonly values: readonly LatestValue[]
  /** Every metric that the device has in the store is among them, as new as there; false after a flush, until `fillLatest`. */
  readonly complete: boolean
  /** For `fillLatest` of what is read from the store from now on; opaque. null: filling would not make it complete. */
  readonly basis: string | null
}

export interface HotState {
  /** Idempotent; an older value changes nothing. Rejects with `store_unavailable`; a part may be written then. */
  putLatest(devices: readonly DeviceLatest[]): Promise<void>
  /** @param generation the one in force, read from the store; null where it cannot be read: nothing is complete then. */
  getLatest(tenant: string, device: string, generation: string | null): Promise<KnownLatest>
  /**
   * What the store has of the device as a whole: merged by the rule above, and marked complete if nothing has happened to the
   * cache since `basis`, which was taken before the store was read.
   */
  fillLatest(device: DeviceLatest, basis: string): Promise<void>
  /** Drops the device; values with a lower stamp, still under way, are not taken. */
  forgetDevice(tenant: string, device: string, erasedBefore: number): Promise<void>
}
