/**
 * Tenants by id, remembered for a lease: a change made elsewhere is seen at the latest then, one made through this node at
 * once (`forget`). While the store is away, known tenants are remembered longer (src/gate/lease-cache.ts).
 */
import type { Clock } from '../core/clock.js'
import { registryStaleMsMax } from '../core/limits.js'
import { LeaseCache } from '../gate/lease-cache.js'
import type { RegistryStore } from '../store/registry.js'
import type { Tenant } from './model.js'

export interface TenantCacheOptions {
  readonly leaseMs: number
  readonly cachedMax: number
  readonly clock: Pick<Clock, 'monotonicMs'>
}

export class TenantCache {
  readonly #registry: Pick<RegistryStore, 'getTenant'>
  readonly #answers: LeaseCache<Tenant | null>

  constructor (registry: Pick<RegistryStore, 'getTenant'>, { leaseMs, cachedMax, clock }: TenantCacheOptions) {
    this.#registry = registry
    this.#answers = new LeaseCache<Tenant | null>({
      leaseMs, rememberedMax: cachedMax, monotonicMs: () => clock.monotonicMs(), staleMsMax: registryStaleMsMax, isUnknown: tenant => tenant === null
    })
  }

  /** The remembered answer without waiting; undefined where the registry must be asked. */
  peek (id: string): Tenant | null | undefined {
    return this.#answers.peek(id)
  }

  /** null: there is no such tenant. Faults of the registry are thrown and not remembered. */
  async get (id: string): Promise<Tenant | null> {
    return await this.#answers.get(id, async () => await this.#registry.getTenant(id))
  }

  /** Drops one tenant, or all: what was read before the change is not remembered after it. */
  forget (id?: string): void {
    this.#answers.forget(id)
  }
}
