/**
 * The partition plan: which bucket a timestamp of a device falls into, and over how many salts its bucket is
 * spread (DESIGN 3.3). Pure. A bucket is identified by (width, start), so a change of width in the middle of a
 * wider bucket is unambiguous: a reader asks every bucket that any part of the history puts into its range.
 */
import { hash32 } from '../core/ids.js'
import { usPerDay, usPerHour, usPerMinute, type SliceId } from '../core/reading.js'

/** Widths in minutes. */
export const bucketWidthsMinutes = [1, 60, 1440, 43_200] as const
export type BucketWidthMinutes = typeof bucketWidthsMinutes[number]

export interface WidthSince {
  /** Event time in µs from which the width holds; the first entry is 0. */
  readonly fromTs: number
  readonly widthMinutes: BucketWidthMinutes
}

export interface SaltsSince {
  /** Accept stamp in µs from which writers use that many salts. Readers ask all salts of every entry at once. */
  readonly fromStamp: number
  readonly salts: number
}

export interface PartitionPlan {
  /** Ascending by fromTs; at most 64. */
  readonly widths: readonly WidthSince[]
  /** Ascending by fromStamp, growing. */
  readonly salts: readonly SaltsSince[]
}

export const defaultPlan: PartitionPlan = {
  widths: [{ fromTs: 0, widthMinutes: 1440 }],
  salts: [{ fromStamp: 0, salts: 1 }]
}

/** A change of width is written at least this far ahead of event time: twice the allowed future. */
export const widthChangeAheadUs = 20 * usPerMinute
/** A lease of a plan in a writer; new salts are used after two of them. */
export const planLeaseUs = 10e6
export const saltsMax = 64
export const widthChangesMax = 64
/** A partition is meant to stay below this; the plan acts before. */
export const partitionBytesTarget = 4 * 1024 * 1024

export interface Bucket {
  /** µs, a multiple of the width. */
  readonly start: number
  readonly widthMinutes: BucketWidthMinutes
}

export function widthAt (plan: PartitionPlan, ts: number): BucketWidthMinutes {
  let width = plan.widths[0].widthMinutes
  for (const entry of plan.widths) if (entry.fromTs <= ts) width = entry.widthMinutes
  return width
}

export function bucketOf (plan: PartitionPlan, ts: number): Bucket {
  const widthMinutes = widthAt(plan, ts)
  const widthUs = widthMinutes * usPerMinute
  return { start: Math.floor(ts / widthUs) * widthUs, widthMinutes }
}

/** Every salt that may hold rows of the device. */
export function saltsToRead (plan: PartitionPlan): number {
  return plan.salts[plan.salts.length - 1].salts
}

/** The salt for a slice's chunk, the same at every repetition of the slice. */
export function saltFor (plan: PartitionPlan, slice: SliceId, stamp: number): number {
  let salts = 1
  for (const entry of plan.salts) if (entry.fromStamp <= stamp) salts = entry.salts
  return salts === 1 ? 0 : hash32(`${slice.journalId}:${slice.mark}`) % salts
}

/** Buckets that can hold timestamps in [fromTs, toTs), in ascending order of start; wider first at a tie. */
export function bucketsIn (plan: PartitionPlan, fromTs: number, toTs: number): Bucket[] {
  const buckets: Bucket[] = []
  for (let i = 0; i < plan.widths.length; i++) {
    const sinceTs = Math.max(plan.widths[i].fromTs, fromTs)
    const untilTs = Math.min(plan.widths[i + 1]?.fromTs ?? Infinity, toTs)
    const { widthMinutes } = plan.widths[i]
    const widthUs = widthMinutes * usPerMinute
    for (let start = Math.floor(sinceTs / widthUs) * widthUs; start < untilTs; start += widthUs) {
      buckets.push({ start, widthMinutes })
    }
  }
  return buckets
}

/** What was measured of a device lately. */
export interface BucketLoad {
  /** Bytes of rows a second that were written for the device. */
  readonly bytesPerSecond: number
  /** Rows a second. */
  readonly rowsPerSecond: number
}

const widthSeconds = (width: BucketWidthMinutes): number => width * 60

/** Bytes a second that count: rows count as 100 bytes at least, because a partition of many tiny rows is as slow as a large one. */
const weight = (load: BucketLoad): number => Math.max(load.bytesPerSecond, load.rowsPerSecond * 100)

/**
 * The width for a load: the widest whose bucket stays below the target on one salt. Where that is a minute, an hour on as many
 * salts as it takes, as long as there are so many: its salts are fewer partitions to read than an hour of minutes, each on the
 * salts that the device has by then. A wider bucket than now is taken only if it would stay under a quarter of the target.
 */
function wantedWidth (bytesPerSecond: number, current: BucketWidthMinutes): BucketWidthMinutes {
  const expected = (width: BucketWidthMinutes): number => bytesPerSecond * widthSeconds(width)
  let wanted: BucketWidthMinutes = 1
  for (const width of bucketWidthsMinutes) if (expected(width) <= partitionBytesTarget) wanted = width
  if (wanted === 1 && expected(60) <= saltsMax * partitionBytesTarget) wanted = 60
  return wanted > current && expected(wanted) > partitionBytesTarget / 4 ? current : wanted
}

/**
 * The plan that the load asks for, or null when the present one serves. Salts grow at once (used by writers after two leases);
 * the width changes `widthChangeAheadUs` ahead at the earliest, and until then the salts must hold what the present bucket gets.
 */
export function adaptPlan (plan: PartitionPlan, load: BucketLoad, nowUs: number): PartitionPlan | null {
  const bytesPerSecond = weight(load)
  const current = plan.widths[plan.widths.length - 1]
  const wanted = wantedWidth(bytesPerSecond, current.widthMinutes)
  // A pending change of width (fromTs ahead) is left to happen first.
  const widthChanges = wanted !== current.widthMinutes && current.fromTs <= nowUs && plan.widths.length < widthChangesMax
  let { widths, salts } = plan
  if (widthChanges) {
    const wantedUs = wanted * usPerMinute
    const fromTs = Math.ceil((nowUs + widthChangeAheadUs) / wantedUs) * wantedUs
    widths = [...widths, { fromTs: wanted > usPerHour / usPerMinute ? Math.ceil(fromTs / usPerDay) * usPerDay : fromTs, widthMinutes: wanted }]
  }
  const saltsNow = saltsToRead(plan)
  const saltsWanted = Math.min(saltsMax, Math.max(saltsNow, Math.ceil(largestBucketBytes(widths, bytesPerSecond, nowUs) / partitionBytesTarget)))
  if (!widthChanges && saltsWanted === saltsNow) return null
  if (saltsWanted > saltsNow) salts = [...salts, { fromStamp: nowUs + 2 * planLeaseUs, salts: saltsWanted }]
  return { widths, salts }
}

/** Bytes that the largest bucket from now on gets at this rate. A width that ends soon fills its bucket until then at most. */
function largestBucketBytes (widths: readonly WidthSince[], bytesPerSecond: number, nowUs: number): number {
  let largest = 0
  widths.forEach(({ fromTs, widthMinutes }, i) => {
    const remainingUs = (widths[i + 1]?.fromTs ?? Infinity) - Math.max(nowUs, fromTs)
    if (remainingUs > 0) largest = Math.max(largest, bytesPerSecond * Math.min(widthSeconds(widthMinutes), remainingUs / 1e6))
  })
  return largest
}
