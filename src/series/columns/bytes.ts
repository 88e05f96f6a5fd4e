/**
 * Bytes in and out: the primitive encodings of FORMAT.md. The writer grows; the reader checks every access against
 * its end and throws `corrupt_data` instead of reading past it.
 */
import { corrupt } from './bounds.js'

export class ByteWriter {
  bytes: Uint8Array
  length = 0
  #doubles: Float64Array | null = null
  #doubleBytes: Uint8Array | null = null

  constructor (capacity: number) {
    this.bytes = Buffer.allocUnsafe(capacity)
  }

  /** Makes room for `count` more bytes; call before writing to `bytes` directly. */
  reserve (count: number): void {
    if (this.length + count <= this.bytes.length) return
    const grown = Buffer.allocUnsafe(Math.max(this.bytes.length * 2, this.length + count))
    grown.set(this.bytes.subarray(0, this.length))
    this.bytes = grown
  }

  byte (value: number): void {
    this.reserve(1)
    this.bytes[this.length++] = value
  }

  /** An unsigned integer, 0 to 2^53 - 1: seven bits a byte, lowest first, the high bit says that more follow. */
  varint (value: number): void {
    this.reserve(8)
    const { bytes } = this
    let rest = value
    while (rest >= 0x80000000) {
      bytes[this.length++] = (rest % 128) | 0x80
      rest = Math.floor(rest / 128)
    }
    while (rest >= 128) {
      bytes[this.length++] = (rest & 127) | 0x80
      rest >>>= 7
    }
    bytes[this.length++] = rest
  }

  /** A signed integer, magnitude up to 2^53 - 1: bit 6 of the first byte is the sign, its low six bits and then seven a byte the magnitude. */
  signed (value: number): void {
    const sign = value < 0 ? 64 : 0
    const magnitude = Math.abs(value)
    if (magnitude < 64) {
      this.byte(magnitude | sign)
      return
    }
    this.byte((magnitude % 64) | sign | 0x80)
    this.varint(Math.floor(magnitude / 64))
  }

  /** An IEEE double, little endian. A NaN is written as the canonical one. */
  float64 (value: number): void {
    if (this.#doubles === null || this.#doubleBytes === null) {
      this.#doubles = new Float64Array(1)
      this.#doubleBytes = new Uint8Array(this.#doubles.buffer)
    }
    this.#doubles[0] = value
    this.raw(this.#doubleBytes)
  }

  uint32 (value: number): void {
    this.reserve(4)
    const { bytes } = this
    bytes[this.length++] = value
    bytes[this.length++] = value >>> 8
    bytes[this.length++] = value >>> 16
    bytes[this.length++] = value >>> 24
  }

  raw (bytes: Uint8Array): void {
    this.reserve(bytes.length)
    this.bytes.set(bytes, this.length)
    this.length += bytes.length
  }

  /** Text whose every character is below 128, as one byte each; false, and nothing written, where one is not. */
  ascii (text: string): boolean {
    this.reserve(text.length)
    const { bytes, length } = this
    for (let i = 0; i < text.length; i++) {
      const code = text.charCodeAt(i)
      if (code > 127) return false
      bytes[length + i] = code
    }
    this.length = length + text.length
    return true
  }

  /**
   * Puts the length of what was written since `start` in front of it, as a varint. One byte was left free for it at
   * `start - 1`; a longer length moves the bytes.
   */
  closeLength (start: number): void {
    const length = this.length - start
    if (length < 128) {
      this.bytes[start - 1] = length
      return
    }
    const extra = length < 16384 ? 1 : length < 2097152 ? 2 : length < 268435456 ? 3 : 4
    this.reserve(extra)
    this.bytes.copyWithin(start + extra, start, this.length)
    const end = this.length + extra
    this.length = start - 1
    this.varint(length)
    this.length = end
  }

  /** What was written, in an array of its own. */
  take (): Uint8Array {
    return Uint8Array.prototype.slice.call(this.bytes, 0, this.length)
  }
}

/** Bytes that `signed` takes. */
export function signedBytes (value: number): number {
  let magnitude = Math.abs(value)
  if (magnitude < 64) return 1
  magnitude /= 64
  let bytes = 2
  while (magnitude >= 128) {
    magnitude /= 128
    bytes++
  }
  return bytes
}

export class ByteReader {
  readonly bytes: Uint8Array
  at: number
  readonly end: number

  constructor (bytes: Uint8Array, at = 0, end = bytes.length) {
    this.bytes = bytes
    this.at = at
    this.end = end
  }

  byte (): number {
    if (this.at >= this.end) throw corrupt(`cut off at byte ${this.end}`)
    return this.bytes[this.at++]
  }

  varint (): number {
    let byte = this.byte()
    let value = byte & 127
    if (byte < 128) return value
    let factor = 128
    do {
      // Eight bytes hold 56 bits; a ninth is no number of ours.
      if (factor > 2 ** 49) throw corrupt(`number too long at byte ${this.at}`)
      byte = this.byte()
      value += (byte & 127) * factor
      factor *= 128
    } while (byte >= 128)
    if (value > Number.MAX_SAFE_INTEGER) throw corrupt(`number too large at byte ${this.at}`)
    return value
  }

  signed (): number {
    const byte = this.byte()
    let magnitude = byte & 63
    if (byte >= 128) magnitude += this.varint() * 64
    if (magnitude > Number.MAX_SAFE_INTEGER) throw corrupt(`number too large at byte ${this.at}`)
    // Not `-magnitude`, which would make -0 of 0.
    return (byte & 64) === 0 ? magnitude : 0 - magnitude
  }

  float64 (): number {
    const at = this.skip(8)
    return new DataView(this.bytes.buffer, this.bytes.byteOffset + at, 8).getFloat64(0, true)
  }

  uint32 (): number {
    const at = this.skip(4)
    const { bytes } = this
    return (bytes[at] | bytes[at + 1] << 8 | bytes[at + 2] << 16 | bytes[at + 3] << 24) >>> 0
  }

  /** Passes over `count` bytes and returns where they begin. */
  skip (count: number): number {
    const { at } = this
    if (count > this.end - at) throw corrupt(`${count} bytes wanted at byte ${at}, ${this.end - at} are left`)
    this.at = at + count
    return at
  }

  /** A length and the bytes it counts, as a reader of their own. */
  part (): ByteReader {
    const length = this.varint()
    const at = this.skip(length)
    return new ByteReader(this.bytes, at, at + length)
  }
}
