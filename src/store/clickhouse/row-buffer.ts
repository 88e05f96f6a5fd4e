/**
 * Rows in ClickHouse's RowBinary: the format with the least to encode and to parse (twice JSON's rate, docs/adr/0007), and the
 * only one in which every double arrives bit for bit by itself. A lone surrogate in a string becomes U+FFFD, since ClickHouse's
 * strings are UTF-8.
 */
const bytesMin = 256 * 1024
const word = 2 ** 32

export class RowBuffer {
  #bytes: Buffer = Buffer.allocUnsafe(bytesMin)
  #length = 0

  /** Bytes written since the last `take`. */
  get length (): number { return this.#length }

  /**
   * Room for a row: called before its first value.
   * @param fixedBytes of all numbers, and 5 for each text
   * @param textChars of all texts: UTF-8 takes at most three bytes for each UTF-16 unit
   */
  reserve (fixedBytes: number, textChars: number): void {
    const bytes = fixedBytes + textChars * 3
    if (this.#length + bytes <= this.#bytes.length) return
    const larger = Buffer.allocUnsafe(Math.max(this.#bytes.length * 2, this.#length + bytes))
    this.#bytes.copy(larger, 0, 0, this.#length)
    this.#bytes = larger
  }

  byte (value: number): void {
    this.#bytes[this.#length++] = value
  }

  uint32 (value: number): void {
    this.#length = this.#bytes.writeUInt32LE(value, this.#length)
  }

  /** A whole number from 0 to 2^53 in eight bytes. */
  uint64 (value: number): void {
    this.uint32(value % word)
    this.uint32(Math.floor(value / word))
  }

  double (value: number): void {
    this.#length = this.#bytes.writeDoubleLE(value, this.#length)
  }

  text (text: string): void {
    // Short texts have a length of one byte; whether one is short is known for certain only once it is written.
    if (text.length * 3 < 128) {
      const at = this.#length++
      const written = this.#bytes.write(text, this.#length)
      this.#bytes[at] = written
      this.#length += written
      return
    }
    this.varint(Buffer.byteLength(text))
    this.#length += this.#bytes.write(text, this.#length)
  }

  /** LEB128: lengths of texts and maps. */
  varint (value: number): void {
    let rest = value
    for (; rest >= 128; rest = Math.floor(rest / 128)) this.#bytes[this.#length++] = (rest % 128) | 128
    this.#bytes[this.#length++] = rest
  }

  /** The rows written so far, in a buffer of their own; the next row begins anew. */
  take (): Buffer {
    const rows = this.#bytes.subarray(0, this.#length)
    this.#bytes = Buffer.allocUnsafe(Math.max(bytesMin, this.#length))
    this.#length = 0
    return rows
  }
}
