/**
 * Shape prediction for JSON readings. Devices send the same text again and again with other values in it, so a reading
 * that was walked once leaves a *template*: its bytes with holes where the values stood. A later reading whose bytes
 * equal the template's between the holes has the same keys, nesting and shape, and only its values are parsed, in place.
 *
 * Promises: a match gives exactly the row that the walker would give, since the bytes between the holes were accepted by
 * the scanner once and each hole is filled by one whole value of the same kind; anything else is a miss, which leaves
 * the table as it was and costs a walk. Memory is bounded: `templatesMax` templates of `literalBytesMax` bytes.
 */
import { stringValueBytesMax } from '../../core/limits.js'
import { PointType } from '../slice-table.js'
import { readNumber } from './number.js'
import type { ReadingSink } from './reading-sink.js'
import { timestampFromIso, timestampFromMs } from './timestamp.js'

/** What stands in a hole. The first three are the point types. */
export const HoleKind = { number: PointType.number, boolean: PointType.boolean, string: PointType.string, tsNumber: 3, tsText: 4, device: 5 } as const

/** Holes of one template: the metrics of a reading, its timestamp and its device. */
export const holesMax = 258
const literalBytesMax = 4 * 1024
const bucketCount = 256
const bucketTemplatesMax = 8
export const templatesMax = bucketCount * bucketTemplatesMax
/** Bytes of a reading that are looked at to choose its bucket. */
const signatureBytesMax = 96
/** Longest string that is compared with the one before it to save making it again. */
const rememberedCharsMax = 24

export class Template {
  /** All literal bytes one after the other; piece i ends at ends[i], the last one follows the last hole. */
  readonly literal: Uint8Array
  readonly ends: Int32Array
  readonly kinds: Uint8Array
  readonly shape: number
  readonly multiDevice: boolean
  readonly metricHoles: number
  /** The last string in each hole. */
  readonly remembered: string[]

  constructor (literal: Uint8Array, ends: Int32Array, kinds: Uint8Array, shape: number, multiDevice: boolean) {
    this.literal = literal
    this.ends = ends
    this.kinds = kinds
    this.shape = shape
    this.multiDevice = multiDevice
    this.metricHoles = kinds.reduce((sum, kind) => sum + (kind <= HoleKind.string ? 1 : 0), 0)
    this.remembered = new Array<string>(kinds.length).fill('')
  }

  equals (other: Template): boolean {
    return this.shape === other.shape && this.multiDevice === other.multiDevice &&
      Buffer.compare(this.literal, other.literal) === 0 && Buffer.compare(this.kinds, other.kinds) === 0 &&
      this.ends.every((end, i) => end === other.ends[i])
  }
}

/** Offset after the string that begins at `at` (behind its quote), -1 where it needs the walker: escapes, non-ASCII, too long. */
function plainStringEnd (bytes: Buffer, at: number, to: number): number {
  for (; at < to; at++) {
    const byte = bytes[at]
    if (byte === 0x22) return at
    if (byte < 0x20 || byte >= 0x80 || byte === 0x5c) return -1
  }
  return -1
}

export class Matcher {
  readonly #sink: ReadingSink
  readonly #number = new Float64Array(1)
  /** µs, NaN where the matched text has no timestamp. */
  #ts = NaN

  constructor (sink: ReadingSink) {
    this.#sink = sink
  }

  /**
   * Tries one template on the reading at `at`. The byte at `to` - 1 must be `}` or `]`, which ends every number.
   * @returns offset after the reading, which the sink has then stored or refused; -1 for a miss.
   */
  match (template: Template, bytes: Buffer, at: number, to: number): number {
    const { literal, ends, kinds } = template
    const { table } = this.#sink
    table.reservePoints(template.metricHoles)
    const values = table.pointValue
    const firstPoint = table.points
    let point = firstPoint
    let from = 0
    const holes = kinds.length
    for (let hole = 0; hole < holes; hole++) {
      const end = ends[hole]
      if (at + end - from >= to) return this.#miss(hole)
      while (from < end) {
        if (bytes[at++] !== literal[from++]) return this.#miss(hole)
      }
      if (hole === 0) {
        this.#sink.begin()
        this.#ts = NaN
      }
      const kind = kinds[hole]
      if (kind === HoleKind.number) {
        at = readNumber(bytes, at, values, point++)
      } else if (kind === HoleKind.boolean) {
        at = readBoolean(bytes, at, values, point++)
      } else {
        at = this.#fillOther(template, hole, kind, bytes, at, to)
        if (kind === HoleKind.string) values[point++] = table.strings.length - 1
      }
      if (at === -1) return this.#miss(1)
    }
    if (at + literal.length - from > to) return this.#miss(1)
    while (from < literal.length) {
      if (bytes[at++] !== literal[from++]) return this.#miss(1)
    }
    if (this.#sink.problem === '') {
      table.points = point
      this.#sink.finishShape(this.#ts, template.shape)
    }
    return at
  }

  /** @param holesDone 0 where the sink has not begun a reading. */
  #miss (holesDone: number): -1 {
    if (holesDone > 0) this.#sink.takeBack()
    return -1
  }

  /** Strings, timestamps and devices. */
  #fillOther (template: Template, hole: number, kind: number, bytes: Buffer, at: number, to: number): number {
    if (kind === HoleKind.tsNumber) {
      const end = readNumber(bytes, at, this.#number, 0)
      if (end !== -1) this.#ts = timestampFromMs(this.#number[0])
      return Number.isNaN(this.#ts) ? -1 : end
    }
    if (bytes[at] !== 0x22) return -1
    const end = plainStringEnd(bytes, at + 1, to)
    if (end === -1) return -1
    if (kind === HoleKind.tsText) {
      this.#ts = timestampFromIso(bytes, at + 1, end)
      return Number.isNaN(this.#ts) ? -1 : end + 1
    }
    if (kind === HoleKind.device) return this.#device(bytes, at + 1, end) ? end + 1 : -1
    if (end - at > stringValueBytesMax) return -1
    this.#sink.table.strings.push(rememberString(template.remembered, hole, bytes, at + 1, end))
    return end + 1
  }

  /** False where the walker has to say what is wrong with the device. */
  #device (bytes: Buffer, from: number, to: number): boolean {
    return this.#sink.isKnownDevice(bytes, from, to) ? this.#sink.sameDevice() : this.#sink.device(bytes.toString('latin1', from, to))
  }
}

function readBoolean (bytes: Buffer, at: number, values: Float64Array, index: number): number {
  if (bytes[at] === 0x74 && bytes[at + 1] === 0x72 && bytes[at + 2] === 0x75 && bytes[at + 3] === 0x65) {
    values[index] = 1
    return at + 4
  }
  if (bytes[at] === 0x66 && bytes[at + 1] === 0x61 && bytes[at + 2] === 0x6c && bytes[at + 3] === 0x73 && bytes[at + 4] === 0x65) {
    values[index] = 0
    return at + 5
  }
  return -1
}

/** The string bytes[from, to), ASCII; the one of the reading before where it is the same. */
function rememberString (remembered: string[], hole: number, bytes: Buffer, from: number, to: number): string {
  const before = remembered[hole]
  const length = to - from
  if (before.length === length) {
    let i = 0
    while (i < length && before.charCodeAt(i) === bytes[from + i]) i++
    if (i === length) return before
  }
  const text = bytes.toString('latin1', from, to)
  if (length <= rememberedCharsMax) remembered[hole] = text
  return text
}

/**
 * All templates, found by a hash of the reading's first metric name. A hint only: a template that stands in another
 * bucket is not found and learned once more.
 */
export class TemplateBook {
  readonly #buckets: Template[][] = Array.from({ length: bucketCount }, () => [])
  /** The template that matched last: of the reading before in an array, often of the message before. */
  last: Template | null = null

  clear (): void {
    for (const bucket of this.#buckets) bucket.length = 0
    this.last = null
  }

  /** Templates that may fit the reading at `at`, the latest used first. */
  candidates (bytes: Buffer, at: number, to: number): Template[] {
    return this.#buckets[signature(bytes, at, to)]
  }

  /** Notes that bucket[place] matched. */
  used (bucket: Template[], place: number): void {
    const template = bucket[place]
    this.last = template
    for (let i = place; i > 0; i--) bucket[i] = bucket[i - 1]
    bucket[0] = template
  }

  /**
   * Makes a template of the accepted reading bytes[from, to).
   * @param holes start, end and kind of each hole, three numbers each, ascending
   */
  learn (bytes: Buffer, from: number, to: number, holes: Int32Array, holeCount: number, shape: number, multiDevice: boolean): void {
    const ends = new Int32Array(holeCount)
    const kinds = new Uint8Array(holeCount)
    let valueBytes = 0
    for (let i = 0; i < holeCount; i++) valueBytes += holes[i * 3 + 1] - holes[i * 3]
    const literalBytes = to - from - valueBytes
    if (holeCount === 0 || literalBytes > literalBytesMax) return
    const literal = new Uint8Array(literalBytes)
    let at = from
    let length = 0
    for (let i = 0; i < holeCount; i++) {
      literal.set(bytes.subarray(at, holes[i * 3]), length)
      length += holes[i * 3] - at
      at = holes[i * 3 + 1]
      ends[i] = length
      kinds[i] = holes[i * 3 + 2]
    }
    literal.set(bytes.subarray(at, to), length)
    const template = new Template(literal, ends, kinds, shape, multiDevice)
    const bucket = this.candidates(bytes, from, to)
    const known = bucket.findIndex((other) => other.equals(template))
    if (known !== -1) return this.used(bucket, known)
    if (bucket.length < bucketTemplatesMax) bucket.push(template)
    else bucket[bucket.length - 1] = template
    this.used(bucket, bucket.length - 1)
  }
}

/** Bucket number: FNV-1a over the first key that is no reserved word, since those begin the readings of many shapes. */
function signature (bytes: Buffer, at: number, to: number): number {
  const stop = Math.min(to, at + signatureBytesMax)
  let hash = 0
  while (at < stop) {
    while (at < stop && bytes[at] !== 0x22) at++
    const start = ++at
    hash = 0x811c9dc5
    for (; at < stop && bytes[at] !== 0x22; at++) hash = Math.imul(hash ^ bytes[at], 0x01000193)
    const length = at++ - start
    if (length === 6 && bytes[start] === 0x76 && bytes[start + 5] === 0x73) continue
    const reserved = (length === 2 && bytes[start] === 0x74 && bytes[start + 1] === 0x73) || (length === 6 && bytes[start] === 0x64 && bytes[start + 5] === 0x65)
    if (!reserved) break
    while (at < stop && bytes[at] !== 0x2c) at++
  }
  return (hash ^ (hash >>> 16)) & (bucketCount - 1)
}
