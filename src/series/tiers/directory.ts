/**
 * The directory of a row: names and types of its series. Names ascend and share beginnings with the one before. It holds nothing that
 * changes from day to day, so that a reader of many rows parses it once (row-parts.ts). FORMAT.md, "Directory".
 */
import type { ValueType } from '../../core/reading.js'
import { corrupt } from '../columns/bounds.js'
import type { ByteReader, ByteWriter } from '../columns/bytes.js'
import { compareSeries } from './series-order.js'

export interface DirectoryEntry {
  readonly metric: string
  readonly type: ValueType
  /** What the series shares with others: times of windows. */
  readonly group: number
}

const types: readonly ValueType[] = ['boolean', 'number', 'string']
/** Bits 0 and 1 of a tag: the type. */
const typeMask = 3
const groupShift = 2
const loneSurrogate = /\p{Surrogate}/u

/** Series in one row; more make a device no device. */
export const seriesMax = 2 ** 16

export function writeDirectory (writer: ByteWriter, entries: readonly DirectoryEntry[]): void {
  const wide = entries.some(({ metric }) => loneSurrogate.test(metric))
  writer.varint(entries.length * 2 + (wide ? 1 : 0))
  let before: Uint8Array = new Uint8Array(0)
  for (const { metric, type, group } of entries) {
    const name = Buffer.from(metric, wide ? 'utf16le' : 'utf8')
    let shared = 0
    while (shared < before.length && shared < name.length && before[shared] === name[shared]) shared++
    writer.varint(types.indexOf(type) + group * 2 ** groupShift)
    writer.varint(shared)
    writer.varint(name.length - shared)
    writer.raw(name.subarray(shared))
    before = name
  }
}

/** To the end of the reader. */
export function readDirectory (reader: ByteReader): DirectoryEntry[] {
  const head = reader.varint()
  const count = Math.floor(head / 2)
  const encoding = head % 2 === 1 ? 'utf16le' : 'utf8'
  if (count > seriesMax) throw corrupt(`${count} series; ${seriesMax} is the most`)
  const entries: DirectoryEntry[] = []
  let before = Buffer.alloc(0)
  for (let i = 0; i < count; i++) {
    const tag = reader.varint()
    const type = types[tag & typeMask] as ValueType | undefined
    const shared = reader.varint()
    const own = reader.varint()
    if (type === undefined || shared > before.length) throw corrupt(`unknown tag or name of a series at byte ${reader.at}`)
    const at = reader.skip(own)
    const name = Buffer.allocUnsafe(shared + own)
    name.set(before.subarray(0, shared))
    name.set(reader.bytes.subarray(at, at + own), shared)
    before = name
    const entry = { metric: name.toString(encoding), type, group: Math.floor(tag / 2 ** groupShift) }
    if (i > 0 && compareSeries(entries[i - 1], entry) >= 0) throw corrupt(`series do not ascend at byte ${reader.at}`)
    entries.push(entry)
  }
  if (reader.at !== reader.end) throw corrupt(`${reader.end - reader.at} bytes behind the end of a directory`)
  return entries
}
