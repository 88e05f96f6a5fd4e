/**
 * What a worker looks up in the store for its tasks: tenants, partition plans, whether a device is registered. An answer is
 * remembered for a lease, after which the store is asked again (DESIGN 3.3). Within a task it holds to the end: a lease that
 * ran out in the middle would give one slice two answers, or none (INVARIANTS 1).
 *
 * Bounded: the `rememberedMax` answers used last, and those of the running task.
 */
import { LRUCache } from 'lru-cache'
import { defaultPlan, type PartitionPlan } from '../series/partition-plan.js'
import type { PlanStore } from '../store/plan-store.js'
import { splitDeviceKey } from './group.js'

export interface TaskLookupOptions {
  readonly leaseMs: number
  readonly rememberedMax: number
}

export class TaskLookup<V extends NonNullable<unknown>> {
  readonly #read: (key: string) => Promise<V>
  readonly #remembered: LRUCache<string, V>
  readonly #ofTask = new Map<string, V>()

  constructor (read: (key: string) => Promise<V>, options: TaskLookupOptions) {
    this.#read = read
    this.#remembered = new LRUCache({ max: options.rememberedMax, ttl: options.leaseMs })
  }

  /** A new task: the answers of the one before are asked for again where their lease has run out. */
  begin (): void {
    this.#ofTask.clear()
  }

  /** Looks up what is not known; `get` gives it from then on, to the end of the task. */
  async load (keys: Iterable<string>): Promise<void> {
    for (const key of keys) {
      if (this.peek(key) !== undefined) continue
      const value = await this.#read(key)
      this.#remembered.set(key, value)
      this.#ofTask.set(key, value)
    }
  }

  /** The answer without waiting; undefined where the key must be loaded first. */
  peek (key: string): V | undefined {
    let value = this.#ofTask.get(key)
    if (value === undefined) {
      value = this.#remembered.get(key)
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

/** Partition plans by `tenant \0 device`. One object stands for all devices without a plan of their own. */
export function planLookup (plans: Pick<PlanStore, 'getPlan'>, options: TaskLookupOptions): TaskLookup<PartitionPlan> {
  return new TaskLookup(async key => {
    const { tenant, device } = splitDeviceKey(key)
    const { plan, version } = await plans.getPlan(tenant, device)
    return version === 0 ? defaultPlan : plan
  }, options)
}
