/** The values of a number column: one value for all, scaled integers with patches, or XOR. FORMAT.md, "Numbers". */
import { corrupt } from './bounds.js'
import type { ByteReader, ByteWriter } from './bytes.js'
import { constantDecimal, fitDecimal, type DecimalFit } from './decimal.js'
import {
  constantOrder, formOrderMask, formScaleShift, planSequence, powersOfTen, readSequence, writeSequence,
  type DecodeState, type EncodeScratch, type EncodeSettings
} from './sequence.js'
import { readXor, writeXor, xorBits } from './xor.js'

const isSingle = 4
const hasPatches = 8
/** In place of a scale: doubles as they are, XORed; with the constant order, one plain double. */
const xorScale = 13
/** Integers that take fewer bits a value than this are not compared with XOR. */
const clearlySmallBits = 32

/** All values are the same double; NaNs count as one. */
function isConstant (values: Float64Array, count: number): boolean {
  const first = values[0]
  if (first === 0) {
    const sign = 1 / first
    for (let i = 1; i < count; i++) if (values[i] !== 0 || 1 / values[i] !== sign) return false
    return true
  }
  if (first !== first) {
    for (let i = 1; i < count; i++) if (values[i] === values[i]) return false
    return true
  }
  for (let i = 1; i < count; i++) if (values[i] !== first) return false
  return true
}

/** Writes the first `count` values, at least one. Every double comes back bit for bit, but NaNs may become the canonical one. */
export function writeNumbers (writer: ByteWriter, scratch: EncodeScratch, values: Float64Array, count: number, settings: EncodeSettings): void {
  if (isConstant(values, count)) {
    writeConstant(writer, values[0])
    return
  }
  const fit = fitDecimal(values, count, scratch.integers)
  if (fit !== null) {
    const { order, bits } = planSequence(scratch, count, fit.min, fit.max, settings)
    const patchBits = fit.patches.length * 72
    if (bits + patchBits < clearlySmallBits * count || bits + patchBits < xorBits(values, count)) {
      const flags = (fit.single ? isSingle : 0) | (fit.patches.length > 0 ? hasPatches : 0)
      writer.byte(order | flags | fit.scale << formScaleShift)
      writePatches(writer, fit, values)
      writeSequence(writer, scratch, count, order, settings)
      return
    }
  }
  writer.byte(xorScale << formScaleShift)
  writeXor(writer, scratch, values, count)
}

function writeConstant (writer: ByteWriter, value: number): void {
  const decimal = constantDecimal(value)
  if (decimal !== null) {
    writer.byte(constantOrder | decimal.scale << formScaleShift)
    writer.signed(decimal.integer)
    return
  }
  writer.byte(constantOrder | xorScale << formScaleShift)
  writer.float64(value)
}

function writePatches (writer: ByteWriter, fit: DecimalFit, values: Float64Array): void {
  if (fit.patches.length === 0) return
  writer.varint(fit.patches.length)
  let previous = -1
  for (const at of fit.patches) {
    writer.varint(at - previous - 1)
    writer.float64(values[at])
    previous = at
  }
}

/** Reads values `from` to `to` of `count` (at least one) into `out` from `outAt`. */
export function readNumbers (reader: ByteReader, count: number, from: number, to: number, state: DecodeState, out: Float64Array, outAt: number): void {
  const form = reader.byte()
  const scale = form >>> formScaleShift
  const order = form & formOrderMask
  if (scale === xorScale) {
    if (order === constantOrder) out.fill(reader.float64(), outAt, outAt + to - from)
    else readXor(reader, count, from, to, state, out, outAt)
    return
  }
  if (scale >= powersOfTen.length) throw corrupt(`unknown form ${form} at byte ${reader.at}`)
  const patches = (form & hasPatches) === 0 ? null : readPatches(reader, count)
  readSequence(reader, order, count, from, to, state, out, outAt)
  const end = outAt + to - from
  const power = powersOfTen[scale]
  if ((form & isSingle) !== 0) {
    for (let i = outAt; i < end; i++) out[i] = Math.fround(out[i] / power)
  } else if (scale > 0) {
    if (order === constantOrder) out.fill(out[outAt] / power, outAt, end)
    else for (let i = outAt; i < end; i++) out[i] /= power
  }
  if (patches === null) return
  for (const { at, value } of patches) if (at >= from && at < to) out[outAt + at - from] = value
}

function readPatches (reader: ByteReader, count: number): { at: number, value: number }[] {
  const patches: { at: number, value: number }[] = []
  const length = reader.varint()
  if (length > count) throw corrupt(`more patches than values at byte ${reader.at}`)
  let at = -1
  for (let i = 0; i < length; i++) {
    at += 1 + reader.varint()
    if (at >= count) throw corrupt(`patch outside its column at byte ${reader.at}`)
    patches.push({ at, value: reader.float64() })
  }
  return patches
}
