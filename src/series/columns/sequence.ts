/**
 * Sequences of integers with a magnitude below 2^51: as they are, as differences, or as differences of differences
 * (the order: 0, 1, 2), whichever packs best. FORMAT.md, "Sequence". All integers are exact in doubles throughout.
 */
import { BlockReader, BlockWriter, blockValues, packedIntegerMax } from './blocks.js'
import { corrupt } from './bounds.js'
import { signedBytes, type ByteReader, type ByteWriter } from './bytes.js'

/**
 * How residuals are laid down: in packed blocks, which are small and can be passed over, or as byte-aligned varints,
 * which a general compressor afterwards makes smaller still.
 */
export type Layout = 'blocks' | 'varints'

export interface EncodeSettings {
  readonly layout: Layout
  /** Sequences can be read from the middle (slabs): order 0 only. */
  readonly seekable: boolean
}

/** Order of a sequence, as stored; `constant` means that one integer stands for all. */
export const constantOrder = 3

/** Low two bits of a form byte: the order. Bits 4 to 7: the power of ten (numbers: divided by, times: multiplied by). */
export const formOrderMask = 3
export const formScaleShift = 4
/** Powers of ten, exact in doubles. */
export const powersOfTen: readonly number[] = [1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12]
/** Times are stored in units of up to 10^6 µs. */
const unitScaleMax = 6

/** A sequence of more than a block is judged by so many pieces of it. */
const samples = 2
/** Shorter sequences do not earn back the second seed of order 2, nor the time to find that out. */
const secondOrderMin = 16
const sampleValues = 32

/** Scratch memory of one encoding. */
export class EncodeScratch {
  /** The sequence to be written. */
  readonly integers: Float64Array
  readonly blocks = new BlockWriter()
  #words: BlockWords | null = null

  constructor (countMax: number) {
    this.integers = new Float64Array(countMax)
  }

  /** Made when the first column of full doubles needs it. */
  get words (): BlockWords { return this.#words ??= new BlockWords() }
}

/** Room for one block of doubles and for its bits in two halves. */
export class BlockWords {
  readonly values = new Float64Array(blockValues)
  readonly words = new Uint32Array(this.values.buffer)
  readonly lows = new Float64Array(blockValues)
  readonly highs = new Float64Array(blockValues)
}

/** How the sequences of a chunk are read, and scratch memory for it. */
export class DecodeState {
  readonly layout: Layout
  #words: BlockWords | null = null

  constructor (layout: Layout) {
    this.layout = layout
  }

  get words (): BlockWords { return this.#words ??= new BlockWords() }
}

/** The order that packs `integers` best, and the bits it would take, both judged by samples where it is long. */
export function planSequence (scratch: EncodeScratch, count: number, min: number, max: number, settings: EncodeSettings): { order: number, bits: number } {
  if (min === max) return { order: constantOrder, bits: 0 }
  // A range of r makes residuals up to r, 2r and 4r around a base; their zigzags must stay below 2^53.
  const range = max - min
  const orderMax = settings.seekable || range >= packedIntegerMax ? 0 : count < secondOrderMin || range >= packedIntegerMax / 2 ? 1 : 2
  let order = 0
  let bits = Infinity
  for (let candidate = 0; candidate <= orderMax; candidate++) {
    const cost = sampleCost(scratch, count, candidate) + seedBits(scratch.integers, candidate)
    if (cost < bits) {
      bits = cost
      order = candidate
    }
  }
  return { order, bits }
}

function seedBits (integers: Float64Array, order: number): number {
  if (order === 0) return 0
  return 8 * (signedBytes(integers[0]) + (order === 2 ? signedBytes(integers[1] - integers[0]) : 0))
}

function sampleCost (scratch: EncodeScratch, count: number, order: number): number {
  const { blocks, integers } = scratch
  const residuals = count - order
  blocks.start()
  if (residuals <= blockValues) {
    if (residuals === 0) return 0
    fillResiduals(integers, order, 0, residuals, blocks.values)
    blocks.plan(residuals)
    return blocks.costBits
  }
  let bits = 0
  for (let sample = 1; sample <= samples; sample++) {
    fillResiduals(integers, order, Math.floor((residuals - sampleValues) * sample / (samples + 1)), sampleValues, blocks.values)
    blocks.plan(sampleValues)
    bits += blocks.costBits
  }
  return bits * residuals / (samples * sampleValues)
}

/** Residuals `from` to `from + count` of an order: residual i belongs to integer i + order. */
function fillResiduals (integers: Float64Array, order: number, from: number, count: number, out: Float64Array): void {
  if (order === 0) {
    for (let i = 0; i < count; i++) out[i] = integers[from + i]
    return
  }
  let previous = integers[from + order - 1]
  if (order === 1) {
    for (let i = 0; i < count; i++) {
      const value = integers[from + 1 + i]
      out[i] = value - previous
      previous = value
    }
    return
  }
  let step = previous - integers[from]
  for (let i = 0; i < count; i++) {
    const value = integers[from + 2 + i]
    const nextStep = value - previous
    out[i] = nextStep - step
    step = nextStep
    previous = value
  }
}

/** Writes the seeds and residuals of a planned sequence. */
export function writeSequence (writer: ByteWriter, scratch: EncodeScratch, count: number, order: number, settings: EncodeSettings): void {
  const { blocks, integers } = scratch
  if (order === constantOrder || order > 0) writer.signed(integers[0])
  if (order === constantOrder) return
  if (order === 2) writer.signed(integers[1] - integers[0])
  const residuals = count - order
  blocks.start()
  for (let from = 0; from < residuals; from += blockValues) {
    const size = Math.min(blockValues, residuals - from)
    fillResiduals(integers, order, from, size, blocks.values)
    if (settings.layout === 'blocks') {
      blocks.write(writer, size)
    } else {
      for (let i = 0; i < size; i++) {
        const value = blocks.values[i]
        writer.varint(value < 0 ? -2 * value - 1 : 2 * value)
      }
    }
  }
  if (settings.layout === 'blocks') blocks.finish(writer)
}

/** Plans and writes integers that count time, rows, lengths or indexes: a form byte and the sequence. */
export function writeIntegers (writer: ByteWriter, scratch: EncodeScratch, count: number, settings: EncodeSettings): void {
  if (count === 0) return
  const { integers } = scratch
  const scale = commonScale(integers, count)
  let min = Infinity
  let max = -Infinity
  const unit = powersOfTen[scale]
  for (let i = 0; i < count; i++) {
    const value = scale === 0 ? integers[i] : integers[i] /= unit
    if (value < min) min = value
    if (value > max) max = value
  }
  const { order } = planSequence(scratch, count, min, max, settings)
  writer.byte(order | scale << formScaleShift)
  writeSequence(writer, scratch, count, order, settings)
}

/** The greatest power of ten, up to a second of µs, that divides all. Quotients of integers below 2^51 show a remainder exactly. */
function commonScale (integers: Float64Array, count: number): number {
  let scale = unitScaleMax
  for (let i = 0; i < count && scale > 0; i++) {
    const value = integers[i]
    while (scale > 0) {
      const quotient = value / powersOfTen[scale]
      if (quotient === Math.floor(quotient)) break
      scale--
    }
  }
  return scale
}

/** Reads what `writeIntegers` wrote: values `from` to `to` of `count`, into the start of `out`. */
export function readIntegers (reader: ByteReader, count: number, from: number, to: number, state: DecodeState, out: Float64Array): void {
  if (count === 0) return
  const form = reader.byte()
  const scale = form >>> formScaleShift
  if (scale > unitScaleMax || (form & 12) !== 0) throw corrupt(`unknown form ${form} at byte ${reader.at}`)
  readSequence(reader, form & formOrderMask, count, from, to, state, out, 0)
  if (scale > 0) {
    const unit = powersOfTen[scale]
    for (let i = 0; i < to - from; i++) out[i] *= unit
  }
}

/** Reads the integers `from` to `to` of a sequence of `count` into `out` from `outAt`. */
export function readSequence (reader: ByteReader, order: number, count: number, from: number, to: number, state: DecodeState, out: Float64Array, outAt: number): void {
  if (order === constantOrder) {
    out.fill(reader.signed(), outAt, outAt + to - from)
    return
  }
  if (count < order) throw corrupt(`sequence of ${count} with order ${order}`)
  const whole = from === 0 && to === count
  if (!whole && order === 0 && state.layout === 'blocks') {
    readPart(reader, count, from, to, state, out, outAt)
    return
  }
  const target = whole ? out : new Float64Array(count)
  const targetAt = whole ? outAt : 0
  const first = order > 0 ? reader.signed() : 0
  const step = order === 2 ? reader.signed() : 0
  readResiduals(reader, count - order, state, target, targetAt + order)
  if (order > 0) integrate(order, first, step, count, target, targetAt)
  if (!whole) out.set(target.subarray(from, to), outAt)
}

function readResiduals (reader: ByteReader, count: number, state: DecodeState, out: Float64Array, outAt: number): void {
  if (state.layout === 'blocks') {
    const blocks = new BlockReader(reader)
    for (let from = 0; from < count; from += blockValues) {
      blocks.read(Math.min(blockValues, count - from), out, outAt + from)
    }
    return
  }
  for (let i = 0; i < count; i++) {
    const zigzag = reader.varint()
    const half = Math.floor(zigzag / 2)
    out[outAt + i] = half * 2 === zigzag ? half : -half - 1
  }
}

function integrate (order: number, first: number, firstStep: number, count: number, out: Float64Array, outAt: number): void {
  let value = first
  out[outAt] = value
  if (order === 1) {
    for (let i = outAt + 1; i < outAt + count; i++) out[i] = value += out[i]
    return
  }
  let step = firstStep
  out[outAt + 1] = value += step
  for (let i = outAt + 2; i < outAt + count; i++) {
    step += out[i]
    out[i] = value += step
  }
}

/** Blocks outside [from, to) are passed over. */
function readPart (reader: ByteReader, count: number, from: number, to: number, state: DecodeState, out: Float64Array, outAt: number): void {
  const blocks = new BlockReader(reader)
  const scratch = state.words.values
  for (let start = 0; start < to; start += blockValues) {
    const size = Math.min(blockValues, count - start)
    if (start + size <= from) {
      blocks.skip(size)
      continue
    }
    blocks.read(size, scratch, 0)
    const low = Math.max(from, start)
    const high = Math.min(to, start + size)
    for (let i = low; i < high; i++) out[outAt + i - from] = scratch[i - start]
  }
}
