/**
 * `verify`: recomputes the tiers of every sealed bucket from raw and reports every difference (INVARIANTS 4). Reads only; it may run
 * beside sealers, and beside servers where the store allows that.
 */
import { usPerDay } from '../core/reading.js'
import { bucketsIn, saltsToRead, type Bucket } from '../series/partition-plan.js'
import type { Page } from '../store/registry.js'
import type { Store } from '../store/store.js'
import { retentionDaysAt, type Tenant } from '../tenancy/model.js'
import { verifyBucket, type Difference } from './verify-bucket.js'

export type { Difference } from './verify-bucket.js'

export interface VerifyOptions {
  /** Default: all tenants. */
  readonly tenant?: string
  /** With a tenant. Default: all of its devices. */
  readonly device?: string
  /** µs, [fromTs, toTs): buckets that meet it. Default: all. */
  readonly fromTs?: number
  readonly toTs?: number
  /** Wall clock, µs. */
  readonly nowUs: number
  /** Called for every difference, and now and then with how far it is. */
  readonly onDifference?: (difference: Difference) => void
  readonly onProgress?: (sums: VerifySums) => void
}

export interface VerifySums {
  tenants: number
  devices: number
  /** Sealed ones, which were compared. */
  buckets: number
  /** Buckets that were never sealed: their points are folded when they are asked for. */
  unsealed: number
  rows: number
  points: number
  differences: number
}

export interface VerifyResult extends VerifySums {
  /** The first ones. */
  readonly listed: readonly Difference[]
}

const listedMax = 1000
const perPage = 200
const bucketsPerProgress = 500

/** @throws TwinfoldError `store_unavailable`; `not_found` is answered by an empty result. */
export async function verifyStore (store: Store, options: VerifyOptions): Promise<VerifyResult> {
  const sums: VerifySums = { tenants: 0, devices: 0, buckets: 0, unsealed: 0, rows: 0, points: 0, differences: 0 }
  const listed: Difference[] = []
  for await (const tenant of tenantsOf(store, options)) {
    sums.tenants++
    for await (const device of devicesOf(store, tenant, options)) {
      sums.devices++
      await verifyDevice(store, tenant, device, options, sums, listed)
    }
  }
  return { ...sums, listed }
}

async function verifyDevice (store: Store, tenant: Tenant, device: string, options: VerifyOptions, sums: VerifySums, listed: Difference[]): Promise<void> {
  const { plan } = await store.getPlan(tenant.id, device)
  const retentionDays = [...new Set(tenant.retention.map(entry => entry.days))]
  const salts = saltsToRead(plan)
  for (const bucket of await bucketsSeen(store, tenant, device, options)) {
    const verdict = await verifyBucket(store, tenant, { tenant: tenant.id, device, retentionDays, bucket, salts }, options.nowUs)
    if (verdict.state === 'sealed') sums.buckets++
    else if (verdict.state === 'unsealed') sums.unsealed++
    sums.rows += verdict.rows
    sums.points += verdict.points
    sums.differences += verdict.differences.length
    for (const difference of verdict.differences) {
      if (listed.length < listedMax) listed.push(difference)
      options.onDifference?.(difference)
    }
    if ((sums.buckets + sums.unsealed) % bucketsPerProgress === 0) options.onProgress?.(sums)
  }
}

/** Buckets of the days on which the device had points, those left out whose raw points may have expired in part. */
async function bucketsSeen (store: Store, tenant: Tenant, device: string, { fromTs = 0, toTs = Infinity, nowUs }: VerifyOptions): Promise<Bucket[]> {
  const { plan } = await store.getPlan(tenant.id, device)
  const oldestTs = nowUs - (retentionDaysAt(tenant, nowUs) + 1) * usPerDay
  const buckets = new Map<string, Bucket>()
  const range = { tenant: tenant.id, device, retentionDays: [...new Set(tenant.retention.map(entry => entry.days))] }
  for await (const { day } of store.raw.scanSeen(range)) {
    if (day + usPerDay <= fromTs) break
    if (day >= toTs || day < oldestTs) continue
    for (const bucket of bucketsIn(plan, Math.max(day, fromTs), Math.min(day + usPerDay, toTs))) {
      if (bucket.start >= oldestTs) buckets.set(`${bucket.widthMinutes}:${bucket.start}`, bucket)
    }
  }
  return [...buckets.values()].sort((a, b) => a.start - b.start)
}

async function * tenantsOf (store: Store, { tenant: id }: VerifyOptions): AsyncGenerator<Tenant> {
  if (id !== undefined) {
    const tenant = await store.getTenant(id)
    if (tenant !== null) yield tenant
    return
  }
  for (let cursor: string | null = null, first = true; first || cursor !== null; first = false) {
    const page: Page<Tenant> = await store.listTenants(cursor, perPage)
    yield * page.items
    cursor = page.next
  }
}

async function * devicesOf (store: Store, tenant: Tenant, { device }: VerifyOptions): AsyncGenerator<string> {
  if (device !== undefined) {
    yield device
    return
  }
  for (let cursor: string | null = null, first = true; first || cursor !== null; first = false) {
    const page: Page<{ readonly id: string }> = await store.listDevices(tenant.id, cursor, perPage)
    for (const { id } of page.items) yield id
    cursor = page.next
  }
}
