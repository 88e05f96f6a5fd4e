/**
 * Port: rows of the aggregation pyramid (DESIGN 3.4, docs/adr/0011). A row belongs to the bucket whose seal wrote it (`RawStore.writeSealed`):
 * what a bucket holds is in the rows of that bucket alone, so that a seal never reads or rewrites another bucket's rows. A
 * period that several buckets share (a day of hourly buckets) has a row of each, and readers join them.
 *
 * Contract (test/store/tier-store.contract.ts):
 * - Of a bucket only the rows of its highest generation are ever seen, as one whole or, while a seal writes, old and new side by
 *   side, each complete in itself.
 * - The rows of a generation are visible before the head chunks that it covers go.
 * - A row is stored under its own retention class, which differs from the raw one.
 * - No read returns another tenant's rows.
 */
import type { Bucket } from '../series/partition-plan.js'
import type { DeviceRange } from './raw-store.js'

/**
 * `1m`: the minutes of a UTC day, or of an hour where all lie in one or a day's are too many for a row. `1h`: the hours of a UTC day. `1d`: a UTC day. `q1h`, `q1d`: the quantile sketches of a day's hours,
 * and of the day. Every row holds all metrics of the device.
 */
export const tierKinds = ['1m', '1h', '1d', 'q1h', 'q1d'] as const
export type TierKind = typeof tierKinds[number]

/** The resolutions that tenants set a retention for; sketches live as long as their tier. */
export const tiers = ['1m', '1h', '1d'] as const
export type Tier = typeof tiers[number]

export function tierOfKind (kind: TierKind): Tier {
  return kind === 'q1h' ? '1h' : kind === 'q1d' ? '1d' : kind
}

export interface TierRow {
  readonly kind: TierKind
  /** µs: the UTC day, or the hour of a `1m` row, that the row stands for; windows outside its bucket are not in it. */
  readonly start: number
  /** The bucket whose points it holds. */
  readonly bucket: Bucket
  /**
   * Erasures with a stamp up to this one, µs, are taken into account. A reader that knows of a later erasure of points in the row's
   * period folds them from raw instead.
   */
  readonly asOf: number
  /** src/series/tiers/FORMAT.md */
  readonly bytes: Uint8Array
}

export interface FoundTierRow extends TierRow {
  /** Of the generation that wrote it: the stamp of its seal. */
  readonly sequence: number
}

export interface TierStore {
  /**
   * Rows of a kind whose period begins in [fromTs, toTs), ascending by start, then bucket. `range.retentionDays`: all classes that the
   * tenant's rows of that tier may be stored under. The cost grows with the length of the range, also where there are no rows: bound it by
   * the tier's retention.
   */
  scanTiers(range: DeviceRange, kind: TierKind, fromTs: number, toTs: number): AsyncIterable<FoundTierRow>
  /** The same rows at once: for ranges whose rows fit into memory, and faster there. */
  readTiers(range: DeviceRange, kind: TierKind, fromTs: number, toTs: number): Promise<readonly FoundTierRow[]>
  /** Drops what has wholly expired, as `RawStore.dropExpired`. */
  dropExpiredTiers(nowUs: number, keepDays: (tier: Tier, retentionDays: number) => number): Promise<number>
}
