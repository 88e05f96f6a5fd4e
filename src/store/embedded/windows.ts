/**
 * Which window (one LevelDB each) a row belongs to, and when a window has wholly expired. Pure. Windows make expiry
 * cheap: a directory is unlinked instead of rows being deleted one by one (docs/adr/0002-embedded-store.md).
 */
import { usPerDay, usPerHour } from '../../core/reading.js'
import type { Tier } from '../tier-store.js'

/** Classes up to this many days have windows of a day, longer ones of 30 days. */
export const dayWindowsRetentionDaysMax = 30
const monthUs = 30 * usPerDay
/** Idempotency keys are kept a day, so at most four of these windows hold any. */
export const idempotencyWindowUs = 12 * usPerHour

export function rawWindowUs (retentionDays: number): number {
  return retentionDays <= dayWindowsRetentionDaysMax ? usPerDay : monthUs
}

/** A chunk belongs to the window in which its bucket starts, a slab to that of its minute. */
export function rawWindowStart (retentionDays: number, ts: number): number {
  const widthUs = rawWindowUs(retentionDays)
  return Math.floor(ts / widthUs) * widthUs
}

/**
 * End of the event times that a raw window can hold, µs, exclusive. Buckets of all widths start at multiples of their
 * width, and windows do too, so the only buckets that reach past their window are the 30-day ones in a window of one day,
 * and they start in every thirtieth of such windows: that one is kept up to 29 days longer.
 */
export function rawWindowEnd (retentionDays: number, windowStart: number): number {
  const widthUs = rawWindowUs(retentionDays)
  return windowStart + (windowStart % monthUs === 0 ? monthUs : widthUs)
}

/** `seen` rows are few and small, and a look-up reads all of a device's: wide windows keep them in few files. */
export function seenWindowUs (retentionDays: number): number {
  return retentionDays <= dayWindowsRetentionDaysMax ? monthUs : 12 * monthUs
}

export function seenWindowStart (retentionDays: number, day: number): number {
  const widthUs = seenWindowUs(retentionDays)
  return Math.floor(day / widthUs) * widthUs
}

/**
 * Minutes lie in windows like raw. Rows of hours and days are few: a year of them is one or two databases, which are kept up to a
 * year longer than their last row.
 */
export function tierWindowUs (tier: Tier, retentionDays: number): number {
  return tier === '1m' ? rawWindowUs(retentionDays) : seenWindowUs(retentionDays)
}

/** A tier row belongs to the window in which its period starts; no period reaches past its window. */
export function tierWindowStart (tier: Tier, retentionDays: number, ts: number): number {
  const widthUs = tierWindowUs(tier, retentionDays)
  return Math.floor(ts / widthUs) * widthUs
}

export function idempotencyWindowStart (stamp: number): number {
  return Math.floor(stamp / idempotencyWindowUs) * idempotencyWindowUs
}
