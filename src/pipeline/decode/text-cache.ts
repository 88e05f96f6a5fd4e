/**
 * Short texts that come again and again (keys, device ids) as strings, without making them again. Promises: the string
 * is the one that the bytes spell; at most `slotCount` strings of `textBytesMax` characters are kept.
 */
const slotCount = 1024
const textBytesMax = 64

export class TextCache {
  readonly #slots = new Array<string>(slotCount).fill('')

  /** The UTF-8 text bytes[from, to), which must be well formed. */
  get (bytes: Buffer, from: number, to: number): string {
    const length = to - from
    if (length > textBytesMax) return bytes.toString('utf8', from, to)
    // FNV-1a, 32 bit.
    let hash = 0x811c9dc5
    let bits = 0
    for (let i = from; i < to; i++) {
      hash = Math.imul(hash ^ bytes[i], 0x01000193)
      bits |= bytes[i]
    }
    if (bits >= 0x80) return bytes.toString('utf8', from, to)
    const slot = (hash ^ (hash >>> 16)) & (slotCount - 1)
    const kept = this.#slots[slot]
    if (kept.length === length) {
      let i = 0
      while (i < length && kept.charCodeAt(i) === bytes[from + i]) i++
      if (i === length) return kept
    }
    return this.#slots[slot] = bytes.toString('latin1', from, to)
  }
}
