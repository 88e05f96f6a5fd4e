/**
 * What came late. Which of the buckets that were written to the sealer must be told of (DESIGN 3.2). Those whose time is past, so that late points
 * are in the tiers soon; and narrow ones, which end soon. All others end once a day or less, and the sealer's sweep finds them. Pure.
 */
import { usPerHour, usPerMinute } from '../core/reading.js'
import type { DeviceChunkRow } from '../store/raw-store.js'
import type { BucketName } from '../../workers/seal-protocol.js'

/** Buckets told of a slice; of more, the sweep finds the rest. */
const bucketsMax = 10_000
/** Wider buckets end once a day or less. */
export const narrowMinutesMax = 60

export function lateBuckets (chunks: readonly Pick<DeviceChunkRow, 'tenant' | 'device' | 'bucket'>[], nowUs: number): BucketName[] {
  const late = new Map<string, BucketName>()
  for (const { tenant, device, bucket } of chunks) {
    if (bucket.widthMinutes > narrowMinutesMax && bucket.start + bucket.widthMinutes * usPerMinute > nowUs) continue
    late.set(`${tenant}\0${device}\0${bucket.widthMinutes}\0${bucket.start}`, { tenant, device, bucket })
    if (late.size >= bucketsMax) break
  }
  return [...late.values()]
}

const lateUs = 15 * usPerMinute
/** Around the end of an hour readings come a little late as a rule. */
const slackUs = 2 * usPerMinute

/**
 * Readings of event times before this (µs), accepted at the stamp, are late: older than a quarter of an hour, or of an hour before, so
 * that the bucket may be sealed already. Grows with the stamp: what was late once stays so.
 */
export function lateMinutes (stamp: number): number {
  return Math.max(stamp - lateUs, Math.min(stamp - slackUs, Math.floor(stamp / usPerHour) * usPerHour))
}
