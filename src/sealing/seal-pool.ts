/** The threads that seal (piscina). A task that throws or whose thread dies is the sealer's to repeat. */
import { Piscina } from 'piscina'
import { resultOf, type Outcome } from '../core/outcome.js'
import type { StoreSpec } from '../../workers/protocol.js'
import type { ScanResult, ScanTask, SealResult, SealTask, SealWorkerTask } from '../../workers/seal-protocol.js'

export interface SealPoolOptions {
  readonly store: StoreSpec
  readonly threads: number
}

export class SealPool {
  readonly threads: number
  readonly #pool: Piscina<SealWorkerTask, Outcome<SealResult | ScanResult>>

  constructor (options: SealPoolOptions) {
    this.threads = options.threads
    this.#pool = new Piscina({
      filename: new URL('../../workers/seal.js', import.meta.url).href,
      workerData: { store: options.store },
      minThreads: options.threads,
      maxThreads: options.threads,
      // The sealer hands over one task a thread and one scan; the bound is for the day that is wrong.
      maxQueue: options.threads + 2,
      atomics: 'disabled'
    })
  }

  /** @throws TwinfoldError as the thread met it. */
  async seal (task: SealTask): Promise<SealResult> {
    return resultOf(await this.#pool.run(task)) as SealResult
  }

  async scan (task: ScanTask): Promise<ScanResult> {
    return resultOf(await this.#pool.run(task)) as ScanResult
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
