/**
 * Credentials and who they stand for. A secret is `twd_` (device token), `twk_` (API key) or `twa_` (platform admin
 * key) and 256 random bits in base64url; the registry knows its SHA-256 only, so a look-up by hash leaks nothing
 * by its timing. Decisions are cached for `leaseMs`: a revoked credential is refused at the latest then, at once on
 * the node that revoked it.
 */
import { createHash, randomBytes } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import type { RegistryStore } from '../store/registry.js'
import type { Credential, Principal, Role } from '../tenancy/model.js'

const prefixes: Record<Role, string> = { device: 'twd_', admin: 'twa_', operator: 'twk_', application: 'twk_', viewer: 'twk_' }

export function newSecret (role: Role): string {
  return prefixes[role] + randomBytes(32).toString('base64url')
}

export function hashSecret (secret: string): string {
  return createHash('sha256').update(secret).digest('hex')
}

export function newCredential (role: Role, tenant: string | null, device: string | null, label: string, nowUs: number): { secret: string, credential: Credential } {
  const secret = newSecret(role)
  const id = randomBytes(9).toString('base64url').replaceAll('_', 'A').replaceAll('-', 'B')
  return { secret, credential: { hash: hashSecret(secret), id, role, tenant, device, label, createdAt: nowUs } }
}

export class Authenticator {
  readonly #registry: RegistryStore
  readonly #cache: LRUCache<string, { principal: Principal | null }>

  constructor (registry: RegistryStore, options: { leaseMs: number, cachedMax: number }) {
    this.#registry = registry
    this.#cache = new LRUCache({ max: options.cachedMax, ttl: options.leaseMs })
  }

  /** The cached answer: undefined where the registry must be asked. */
  cached (secret: string): Principal | null | undefined {
    return this.#cache.get(secret)?.principal
  }

  /** The principal of a secret; null when it is unknown, revoked, or its tenant is disabled. */
  async authenticate (secret: string): Promise<Principal | null> {
    if (secret.length < 20 || secret.length > 100) return null
    const cached = this.#cache.get(secret)
    if (cached !== undefined) return cached.principal
    const credential = await this.#registry.getCredential(hashSecret(secret))
    let principal: Principal | null = null
    if (credential !== null) {
      const tenant = credential.tenant === null ? null : await this.#registry.getTenant(credential.tenant)
      if (credential.tenant === null || (tenant !== null && !tenant.disabled)) {
        principal = { credentialId: credential.id, role: credential.role, tenant: credential.tenant, device: credential.device }
      }
    }
    this.#cache.set(secret, { principal })
    return principal
  }

  /** Forgets cached decisions, after a credential, device or tenant was changed on this node. */
  forget (): void {
    this.#cache.clear()
  }
}
