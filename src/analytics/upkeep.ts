/**
 * Keeps analytics in line with the registry: changes of devices at once, and a look at everything at the start, every ten minutes, and
 * soon after something was erased. A change that cannot be told is not remembered for ever: the next look finds it.
 */
import type { Clock } from '../core/clock.js'
import type { Log } from '../core/log.js'
import type { AnalyticsDevice, AnalyticsStore } from '../store/analytics-store.js'
import type { Store } from '../store/store.js'
import type { UpkeepResult, UpkeepTask } from '../../workers/project-protocol.js'

export interface UpkeepOptions {
  readonly store: Pick<Store, 'getDevice' | 'getSetting' | 'putSetting' | 'takeClaim'>
  readonly analytics: Pick<AnalyticsStore, 'putDevices'>
  readonly pool: { upkeep (task: UpkeepTask): Promise<UpkeepResult> }
  /** Name of this node for the claim: one node looks at a time. */
  readonly owner: string
  readonly clock: Clock
  readonly log: Log
}

const tickMs = 500
const lookEveryMs = 600_000
/** After an erasure: projections have heard of it by then. */
const eraseAfterMs = 15_000
const retryMs = 15_000
/** Changed devices that wait; of more the next look says all. */
const notedMax = 10_000
const putsAtOnce = 500
/** Erasures are carried out again that were young at the last look: a projection may not have heard of them. */
const erasuresAgainUs = 120e6
const erasedSetting = 'analytics-erased'
const claimName = 'analytics-upkeep'

export class Upkeep {
  readonly #options: UpkeepOptions
  readonly #noted = new Map<string, { readonly tenant: string, readonly id: string }>()
  #timer: NodeJS.Timeout | null = null
  #running: Promise<void> | null = null
  #lookAtMs: number
  /** An erasure is to be carried out: the look need not be at all devices. */
  #eraseAtMs = Infinity
  readonly stats = { looks: 0, failures: 0, devices: 0, erasures: 0, partitionsDropped: 0 }

  constructor (options: UpkeepOptions) {
    this.#options = options
    this.#lookAtMs = options.clock.monotonicMs()
  }

  open (): void {
    this.#timer ??= setInterval(() => {
      this.#running ??= this.#tick().finally(() => { this.#running = null })
    }, tickMs)
  }

  async close (): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer)
    this.#timer = null
    const patience = new Promise<void>(resolve => { setTimeout(resolve, 2000).unref() })
    await Promise.race([this.#running, patience])
  }

  /** The device was made, changed or deleted. */
  noteDevice (tenant: string, id: string): void {
    if (this.#noted.size < notedMax) this.#noted.set(`${tenant}\0${id}`, { tenant, id })
    else this.#lookAtMs = Math.min(this.#lookAtMs, this.#options.clock.monotonicMs() + retryMs)
  }

  /** Something was erased. */
  noteErasure (): void {
    this.#eraseAtMs = Math.min(this.#eraseAtMs, this.#options.clock.monotonicMs() + eraseAfterMs)
  }

  /** A look at everything, now. @throws TwinfoldError as the store and analytics do */
  async look (devices = true): Promise<UpkeepResult> {
    const { store, pool, clock } = this.#options
    const startedUs = clock.nowUs()
    const erasedUpTo = Number(await store.getSetting(erasedSetting) ?? 0)
    const result = await pool.upkeep({ kind: 'upkeep', nowUs: startedUs, erasuresFromUs: Math.max(0, erasedUpTo - erasuresAgainUs), devices })
    await store.putSetting(erasedSetting, String(startedUs))
    this.stats.looks++
    this.stats.devices = devices ? result.devices : this.stats.devices
    this.stats.erasures += result.erasures
    this.stats.partitionsDropped += result.partitionsDropped
    return result
  }

  async #tick (): Promise<void> {
    const { clock, log, store, owner } = this.#options
    const nowMs = clock.monotonicMs()
    try {
      await this.#tell()
      const isFull = nowMs >= this.#lookAtMs
      if (!isFull && nowMs < this.#eraseAtMs) return
      // Another node that looks now sees what this one would; erasures it may have looked for already.
      const mine = await store.takeClaim(claimName, owner, lookEveryMs) !== null
      if (mine || !isFull) await this.look(isFull)
      this.#eraseAtMs = Infinity
      if (isFull) this.#lookAtMs = nowMs + lookEveryMs
    } catch (error) {
      this.stats.failures++
      log.debug({ error: (error as Error).message }, 'devices and erasures are not in analytics yet; it is tried again')
      if (nowMs >= this.#lookAtMs) this.#lookAtMs = nowMs + retryMs
      if (nowMs >= this.#eraseAtMs) this.#eraseAtMs = nowMs + retryMs
    }
  }

  async #tell (): Promise<void> {
    const { store, analytics, clock } = this.#options
    while (this.#noted.size > 0) {
      const some = [...this.#noted].slice(0, putsAtOnce)
      // What is noted from here on is looked up again.
      for (const [key] of some) this.#noted.delete(key)
      try {
        const version = clock.nowUs()
        const devices = await Promise.all(some.map(async ([, { tenant, id }]): Promise<AnalyticsDevice> => ({ tenant, id, device: await store.getDevice(tenant, id), version })))
        await analytics.putDevices(devices)
        // Deleted ones were erased before.
        if (devices.some(({ device }) => device === null)) this.noteErasure()
      } catch (error) {
        for (const [key, value] of some) this.#noted.set(key, value)
        throw error
      }
    }
  }
}
