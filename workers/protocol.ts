/** Messages between the main thread and worker threads. */
import type { SegmentRef } from '../src/journal/journal-types.js'
import type { SliceMark } from '../src/journal/record.js'
import type { LateSlabs } from '../src/store/raw-store.js'
import type { WindowQuery } from './query-protocol.js'
import type { BucketName } from './seal-protocol.js'
import type { LiveReadings, LiveWants } from './live-protocol.js'
import type { WatchResult } from './watch-protocol.js'

/** How a thread opens the store. Plain data: it crosses the thread boundary. */
export type StoreSpec = EmbeddedSpec | ClusterSpec
export interface EmbeddedSpec {
  readonly kind: 'embedded'
  readonly directory: string
  /** A shared byte: while it is not 0, writers keep an outbox for the analytics projection. Absent: never. */
  readonly outbox?: SharedArrayBuffer
}
export interface ClusterSpec {
  readonly kind: 'cluster'
  readonly cassandra: CassandraSettings
  readonly redis: RedisSettings
  /** Packers write an outbox for the analytics projection. */
  readonly outbox: boolean
}

/** How Cassandra is reached. */
export interface CassandraSettings {
  /** `host` or `host:port`. */
  readonly contactPoints: readonly string[]
  readonly dataCenter: string
  readonly keyspace: string
  /** Replicas by data centre, for NetworkTopologyStrategy. */
  readonly replication: Readonly<Record<string, number>>
  readonly consistency: 'LOCAL_QUORUM' | 'QUORUM' | 'EACH_QUORUM' | 'LOCAL_ONE'
  /** '' for none. */
  readonly user: string
  readonly password: string
  readonly tls: boolean
}

export interface RedisSettings {
  /** `redis://` or `rediss://`. */
  readonly url: string
  /** Before every key and channel, so that installations can share a Redis. */
  readonly prefix: string
}

export interface ClickHouseSettings {
  /** `http://` or `https://`, user and password in it. */
  readonly url: string
  readonly database: string
  /** Unix socket on which it is spoken to instead of the host and port of the address: the engine of the embedded profile. */
  readonly socketPath?: string
}

export interface PackTask {
  readonly kind: 'pack'
  readonly journalId: string
  readonly mark: SliceMark
  readonly segments: readonly SegmentRef[]
  /** Absent: nobody watches live. */
  readonly live?: LiveWants
}

/** A slice whose newest values go into the hot state alone, because the store does not take it yet. */
export interface HotTask extends Omit<PackTask, 'kind'> {
  readonly kind: 'hot'
}

export interface HotResult {
  /** All of it was put; else it is left to the packing of the slice. */
  readonly put: boolean
  /** Readings that are watched, where there were any. */
  readonly live?: LiveReadings
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
  /** Buckets whose time is past, or that are an hour wide at most, into which chunks came: the sealer's to look at. Absent: none. */
  readonly late?: readonly BucketName[]
  /** Its slabs of readings that came late (`lateMinutes`) are to be merged early: accept stamp and mark of the slice. Absent: none. */
  readonly lateSlabs?: { readonly stamp: number, readonly mark: number }
  /** Buckets that are open, wide, and hold many chunks by now: the sealer may take in what is there. Absent: none. */
  readonly growing?: readonly BucketName[]
  /** Damaged records that were passed over: `segment path` and position. */
  readonly damaged: readonly { readonly path: string, readonly position: number }[]
  /** Readings that are watched, where there were any. */
  readonly live?: LiveReadings
  /** What models and alarm rules are to be told, where the slice has tenants that have any. */
  readonly watch?: WatchResult
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

export type QueryTask = (RangeQuery | LatestQuery | WindowQuery) & {
  /** Wall clock, µs, at which the task gives itself up; undefined: never. */
  readonly deadlineUs?: number
}

/** The answer as JSON bytes, ready to send: an array of readings (range), an object by metric (latest). */
export interface QueryResult {
  readonly body: Uint8Array<ArrayBuffer>
  readonly readings: number
  /** Timestamp of the last reading given, µs; null where there is none. */
  readonly lastTs: number | null
  /** More readings lie beyond `lastTs` in the query's range. */
  readonly more: boolean
  /** Latest: the store did not answer, and this is what the hot state knows, which need not be all. */
  readonly source?: 'hot'
}

/** Turns slabs whose slices are older than `before` into device chunks. */
export interface MergeTask {
  readonly kind: 'merge'
  readonly journalId: string
  /** Marks below this position. */
  readonly before: number
  /** Slabs read at most. */
  readonly slabsMax: number
  /** Late slabs alone, as `scanSlabsToMerge` takes it. Absent: all. */
  readonly late?: LateSlabs
  /** Sequence of the first merge in the outbox; the task has `slabsMax` of them for itself. Absent: by the worker's clock. */
  readonly firstSequence?: number
}

export interface MergeResult {
  /** As of a pack. */
  readonly late?: readonly BucketName[]
  readonly growing?: readonly BucketName[]
  readonly slabs: number
  readonly chunkRows: number
  readonly readings: number
  readonly cpuMs: number
}

export type PackWorkerTask = PackTask | HotTask | MergeTask

/** A piece of a journal's outbox into analytics: the entries of one stream with a sequence in (after, upTo]. */
export interface ProjectTask {
  readonly kind: 'project'
  readonly journalId: string
  readonly stream: 'pack' | 'merge' | 'seal'
  readonly after: number
  readonly upTo: number
  /** Every point of slices up to this mark is in analytics: merged rows of no younger slice are passed over. */
  readonly whole: number
}

export interface ProjectResult {
  /** Every point of the entries up to this sequence is in; `after` where none is. */
  readonly cursor: number
  /** No entry is left in the range. */
  readonly atEnd: boolean
  readonly entries: number
  readonly points: number
  readonly inserts: number
  /** Windows of sealed hours. */
  readonly hours: number
  /** Rows whose points were in already. */
  readonly rowsPassed: number
  /** Rows that were not where the entry says: merged, sealed or expired since. */
  readonly rowsMissing: number
  /** Rows that could not be decoded and were passed over. */
  readonly damaged: readonly string[]
  /** Greatest accept stamp of the entries up to `cursor`, µs; 0 where there was none. */
  readonly newestStamp: number
  readonly cpuMs: number
  /** Why it ended early; what comes before `cursor` is in all the same. */
  readonly failure: { readonly code: string, readonly detail: string } | null
}
