/** Tenants, devices and credentials as they are stored: the record types of the registry port. */

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
