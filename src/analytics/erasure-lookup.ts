/**
 * Which points are erased, for a projection that meets every device of a tenant: the tenant's erasures are listed once and
 * remembered for a lease, instead of one look-up a device. Of a tenant with more erasures than are remembered, every device is
 * looked up.
 */
import { LRUCache } from 'lru-cache'
import type { ErasedPart, ErasureStore } from '../store/small-stores.js'

export interface ErasureLookupOptions {
  readonly store: Pick<ErasureStore, 'listErasures' | 'erasedParts'>
  /** How long a list may be remembered. */
  readonly leaseMs: number
  /** Erasures of one tenant that are remembered. */
  readonly erasuresMax: number
  readonly monotonicMs: () => number
}

interface TenantErasures {
  readonly untilMs: number
  /** Of the whole tenant. */
  readonly everywhere: readonly ErasedPart[]
  /** null: too many to remember. */
  readonly byDevice: ReadonlyMap<string, readonly ErasedPart[]> | null
}

const pageItems = 1000
const tenantsMax = 10_000

export class ErasureLookup {
  readonly #options: ErasureLookupOptions
  readonly #tenants = new LRUCache<string, TenantErasures>({ max: tenantsMax })

  constructor (options: ErasureLookupOptions) {
    this.#options = options
  }

  /** As `ErasureStore.erasedParts`, as of a lease ago at most. */
  async parts (tenant: string, device: string): Promise<readonly ErasedPart[]> {
    let known = this.#tenants.get(tenant)
    if (known === undefined || known.untilMs <= this.#options.monotonicMs()) {
      known = await this.#list(tenant)
      this.#tenants.set(tenant, known)
    }
    if (known.byDevice === null) return await this.#options.store.erasedParts(tenant, device)
    return known.byDevice.get(device) ?? known.everywhere
  }

  async #list (tenant: string): Promise<TenantErasures> {
    const { store, erasuresMax, leaseMs, monotonicMs } = this.#options
    const untilMs = monotonicMs() + leaseMs
    const byDevice = new Map<string, ErasedPart[]>()
    const everywhere: ErasedPart[] = []
    let count = 0
    for (let cursor: string | null = null; ;) {
      const { items, next } = await store.listErasures(tenant, cursor, pageItems)
      for (const { tenant: _tenant, device, ...part } of items) {
        count++
        if (device === null) everywhere.push(part)
        else byDevice.set(device, [...byDevice.get(device) ?? [], part])
      }
      if (count > erasuresMax) return { untilMs, everywhere, byDevice: null }
      if (next === null) break
      cursor = next
    }
    for (const parts of byDevice.values()) parts.push(...everywhere)
    return { untilMs, everywhere, byDevice }
  }
}
