/**
 * Brings stored rows under a longer retention (DESIGN 3.2): where rows carry their time to live (the cluster), what is sealed already
 * would expire as it was written, so every sealed bucket of the tenant is asked to be sealed again. The embedded store needs
 * none of it: its windows are kept as long as the longest retention that any of their tenants has now (retention-job.ts). A shorter
 * retention needs none either: answers are cut by it at once, and rows expire by the time that they were given, or with their window.
 *
 * One node at a time does it, under a claim; how far it has come is kept, so that a restart goes on. Bounded: so many requests a
 * second. What has expired already stays gone.
 */
import type { Clock } from '../core/clock.js'
import type { Log } from '../core/log.js'
import { usPerDay } from '../core/reading.js'
import { bucketsIn } from '../series/partition-plan.js'
import type { ClaimStore } from '../store/claim-store.js'
import type { PlanStore } from '../store/plan-store.js'
import type { RawStore } from '../store/raw-store.js'
import type { Page, RegistryStore } from '../store/registry.js'
import type { SealRequest, SealRequestStore } from '../store/seal-requests.js'
import type { SettingsStore } from '../store/small-stores.js'
import { tiers } from '../store/tier-store.js'
import { retentionDaysAt, tierDaysAt, type Tenant } from '../tenancy/model.js'

export interface RetentionRewriteOptions {
  readonly store: ClaimStore & SealRequestStore & SettingsStore & Pick<RegistryStore, 'listTenants' | 'listDevices'> & Pick<PlanStore, 'getPlan'> & { readonly raw: Pick<RawStore, 'scanSeen'> }
  readonly owner: string
  readonly takeStamp: () => number
  readonly clock: Clock
  readonly log: Log
  /** Between two looks at the tenants, ms. Default: five minutes. */
  readonly intervalMs?: number
  /** Default 50. */
  readonly requestsPerSecond?: number
}

/** Kept under `resealed/<tenant>`: the change up to which all is asked for, and of a later one the device to go on behind. */
interface Progress { readonly doneStamp: number, readonly stamp: number, readonly afterDevice: string | null }

const claim = 'retention-rewrite'
const leaseMs = 60_000
const devicesPerPage = 100
const tenantsPerPage = 100

export class RetentionRewrite {
  readonly #options: RetentionRewriteOptions
  #timer: NodeJS.Timeout | null = null
  #running: Promise<void> | null = null
  #closing = false
  readonly stats = { tenants: 0, requests: 0, failures: 0 }

  constructor (options: RetentionRewriteOptions) {
    this.#options = options
  }

  open (): void {
    this.#timer = setInterval(() => {
      this.#running ??= this.run().catch((error: Error) => {
        this.stats.failures++
        this.#options.log.warn({ error: error.message }, 'buckets could not be asked to be sealed under a longer retention; it is tried again')
      }).finally(() => { this.#running = null })
    }, this.#options.intervalMs ?? 300_000)
    this.#timer.unref()
  }

  async close (): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer)
    this.#closing = true
    await this.#running
    await this.#options.store.releaseClaim(claim, this.#options.owner).catch(() => {})
  }

  /** Looks at every tenant once. */
  async run (): Promise<void> {
    const { store } = this.#options
    for (let cursor: string | null = null, first = true; first || cursor !== null; first = false) {
      const page: Page<Tenant> = await store.listTenants(cursor, tenantsPerPage)
      for (const tenant of page.items) {
        if (!await this.#mayGoOn()) return
        await this.#tenant(tenant)
      }
      cursor = page.next
    }
  }

  async #mayGoOn (): Promise<boolean> {
    return !this.#closing && await this.#options.store.takeClaim(claim, this.#options.owner, leaseMs) !== null
  }

  async #tenant (tenant: Tenant): Promise<void> {
    const { store, log } = this.#options
    const stamp = Math.max(...[...tenant.retention, ...tenant.tierRetention ?? []].map(entry => entry.sinceStamp))
    if (stamp === 0) return
    const name = `resealed/${tenant.id}`
    const stored = await store.getSetting(name)
    const progress: Progress = stored === null ? { doneStamp: 0, stamp: 0, afterDevice: null } : JSON.parse(stored) as Progress
    if (progress.doneStamp >= stamp) return
    if (grewSince(tenant, progress.doneStamp)) {
      this.stats.tenants++
      log.info({ tenant: tenant.id }, 'a retention became longer: sealed buckets are sealed again under it')
      if (!await this.#devices(tenant, name, { ...progress, stamp, afterDevice: progress.stamp === stamp ? progress.afterDevice : null })) return
    }
    await store.putSetting(name, JSON.stringify({ doneStamp: stamp, stamp, afterDevice: null } satisfies Progress))
  }

  /** Returns false where it was interrupted. */
  async #devices (tenant: Tenant, name: string, progress: Progress): Promise<boolean> {
    const { store } = this.#options
    for (let cursor = progress.afterDevice, first = true; first || cursor !== null; first = false) {
      const page: Page<{ readonly id: string }> = await store.listDevices(tenant.id, cursor, devicesPerPage)
      for (const { id } of page.items) {
        if (!await this.#mayGoOn()) return false
        await this.#device(tenant, id)
        if (this.#closing) return false
      }
      cursor = page.next
      await store.putSetting(name, JSON.stringify({ ...progress, afterDevice: cursor } satisfies Progress))
    }
    return true
  }

  async #device (tenant: Tenant, device: string): Promise<void> {
    const { store, takeStamp, requestsPerSecond = 50 } = this.#options
    const { plan } = await store.getPlan(tenant.id, device)
    const requests = new Map<string, SealRequest>()
    for await (const { day } of store.raw.scanSeen({ tenant: tenant.id, device, retentionDays: [...new Set(tenant.retention.map(entry => entry.days))] })) {
      for (const bucket of bucketsIn(plan, day, day + usPerDay)) {
        const key = `${bucket.widthMinutes}:${bucket.start}`
        if (!requests.has(key)) requests.set(key, { tenant: tenant.id, device, bucket, stamp: takeStamp() })
      }
    }
    const all = [...requests.values()]
    for (let i = 0; i < all.length && !this.#closing; i += requestsPerSecond) {
      const some = all.slice(i, i + requestsPerSecond)
      await store.putSealRequests(some)
      this.stats.requests += some.length
      await new Promise(resolve => { setTimeout(resolve, some.length * 1000 / requestsPerSecond) })
    }
  }
}

/** Whether anything is kept longer now than rows written under the settings of then are. */
export function grewSince (tenant: Tenant, stamp: number): boolean {
  const now = Number.MAX_SAFE_INTEGER
  return retentionDaysAt(tenant, now) > retentionDaysAt(tenant, stamp) || tiers.some(tier => tierDaysAt(tenant, tier, now) > tierDaysAt(tenant, tier, stamp))
}
