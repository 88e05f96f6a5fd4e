/**
 * The raw store of the cluster profile, and its outbox: the parts beside this file behind their ports. Every thread has its
 * own; what one of them wrote is readable by all at once, as writes and reads are at LOCAL_QUORUM. One exception: the first slab
 * ever of a journal may be seen by other threads a quarter of a second later.
 *
 * Retention classes are lifetimes here: a row's TTL is that of its class, so reads of all classes are one.
 */
import type { Clock } from '../../../core/clock.js'
import { inParallel } from '../../../core/in-parallel.js'
import { usPerMinute, type SliceId } from '../../../core/reading.js'
import type { Bucket } from '../../../series/partition-plan.js'
import type { Outbox, OutboxEntry, OutboxStream } from '../../outbox.js'
import type { BucketRef, DeviceChunkRow, DeviceRange, DirtyMark, HeadSpan, HeadWrite, LateSlabs, RawStore, RetentionClass, SealedBucket, SealedWrite, SeriesSeenRow, SlabRow } from '../../raw-store.js'
import type { CassandraClient } from './cassandra-client.js'
import { DirtyMarks } from './cassandra-raw-marks.js'
import { OutboxWriter, readEntry, readOutbox } from './cassandra-raw-outbox.js'
import { listHeadSlices, scanChunks, scanSeen, spansInSalt } from './cassandra-raw-read.js'
import { readSealed, writeSealed } from './cassandra-raw-sealed.js'
import { SlabIndex } from './cassandra-raw-slabs.js'
import { RawWriter } from './cassandra-raw-write.js'

export interface CassandraRawOptions {
  readonly clock: Clock
  /** Writes an outbox entry with every slice and merge. */
  readonly outbox: boolean
}

const bytesPerMebibyte = 1024 * 1024

export class CassandraRawStore implements RawStore, Outbox {
  readonly #client: CassandraClient
  readonly #marks: DirtyMarks
  readonly #slabs: SlabIndex
  readonly #outbox: OutboxWriter | null
  readonly #writer: RawWriter

  constructor (client: CassandraClient, { clock, outbox }: CassandraRawOptions) {
    this.#client = client
    this.#marks = new DirtyMarks(client, clock)
    this.#slabs = new SlabIndex(client, clock)
    this.#outbox = outbox ? new OutboxWriter(client, clock) : null
    this.#writer = new RawWriter(client, { marks: this.#marks, slabs: this.#slabs, outbox: this.#outbox })
  }

  async writeHead (write: HeadWrite): Promise<void> { await this.#writer.writeHead(write) }

  scanChunks (ref: BucketRef, fromTs: number, toTs: number): AsyncIterable<DeviceChunkRow> { return scanChunks(this.#client, ref, fromTs, toTs) }

  scanSlabs (tenant: string, shard: number, _retentionDays: readonly number[], fromMinute: number, toMinute: number): AsyncIterable<SlabRow> {
    return this.#slabs.scan(tenant, shard, fromMinute, toMinute)
  }

  scanSeen (range: DeviceRange): AsyncIterable<SeriesSeenRow> { return scanSeen(this.#client, range) }

  async listHeadSlices (ref: BucketRef): Promise<readonly SliceId[]> { return await listHeadSlices(this.#client, ref) }

  scanDirty (tenant: string, shard: number, _retentionDays?: readonly number[], wanted?: (bucket: Bucket) => boolean): AsyncIterable<DirtyMark> {
    return this.#marks.scan(tenant, shard, wanted)
  }

  async listHeadSpans ({ tenant, device }: DeviceRange, fromTs: number, toTs: number): Promise<readonly HeadSpan[]> {
    const wanted = (await this.#marks.ofDevice(tenant, device)).filter(({ bucket }) => bucket.start < toTs && bucket.start + bucket.widthMinutes * usPerMinute > fromTs)
    return (await inParallel(wanted, async ({ bucket, salt }) => await spansInSalt(this.#client, { tenant, device, bucket }, salt, fromTs, toTs))).flat()
  }

  async writeSealed (ref: BucketRef, into: RetentionClass, sealed: SealedWrite): Promise<void> {
    await writeSealed({ client: this.#client, outbox: this.#outbox }, ref, into, sealed)
  }

  async readSealed (ref: BucketRef): Promise<SealedBucket | null> { return await readSealed(this.#client, ref) }

  scanSlabsToMerge (beforeSlice: SliceId, limit: number, late?: LateSlabs): AsyncIterable<SlabRow & RetentionClass> {
    return late === undefined ? this.#slabs.scanToMerge(beforeSlice, limit) : this.#slabs.scanLate(beforeSlice, limit, late)
  }

  async replaceSlabs (slabs: readonly (SlabRow & RetentionClass)[], write: HeadWrite): Promise<void> { await this.#writer.replaceSlabs(slabs, write) }

  /** Nothing to do: rows carry their class as TTL, and Cassandra drops files whose every row has expired. */
  async dropExpired (): Promise<number> { return 0 }

  /** Nothing to wait for: a write that returned is in the synced commit log of a quorum. */
  async flush (): Promise<void> {}

  /** Nothing to do: each Cassandra node compacts by itself; nodetool compacts it at once. */
  async compact (): Promise<void> {}

  /** Of the replica that answers, in whole MiB a table (Cassandra's own view of its disk). */
  async sizeBytes (): Promise<number> {
    const rows = await this.#client.read('SELECT mebibytes FROM system_views.disk_usage WHERE keyspace_name = ? ALLOW FILTERING', [this.#client.keyspace])
    return rows.reduce((sum, row) => sum + (row.mebibytes as number), 0) * bytesPerMebibyte
  }

  async readOutbox (journalId: string, stream: OutboxStream, after: number, upTo: number, limit: number): Promise<readonly OutboxEntry[]> {
    return await readOutbox(this.#client, journalId, stream, after, upTo, limit)
  }

  async readEntry (entry: OutboxEntry): Promise<{ readonly chunks: readonly DeviceChunkRow[], readonly slabs: readonly SlabRow[] }> {
    return await readEntry(this.#client, entry)
  }
}
