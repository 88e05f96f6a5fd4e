/**
 * The key layout of the raw windows, `seen` windows and the pending-slab index (format 1). Every key begins with the version
 * byte and a table byte, then the tenant, so no range of one tenant meets another's (INVARIANTS 7). Texts end in 0x00,
 * numbers are big-endian, `desc` is stored as the greatest possible value minus it.
 *
 *     chunk    tenant 0 shard8 device 0 width16 start56 salt8 maxTs56-desc span56 journal64 mark56 part32 -> encoded chunk
 *     sealed   tenant 0 shard8 device 0 width16 start56 epoch56-desc sequence56-desc index32               -> sealed-rows.ts
 *     slab     period56 tenant 0 shard8 minute56 journal64 mark56                                          -> encoded slab
 *     seen     tenant 0 device 0 day56-desc hash64                                                         -> names, JSON
 *     pending  days32 period56 journal64 mark56 (in meta)                                                  -> nothing
 *
 * `span` is maxTs - minTs: with both times in the key a reader passes over rows outside its range without their values.
 * Slabs come by period (10 minutes of event time) first, so that the oldest are merged first, a shard at a time. The tenant
 * stands behind the period there; scans of one tenant always name it in both ends of their range. `pending` rows say which
 * periods have slabs at all, so that neither readers nor the merger look for them anywhere else.
 * There are no rows for dirty marks: head chunks that no seal covers are the marks, in the order of shard and device.
 */
import type { SliceId } from '../../core/reading.js'
import { usPerMinute } from '../../core/reading.js'
import { shardOf } from '../../core/ids.js'
import { timestampUsMax } from '../../core/limits.js'
import type { Bucket, BucketWidthMinutes } from '../../series/partition-plan.js'
import {
  after, readJournalId, readText, readTime, readTimeDescending, skipText, timeBytes, writeJournalId, writeText, writeTime, writeTimeDescending
} from './key-bytes.js'

export const keyVersion = 1
export const tables = { chunk: 0x10, sealed: 0x11, slab: 0x12, seen: 0x20, pending: 0x30, outbox: 0x40 } as const

/** A whole key that is made of texts, or a prefix. `invalid_request` for texts that are not printable ASCII. */
export function textKey (table: number, texts: readonly string[]): Buffer {
  let length = 2
  for (const text of texts) length += text.length + 1
  const key = Buffer.allocUnsafe(length)
  key[0] = keyVersion
  key[1] = table
  let at = 2
  for (const text of texts) at = writeText(key, at, text)
  return key
}

/** Slabs of so much event time stand together. */
export const slabPeriodUs = 10 * usPerMinute

const headBytes = 2
const journalBytes = 8
const bucketBytes = 2 + timeBytes
/** What follows the salt in a chunk key. */
const chunkTailBytes = 2 * timeBytes + journalBytes + timeBytes + 4

function begin (table: number, length: number): Buffer {
  const key = Buffer.allocUnsafe(length)
  key[0] = keyVersion
  key[1] = table
  return key
}

function writeBucket (key: Buffer, at: number, bucket: Bucket): number {
  key[at] = bucket.widthMinutes >>> 8
  key[at + 1] = bucket.widthMinutes
  return writeTime(key, at + 2, bucket.start)
}

function writeSlice (key: Buffer, at: number, slice: SliceId): number {
  return writeTime(key, writeJournalId(key, at, slice.journalId), slice.mark)
}

function readSlice (key: Buffer, at: number): SliceId {
  return { journalId: readJournalId(key, at), mark: readTime(key, at + journalBytes) }
}

/** Tenant, shard and device in front of a bucket's rows. */
function writeOwner (key: Buffer, tenant: string, device: string): number {
  let at = writeText(key, headBytes, tenant)
  key[at++] = shardOf(device)
  return writeText(key, at, device)
}

const ownerBytes = (tenant: string, device: string): number => headBytes + tenant.length + 1 + 1 + device.length + 1

export interface ChunkKeyParts {
  readonly tenant: string
  readonly device: string
  readonly bucket: Bucket
  readonly salt: number
  readonly minTs: number
  readonly maxTs: number
  readonly slice: SliceId
  readonly part: number
}

export function chunkKey (row: ChunkKeyParts): Buffer {
  const key = begin(tables.chunk, ownerBytes(row.tenant, row.device) + bucketBytes + 1 + chunkTailBytes)
  let at = writeBucket(key, writeOwner(key, row.tenant, row.device), row.bucket)
  key[at++] = row.salt
  at = writeTimeDescending(key, at, row.maxTs)
  at = writeTime(key, at, row.maxTs - row.minTs)
  at = writeSlice(key, at, row.slice)
  key.writeUInt32BE(row.part, at)
  return key
}

/** All head chunks of a bucket, or those of one salt. */
export function bucketPrefix (table: typeof tables.chunk | typeof tables.sealed, tenant: string, device: string, bucket: Bucket, salt?: number): Buffer {
  const key = begin(table, ownerBytes(tenant, device) + bucketBytes + (salt === undefined ? 0 : 1))
  const at = writeBucket(key, writeOwner(key, tenant, device), bucket)
  if (salt !== undefined) key[at] = salt
  return key
}

/** All head chunks of a device, or those of its buckets of one width that start at `start` or later. */
export function devicePrefix (tenant: string, device: string, from?: Bucket): Buffer {
  const key = begin(tables.chunk, ownerBytes(tenant, device) + (from === undefined ? 0 : bucketBytes))
  const at = writeOwner(key, tenant, device)
  if (from !== undefined) writeBucket(key, at, from)
  return key
}

/** Bucket of a chunk key. */
export function chunkBucket (key: Buffer): Bucket {
  const at = key.length - chunkTailBytes - 1 - bucketBytes
  return { widthMinutes: key.readUInt16BE(at) as BucketWidthMinutes, start: readTime(key, at + 2) }
}

/** The prefix and an upper bound: chunks whose maxTs >= fromTs come before it. */
export function chunksSince (prefix: Buffer, fromTs: number): Buffer {
  const key = Buffer.allocUnsafe(prefix.length + timeBytes + 1)
  prefix.copy(key)
  key[writeTimeDescending(key, prefix.length, Math.min(timestampUsMax, Math.max(0, fromTs)))] = 0xff
  return key
}

/** Times, slice and part of a chunk key; they stand at its end, so the texts before need not be read. */
export function chunkTail (key: Buffer): { minTs: number, maxTs: number, slice: SliceId, part: number } {
  const at = key.length - chunkTailBytes
  const maxTs = readTimeDescending(key, at)
  return { maxTs, minTs: maxTs - readTime(key, at + timeBytes), slice: readSlice(key, at + 2 * timeBytes), part: key.readUInt32BE(key.length - 4) }
}

/** Device, bucket and slice of a chunk key. */
export function chunkOwner (key: Buffer): { device: string, bucket: Bucket, slice: SliceId } {
  const deviceAt = skipText(key, headBytes) + 1
  const bucketAt = key.length - chunkTailBytes - 1 - bucketBytes
  return {
    device: readText(key, deviceAt, bucketAt),
    bucket: chunkBucket(key),
    slice: readSlice(key, key.length - chunkTailBytes + 2 * timeBytes)
  }
}

/** The part of a chunk key that all rows of its bucket share. */
export function bucketOfChunkKey (key: Buffer): Buffer {
  return key.subarray(0, key.length - chunkTailBytes - 1)
}

/** The head: all chunks of all devices. */
export const chunkTable = begin(tables.chunk, headBytes)

/** All chunks of one shard of devices. */
export function shardPrefix (tenant: string, shard: number): Buffer {
  const key = begin(tables.chunk, headBytes + tenant.length + 2)
  key[writeText(key, headBytes, tenant)] = shard
  return key
}

/** Bytes behind the bucket in a key of a sealed row: epoch, sequence, index. */
export const sealedTailBytes = 2 * timeBytes + 4

export function sealedKey (bucket: Buffer, epoch: number, sequence: number, index: number): Buffer {
  const key = Buffer.allocUnsafe(bucket.length + sealedTailBytes)
  bucket.copy(key)
  let at = writeTimeDescending(key, bucket.length, epoch)
  at = writeTimeDescending(key, at, sequence)
  key.writeUInt32BE(index, at)
  return key
}

export function sealedTail (key: Buffer): { epoch: number, sequence: number, index: number } {
  const at = key.length - sealedTailBytes
  return { epoch: readTimeDescending(key, at), sequence: readTimeDescending(key, at + timeBytes), index: key.readUInt32BE(key.length - 4) }
}

export interface SlabKeyParts {
  readonly tenant: string
  readonly shard: number
  readonly minute: number
  readonly slice: SliceId
}

export function slabPeriod (minute: number): number {
  return Math.floor(minute / slabPeriodUs) * slabPeriodUs
}

/** All slabs of a period, whoever's. */
export function slabPeriodPrefix (period: number): Buffer {
  const key = begin(tables.slab, headBytes + timeBytes)
  writeTime(key, headBytes, period)
  return key
}

export function slabKey (slab: SlabKeyParts): Buffer {
  const key = begin(tables.slab, headBytes + timeBytes + slab.tenant.length + 2 + timeBytes + journalBytes + timeBytes)
  writeSlice(key, writeSlabMinute(key, slab.tenant, slab.shard, slab.minute), slab.slice)
  return key
}

/** A shard's slabs of minutes in [fromMinute, toMinute], all inside one period. */
export function slabMinutes (tenant: string, shard: number, fromMinute: number, toMinute: number): { gte: Buffer, lt: Buffer } {
  const gte = begin(tables.slab, headBytes + timeBytes + tenant.length + 2 + timeBytes)
  writeSlabMinute(gte, tenant, shard, fromMinute)
  const last = Buffer.from(gte)
  writeSlabMinute(last, tenant, shard, toMinute)
  return { gte, lt: after(last) }
}

function writeSlabMinute (key: Buffer, tenant: string, shard: number, minute: number): number {
  let at = writeText(key, writeTime(key, headBytes, slabPeriod(minute)), tenant)
  key[at++] = shard
  return writeTime(key, at, minute)
}

export function readSlabKey (key: Buffer): SlabKeyParts {
  const tenantAt = headBytes + timeBytes
  const tail = key.length - journalBytes - timeBytes
  const minuteAt = tail - timeBytes
  return {
    tenant: readText(key, tenantAt, minuteAt - 1), shard: key[minuteAt - 1], minute: readTime(key, minuteAt), slice: readSlice(key, tail)
  }
}

export function seenPrefix (tenant: string, device: string): Buffer {
  const key = begin(tables.seen, headBytes + tenant.length + device.length + 2)
  writeText(key, writeText(key, headBytes, tenant), device)
  return key
}

/** @param hash tells lists of metrics apart, 8 bytes. */
export function seenKey (tenant: string, device: string, day: number, hash: Buffer): Buffer {
  const key = begin(tables.seen, headBytes + tenant.length + device.length + 2 + timeBytes + 8)
  hash.copy(key, writeTimeDescending(key, writeText(key, writeText(key, headBytes, tenant), device), day))
  return key
}

export function seenDay (key: Buffer): number {
  return readTimeDescending(key, key.length - 8 - timeBytes)
}

export const pendingTable = begin(tables.pending, headBytes)

/** Says that a slice wrote slabs of a period. */
export function pendingKey (retentionDays: number, period: number, slice: SliceId): Buffer {
  const key = begin(tables.pending, headBytes + 4 + timeBytes + journalBytes + timeBytes)
  writeSlice(key, writePendingPeriod(key, retentionDays, period), slice)
  return key
}

/** First possible key of a class and period. */
export function pendingPrefix (retentionDays: number, period: number): Buffer {
  const key = begin(tables.pending, headBytes + 4 + timeBytes)
  writePendingPeriod(key, retentionDays, period)
  return key
}

function writePendingPeriod (key: Buffer, retentionDays: number, period: number): number {
  key.writeUInt32BE(retentionDays, headBytes)
  return writeTime(key, headBytes + 4, period)
}

export function readPendingKey (key: Buffer): { retentionDays: number, period: number, slice: SliceId } {
  return {
    retentionDays: key.readUInt32BE(headBytes), period: readTime(key, headBytes + 4), slice: readSlice(key, headBytes + 4 + timeBytes)
  }
}
