/**
 * Takes the rows of a file as a source reads them: checks device, time, metric and value by the rules of telemetry, gathers what
 * is good by device, and counts, samples and (bounded) keeps what is not (INVARIANTS 9). Rows of devices that turn out not to be
 * registered are refused when the piece is whole.
 */
import { isDeviceId } from '../core/ids.js'
import { metricNameBytesMax, metricsPerReadingMax, stringValueBytesMax } from '../core/limits.js'
import type { Value } from '../core/reading.js'
import type { DeadLetterReason } from '../store/dead-letter-store.js'
import type { RefusedRow } from '../../workers/transfer-protocol.js'
import { DeviceRows } from './piece-rows.js'
import { samplesPerJobMax } from './row-limits.js'

export interface SinkOptions {
  /** For rows that name none; null: they are refused. */
  readonly device: string | null
  /** µs */
  readonly oldestTs: number
  readonly newestTs: number
  /** Refused rows that are kept whole. */
  readonly lettersMax: number
}

export interface RefusedLetter extends RefusedRow {
  readonly device: string
  /** The line of the file; of a row that was read but not accepted the reading in JSON, which can be replayed. */
  readonly payload: Uint8Array
}

interface KeptDevice { readonly rows: DeviceRows, readonly firstLine: number }

const forbiddenInName = /[\u0000-\u001f\u007f]/
const loneSurrogate = /[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/

export class PieceSink {
  readonly devices = new Map<string, KeptDevice>()
  readonly refused = new Map<DeadLetterReason, number>()
  readonly samples: RefusedRow[] = []
  readonly letters: RefusedLetter[] = []
  /** Rows of the file, good and bad. */
  rows = 0
  readonly #options: SinkOptions
  readonly #goodNames = new Set<string>()

  constructor (options: SinkOptions) {
    this.#options = options
  }

  /**
   * A row with its values, in order; later ones of one metric count.
   * @param device '' or null where the row names none
   * @param ts µs, NaN where it cannot be read
   * @param payload the row as it stands in the file
   */
  add (line: number, device: string | null, ts: number, values: readonly (readonly [metric: string, value: Value])[], payload: () => Uint8Array): void {
    this.rows++
    const id = device === null || device === '' ? this.#options.device : device
    if (id === null) { this.#refuse(line, 'device_unknown', 'the row names no device, and the import has no default', '', payload); return }
    if (!isDeviceId(id)) { this.#refuse(line, 'device_unknown', 'the device id is malformed', '', payload); return }
    if (Number.isNaN(ts)) { this.#refuse(line, 'ts_invalid', 'the time cannot be read in the format that the import names', id, payload); return }
    if (ts > this.#options.newestTs || ts < this.#options.oldestTs) {
      const late = ts < this.#options.oldestTs
      this.#refuse(line, late ? 'ts_expired' : 'ts_future', late ? 'the time lies before the retention' : 'the time lies more than ten minutes ahead', id, () => readingOf(id, ts, values))
      return
    }
    const problem = this.#problemOf(values)
    if (problem !== null) { this.#refuse(line, problem[0], problem[1], id, payload); return }
    let kept = this.devices.get(id)
    if (kept === undefined) this.devices.set(id, kept = { rows: new DeviceRows(), firstLine: line })
    kept.rows.begin(ts)
    for (const [metric, value] of values) kept.rows.put(metric, value)
  }

  /** A row that could not be read at all. */
  refuse (line: number, reason: DeadLetterReason, detail: string, payload: () => Uint8Array): void {
    this.rows++
    this.#refuse(line, reason, detail, '', payload)
  }

  /** Points of all devices by type. */
  get types (): { number: number, boolean: number, string: number } {
    const sum = { number: 0, boolean: 0, string: 0 }
    for (const { rows: { types } } of this.devices.values()) for (const type of ['number', 'boolean', 'string'] as const) sum[type] += types[type]
    return sum
  }

  /** Takes back the rows of a device that is not registered. */
  dropUnknown (device: string): void {
    const kept = this.devices.get(device)
    if (kept === undefined) return
    this.devices.delete(device)
    const { rows } = kept.rows
    this.#count('device_unknown', rows)
    this.#keep(kept.firstLine, 'device_unknown', `device '${device}' is not registered: ${rows} rows, the first at this line`, device, null)
  }

  #problemOf (values: readonly (readonly [string, Value])[]): readonly [DeadLetterReason, string] | null {
    if (values.length === 0) return ['empty', 'the row has no value']
    if (values.length > metricsPerReadingMax) return ['too_many_metrics', `the row has ${values.length} values; ${metricsPerReadingMax} is the most`]
    for (const [metric, value] of values) {
      if (!this.#goodNames.has(metric)) {
        if (metric === '' || Buffer.byteLength(metric) > metricNameBytesMax || forbiddenInName.test(metric) || loneSurrogate.test(metric)) {
          return ['metric_name_invalid', `a metric name is empty, longer than ${metricNameBytesMax} bytes or holds a control character`]
        }
        if (this.#goodNames.size < 10_000) this.#goodNames.add(metric)
      }
      if (typeof value !== 'string') continue
      if (value.length > stringValueBytesMax / 3 && Buffer.byteLength(value) > stringValueBytesMax) return ['string_too_long', `a text is longer than ${stringValueBytesMax} bytes`]
      if (loneSurrogate.test(value)) return ['value_invalid', 'a text holds half of a surrogate pair, which is no text']
    }
    return null
  }

  #refuse (line: number, reason: DeadLetterReason, detail: string, device: string, payload: () => Uint8Array): void {
    this.#count(reason, 1)
    this.#keep(line, reason, detail, device, payload)
  }

  #count (reason: DeadLetterReason, rows: number): void {
    this.refused.set(reason, (this.refused.get(reason) ?? 0) + rows)
  }

  #keep (line: number, reason: DeadLetterReason, detail: string, device: string, payload: (() => Uint8Array) | null): void {
    if (this.samples.length < samplesPerJobMax) this.samples.push({ line, reason, detail })
    if (this.letters.length < this.#options.lettersMax) this.letters.push({ line, reason, detail, device, payload: payload === null ? new Uint8Array(0) : payload() })
  }
}

function readingOf (device: string, ts: number, values: readonly (readonly [string, Value])[]): Uint8Array {
  return Buffer.from(JSON.stringify({ device, ts: ts / 1000, values: Object.fromEntries(values) }))
}
