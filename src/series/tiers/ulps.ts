/** Distances between doubles counted in representable values: what is left where a prediction is off by rounding only. */

/** Larger distances are better stored as doubles. */
const distanceMax = 2 ** 32
const negativeZeroBits = -(2n ** 63n)

export class Ulps {
  readonly #doubles = new Float64Array(2)
  readonly #bits = new BigInt64Array(this.#doubles.buffer)

  /** All distances, or null where one is too large; NaN is no distance from NaN. */
  distances (values: Float64Array, expected: (i: number) => number): Float64Array | null {
    const out = new Float64Array(values.length)
    for (let i = 0; i < values.length; i++) {
      this.#doubles[0] = values[i]
      this.#doubles[1] = expected(i)
      const distance = Number(this.#bits[0] - this.#bits[1])
      if (!(Math.abs(distance) < distanceMax) || this.at(this.#doubles[1], distance) !== values[i]) return null
      out[i] = distance
    }
    return out
  }

  /** The double `distance` (an integer) away from `expected`; NaN where there is none. */
  at (expected: number, distance: number): number {
    this.#doubles[1] = expected
    const bits = this.#bits[1] + BigInt(distance)
    if (bits < negativeZeroBits || bits >= -negativeZeroBits) return NaN
    this.#bits[1] = bits
    return this.#doubles[1]
  }
}
