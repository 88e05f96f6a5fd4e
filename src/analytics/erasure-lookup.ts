/**
 * Which points are erased, for a projection that meets every device of a tenant: the tenant's erasures are listed once and
 * remembered for a lease, instead of one look-up a device. Of a tenant with more erasures than are remembered, every device is
 * looked up.
 */
import { LRUCache } from 'lru-cache'
import type { ErasureStore } from '../store/small-stores.js'

export interface ErasureLookupOptions {
  readonly store: Pick<ErasureStore, 'listErasures' | 'erasedBefore'>
  /** How long a list may be remembered. */
  readonly leaseMs: number
  /** Erasures of one tenant that are remembered. */
  readonly erasuresMax: number
  readonly monotonicMs: () => number
}

interface TenantErasures {
  readonly untilMs: number
  readonly tenantStamp: number
  /** null: too many to remember. */
  readonly byDevice: ReadonlyMap<string, number> | null
}

const pageItems = 1000
const tenantsMax = 10_000

export class ErasureLookup {
  readonly #options: ErasureLookupOptions
  readonly #tenants = new LRUCache<string, TenantErasures>({ max: tenantsMax })

  constructor (options: ErasureLookupOptions) {
    this.#options = options
  }

  /** As `ErasureStore.erasedBefore`, as of a lease ago at most. */
  async before (tenant: string, device: string): Promise<number> {
    let known = this.#tenants.get(tenant)
    if (known === undefined || known.untilMs <= this.#options.monotonicMs()) {
      known = await this.#list(tenant)
      this.#tenants.set(tenant, known)
    }
    if (known.byDevice === null) return await this.#options.store.erasedBefore(tenant, device)
    return Math.max(known.tenantStamp, known.byDevice.get(device) ?? 0)
  }

  async #list (tenant: string): Promise<TenantErasures> {
    const { store, erasuresMax, leaseMs, monotonicMs } = this.#options
    const untilMs = monotonicMs() + leaseMs
    const byDevice = new Map<string, number>()
    let tenantStamp = 0
    for (let cursor: string | null = null; ;) {
      const { items, next } = await store.listErasures(tenant, cursor, pageItems)
      for (const { device, stamp } of items) {
        if (device === null) tenantStamp = Math.max(tenantStamp, stamp)
        else byDevice.set(device, Math.max(byDevice.get(device) ?? 0, stamp))
      }
      if (byDevice.size > erasuresMax) return { untilMs, tenantStamp, byDevice: null }
      if (next === null) return { untilMs, tenantStamp, byDevice }
      cursor = next
    }
  }
}
