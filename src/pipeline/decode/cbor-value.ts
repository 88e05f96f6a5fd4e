/**
 * Values of CBOR (RFC 8949) that the scanner has accepted: what kind one is, and the scalar in it. Numbers come as the
 * nearest double: integers, floats of all sizes (NaN and infinities included), bignums and decimal fractions (tags 2, 3
 * and 4). Other tags are transparent: their content counts (section 3.4 lets a decoder do so).
 */
import { CborMajor, type CborScanner, indefinite } from './cbor-scan.js'
import { TextCache } from './text-cache.js'

export type CborKind = 'number' | 'text' | 'bytes' | 'boolean' | 'null' | 'array' | 'map' | 'other'

export const CborTag = { isoTime: 0, epochTime: 1, positiveBignum: 2, negativeBignum: 3, decimalFraction: 4 } as const

/** A bignum of more bytes is beyond the range of a double (2^1024). */
const bignumBytesMax = 128

/** Half precision (RFC 8949 appendix D). */
export function halfToDouble (bits: number): number {
  const exponent = (bits >> 10) & 31
  const fraction = bits & 1023
  const magnitude = exponent === 0 ? fraction * 2 ** -24 : exponent === 31 ? (fraction === 0 ? Infinity : NaN) : (1024 + fraction) * 2 ** (exponent - 25)
  return bits >= 0x8000 ? -magnitude : magnitude
}

export class CborReader {
  kind: CborKind = 'other'
  number = 0
  boolean = false
  text = ''
  data: Buffer = Buffer.alloc(0)
  /** Innermost tag of the value, -1 where it has none. */
  tag = -1
  /** Of an array or map: offset of its first item, and items in it (pairs in a map), Infinity until a break. */
  firstAt = 0
  items = 0

  readonly #scanner: CborScanner
  readonly #texts = new TextCache()

  constructor (scanner: CborScanner) {
    this.#scanner = scanner
  }

  /**
   * Reads the value at `at`.
   * @returns offset after it; of an array or map, offset of its first item (walk its items, or `skip` it).
   */
  read (bytes: Buffer, at: number, to: number): number {
    const scanner = this.#scanner
    this.tag = -1
    let next = scanner.head(bytes, at, to)
    while (scanner.major === CborMajor.tag) {
      this.tag = scanner.argument
      next = scanner.head(bytes, next, to)
    }
    switch (scanner.major) {
      case CborMajor.unsigned: return this.#setNumber(scanner.argument, next)
      case CborMajor.negative: return this.#setNumber(-1 - scanner.argument, next)
      case CborMajor.bytes: case CborMajor.text: return this.#readString(bytes, next, to)
      case CborMajor.array: case CborMajor.map: return this.#readContainer(bytes, next, to)
      default: return this.#readSimple(bytes, next)
    }
  }

  #setNumber (value: number, next: number): number {
    this.kind = 'number'
    this.number = value
    return next
  }

  #readSimple (bytes: Buffer, next: number): number {
    const { info } = this.#scanner
    switch (info) {
      case 20: case 21:
        this.kind = 'boolean'
        this.boolean = info === 21
        return next
      case 22: case 23:
        this.kind = 'null'
        return next
      case 25: return this.#setNumber(halfToDouble(bytes.readUInt16BE(next - 2)), next)
      case 26: return this.#setNumber(bytes.readFloatBE(next - 4), next)
      case 27: return this.#setNumber(bytes.readDoubleBE(next - 8), next)
      default:
        this.kind = 'other'
        return next
    }
  }

  #readString (bytes: Buffer, next: number, to: number): number {
    const { major, info, argument } = this.#scanner
    const isText = major === CborMajor.text
    let end = next + argument
    if (info !== indefinite) {
      if (isText) this.text = this.#texts.get(bytes, next, end)
      else this.data = bytes.subarray(next, end)
    } else {
      // Each chunk of text is text by itself, so they may be decoded one by one (section 3.2.3).
      const chunks: Buffer[] = []
      for (end = next; bytes[end] !== 0xff;) {
        const start = this.#scanner.head(bytes, end, to)
        end = start + this.#scanner.argument
        chunks.push(bytes.subarray(start, end))
      }
      end++
      const whole = Buffer.concat(chunks)
      if (isText) this.text = whole.toString('utf8')
      else this.data = whole
    }
    this.kind = isText ? 'text' : 'bytes'
    if (!isText && (this.tag === CborTag.positiveBignum || this.tag === CborTag.negativeBignum)) this.#readBignum()
    return end
  }

  #readBignum (): void {
    const { data } = this
    this.kind = data.length > bignumBytesMax ? 'other' : 'number'
    if (this.kind === 'other') return
    const magnitude = data.length === 0 ? 0n : BigInt(`0x${data.toString('hex')}`)
    this.number = Number(this.tag === CborTag.positiveBignum ? magnitude : -1n - magnitude)
    if (!Number.isFinite(this.number)) this.kind = 'other'
  }

  #readContainer (bytes: Buffer, next: number, to: number): number {
    const { major, info, argument } = this.#scanner
    this.kind = major === CborMajor.array ? 'array' : 'map'
    this.firstAt = next
    this.items = info === indefinite ? Infinity : argument
    if (this.tag === CborTag.decimalFraction && this.kind === 'array' && argument === 2) return this.#readDecimalFraction(bytes, next, to)
    return next
  }

  /** [exponent, mantissa] (section 3.4.4); kind `other` where they are no integers. */
  #readDecimalFraction (bytes: Buffer, at: number, to: number): number {
    const exponentEnd = this.read(bytes, at, to)
    const exponent = this.kind === 'number' ? this.number : NaN
    const mantissaAt = this.kind === 'array' || this.kind === 'map' ? this.#scanner.skip(bytes, at, to) : exponentEnd
    const mantissaEnd = this.read(bytes, mantissaAt, to)
    const mantissa = this.kind === 'number' ? this.number : NaN
    const end = this.kind === 'array' || this.kind === 'map' ? this.#scanner.skip(bytes, mantissaAt, to) : mantissaEnd
    const value = Number.isInteger(exponent) && Number.isInteger(mantissa) ? Number(`${mantissa}e${exponent}`) : NaN
    this.tag = CborTag.decimalFraction
    this.kind = Number.isFinite(value) ? 'number' : 'other'
    this.number = value
    return end
  }
}
