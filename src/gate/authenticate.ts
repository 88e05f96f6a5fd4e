/**
 * Credentials and who they stand for. A secret is `twd_` (device token), `twk_` (API key) or `twa_` (platform admin
 * key) and 256 random bits in base64url; the registry knows its SHA-256 only, so a look-up by hash leaks nothing
 * by its timing. Decisions are cached for `leaseMs`: a revoked credential is refused at the latest then, at once on
 * the node that revoked it. While the registry is away, known credentials are served on (lease-cache.ts).
 */
import { createHash, randomBytes } from 'node:crypto'
import { systemClock, type Clock } from '../core/clock.js'
import { registryStaleMsMax } from '../core/limits.js'
import type { RegistryStore } from '../store/registry.js'
import type { Credential, Principal, Role } from '../tenancy/model.js'
import { LeaseCache } from './lease-cache.js'

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

export interface AuthenticatorOptions {
  readonly leaseMs: number
  readonly cachedMax: number
  /** Default: the system's. */
  readonly clock?: Pick<Clock, 'monotonicMs'>
}

export class Authenticator {
  readonly #registry: Pick<RegistryStore, 'getCredential' | 'getTenant'>
  readonly #answers: LeaseCache<Principal | null>

  constructor (registry: Pick<RegistryStore, 'getCredential' | 'getTenant'>, { leaseMs, cachedMax, clock = systemClock }: AuthenticatorOptions) {
    this.#registry = registry
    this.#answers = new LeaseCache<Principal | null>({
      leaseMs, rememberedMax: cachedMax, monotonicMs: () => clock.monotonicMs(), staleMsMax: registryStaleMsMax, isUnknown: principal => principal === null
    })
  }

  /** The cached answer: undefined where the registry must be asked. */
  cached (secret: string): Principal | null | undefined {
    return this.#answers.peek(secret)
  }

  /**
   * The principal of a secret; null when it is unknown, revoked, or its tenant is disabled.
   * @throws TwinfoldError `store_unavailable` where the registry does not answer and the secret was not seen lately.
   */
  async authenticate (secret: string): Promise<Principal | null> {
    if (secret.length < 20 || secret.length > 100) return null
    return await this.#answers.get(secret, async () => await this.#ask(secret))
  }

  /**
   * Forgets cached decisions about the principals that are wanted (default: about all), after a credential, device or tenant
   * was changed on this node. Decisions against unknown secrets go in any case.
   */
  forget (wanted: (principal: Principal) => boolean = () => true): void {
    this.#answers.forgetWhere(principal => principal === null || wanted(principal))
  }

  async #ask (secret: string): Promise<Principal | null> {
    const credential = await this.#registry.getCredential(hashSecret(secret))
    if (credential === null) return null
    const principal: Principal = { credentialId: credential.id, role: credential.role, tenant: credential.tenant, device: credential.device }
    if (credential.tenant === null) return principal
    const tenant = await this.#registry.getTenant(credential.tenant)
    return tenant === null || tenant.disabled ? null : principal
  }
}
