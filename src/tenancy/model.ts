/** Tenants, devices and credentials as they are stored: the record types of the registry port. */
import type { Tier } from '../store/tier-store.js'

/** A tenant's retention since an accept stamp. What arrived is judged by the entry in force at its stamp. */
export interface RetentionEntry {
  readonly sinceStamp: number
  readonly days: number
}

export interface Tenant {
  readonly id: string
  readonly name: string
  /** µs */
  readonly createdAt: number
  /** Ascending by `sinceStamp`, at least one, the first at stamp 0; at most 32 (setting more merges the oldest). */
  readonly retention: readonly RetentionEntry[]
  readonly disabled: boolean
  /** Retention of the tiers since an accept stamp, as `retention`; absent in records of before: the defaults. */
  readonly tierRetention?: readonly TierRetentionEntry[]
}

/** Days that rows of each tier are kept, from the event time on. */
export interface TierRetentionEntry {
  readonly sinceStamp: number
  readonly days: Readonly<Record<Tier, number>>
}

/** A minute as long as raw is kept by default, hours five years, days ten. */
export const tierRetentionDefault: Readonly<Record<Tier, number>> = { '1m': 365, '1h': 1825, '1d': 3650 }

function tierRetentionOf (tenant: Tenant): readonly TierRetentionEntry[] {
  return tenant.tierRetention ?? [{ sinceStamp: 0, days: tierRetentionDefault }]
}

/** Days that a tier's rows are kept, as in force at a stamp. */
export function tierDaysAt (tenant: Tenant, tier: Tier, stampUs: number): number {
  const entries = tierRetentionOf(tenant)
  let { days } = entries[0]
  for (const entry of entries) if (entry.sinceStamp <= stampUs) ({ days } = entry)
  return days[tier]
}

/** All classes that rows of the tier may be stored under. */
export function tierClasses (tenant: Tenant, tier: Tier): number[] {
  return [...new Set(tierRetentionOf(tenant).map(entry => entry.days[tier]))]
}

export const retentionDaysDefault = 365
export const retentionDaysMax = 36_500

/** Retention in days that is in force at a stamp. */
export function retentionDaysAt (tenant: Tenant, stampUs: number): number {
  let days = tenant.retention[0].days
  for (const entry of tenant.retention) if (entry.sinceStamp <= stampUs) days = entry.days
  return days
}

export interface Device {
  readonly tenant: string
  readonly id: string
  readonly type: string
  readonly name: string
  /** A gateway may publish for the devices whose `gatewayId` names it. */
  readonly gateway: boolean
  readonly gatewayId: string | null
  readonly createdAt: number
  /** For choosing and grouping devices: at most 32, names 1 to 64 characters, values up to 256. Absent: none. */
  readonly tags?: Readonly<Record<string, string>>
}

/** What a connection or request may do. `admin` belongs to the platform, the others to one tenant. */
export type Role = 'admin' | 'operator' | 'application' | 'viewer' | 'device'

/** A stored credential. The secret itself is never stored, only its SHA-256 (the secret is 256 random bits). */
export interface Credential {
  /** SHA-256 of the secret, hex: the look-up key. */
  readonly hash: string
  /** Public id, for listing and revoking. */
  readonly id: string
  readonly role: Role
  /** null for platform admins only. */
  readonly tenant: string | null
  /** The device, for role `device`. */
  readonly device: string | null
  readonly label: string
  readonly createdAt: number
}

/** Who is behind a connection or a request, after authentication. */
export interface Principal {
  readonly credentialId: string
  readonly role: Role
  /** null for platform admins only. */
  readonly tenant: string | null
  readonly device: string | null
}
