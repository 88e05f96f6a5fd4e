/**
 * Watches what devices write and changes their partition plan before a partition passes its target (DESIGN 3.3). It sees
 * devices with chunks of their own only: a device that shares slabs is far from any limit.
 *
 * Bounded: the `devicesMax` devices seen last; a device that is forgotten is measured anew.
 */
import { LRUCache } from 'lru-cache'
import type { Clock } from '../core/clock.js'
import type { Log } from '../core/log.js'
import { adaptPlan } from '../series/partition-plan.js'
import type { PlanStore } from '../store/plan-store.js'
import type { DeviceLoad } from '../../workers/protocol.js'

export interface PlanKeeperOptions {
  readonly plans: PlanStore
  readonly clock: Clock
  readonly log: Log
  readonly devicesMax: number
  /** How long a device is measured before its plan is judged, milliseconds. */
  readonly measureMs: number
}

interface Measure { readonly tenant: string, readonly device: string, sinceMs: number, bytes: number, rows: number }

export class PlanKeeper {
  readonly #options: PlanKeeperOptions
  readonly #measures: LRUCache<string, Measure>
  #timer: NodeJS.Timeout | null = null
  #busy: Promise<void> | null = null
  readonly stats = { changes: 0, conflicts: 0 }

  constructor (options: PlanKeeperOptions) {
    this.#options = options
    this.#measures = new LRUCache({ max: options.devicesMax })
  }

  open (): void {
    this.#timer = setInterval(() => { this.#busy ??= this.judge().finally(() => { this.#busy = null }) }, this.#options.measureMs)
  }

  async close (): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer)
    await this.#busy
  }

  note (loads: readonly DeviceLoad[]): void {
    const now = this.#options.clock.monotonicMs()
    for (const load of loads) {
      const key = `${load.tenant}\0${load.device}`
      let measure = this.#measures.get(key)
      if (measure === undefined) this.#measures.set(key, measure = { tenant: load.tenant, device: load.device, sinceMs: now, bytes: 0, rows: 0 })
      measure.bytes += load.bytes
      measure.rows += load.rows
    }
  }

  /** Judges every device that has been measured long enough. A conflicting change by another node wins; it is judged again later. */
  async judge (): Promise<void> {
    const { clock, measureMs, plans, log } = this.#options
    const now = clock.monotonicMs()
    for (const measure of [...this.#measures.values()]) {
      const seconds = (now - measure.sinceMs) / 1000
      if (seconds * 1000 < measureMs) continue
      const load = { bytesPerSecond: measure.bytes / seconds, rowsPerSecond: measure.rows / seconds }
      this.#measures.delete(`${measure.tenant}\0${measure.device}`)
      try {
        const { plan, version } = await plans.getPlan(measure.tenant, measure.device)
        const next = adaptPlan(plan, load, clock.nowUs())
        if (next === null) continue
        if (await plans.putPlanIfVersion(measure.tenant, measure.device, next, version)) {
          this.stats.changes++
          log.info({ tenant: measure.tenant, device: measure.device, plan: next }, 'partition plan changed')
        } else {
          this.stats.conflicts++
        }
      } catch (error) {
        log.warn({ tenant: measure.tenant, device: measure.device, error: (error as Error).message }, 'partition plan could not be judged')
      }
    }
  }
}
