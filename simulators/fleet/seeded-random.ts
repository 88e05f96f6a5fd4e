/** Repeatable randomness: the same seed gives the same fleet, so that a failing run can be run again. */

/** A function that returns numbers in [0, 1): mulberry32 (public domain algorithm by Tommy Ettinger, 2017). */
export type Random = () => number

export function seededRandom (seed: number): Random {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
