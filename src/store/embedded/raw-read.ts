/** Reads of head chunks and `seen` rows, and what they say about slices and dirty buckets. */
import type { SliceId } from '../../core/reading.js'
import { usPerMinute } from '../../core/reading.js'
import type { Bucket } from '../../series/partition-plan.js'
import type { BucketRef, DeviceChunkRow, DeviceRange, DirtyMark, SeriesSeenRow } from '../raw-store.js'
import { mergeOrdered } from '../merge-ordered.js'
import type { DatabasePool } from './database-pool.js'
import { rawName, rawPath, seenName } from './filenames.js'
import { after, rangeOf } from './key-bytes.js'
import { bucketOfChunkKey, bucketPrefix, chunkBucket, chunkOwner, chunksSince, chunkTail, seenDay, seenPrefix, shardPrefix, tables } from './keys.js'
import type { Database } from './level.js'
import { keysWithJumps, scanKeys, scanRows } from './scan.js'
import { storeError } from './store-errors.js'
import { rawWindowStart } from './windows.js'

/** Rows from a database that stays open while they are read; nothing where it does not exist. */
export async function * readFrom<T> (pool: DatabasePool, path: string, rows: (database: Database) => AsyncIterable<T>): AsyncGenerator<T> {
  const use = pool.useNow(path) ?? await pool.use(path, false)
  if (use === null) return
  try {
    yield * rows(use.database)
  } catch (error) {
    throw storeError(error, path)
  } finally {
    use.release()
  }
}

export function bucketPaths (ref: BucketRef): string[] {
  return [...new Set(ref.retentionDays)].map(days => rawPath(days, rawWindowStart(days, ref.bucket.start)))
}

export function scanChunks (pool: DatabasePool, ref: BucketRef, fromTs: number, toTs: number): AsyncIterable<DeviceChunkRow> {
  const sources: AsyncIterable<DeviceChunkRow>[] = []
  for (const path of bucketPaths(ref)) {
    for (let salt = 0; salt < ref.salts; salt++) {
      sources.push(readFrom(pool, path, database => chunksOfSalt(database, ref, salt, fromTs, toTs)))
    }
  }
  return mergeOrdered(sources, (a, b) => a.maxTs > b.maxTs)
}

async function * chunksOfSalt (database: Database, ref: BucketRef, salt: number, fromTs: number, toTs: number): AsyncGenerator<DeviceChunkRow> {
  const { tenant, device, bucket } = ref
  const prefix = bucketPrefix(tables.chunk, tenant, device, bucket, salt)
  let gte: Buffer | null = prefix
  const lt = chunksSince(prefix, fromTs)
  // Rows newer than the range come first; their values are not read.
  if (toTs < bucket.start + bucket.widthMinutes * usPerMinute) gte = await firstBefore(database, gte, lt, toTs)
  if (gte === null) return
  for await (const rows of scanRows(database, { gte, lt })) {
    for (const [key, bytes] of rows) {
      const { minTs, maxTs, slice, part } = chunkTail(key)
      if (minTs < toTs) yield { tenant, device, bucket, salt, slice, part, minTs, maxTs, bytes }
    }
  }
}

async function firstBefore (database: Database, gte: Buffer, lt: Buffer, toTs: number): Promise<Buffer | null> {
  for await (const keys of scanKeys(database, { gte, lt })) {
    for (const key of keys) if (chunkTail(key).minTs < toTs) return key
  }
  return null
}

export async function listHeadSlices (pool: DatabasePool, ref: BucketRef): Promise<readonly SliceId[]> {
  const slices = new Map<string, SliceId>()
  for (const path of bucketPaths(ref)) {
    for await (const key of headKeys(pool, path, ref)) {
      const { slice } = chunkTail(key)
      slices.set(`${slice.journalId}:${slice.mark}`, slice)
    }
  }
  return [...slices.values()]
}

/** Keys of the bucket's head chunks in one window, over all salts. */
export function headKeys (pool: DatabasePool, path: string, ref: BucketRef): AsyncIterable<Buffer> {
  return readFrom(pool, path, database => flatKeys(database, rangeOf(bucketPrefix(tables.chunk, ref.tenant, ref.device, ref.bucket))))
}

async function * flatKeys (database: Database, range: { gte: Buffer, lt: Buffer }): AsyncGenerator<Buffer> {
  for await (const keys of scanKeys(database, range)) yield * keys
}

export async function * scanSeen (pool: DatabasePool, range: DeviceRange): AsyncGenerator<SeriesSeenRow> {
  const windows = await pool.windows.list(seenName, range.retentionDays)
  const byClass = new Map<number, string[]>()
  for (const { retentionDays, path } of windows) byClass.set(retentionDays, [path, ...byClass.get(retentionDays) ?? []])
  yield * mergeOrdered([...byClass.values()].map(paths => seenOfWindows(pool, paths, range)), (a, b) => a.day > b.day)
}

async function * seenOfWindows (pool: DatabasePool, paths: readonly string[], { tenant, device }: DeviceRange): AsyncGenerator<SeriesSeenRow> {
  const prefix = rangeOf(seenPrefix(tenant, device))
  for (const path of paths) {
    for await (const rows of readFrom(pool, path, database => scanRows(database, prefix))) {
      for (const [key, value] of rows) yield { tenant, device, day: seenDay(key), metrics: JSON.parse(value.toString()) as string[] }
    }
  }
}

export interface ShardOfDevices {
  readonly tenant: string
  readonly shard: number
  readonly retentionDays: readonly number[]
}

/** Every head chunk makes its bucket dirty; each slice of a bucket is named once. */
export async function * scanDirty (pool: DatabasePool, of: ShardOfDevices, wanted: (bucket: Bucket) => boolean = () => true): AsyncGenerator<DirtyMark> {
  for (const { path } of await pool.windows.list(rawName, of.retentionDays)) yield * readFrom(pool, path, database => dirtyIn(database, of, wanted))
}

async function * dirtyIn (database: Database, { tenant, shard }: ShardOfDevices, wanted: (bucket: Bucket) => boolean): AsyncGenerator<DirtyMark> {
  let current: Buffer = Buffer.alloc(0)
  let owner: { device: string, bucket: Bucket } | null = null
  let named = new Set<string>()
  for await (const key of keysWithJumps(database, rangeOf(shardPrefix(tenant, shard)), key => wanted(chunkBucket(key)) ? null : after(bucketOfChunkKey(key)))) {
    const bucketBytes = bucketOfChunkKey(key)
    if (owner === null || !bucketBytes.equals(current)) {
      current = bucketBytes
      owner = chunkOwner(key)
      named = new Set()
    }
    const { slice } = chunkTail(key)
    const name = `${slice.journalId}:${slice.mark}`
    if (named.has(name)) continue
    named.add(name)
    yield { tenant, device: owner.device, bucket: owner.bucket, slice }
  }
}
