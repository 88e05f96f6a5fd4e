/**
 * SenML in JSON (RFC 8428 section 5). Promise: text that is no JSON, or JSON that is no pack, is refused whole.
 * Packs are made by constrained devices and are small; they go through JSON.parse once the scanner has accepted them.
 */
import type { JsonScanner } from './json-scan.js'
import { skipSpace } from './json-scan.js'
import type { ReadingSink } from './reading-sink.js'
import { type ResolvedRecord, type SenmlRecord, type SenmlScalar, storePack } from './senml.js'

export class SenmlJsonBody {
  readonly #sink: ReadingSink
  readonly #scanner: JsonScanner

  constructor (sink: ReadingSink, scanner: JsonScanner) {
    this.#sink = sink
    this.#scanner = scanner
  }

  /** @returns readings stored. */
  decode (bytes: Buffer, from: number, to: number): number {
    const { context } = this.#sink
    const end = this.#scanner.skip(bytes, from, to)
    const errorAt = end === -1 ? this.#scanner.errorAt : skipSpace(bytes, end, to)
    if (errorAt !== to || end === -1) {
      context.refuse('json_invalid', `the text is no JSON from offset ${errorAt - from} on`, context.device, bytes.subarray(from, to))
      return 0
    }
    const pack: unknown = JSON.parse(bytes.toString('utf8', from, to))
    const outcome = Array.isArray(pack)
      ? storePack(this.#sink, recordsOf(pack), encodeResolved)
      : { reason: 'senml_invalid' as const, detail: 'a pack is an array of records' }
    if (typeof outcome === 'number') return outcome
    context.refuse(outcome.reason, outcome.detail, context.device, bytes.subarray(from, to))
    return 0
  }
}

function * recordsOf (pack: readonly unknown[]): Generator<SenmlRecord | null> {
  for (const record of pack) {
    const isMap = typeof record === 'object' && record !== null && !Array.isArray(record)
    yield isMap ? Object.entries(record as Record<string, SenmlScalar>) : null
  }
}

function encodeResolved (records: readonly ResolvedRecord[]): Uint8Array {
  return Buffer.from(JSON.stringify(records.map(({ name, seconds, value, data, sum }) => {
    const label = data ? 'vd' : typeof value === 'string' ? 'vs' : typeof value === 'boolean' ? 'vb' : 'v'
    return { n: name, t: seconds, [label]: value, s: sum }
  })))
}
