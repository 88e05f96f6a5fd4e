/**
 * Port: raw readings (DESIGN 3.2). The head holds what workers wrote per slice: device chunks, and slabs that many
 * sparse devices share. Sealed rows (compact chunks of a whole bucket, with a generation) stand beside it.
 *
 * Contract, the same for every implementation (test/store/raw-store.contract.ts):
 * - A row is identified by its key; writing it again with the same key replaces it. All writes are idempotent.
 * - `writeHead` makes chunk rows visible no later than their dirty marks.
 * - What `writeHead` returned for is readable at once by every thread, survives SIGKILL of the process, and survives
 *   power loss after the next `flush`.
 * - No read returns another tenant's rows.
 */
import type { SliceId } from '../core/reading.js'
import type { OutboxSlot } from './outbox.js'
import type { Bucket } from '../series/partition-plan.js'
import type { TierRow } from './tier-store.js'

/** One device's readings of one slice in one bucket. */
export interface DeviceChunkRow {
  readonly tenant: string
  readonly device: string
  readonly bucket: Bucket
  readonly salt: number
  readonly slice: SliceId
  /** Tells apart several chunks of one slice and bucket, and merged rows from packed ones. */
  readonly part: number
  /** Event times, µs. */
  readonly minTs: number
  readonly maxTs: number
  /** An encoded chunk (src/series/FORMAT.md). */
  readonly bytes: Uint8Array
}

/** Readings of sparse devices of one shard, whose event times fall into one minute. */
export interface SlabRow {
  readonly tenant: string
  readonly shard: number
  /** Event time in µs, a multiple of a minute. */
  readonly minute: number
  readonly slice: SliceId
  /**
   * Accept stamp of the slice's mark, µs, the same at every repetition of the slice: a store may keep slabs by it, and then
   * gives it back cut to its own period and needs it to find the row.
   */
  readonly stamp?: number
  /** An encoded slab (src/series/FORMAT.md). */
  readonly bytes: Uint8Array
}

/** These metrics of the device have points on that (UTC) day; immutable rows, so writers never read them. */
export interface SeriesSeenRow {
  readonly tenant: string
  readonly device: string
  /** µs, a multiple of a day. */
  readonly day: number
  readonly metrics: readonly string[]
}

/** Retention decides where a row is stored, so that expiry drops whole windows (docs/adr). */
export interface RetentionClass {
  readonly retentionDays: number
}

export interface HeadWrite {
  readonly chunks: readonly (DeviceChunkRow & RetentionClass)[]
  readonly slabs: readonly (SlabRow & RetentionClass)[]
  readonly seen: readonly (SeriesSeenRow & RetentionClass)[]
  /** Where the store keeps an outbox: the entry that names these rows. It is visible no sooner than they are, and before slabs go. */
  readonly outbox?: OutboxSlot
}

/** Slabs whose readings came late. */
export interface LateSlabs {
  /** Event time, µs: slabs of earlier minutes. */
  readonly beforeMinute: number
  /** Accept stamp, µs: those accepted before may be left out. */
  readonly sinceStamp: number
}

/** A seal's number: the highest wins. Compared by epoch, then sequence. */
export interface Generation {
  readonly epoch: number
  readonly sequence: number
}

/** A head chunk that a seal took in. */
export interface CoveredChunk extends SliceId {
  /** Absent: every part of the slice. */
  readonly part?: number
}

export interface SealedBucket {
  readonly generation: Generation
  /**
   * Head chunks that this generation took in, and that may still be listed. Those of earlier generations are gone or come back
   * unchanged (a repeated slice, a resurrected row): joining them again changes nothing, so they need not be named for ever.
   */
  readonly covered: readonly CoveredChunk[]
  readonly chunks: readonly { readonly minTs: number, readonly maxTs: number, readonly bytes: Uint8Array }[]
}

/** What a seal writes. */
export interface SealedWrite extends SealedBucket {
  /** All tier rows of the bucket. Those of lower generations go, also where no new row takes their place. Default: none. */
  readonly tiers?: readonly (TierRow & RetentionClass)[]
  /** As in `HeadWrite`; the entry is of the stream `seal`. */
  readonly outbox?: OutboxSlot
}

/** Where a head chunk lies, without its payload. */
export interface HeadSpan {
  readonly bucket: Bucket
  readonly slice: SliceId
  /** Event times, µs. */
  readonly minTs: number
  readonly maxTs: number
}

export interface DeviceRange {
  readonly tenant: string
  readonly device: string
  /** All retention classes the tenant's rows may be stored under. */
  readonly retentionDays: readonly number[]
}

export interface BucketRef extends DeviceRange {
  readonly bucket: Bucket
  readonly salts: number
}

export interface DirtyMark {
  readonly tenant: string
  readonly device: string
  readonly bucket: Bucket
  readonly slice: SliceId
}

export interface RawStore {
  writeHead(write: HeadWrite): Promise<void>

  /**
   * Head chunks of one bucket over all salts whose maxTs >= fromTs and minTs < toTs, in descending order of maxTs
   * (the newest end first), so that a reader of the newest points can stop early.
   */
  scanChunks(ref: BucketRef, fromTs: number, toTs: number): AsyncIterable<DeviceChunkRow>

  /** Slabs of the device's shard with minutes in [fromMinute, toMinute], in descending order of minute. */
  scanSlabs(tenant: string, shard: number, retentionDays: readonly number[], fromMinute: number, toMinute: number): AsyncIterable<SlabRow>

  /** Days on which the device had points, newest first, with the metrics seen. */
  scanSeen(range: DeviceRange): AsyncIterable<SeriesSeenRow>

  /** Ids of the slices that have head chunks in the bucket, without their payload. */
  listHeadSlices(ref: BucketRef): Promise<readonly SliceId[]>

  /**
   * Buckets of a shard of devices that have marks, for the sealer.
   * @param wanted buckets that interest; the others are passed over unread, which is what makes a scan for the past cheap
   */
  scanDirty(tenant: string, shard: number, retentionDays: readonly number[], wanted?: (bucket: Bucket) => boolean): AsyncIterable<DirtyMark>

  /**
   * Head chunks of the device whose times meet [fromTs, toTs), in all its buckets and salts. Every one that is there is named; one that
   * a seal covers and has not removed yet may be, too. So what no span meets is in the tier rows, where its bucket was ever sealed.
   */
  listHeadSpans(range: DeviceRange, fromTs: number, toTs: number): Promise<readonly HeadSpan[]>

  /**
   * Writes a sealed generation under the class `into`, its tier rows, and then removes exactly the covered head chunks and their marks,
   * in every class of `ref`. A lower generation than the stored one changes nothing that a reader sees.
   */
  writeSealed(ref: BucketRef, into: RetentionClass, sealed: SealedWrite): Promise<void>
  readSealed(ref: BucketRef): Promise<SealedBucket | null>

  /**
   * Slabs that are older than the given mark of their journal, at most `limit`: what the merger turns into device chunks.
   * Oldest event time first, in periods of several minutes; inside a period all slabs of a shard follow one another, so that
   * a device's readings of many slices come together. The journal '' stands for all journals.
   * @param late only these, and nothing is tidied up: what lets late readings be merged soon, at the cost of reading those alone
   */
  scanSlabsToMerge(beforeSlice: SliceId, limit: number, late?: LateSlabs): AsyncIterable<SlabRow & RetentionClass>
  /** Writes merged chunks and removes the slabs that they contain. Chunks are visible before slabs go. */
  replaceSlabs(slabs: readonly (SlabRow & RetentionClass)[], write: HeadWrite): Promise<void>

  /**
   * Drops whole windows whose every row has expired: window end + keepDays(class) before `nowUs`. Cost is by window,
   * not by row. Returns the number dropped.
   */
  dropExpired(nowUs: number, keepDays: (retentionDays: number) => number): Promise<number>

  /** Everything written before the call is on stable storage when it returns. */
  flush(): Promise<void>
  /** Compacts everything, for maintenance and for measuring bytes on disk. */
  compact(): Promise<void>
  /** Bytes on disk. */
  sizeBytes(): Promise<number>
}
