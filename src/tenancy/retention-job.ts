/**
 * Drops windows that have wholly expired, at the start and every hour. A class's windows are kept for the longest retention
 * that any tenant has now whose rows may be stored under that class (any class of its history): a longer retention keeps
 * what is there, a shorter one lets it go (DESIGN 3.2). A class that no tenant has ever had keeps its own number of days. The same
 * goes for the rows of each tier.
 */
import type { Clock } from '../core/clock.js'
import type { Log } from '../core/log.js'
import type { Page } from '../store/registry.js'
import { tiers, type Tier } from '../store/tier-store.js'
import { retentionDaysAt, tierClasses, tierDaysAt, type Tenant } from './model.js'

export interface RetentionJobOptions {
  readonly store: {
    listTenants(cursor: string | null, limit: number): Promise<Page<Tenant>>
    readonly raw: { dropExpired(nowUs: number, keepDays: (retentionDays: number) => number): Promise<number> }
    readonly tiers?: { dropExpiredTiers(nowUs: number, keepDays: (tier: Tier, retentionDays: number) => number): Promise<number> }
  }
  readonly clock: Clock
  readonly log: Log
  /** Milliseconds between two runs; an hour by default. */
  readonly intervalMs?: number
  /** Calls the action every `intervalMs` until the function it returns is called; `setInterval` by default. */
  readonly every?: (intervalMs: number, action: () => void) => () => void
}

const hourMs = 3_600_000
const tenantsPerPage = 500

export class RetentionJob {
  readonly #options: RetentionJobOptions
  #stop: (() => void) | null = null
  #running: Promise<void> | null = null
  readonly stats = { runs: 0, failures: 0, windowsDropped: 0 }

  constructor (options: RetentionJobOptions) {
    this.#options = options
  }

  /** Runs once now and then at every interval; a run that takes longer than that is not overtaken. */
  start (): void {
    const every = this.#options.every ?? everyInterval
    this.#stop = every(this.#options.intervalMs ?? hourMs, () => { this.#begin() })
    this.#begin()
  }

  /** Waits for the run that is under way. */
  async close (): Promise<void> {
    this.#stop?.()
    this.#stop = null
    await this.#running
  }

  /** One run. Returns the number of windows dropped. */
  async run (): Promise<number> {
    const { store, clock, log } = this.#options
    // The time is taken before the tenants are read: one that is made meanwhile has nothing that is old.
    const nowUs = clock.nowUs()
    const keepDays = await this.#keepDaysByClass(nowUs)
    const dropped = await store.raw.dropExpired(nowUs, retentionDays => keepDays.raw.get(retentionDays) ?? retentionDays) +
      (await store.tiers?.dropExpiredTiers(nowUs, (tier, retentionDays) => keepDays[tier].get(retentionDays) ?? retentionDays) ?? 0)
    this.stats.runs++
    this.stats.windowsDropped += dropped
    if (dropped > 0) log.info({ windows: dropped }, 'expired windows dropped')
    return dropped
  }

  #begin (): void {
    this.#running ??= this.run().then(() => {}, (error: Error) => {
      this.stats.failures++
      this.#options.log.warn({ error: error.message }, 'expired windows could not be dropped; it is tried again')
    }).finally(() => { this.#running = null })
  }

  async #keepDaysByClass (nowUs: number): Promise<Record<'raw' | Tier, Map<number, number>>> {
    const keepDays = { raw: new Map<number, number>(), '1m': new Map<number, number>(), '1h': new Map<number, number>(), '1d': new Map<number, number>() }
    const keep = (of: 'raw' | Tier, retentionDays: number, days: number): void => { keepDays[of].set(retentionDays, Math.max(days, keepDays[of].get(retentionDays) ?? 0)) }
    let cursor: string | null = null
    do {
      const page: Page<Tenant> = await this.#options.store.listTenants(cursor, tenantsPerPage)
      for (const tenant of page.items) {
        const current = retentionDaysAt(tenant, nowUs)
        for (const { days } of tenant.retention) keep('raw', days, current)
        for (const tier of tiers) for (const days of tierClasses(tenant, tier)) keep(tier, days, tierDaysAt(tenant, tier, nowUs))
      }
      cursor = page.next
    } while (cursor !== null)
    return keepDays
  }
}

function everyInterval (intervalMs: number, action: () => void): () => void {
  const timer = setInterval(action, intervalMs)
  timer.unref()
  return () => { clearInterval(timer) }
}
