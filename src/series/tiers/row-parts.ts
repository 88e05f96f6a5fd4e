/**
 * The body of a row: which series there are, and a part of bytes for each, whose ends stand in a table of fixed width. A reader of one
 * metric looks its place up and touches no other. The rows of a device have the same directory day after day: as long as its bytes
 * stay the same, so does what was parsed of it. FORMAT.md, "Row".
 */
import { corrupt } from '../columns/bounds.js'
import { ByteReader, ByteWriter } from '../columns/bytes.js'
import { DecodeState } from '../columns/sequence.js'
import { readDirectory, seriesMax, writeDirectory, type DirectoryEntry } from './directory.js'
import { openRow } from './row-frame.js'

/** Bytes that an end may take. */
const endWidths = [1, 2, 4] as const

/** @param shared parts that series share (their times), before the parts of the series */
export function writeParts (writer: ByteWriter, widthUs: number, rowStart: number, entries: readonly DirectoryEntry[], shared: readonly ByteWriter[], series: readonly ByteWriter[]): void {
  writer.varint(widthUs)
  writer.signed(rowStart)
  const directory = new ByteWriter(256)
  writeDirectory(directory, entries)
  writer.varint(directory.length)
  writer.raw(directory.bytes.subarray(0, directory.length))
  writer.varint(shared.length)
  const parts = [...shared, ...series]
  const all = parts.reduce((sum, { length }) => sum + length, 0)
  const endBytes = all < 2 ** 8 ? 1 : all < 2 ** 16 ? 2 : 4
  writer.byte(endBytes)
  let end = 0
  for (const { length } of parts) {
    end += length
    for (let i = 0, rest = end; i < endBytes; i++, rest = Math.floor(rest / 256)) writer.byte(rest % 256)
  }
  for (const { bytes, length } of parts) writer.raw(bytes.subarray(0, length))
}

/** Opens rows of a kind, one after the other; what it says is of the row opened last. */
export class RowReader {
  widthUs = 0
  rowStart = 0
  entries: readonly DirectoryEntry[] = []
  /** Numbers of the series that are asked for, ascending. */
  wanted: readonly number[] = []
  state: DecodeState
  /** Parts that series share. */
  shared = 0
  readonly #kind: number
  readonly #metrics: ReadonlySet<string> | undefined
  readonly #packed = new DecodeState('blocks')
  readonly #squeezed = new DecodeState('varints')
  #directory: Uint8Array | null = null
  #bytes: Uint8Array = new Uint8Array(0)
  #endsAt = 0
  #endBytes = 1
  #partsAt = 0

  /** @param metrics that are asked for; all where there are none */
  constructor (kind: number, metrics?: ReadonlySet<string>) {
    this.#kind = kind
    this.#metrics = metrics
    this.state = this.#packed
  }

  /** Throws `corrupt_data` and `format_newer`. */
  open (bytes: Uint8Array): void {
    const { reader, squeezed } = openRow(bytes, this.#kind)
    this.state = squeezed ? this.#squeezed : this.#packed
    this.#bytes = reader.bytes
    this.widthUs = reader.varint()
    this.rowStart = reader.signed()
    this.#openDirectory(reader)
    this.shared = reader.varint()
    if (this.shared > seriesMax) throw corrupt(`${this.shared} sets of times`)
    this.#endBytes = reader.byte()
    if (!endWidths.some(width => width === this.#endBytes)) throw corrupt(`ends of ${this.#endBytes} bytes`)
    const parts = this.shared + this.entries.length
    this.#endsAt = reader.skip(parts * this.#endBytes)
    this.#partsAt = reader.at
    const end = reader.at + (parts === 0 ? 0 : this.#end(parts - 1))
    if (end !== reader.end) throw corrupt(`a row that ends at byte ${end} instead of ${reader.end}`)
  }

  #openDirectory (reader: ByteReader): void {
    const length = reader.varint()
    const at = reader.skip(length)
    const directory = reader.bytes.subarray(at, at + length)
    if (this.#directory !== null && Buffer.compare(this.#directory, directory) === 0) return
    this.entries = readDirectory(new ByteReader(directory))
    const metrics = this.#metrics
    this.wanted = [...this.entries.keys()].filter(i => metrics === undefined || metrics.has(this.entries[i].metric))
    this.#directory = directory
  }

  #end (part: number): number {
    let at = this.#endsAt + part * this.#endBytes
    const bytes = this.#bytes
    if (this.#endBytes === 1) return bytes[at]
    if (this.#endBytes === 2) return bytes[at] | bytes[at + 1] << 8
    return (bytes[at++] | bytes[at++] << 8 | bytes[at++] << 16 | bytes[at] << 24) >>> 0
  }

  /** The bytes of a part; throws where it begins behind its end, or ends behind the row's. */
  part (part: number): ByteReader {
    if (part >= this.shared + this.entries.length) throw corrupt(`no part ${part} in a row`)
    const from = this.#partsAt + (part === 0 ? 0 : this.#end(part - 1))
    const to = this.#partsAt + this.#end(part)
    if (from > to || to > this.#bytes.length) throw corrupt(`part ${part} of a row from byte ${from} to ${to}`)
    return new ByteReader(this.#bytes, from, to)
  }

  /** The part of a series. */
  series (series: number): ByteReader {
    return this.part(this.shared + series)
  }
}

/** Throws where a part was not read to its end. */
export function assertRead (reader: ByteReader): void {
  if (reader.at !== reader.end) throw corrupt(`${reader.end - reader.at} bytes behind the end of a part`)
}
