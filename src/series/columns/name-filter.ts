/**
 * Which columns a reader wants, told from the bytes of their names: a query of one metric makes no string of the
 * names of all others.
 */

/** Up to this many wanted names are compared byte by byte; more are looked up by name. */
const comparedNamesMax = 8

export class NameFilter {
  readonly #bytes: Buffer
  readonly #metrics: ReadonlySet<string> | null
  readonly #names: readonly string[] | null

  /** @param metrics null: all are wanted. */
  constructor (bytes: Uint8Array, metrics: ReadonlySet<string> | null) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
    this.#metrics = metrics
    this.#names = metrics !== null && metrics.size <= comparedNamesMax ? [...metrics] : null
  }

  /** The name at [at, at + length) where it is wanted, else null. The empty name (merge.ts) always is. */
  wanted (at: number, length: number, wide: boolean): string | null {
    if (length === 0) return ''
    if (this.#names !== null && !wide) {
      const bytes = this.#bytes
      let ascii = true
      for (const name of this.#names) {
        if (name.length !== length) continue
        let i = 0
        while (i < length && bytes[at + i] === name.charCodeAt(i)) i++
        if (i === length) return name
      }
      for (let i = at; i < at + length && ascii; i++) ascii = bytes[i] < 128
      if (ascii) return null
    }
    const name = this.#bytes.toString(wide ? 'utf16le' : 'utf8', at, at + length)
    return this.#metrics === null || this.#metrics.has(name) ? name : null
  }
}
