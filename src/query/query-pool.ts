/** Queries on the main thread: hands tasks to the reader threads, with a bound on how many wait. */
import { Piscina } from 'piscina'
import { TwinfoldError } from '../core/errors.js'
import type { QueryResult, QueryTask, StoreSpec } from '../../workers/protocol.js'
import type { QueryOutcome } from '../../workers/query.js'

export interface QueryPoolOptions {
  readonly store: StoreSpec
  readonly threads: number
  /** Queries that may wait; one more is answered with `throttled`. */
  readonly waitingMax: number
  /** Milliseconds after which a query is given up. */
  readonly timeoutMs: number
}

export class QueryPool {
  readonly #pool: Piscina<QueryTask, QueryOutcome>
  readonly #options: QueryPoolOptions
  readonly stats = { queries: 0, failed: 0, throttled: 0 }

  constructor (options: QueryPoolOptions) {
    this.#options = options
    this.#pool = new Piscina({
      filename: new URL('../../workers/query.js', import.meta.url).href,
      workerData: { store: options.store },
      minThreads: options.threads,
      maxThreads: options.threads,
      maxQueue: options.waitingMax,
      concurrentTasksPerWorker: 4,
      atomics: 'disabled'
    })
  }

  get waiting (): number { return this.#pool.queueSize }

  async run (task: QueryTask): Promise<QueryResult> {
    this.stats.queries++
    if (this.#pool.queueSize >= this.#options.waitingMax) {
      this.stats.throttled++
      throw new TwinfoldError('throttled', `${this.#options.waitingMax} queries are waiting already`, { retryAfterMs: 1000 })
    }
    let outcome: QueryOutcome
    try {
      outcome = await this.#pool.run(task, { signal: AbortSignal.timeout(this.#options.timeoutMs) })
    } catch (error) {
      this.stats.failed++
      if ((error as Error).name === 'AbortError') {
        throw new TwinfoldError('store_unavailable', `the query took longer than ${this.#options.timeoutMs} ms; ask for a shorter range or fewer readings`, { cause: error })
      }
      throw error
    }
    if ('result' in outcome) return outcome.result
    this.stats.failed++
    throw new TwinfoldError(outcome.code, outcome.detail)
  }

  async close (): Promise<void> {
    await this.#pool.close({ force: true })
  }
}
