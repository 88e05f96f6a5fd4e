/** What the rest of the server sees of the journal. Implementation: journal.ts. */
import type { RecordKind, SliceMark } from './record.js'

/**
 * Is told of the fate of its record. Called on the main thread, in the order of the records, after the group commit.
 * Methods must not throw.
 */
export interface CommitWaiter {
  /** INVARIANTS 1: the record is on stable storage. */
  committed(token: number): void
  /** The record is not on stable storage; it must not be acknowledged. */
  failed(token: number, error: Error): void
}

export interface AppendOptions {
  readonly kind: RecordKind
  readonly flags: number
  /** From `encodeIdentity`. Interned by the caller per connection. */
  readonly identity: Buffer
  /** The body. Not copied before the commit when large: must not change until then. */
  readonly body: Buffer
  /** Messages in the body; that many stamps are taken. */
  readonly messages: number
  /** A stamp to use instead of a new one (replay of a dead letter, a request that reserved its stamp). */
  readonly stamp?: number
}

export interface Journal {
  readonly journalId: string
  /**
   * Appends to the running group. Returns the first stamp of the record. Throws TwinfoldError `journal_full` or
   * `journal_unavailable` when it cannot take the record (nothing is kept then, the waiter is not called).
   */
  append(options: AppendOptions, waiter: CommitWaiter | null, token: number): number
  /**
   * Appends a mark that closes the slice of all records since the previous mark; resolves when it is durable.
   * null when there are none. Moves the stamps past those that elements of unstamped arrays in the slice may take.
   */
  mark(): Promise<SliceMark | null>
  /** Bytes appended since the last mark, waiting ones too: the packer marks when there are any. */
  readonly unmarkedBytes: number
  /** Position after the last durable record. */
  readonly durableEnd: number
  /** Position after the last record that was appended, durable or not: it is packed once the packer's cursor is there. */
  readonly appendedEnd: number
  /** Reserves consecutive stamps for a record that is appended later, and returns the first, µs (DESIGN 3.8). */
  takeStamps(count: number): number
  /** Moves the stamps past one that was given elsewhere. The caller has made sure that it is not beyond belief. */
  observeStamp(stampUs: number): void
  /** Bytes of segments on disk. */
  readonly diskBytes: number
  /** Files that hold [from, to), in order, for a worker to read. */
  segmentsFor(from: number, to: number): readonly SegmentRef[]
  /** Deletes whole segments that end at or before the position. */
  releaseBefore(position: number): Promise<void>
  /** 'ok', 'slow' (near the bound on disk), 'full' (at it), 'failed' (writes fail; being retried on a new segment). */
  readonly state: 'ok' | 'slow' | 'full' | 'failed'
}

export interface SegmentRef {
  readonly path: string
  /** Position of the segment's first byte (its header). */
  readonly base: number
  /** Position after the segment's last record, for closed segments: what the file holds beyond is not part of the journal. */
  readonly end?: number
}
