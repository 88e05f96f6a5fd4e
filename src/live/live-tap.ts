/**
 * Stands between the packer and its threads: gives every slice the wants that are in force, and takes what the threads found. It
 * knows which slices are under way with older wants, because only after the last of them is done can somebody who has begun
 * to watch ask for the latest values and miss nothing in between.
 */
import type { HotResult, HotTask, PackResult, PackTask } from '../../workers/protocol.js'
import type { LiveReadings, LiveWants } from '../../workers/live-protocol.js'

export interface TappedPool {
  readonly threads: number
  pack(task: PackTask): Promise<PackResult>
  packHot(task: HotTask): Promise<HotResult>
}

/** Slices that were given out while the store was away; for those the packing gives nothing again. */
const earlySlicesMax = 4096

export class LiveTap {
  /** null: nobody watches. */
  #wants: LiveWants | null = null
  readonly #running = new Map<number, number>()
  #waiters: { readonly version: number, readonly done: () => void }[] = []
  readonly #deliver: (readings: LiveReadings) => void
  readonly #early = new Set<number>()

  constructor (deliver: (readings: LiveReadings) => void) { this.#deliver = deliver }

  /** Slices given out from now on are looked through for these. Versions only grow. */
  want (wants: LiveWants | null): void { this.#wants = wants }

  /** The pool as the packer and the hot follower use it. */
  on (pool: TappedPool): TappedPool {
    return {
      threads: pool.threads,
      pack: async task => {
        const result = await this.#run(task, async watched => await pool.pack(watched))
        if (result.live !== undefined && !this.#early.delete(task.mark.to)) this.#deliver(result.live)
        return result
      },
      packHot: async task => {
        const result = await this.#run(task, async watched => await pool.packHot(watched))
        if (result.live !== undefined) {
          if (this.#early.size >= earlySlicesMax) this.#early.clear()
          this.#early.add(task.mark.to)
          this.#deliver(result.live)
        }
        return result
      }
    }
  }

  async #run<T extends object, R> (task: T, run: (task: T) => Promise<R>): Promise<R> {
    const wants = this.#wants
    const version = wants?.version ?? 0
    this.#running.set(version, (this.#running.get(version) ?? 0) + 1)
    try {
      return await run(wants === null ? task : { ...task, live: wants })
    } finally {
      const count = this.#running.get(version) as number
      if (count > 1) this.#running.set(version, count - 1)
      else this.#running.delete(version)
      // After what this slice found has been delivered.
      if (this.#waiters.length > 0) queueMicrotask(() => { queueMicrotask(() => { this.#wake() }) })
    }
  }

  #wake (): void {
    const waiters = this.#waiters
    this.#waiters = []
    for (const waiter of waiters) {
      if (this.#oldest() >= waiter.version) waiter.done()
      else this.#waiters.push(waiter)
    }
  }

  #oldest (): number {
    let oldest = Infinity
    for (const version of this.#running.keys()) oldest = Math.min(oldest, version)
    return oldest
  }

  /** True when no slice is under way any more that was given out before `want` was called with the version; false after `timeoutMs`. */
  async settled (version: number, timeoutMs: number): Promise<boolean> {
    if (this.#oldest() >= version) return true
    return await new Promise<boolean>(resolve => {
      const timer = setTimeout(() => {
        this.#waiters = this.#waiters.filter(waiter => waiter !== own)
        resolve(false)
      }, timeoutMs)
      const own = { version, done: () => { clearTimeout(timer); resolve(true) } }
      this.#waiters.push(own)
    })
  }
}
