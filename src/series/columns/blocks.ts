/**
 * Blocks of up to 64 integers: a base, the zigzag distances from it packed in a width that fits most of them, and the
 * few that do not fit as exceptions (patched frame of reference: Zukowski et al., "Super-Scalar RAM-CPU Cache
 * Compression", 2006). A calm block, in which nothing differs from the base, costs one byte, many calm ones two together.
 * Every block can be passed over without being decoded, which lets a slab read one device out of thousands.
 */
import { corrupt } from './bounds.js'
import { packBits, packedBytes, unpackBits } from './bit-pack.js'
import { signedBytes, type ByteReader, type ByteWriter } from './bytes.js'

export const blockValues = 64

/** Integers beyond this are not packed: their differences would not be exact in a double. */
export const packedIntegerMax = 2 ** 51

/** Widest zigzag: all are below 2^53. */
const widthMax = 53
const widthMask = 63
const hasBase = 64
const hasExceptions = 128
/** A header of this width means: a varint of calm blocks follows. */
const calmRun = 63
/** A base that occurs at least this often in a block is worth no second try, where values are few and where they are not. */
const calmShare = 7 / 8
const commonShare = 1 / 2
const smallRange = 8

/** A block whose values lie closer together than this is measured in 32-bit arithmetic. */
const narrowMax = 2 ** 30

/** A value that stands at two of five places of the block, which a majority nearly always does; else `otherwise`. */
function frequent (values: Float64Array, count: number, otherwise: number): number {
  const a = values[0]
  const b = values[count >> 2]
  const c = values[count >> 1]
  const d = values[count - 1 - (count >> 2)]
  const e = values[count - 1]
  if (c === b || c === d || c === a || c === e) return c
  if (b === d || b === a || b === e) return b
  if (d === a || d === e) return d
  return a === e ? a : otherwise
}

/** Fills zigzags and how many there are of each width; returns the greatest width. */
function measureNarrow (values: Float64Array, count: number, base: number, zigzags: Float64Array, counts: Int32Array): number {
  let all = 0
  for (let i = 0; i < count; i++) {
    const distance = (values[i] - base) | 0
    const zigzag = (distance << 1) ^ (distance >> 31)
    zigzags[i] = zigzag
    all |= zigzag
    counts[32 - Math.clz32(zigzag)]++
  }
  return 32 - Math.clz32(all)
}

function measureWide (values: Float64Array, count: number, base: number, zigzags: Float64Array, counts: Int32Array): number {
  let widest = 0
  for (let i = 0; i < count; i++) {
    const distance = values[i] - base
    const zigzag = distance < 0 ? -2 * distance - 1 : 2 * distance
    zigzags[i] = zigzag
    const width = zigzag < 4294967296 ? 32 - Math.clz32(zigzag) : 64 - Math.clz32(zigzag / 4294967296)
    counts[width]++
    if (width > widest) widest = width
  }
  return widest
}

/** Plans and writes blocks; holds the scratch memory of one encoding. */
export class BlockWriter {
  /** The caller puts the integers of the next block here. */
  readonly values = new Float64Array(blockValues)
  /** Bits that the planned block takes. */
  costBits = 0
  #base = 0
  #width = 0
  #widest = 0
  /** Counts above this are zero. */
  #counted = 0
  #exceptions = 0
  #previousBase = 0
  #calm = 0
  readonly #zigzags = new Float64Array(blockValues)
  readonly #counts = new Int32Array(widthMax + 2)
  #positions: Float64Array | null = null
  #highs: Float64Array | null = null

  /** Begins a sequence of blocks. */
  start (): void {
    this.#previousBase = 0
    this.#calm = 0
  }

  /** Finds base and width for the first `count` of `values`. */
  plan (count: number): void {
    const { values } = this
    let min = values[0]
    let max = min
    for (let i = 1; i < count; i++) {
      const value = values[i]
      if (value < min) min = value
      if (value > max) max = value
    }
    if (min === max) {
      this.#base = min
      this.#width = 0
      this.#widest = 0
      this.#exceptions = 0
      this.costBits = 8 + (min === this.#previousBase ? 0 : 8 * signedBytes(min - this.#previousBase))
      return
    }
    const narrow = max - min < narrowMax
    // A zigzag of width w reaches one step further down than up.
    const middle = min + Math.ceil((max - min) / 2)
    const common = frequent(values, count, middle)
    this.#measure(count, common, narrow)
    if (common === middle || this.#counts[0] >= count * (max - min < smallRange ? calmShare : commonShare)) return
    const { costBits } = this
    this.#measure(count, middle, narrow)
    if (this.costBits > costBits) this.#measure(count, common, narrow)
  }

  #measure (count: number, base: number, narrow: boolean): void {
    const zigzags = this.#zigzags
    const counts = this.#counts
    counts.fill(0, 0, this.#counted + 1)
    const widest = narrow ? measureNarrow(this.values, count, base, zigzags, counts) : measureWide(this.values, count, base, zigzags, counts)
    let best = Infinity
    let exceptions = 0
    // Between two widths that occur, the lower one with the same exceptions is always better.
    for (let width = widest; width >= 0; width--) {
      if (counts[width] === 0) continue
      let bytes = packedBytes(count, width)
      if (exceptions > 0) bytes += 2 + packedBytes(exceptions, 6) + packedBytes(exceptions, widest - width)
      if (bytes < best) {
        best = bytes
        this.#width = width
        this.#exceptions = exceptions
      }
      exceptions += counts[width]
    }
    this.#widest = widest
    this.#counted = widest
    this.#base = base
    this.costBits = 8 * (best + 1 + (base === this.#previousBase ? 0 : signedBytes(base - this.#previousBase)))
  }

  /** Plans and writes the first `count` of `values`. */
  write (writer: ByteWriter, count: number): void {
    this.plan(count)
    const sameBase = this.#base === this.#previousBase
    if (this.#width === 0 && this.#exceptions === 0 && sameBase) {
      this.#calm++
      return
    }
    this.#writeCalm(writer)
    const width = this.#width
    const exceptions = this.#exceptions
    writer.byte(width | (sameBase ? 0 : hasBase) | (exceptions > 0 ? hasExceptions : 0))
    if (!sameBase) {
      writer.signed(this.#base - this.#previousBase)
      this.#previousBase = this.#base
    }
    if (exceptions > 0) {
      writer.byte(exceptions - 1)
      writer.byte(this.#widest - width)
    }
    writer.reserve(8 * blockValues + 8)
    writer.length = packBits(writer.bytes, writer.length, this.#zigzags, count, width)
    if (exceptions > 0) this.#writeExceptions(writer, count)
  }

  #writeExceptions (writer: ByteWriter, count: number): void {
    const limit = 2 ** this.#width
    const positions = this.#positions ??= new Float64Array(blockValues)
    const highs = this.#highs ??= new Float64Array(blockValues)
    let found = 0
    for (let i = 0; i < count; i++) {
      const zigzag = this.#zigzags[i]
      if (zigzag < limit) continue
      positions[found] = i
      highs[found++] = Math.floor(zigzag / limit)
    }
    writer.reserve(9 * blockValues)
    writer.length = packBits(writer.bytes, writer.length, positions, found, 6)
    writer.length = packBits(writer.bytes, writer.length, highs, found, this.#widest - this.#width)
  }

  #writeCalm (writer: ByteWriter): void {
    if (this.#calm === 0) return
    if (this.#calm === 1) {
      writer.byte(0)
    } else {
      writer.byte(calmRun)
      writer.varint(this.#calm)
    }
    this.#calm = 0
  }

  /** Ends a sequence of blocks. */
  finish (writer: ByteWriter): void {
    this.#writeCalm(writer)
  }
}

/** Reads the blocks of one sequence in order. */
export class BlockReader {
  readonly #reader: ByteReader
  #base = 0
  #calm = 0
  #positions: Float64Array | null = null
  #highs: Float64Array | null = null

  constructor (reader: ByteReader) {
    this.#reader = reader
  }

  /** Passes over a block of `count` integers. */
  skip (count: number): void {
    if (this.#isCalm()) return
    const reader = this.#reader
    const header = this.#header()
    if ((header & hasExceptions) === 0) {
      reader.skip(packedBytes(count, header & widthMask))
      return
    }
    const exceptions = reader.byte() + 1
    const highWidth = reader.byte()
    if (exceptions > count || (header & widthMask) + highWidth > widthMax) throw corrupt(`impossible exceptions in a block at byte ${reader.at}`)
    reader.skip(packedBytes(count, header & widthMask) + packedBytes(exceptions, 6) + packedBytes(exceptions, highWidth))
  }

  /** Reads a block of `count` integers into `out` from `outAt`. */
  read (count: number, out: Float64Array, outAt: number): void {
    if (this.#isCalm()) {
      const base = this.#base
      for (let i = 0; i < count; i++) out[outAt + i] = base
      return
    }
    const reader = this.#reader
    const header = this.#header()
    const width = header & widthMask
    if ((header & hasExceptions) !== 0) {
      this.#readPatched(count, width, out, outAt)
    } else if (width <= 24) {
      readNarrow(reader.bytes, reader.skip(packedBytes(count, width)), count, width, this.#base, out, outAt)
    } else {
      unpackBits(reader.bytes, reader.skip(packedBytes(count, width)), count, width, out, outAt)
      fromZigzags(count, this.#base, out, outAt)
    }
  }

  #isCalm (): boolean {
    if (this.#calm > 0) {
      this.#calm--
      return true
    }
    const reader = this.#reader
    if (reader.at < reader.end && reader.bytes[reader.at] === calmRun) {
      reader.at++
      const run = reader.varint()
      if (run === 0) throw corrupt(`empty run of blocks at byte ${reader.at}`)
      this.#calm = run - 1
      return true
    }
    return false
  }

  #header (): number {
    const header = this.#reader.byte()
    if ((header & widthMask) > widthMax) throw corrupt(`impossible width in a block at byte ${this.#reader.at}`)
    if ((header & hasBase) !== 0) this.#base += this.#reader.signed()
    return header
  }

  #readPatched (count: number, width: number, out: Float64Array, outAt: number): void {
    const reader = this.#reader
    const exceptions = reader.byte() + 1
    const highWidth = reader.byte()
    if (exceptions > count || width + highWidth > widthMax) throw corrupt(`impossible exceptions in a block at byte ${reader.at}`)
    unpackBits(reader.bytes, reader.skip(packedBytes(count, width)), count, width, out, outAt)
    const positions = this.#positions ??= new Float64Array(blockValues)
    const highs = this.#highs ??= new Float64Array(blockValues)
    unpackBits(reader.bytes, reader.skip(packedBytes(exceptions, 6)), exceptions, 6, positions, 0)
    unpackBits(reader.bytes, reader.skip(packedBytes(exceptions, highWidth)), exceptions, highWidth, highs, 0)
    const factor = 2 ** width
    for (let i = 0; i < exceptions; i++) {
      if (positions[i] >= count) throw corrupt(`exception outside its block at byte ${reader.at}`)
      out[outAt + positions[i]] += highs[i] * factor
    }
    fromZigzags(count, this.#base, out, outAt)
  }
}

/** Unpacks, undoes the zigzag and adds the base in one go: the path that most values take. */
function readNarrow (bytes: Uint8Array, at: number, count: number, width: number, base: number, out: Float64Array, outAt: number): void {
  const mask = (1 << width) - 1
  let held = 0
  let fill = 0
  for (let i = outAt; i < outAt + count; i++) {
    while (fill < width) {
      held |= bytes[at++] << fill
      fill += 8
    }
    const zigzag = held & mask
    out[i] = base + ((zigzag >>> 1) ^ -(zigzag & 1))
    held >>>= width
    fill -= width
  }
}

function fromZigzags (count: number, base: number, out: Float64Array, outAt: number): void {
  for (let i = outAt; i < outAt + count; i++) {
    const zigzag = out[i]
    const half = Math.floor(zigzag / 2)
    out[i] = base + (half * 2 === zigzag ? half : -half - 1)
  }
}
