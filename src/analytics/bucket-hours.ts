/** The sealed hours of one bucket, as its tier rows say now. */
import { usPerDay, usPerMinute } from '../core/reading.js'
import type { Bucket } from '../series/partition-plan.js'
import { decodeTierRow, joinWindows, type TierWindows } from '../series/tiers/index.js'
import type { AnalyticsHours } from '../store/analytics-store.js'
import type { Store } from '../store/store.js'
import { tierClasses, type Tenant } from '../tenancy/model.js'

export interface BucketOf { readonly tenant: string, readonly device: string, readonly bucket: Bucket }

/** Tenants are remembered for its own life, which is one task. */
export class BucketHours {
  readonly #store: Pick<Store, 'tiers' | 'getTenant'>
  readonly #tenants = new Map<string, Promise<Tenant | null>>()

  constructor (store: Pick<Store, 'tiers' | 'getTenant'>) {
    this.#store = store
  }

  /**
   * @param version stamp of a seal whose rows are written: the rows read now are its own, or newer ones, whose seal comes with a greater one.
   * @throws TwinfoldError as the store does, `corrupt_data`
   */
  async read ({ tenant, device, bucket }: BucketOf, version: number): Promise<AnalyticsHours> {
    let record = this.#tenants.get(tenant)
    if (record === undefined) this.#tenants.set(tenant, record = this.#store.getTenant(tenant))
    const found = await record
    const parts: TierWindows[] = []
    const dayStart = Math.floor(bucket.start / usPerDay) * usPerDay
    const range = { tenant, device, retentionDays: found === null ? [] : tierClasses(found, '1h') }
    for await (const row of this.#store.tiers.scanTiers(range, '1h', dayStart, bucket.start + bucket.widthMinutes * usPerMinute)) {
      if (row.bucket.start === bucket.start && row.bucket.widthMinutes === bucket.widthMinutes) parts.push(decodeTierRow(row.bytes))
    }
    return { tenant, device, bucket, version, windows: joinWindows(parts) }
  }
}
