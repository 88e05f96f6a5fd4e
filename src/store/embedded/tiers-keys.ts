/**
 * Keys and values of tier rows (format 1). The device comes first, so that a year of one kind is one range of one or two databases.
 *
 *     tier   tenant 0 device 0 kind8 start56 width16 bucketStart56 epoch56-desc sequence56-desc   -> asOf56, bytes
 *
 * The generation is part of the key: a row never replaces one of another generation, whoever writes last.
 */
import { usPerDay, usPerHour, usPerMinute } from '../../core/reading.js'
import type { Bucket, BucketWidthMinutes } from '../../series/partition-plan.js'
import type { Generation } from '../raw-store.js'
import { tierKinds, type TierKind, type TierRow } from '../tier-store.js'
import { after, readTime, readTimeDescending, timeBytes, writeText, writeTime, writeTimeDescending } from './key-bytes.js'
import { keyVersion } from './keys.js'

const tierTable = 0x28
const headBytes = 2
const bucketBytes = 2 + timeBytes
const generationBytes = 2 * timeBytes
/** What follows the kind. */
const tailBytes = timeBytes + bucketBytes + generationBytes

/** µs that a row of the kind stands for. */
export function periodUs (kind: TierKind): number {
  return kind === '1m' ? usPerHour : usPerDay
}

function begin (tenant: string, device: string, kind: TierKind, moreBytes: number): { key: Buffer, at: number } {
  const key = Buffer.allocUnsafe(headBytes + tenant.length + device.length + 3 + moreBytes)
  key[0] = keyVersion
  key[1] = tierTable
  const at = writeText(key, writeText(key, headBytes, tenant), device)
  key[at] = tierKinds.indexOf(kind)
  return { key, at: at + 1 }
}

export function tierKey (tenant: string, device: string, row: Pick<TierRow, 'kind' | 'start' | 'bucket'>, generation: Generation): Buffer {
  const { key, at: tail } = begin(tenant, device, row.kind, tailBytes)
  let at = writeTime(key, tail, row.start)
  key.writeUInt16BE(row.bucket.widthMinutes, at)
  at = writeTime(key, at + 2, row.bucket.start)
  writeTimeDescending(key, writeTimeDescending(key, at, generation.epoch), generation.sequence)
  return key
}

/** Keys of a kind whose period starts in [fromTs, toTs). */
export function tierRange (tenant: string, device: string, kind: TierKind, fromTs: number, toTs: number): { gte: Buffer, lt: Buffer } {
  return { gte: startKey(tenant, device, kind, fromTs), lt: startKey(tenant, device, kind, toTs) }
}

function startKey (tenant: string, device: string, kind: TierKind, start: number): Buffer {
  const { key, at } = begin(tenant, device, kind, timeBytes)
  writeTime(key, at, start)
  return key
}

/** First and last start that rows of a kind of the bucket can have. */
export function startsOf (kind: TierKind, { start, widthMinutes }: Bucket): { first: number, last: number } {
  const period = periodUs(kind)
  return { first: Math.floor(start / period) * period, last: Math.floor((start + widthMinutes * usPerMinute - 1) / period) * period }
}

/** A range that holds all rows of a kind of the bucket, and no others where the bucket is not wider than the period. */
export function bucketTierRange (tenant: string, device: string, kind: TierKind, bucket: Bucket): { gte: Buffer, lt: Buffer } {
  const { first, last } = startsOf(kind, bucket)
  if (first !== last) return tierRange(tenant, device, kind, first, last + 1)
  const { key, at } = begin(tenant, device, kind, timeBytes + bucketBytes)
  writeTime(key, at, first)
  key.writeUInt16BE(bucket.widthMinutes, at + timeBytes)
  writeTime(key, at + timeBytes + 2, bucket.start)
  return { gte: key, lt: after(key) }
}

export interface TierKeyParts {
  readonly start: number
  readonly bucket: Bucket
  readonly generation: Generation
}

export function readTierKey (key: Buffer): TierKeyParts {
  const at = key.length - tailBytes
  const generationAt = key.length - generationBytes
  return {
    start: readTime(key, at),
    bucket: { start: readTime(key, at + timeBytes + 2), widthMinutes: key.readUInt16BE(at + timeBytes) as BucketWidthMinutes },
    generation: { epoch: readTimeDescending(key, generationAt), sequence: readTimeDescending(key, generationAt + timeBytes) }
  }
}

export function encodeTierValue ({ asOf, bytes }: Pick<TierRow, 'asOf' | 'bytes'>): Buffer {
  const value = Buffer.allocUnsafe(timeBytes + bytes.length)
  value.set(bytes, writeTime(value, 0, asOf))
  return value
}

export function decodeTierValue (value: Buffer): Pick<TierRow, 'asOf' | 'bytes'> {
  return { asOf: readTime(value, 0), bytes: value.subarray(timeBytes) }
}
