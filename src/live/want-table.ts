/**
 * Who wants which readings: targets by tenant, device (or all of a tenant) and filter. `version` grows when the packers would have
 * to look for something else, not when one more target wants what another wants already. Pure.
 */
import type { LiveFilter, LiveGroup, WantedReadings, WantedTenant } from '../../workers/live-protocol.js'

interface Entry<T> {
  readonly filter: LiveFilter
  readonly targets: Set<T>
  /** `version` since which it is wanted without a break. */
  readonly since: number
}

type Entries<T> = Map<string, Entry<T>>

interface TenantWants<T> {
  readonly all: Entries<T>
  readonly devices: Map<string, Entries<T>>
}

export class WantTable<T> {
  readonly #tenants = new Map<string, TenantWants<T>>()
  #version = 0
  /** Pairs of a device (or a whole tenant) and a target. */
  pairs = 0

  get version (): number { return this.#version }

  get empty (): boolean { return this.#tenants.size === 0 }

  /** @param device null: every device of the tenant */
  add (tenant: string, device: string | null, filter: LiveFilter, target: T): void {
    let wants = this.#tenants.get(tenant)
    if (wants === undefined) this.#tenants.set(tenant, wants = { all: new Map(), devices: new Map() })
    let entries = device === null ? wants.all : wants.devices.get(device)
    if (entries === undefined) wants.devices.set(device as string, entries = new Map())
    let entry = entries.get(filter.key)
    if (entry === undefined) entries.set(filter.key, entry = { filter, targets: new Set(), since: ++this.#version })
    if (entry.targets.has(target)) return
    entry.targets.add(target)
    this.pairs++
  }

  remove (tenant: string, device: string | null, filter: LiveFilter, target: T): void {
    const wants = this.#tenants.get(tenant)
    const entries = device === null ? wants?.all : wants?.devices.get(device)
    const entry = entries?.get(filter.key)
    if (wants === undefined || entries === undefined || entry === undefined || !entry.targets.delete(target)) return
    this.pairs--
    if (entry.targets.size > 0) return
    this.#version++
    entries.delete(filter.key)
    if (device !== null && entries.size === 0) wants.devices.delete(device)
    if (wants.all.size === 0 && wants.devices.size === 0) this.#tenants.delete(tenant)
  }

  /** `version` since which it is wanted without a break; undefined: it is not wanted. */
  since (tenant: string, device: string | null, filter: LiveFilter): number | undefined {
    const wants = this.#tenants.get(tenant)
    return (device === null ? wants?.all : wants?.devices.get(device))?.get(filter.key)?.since
  }

  /** Calls with every target that wants the group; with one that wants it twice, twice at most. */
  eachTarget (group: Pick<LiveGroup, 'tenant' | 'device' | 'filter'>, visit: (target: T) => void): void {
    const wants = this.#tenants.get(group.tenant)
    if (wants === undefined) return
    const all = wants.all.get(group.filter)?.targets
    const own = wants.devices.get(group.device)?.get(group.filter)?.targets
    if (all !== undefined) for (const target of all) visit(target)
    if (own !== undefined) for (const target of own) if (all === undefined || !all.has(target)) visit(target)
  }

  eachTargetOfTenant (tenant: string, visit: (target: T) => void): void {
    const wants = this.#tenants.get(tenant)
    if (wants === undefined) return
    const found = new Set<T>()
    for (const entries of [wants.all, ...wants.devices.values()]) for (const { targets } of entries.values()) for (const target of targets) found.add(target)
    for (const target of found) visit(target)
  }

  /**
   * Everything wanted, here and in `more`.
   * @param devicesMax a filter that wants more devices of one tenant by name than this is told to want all of it: then groups
   *   come that nobody wants, and `eachTarget` calls nobody for them
   */
  wanted (devicesMax: number, ...more: readonly WantTable<unknown>[]): WantedReadings {
    const places = new Map<string, number>()
    const filters: LiveFilter[] = []
    const placeOf = ({ filter }: Entry<unknown>): number => {
      let place = places.get(filter.key)
      if (place === undefined) {
        places.set(filter.key, place = filters.length)
        filters.push(filter)
      }
      return place
    }
    const all = new Map<string, Set<number>>()
    const devices = new Map<string, Map<string, Set<number>>>()
    for (const table of [this, ...more] as readonly WantTable<unknown>[]) {
      for (const [tenant, wants] of table.#tenants) {
        const ofTenant = setIn(all, tenant, () => new Set<number>())
        for (const entry of wants.all.values()) ofTenant.add(placeOf(entry))
        const byDevice = setIn(devices, tenant, () => new Map<string, Set<number>>())
        for (const [device, entries] of wants.devices) {
          const ofDevice = setIn(byDevice, device, () => new Set<number>())
          for (const entry of entries.values()) ofDevice.add(placeOf(entry))
        }
      }
    }
    const tenants: WantedTenant[] = []
    for (const [tenant, byDevice] of devices) tenants.push(widened(tenant, all.get(tenant) as Set<number>, byDevice, devicesMax))
    return { filters, tenants }
  }
}

function setIn<K, V> (map: Map<K, V>, key: K, make: () => V): V {
  let value = map.get(key)
  if (value === undefined) map.set(key, value = make())
  return value
}

function widened (tenant: string, all: Set<number>, byDevice: ReadonlyMap<string, Set<number>>, devicesMax: number): WantedTenant {
  const counts = new Map<number, number>()
  for (const filters of byDevice.values()) for (const filter of filters) counts.set(filter, (counts.get(filter) ?? 0) + 1)
  for (const [filter, count] of counts) if (count > devicesMax) all.add(filter)
  const named: [string, number[]][] = []
  for (const [device, filters] of byDevice) {
    const own = [...filters].filter(filter => !all.has(filter))
    if (own.length > 0) named.push([device, own])
  }
  return [tenant, [...all], named]
}
