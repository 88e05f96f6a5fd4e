/**
 * Time as a port, and the accept stamps of DESIGN 3.8: a hybrid logical clock in microseconds
 * (Kulkarni et al., "Logical Physical Clocks", 2014), strictly increasing per journal.
 */
export interface Clock {
  /** Wall clock, microseconds since the epoch, fractions cut. */
  nowUs(): number
  /** Monotonic milliseconds, for durations. */
  monotonicMs(): number
}

export const systemClock: Clock = {
  nowUs: () => Math.floor((performance.timeOrigin + performance.now()) * 1000),
  monotonicMs: () => performance.now()
}

/** A node whose wall clock is further than this from the cluster's is not ready (DESIGN 3.8). */
export const clockOffMsMax = 250
/** A node that has not been heard of for this long counts as gone. */
export const nodeLeaseMs = 5000
/**
 * A stamp from another node that lies further than this ahead of the wall clock is not believed: following it would carry
 * one node's wrong clock, or the stamps of a bulk import that ran ahead, into every other journal.
 */
export const stampAheadUsMax = (clockOffMsMax + nodeLeaseMs) * 1000

export class StampClock {
  readonly #clock: Clock
  #last: number

  /** @param floorUs greatest stamp that this journal ever gave out; stamps continue above it. */
  constructor (clock: Clock, floorUs: number) {
    this.#clock = clock
    this.#last = floorUs
  }

  /** Reserves `count` consecutive stamps and returns the first. */
  take (count: number): number {
    const now = this.#clock.nowUs()
    const first = now > this.#last ? now : this.#last + 1
    this.#last = first + count - 1
    return first
  }

  /** Moves past a stamp seen from elsewhere, so that what is accepted later is greater. */
  observe (stampUs: number): void {
    if (stampUs > this.#last) this.#last = stampUs
  }

  get last (): number { return this.#last }

  /** How far the stamps run ahead of the wall clock, in microseconds; 0 when behind. */
  aheadUs (): number {
    return Math.max(0, this.#last - this.#clock.nowUs())
  }
}
