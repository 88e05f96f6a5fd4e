/**
 * Exact decimals in windows. Most sensors send decimals of a few places; a window whose values are all r / 10^s (r an
 * integer) is folded in integers, so that 0.1 + 0.2 sums to 0.3 and no grouping or order of merges changes a bit. Results are stored
 * as the doubles nearest to them, and every integer is recovered from its double, since |r| < 2^51 (two roundings move it by
 * less than a half). Whether a window is exact depends on its points alone: their least common scale, number, least and greatest.
 */
import { powersOfTen } from '../columns/sequence.js'

export const scaleMax = powersOfTen.length - 1
/** `scales` of a window whose results are plain double arithmetic. */
export const inexact = -1

/** Adding and subtracting 1.5 * 2^52 rounds |x| <= 2^51 to an integer, ties to even. */
export const rounder = 6755399441055744
/** Integers up to this are recovered from doubles. */
export const integerMax = 2 ** 51
/** A sum of so many rises (each up to twice the greatest magnitude) stays below `integerMax`. */
const sumMax = 2 ** 49
/** Squares take more roundings to come back. */
const squaresMax = 2 ** 48

/** The fewest places, `from` or more, that give the value back as an integer below 2^51 over a power of ten; -1 where none do. -0 counts as 0. */
export function placesOf (value: number, from: number): number {
  for (let scale = from; scale <= scaleMax; scale++) {
    const power = powersOfTen[scale]
    const integer = (value * power + rounder) - rounder
    if (integer / power === value && integer < integerMax && integer > -integerMax) return scale
  }
  return -1
}

/** The integer of a decimal of `power`'s places. */
export function integerOf (decimal: number, power: number): number {
  // Not -0.
  return Math.round(decimal * power) + 0
}

/** Are sums and increases of so many values, the greatest magnitude `most` (an integer), exact? */
export const exactSum = (count: number, most: number): boolean => count * most <= sumMax

/** Are squared distances exact? `range`: greatest integer less the least. */
export const exactSquares = (count: number, range: number): boolean => count * range * range <= squaresMax

/** Is the integral over `spanUs` exact? */
export const exactArea = (most: number, spanUs: number): boolean => most * spanUs <= integerMax && Number.isInteger(spanUs)

/** The integer nearest to the mean: squares are counted from it, because they are least and every window knows it. */
export const pivotOf = (sum: number, count: number): number => Math.round(sum / count) + 0

/** Squares around `to` from squares around `from`; `sum` is that of the values. */
export function movedSquares (squares: number, count: number, sum: number, from: number, to: number): number {
  const distance = from - to
  return squares + distance * (2 * (sum - count * from) + count * distance)
}

/** m2 of the values (not of their integers) from the sum of squared distances of their integers from the pivot. */
export function m2Of (squares: number, count: number, sum: number, power: number): number {
  const rest = sum - count * pivotOf(sum, count)
  return (squares - rest * rest / count) / power / power
}

/** What `m2Of` was made of; the caller knows that squares are exact. */
export function squaresOf (m2: number, count: number, sum: number, power: number): number {
  const rest = sum - count * pivotOf(sum, count)
  return Math.round(m2 * power * power + rest * rest / count) + 0
}
