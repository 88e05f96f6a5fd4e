/**
 * Slabs: readings of many sparse devices in one row of the store (DESIGN 3.2). One seekable chunk holds the rows of all,
 * grouped by device; a directory in front says which rows belong to whom. A query reads hundreds of slabs for one device,
 * so the directory is searched in its bytes, and only the blocks that hold the device's rows are decoded.
 * FORMAT.md draws the bytes.
 */
import { TwinfoldError } from '../core/errors.js'
import type { Chunk, Column } from '../core/reading.js'
import { chunkFormatVersion, ChunkFlags, decodeRows, encodeSeekable, readVersionAndFlags } from './chunk.js'
import { chunkRowsMax, corrupt, slabDevicesMax, tooLarge } from './columns/bounds.js'
import { ByteReader, ByteWriter } from './columns/bytes.js'

export interface SlabDevice {
  readonly device: string
  readonly firstRow: number
  readonly rows: number
}

/** Every so many devices the directory spells an id in full, and the offset table points there. */
const devicesPerGroup = 16
const deviceBytesMax = 255
const offsetBytes = 4
/** Low bit of an entry's row count: the rows do not follow those of the entry before. */
const jumps = 1

/**
 * A slab as bytes. `devices` says whose rows the chunk holds, in order; ids are ASCII, at most 255 characters, each
 * once. Throws `internal` where ids or row counts break that, `limit_reached` as `encodeChunk` does.
 */
export function encodeSlab (devices: readonly { readonly device: string, readonly rows: number }[], chunk: Chunk): Uint8Array {
  const entries = sortedEntries(devices, chunk.ts.length)
  const body = encodeSeekable(chunk)
  const directory = writeDirectory(entries)
  const writer = new ByteWriter(body.length + directory.length + 16)
  writer.byte(chunkFormatVersion)
  writer.byte(ChunkFlags.slab)
  writer.varint(entries.length)
  writer.varint(directory.length)
  writer.raw(directory)
  writer.raw(body)
  return writer.take()
}

function sortedEntries (devices: readonly { readonly device: string, readonly rows: number }[], rowCount: number): SlabDevice[] {
  if (devices.length > slabDevicesMax) throw tooLarge(`a slab of ${devices.length} devices; ${slabDevicesMax} is the most`)
  const entries: SlabDevice[] = []
  let firstRow = 0
  let sorted = true
  for (const { device, rows } of devices) {
    if (!(rows > 0)) throw new TwinfoldError('internal', `device '${device}' has ${rows} rows in a slab`)
    if (entries.length > 0 && device <= entries[entries.length - 1].device) sorted = false
    entries.push({ device, firstRow, rows })
    firstRow += rows
  }
  if (firstRow !== rowCount) throw new TwinfoldError('internal', `a slab's directory names ${firstRow} rows of ${rowCount}`)
  // Ids are ASCII, so the order of strings is the order of bytes.
  if (sorted) return entries
  entries.sort((a, b) => a.device < b.device ? -1 : 1)
  for (let i = 1; i < entries.length; i++) {
    if (entries[i].device === entries[i - 1].device) throw new TwinfoldError('internal', `device '${entries[i].device}' stands twice in a slab`)
  }
  return entries
}

function writeDirectory (entries: readonly SlabDevice[]): Uint8Array {
  const groups = Math.ceil(entries.length / devicesPerGroup)
  const writer = new ByteWriter(64 + groups * offsetBytes + entries.length * 24)
  for (let group = 0; group < groups; group++) writer.uint32(0)
  const start = writer.length
  let previous = ''
  let nextRow = 0
  for (let i = 0; i < entries.length; i++) {
    const { device, firstRow, rows } = entries[i]
    if (i % devicesPerGroup === 0) {
      const end = writer.length
      writer.length = i / devicesPerGroup * offsetBytes
      writer.uint32(end - start)
      writer.length = end
      previous = ''
      nextRow = 0
    }
    let shared = 0
    while (shared < previous.length && shared < device.length && previous.charCodeAt(shared) === device.charCodeAt(shared)) shared++
    if (device.length === 0 || device.length > deviceBytesMax) throw new TwinfoldError('internal', 'a device id in a slab is empty or too long')
    writer.byte(shared)
    writer.byte(device.length - shared)
    if (!writer.ascii(device.slice(shared))) throw new TwinfoldError('internal', `device id '${device}' is not ASCII`)
    const follows = firstRow === nextRow
    writer.varint((rows - 1) * 2 + (follows ? 0 : jumps))
    if (!follows) writer.signed(firstRow - nextRow)
    previous = device
    nextRow = firstRow + rows
  }
  return writer.take()
}

interface OpenSlab {
  readonly bytes: Uint8Array
  readonly devices: number
  /** Where the offset table, the entries and the chunk begin. */
  readonly offsetsAt: number
  readonly entriesAt: number
  readonly chunkAt: number
}

function open (bytes: Uint8Array): OpenSlab {
  const reader = new ByteReader(bytes)
  const flags = readVersionAndFlags(reader, ChunkFlags.slab)
  if (flags !== ChunkFlags.slab) throw corrupt('a chunk where a slab was expected')
  const devices = reader.varint()
  if (devices > slabDevicesMax) throw corrupt(`a slab of ${devices} devices; ${slabDevicesMax} is the most`)
  const directoryBytes = reader.varint()
  const offsetsAt = reader.skip(directoryBytes)
  const tableBytes = Math.ceil(devices / devicesPerGroup) * offsetBytes
  if (tableBytes > directoryBytes) throw corrupt(`a slab's directory of ${directoryBytes} bytes for ${devices} devices`)
  return { bytes, devices, offsetsAt, entriesAt: offsetsAt + tableBytes, chunkAt: reader.at }
}

/** Walks the entries of one group; `id` and the row fields are those of the entry read last. */
class GroupReader {
  readonly id = new Uint8Array(deviceBytesMax)
  idBytes = 0
  firstRow = 0
  rows = 0
  #nextRow = 0
  readonly #slab: OpenSlab
  #reader: ByteReader

  constructor (slab: OpenSlab) {
    this.#slab = slab
    this.#reader = new ByteReader(slab.bytes, slab.entriesAt, slab.chunkAt)
  }

  /** Goes to the first entry of a group. */
  seek (group: number): void {
    const { bytes, offsetsAt, entriesAt, chunkAt } = this.#slab
    const at = entriesAt + new ByteReader(bytes, offsetsAt + group * offsetBytes, entriesAt).uint32()
    if (at >= chunkAt) throw corrupt(`a slab's directory points outside itself at group ${group}`)
    this.#reader = new ByteReader(bytes, at, chunkAt)
    this.idBytes = 0
    this.#nextRow = 0
  }

  next (): void {
    const reader = this.#reader
    const shared = reader.byte()
    const own = reader.byte()
    if (shared > this.idBytes || shared + own > deviceBytesMax) throw corrupt(`impossible device id in a slab at byte ${reader.at}`)
    const at = reader.skip(own)
    for (let i = 0; i < own; i++) this.id[shared + i] = reader.bytes[at + i]
    this.idBytes = shared + own
    const count = reader.varint()
    this.rows = Math.floor(count / 2) + 1
    this.firstRow = this.#nextRow + (count % 2 === jumps ? reader.signed() : 0)
    this.#nextRow = this.firstRow + this.rows
    if (this.firstRow < 0 || this.#nextRow > chunkRowsMax) throw corrupt(`impossible rows of a device in a slab at byte ${reader.at}`)
  }

  /** Below 0 where the id read comes before `wanted`, 0 where it is the same. */
  compare (wanted: string): number {
    const length = Math.min(this.idBytes, wanted.length)
    for (let i = 0; i < length; i++) {
      const difference = this.id[i] - wanted.charCodeAt(i)
      if (difference !== 0) return difference
    }
    return this.idBytes - wanted.length
  }

  device (): string {
    return Buffer.from(this.id.buffer, 0, this.idBytes).toString('latin1')
  }
}

/** All devices of a slab with their rows, in order of id. */
export function readSlabDirectory (bytes: Uint8Array): SlabDevice[] {
  return directoryOf(open(bytes))
}

function directoryOf (slab: OpenSlab): SlabDevice[] {
  const reader = new GroupReader(slab)
  const entries: SlabDevice[] = []
  for (let i = 0; i < slab.devices; i++) {
    if (i % devicesPerGroup === 0) reader.seek(i / devicesPerGroup)
    reader.next()
    entries.push({ device: reader.device(), firstRow: reader.firstRow, rows: reader.rows })
  }
  return entries
}

/** The rows of a device, found by binary search over the groups; null where the slab has none. */
function findDevice (slab: OpenSlab, device: string): { from: number, to: number } | null {
  const reader = new GroupReader(slab)
  let low = 0
  let high = Math.ceil(slab.devices / devicesPerGroup) - 1
  while (low <= high) {
    const middle = (low + high) >>> 1
    reader.seek(middle)
    reader.next()
    const order = reader.compare(device)
    if (order === 0) return { from: reader.firstRow, to: reader.firstRow + reader.rows }
    if (order < 0) low = middle + 1
    else high = middle - 1
  }
  if (high < 0) return null
  reader.seek(high)
  const entries = Math.min(devicesPerGroup, slab.devices - high * devicesPerGroup)
  for (let i = 0; i < entries; i++) {
    reader.next()
    const order = reader.compare(device)
    if (order === 0) return { from: reader.firstRow, to: reader.firstRow + reader.rows }
    if (order > 0) return null
  }
  return null
}

/** One device's readings of a slab, with the columns of `metrics` alone where given; null where the slab has no rows of it. */
export function decodeSlabDevice (bytes: Uint8Array, device: string, metrics?: ReadonlySet<string>): Chunk | null {
  const slab = open(bytes)
  const rows = findDevice(slab, device)
  return rows === null ? null : decodeRows(bytes.subarray(slab.chunkAt), rows, metrics)
}

/** All rows of a slab, in the order in which `readSlabDirectory` names them by `firstRow`. */
export function decodeSlabRows (bytes: Uint8Array): Chunk {
  return decodeRows(bytes.subarray(open(bytes).chunkAt), null, undefined)
}

/** All devices of a slab with their readings, in order of id. Columns of one slab share buffers. */
export function decodeSlab (bytes: Uint8Array): { device: string, chunk: Chunk }[] {
  const slab = open(bytes)
  const chunk = decodeRows(bytes.subarray(slab.chunkAt), null, undefined)
  const entries = directoryOf(slab)
  // Rows of devices follow one another; in that order every sparse column is walked once.
  const byRow = [...entries].sort((a, b) => a.firstRow - b.firstRow)
  const cursors = new Uint32Array(chunk.columns.length)
  const decoded = new Map<string, Chunk>()
  let nextRow = 0
  for (const { device, firstRow, rows } of byRow) {
    if (firstRow !== nextRow || firstRow + rows > chunk.ts.length) throw corrupt(`the directory of a slab does not match its ${chunk.ts.length} rows`)
    nextRow = firstRow + rows
    decoded.set(device, takeRows(chunk, firstRow, nextRow, cursors))
  }
  if (nextRow !== chunk.ts.length || decoded.size !== entries.length) throw corrupt(`the directory of a slab does not match its ${chunk.ts.length} rows`)
  return entries.map(({ device }) => ({ device, chunk: decoded.get(device) as Chunk }))
}

/** Rows [from, to) of a chunk without its absent columns; `cursors` holds how far each sparse column has been taken. */
function takeRows (chunk: Chunk, from: number, to: number, cursors: Uint32Array): Chunk {
  const columns: Column[] = []
  for (let i = 0; i < chunk.columns.length; i++) {
    const column = chunk.columns[i]
    let low = from
    let high = to
    let rows: Uint32Array | null = null
    if (column.rows !== null) {
      low = high = cursors[i]
      while (high < column.rows.length && column.rows[high] < to) high++
      cursors[i] = high
      if (low === high) continue
      if (high - low < to - from) rows = column.rows.slice(low, high).map(row => row - from)
    }
    const { metric } = column
    if (column.type === 'number') columns.push({ metric, type: 'number', rows, values: column.values.subarray(low, high) })
    else if (column.type === 'boolean') columns.push({ metric, type: 'boolean', rows, values: column.values.subarray(low, high) })
    else columns.push({ metric, type: 'string', rows, values: column.values.slice(low, high) })
  }
  return { ts: chunk.ts.subarray(from, to), stamps: chunk.stamps.subarray(from, to), columns }
}
