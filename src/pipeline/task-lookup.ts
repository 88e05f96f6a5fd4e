/**
 * What a worker looks up in the store for its tasks: tenants, partition plans, whether a device is registered. An answer is
 * remembered for a lease, after which the store is asked again (DESIGN 3.3). Within a task it holds to the end: a lease that
 * ran out in the middle would give one slice two answers, or none (INVARIANTS 1). "Unknown" has a short lease; tenants and known
 * devices serve on while the store is away (src/gate/lease-cache.ts), plans never do.
 *
 * Bounded: the `rememberedMax` answers used last, and those of the running task.
 */
import { systemClock } from '../core/clock.js'
import { registryStaleMsMax } from '../core/limits.js'
import { LeaseCache } from '../gate/lease-cache.js'
import { defaultPlan, type PartitionPlan } from '../series/partition-plan.js'
import type { PlanStore } from '../store/plan-store.js'
import type { RegistryStore } from '../store/registry.js'
import type { Tenant } from '../tenancy/model.js'
import { splitDeviceKey } from './group.js'

export interface TaskLookupOptions {
  readonly leaseMs: number
  readonly rememberedMax: number
  /** Milliseconds that an answer may serve beyond its lease while the store is away. Default 0: never. */
  readonly staleMsMax?: number
  /** Default: the system's. */
  readonly monotonicMs?: () => number
}

/** Questions to the store at once; a lane of its own for each. */
const asksAtOnceMax = 32

export class TaskLookup<V extends NonNullable<unknown>> {
  readonly #read: (key: string) => Promise<V>
  readonly #remembered: LeaseCache<V>
  readonly #ofTask = new Map<string, V>()

  constructor (read: (key: string) => Promise<V>, options: TaskLookupOptions, isUnknown: (value: V) => boolean = () => false) {
    this.#read = read
    const { leaseMs, rememberedMax, staleMsMax = 0, monotonicMs = systemClock.monotonicMs } = options
    this.#remembered = new LeaseCache({ leaseMs, rememberedMax, staleMsMax, monotonicMs, isUnknown })
  }

  /** A new task: the answers of the one before are asked for again where their lease has run out. */
  begin (): void {
    this.#ofTask.clear()
  }

  /** Looks up what is not known; `get` gives it from then on, to the end of the task. */
  async load (keys: Iterable<string>): Promise<void> {
    const missing: string[] = []
    for (const key of new Set(keys)) if (this.peek(key) === undefined) missing.push(key)
    let next = 0
    const lane = async (): Promise<void> => {
      while (next < missing.length) {
        const key = missing[next++]
        try {
          this.#ofTask.set(key, await this.#remembered.get(key, async () => await this.#read(key)))
        } catch (error) {
          // One failure fails the task: the other lanes need not go on.
          next = missing.length
          throw error
        }
      }
    }
    await Promise.all(Array.from({ length: Math.min(asksAtOnceMax, missing.length) }, lane))
  }

  /** The answer without waiting; undefined where the key must be loaded first. */
  peek (key: string): V | undefined {
    let value = this.#ofTask.get(key)
    if (value === undefined) {
      value = this.#remembered.peek(key)
      if (value !== undefined) this.#ofTask.set(key, value)
    }
    return value
  }

  /** The answer for a key that was loaded. @throws Error for another: a fault of the caller. */
  get (key: string): V {
    const value = this.peek(key)
    if (value === undefined) throw new Error(`'${key.replace('\0', '/')}' was not looked up for this task`)
    return value
  }
}

/** Tenants by id. While the store is away they are remembered longer: what a slice holds was accepted under them. */
export function tenantLookup (registry: Pick<RegistryStore, 'getTenant'>, options: TaskLookupOptions): TaskLookup<Tenant | 'unknown'> {
  return new TaskLookup<Tenant | 'unknown'>(async id => await registry.getTenant(id) ?? 'unknown', { staleMsMax: registryStaleMsMax, ...options }, tenant => tenant === 'unknown')
}

/** Whether a device is registered, by `tenant \0 device`. While the store is away known devices stay known. */
export function deviceLookup (registry: Pick<RegistryStore, 'getDevice'>, options: TaskLookupOptions): TaskLookup<boolean> {
  return new TaskLookup(async key => {
    const { tenant, device } = splitDeviceKey(key)
    return await registry.getDevice(tenant, device) !== null
  }, { staleMsMax: registryStaleMsMax, ...options }, known => !known)
}

/**
 * Partition plans by `tenant \0 device`. One object stands for all devices without a plan of their own. A plan is never used
 * beyond its lease: a writer that missed new salts or widths would write where no reader looks (DESIGN 3.3).
 */
export function planLookup (plans: Pick<PlanStore, 'getPlan'>, options: TaskLookupOptions): TaskLookup<PartitionPlan> {
  return new TaskLookup(async key => {
    const { tenant, device } = splitDeviceKey(key)
    const { plan, version } = await plans.getPlan(tenant, device)
    return version === 0 ? defaultPlan : plan
  }, options)
}
