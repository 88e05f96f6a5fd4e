/** Messages between the main thread and worker threads. */
import type { SegmentRef } from '../src/journal/journal-types.js'
import type { SliceMark } from '../src/journal/record.js'

/** How a thread opens the store. Plain data: it crosses the thread boundary. */
export type StoreSpec = { readonly kind: 'embedded', readonly directory: string }

export interface PackTask {
  readonly kind: 'pack'
  readonly journalId: string
  readonly mark: SliceMark
  readonly segments: readonly SegmentRef[]
}

/** What a device wrote in a slice, for the partition plan; only devices with chunks of their own are named. */
export interface DeviceLoad {
  readonly tenant: string
  readonly device: string
  readonly bytes: number
  readonly rows: number
}

export interface PackResult {
  readonly records: number
  readonly messages: number
  readonly readings: number
  readonly points: number
  readonly bytesIn: number
  readonly bytesOut: number
  readonly chunkRows: number
  readonly slabRows: number
  /** Refused parts by `tenant \0 reason`. */
  readonly refused: readonly (readonly [string, number])[]
  readonly loads: readonly DeviceLoad[]
  readonly cpuMs: number
  /** Damaged records that were passed over: `segment path` and position. */
  readonly damaged: readonly { readonly path: string, readonly position: number }[]
}

export type ReadingOrder = 'asc' | 'desc'
export type TimeFormat = 'iso' | 'ms'

export interface RangeQuery {
  readonly kind: 'range'
  readonly tenant: string
  readonly retentionDays: readonly number[]
  /** Points older than this are outside the tenant's retention now. */
  readonly oldestTs: number
  readonly device: string
  /** null: all. */
  readonly metrics: readonly string[] | null
  /** µs, [fromTs, toTs) */
  readonly fromTs: number
  readonly toTs: number
  readonly order: ReadingOrder
  readonly limit: number
  readonly times: TimeFormat
}

export interface LatestQuery {
  readonly kind: 'latest'
  readonly tenant: string
  readonly retentionDays: readonly number[]
  readonly oldestTs: number
  readonly device: string
  readonly metrics: readonly string[] | null
  readonly times: TimeFormat
}

export type QueryTask = RangeQuery | LatestQuery

/** The answer as JSON bytes, ready to send: an array of readings (range), an object by metric (latest). */
export interface QueryResult {
  readonly body: Uint8Array<ArrayBuffer>
  readonly readings: number
  /** Timestamp of the last reading given, µs; null where there is none. */
  readonly lastTs: number | null
  /** More readings lie beyond `lastTs` in the query's range. */
  readonly more: boolean
}

/** Turns slabs whose slices are older than `before` into device chunks. */
export interface MergeTask {
  readonly kind: 'merge'
  readonly journalId: string
  /** Marks below this position. */
  readonly before: number
  /** Slabs read at most. */
  readonly slabsMax: number
}

export interface MergeResult {
  readonly slabs: number
  readonly chunkRows: number
  readonly readings: number
  readonly cpuMs: number
}

export type PackWorkerTask = PackTask | MergeTask
