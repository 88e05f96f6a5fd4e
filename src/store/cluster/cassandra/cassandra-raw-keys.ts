/**
 * Keys and lifetimes of the raw tables (schemas/cassandra/0005-raw.cql). Pure.
 *
 * A head chunk's clustering key `k` is journal (8 bytes), mark (7), part (4), big-endian: rows stand in the order of slices,
 * and all rows of a slice are one range.
 */
import { TwinfoldError } from '../../../core/errors.js'
import { usPerMinute, type SliceId } from '../../../core/reading.js'
import type { BucketRef } from '../../raw-store.js'

const journalBytes = 8
const markBytes = 7
export const sliceKeyBytes = journalBytes + markBytes
export const chunkKeyBytes = sliceKeyBytes + 4

/** Cassandra refuses a longer TTL; what is kept longer never expires. */
const ttlSecondsMax = 630_720_000
const secondsPerDay = 86_400

/**
 * Seconds a row lives: the class, the width of what it stands for, and a day. A row is written no earlier than ten minutes
 * before its newest point, so it outlives the retention of every one. 0: for ever.
 */
export function ttlSeconds (retentionDays: number, widthMinutes: number): number {
  const seconds = (retentionDays + 1) * secondsPerDay + widthMinutes * 60
  return seconds > ttlSecondsMax ? 0 : seconds
}

function writeSlice (key: Buffer, slice: SliceId): void {
  key.write(slice.journalId, 0, journalBytes, 'hex')
  const mark = Math.min(slice.mark, Number.MAX_SAFE_INTEGER)
  key[journalBytes] = Math.floor(mark / 2 ** 48)
  key.writeUIntBE(mark % 2 ** 48, journalBytes + 1, 6)
}

export function chunkKey (slice: SliceId, part: number): Buffer {
  const key = Buffer.allocUnsafe(chunkKeyBytes)
  writeSlice(key, slice)
  key.writeUInt32BE(part, sliceKeyBytes)
  return key
}

export function readChunkKey (key: Buffer): { slice: SliceId, part: number } {
  return {
    slice: { journalId: key.toString('hex', 0, journalBytes), mark: key[journalBytes] * 2 ** 48 + key.readUIntBE(journalBytes + 1, 6) },
    part: key.readUInt32BE(sliceKeyBytes)
  }
}

/** Tells slices apart in sets. */
export function sliceName (slice: SliceId): string {
  return `${slice.journalId}:${slice.mark}`
}

/** The partition of a bucket's head or sealed chunks in one salt, as the parameters that every statement begins with. */
export function bucketKey (ref: Pick<BucketRef, 'tenant' | 'device' | 'bucket'>, salt: number): (string | number)[] {
  return [ref.tenant, ref.device, ref.bucket.widthMinutes, ref.bucket.start, salt]
}

/** Partitions of a journal and period that slabs are spread over. */
export const slabSalts = 16

export function slabSalt (shard: number): number {
  return shard % slabSalts
}

/**
 * The period, µs, that a slab stands under: the minute in which its slice was accepted, the same whenever the slice is packed
 * again. Slabs of unknown acceptance share one.
 */
export function slabArrival (slab: { readonly stamp?: number }): number {
  return slab.stamp === undefined ? 0 : Math.floor(slab.stamp / usPerMinute) * usPerMinute
}

export interface SlabKey {
  readonly tenant: string
  readonly shard: number
  readonly minute: number
  readonly slice: SliceId
  readonly stamp?: number
}

export function slabPartition (slab: SlabKey): (string | number)[] {
  return [slab.slice.journalId, slabArrival(slab), slabSalt(slab.shard)]
}

export function slabKey (slab: SlabKey): (string | number)[] {
  return [...slabPartition(slab), slab.tenant, slab.shard, slab.minute, slab.slice.mark]
}

/** Bytes of rows in one batch (the client allows 64 KiB). */
export const batchBytesMax = 48 * 1024

/** Gathers by key, in the order of first appearance. */
export function groupBy<T> (items: Iterable<T>, keyOf: (item: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>()
  for (const item of items) {
    const key = keyOf(item)
    const group = groups.get(key)
    if (group === undefined) groups.set(key, [item])
    else group.push(item)
  }
  return groups
}

/** @throws TwinfoldError `corrupt_data` */
export function damaged (what: string): TwinfoldError {
  return new TwinfoldError('corrupt_data', `Cassandra gave ${what}`)
}
