/** The raw store on LevelDB windows (docs/adr/0002-embedded-store.md): one class, its work split by verb over raw-*.ts. */
import { TwinfoldError } from '../../core/errors.js'
import type { SliceId } from '../../core/reading.js'
import type {
  BucketRef, DeviceChunkRow, DeviceRange, DirtyMark, HeadSpan, HeadWrite, LateSlabs, RawStore, RetentionClass, SealedBucket, SealedWrite, SeriesSeenRow, SlabRow
} from '../raw-store.js'
import { usPerDay } from '../../core/reading.js'
import type { Bucket } from '../../series/partition-plan.js'
import type { DatabasePool } from './database-pool.js'
import { rawName, seenName } from './filenames.js'
import type { KeeperOwner } from './keeper-owner.js'
import { KeyedLock } from '../../core/keyed-lock.js'
import { compactAll, probe, rotate } from './level.js'
import { bytesUnder, dropDatabase, listDatabases, listWindows, LogSyncer } from './raw-files.js'
import { listHeadSlices, scanChunks, scanDirty, scanSeen } from './raw-read.js'
import { dropExpiredOutbox, type EmbeddedOutboxWriter } from './outbox.js'
import { listHeadSpans } from './raw-spans.js'
import { readSealed, writeSealed } from './raw-sealed.js'
import { scanSlabs, scanSlabsToMerge } from './raw-slabs.js'
import { RawWriter } from './raw-write.js'
import { RemovedHeads } from './removed-heads.js'
import { rawWindowEnd, seenWindowUs } from './windows.js'

export class EmbeddedRawStore implements RawStore {
  readonly #directory: string
  readonly #pool: DatabasePool
  /** null in a store beside the owner's. */
  readonly #owner: KeeperOwner | null
  readonly #outbox: EmbeddedOutboxWriter
  readonly #writer: RawWriter
  readonly #syncer: LogSyncer
  readonly #removed: RemovedHeads
  readonly #locks = new KeyedLock()

  constructor (options: { directory: string, pool: DatabasePool, owner: KeeperOwner | null, outbox: EmbeddedOutboxWriter }) {
    this.#directory = options.directory
    this.#pool = options.pool
    this.#owner = options.owner
    this.#outbox = options.outbox
    this.#removed = new RemovedHeads(options.pool)
    this.#writer = new RawWriter(options.pool, options.outbox)
    this.#syncer = new LogSyncer(options.directory)
  }

  async writeHead (write: HeadWrite): Promise<void> { await this.#writer.writeHead(write) }

  scanChunks (ref: BucketRef, fromTs: number, toTs: number): AsyncIterable<DeviceChunkRow> {
    return scanChunks(this.#pool, ref, fromTs, toTs)
  }

  scanSlabs (tenant: string, shard: number, retentionDays: readonly number[], fromMinute: number, toMinute: number): AsyncIterable<SlabRow> {
    return scanSlabs(this.#pool, tenant, shard, retentionDays, fromMinute, toMinute)
  }

  scanSeen (range: DeviceRange): AsyncIterable<SeriesSeenRow> {
    return scanSeen(this.#pool, range)
  }

  async listHeadSlices (ref: BucketRef): Promise<readonly SliceId[]> { return await listHeadSlices(this.#pool, ref) }

  scanDirty (tenant: string, shard: number, retentionDays: readonly number[], wanted?: (bucket: Bucket) => boolean): AsyncIterable<DirtyMark> {
    return scanDirty(this.#pool, { tenant, shard, retentionDays }, wanted)
  }

  async listHeadSpans (range: DeviceRange, fromTs: number, toTs: number): Promise<readonly HeadSpan[]> {
    return await listHeadSpans(this.#pool, range, fromTs, toTs)
  }

  async writeSealed (ref: BucketRef, into: RetentionClass, sealed: SealedWrite): Promise<void> {
    const { tenant, device, bucket } = ref
    await this.#locks.run(`${tenant}\0${device}\0${bucket.widthMinutes}\0${bucket.start}`, async () => {
      await writeSealed({ pool: this.#pool, directory: this.#directory, outbox: this.#outbox, removed: this.#removed }, ref, into, sealed)
    })
  }

  async readSealed (ref: BucketRef): Promise<SealedBucket | null> { return await readSealed(this.#pool, ref) }

  scanSlabsToMerge (beforeSlice: SliceId, limit: number, late?: LateSlabs): AsyncIterable<SlabRow & RetentionClass> {
    return scanSlabsToMerge(this.#pool, beforeSlice, limit, late)
  }

  async replaceSlabs (slabs: readonly (SlabRow & RetentionClass)[], write: HeadWrite): Promise<void> {
    await this.#writer.replaceSlabs(slabs, write)
  }

  /** @throws TwinfoldError `internal` in a store that is not the owner's. */
  async dropExpired (nowUs: number, keepDays: (retentionDays: number) => number): Promise<number> {
    const owner = this.#owner
    if (owner === null) throw new TwinfoldError('internal', 'only the store that owns the directory drops windows')
    let dropped = 0
    for (const { path, retentionDays, start } of await listWindows(this.#directory, rawName)) {
      if (rawWindowEnd(retentionDays, start) + keepDays(retentionDays) * usPerDay > nowUs) continue
      // A thread that still reads the window keeps it until the next time.
      if (await owner.exclusively(path, async () => { await dropDatabase(this.#directory, path) })) dropped++
    }
    for (const { path, retentionDays, start } of await listWindows(this.#directory, seenName)) {
      if (start + seenWindowUs(retentionDays) + keepDays(retentionDays) * usPerDay > nowUs) continue
      await owner.exclusively(path, async () => { await dropDatabase(this.#directory, path) })
    }
    await dropExpiredOutbox(this.#directory, owner, nowUs)
    return dropped
  }

  async flush (): Promise<void> {
    await this.#syncer.sync(async path => {
      await this.#pool.read(path, undefined, async database => {
        await rotate(database)
        await probe(database)
      })
    })
  }

  async compact (): Promise<void> {
    for (const path of await listDatabases(this.#directory)) await this.#pool.read(path, undefined, compactAll)
  }

  async sizeBytes (): Promise<number> { return await bytesUnder(this.#directory) }
}
