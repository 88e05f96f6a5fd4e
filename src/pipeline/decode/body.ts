/**
 * The decoders' front: one body of any kind into rows of the SliceTable (DESIGN 4.1). Promises: no body throws, a body
 * whose syntax is broken leaves nothing in the table, and whatever is not stored is refused with a reason (promise 9).
 */
import { RecordKind } from '../../journal/record.js'
import type { SliceTable } from '../slice-table.js'
import { CborBody } from './cbor-body.js'
import type { DecodeContext } from './decode-types.js'
import { isSenml, JsonBody } from './json-body.js'
import { JsonScanner, skipSpace } from './json-scan.js'
import { ReadingSink } from './reading-sink.js'
import { SenmlJsonBody } from './senml-json.js'

export class BodyDecoder {
  readonly #sink: ReadingSink
  readonly #json: JsonBody
  readonly #senmlJson: SenmlJsonBody
  readonly #cbor: CborBody

  constructor (table: SliceTable) {
    const scanner = new JsonScanner()
    this.#sink = new ReadingSink(table)
    this.#json = new JsonBody(this.#sink, scanner)
    this.#senmlJson = new SenmlJsonBody(this.#sink, scanner)
    this.#cbor = new CborBody(this.#sink)
  }

  /**
   * Decodes bytes[from, to) as `kind` says.
   *
   * @returns readings stored; everything else of the body was passed to `context.refuse`.
   */
  decode (kind: RecordKind, bytes: Uint8Array, from: number, to: number, context: DecodeContext): number {
    const buffer = Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.#sink.open(context)
    switch (kind) {
      case RecordKind.bodyAuto: return this.#auto(buffer, from, to)
      case RecordKind.bodyNdjson: return this.#json.decodeLines(buffer, afterByteOrderMark(buffer, from, to), to)
      case RecordKind.bodySenmlJson: return this.#senmlJson.decode(buffer, afterByteOrderMark(buffer, from, to), to)
      case RecordKind.bodySenmlCbor: return this.#cbor.decodeSenml(buffer, from, to)
      case RecordKind.bodyCbor: return this.#cbor.decode(buffer, from, to, false)
      default:
        context.refuse('not_a_reading', `record kind ${kind} holds no body`, context.device, buffer.subarray(from, to))
        return 0
    }
  }

  /** JSON begins with a brace or bracket, CBOR with a byte of major type 4, 5 or 6; none of these bytes is the other's. */
  #auto (buffer: Buffer, from: number, to: number): number {
    const { context } = this.#sink
    const start = afterByteOrderMark(buffer, from, to)
    const at = skipSpace(buffer, start, to)
    if (at === to) {
      context.refuse('empty', 'the body is empty', context.device, buffer.subarray(from, to))
      return 0
    }
    const first = buffer[at]
    if (first === 0x7b || first === 0x5b) {
      const stored = this.#json.decode(buffer, start, to)
      return stored === isSenml ? this.#senmlJson.decode(buffer, start, to) : stored
    }
    if (buffer[from] >= 0x80 && buffer[from] < 0xe0) return this.#cbor.decode(buffer, from, to, true)
    context.refuse('not_a_reading', 'the body begins neither like a JSON object or array nor like a CBOR map or array', context.device, buffer.subarray(from, to))
    return 0
  }
}

/** Offset after a UTF-8 byte order mark, which some senders put before their text. */
function afterByteOrderMark (bytes: Buffer, from: number, to: number): number {
  return to - from >= 3 && bytes[from] === 0xef && bytes[from + 1] === 0xbb && bytes[from + 2] === 0xbf ? from + 3 : from
}
