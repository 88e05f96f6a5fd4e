/**
 * Which filters the connections of this node want, as the other nodes are told. Every filter is counted; a tenant with more
 * distinct ones than `filtersPerTenantMax` wants everything of the tenant instead (`tenant/#`), until it has half as many: then
 * this node gets messages that nobody here asked for, and drops them. Pure.
 */
import { tenantOf } from '../../broker/types.js'

export interface InterestChange {
  readonly added: readonly string[]
  readonly removed: readonly string[]
}

interface TenantInterest {
  /** Filter → connections. */
  readonly filters: Map<string, number>
  widened: boolean
}

const nothing: InterestChange = { added: [], removed: [] }

export class OwnInterest {
  readonly #tenants = new Map<string, TenantInterest>()
  readonly #filtersPerTenantMax: number

  constructor (filtersPerTenantMax: number) { this.#filtersPerTenantMax = filtersPerTenantMax }

  add (filter: string): InterestChange {
    const tenant = tenantOf(filter)
    let interest = this.#tenants.get(tenant)
    if (interest === undefined) this.#tenants.set(tenant, interest = { filters: new Map(), widened: false })
    const { filters } = interest
    const count = filters.get(filter) ?? 0
    filters.set(filter, count + 1)
    if (count > 0 || interest.widened) return nothing
    if (filters.size <= this.#filtersPerTenantMax) return { added: [filter], removed: [] }
    interest.widened = true
    const everything = `${tenant}/#`
    const removed = [...filters.keys()].filter(each => each !== filter && each !== everything)
    return { added: [everything], removed }
  }

  remove (filter: string): InterestChange {
    const tenant = tenantOf(filter)
    const interest = this.#tenants.get(tenant)
    const count = interest?.filters.get(filter)
    if (interest === undefined || count === undefined) return nothing
    const { filters } = interest
    if (count > 1) {
      filters.set(filter, count - 1)
      return nothing
    }
    filters.delete(filter)
    if (filters.size === 0) this.#tenants.delete(tenant)
    if (!interest.widened) return { added: [], removed: [filter] }
    if (filters.size > this.#filtersPerTenantMax / 2) return nothing
    interest.widened = false
    const everything = `${tenant}/#`
    return { added: [...filters.keys()], removed: filters.has(everything) ? [] : [everything] }
  }

  /** Everything that is announced. */
  * all (): Generator<string> {
    for (const [tenant, { filters, widened }] of this.#tenants) {
      if (widened) yield `${tenant}/#`
      else yield * filters.keys()
    }
  }
}
