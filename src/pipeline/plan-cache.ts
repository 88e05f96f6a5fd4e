/**
 * Partition plans as a worker remembers them: for a lease, after which the store is asked again (DESIGN 3.3). `load` what a
 * task needs, then `get` without waiting; what was loaded stays for the task even where its lease ends meanwhile.
 */
import { LRUCache } from 'lru-cache'
import { defaultPlan, type PartitionPlan } from '../series/partition-plan.js'
import type { PlanStore } from '../store/plan-store.js'
import { splitDeviceKey } from './group.js'

export class PlanCache {
  readonly #plans: Pick<PlanStore, 'getPlan'>
  readonly #cache: LRUCache<string, PartitionPlan>
  /** Plans of the running task that are not the default. */
  readonly #loaded = new Map<string, PartitionPlan>()

  constructor (plans: Pick<PlanStore, 'getPlan'>, options: { leaseMs: number, devicesMax: number }) {
    this.#plans = plans
    this.#cache = new LRUCache({ max: options.devicesMax, ttl: options.leaseMs })
  }

  /** @param keys `tenant \0 device` of every device that the task may ask about; forgets those of the task before. */
  async load (keys: readonly string[]): Promise<void> {
    this.#loaded.clear()
    for (const key of keys) {
      let plan = this.#cache.get(key)
      if (plan === undefined) {
        const { tenant, device } = splitDeviceKey(key)
        const stored = await this.#plans.getPlan(tenant, device)
        // One object for all devices without a row of their own: a hundred thousand of them cost little.
        plan = stored.version === 0 ? defaultPlan : stored.plan
        this.#cache.set(key, plan)
      }
      if (plan !== defaultPlan) this.#loaded.set(key, plan)
    }
  }

  get (tenant: string, device: string): PartitionPlan {
    return this.#loaded.get(`${tenant}\0${device}`) ?? defaultPlan
  }
}
