/** The packer threads (piscina). A task that throws or whose thread dies is the packer's to repeat. */
import { Piscina } from 'piscina'
import { resultOf, type Outcome } from '../core/outcome.js'
import type { HotResult, HotTask, MergeResult, MergeTask, PackResult, PackTask, PackWorkerTask, StoreSpec } from '../../workers/protocol.js'

export interface PackPoolOptions {
  readonly store: StoreSpec
  readonly threads: number
  /** How long workers may remember tenants and plans, milliseconds. */
  readonly leaseMs: number
}

export class PackPool {
  readonly threads: number
  readonly #pool: Piscina<PackWorkerTask, Outcome<PackResult | HotResult | MergeResult>>

  constructor (options: PackPoolOptions) {
    this.threads = options.threads
    this.#pool = new Piscina({
      filename: new URL('../../workers/pack.js', import.meta.url).href,
      workerData: { store: options.store, leaseMs: options.leaseMs },
      minThreads: options.threads,
      maxThreads: options.threads,
      // No more is handed over than a slice a thread, one slice for the hot state and one merge; the bound is for the day that is wrong.
      maxQueue: options.threads + 3,
      atomics: 'disabled'
    })
  }

  async pack (task: PackTask): Promise<PackResult> {
    return resultOf(await this.#pool.run(task)) as PackResult
  }

  async packHot (task: HotTask): Promise<HotResult> {
    return resultOf(await this.#pool.run(task)) as HotResult
  }

  async merge (task: MergeTask): Promise<MergeResult> {
    return resultOf(await this.#pool.run(task)) as MergeResult
  }

  /** Waits for the running tasks. */
  async close (): Promise<void> {
    await this.#pool.close()
  }

  /** Ends the threads wherever they are, as a crash would; running tasks reject. */
  async destroy (): Promise<void> {
    await this.#pool.destroy()
  }
}
