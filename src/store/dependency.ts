/**
 * A service that this process leans on: Cassandra, Redis, ClickHouse. Each has its own circuit breaker (calls are answered at
 * once while it is known not to answer, and it is probed) and its own bulkhead (a slow one holds up its own callers alone).
 * Their states stand in /readyz and /metrics.
 */
import { BulkheadRejectedError, CircuitState, ConsecutiveBreaker, bulkhead, circuitBreaker, handleWhen, type BulkheadPolicy, type CircuitBreakerPolicy } from 'cockatiel'
import type { Clock } from '../core/clock.js'
import { TwinfoldError, type ErrorCode } from '../core/errors.js'
import type { Log } from '../core/log.js'
import type { DependencyStatus, Watched } from './dependency-status.js'

export interface DependencyOptions {
  /** As people know it: `Cassandra`. */
  readonly name: string
  readonly clock: Clock
  readonly log: Log
  /** Code of the error that callers get while the circuit is open, the bulkhead full, or the service at fault. */
  readonly code: ErrorCode
  /** Faults in a row, none answered between, that open the circuit. */
  readonly failuresMax?: number
  /** Pause between two probes, and before the first trial of an open circuit, milliseconds. */
  readonly retryAfterMs?: number
  readonly runningMax?: number
  readonly waitingMax?: number
  /**
   * Whether an error is the service's fault (not reachable, late, too few replicas) and not the call's (a syntax error, a failed
   * condition). Unless given: a TwinfoldError of the code above.
   */
  readonly isFault?: (error: Error) => boolean
  /** Asks the service something small, with a time-out of its own; rejects when it does not answer. Keeps the state right while nobody calls. */
  readonly probe?: () => Promise<unknown>
}

/** How long `slow` lasts after the bulkhead was full. */
const slowForMs = 10_000

export class Dependency implements Watched {
  readonly #options: DependencyOptions
  readonly #breaker: CircuitBreakerPolicy
  readonly #bulkhead: BulkheadPolicy
  readonly #runningMax: number
  readonly #waitingMax: number
  readonly #retryAfterMs: number
  readonly #timer: NodeJS.Timeout | null
  #probing = false
  #closed = false
  #calls = 0
  #failures = 0
  #rejected = 0
  #fullAtMs = -Infinity
  /** Since when the circuit is open or closed. */
  #sinceMs: number
  #openedUs = 0
  #trialAtMs = 0
  #lastError = ''

  constructor (options: DependencyOptions) {
    const { clock, log, name, failuresMax = 5, retryAfterMs = 1000, runningMax = 1024, waitingMax = 1024 } = options
    this.#options = options
    this.#runningMax = runningMax
    this.#waitingMax = waitingMax
    this.#retryAfterMs = retryAfterMs
    this.#sinceMs = clock.monotonicMs()
    this.#bulkhead = bulkhead(runningMax, waitingMax)
    // The time of a trial is ours to choose: the library compares readings of the wall clock, and one set back would keep the circuit open.
    this.#breaker = circuitBreaker(handleWhen(error => this.#isFault(error)), { halfOpenAfter: Number.NEGATIVE_INFINITY, breaker: new ConsecutiveBreaker(failuresMax) })
    this.#breaker.onStateChange(state => {
      if (state === CircuitState.Open) {
        this.#trialAtMs = clock.monotonicMs() + this.#retryAfterMs
        if (this.#openedUs !== 0) return
        this.#openedUs = clock.nowUs()
        this.#sinceMs = clock.monotonicMs()
        log.warn({ dependency: name, reason: this.#lastError }, 'a dependency is down')
      } else if (state === CircuitState.Closed) {
        log.info({ dependency: name, downMs: Math.round(clock.monotonicMs() - this.#sinceMs) }, 'a dependency is up again')
        this.#openedUs = 0
        this.#sinceMs = clock.monotonicMs()
      }
    })
    this.#timer = options.probe === undefined ? null : setInterval(() => { void this.#probe() }, retryAfterMs).unref()
  }

  /**
   * Runs one call. Errors that are the call's own pass unchanged; the service's faults come as TwinfoldError of the code.
   * @throws TwinfoldError of the code: at once while the circuit is open or when `waitingMax` calls wait already.
   */
  async run<T> (call: () => Promise<T>): Promise<T> {
    this.#calls++
    try {
      this.#refuseWhileOpen()
      return await this.#bulkhead.execute(async () => {
        // It may have opened while this call waited for its place.
        this.#refuseWhileOpen()
        return await this.#breaker.execute(async () => await this.#counted(call))
      })
    } catch (error) {
      if (error instanceof BulkheadRejectedError) {
        this.#rejected++
        this.#fullAtMs = this.#options.clock.monotonicMs()
        throw new TwinfoldError(this.#options.code, `${this.#options.name} is too busy: ${this.#runningMax} calls run and ${this.#waitingMax} wait`, { retryAfterMs: this.#retryAfterMs })
      }
      if (error instanceof TwinfoldError || !(error instanceof Error) || !this.#isFault(error)) throw error
      throw new TwinfoldError(this.#options.code, `${this.#options.name}: ${error.message}`, { cause: error, retryAfterMs: this.#retryAfterMs })
    }
  }

  status (): DependencyStatus {
    const { name, clock } = this.#options
    const down = this.#isOpen()
    const slow = !down && clock.monotonicMs() - this.#fullAtMs < slowForMs
    return {
      name,
      state: down ? 'down' : slow ? 'slow' : 'up',
      reason: down ? this.#reason() : slow ? 'more calls than it answers in time' : '',
      sinceMs: slow ? this.#fullAtMs : this.#sinceMs,
      calls: this.#calls,
      failures: this.#failures,
      rejected: this.#rejected,
      running: this.#runningMax - this.#bulkhead.executionSlots,
      waiting: this.#waitingMax - this.#bulkhead.queueSlots
    }
  }

  /** Ends the probing. Calls still run; nothing is waited for. */
  close (): void {
    this.#closed = true
    if (this.#timer !== null) clearInterval(this.#timer)
  }

  #isOpen (): boolean {
    return this.#breaker.state !== CircuitState.Closed
  }

  #isFault (error: Error): boolean {
    const { isFault, code } = this.#options
    return isFault === undefined ? error instanceof TwinfoldError && error.code === code : isFault(error)
  }

  #reason (): string {
    return `${this.#options.name} has been down since ${new Date(this.#openedUs / 1000).toISOString()}; last error: ${this.#lastError}`
  }

  #refuseWhileOpen (): void {
    if (!this.#isOpen()) return
    // With a probe the probe alone tries; without one, the first caller after the pause does.
    const mayTry = this.#timer === null && this.#breaker.state === CircuitState.Open && this.#options.clock.monotonicMs() >= this.#trialAtMs
    if (mayTry) return
    this.#rejected++
    throw new TwinfoldError(this.#options.code, this.#reason(), { retryAfterMs: this.#retryAfterMs })
  }

  async #counted<T> (call: () => Promise<T>): Promise<T> {
    try {
      return await call()
    } catch (error) {
      if (error instanceof Error && this.#isFault(error)) {
        this.#failures++
        this.#lastError = error.message
      }
      throw error
    }
  }

  async #probe (): Promise<void> {
    const { probe } = this.#options
    if (this.#probing || this.#closed || probe === undefined) return
    this.#probing = true
    try {
      await this.#breaker.execute(async () => await this.#counted(probe))
    } catch {
      // Counted and kept as the reason; there is nobody to tell.
    } finally {
      this.#probing = false
    }
  }
}
