/**
 * Port: what was revoked lately, so that every node cuts connections and forgets decisions that rest on it. The registry is
 * the truth; this only makes nodes look sooner than their leases would, and lets them find connections that outlive them.
 */

/** Someone who may no longer do what they could: one credential, a device with all of its, or all of a disabled tenant. */
export type Revocation =
  | { readonly kind: 'credential', readonly tenant: string | null, readonly credentialId: string }
  | { readonly kind: 'device', readonly tenant: string, readonly device: string }
  | { readonly kind: 'tenant', readonly tenant: string }

export interface RevocationLog {
  /** Rejects with `store_unavailable`; it may then have been added, and may be added again. */
  add(revocation: Revocation): Promise<void>
  /** The place behind what was added up to now. */
  end(): Promise<string>
  /** What was added after the place, oldest first, at most `limit`, and the place behind it. */
  readAfter(place: string, limit: number): Promise<{ readonly revocations: readonly Revocation[], readonly place: string }>
}
