/**
 * A quantile sketch with 1 % relative error (DDSketch: Masson, Rim, Lee, VLDB 2019): counts of values in bins of equal ratio, for either
 * sign. It is the same in whatever order values come and sketches are merged: bins are counts, and add. Infinities have bins of their
 * own, NaNs are counted and passed over.
 *
 * Bounded: of each sign the 2048 bins of greatest magnitude are kept, which span a ratio of 6 * 10^17; smaller magnitudes are counted in the
 * lowest bin kept, and answers for them come out too large, but never above 2 * 10^-18 of the greatest magnitude.
 */
export const relativeError = 0.01
/** Bins of one sign. */
export const binsMax = 2048

const gamma = (1 + relativeError) / (1 - relativeError)
const perLog = 1 / Math.log(gamma)
/** Bin k holds (gamma^(k-1), gamma^k]; this point of it is within 1 % of all of them. */
const valueOfKey = (key: number): number => 2 * Math.exp(key / perLog) / (gamma + 1)

/** Bins of values of one sign, by magnitude. */
export class Bins {
  /** Counts of the keys from `firstKey` on; zeros outside what was added. */
  counts = new Float64Array(0)
  firstKey = 0
  /** Least and greatest key that was added to; least > greatest: none. */
  least = Infinity
  greatest = -Infinity

  add (key: number, count: number): void {
    const at = key - this.firstKey
    if (key >= this.least && key <= this.greatest) {
      this.counts[at] += count
      return
    }
    this.#include(key)
    this.counts[Math.max(key, this.least) - this.firstKey] += count
  }

  #include (key: number): void {
    const greatest = Math.max(this.greatest, key)
    const floor = greatest - binsMax + 1
    const least = Math.max(floor, Math.min(this.least, key))
    const room = 16
    if (this.greatest < this.least) {
      this.counts = new Float64Array(2 * room + 1)
      this.firstKey = key - room
    } else {
      if (floor > this.least) this.#collapse(floor)
      if (least < this.firstKey || greatest >= this.firstKey + this.counts.length) {
        const firstKey = Math.max(floor, least - Math.max(room, (greatest - least) >> 1))
        const grown = new Float64Array(greatest - firstKey + 1 + Math.max(room, (greatest - least) >> 1))
        for (let k = Math.max(this.least, least); k <= this.greatest; k++) grown[k - firstKey] = this.counts[k - this.firstKey]
        this.counts = grown
        this.firstKey = firstKey
      }
    }
    this.least = least
    this.greatest = greatest
  }

  /** Counts what lies below `floor` in the bin there. */
  #collapse (floor: number): void {
    let sum = 0
    const to = Math.min(floor - 1, this.greatest)
    for (let key = this.least; key <= to; key++) {
      sum += this.counts[key - this.firstKey]
      this.counts[key - this.firstKey] = 0
    }
    if (floor > this.greatest) {
      // Nothing else is left: one bin.
      this.counts = new Float64Array(1)
      this.firstKey = floor
      this.greatest = floor
    }
    this.counts[floor - this.firstKey] += sum
    this.least = floor
  }

  merge (other: Bins): void {
    for (let key = other.greatest; key >= other.least; key--) {
      const count = other.counts[key - other.firstKey]
      if (count > 0) this.add(key, count)
    }
  }

  total (): number {
    let sum = 0
    for (let key = this.least; key <= this.greatest; key++) sum += this.counts[key - this.firstKey]
    return sum
  }
}

/** The place, from 1, of the quantile `q` (0 to 1) among `count` values in ascending order: the first that has at least q of them at or below it (nearest rank). */
export function nearestRank (q: number, count: number): number {
  return Math.min(count, Math.max(1, Math.ceil(q * count)))
}

export class Sketch {
  readonly positive = new Bins()
  readonly negative = new Bins()
  /** Zeros of either sign. */
  zeros = 0
  positiveInfinities = 0
  negativeInfinities = 0
  /** Values that no quantile counts. */
  nans = 0
  /** Values but NaNs. */
  count = 0
  /** Least and greatest value; +-Infinity where there is none. */
  min = Infinity
  max = -Infinity
  #lastValue = 0
  #lastKey = 0

  add (value: number): void {
    if (value !== value) {
      this.nans++
      return
    }
    this.count++
    if (value < this.min) this.min = value
    if (value > this.max) this.max = value
    if (value === 0) this.zeros++
    else if (value === Infinity) this.positiveInfinities++
    else if (value === -Infinity) this.negativeInfinities++
    else (value > 0 ? this.positive : this.negative).add(this.#keyOf(value), 1)
  }

  #keyOf (value: number): number {
    if (value === this.#lastValue) return this.#lastKey
    this.#lastValue = value
    return this.#lastKey = Math.ceil(Math.log(Math.abs(value)) * perLog)
  }

  /** Adds what another sketch has seen; that one is left as it was. */
  merge (other: Sketch): void {
    this.positive.merge(other.positive)
    this.negative.merge(other.negative)
    this.zeros += other.zeros
    this.positiveInfinities += other.positiveInfinities
    this.negativeInfinities += other.negativeInfinities
    this.nans += other.nans
    this.count += other.count
    if (other.min < this.min) this.min = other.min
    if (other.max > this.max) this.max = other.max
  }

  /**
   * The value at `nearestRank(q, count)`, within 1 % (relative) of the exact one; least and greatest are exact. NaN where there is no value.
   * @param q 0 to 1
   */
  quantile (q: number): number {
    const { count } = this
    if (count === 0) return NaN
    const rank = nearestRank(q, count)
    if (rank === 1) return this.min
    if (rank === count) return this.max
    let seen = this.negativeInfinities
    if (seen >= rank) return -Infinity
    const { negative, positive } = this
    for (let key = negative.greatest; key >= negative.least; key--) {
      seen += negative.counts[key - negative.firstKey]
      if (seen >= rank) return this.#clamped(-valueOfKey(key))
    }
    seen += this.zeros
    if (seen >= rank) return 0
    for (let key = positive.least; key <= positive.greatest; key++) {
      seen += positive.counts[key - positive.firstKey]
      if (seen >= rank) return this.#clamped(valueOfKey(key))
    }
    return Infinity
  }

  #clamped (value: number): number {
    return value < this.min ? this.min : value > this.max ? this.max : value
  }
}
