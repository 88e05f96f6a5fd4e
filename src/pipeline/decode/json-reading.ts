/**
 * Walks one JSON reading that the scanner has accepted: the general path behind the templates. It knows every shape:
 *
 * - `{"temperature":21.3}`: each member is a metric; objects flatten with dots; `null` means no value.
 * - `{"ts":1700000000000,"values":{…}}`: at the top level `ts` is the timestamp (milliseconds, or ISO 8601 text) and an
 *   object `values` holds metrics without a prefix. Flat metrics may stand beside both.
 * - In a multi-device body `device` at the top level names the device; elsewhere it is a metric like any other.
 *
 * Of several members that flatten to one name the last wins. Promise: no byte sequence that the scanner accepts makes
 * it fail or recurse deeper than `readingDepthMax`.
 */
import { readingDepthMax } from '../../core/limits.js'
import { skipSpace, type JsonScanner } from './json-scan.js'
import { readNumber } from './number.js'
import { quoted, type ReadingSink } from './reading-sink.js'
import { HoleKind, holesMax } from './template.js'
import { TextCache } from './text-cache.js'
import { timestampFromIso, timestampFromMs } from './timestamp.js'

const quote = 0x22
const backslash = 0x5c

/** Keys that only a SenML record has; `n` is one too where its value is text (RFC 8428 section 4). */
function isSenmlSign (key: string, valueByte: number): boolean {
  return key === 'bn' || key === 'bt' || key === 'bu' || (key === 'n' && valueByte === quote)
}

export class JsonReadingWalker {
  /** Start, end and kind of each value of the walked reading, for a template. */
  readonly holes = new Int32Array(holesMax * 3)
  holeCount = 0
  /** False where the reading is no pattern for others: repeated names, too many values, signs of SenML. */
  learnable = false

  readonly #sink: ReadingSink
  readonly #scanner: JsonScanner
  readonly #number = new Float64Array(1)
  readonly #texts = new TextCache()
  #ts = NaN
  #device: string | null = null
  #to = 0
  /** Offset after the text that `#text` read. */
  #textEnd = 0
  #textEscaped = false

  constructor (sink: ReadingSink, scanner: JsonScanner) {
    this.#sink = sink
    this.#scanner = scanner
  }

  /** Walks the object bytes[at, to), which the scanner has accepted. True when the sink has stored it. */
  walk (bytes: Buffer, at: number, to: number): boolean {
    this.#sink.begin()
    this.#ts = NaN
    this.#device = null
    this.#to = to
    this.holeCount = 0
    this.learnable = true
    const multiDevice = this.#sink.context.multiDevice
    if (this.#object(bytes, at, '', 1, true) === -1) {
      if (multiDevice) this.#sink.deviceId = this.#findDevice(bytes, at, to)
      return false
    }
    if (this.#device !== null && !this.#sink.device(this.#device)) return false
    return this.#sink.finish(this.#ts)
  }

  /** Whether the object bytes[at, to), which the scanner has accepted, is a SenML record and no reading. */
  looksLikeSenml (bytes: Buffer, at: number, to: number): boolean {
    let found = false
    this.#forEachMember(bytes, at, to, (key, valueAt) => { found ||= isSenmlSign(key, bytes[valueAt]) })
    return found
  }

  /** Device that a refused reading names, for its dead letter; '' where it names none. */
  #findDevice (bytes: Buffer, at: number, to: number): string {
    let device = ''
    this.#forEachMember(bytes, at, to, (key, valueAt) => {
      if (key === 'device' && bytes[valueAt] === quote) device = this.#text(bytes, valueAt)
    })
    return device
  }

  #forEachMember (bytes: Buffer, at: number, to: number, visit: (key: string, valueAt: number) => void): void {
    at = skipSpace(bytes, at + 1, to)
    while (bytes[at] === quote) {
      const key = this.#text(bytes, at)
      at = skipSpace(bytes, skipSpace(bytes, this.#textEnd, to) + 1, to)
      visit(key, at)
      at = skipSpace(bytes, this.#scanner.skip(bytes, at, to), to)
      if (bytes[at] === 0x2c) at = skipSpace(bytes, at + 1, to)
    }
  }

  /** The members of the object at `at`. @returns offset after it, -1 when the reading was refused. */
  #object (bytes: Buffer, at: number, prefix: string, depth: number, top: boolean): number {
    const to = this.#to
    at = skipSpace(bytes, at + 1, to)
    while (bytes[at] !== 0x7d) {
      const key = this.#text(bytes, at)
      at = skipSpace(bytes, skipSpace(bytes, this.#textEnd, to) + 1, to)
      at = top ? this.#topMember(bytes, at, key) : this.#member(bytes, at, prefix + key, depth)
      if (at === -1) return -1
      at = skipSpace(bytes, at, to)
      if (bytes[at] === 0x2c) at = skipSpace(bytes, at + 1, to)
    }
    return at + 1
  }

  #topMember (bytes: Buffer, at: number, key: string): number {
    if (key === 'ts') return this.#timestamp(bytes, at)
    if (key === 'device' && this.#sink.context.multiDevice) return this.#deviceName(bytes, at)
    if (key === 'values' && bytes[at] === 0x7b) return this.#object(bytes, at, '', 1, false)
    if (isSenmlSign(key, bytes[at])) this.learnable = false
    return this.#member(bytes, at, key, 1)
  }

  #member (bytes: Buffer, at: number, name: string, depth: number): number {
    const sink = this.#sink
    const countBefore = sink.count
    let end: number
    switch (bytes[at]) {
      case 0x7b:
        if (depth === readingDepthMax) {
          sink.refuse('too_deep', `${quoted(name)} nests deeper than ${readingDepthMax} objects`)
          return -1
        }
        return this.#object(bytes, at, `${name}.`, depth + 1, false)
      case 0x5b:
        sink.refuse('value_invalid', `${quoted(name)} is an array; a value is a number, a boolean or a string`)
        return -1
      case 0x6e:
        sink.nothing(name)
        if (sink.count !== countBefore) this.learnable = false
        return at + 4
      case 0x74:
        end = sink.boolean(name, true) ? at + 4 : -1
        this.#hole(at, end, HoleKind.boolean)
        break
      case 0x66:
        end = sink.boolean(name, false) ? at + 5 : -1
        this.#hole(at, end, HoleKind.boolean)
        break
      case quote:
        end = sink.string(name, this.#text(bytes, at)) ? this.#textEnd : -1
        this.#hole(at, end, HoleKind.string)
        break
      default:
        end = this.#numberMember(bytes, at, name)
        this.#hole(at, end, HoleKind.number)
    }
    if (sink.count === countBefore) this.learnable = false
    return end
  }

  #numberMember (bytes: Buffer, at: number, name: string): number {
    const end = readNumber(bytes, at, this.#number, 0)
    if (end === -1) {
      this.#sink.refuse('value_invalid', `${quoted(name)} is a number beyond the range of a double`)
      return -1
    }
    return this.#sink.number(name, this.#number[0]) ? end : -1
  }

  #timestamp (bytes: Buffer, at: number): number {
    const byte = bytes[at]
    if (!Number.isNaN(this.#ts)) this.learnable = false
    this.#ts = NaN
    if (byte === 0x6e) return at + 4
    let end = -1
    if (byte === quote) {
      const text = this.#text(bytes, at)
      end = this.#textEnd
      if (this.#textEscaped) this.learnable = false
      const plain = this.#textEscaped ? Buffer.from(text) : bytes
      this.#ts = plain === bytes ? timestampFromIso(bytes, at + 1, end - 1) : timestampFromIso(plain, 0, plain.length)
      this.#hole(at, end, HoleKind.tsText)
    } else if (byte === 0x2d || (byte >= 48 && byte <= 57)) {
      end = readNumber(bytes, at, this.#number, 0)
      if (end !== -1) this.#ts = timestampFromMs(this.#number[0])
      this.#hole(at, end, HoleKind.tsNumber)
    }
    if (!Number.isNaN(this.#ts)) return end
    this.#sink.refuse('ts_invalid', 'ts is neither milliseconds since 1970 (up to the year 2255) nor an ISO 8601 date and time')
    return -1
  }

  #deviceName (bytes: Buffer, at: number): number {
    if (this.#device !== null) this.learnable = false
    this.#device = null
    if (bytes[at] === 0x6e) return at + 4
    if (bytes[at] !== quote) {
      this.#sink.refuse('not_a_reading', '"device" is no string')
      return -1
    }
    this.#device = this.#text(bytes, at)
    if (this.#textEscaped) this.learnable = false
    this.#hole(at, this.#textEnd, HoleKind.device)
    return this.#textEnd
  }

  #hole (start: number, end: number, kind: number): void {
    if (end === -1 || this.holeCount === holesMax) {
      this.learnable = false
      return
    }
    const place = this.holeCount++ * 3
    this.holes[place] = start
    this.holes[place + 1] = end
    this.holes[place + 2] = kind
  }

  /** The string whose opening quote is at `at`; sets `#textEnd` and `#textEscaped`. */
  #text (bytes: Buffer, at: number): string {
    let end = at + 1
    let escaped = false
    for (let byte = bytes[end]; byte !== quote; byte = bytes[end]) {
      if (byte === backslash) {
        escaped = true
        end++
      }
      end++
    }
    this.#textEnd = end + 1
    this.#textEscaped = escaped
    return escaped ? JSON.parse(bytes.toString('utf8', at, end + 1)) as string : this.#texts.get(bytes, at + 1, end)
  }
}
