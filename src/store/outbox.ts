/**
 * Port: what was written to the raw store, in an order that a projection can follow (DESIGN 3.5). An entry names the head
 * rows of one packed slice or of one merge of slabs. A projection reads the entries from its cursor on, reads the rows,
 * and moves its cursor; it never holds the journal back. Entries expire with the retention of the installation's outbox.
 */
import type { Bucket } from '../series/partition-plan.js'
import type { DeviceChunkRow, SlabRow } from './raw-store.js'

/**
 * `pack`: one entry a slice, its sequence the slice's mark. `merge`: one a merge or a step of an import, `seal`: one a seal; their
 * sequences are stamps that only grow.
 */
export type OutboxStream = 'pack' | 'merge' | 'seal'

/** Which entry a `HeadWrite` writes; repeated writes of one slice write the same entry. */
export interface OutboxSlot {
  readonly journalId: string
  readonly stream: OutboxStream
  readonly sequence: number
}

export interface OutboxEntry extends OutboxSlot {
  readonly chunks: readonly Omit<DeviceChunkRow, 'bytes'>[]
  readonly slabs: readonly Omit<SlabRow, 'bytes'>[]
  /** Stream `seal`: the bucket whose tier rows changed. Its entry is visible no sooner than they are, and before the bucket is clean. */
  readonly sealed?: { readonly tenant: string, readonly device: string, readonly bucket: Bucket }
}

export interface Outbox {
  /** Entries of the stream with a sequence in (after, upTo], ascending, at most `limit`. */
  readOutbox(journalId: string, stream: OutboxStream, after: number, upTo: number, limit: number): Promise<readonly OutboxEntry[]>
  /**
   * The rows of an entry. What is missing was merged (a later `merge` entry names it), sealed or has expired; it is left out.
   */
  readEntry(entry: OutboxEntry): Promise<{ readonly chunks: readonly DeviceChunkRow[], readonly slabs: readonly SlabRow[] }>
}
