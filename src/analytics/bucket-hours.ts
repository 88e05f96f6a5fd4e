/** The sealed hours of one bucket, as its tier rows say now. */
import { usPerDay, usPerMinute } from '../core/reading.js'
import type { Bucket } from '../series/partition-plan.js'
import { decodeTierRow, joinWindows, type TierWindows } from '../series/tiers/index.js'
import type { AnalyticsHours } from '../store/analytics-store.js'
import type { Store } from '../store/store.js'
import { tierClasses, type Tenant } from '../tenancy/model.js'
import { completeAt, readAfter } from './complete-hours.js'

export interface BucketOf { readonly tenant: string, readonly device: string, readonly bucket: Bucket }

/** Tenants are remembered for its own life, which is one task. */
export class BucketHours {
  readonly #store: Pick<Store, 'tiers' | 'getTenant' | 'getPlan'>
  readonly #tenants = new Map<string, Promise<Tenant | null>>()

  constructor (store: Pick<Store, 'tiers' | 'getTenant' | 'getPlan'>) {
    this.#store = store
  }

  /**
   * Their version is the stamp of the seal that wrote the rows; of two, while one writes, the lower: what the higher one
   * wrote comes with its own entry.
   * @param emptyVersion version where there are no rows: the stamp of a seal that is over.
   * @throws TwinfoldError as the store does, `corrupt_data`
   */
  async read ({ tenant, device, bucket }: BucketOf, emptyVersion: number): Promise<AnalyticsHours> {
    let record = this.#tenants.get(tenant)
    if (record === undefined) this.#tenants.set(tenant, record = this.#store.getTenant(tenant))
    const found = await record
    const parts: TierWindows[] = []
    let version = Infinity
    const dayStart = Math.floor(bucket.start / usPerDay) * usPerDay
    const range = { tenant, device, retentionDays: found === null ? [] : tierClasses(found, '1h') }
    for await (const row of this.#store.tiers.scanTiers(range, '1h', dayStart, bucket.start + bucket.widthMinutes * usPerMinute)) {
      if (row.bucket.start !== bucket.start || row.bucket.widthMinutes !== bucket.widthMinutes) continue
      parts.push(decodeTierRow(row.bytes))
      version = Math.min(version, row.sequence)
    }
    if (parts.length === 0) return { tenant, device, bucket, version: emptyVersion, windows: [] }
    const { plan } = await this.#store.getPlan(tenant, device)
    return { tenant, device, bucket, version, windows: joinWindows(parts), complete: completeAt(plan, bucket, readAfter(version)) }
  }
}
