/**
 * Queries on the main thread: hands tasks to the reader threads, with a bound on how many wait and on how long each may take.
 * A query past its time gives itself up between two rows; the caller is answered a little later at the latest, even if the
 * thread hangs. Where a task still runs long after that, new queries get new threads, and the old ones are ended when every
 * neighbour on them has had its time.
 *
 * No abort signals: piscina gives a task that has one a thread of its own, and ends the thread with it.
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

type Threads = Piscina<QueryTask, Outcome<QueryResult>>

/** How much longer than its time the caller waits for a task that gives itself up, and how many times as long a thread may hang. */
const answerGraceMs = 250
const lastResortFactor = 4

export class QueryPool {
  #threads: Threads
  /** They have answered something: before, they may be starting, which is no hanging. */
  #answered = false
  /** Threads that hang, to be ended; no others are given up meanwhile. */
  #givenUp: { readonly threads: Threads, readonly timer: NodeJS.Timeout } | null = null
  readonly #options: QueryPoolOptions
  readonly #clock: Clock
  readonly stats = { queries: 0, failed: 0, throttled: 0, timedOut: 0, threadsReplaced: 0 }

  constructor (options: QueryPoolOptions) {
    this.#options = options
    this.#clock = options.clock ?? systemClock
    this.#threads = this.#newThreads()
  }

  get waiting (): number { return this.#threads.queueSize }

  /** @throws TwinfoldError `throttled`, `store_unavailable` (past its time, too), and what else the task meets. */
  async run (task: QueryTask): Promise<QueryResult> {
    const { timeoutMs, waitingMax } = this.#options
    this.stats.queries++
    if (this.#threads.queueSize >= waitingMax) {
      this.stats.throttled++
      throw new TwinfoldError('throttled', `${waitingMax} queries are waiting already`, { retryAfterMs: 1000 })
    }
    const threads = this.#threads
    const lastResort = setTimeout(() => { this.#giveUp(threads) }, timeoutMs * lastResortFactor).unref()
    const running = threads.run({ ...task, deadlineUs: this.#clock.nowUs() + timeoutMs * 1000 }).finally(() => {
      clearTimeout(lastResort)
      if (threads === this.#threads) this.#answered = true
    })
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
    if (this.#givenUp !== null) {
      clearTimeout(this.#givenUp.timer)
      await this.#givenUp.threads.destroy()
    }
    // What runs is given its grace; a thread that hangs does not hold up the end.
    const { timeoutMs } = this.#options
    await Promise.race([this.#threads.close({ force: true }), new Promise(resolve => { setTimeout(resolve, timeoutMs + answerGraceMs).unref() })])
    await this.#threads.destroy()
  }

  #newThreads (): Threads {
    const { worker = new URL('../../workers/query.js', import.meta.url), store, threads, waitingMax } = this.#options
    return new Piscina({
      filename: worker.href,
      workerData: { store },
      minThreads: threads,
      maxThreads: threads,
      maxQueue: waitingMax,
      concurrentTasksPerWorker: 4,
      atomics: 'disabled'
    })
  }

  #giveUp (threads: Threads): void {
    if (this.#threads !== threads || this.#givenUp !== null || !this.#answered) return
    this.stats.threadsReplaced++
    this.#threads = this.#newThreads()
    this.#answered = false
    const timer = setTimeout(() => {
      this.#givenUp = null
      threads.destroy().catch(() => {})
    }, this.#options.timeoutMs + answerGraceMs).unref()
    this.#givenUp = { threads, timer }
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
