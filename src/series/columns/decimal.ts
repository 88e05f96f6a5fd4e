/**
 * Doubles as scaled integers: most sensors send decimals of a few places, and v = r / 10^s gives every such double
 * back bit for bit when r and 10^s are exact (one correctly rounded division, IEEE 754 section 5.4.1). The same for
 * doubles that are widened singles of such decimals (firmware that computes in 32 bits): v = fround(r / 10^s).
 * What does not fit (NaN, infinities, -0, full doubles) is kept beside the integers as a patch.
 */
import { packedIntegerMax } from './blocks.js'
import { powersOfTen } from './sequence.js'

export interface DecimalFit {
  readonly scale: number
  /** The quotients are rounded to single precision. */
  readonly single: boolean
  readonly min: number
  readonly max: number
  /** Ascending indexes of values that are no such decimal; their integers repeat the one before. */
  readonly patches: readonly number[]
}

const scaleMax = powersOfTen.length - 1
/** Adding and subtracting 1.5 * 2^52 rounds |x| <= 2^51 to an integer, ties to even. */
const rounder = 6755399441055744
/** At most one value in so many may be a patch. */
const valuesPerPatchMin = 8
/**
 * A value that needs this many more places than its neighbours is patched rather than followed, as long as such
 * values are so rare that their patches (72 bits each) cost less than log2(10) bits a place for everyone.
 */
const outlierPlacesMin = 4
const valuesPerOutlierPlace = 22

/** The integer r with value = r / 10^scale (in single precision, where `single`), or NaN where there is none. */
function scaled (value: number, scale: number, single: boolean): number {
  const power = powersOfTen[scale]
  const integer = (value * power + rounder) - rounder
  const back = single ? Math.fround(integer / power) : integer / power
  if (back !== value || integer >= packedIntegerMax || integer <= -packedIntegerMax) return NaN
  // -0 equals 0, but is not the same double.
  return integer === 0 && 1 / value < 0 ? NaN : integer
}

/** The fewest places, from `from` on, that give the value back; -1 where none do. */
function placesOf (value: number, from: number, single: boolean): number {
  for (let scale = from; scale <= scaleMax; scale++) {
    const integer = scaled(value, scale, single)
    if (integer === integer) return scale
  }
  return -1
}

/** One value as a decimal, for columns in which all values are the same. */
export function constantDecimal (value: number): { integer: number, scale: number } | null {
  const scale = placesOf(value, 0, false)
  return scale < 0 ? null : { integer: scaled(value, scale, false), scale }
}

/** Fills `integers` with the values times 10^scale; null where too many values are no decimals. */
export function fitDecimal (values: Float64Array, count: number, integers: Float64Array): DecimalFit | null {
  return fit(values, count, integers, false) ??
    (Math.fround(values[0]) === values[0] && Math.fround(values[count >> 1]) === values[count >> 1] ? fit(values, count, integers, true) : null)
}

function fit (values: Float64Array, count: number, integers: Float64Array, single: boolean): DecimalFit | null {
  let scale = firstGuess(values, count, single)
  const patches: number[] = []
  const patchesMax = Math.floor(count / valuesPerPatchMin)
  let outliers: Int32Array | null = null
  let power = powersOfTen[scale]
  let min = Infinity
  let max = -Infinity
  let previous = NaN
  for (let i = 0; i < count; i++) {
    const value = values[i]
    const integer = (value * power + rounder) - rounder
    const back = single ? Math.fround(integer / power) : integer / power
    if (back === value && integer < packedIntegerMax && integer > -packedIntegerMax && (integer !== 0 || 1 / value > 0)) {
      integers[i] = previous = integer
      if (integer < min) min = integer
      if (integer > max) max = integer
      continue
    }
    const places = placesOf(value, scale + 1, single)
    if (places >= 0 && raises(places, scale, count, outliers ??= new Int32Array(scaleMax + 1))) {
      // Begin again: earlier patches may fit now. At most once per scale.
      scale = places
      power = powersOfTen[scale]
      patches.length = 0
      min = Infinity
      max = -Infinity
      previous = NaN
      i = -1
      continue
    }
    if (patches.length >= patchesMax) return null
    patches.push(i)
    integers[i] = previous
  }
  if (previous !== previous) return null
  // Patches before the first decimal take its integer.
  if (patches.length > 0 && patches[0] === 0) {
    let first = 0
    while (integers[first] !== integers[first]) first++
    integers.fill(integers[first], 0, first)
  }
  return { scale, single, min, max, patches }
}

/** The fewest places that one of three values needs. */
function firstGuess (values: Float64Array, count: number, single: boolean): number {
  let guess = scaleMax + 1
  for (const at of [0, count >> 1, count - 1]) {
    const places = placesOf(values[at], 0, single)
    if (places >= 0 && places < guess) guess = places
  }
  return guess > scaleMax ? 0 : guess
}

/** Should the whole column follow a value that needs `places`? */
function raises (places: number, scale: number, count: number, outliers: Int32Array): boolean {
  outliers[places]++
  const more = places - scale
  return more < outlierPlacesMin || outliers[places] * valuesPerOutlierPlace > count * more
}
