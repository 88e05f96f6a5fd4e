/**
 * CBOR bodies: readings in the shapes of the JSON ones, and SenML packs (RFC 8428 section 6). Promises: a body that is
 * not one well-formed item is refused whole before anything of it is stored; in one that is, each bad reading is
 * refused by itself with its own bytes.
 *
 * What CBOR adds: a `ts` with tag 1 is in seconds (RFC 8949 section 3.4.2); byte strings are no values of a metric;
 * `undefined` means no value, as null does; NaN and infinities are values.
 */
import { Encoder } from 'cbor-x'
import { readingDepthMax } from '../../core/limits.js'
import { type CborKind, CborReader, CborTag } from './cbor-value.js'
import { cborDepthMax, CborScanner } from './cbor-scan.js'
import { quoted, type ReadingSink } from './reading-sink.js'
import { type ResolvedRecord, type SenmlRecord, type SenmlScalar, storePack } from './senml.js'
import { timestampFromIso, timestampFromMs, timestampFromSeconds } from './timestamp.js'

const breakByte = 0xff
/** RFC 8428 table 4: labels of the fields in CBOR. */
const senmlLabels: ReadonlyMap<number, string> = new Map([
  [-1, 'bver'], [-2, 'bn'], [-3, 'bt'], [-4, 'bu'], [-5, 'bv'], [-6, 'bs'],
  [0, 'n'], [1, 'u'], [2, 'v'], [3, 'vs'], [4, 'vb'], [5, 's'], [6, 't'], [7, 'ut'], [8, 'vd']
])

export class CborBody {
  readonly #sink: ReadingSink
  readonly #scanner = new CborScanner()
  readonly #reader = new CborReader(this.#scanner)
  readonly #encoder = new Encoder({ mapsAsObjects: false, useRecords: false, variableMapSize: true })
  #ts = NaN
  #device: string | null = null
  #to = 0

  constructor (sink: ReadingSink) {
    this.#sink = sink
  }

  /**
   * @param senmlAllowed whether an array whose first map begins with an integer key is a SenML pack
   * @returns readings stored
   */
  decode (bytes: Buffer, from: number, to: number, senmlAllowed: boolean): number {
    if (!this.#isWellFormed(bytes, from, to)) return 0
    const { context } = this.#sink
    const first = this.#reader.read(bytes, from, to)
    let stored = 0
    if (this.#reader.kind === 'map') {
      this.#reading(bytes, from, to)
      return this.#sink.problem === '' ? 1 : 0
    }
    if (this.#reader.kind !== 'array') {
      context.refuse('not_a_reading', 'a reading is a map', context.device, bytes.subarray(from, to))
      return 0
    }
    const { items } = this.#reader
    if (items === 0 || bytes[first] === breakByte) {
      context.refuse('empty', 'the array holds no reading', context.device, bytes.subarray(from, to))
      return 0
    }
    if (senmlAllowed && this.#beginsWithIntegerKey(bytes, first, to)) return this.#senml(bytes, from, to)
    this.#sink.several = true
    for (let item = 0, at = first; item < items && bytes[at] !== breakByte; item++) {
      at = this.#reading(bytes, at, to)
      if (this.#sink.problem === '') stored++
    }
    return stored
  }

  /** A SenML pack. @returns readings stored. */
  decodeSenml (bytes: Buffer, from: number, to: number): number {
    return this.#isWellFormed(bytes, from, to) ? this.#senml(bytes, from, to) : 0
  }

  #isWellFormed (bytes: Buffer, from: number, to: number): boolean {
    const { context } = this.#sink
    const end = this.#scanner.skip(bytes, from, to)
    if (end === to) return true
    const whole = bytes.subarray(from, to)
    if (this.#scanner.tooDeep && end === -1) context.refuse('too_deep', `the CBOR item nests deeper than ${cborDepthMax}`, context.device, whole)
    else if (end === -1) context.refuse('cbor_invalid', `the CBOR item is not well formed at offset ${this.#scanner.errorAt - from}`, context.device, whole)
    else context.refuse('cbor_invalid', `bytes follow the CBOR item at offset ${end - from}`, context.device, whole)
    return false
  }

  #beginsWithIntegerKey (bytes: Buffer, at: number, to: number): boolean {
    const key = this.#reader.read(bytes, at, to)
    return this.#reader.kind === 'map' && this.#reader.items > 0 && bytes[key] < 0x40
  }

  /** The item at `at` as a reading, stored or refused: the sink's `problem` tells. @returns offset after it. */
  #reading (bytes: Buffer, at: number, to: number): number {
    const sink = this.#sink
    sink.begin()
    let end = this.#walk(bytes, at, to)
    if (sink.problem !== '') {
      end = this.#scanner.skip(bytes, at, to)
      if (sink.context.multiDevice && sink.deviceId === '') sink.deviceId = this.#findDevice(bytes, at, to)
      sink.context.refuse(sink.problem, sink.detail, sink.deviceId, bytes.subarray(at, end))
    }
    sink.index++
    return end
  }

  /** @returns offset after the reading where the sink has stored it. */
  #walk (bytes: Buffer, at: number, to: number): number {
    this.#ts = NaN
    this.#device = null
    this.#to = to
    const first = this.#reader.read(bytes, at, to)
    if (this.#reader.kind !== 'map') {
      this.#sink.refuse('not_a_reading', 'a reading is a map')
      return -1
    }
    const end = this.#map(bytes, first, this.#reader.items, '', 1, true)
    if (end !== -1 && (this.#device === null || this.#sink.device(this.#device))) this.#sink.finish(this.#ts)
    return end
  }

  #findDevice (bytes: Buffer, at: number, to: number): string {
    let device = ''
    const reader = this.#reader
    const first = reader.read(bytes, at, to)
    if (reader.kind !== 'map') return device
    let isKey = true
    let key = ''
    const items = reader.items * 2
    for (let item = 0, itemAt = first; item < items && bytes[itemAt] !== breakByte; item++) {
      reader.read(bytes, itemAt, to)
      const text = (reader.kind as CborKind) === 'text' ? reader.text : ''
      if (isKey) key = text
      else if (key === 'device') device = text
      isKey = !isKey
      itemAt = this.#scanner.skip(bytes, itemAt, to)
    }
    return device
  }

  /** The pairs from `at` on. @returns offset after the map, -1 when the reading was refused. */
  #map (bytes: Buffer, at: number, pairs: number, prefix: string, depth: number, top: boolean): number {
    const reader = this.#reader
    for (let pair = 0; pair < pairs && bytes[at] !== breakByte; pair++) {
      const valueAt = reader.read(bytes, at, this.#to)
      if (reader.kind !== 'text') {
        this.#sink.refuse('not_a_reading', 'a key of the map is no text')
        return -1
      }
      const key = reader.text
      at = reader.read(bytes, valueAt, this.#to)
      if (top && key === 'ts') at = this.#timestamp(at)
      else if (top && key === 'device' && this.#sink.context.multiDevice) at = this.#deviceName(at)
      else if (top && key === 'values' && (reader.kind as CborKind) === 'map') at = this.#map(bytes, at, reader.items, '', 1, false)
      else at = this.#member(bytes, at, prefix + key, depth)
      if (at === -1) return -1
    }
    return pairs === Infinity ? at + 1 : at
  }

  /** The value that the reader has read, which ends at `end`. */
  #member (bytes: Buffer, end: number, name: string, depth: number): number {
    const reader = this.#reader
    const sink = this.#sink
    switch (reader.kind) {
      case 'number': return sink.number(name, reader.number) ? end : -1
      case 'boolean': return sink.boolean(name, reader.boolean) ? end : -1
      case 'text': return sink.string(name, reader.text) ? end : -1
      case 'null':
        sink.nothing(name)
        return end
      case 'map':
        if (depth < readingDepthMax) return this.#map(bytes, end, reader.items, `${name}.`, depth + 1, false)
        sink.refuse('too_deep', `${quoted(name)} nests deeper than ${readingDepthMax} maps`)
        return -1
      default:
        sink.refuse('value_invalid', `${quoted(name)} is neither a number, a boolean nor text`)
        return -1
    }
  }

  #timestamp (end: number): number {
    const { kind, tag, number, text } = this.#reader
    this.#ts = NaN
    if (kind === 'null') return end
    if (kind === 'number') {
      this.#ts = tag === CborTag.epochTime ? timestampFromSeconds(number) : timestampFromMs(number)
    } else if (kind === 'text') {
      const plain = Buffer.from(text)
      this.#ts = timestampFromIso(plain, 0, plain.length)
    }
    if (!Number.isNaN(this.#ts)) return end
    this.#sink.refuse('ts_invalid', 'ts is neither milliseconds since 1970 (up to the year 2255), tagged seconds, nor an ISO 8601 date and time')
    return -1
  }

  #deviceName (end: number): number {
    const { kind, text } = this.#reader
    this.#device = kind === 'text' ? text : null
    if (kind === 'text' || kind === 'null') return end
    this.#sink.refuse('not_a_reading', '"device" is no text')
    return -1
  }

  #senml (bytes: Buffer, from: number, to: number): number {
    const { context } = this.#sink
    const first = this.#reader.read(bytes, from, to)
    const outcome = this.#reader.kind === 'array'
      ? storePack(this.#sink, this.#records(bytes, first, to, this.#reader.items), (records) => this.#encodeResolved(records))
      : { reason: 'senml_invalid' as const, detail: 'a pack is an array of records' }
    if (typeof outcome === 'number') return outcome
    context.refuse(outcome.reason, outcome.detail, context.device, bytes.subarray(from, to))
    return 0
  }

  * #records (bytes: Buffer, at: number, to: number, items: number): Generator<SenmlRecord | null> {
    for (let item = 0; item < items && bytes[at] !== breakByte; item++) {
      const end = this.#scanner.skip(bytes, at, to)
      const first = this.#reader.read(bytes, at, to)
      yield this.#reader.kind === 'map' ? this.#fields(bytes, first, end, this.#reader.items) : null
      at = end
    }
  }

  /** Fields of a record by their JSON label; labels that have none are passed over unless they are text. */
  #fields (bytes: Buffer, at: number, to: number, pairs: number): Array<[string, SenmlScalar]> {
    const reader = this.#reader
    const fields: Array<[string, SenmlScalar]> = []
    for (let pair = 0; pair < pairs && bytes[at] !== breakByte; pair++) {
      const valueAt = this.#scanner.skip(bytes, at, to)
      reader.read(bytes, at, to)
      const label = reader.kind === 'number' ? senmlLabels.get(reader.number) : reader.kind === 'text' && reader.text.endsWith('_') ? reader.text : undefined
      at = this.#scanner.skip(bytes, valueAt, to)
      reader.read(bytes, valueAt, to)
      if (label !== undefined) fields.push([label, this.#scalar(label)])
    }
    return fields
  }

  #scalar (label: string): SenmlScalar {
    const { kind, number, boolean, text, data } = this.#reader
    if (label === 'vd') return kind === 'bytes' ? data.toString('base64url') : undefined
    return kind === 'number' ? number : kind === 'boolean' ? boolean : kind === 'text' ? text : undefined
  }

  #encodeResolved (records: readonly ResolvedRecord[]): Uint8Array {
    return this.#encoder.encode(records.map(({ name, seconds, value, data, sum }) => {
      const fields = new Map<number, unknown>([[0, name], [6, seconds]])
      if (typeof value === 'number') fields.set(2, value)
      else if (typeof value === 'boolean') fields.set(4, value)
      else if (value !== undefined) fields.set(data ? 8 : 3, data ? Buffer.from(value, 'base64url') : value)
      if (sum !== undefined) fields.set(5, sum)
      return fields
    }))
  }
}
