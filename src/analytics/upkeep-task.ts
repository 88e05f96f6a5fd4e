/**
 * Brings analytics in line with the registry: every device as it is now, what was erased, and partitions that are out of everybody's
 * retention. Runs in a worker thread from time to time, and again where it failed, so that nothing that changed while ClickHouse
 * was away is forgotten.
 */
import { usPerDay, usPerSecond } from '../core/reading.js'
import type { AnalyticsDevice, AnalyticsStore } from '../store/analytics-store.js'
import type { Erasure } from '../store/small-stores.js'
import type { Store } from '../store/store.js'
import type { Tenant } from '../tenancy/model.js'
import type { UpkeepResult, UpkeepTask } from '../../workers/project-protocol.js'

export interface UpkeepTaskOptions {
  readonly store: Pick<Store, 'listTenants' | 'listDevices' | 'listErasures'>
  readonly analytics: Pick<AnalyticsStore, 'putDevices' | 'dropDevicesBefore' | 'erase' | 'dropExpired'>
}

const pageItems = 1000
/** Clocks of nodes differ; a change that another node tells of now must not count as older than this look. */
const clocksDifferUs = usPerSecond

/** @throws TwinfoldError as the store and analytics do */
export async function runUpkeepTask (task: UpkeepTask, options: UpkeepTaskOptions): Promise<UpkeepResult> {
  const { store, analytics } = options
  const version = task.nowUs - clocksDifferUs
  let devices = 0
  let erasures = 0
  let keptDays = 0
  let hoursKeptDays = 0
  for await (const tenant of tenantsOf(store)) {
    keptDays = Math.max(keptDays, ...tenant.retention.map(({ days }) => days))
    hoursKeptDays = Math.max(hoursKeptDays, keptDays, ...(tenant.tierRetention ?? []).map(({ days }) => days['1h']), tenant.tierRetention === undefined ? hoursDefaultDays : 0)
    if (task.devices) devices += await putDevices(tenant.id, version, options)
    erasures += await erase(tenant.id, task.erasuresFromUs, options)
  }
  if (task.devices) await analytics.dropDevicesBefore(null, version)
  const partitionsDropped = keptDays === 0 ? 0 : await analytics.dropExpired(task.nowUs - (keptDays + 1) * usPerDay, task.nowUs - (hoursKeptDays + 1) * usPerDay)
  return { kind: 'upkeep', devices, erasures, partitionsDropped }
}

const hoursDefaultDays = 1825

async function * tenantsOf (store: Pick<Store, 'listTenants'>): AsyncGenerator<Tenant> {
  for (let cursor: string | null = null, first = true; first || cursor !== null; first = false) {
    const page: { readonly items: readonly Tenant[], readonly next: string | null } = await store.listTenants(cursor, pageItems)
    yield * page.items
    cursor = page.next
  }
}

async function putDevices (tenant: string, version: number, { store, analytics }: UpkeepTaskOptions): Promise<number> {
  let count = 0
  for (let cursor: string | null = null, first = true; first || cursor !== null; first = false) {
    const page: Awaited<ReturnType<Store['listDevices']>> = await store.listDevices(tenant, cursor, pageItems)
    await analytics.putDevices(page.items.map((device): AnalyticsDevice => ({ tenant, id: device.id, device, version })))
    count += page.items.length
    cursor = page.next
  }
  return count
}

async function erase (tenant: string, fromUs: number, { store, analytics }: UpkeepTaskOptions): Promise<number> {
  let count = 0
  for (let cursor: string | null = null, first = true; first || cursor !== null; first = false) {
    const page: { readonly items: readonly Erasure[], readonly next: string | null } = await store.listErasures(tenant, cursor, pageItems)
    const recent = page.items.filter(({ stamp }) => stamp >= fromUs)
    if (recent.length > 0) await analytics.erase(recent)
    count += recent.length
    cursor = page.next
  }
  return count
}
