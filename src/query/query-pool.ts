/**
 * Queries on the main thread: hands tasks to the reader threads, with a bound on how many wait and on how long each may take.
 * A query past its time gives itself up between two rows; the caller is answered a little later at the latest, even if the
 * thread hangs. Only where a task still runs long after that is its thread ended, with what else runs on it.
 */
import { Piscina } from 'piscina'
import { systemClock, type Clock } from '../core/clock.js'
import { TwinfoldError } from '../core/errors.js'
import { resultOf, type Outcome } from '../core/outcome.js'
import type { QueryResult, QueryTask, StoreSpec } from '../../workers/protocol.js'

export interface QueryPoolOptions {
  readonly store: StoreSpec
  readonly threads: number
  /** Queries that may wait; one more is answered with `throttled`. */
  readonly waitingMax: number
  /** Milliseconds after which a query is given up. */
  readonly timeoutMs: number
  /** Default: the system's. */
  readonly clock?: Clock
  /** The thread entry; only tests name another. */
  readonly worker?: URL
}

/** How much longer than its time the caller waits for a task that gives itself up, and until the thread of one that does not is ended. */
const answerGraceMs = 250
const lastResortFactor = 4

export class QueryPool {
  readonly #pool: Piscina<QueryTask, Outcome<QueryResult>>
  readonly #options: QueryPoolOptions
  readonly #clock: Clock
  readonly stats = { queries: 0, failed: 0, throttled: 0, timedOut: 0 }

  constructor (options: QueryPoolOptions) {
    this.#options = options
    this.#clock = options.clock ?? systemClock
    this.#pool = new Piscina({
      filename: (options.worker ?? new URL('../../workers/query.js', import.meta.url)).href,
      workerData: { store: options.store },
      minThreads: options.threads,
      maxThreads: options.threads,
      maxQueue: options.waitingMax,
      concurrentTasksPerWorker: 4,
      atomics: 'disabled'
    })
  }

  get waiting (): number { return this.#pool.queueSize }

  /** @throws TwinfoldError `throttled`, `store_unavailable` (past its time, too), and what else the task meets. */
  async run (task: QueryTask): Promise<QueryResult> {
    const { timeoutMs, waitingMax } = this.#options
    this.stats.queries++
    if (this.#pool.queueSize >= waitingMax) {
      this.stats.throttled++
      throw new TwinfoldError('throttled', `${waitingMax} queries are waiting already`, { retryAfterMs: 1000 })
    }
    const ending = new AbortController()
    const lastResort = setTimeout(() => { ending.abort() }, timeoutMs * lastResortFactor + answerGraceMs)
    const running = this.#pool.run({ ...task, deadlineUs: this.#clock.nowUs() + timeoutMs * 1000 }, { signal: ending.signal })
      .finally(() => { clearTimeout(lastResort) })
    // It may outlive its caller.
    running.catch(() => {})
    try {
      return resultOf(await this.#within(running, timeoutMs + answerGraceMs))
    } catch (error) {
      this.stats.failed++
      throw error
    }
  }

  async close (): Promise<void> {
    await this.#pool.close({ force: true })
  }

  async #within<T> (running: Promise<T>, ms: number): Promise<T> {
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_resolve, reject) => {
      timer = setTimeout(() => {
        this.stats.timedOut++
        reject(new TwinfoldError('store_unavailable', `the query took longer than ${this.#options.timeoutMs} ms; ask for a shorter range or fewer readings`, { retryAfterMs: 1000 }))
      }, ms)
    })
    try {
      return await Promise.race([running, late])
    } finally {
      clearTimeout(timer)
    }
  }
}
