/**
 * Finds the end of a JSON value (RFC 8259) and says whether every byte up to it is well formed, without making values.
 * Promises: no recursion, so that no nesting overflows the stack; UTF-8 is checked as strictly as by the Unicode
 * standard (table 3-7: no overlong forms, no surrogates, nothing above U+10FFFF); nothing at or past `to` counts.
 *
 * Once `skip` has accepted a value, the walker (json-reading.ts) reads it without checking syntax again.
 */
const openObject = 0x7b
const closeObject = 0x7d
const openArray = 0x5b
const quote = 0x22
const backslash = 0x5c
const comma = 0x2c
const colon = 0x3a

/** The stack of open containers starts with this many levels and shrinks back to it after a deeper body. */
const levelsKept = 4096

export function isSpace (byte: number): boolean {
  return byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09
}

/** Offset of the first byte in [at, to) that is no JSON white space, `to` where there is none. */
export function skipSpace (bytes: Buffer, at: number, to: number): number {
  while (at < to && isSpace(bytes[at])) at++
  return at
}

function isDigit (byte: number): boolean {
  return byte >= 48 && byte <= 57
}

function isHexDigit (byte: number): boolean {
  return isDigit(byte) || ((byte | 32) >= 97 && (byte | 32) <= 102)
}

/**
 * Length of the well-formed UTF-8 sequence of two to four bytes at `at`, 0 where there is none before `to`.
 */
export function utf8SequenceBytes (bytes: Uint8Array, at: number, to: number): number {
  const first = bytes[at]
  const size = first >= 0xc2 && first <= 0xdf ? 2 : first >= 0xe0 && first <= 0xef ? 3 : first >= 0xf0 && first <= 0xf4 ? 4 : 0
  if (size === 0 || at + size > to) return 0
  const second = bytes[at + 1]
  const least = first === 0xe0 ? 0xa0 : first === 0xf0 ? 0x90 : 0x80
  const most = first === 0xed ? 0x9f : first === 0xf4 ? 0x8f : 0xbf
  if (second < least || second > most) return 0
  for (let i = at + 2; i < at + size; i++) {
    if ((bytes[i] & 0xc0) !== 0x80) return 0
  }
  return size
}

export class JsonScanner {
  /** Where the last `skip` that returned -1 met the byte that cannot stand there. */
  errorAt = 0
  /** One byte an open container: its closing byte. Grown at need, at most to the size of a body. */
  #closers = new Uint8Array(levelsKept)

  /**
   * @param at first byte of the value (white space before it is passed over)
   * @returns offset after the value, or -1 with `errorAt` set.
   */
  skip (bytes: Buffer, at: number, to: number): number {
    const end = this.#skipNested(bytes, at, to)
    if (this.#closers.length > levelsKept) this.#closers = new Uint8Array(levelsKept)
    return end
  }

  #skipNested (bytes: Buffer, at: number, to: number): number {
    let depth = 0
    for (;;) {
      // A value stands here.
      at = skipSpace(bytes, at, to)
      const byte = at < to ? bytes[at] : -1
      if (byte === openObject || byte === openArray) {
        // In ASCII a closing brace or bracket stands two above its opening one.
        const closer = byte + 2
        at = skipSpace(bytes, at + 1, to)
        if (at < to && bytes[at] === closer) {
          at++
        } else {
          if (depth === this.#closers.length) this.#growClosers()
          this.#closers[depth++] = closer
          if (closer === closeObject && (at = this.#skipKey(bytes, at, to)) === -1) return -1
          continue
        }
      } else if ((at = this.#skipScalar(bytes, at, to, byte)) === -1) {
        return -1
      }
      // A value has ended: close containers until one goes on.
      for (;;) {
        if (depth === 0) return at
        at = skipSpace(bytes, at, to)
        const next = at < to ? bytes[at] : -1
        const closer = this.#closers[depth - 1]
        if (next === comma) {
          at++
          if (closer === closeObject && (at = this.#skipKey(bytes, skipSpace(bytes, at, to), to)) === -1) return -1
          break
        }
        if (next !== closer) return this.#fail(at)
        depth--
        at++
      }
    }
  }

  /** A key and its colon. */
  #skipKey (bytes: Buffer, at: number, to: number): number {
    if (at >= to || bytes[at] !== quote) return this.#fail(at)
    at = this.skipString(bytes, at + 1, to)
    if (at === -1) return -1
    at = skipSpace(bytes, at, to)
    return at < to && bytes[at] === colon ? at + 1 : this.#fail(at)
  }

  #skipScalar (bytes: Buffer, at: number, to: number, byte: number): number {
    if (byte === quote) return this.skipString(bytes, at + 1, to)
    if (byte === 0x2d || isDigit(byte)) return this.#skipNumber(bytes, at, to)
    if (byte === 0x74) return this.#skipWord(bytes, at, to, 'true')
    if (byte === 0x66) return this.#skipWord(bytes, at, to, 'false')
    if (byte === 0x6e) return this.#skipWord(bytes, at, to, 'null')
    return this.#fail(at)
  }

  /** @param at the byte after the opening quote. @returns offset after the closing quote, or -1. */
  skipString (bytes: Buffer, at: number, to: number): number {
    while (at < to) {
      const byte = bytes[at]
      if (byte === quote) return at + 1
      if (byte < 0x20) return this.#fail(at)
      if (byte === backslash) {
        const size = this.#escapeBytes(bytes, at, to)
        if (size === 0) return this.#fail(at)
        at += size
      } else if (byte < 0x80) {
        at++
      } else {
        const size = utf8SequenceBytes(bytes, at, to)
        if (size === 0) return this.#fail(at)
        at += size
      }
    }
    return this.#fail(to)
  }

  #escapeBytes (bytes: Buffer, at: number, to: number): number {
    if (at + 1 >= to) return 0
    switch (bytes[at + 1]) {
      case quote: case backslash: case 0x2f: case 0x62: case 0x66: case 0x6e: case 0x72: case 0x74:
        return 2
      case 0x75:
        if (at + 6 > to) return 0
        for (let i = at + 2; i < at + 6; i++) {
          if (!isHexDigit(bytes[i])) return 0
        }
        return 6
      default:
        return 0
    }
  }

  #skipNumber (bytes: Buffer, at: number, to: number): number {
    if (bytes[at] === 0x2d) at++
    if (at < to && bytes[at] === 48) at++
    else if ((at = this.#skipDigits(bytes, at, to)) === -1) return -1
    if (at < to && bytes[at] === 0x2e && (at = this.#skipDigits(bytes, at + 1, to)) === -1) return -1
    if (at < to && (bytes[at] | 32) === 0x65) {
      at++
      if (at < to && (bytes[at] === 0x2b || bytes[at] === 0x2d)) at++
      return this.#skipDigits(bytes, at, to)
    }
    return at
  }

  /** One digit or more. */
  #skipDigits (bytes: Buffer, at: number, to: number): number {
    const start = at
    while (at < to && isDigit(bytes[at])) at++
    return at === start ? this.#fail(at) : at
  }

  #skipWord (bytes: Buffer, at: number, to: number, word: string): number {
    for (let i = 0; i < word.length; i++, at++) {
      if (at >= to || bytes[at] !== word.charCodeAt(i)) return this.#fail(at)
    }
    return at
  }

  #growClosers (): void {
    const grown = new Uint8Array(this.#closers.length * 2)
    grown.set(this.#closers)
    this.#closers = grown
  }

  #fail (at: number): -1 {
    this.errorAt = at
    return -1
  }
}
