/**
 * Numbers of JSON text, straight from bytes to doubles. Promises: exactly the JSON grammar (RFC 8259 section 6), and
 * bit for bit the double that JSON.parse gives.
 *
 * A number whose digits form an integer below 2^53 and whose power of ten is at most 22 needs one exact division or
 * multiplication, so the result is correctly rounded (Clinger, "How to Read Floating Point Numbers Accurately", 1990).
 * Every other number goes through the engine's own conversion.
 */

const mantissaMax = 2 ** 53
/** 10^22 is the greatest power of ten that is exact in a double. */
const exactPowerMax = 22
const powersOfTen = Float64Array.from({ length: exactPowerMax + 1 }, (_, power) => Number(`1e${power}`))
/** Exponents past this many are out of any double's range; the digits are still checked. */
const exponentMax = 100_000

/**
 * Reads the number that begins at `at` into out[outIndex].
 *
 * The caller makes sure that a byte which cannot belong to a number stands after it inside the buffer, so that digits
 * are counted without a bounds check each. A number ends where its grammar ends: what follows is the caller's to check.
 *
 * @returns offset after the number, or -1 where the bytes are no JSON number or its magnitude is beyond a double.
 */
export function readNumber (bytes: Buffer, at: number, out: Float64Array, outIndex: number): number {
  const start = at
  let digit = bytes[at] - 48
  const negative = digit === -3
  if (negative) digit = bytes[++at] - 48
  if (!(digit >= 0 && digit <= 9)) return -1
  let mantissa = digit
  at++
  if (digit !== 0) {
    while ((digit = bytes[at] - 48) >= 0 && digit <= 9) {
      mantissa = mantissa * 10 + digit
      at++
    }
  }
  let decimals = 0
  if (bytes[at] === 46) {
    const fractionStart = ++at
    while ((digit = bytes[at] - 48) >= 0 && digit <= 9) {
      mantissa = mantissa * 10 + digit
      at++
    }
    decimals = at - fractionStart
    if (decimals === 0) return -1
  }
  if ((bytes[at] | 32) === 101) return readExponent(bytes, start, at, negative ? -mantissa : mantissa, decimals, out, outIndex)
  // Rounding is monotonic: a mantissa that came out below 2^53 was never rounded on the way.
  if (mantissa >= mantissaMax || decimals > exactPowerMax) return convert(bytes, start, at, out, outIndex)
  const magnitude = decimals === 0 ? mantissa : mantissa / powersOfTen[decimals]
  out[outIndex] = negative ? -magnitude : magnitude
  return at
}

function readExponent (bytes: Buffer, start: number, at: number, mantissa: number, decimals: number, out: Float64Array, outIndex: number): number {
  at++
  const sign = bytes[at]
  if (sign === 43 || sign === 45) at++
  const digitsStart = at
  let exponent = 0
  for (let digit = bytes[at] - 48; digit >= 0 && digit <= 9; digit = bytes[++at] - 48) {
    if (exponent < exponentMax) exponent = exponent * 10 + digit
  }
  if (at === digitsStart) return -1
  const power = (sign === 45 ? -exponent : exponent) - decimals
  if (Math.abs(mantissa) >= mantissaMax || power > exactPowerMax || power < -exactPowerMax) return convert(bytes, start, at, out, outIndex)
  out[outIndex] = power < 0 ? mantissa / powersOfTen[-power] : mantissa * powersOfTen[power]
  return at
}

function convert (bytes: Buffer, start: number, end: number, out: Float64Array, outIndex: number): number {
  const value = Number(bytes.toString('latin1', start, end))
  if (!Number.isFinite(value)) return -1
  out[outIndex] = value
  return end
}
