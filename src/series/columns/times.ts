/**
 * The two times of a row, timestamp and accept stamp. Both are microseconds as integers from 0 to 2^53 - 1; times that
 * are not (no decoder makes such) are kept all the same, as plain doubles. FORMAT.md, "Times".
 */
import type { ByteReader, ByteWriter } from './bytes.js'
import { packedIntegerMax } from './blocks.js'
import { readNumbers, writeNumbers } from './numbers.js'
import { planSequence, readIntegers, writeIntegers, type DecodeState, type EncodeScratch, type EncodeSettings } from './sequence.js'

export interface TimeBounds {
  /** Least and greatest timestamp of a chunk, µs; 0 where it has no rows. */
  readonly minTs: number
  readonly maxTs: number
  /** Least and greatest accept stamp, µs. */
  readonly minStamp: number
  readonly maxStamp: number
  /** The times are no integers of the range above and are stored as doubles. */
  readonly asDoubles: boolean
}

/** Bounds of a chunk's times. A NaN among them widens the bounds to the infinities. */
export function boundsOf (ts: Float64Array, stamps: Float64Array): TimeBounds {
  if (ts.length === 0) return { minTs: 0, maxTs: 0, minStamp: 0, maxStamp: 0, asDoubles: false }
  const [minTs, maxTs, integerTs] = spanOf(ts)
  const [minStamp, maxStamp, integerStamps] = spanOf(stamps)
  return { minTs, maxTs, minStamp, maxStamp, asDoubles: !integerTs || !integerStamps }
}

function spanOf (times: Float64Array): readonly [number, number, boolean] {
  let min = Infinity
  let max = -Infinity
  let integers = true
  for (let i = 0; i < times.length; i++) {
    const time = times[i]
    if (time < min) min = time
    if (time > max) max = time
    // -0 is an integer, but would come back as 0.
    if (Math.floor(time) !== time || (time === 0 && 1 / time < 0)) integers = false
    if (time !== time) return [-Infinity, Infinity, false]
  }
  return [min, max, integers && min >= 0 && max <= Number.MAX_SAFE_INTEGER && max - min < packedIntegerMax]
}

export function writeBounds (writer: ByteWriter, bounds: TimeBounds): void {
  if (bounds.asDoubles) {
    writer.float64(bounds.minTs)
    writer.float64(bounds.maxTs)
    writer.float64(bounds.minStamp)
    writer.float64(bounds.maxStamp)
    return
  }
  writer.varint(bounds.minTs)
  writer.varint(bounds.maxTs - bounds.minTs)
  writer.signed(bounds.minStamp - bounds.minTs)
  writer.varint(bounds.maxStamp - bounds.minStamp)
}

export function readBounds (reader: ByteReader, asDoubles: boolean): TimeBounds {
  if (asDoubles) {
    return { minTs: reader.float64(), maxTs: reader.float64(), minStamp: reader.float64(), maxStamp: reader.float64(), asDoubles }
  }
  const minTs = reader.varint()
  const maxTs = minTs + reader.varint()
  const minStamp = minTs + reader.signed()
  return { minTs, maxTs, minStamp, maxStamp: minStamp + reader.varint(), asDoubles }
}

/** How stamps are stored: from the least stamp, or each from its row's timestamp. */
export const StampBase = { least: 0, timestamp: 1 } as const

/** Writes both sequences, each with its length in front. */
export function writeTimes (writer: ByteWriter, scratch: EncodeScratch, ts: Float64Array, stamps: Float64Array, bounds: TimeBounds, settings: EncodeSettings): void {
  const rows = ts.length
  writer.byte(0)
  let start = writer.length
  const { integers } = scratch
  if (bounds.asDoubles) {
    writeNumbers(writer, scratch, ts, rows, settings)
    writer.closeLength(start)
    writer.byte(0)
    start = writer.length
    writeNumbers(writer, scratch, stamps, rows, settings)
    writer.closeLength(start)
    return
  }
  for (let i = 0; i < rows; i++) integers[i] = ts[i] - bounds.minTs
  writeIntegers(writer, scratch, rows, settings)
  writer.closeLength(start)
  writer.byte(0)
  start = writer.length
  const base = planStamps(scratch, ts, stamps, bounds, settings)
  writer.byte(base)
  if (base === StampBase.timestamp) for (let i = 0; i < rows; i++) integers[i] = stamps[i] - ts[i]
  else for (let i = 0; i < rows; i++) integers[i] = stamps[i] - bounds.minStamp
  writeIntegers(writer, scratch, rows, settings)
  writer.closeLength(start)
}

function planStamps (scratch: EncodeScratch, ts: Float64Array, stamps: Float64Array, bounds: TimeBounds, settings: EncodeSettings): number {
  const { integers } = scratch
  const rows = ts.length
  if (bounds.minStamp === bounds.maxStamp) return StampBase.least
  let min = Infinity
  let max = -Infinity
  for (let i = 0; i < rows; i++) {
    const distance = stamps[i] - ts[i]
    integers[i] = distance
    if (distance < min) min = distance
    if (distance > max) max = distance
  }
  if (min <= -packedIntegerMax || max >= packedIntegerMax) return StampBase.least
  const besideTs = planSequence(scratch, rows, min, max, settings)
  for (let i = 0; i < rows; i++) integers[i] = stamps[i] - bounds.minStamp
  const alone = planSequence(scratch, rows, 0, bounds.maxStamp - bounds.minStamp, settings)
  return besideTs.bits < alone.bits ? StampBase.timestamp : StampBase.least
}

/** Reads the times of rows `from` to `to` of `rows`. */
export function readTimes (reader: ByteReader, rows: number, from: number, to: number, bounds: TimeBounds, state: DecodeState): { ts: Float64Array, stamps: Float64Array } {
  const ts = new Float64Array(to - from)
  const stamps = new Float64Array(to - from)
  const tsPart = reader.part()
  const stampsPart = reader.part()
  if (bounds.asDoubles) {
    readNumbers(tsPart, rows, from, to, state, ts, 0)
    readNumbers(stampsPart, rows, from, to, state, stamps, 0)
    return { ts, stamps }
  }
  readIntegers(tsPart, rows, from, to, state, ts)
  const { minTs, minStamp } = bounds
  for (let i = 0; i < ts.length; i++) ts[i] += minTs
  const besideTs = stampsPart.byte() === StampBase.timestamp
  readIntegers(stampsPart, rows, from, to, state, stamps)
  if (besideTs) for (let i = 0; i < stamps.length; i++) stamps[i] += ts[i]
  else for (let i = 0; i < stamps.length; i++) stamps[i] += minStamp
  return { ts, stamps }
}
