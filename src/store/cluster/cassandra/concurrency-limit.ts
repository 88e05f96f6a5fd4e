/**
 * How many statements run at once, found from the latency itself: more while answers come as fast as ever, fewer when they slow
 * down, so that the queue forms here, where it is bounded and visible, and not inside Cassandra.
 *
 * The estimate is the gradient of Netflix's concurrency-limits (`Gradient2Limit`, github.com/Netflix/concurrency-limits): the
 * long-term latency over the present one, plus room to grow; late answers halve it (Jacobson's multiplicative decrease).
 */
import { TwinfoldError } from '../../../core/errors.js'

export interface LimitBounds {
  readonly min: number
  readonly max: number
  readonly initial: number
}

/** Samples are judged together: single ones are noise. */
const windowMs = 50
const windowSamples = 10
/** Latency may be this many times the long-term one before the limit shrinks. */
const tolerance = 1.5
/** Share of a new estimate that is taken over at once. */
const smoothing = 0.2
/** Windows over which the long-term latency is averaged. */
const longWindows = 100

/** The estimate alone: pure, knows neither clock nor queue. */
export class GradientLimit {
  readonly #bounds: LimitBounds
  #limit: number
  #longMs = 0
  #windowStartMs = -Infinity
  #sumMs = 0
  #count = 0
  #inFlightMax = 0
  #late = false

  constructor (bounds: LimitBounds) {
    this.#bounds = bounds
    this.#limit = bounds.initial
  }

  get limit (): number { return Math.floor(this.#limit) }

  /**
   * One finished call.
   * @param nowMs monotonic
   * @param tookMs its latency; for a late call the time after which it was given up
   * @param inFlight how many ran with it
   * @param late it timed out or was refused as too much
   */
  sample (nowMs: number, tookMs: number, inFlight: number, late: boolean): void {
    if (this.#count === 0) this.#windowStartMs = nowMs
    this.#sumMs += tookMs
    this.#count++
    this.#inFlightMax = Math.max(this.#inFlightMax, inFlight)
    this.#late ||= late
    if (nowMs - this.#windowStartMs < windowMs || this.#count < windowSamples) {
      // A call that timed out is news enough: with few in flight it would take long to gather a window.
      if (!late) return
    }
    this.#judge(this.#sumMs / this.#count)
    this.#sumMs = this.#count = this.#inFlightMax = 0
    this.#late = false
  }

  #judge (shortMs: number): void {
    if (this.#late) {
      this.#set(this.#limit / 2)
      return
    }
    this.#longMs = this.#longMs === 0 ? shortMs : this.#longMs + (shortMs - this.#longMs) / longWindows
    // After a slow time the long-term latency comes down faster than it went up, or the limit would grow without a reason.
    if (this.#longMs > 2 * shortMs) this.#longMs *= 0.95
    // A limit that is not used says nothing about a higher one.
    if (this.#inFlightMax < this.#limit / 2) return
    const gradient = Math.max(0.5, Math.min(1, tolerance * this.#longMs / Math.max(shortMs, 0.001)))
    this.#set(this.#limit * (1 - smoothing) + (this.#limit * gradient + Math.max(4, Math.sqrt(this.#limit))) * smoothing)
  }

  #set (limit: number): void {
    this.#limit = Math.max(this.#bounds.min, Math.min(this.#bounds.max, limit))
  }
}

export interface GateOptions extends LimitBounds {
  /** For messages: what waits here. */
  readonly name: string
  /** Calls that may wait; one more is rejected. */
  readonly waitingMax: number
  /** A call that has waited longer is rejected when its turn comes, milliseconds. */
  readonly waitMsMax: number
  readonly monotonicMs: () => number
}

export type Outcome = 'answered' | 'late' | 'not tried'

/** A place in the limit. It must be released once; the outcome teaches the limit. */
export interface Place {
  release(outcome: Outcome): void
}

interface Waiter {
  readonly sinceMs: number
  readonly resolve: (place: Place) => void
  readonly reject: (error: TwinfoldError) => void
}

/** The limit with its bounded queue, first come first served. */
export class ConcurrencyGate {
  readonly #options: GateOptions
  readonly #limit: GradientLimit
  #running = 0
  #queue: Waiter[] = []
  /** Position of the first waiter in #queue: shifting a long array would cost its length. */
  #head = 0
  #rejected = 0
  #rejectedAtMs = -Infinity

  constructor (options: GateOptions) {
    this.#options = options
    this.#limit = new GradientLimit(options)
  }

  get limit (): number { return this.#limit.limit }
  get running (): number { return this.#running }
  get waiting (): number { return this.#queue.length - this.#head }
  get rejected (): number { return this.#rejected }
  /** Monotonic milliseconds of the last rejection; -Infinity: never. */
  get rejectedAtMs (): number { return this.#rejectedAtMs }
  /** How long the first in the queue has waited, milliseconds; 0 when nobody does. */
  get waitedMs (): number { return this.waiting === 0 ? 0 : this.#options.monotonicMs() - this.#queue[this.#head].sinceMs }

  /** @throws TwinfoldError `store_unavailable` when the queue is full, or the wait was too long. */
  async acquire (): Promise<Place> {
    if (this.#running < this.#limit.limit && this.waiting === 0) return this.#place()
    if (this.waiting >= this.#options.waitingMax) throw this.#rejection(`${this.waiting} wait already`)
    const sinceMs = this.#options.monotonicMs()
    return await new Promise<Place>((resolve, reject) => { this.#queue.push({ sinceMs, resolve, reject }) })
  }

  #place (): Place {
    const { monotonicMs } = this.#options
    const startedMs = monotonicMs()
    this.#running++
    let released = false
    return {
      release: outcome => {
        if (released) return
        released = true
        if (outcome !== 'not tried') {
          const nowMs = monotonicMs()
          this.#limit.sample(nowMs, nowMs - startedMs, this.#running, outcome === 'late')
        }
        this.#running--
        this.#admit()
      }
    }
  }

  #admit (): void {
    const { monotonicMs, waitMsMax } = this.#options
    while (this.waiting > 0 && this.#running < this.#limit.limit) {
      const waiter = this.#queue[this.#head++]
      if (this.#head > 1024 && this.#head * 2 > this.#queue.length) {
        this.#queue = this.#queue.slice(this.#head)
        this.#head = 0
      }
      if (monotonicMs() - waiter.sinceMs > waitMsMax) waiter.reject(this.#rejection(`its turn came after more than ${waitMsMax} ms`))
      else waiter.resolve(this.#place())
    }
    if (this.waiting === 0) {
      this.#queue = []
      this.#head = 0
    }
  }

  #rejection (why: string): TwinfoldError {
    this.#rejected++
    this.#rejectedAtMs = this.#options.monotonicMs()
    return new TwinfoldError('store_unavailable', `${this.#options.name} is too busy: ${why}`, { retryAfterMs: 1000 })
  }
}
