/**
 * What a packer must know to watch points: the tenants that have models or alarm rules at all, their rules by metric, the tables of
 * metrics of their models, type and tags of their devices. Read from the store and remembered for a lease (task-lookup.ts): a rule or
 * model that was written is followed `watchLeaseMs` later, a device's type or tags six leases later. Tenants without models and rules
 * cost one look-up of a set per slice and device.
 */
import { registryStaleMsMax } from '../core/limits.js'
import type { DocumentStore } from '../store/document-store.js'
import type { RegistryStore } from '../store/registry.js'
import type { AlarmRule, MetricSpec, MetricTable } from '../../workers/watch-protocol.js'
import { splitDeviceKey } from './group.js'
import { TaskLookup } from './task-lookup.js'

export const watchLeaseMs = 5000
const rulesRead = 1000

/** Rules of a tenant on metrics. */
export interface TenantRules {
  readonly all: readonly AlarmRule[]
  readonly byMetric: ReadonlyMap<string, readonly AlarmRule[]>
  /** Those of every metric (`*`). */
  readonly ofAny: readonly AlarmRule[]
  /** Some rule's scope is a model or a tag. */
  readonly needsDevice: boolean
}

/** A table of metrics, by name. */
export interface WatchedMetrics {
  readonly metrics: ReadonlyMap<string, MetricSpec>
  readonly flagUnknown: boolean
  readonly flagViolation: boolean
}

export interface WatchedDevice { readonly type: string, readonly tags?: Readonly<Record<string, string>> }

export type WatchStore = Pick<DocumentStore, 'getDocument' | 'listDocuments' | 'documentTenants'> & Pick<RegistryStore, 'getDevice'>

const noRules: TenantRules = { all: [], byMetric: new Map(), ofAny: [], needsDevice: false }
const everyTenant = ''

export class WatchLookup {
  readonly #tenants: TaskLookup<{ readonly rules: ReadonlySet<string>, readonly models: ReadonlySet<string> }>
  readonly #rules: TaskLookup<TenantRules>
  readonly #models: TaskLookup<WatchedMetrics | 'none'>
  readonly #devices: TaskLookup<WatchedDevice>

  constructor (store: WatchStore, { leaseMs, monotonicMs }: { readonly leaseMs: number, readonly monotonicMs: () => number }) {
    const options = { leaseMs: Math.min(leaseMs, watchLeaseMs), staleMsMax: registryStaleMsMax, monotonicMs }
    this.#tenants = new TaskLookup<{ readonly rules: ReadonlySet<string>, readonly models: ReadonlySet<string> }>(async () => {
      const [rules, models] = await Promise.all([store.documentTenants('alarm-rule'), store.documentTenants('model')])
      return { rules: new Set(rules), models: new Set(models) }
    }, { ...options, rememberedMax: 1 })
    this.#rules = new TaskLookup(async tenant => readRules((await store.listDocuments('alarm-rule', tenant, '', null, rulesRead)).items), { ...options, rememberedMax: 10_000 })
    this.#models = new TaskLookup(async key => {
      const { tenant, device: type } = splitDeviceKey(key)
      const document = await store.getDocument('model', tenant, `current/${type}`)
      return document === null ? 'none' : readTable(JSON.parse(document.body) as MetricTable)
    }, { ...options, rememberedMax: 10_000 }, table => table === 'none')
    this.#devices = new TaskLookup(async key => {
      const { tenant, device } = splitDeviceKey(key)
      const found = await store.getDevice(tenant, device)
      return found === null ? { type: '' } : { type: found.type, ...found.tags === undefined ? {} : { tags: found.tags } }
    }, { ...options, leaseMs: options.leaseMs * 6, rememberedMax: 500_000 })
  }

  /** A new slice. Resolves to the tenants among the given ones that are to be watched, by their rules and whether they have models. */
  async begin (tenants: ReadonlySet<string>): Promise<ReadonlyMap<string, { readonly rules: TenantRules, readonly models: boolean }>> {
    for (const lookup of [this.#tenants, this.#rules, this.#models, this.#devices]) lookup.begin()
    await this.#tenants.load([everyTenant])
    const known = this.#tenants.get(everyTenant)
    const withRules = [...tenants].filter(tenant => known.rules.has(tenant))
    await this.#rules.load(withRules)
    const watched = new Map<string, { rules: TenantRules, models: boolean }>()
    for (const tenant of withRules) {
      const rules = this.#rules.get(tenant)
      if (rules.all.length > 0) watched.set(tenant, { rules, models: false })
    }
    for (const tenant of tenants) if (known.models.has(tenant)) watched.set(tenant, { rules: watched.get(tenant)?.rules ?? noRules, models: true })
    return watched
  }

  async loadDevices (keys: readonly string[]): Promise<void> { await this.#devices.load(keys) }

  /** Of a device that was loaded. */
  device (key: string): WatchedDevice { return this.#devices.get(key) }

  /** @param keys `tenant \0 type` */
  async loadModels (keys: Iterable<string>): Promise<void> { await this.#models.load(keys) }

  /** null: the type has no model. */
  model (key: string): WatchedMetrics | null {
    const found = this.#models.get(key)
    return found === 'none' ? null : found
  }
}

function readRules (documents: readonly { readonly body: string }[]): TenantRules {
  const all = documents.map(({ body }) => JSON.parse(body) as AlarmRule).filter(({ enabled, source }) => enabled && 'metric' in source)
  if (all.length === 0) return noRules
  const byMetric = new Map<string, AlarmRule[]>()
  const ofAny: AlarmRule[] = []
  for (const rule of all) {
    const { metric } = rule.source as { readonly metric: string }
    if (metric === '*') ofAny.push(rule)
    else byMetric.set(metric, [...byMetric.get(metric) ?? [], rule])
  }
  return { all, byMetric, ofAny, needsDevice: all.some(({ scope }) => scope !== null && !('device' in scope)) }
}

function readTable ({ metrics, onUnknownMetric, onMetricViolation }: MetricTable): WatchedMetrics {
  return { metrics: new Map(Object.entries(metrics)), flagUnknown: onUnknownMetric === 'flag', flagViolation: onMetricViolation === 'flag' }
}
