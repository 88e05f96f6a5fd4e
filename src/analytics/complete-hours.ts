/**
 * When sealed hours answer for all points of their time (`AnalyticsHours.complete`): of what the store held at which moment they are, and which of
 * them share their hour with no other bucket.
 */
import { shardOf } from '../core/ids.js'
import { timestampUsMax } from '../core/limits.js'
import { usPerHour, usPerMinute, usPerSecond } from '../core/reading.js'
import { decodeSlabDevice } from '../series/codec.js'
import { bucketOf, type Bucket, type PartitionPlan } from '../series/partition-plan.js'
import type { AnalyticsHours } from '../store/analytics-store.js'
import type { DeviceRange, RawStore } from '../store/raw-store.js'
import { joinSpans, type Span } from '../store/spans.js'

/**
 * Stamps may run ahead of the clock by as much, after many readings at once or from a node whose clock is ahead. Where it is more, a late point
 * may be in fleet answers only when its bucket is sealed again.
 */
const stampsAheadUs = 2 * usPerSecond

/** When the store was read for rows of a seal with the stamp, at the earliest: stamps are taken before. */
export function readAfter (sealStamp: number): number {
  return sealStamp - stampsAheadUs
}

/** A change of the plan lies ahead of every point that is there: what it says of an hour now, it will say. */
export function completeAt (plan: PartitionPlan, bucket: Bucket, readAt: number): AnalyticsHours['complete'] {
  return {
    readAt,
    isWhole: hour => {
      const own = bucketOf(plan, hour)
      return bucket.widthMinutes * usPerMinute >= usPerHour && own.start === bucket.start && own.widthMinutes === bucket.widthMinutes &&
        plan.widths.every(({ fromTs }) => fromTs <= hour || fromTs >= hour + usPerHour)
    }
  }
}

/** Times are all that is asked for. */
const noMetrics: ReadonlySet<string> = new Set()

/**
 * Where the device has points that may not be sealed. What lies elsewhere was sealed before the call, in the tier rows that are read after it:
 * slabs are looked at before the head, and what leaves either was in the next place before. @throws TwinfoldError as the store does
 */
export async function unsealedSpans (raw: Pick<RawStore, 'scanSlabs' | 'listHeadSpans'>, range: DeviceRange): Promise<readonly Span[]> {
  const spans: Span[] = []
  for await (const { minute, bytes } of raw.scanSlabs(range.tenant, shardOf(range.device), range.retentionDays, 0, timestampUsMax)) {
    const chunk = decodeSlabDevice(bytes, range.device, noMetrics)
    if (chunk !== null && chunk.ts.length > 0) spans.push({ fromTs: minute, toTs: minute + usPerMinute })
  }
  for (const { minTs, maxTs } of await raw.listHeadSpans(range, 0, timestampUsMax)) spans.push({ fromTs: minTs, toTs: maxTs + 1 })
  return joinSpans(spans)
}
