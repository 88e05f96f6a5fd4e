/**
 * Points as rows of the `points` table in ClickHouse's RowBinary: the format with the least to encode and to parse (twice
 * JSON's rate, docs/adr/0007), and the only one in which every double arrives bit for bit by itself. Pure.
 *
 * A lone surrogate in a string becomes U+FFFD, since ClickHouse's strings are UTF-8.
 */
import type { AnalyticsPoint } from '../../analytics-store.js'

/** The columns in the order in which they are written. */
export const pointColumns = ['tenant', 'metric', 'device', 'ts', 'type', 'number', 'boolean', 'string', 'version'] as const

/** What a row takes beside its texts: ts 8, type 1, number 8, boolean 1, version 16, four lengths of at most 5. */
const fixedBytesMax = 8 + 1 + 8 + 1 + 16 + 4 * 5
const valueTypes = { number: 1, boolean: 2, string: 3 } as const
const word = 2 ** 32

export class PointRows {
  #bytes: Buffer = Buffer.allocUnsafe(256 * 1024)
  #length = 0
  #journalId = ''
  #journalLow = 0
  #journalHigh = 0

  /** Bytes written since the last `take`. */
  get length (): number { return this.#length }

  add (point: AnalyticsPoint): void {
    const { tenant, metric, device, ts, value, stamp, journalId } = point
    const isText = typeof value === 'string'
    // UTF-8 takes at most three bytes for each UTF-16 unit.
    this.#reserve(fixedBytesMax + (tenant.length + metric.length + device.length + (isText ? value.length : 0)) * 3)
    this.#text(tenant)
    this.#text(metric)
    this.#text(device)
    this.#wide(ts)
    this.#bytes[this.#length++] = valueTypes[typeof value as 'number' | 'boolean' | 'string']
    this.#length = this.#bytes.writeDoubleLE(typeof value === 'number' ? value : 0, this.#length)
    this.#bytes[this.#length++] = value === true ? 1 : 0
    this.#text(isText ? value : '')
    this.#version(stamp, journalId)
  }

  /** The rows written so far, in a buffer of their own; the next row begins anew. */
  take (): Buffer {
    const rows = this.#bytes.subarray(0, this.#length)
    this.#bytes = Buffer.allocUnsafe(Math.max(256 * 1024, this.#length))
    this.#length = 0
    return rows
  }

  /** "Accepted last" as one 128-bit number: the stamp in the upper half, the journal id in the lower. */
  #version (stamp: number, journalId: string): void {
    if (journalId !== this.#journalId) {
      this.#journalId = journalId
      this.#journalHigh = parseInt(journalId.slice(0, 8), 16)
      this.#journalLow = parseInt(journalId.slice(8), 16)
    }
    this.#length = this.#bytes.writeUInt32LE(this.#journalLow, this.#length)
    this.#length = this.#bytes.writeUInt32LE(this.#journalHigh, this.#length)
    this.#wide(stamp)
  }

  /** A whole number from 0 to 2^53 in eight bytes. */
  #wide (value: number): void {
    this.#length = this.#bytes.writeUInt32LE(value % word, this.#length)
    this.#length = this.#bytes.writeUInt32LE(Math.floor(value / word), this.#length)
  }

  #text (text: string): void {
    // Short texts have a length of one byte; whether one is short is known for certain only once it is written.
    const short = text.length * 3 < 128
    const size = short ? 0 : Buffer.byteLength(text)
    if (short) {
      const at = this.#length++
      const written = this.#bytes.write(text, this.#length)
      this.#bytes[at] = written
      this.#length += written
      return
    }
    let rest = size
    for (; rest >= 128; rest = Math.floor(rest / 128)) this.#bytes[this.#length++] = (rest % 128) | 128
    this.#bytes[this.#length++] = rest
    this.#length += this.#bytes.write(text, this.#length)
  }

  #reserve (bytes: number): void {
    if (this.#length + bytes <= this.#bytes.length) return
    const larger = Buffer.allocUnsafe(Math.max(this.#bytes.length * 2, this.#length + bytes))
    this.#bytes.copy(larger, 0, 0, this.#length)
    this.#bytes = larger
  }
}
