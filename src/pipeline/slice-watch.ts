/**
 * Watches the points of a slice for what tenants asked to be told: violations of device models and edges for alarm rules. Runs in the
 * packers, which have decoded the slice anyway; what it finds leaves with the result of the slice and is found again when the slice is
 * packed again.
 */
import type { WatchResult } from '../../workers/watch-protocol.js'
import { TenantEdges } from './alarm-edges.js'
import { splitDeviceKey } from './group.js'
import { MetricCheck } from './metric-check.js'
import type { SliceTable } from './slice-table.js'
import { WatchLookup, type TenantRules, type WatchStore } from './watch-lookup.js'

interface WatchedTenant { readonly rules: TenantRules, readonly models: boolean, readonly edges: TenantEdges | null }

export class SliceWatch {
  readonly #lookup: WatchLookup
  readonly #metrics = new MetricCheck()

  constructor (store: WatchStore, options: { readonly leaseMs: number, readonly monotonicMs: () => number }) {
    this.#lookup = new WatchLookup(store, options)
  }

  /**
   * null where nothing of it is watched. Rejects where the store does not answer what must be known.
   * @param order row numbers by device, as `orderByDevice` gives them, each device's in order of event time
   */
  async look (table: SliceTable, order: Int32Array, starts: Int32Array): Promise<WatchResult | null> {
    const tenants = new Set<string>()
    const tenantOf = tenantsOf(table, tenants)
    const found = await this.#lookup.begin(tenants)
    if (found.size === 0) return null
    const watched = new Map<string, WatchedTenant>()
    for (const [tenant, { rules, models }] of found) watched.set(tenant, { rules, models, edges: rules.all.length === 0 ? null : new TenantEdges(tenant, rules) })
    await this.#load(table, tenantOf, watched)
    this.#metrics.begin()
    for (let number = 0; number < table.devices.length; number++) {
      const of = watched.get(tenantOf[number])
      const from = starts[number]
      const to = starts[number + 1]
      if (of === undefined || from === to) continue
      const key = table.devices[number]
      const known = of.models || of.rules.needsDevice ? this.#lookup.device(key) : null
      of.edges?.look(table, order, from, to, splitDeviceKey(key).device, known)
      if (!of.models || known === null || known.type === '') continue
      const model = this.#lookup.model(`${tenantOf[number]}\0${known.type}`)
      if (model !== null) this.#metrics.check(table, order, from, to, tenantOf[number], known.type, model)
    }
    const results = [...watched.values()].flatMap(({ edges }) => edges === null ? [] : [edges.result()])
    return { violations: this.#metrics.end(table), edges: results.flatMap(({ edges }) => edges), edgesDropped: results.reduce((sum, { dropped }) => sum + dropped, 0) }
  }

  /** Type and tags of the devices that must be known, then the models of those types. */
  async #load (table: SliceTable, tenantOf: readonly string[], watched: ReadonlyMap<string, WatchedTenant>): Promise<void> {
    const asked = new Map<string, string>()
    table.devices.forEach((key, number) => {
      const of = watched.get(tenantOf[number])
      if (of !== undefined && (of.models || of.rules.needsDevice)) asked.set(key, tenantOf[number])
    })
    await this.#lookup.loadDevices([...asked.keys()])
    const models = new Set<string>()
    for (const [key, tenant] of asked) {
      const { type } = this.#lookup.device(key)
      if (watched.get(tenant)?.models === true && type !== '') models.add(`${tenant}\0${type}`)
    }
    await this.#lookup.loadModels(models)
  }
}

/** The tenant of every device number. Devices of one tenant come one after the other as a rule. */
function tenantsOf (table: SliceTable, tenants: Set<string>): string[] {
  let tenant = ''
  let prefix = ''
  return table.devices.map(key => {
    if (prefix === '' || !key.startsWith(prefix)) {
      ({ tenant } = splitDeviceKey(key))
      prefix = `${tenant}\0`
      tenants.add(tenant)
    }
    return tenant
  })
}
