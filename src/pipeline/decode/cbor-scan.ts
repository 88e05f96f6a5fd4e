/**
 * Finds the end of a CBOR data item (RFC 8949) and says whether it is well formed. Promises: no recursion and a bounded
 * stack; no length in the input makes anything be allocated; text is checked to be UTF-8; nothing at or past `to` counts.
 */
import { utf8SequenceBytes } from './json-scan.js'

/** Nesting of arrays, maps, tags and chunked strings; no sensor needs more, and a body beyond it is refused whole. */
export const cborDepthMax = 1024

export const CborMajor = { unsigned: 0, negative: 1, bytes: 2, text: 3, array: 4, map: 5, tag: 6, simple: 7 } as const

/** `info` of an item of indefinite length, and of the break that ends one (section 3.2). */
export const indefinite = 31

export class CborScanner {
  /** Head of the item that `head` read last: major type, additional information, argument (exact below 2^53). */
  major = 0
  info = 0
  argument = 0
  /** Where and why the last `skip` returned -1. */
  errorAt = 0
  tooDeep = false

  /** Items still to come per open container; -1: until a break. */
  readonly #left = new Float64Array(cborDepthMax)
  /** Major type of each open container; and for one of indefinite length whether its number of items so far is odd. */
  readonly #majors = new Uint8Array(cborDepthMax)
  readonly #seen = new Uint8Array(cborDepthMax)

  /** Reads the head at `at` (section 3). @returns offset after it, -1 where it is not well formed or does not end before `to`. */
  head (bytes: Buffer, at: number, to: number): number {
    if (at >= to) return -1
    const first = bytes[at++]
    this.major = first >> 5
    const info = this.info = first & 31
    if (info < 24) {
      this.argument = info
      return at
    }
    if (info === indefinite) {
      this.argument = -1
      return this.major === CborMajor.unsigned || this.major === CborMajor.negative || this.major === CborMajor.tag ? -1 : at
    }
    if (info > 27) return -1
    const size = 1 << (info - 24)
    if (at + size > to) return -1
    if (size === 1) this.argument = bytes[at]
    else if (size === 2) this.argument = bytes[at] << 8 | bytes[at + 1]
    else if (size === 4) this.argument = fourBytes(bytes, at)
    else this.argument = fourBytes(bytes, at) * 2 ** 32 + fourBytes(bytes, at + 4)
    // Section 3.3: a simple value below 32 has no two-byte form.
    if (this.major === CborMajor.simple && size === 1 && this.argument < 32) return -1
    return at + size
  }

  /** @returns offset after the item at `at`, or -1 with `errorAt` and `tooDeep` set. */
  skip (bytes: Buffer, at: number, to: number): number {
    let depth = 0
    this.tooDeep = false
    for (;;) {
      const start = at
      at = this.head(bytes, at, to)
      if (at === -1) return this.#fail(start)
      const { major, info, argument } = this
      const open = depth === 0 ? -1 : depth - 1
      if (major === CborMajor.simple && info === indefinite) {
        // A break: only where a container of indefinite length waits for an item, and no key of a map lacks its value.
        if (open === -1 || this.#left[open] !== -1 || (this.#majors[open] === CborMajor.map && (this.#seen[open] & 1) === 1)) return this.#fail(start)
        depth--
      } else {
        if (open !== -1 && this.#left[open] === -1) {
          this.#seen[open] ^= 1
          // Chunks of a string are strings of the same kind and of definite length (section 3.2.3).
          if (this.#majors[open] <= CborMajor.text && (major !== this.#majors[open] || info === indefinite)) return this.#fail(start)
        }
        const items = itemsWithin(major, info, argument)
        if (items !== 0) {
          // Each item takes a byte at least: a count that cannot be met is refused before it is counted down.
          if (items > to - at) return this.#fail(start)
          if (depth === cborDepthMax) return this.#failDeep(start)
          this.#left[depth] = items
          this.#majors[depth] = major
          this.#seen[depth] = 0
          depth++
          continue
        }
        if (major === CborMajor.bytes || major === CborMajor.text) {
          if (argument > to - at) return this.#fail(start)
          if (major === CborMajor.text && !isUtf8(bytes, at, at + argument)) return this.#fail(at)
          at += argument
        }
      }
      // An item has ended: so have all containers that waited for it alone.
      while (depth > 0 && this.#left[depth - 1] !== -1) {
        if (--this.#left[depth - 1] > 0) break
        depth--
      }
      if (depth === 0) return at
    }
  }

  #fail (at: number): -1 {
    this.errorAt = at
    return -1
  }

  #failDeep (at: number): -1 {
    this.tooDeep = true
    return this.#fail(at)
  }
}

function fourBytes (bytes: Buffer, at: number): number {
  return (bytes[at] << 24 | bytes[at + 1] << 16 | bytes[at + 2] << 8 | bytes[at + 3]) >>> 0
}

/** Items that an item of this head holds; -1 for an indefinite number. */
function itemsWithin (major: number, info: number, argument: number): number {
  if (major === CborMajor.tag) return 1
  if (major === CborMajor.array || major === CborMajor.map) return info === indefinite ? -1 : major === CborMajor.map ? argument * 2 : argument
  return (major === CborMajor.bytes || major === CborMajor.text) && info === indefinite ? -1 : 0
}

function isUtf8 (bytes: Buffer, at: number, to: number): boolean {
  while (at < to) {
    if (bytes[at] < 0x80) {
      at++
    } else {
      const size = utf8SequenceBytes(bytes, at, to)
      if (size === 0) return false
      at += size
    }
  }
  return true
}
