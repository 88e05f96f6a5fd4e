/** Sealed hours without those that an erasure after their seal concerns: they hold points that are erased, until the bucket is sealed again. Pure. */
import { usPerHour, usPerMinute } from '../core/reading.js'
import type { Bucket } from '../series/partition-plan.js'
import { sliceWindows, type TierWindows } from '../series/tiers/index.js'
import type { ErasedPart } from '../store/small-stores.js'

/** The same hours that `AnalyticsStore.erase` takes away. @param version stamp of the bucket's seal, µs */
export function withoutErasedHours (windows: TierWindows, { bucket, version }: { readonly bucket: Bucket, readonly version: number }, erased: readonly ErasedPart[]): TierWindows {
  let left = windows
  for (const { stamp, metric = null, fromTs = 0, toTs = Infinity } of erased) {
    if (stamp <= version || toTs <= bucket.start || fromTs >= bucket.start + bucket.widthMinutes * usPerMinute) continue
    const from = Math.floor(fromTs / usPerHour) * usPerHour
    left = left.flatMap(series => metric !== null && series.metric !== metric ? [series] : [...sliceWindows([series], -Infinity, from), ...sliceWindows([series], toTs, Infinity)])
  }
  return left
}
