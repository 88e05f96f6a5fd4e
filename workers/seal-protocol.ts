/** Messages between the main thread and the threads that seal. Plain data. */
import type { Bucket } from '../src/series/partition-plan.js'
import type { Generation } from '../src/store/raw-store.js'

/** One bucket of one device. */
export interface BucketName {
  readonly tenant: string
  readonly device: string
  readonly bucket: Bucket
}

export interface SealTask extends BucketName {
  readonly kind: 'seal'
  readonly generation: Generation
  /** A stamp of the journal, µs, taken before the task reads erasures. */
  readonly asOf: number
  /** Wall clock, µs: what has expired is judged by it. */
  readonly nowUs: number
  /** Wall clock, µs: what is read after this is not under the claim any more, and nothing is written. */
  readonly leaseEndUs: number
  /** The bucket still grows and will be sealed again: less effort goes into small chunks. */
  readonly growing: boolean
  /** Seal although no head chunk is there: points were erased, or rows are wanted under another class. */
  readonly again: boolean
  /** Entry of the outbox, where the store keeps one. */
  readonly outbox: { readonly journalId: string, readonly sequence: number } | null
}

/**
 * `sealed`: written. `clean`: nothing new. `gone`: no such tenant. `expired`: the bucket is older than the tenant's retention and
 * its raw points may be gone in part, so nothing is touched. `lease-over`: reading took longer than the claim was held; try again.
 * `damaged`: all that is new cannot be decoded.
 */
export type SealOutcome = 'sealed' | 'clean' | 'gone' | 'expired' | 'lease-over' | 'damaged'

export interface SealResult {
  readonly kind: 'seal'
  readonly outcome: SealOutcome
  /** Chunks read, head and sealed ones, and their bytes. */
  readonly chunksIn: number
  readonly bytesIn: number
  readonly readings: number
  readonly points: number
  readonly chunksOut: number
  readonly bytesOut: number
  readonly tierRows: number
  readonly tierBytes: number
  /** Chunks that could not be decoded; they stay in the head where they are of it. */
  readonly damaged: readonly string[]
  readonly cpuMs: number
}

/** Looks for buckets with head chunks in shards of one tenant. */
export interface ScanTask {
  readonly kind: 'scan'
  readonly tenant: string
  readonly retentionDays: readonly number[]
  readonly shards: readonly number[]
  /** Event time, µs: buckets that end by then. Of the others no key is listed. */
  readonly endBefore: number
  /** Buckets given at most; the shard in which that was reached counts as scanned in part. */
  readonly bucketsMax: number
  /** Time after which no further shard is begun, ms. */
  readonly timeMs: number
}

export interface DirtyBucket extends BucketName {
  /** Slices that have head chunks in it. */
  readonly slices: number
}

export interface ScanResult {
  readonly kind: 'scan'
  readonly buckets: readonly DirtyBucket[]
  /** Shards of the task that were looked at, from the first on. */
  readonly shardsDone: number
  /** The last of them has more buckets than are named. */
  readonly more: boolean
  readonly cpuMs: number
}

export type SealWorkerTask = SealTask | ScanTask
