/**
 * Bodies of JSON readings: one object, an array, or lines of either. Promises: a body (or a line) that is no JSON is
 * refused whole and leaves no row; in one that is, each bad reading is refused by itself with its own bytes and the
 * others stay. A refusal is passed on only after the rest of the body was found well formed, so none is ever taken back.
 */
import type { SliceTable } from '../slice-table.js'
import { isSpace, type JsonScanner, skipSpace } from './json-scan.js'
import { JsonReadingWalker } from './json-reading.js'
import type { ReadingSink } from './reading-sink.js'
import { Matcher, TemplateBook } from './template.js'

const comma = 0x2c
const closeArray = 0x5d
/** The body is broken: `#brokenAt` says where. */
const broken = -1
/** The body is a SenML pack: nothing of it was decoded. */
export const isSenml = -2

export class JsonBody {
  readonly #table: SliceTable
  readonly #sink: ReadingSink
  readonly #scanner: JsonScanner
  readonly #walker: JsonReadingWalker
  readonly #matcher: Matcher
  readonly #book = new TemplateBook()
  #epoch: number
  #brokenAt = 0
  /** Readings of the current document that were stored. */
  #stored = 0

  constructor (sink: ReadingSink, scanner: JsonScanner) {
    this.#sink = sink
    this.#table = sink.table
    this.#scanner = scanner
    this.#walker = new JsonReadingWalker(sink, scanner)
    this.#matcher = new Matcher(sink)
    this.#epoch = sink.table.epoch
  }

  /** One document. @returns readings stored; `isSenml` where the first element of an array is a SenML record. */
  decode (bytes: Buffer, from: number, to: number): number {
    this.#checkEpoch()
    return this.#document(bytes, from, to, true)
  }

  /** A document a line (ends with LF or CRLF; blank lines are passed over). @returns readings stored. */
  decodeLines (bytes: Buffer, from: number, to: number): number {
    this.#checkEpoch()
    let stored = 0
    let lines = 0
    this.#sink.several = true
    for (let at = from; at < to;) {
      const newline = bytes.indexOf(0x0a, at)
      const end = newline === -1 || newline > to ? to : newline
      if (skipSpace(bytes, at, end) < end) {
        lines++
        stored += this.#document(bytes, at, end, false)
      }
      at = end + 1
    }
    if (lines === 0) this.#sink.context.refuse('empty', 'the body holds no line with a reading', this.#sink.context.device, bytes.subarray(from, to))
    return stored
  }

  /** Templates name shapes by ids that the table may have dropped. */
  #checkEpoch (): void {
    if (this.#epoch === this.#table.epoch) return
    this.#epoch = this.#table.epoch
    this.#book.clear()
  }

  #document (bytes: Buffer, from: number, to: number, senmlAllowed: boolean): number {
    const table = this.#table
    const { rows, points } = table
    const strings = table.strings.length
    const { context } = this.#sink
    const lastUnstamped = context.deviceNumber === -1 ? undefined : context.lastUnstamped.get(context.deviceNumber)
    const indexBefore = this.#sink.index
    const at = skipSpace(bytes, from, to)
    while (to > at && isSpace(bytes[to - 1])) to--
    this.#stored = 0
    const outcome = bytes[at] === 0x5b && at < to ? this.#array(bytes, at, to, senmlAllowed) : this.#single(bytes, at, to)
    if (outcome >= 0) return this.#stored
    table.rows = rows
    table.points = points
    table.strings.length = strings
    if (lastUnstamped !== undefined) context.lastUnstamped.set(context.deviceNumber, lastUnstamped)
    else context.lastUnstamped.delete(context.deviceNumber)
    if (outcome === isSenml) return isSenml
    this.#sink.index = indexBefore + 1
    context.refuse('json_invalid', this.#brokenDetail(bytes, from, to), context.device, bytes.subarray(from, to))
    return 0
  }

  #brokenDetail (bytes: Buffer, from: number, to: number): string {
    const at = this.#brokenAt
    if (at >= to) return `the JSON text ends too early, after ${to - from} bytes`
    return `byte 0x${bytes[at].toString(16).padStart(2, '0')} at offset ${at - from} cannot stand there in JSON`
  }

  #single (bytes: Buffer, at: number, to: number): number {
    const end = this.#element(bytes, at, to, false)
    if (end === broken) return broken
    if (end !== to) return this.#breakAt(end)
    this.#settle(bytes, at, end)
    return end
  }

  /** Passes the outcome of the element bytes[at, end) on. */
  #settle (bytes: Buffer, at: number, end: number): void {
    const sink = this.#sink
    sink.index++
    if (sink.problem === '') this.#stored++
    else sink.context.refuse(sink.problem, sink.detail, sink.deviceId, bytes.subarray(at, end))
  }

  #array (bytes: Buffer, at: number, to: number, senmlAllowed: boolean): number {
    const sink = this.#sink
    const start = at
    let restChecked = false
    sink.several = true
    at = skipSpace(bytes, at + 1, to)
    if (at < to && bytes[at] === closeArray) {
      if (at + 1 !== to) return this.#breakAt(at + 1)
      sink.context.refuse('empty', 'the array holds no reading', sink.context.device, bytes.subarray(start, to))
      return to
    }
    for (let first = senmlAllowed; ; first = false) {
      const end = this.#element(bytes, at, to, first)
      if (end < 0) return end
      if (sink.problem !== '' && !restChecked) {
        if (!this.#restIsWellFormed(bytes, end, to)) return broken
        restChecked = true
      }
      this.#settle(bytes, at, end)
      at = skipSpace(bytes, end, to)
      const next = at < to ? bytes[at] : -1
      if (next === closeArray) return at + 1 === to ? to : this.#breakAt(at + 1)
      if (next !== comma) return this.#breakAt(at)
      at = skipSpace(bytes, at + 1, to)
    }
  }

  /** Whether bytes[at, to) finishes an array after one of its elements. */
  #restIsWellFormed (bytes: Buffer, at: number, to: number): boolean {
    for (;;) {
      at = skipSpace(bytes, at, to)
      const next = at < to ? bytes[at] : -1
      if (next === closeArray && at + 1 === to) return true
      if (next !== comma) {
        this.#breakAt(next === closeArray ? at + 1 : at)
        return false
      }
      at = this.#scanner.skip(bytes, at + 1, to)
      if (at === -1) {
        this.#brokenAt = this.#scanner.errorAt
        return false
      }
    }
  }

  /**
   * Decodes the value at `at` as a reading into the sink; its `problem` tells whether it was stored.
   * @returns offset after it, `broken`, or `isSenml` where `mayBeSenml` and it is a record.
   */
  #element (bytes: Buffer, at: number, to: number, mayBeSenml: boolean): number {
    const isObject = at < to && bytes[at] === 0x7b
    if (isObject) {
      const matched = this.#predicted(bytes, at, to)
      if (matched !== -1) return matched
    }
    const end = this.#scanner.skip(bytes, at, to)
    if (end === -1) {
      this.#brokenAt = this.#scanner.errorAt
      return broken
    }
    if (!isObject) {
      this.#sink.begin()
      this.#sink.refuse('not_a_reading', 'a reading is a JSON object')
      return end
    }
    const walker = this.#walker
    if (mayBeSenml && walker.looksLikeSenml(bytes, at, end)) return isSenml
    if (walker.walk(bytes, at, end) && walker.learnable) {
      this.#book.learn(bytes, at, end, walker.holes, walker.holeCount, this.#sink.shapeStored, this.#sink.context.multiDevice)
    }
    return end
  }

  /** Tries the templates on the object at `at`. @returns offset after it, -1 where none fits. */
  #predicted (bytes: Buffer, at: number, to: number): number {
    // Numbers are read up to the byte that cannot belong to them; the body's last byte has to be one.
    const lastByte = bytes[to - 1]
    if (lastByte !== 0x7d && lastByte !== closeArray) return -1
    const book = this.#book
    const { multiDevice } = this.#sink.context
    const { last } = book
    if (last !== null && last.multiDevice === multiDevice) {
      const end = this.#matcher.match(last, bytes, at, to)
      if (end !== -1) return end
    }
    const bucket = book.candidates(bytes, at, to)
    for (let place = 0; place < bucket.length; place++) {
      const template = bucket[place]
      if (template === last || template.multiDevice !== multiDevice) continue
      const end = this.#matcher.match(template, bytes, at, to)
      if (end !== -1) {
        book.used(bucket, place)
        return end
      }
    }
    return -1
  }

  #breakAt (at: number): -1 {
    this.#brokenAt = at
    return -1
  }
}
