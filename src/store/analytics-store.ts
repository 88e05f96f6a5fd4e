/**
 * Port: the fleet-wide read side (DESIGN 3.5). A projection of the raw store, fed idempotently: writing a thing again changes
 * no answer, and of two values for one point the one with the greater (stamp, journal id) stands.
 *
 * Contract: test/store/analytics.contract.ts. Every call rejects with `analytics_unavailable` where ClickHouse does not do it; a
 * write may then be in, in part, or not, and is repeated. What a write returned for is on stable storage.
 */
import type { Value } from '../core/reading.js'
import type { Bucket } from '../series/partition-plan.js'
import type { TierWindows } from '../series/tiers/windows.js'
import type { Device } from '../tenancy/model.js'
import type { Erasure } from './small-stores.js'

export interface AnalyticsPoint {
  readonly tenant: string
  readonly device: string
  readonly metric: string
  /** Event time, µs. */
  readonly ts: number
  readonly value: Value
  /** Accept stamp, µs. */
  readonly stamp: number
  /** The journal that gave the stamp, 16 hex digits: decides between equal stamps of two nodes. */
  readonly journalId: string
}

/** The sealed hours of one bucket. */
export interface AnalyticsHours {
  readonly tenant: string
  readonly device: string
  readonly bucket: Bucket
  /** Stamp of what they were folded from, µs: of two states of a bucket the greater one stands. */
  readonly version: number
  /** Windows of an hour, all of the bucket; none where nothing is left of it. */
  readonly windows: TierWindows
  /** What makes the hours answer for their points. Absent: they never do. */
  readonly complete?: {
    /** µs, wall clock: everything that was in the store then is in the windows. */
    readonly readAt: number
    /** All points of the hour (its start, µs) belong to the bucket. */
    isWhole (hour: number): boolean
  }
}

/** A device as the registry has it; null: it is not there. */
export interface AnalyticsDevice {
  readonly tenant: string
  readonly id: string
  readonly device: Device | null
  /** Stamp of the look into the registry, µs. */
  readonly version: number
}

export interface AnalyticsCount {
  readonly points: number
  readonly devices: number
}

export interface DeviceName {
  readonly tenant: string
  readonly device: string
}

export interface AnalyticsStore {
  /**
   * @param writtenUs wall clock: the points were in the store by then, or come again with a later time. Default: now. Sealed hours that were
   * read later answer for them.
   */
  insertPoints(points: readonly AnalyticsPoint[], writtenUs?: number): Promise<void>
  /** The buckets' hours become these. Those that are there from a lower version and have no successor go. */
  replaceHours(buckets: readonly AnalyticsHours[]): Promise<void>
  putDevices(devices: readonly AnalyticsDevice[]): Promise<void>
  /** Takes away devices of the tenant (null: of all tenants) whose version is lower: a look at all devices did not find them. */
  dropDevicesBefore(tenant: string | null, version: number): Promise<void>
  /**
   * Takes away what the erasures erase: points with a lower stamp, and sealed hours that may hold such points and are not folded
   * again since. Costs by the number of calls, so erasures come together, a thousand at most.
   */
  erase(erasures: readonly Erasure[]): Promise<void>
  /** How far a journal was brought over. */
  putMark(journalId: string, position: number): Promise<void>
  /** The greatest position that is known; null where there is none. */
  getMark(journalId: string): Promise<number | null>
  /** Takes away points and hours of the tenant (null: of all) that were written before a time, µs, and not again since: the end of a rebuild. */
  dropWrittenBefore(tenant: string | null, writtenUs: number): Promise<void>
  /**
   * Devices after `after`, in order of tenant and device, `limit` at most, of which points or hours stand that were written before a time, µs,
   * and not again since.
   */
  devicesWrittenBefore(tenant: string | null, writtenUs: number, after: DeviceName | null, limit: number): Promise<readonly DeviceName[]>
  /** Drops the partitions that hold nothing younger than the time, µs, of points and of hours. */
  dropExpired(pointsBeforeUs: number, hoursBeforeUs: number): Promise<number>
  /** Points and devices of the tenant with event times in [fromTs, toTs), each point once. */
  countPoints(tenant: string, fromTs: number, toTs: number): Promise<AnalyticsCount>
  ping(): Promise<void>
  close(): Promise<void>
}
