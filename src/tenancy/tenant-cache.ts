/**
 * Tenants by id, remembered for a lease: a change made elsewhere is seen at the latest then, one made through this node at
 * once (`forget`). Bounded: the `cachedMax` tenants used last, unknown ids included, so that guessing ids costs no memory.
 */
import { LRUCache } from 'lru-cache'
import type { Clock } from '../core/clock.js'
import type { RegistryStore } from '../store/registry.js'
import type { Tenant } from './model.js'

export interface TenantCacheOptions {
  readonly leaseMs: number
  readonly cachedMax: number
  readonly clock: Pick<Clock, 'monotonicMs'>
}

interface Entry { readonly tenant: Tenant | null, readonly untilMs: number }

export class TenantCache {
  readonly #registry: Pick<RegistryStore, 'getTenant'>
  readonly #options: TenantCacheOptions
  readonly #entries: LRUCache<string, Entry>
  /** Look-ups that are under way, so that a burst for one tenant asks once. */
  readonly #asking = new Map<string, Promise<Tenant | null>>()
  #generation = 0

  constructor (registry: Pick<RegistryStore, 'getTenant'>, options: TenantCacheOptions) {
    this.#registry = registry
    this.#options = options
    this.#entries = new LRUCache({ max: options.cachedMax })
  }

  /** The remembered answer without waiting; undefined where the registry must be asked. */
  peek (id: string): Tenant | null | undefined {
    const entry = this.#entries.get(id)
    return entry === undefined || entry.untilMs <= this.#options.clock.monotonicMs() ? undefined : entry.tenant
  }

  /** null: there is no such tenant. Faults of the registry are thrown and not remembered. */
  async get (id: string): Promise<Tenant | null> {
    const known = this.peek(id)
    if (known !== undefined) return known
    const asking = this.#asking.get(id)
    if (asking !== undefined) return await asking
    const asked = this.#ask(id)
    this.#asking.set(id, asked)
    try {
      return await asked
    } finally {
      if (this.#asking.get(id) === asked) this.#asking.delete(id)
    }
  }

  /** Drops one tenant, or all: what was read before the change is not remembered after it. */
  forget (id?: string): void {
    this.#generation++
    if (id === undefined) {
      this.#entries.clear()
      this.#asking.clear()
    } else {
      this.#entries.delete(id)
      this.#asking.delete(id)
    }
  }

  async #ask (id: string): Promise<Tenant | null> {
    const generation = this.#generation
    // The lease counts from before the question: the answer is at least that old.
    const untilMs = this.#options.clock.monotonicMs() + this.#options.leaseMs
    const tenant = await this.#registry.getTenant(id)
    if (generation === this.#generation) this.#entries.set(id, { tenant, untilMs })
    return tenant
  }
}
