/**
 * Doubles that are no decimals: each is combined by XOR with the one before it, which clears what neighbours share
 * (Pelkonen et al., "Gorilla", VLDB 2015). Unlike there, 64 values share one window of leading and trailing zeros, so
 * that packing works on whole blocks, and each block begins with a plain value, so that it can be read alone.
 * Words are read through typed arrays: the machine is little endian, as every platform of Node that we ship for is.
 */
import { blockValues } from './blocks.js'
import { packBits, packedBytes, unpackBits } from './bit-pack.js'
import { corrupt } from './bounds.js'
import type { ByteReader, ByteWriter } from './bytes.js'
import type { BlockWords, DecodeState, EncodeScratch } from './sequence.js'

/** A bitmap of the values that differ from the one before stands in front; only those are packed. */
const hasBitmap = 128
const seedBytes = 8

const wordsOf = (values: Float64Array): Uint32Array => new Uint32Array(values.buffer, values.byteOffset, values.length * 2)

interface Window { width: number, trailing: number, changed: number }

/** What the XORs of values from + 1 to from + size - 1 have in common. */
function windowOf (words: Uint32Array, from: number, size: number): Window {
  let low = 0
  let high = 0
  let changed = 0
  for (let i = from + 1; i < from + size; i++) {
    const lowXor = words[2 * i] ^ words[2 * i - 2]
    const highXor = words[2 * i + 1] ^ words[2 * i - 1]
    low |= lowXor
    high |= highXor
    if ((lowXor | highXor) !== 0) changed++
  }
  if (changed === 0) return { width: 0, trailing: 0, changed }
  const leading = high !== 0 ? Math.clz32(high) : 32 + Math.clz32(low)
  const trailing = low !== 0 ? 31 - Math.clz32(low & -low) : 63 - Math.clz32(high & -high)
  return { width: 64 - leading - trailing, trailing, changed }
}

const packedWide = (count: number, width: number): number =>
  packedBytes(count, Math.min(width, 32)) + packedBytes(count, Math.max(0, width - 32))

const bitmapPays = (window: Window, size: number): boolean =>
  size - 1 + window.changed * window.width < (size - 1) * window.width

/** Bits that `count` values would take, judged by at most two blocks. */
export function xorBits (values: Float64Array, count: number): number {
  const words = wordsOf(values)
  const blocks = Math.ceil(count / blockValues)
  const step = blocks <= 2 ? 1 : Math.floor(blocks / 3)
  let bits = 0
  let sampled = 0
  for (let block = blocks <= 2 ? 0 : step; block < blocks && sampled < 2 * blockValues; block += step) {
    const size = Math.min(blockValues, count - block * blockValues)
    const window = windowOf(words, block * blockValues, size)
    const packed = bitmapPays(window, size) ? size - 1 + window.changed * window.width : (size - 1) * window.width
    bits += packed + 8 * (seedBytes + 2)
    sampled += size
  }
  return bits * count / sampled
}

export function writeXor (writer: ByteWriter, scratch: EncodeScratch, values: Float64Array, count: number): void {
  const words = wordsOf(values)
  const { lows, highs } = scratch.words
  for (let from = 0; from < count; from += blockValues) {
    const size = Math.min(blockValues, count - from)
    writer.uint32(words[2 * from])
    writer.uint32(words[2 * from + 1])
    const window = windowOf(words, from, size)
    const withBitmap = window.changed > 0 && bitmapPays(window, size)
    writer.byte(window.width | (withBitmap ? hasBitmap : 0))
    if (window.width === 0) continue
    writer.byte(window.trailing)
    writer.reserve(9 * blockValues)
    const { bytes } = writer
    const bitmapAt = writer.length
    if (withBitmap) {
      writer.length += (size + 6) >>> 3
      bytes.fill(0, bitmapAt, writer.length)
    }
    let packed = 0
    for (let i = 1; i < size; i++) {
      const at = 2 * (from + i)
      const low = words[at] ^ words[at - 2]
      const high = words[at + 1] ^ words[at - 1]
      if (withBitmap) {
        if ((low | high) === 0) continue
        bytes[bitmapAt + ((i - 1) >>> 3)] |= 1 << ((i - 1) & 7)
      }
      lows[packed] = shiftedLow(low, high, window.trailing)
      highs[packed++] = window.trailing < 32 ? high >>> window.trailing : 0
    }
    writer.length = packBits(bytes, writer.length, lows, packed, Math.min(window.width, 32))
    writer.length = packBits(bytes, writer.length, highs, packed, Math.max(0, window.width - 32))
  }
}

function shiftedLow (low: number, high: number, trailing: number): number {
  if (trailing === 0) return low >>> 0
  if (trailing < 32) return ((low >>> trailing) | (high << (32 - trailing))) >>> 0
  return high >>> (trailing - 32)
}

/** Reads values `from` to `to` of `count` into `out` from `outAt`; blocks outside are passed over. */
export function readXor (reader: ByteReader, count: number, from: number, to: number, state: DecodeState, out: Float64Array, outAt: number): void {
  const scratch = state.words
  const block = new XorBlockReader(reader, scratch)
  for (let start = 0; start < to; start += blockValues) {
    const size = Math.min(blockValues, count - start)
    if (start + size <= from) {
      block.skip(size)
      continue
    }
    block.read(size)
    const low = Math.max(from, start)
    const high = Math.min(to, start + size)
    for (let i = low; i < high; i++) out[outAt + i - from] = scratch.values[i - start]
  }
}

class XorBlockReader {
  readonly #reader: ByteReader
  readonly #scratch: BlockWords

  constructor (reader: ByteReader, scratch: BlockWords) {
    this.#reader = reader
    this.#scratch = scratch
  }

  skip (size: number): void {
    const reader = this.#reader
    reader.skip(seedBytes)
    const { width, packed } = this.#header(size)
    reader.skip(packedWide(packed, width))
  }

  /** Leaves the values in the scratch memory. */
  read (size: number): void {
    const reader = this.#reader
    const { words, lows, highs } = this.#scratch
    words[0] = reader.uint32()
    words[1] = reader.uint32()
    const { width, trailing, bitmapAt, packed } = this.#header(size)
    if (width === 0) {
      // Nothing follows the seed; what was unpacked of the block before must not be read again.
      this.#scratch.values.fill(this.#scratch.values[0], 1, size)
      return
    }
    const lowWidth = Math.min(width, 32)
    const highWidth = Math.max(0, width - 32)
    unpackBits(reader.bytes, reader.skip(packedBytes(packed, lowWidth)), packed, lowWidth, lows, 0)
    unpackBits(reader.bytes, reader.skip(packedBytes(packed, highWidth)), packed, highWidth, highs, 0)
    let next = 0
    for (let i = 1; i < size; i++) {
      let low = 0
      let high = 0
      if (bitmapAt < 0 || (reader.bytes[bitmapAt + ((i - 1) >>> 3)] >>> ((i - 1) & 7) & 1) === 1) {
        const packedLow = lows[next] >>> 0
        const packedHigh = highs[next++] >>> 0
        if (trailing === 0) {
          low = packedLow
          high = packedHigh
        } else if (trailing < 32) {
          low = packedLow << trailing
          high = (packedHigh << trailing) | (packedLow >>> (32 - trailing))
        } else {
          high = packedLow << (trailing - 32)
        }
      }
      words[2 * i] = words[2 * i - 2] ^ low
      words[2 * i + 1] = words[2 * i - 1] ^ high
    }
  }

  /** `packed`: values that are packed; `bitmapAt`: -1 where there is no bitmap. */
  #header (size: number): { width: number, trailing: number, bitmapAt: number, packed: number } {
    const reader = this.#reader
    const header = reader.byte()
    const width = header & 127
    if (width === 0) return { width, trailing: 0, bitmapAt: -1, packed: 0 }
    const trailing = reader.byte()
    if (width + trailing > 64) throw corrupt(`impossible window of bits at byte ${reader.at}`)
    if ((header & hasBitmap) === 0) return { width, trailing, bitmapAt: -1, packed: size - 1 }
    const bitmapAt = reader.skip((size + 6) >>> 3)
    let packed = 0
    for (let i = 0; i < size - 1; i++) packed += reader.bytes[bitmapAt + (i >>> 3)] >>> (i & 7) & 1
    return { width, trailing, bitmapAt, packed }
  }
}
