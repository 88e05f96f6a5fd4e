/** Sealed hours without those that an erasure after their seal concerns: they hold points that are erased, until the bucket is sealed again. Pure. */
import { usPerHour } from '../core/reading.js'
import { sliceWindows, type TierWindows } from '../series/tiers/index.js'
import type { ErasedPart } from '../store/small-stores.js'

/** The same hours that `AnalyticsStore.erase` takes away. @param sealedAt stamp of the seal, µs */
export function withoutErasedHours (windows: TierWindows, sealedAt: number, erased: readonly ErasedPart[]): TierWindows {
  let left = windows
  for (const { stamp, metric = null, fromTs = 0, toTs = Infinity } of erased) {
    if (stamp <= sealedAt) continue
    const from = Math.floor(fromTs / usPerHour) * usPerHour
    left = left.flatMap(series => metric !== null && series.metric !== metric ? [series] : [...sliceWindows([series], -Infinity, from), ...sliceWindows([series], toTs, Infinity)])
  }
  return left
}
