/**
 * Exports as text. CSV (RFC 4180, a header first): texts are quoted, numbers and booleans are not, so that an import knows types apart;
 * an empty cell is no point. NDJSON: a reading a line, NaN and infinities beside the values. Every double comes back bit for bit.
 */
import { usPerMs, type Chunk, type Value } from '../core/reading.js'
import { readingsOf } from '../series/merge.js'
import type { ExportTimes } from '../../workers/transfer-protocol.js'
import { reservedColumns, textOfValue } from './cells.js'
import { windowFields, type ExportWriter, type WindowRecord, type Write } from './export-writer.js'
import { exportMessageBytes } from './row-limits.js'

/** ISO 8601 with milliseconds, or microseconds where there are any. */
export function isoOf (us: number): string {
  const micros = us % usPerMs
  const iso = new Date((us - micros) / usPerMs).toISOString()
  return micros === 0 ? iso : `${iso.slice(0, -1)}${String(micros).padStart(3, '0')}Z`
}

function timeText (us: number, times: ExportTimes): string {
  return times === 'iso' ? isoOf(us) : times === 'us' ? String(us) : millisecondsOf(us)
}

/** Milliseconds with the fraction that microseconds need, exactly. */
function millisecondsOf (us: number): string {
  const micros = us % usPerMs
  return micros === 0 ? String(us / usPerMs) : `${(us - micros) / usPerMs}.${String(micros).padStart(3, '0')}`
}

const mustQuote = /["\r\n,]/
const quoted = (text: string): string => `"${text.includes('"') ? text.replaceAll('"', '""') : text}"`
const nameCell = (text: string): string => mustQuote.test(text) || text === '' ? quoted(text) : text
const valueCell = (value: Value): string => typeof value === 'string' ? quoted(value) : textOfValue(value)

/** Gathers text and hands it on as bytes. */
class TextOutlet {
  readonly #write: Write
  #text: string[] = []
  #chars = 0

  constructor (write: Write) {
    this.#write = write
  }

  add (line: string): void {
    this.#text.push(line)
    this.#chars += line.length
  }

  get full (): boolean { return this.#chars >= exportMessageBytes }

  async flush (): Promise<void> {
    if (this.#chars === 0) return
    const bytes = Buffer.from(this.#text.join(''))
    this.#text = []
    this.#chars = 0
    await this.#write(bytes)
  }
}

abstract class TextWriter implements ExportWriter {
  protected readonly out: TextOutlet
  protected readonly times: ExportTimes

  constructor (write: Write, times: ExportTimes) {
    this.out = new TextOutlet(write)
    this.times = times
  }

  protected abstract header (): string
  protected abstract reading (device: string, ts: number, values: readonly (readonly [string, Value])[]): string
  protected abstract window (device: string, record: WindowRecord): string

  async begin (): Promise<void> { this.out.add(this.header()) }

  async chunk (device: string, chunk: Chunk): Promise<number> {
    let points = 0
    for (const { ts, values } of readingsOf(chunk, 'asc')) {
      points += values.length
      this.out.add(this.reading(device, ts, values))
      if (this.out.full) await this.out.flush()
    }
    await this.out.flush()
    return points
  }

  async windows (device: string, records: readonly WindowRecord[]): Promise<number> {
    for (const record of records) {
      this.out.add(this.window(device, record))
      if (this.out.full) await this.out.flush()
    }
    await this.out.flush()
    return records.length
  }

  async end (): Promise<void> { await this.out.flush() }
}

export class CsvWriter extends TextWriter {
  /** null: a row a point; else the columns. */
  readonly #metrics: readonly string[] | null
  readonly #columnOf = new Map<string, number>()
  readonly #isTier: boolean

  constructor (write: Write, times: ExportTimes, metrics: readonly string[] | null, isTier: boolean) {
    super(write, times)
    this.#metrics = metrics
    this.#isTier = isTier
    metrics?.forEach((metric, i) => { this.#columnOf.set(metric, i) })
  }

  protected header (): string {
    if (this.#isTier) return `${['device', ...windowFields].join(',')}\n`
    if (this.#metrics === null) return 'device,ts,metric,value\n'
    const first = (['device', 'ts'] as const).map(name => this.#metrics?.includes(name) === true ? reservedColumns[name] : name)
    return `${[...first, ...this.#metrics.map(nameCell)].join(',')}\n`
  }

  protected reading (device: string, ts: number, values: readonly (readonly [string, Value])[]): string {
    const time = timeText(ts, this.times)
    if (this.#metrics === null) return values.map(([metric, value]) => `${device},${time},${nameCell(metric)},${valueCell(value)}\n`).join('')
    const cells = new Array<string>(this.#metrics.length).fill('')
    for (const [metric, value] of values) {
      const at = this.#columnOf.get(metric)
      if (at !== undefined) cells[at] = valueCell(value)
    }
    return `${device},${time},${cells.join(',')}\n`
  }

  protected window (device: string, record: WindowRecord): string {
    const cells = windowFields.map(field => {
      const value = record[field]
      if (value === null) return ''
      if (field === 'start' || field === 'firstTs' || field === 'lastTs') return timeText(value as number, this.times)
      return field === 'metric' || field === 'type' ? nameCell(value as string) : valueCell(value)
    })
    return `${device},${cells.join(',')}\n`
  }
}

const isFinite = (value: Value): boolean => typeof value !== 'number' || Number.isFinite(value)
const jsonValue = (value: Value): string => typeof value === 'number' ? textOfValue(value) : JSON.stringify(value)

export class NdjsonWriter extends TextWriter {
  protected header (): string { return '' }

  #time (us: number): string {
    const text = timeText(us, this.times)
    return this.times === 'iso' ? `"${text}"` : text
  }

  protected reading (device: string, ts: number, values: readonly (readonly [string, Value])[]): string {
    const finite = values.filter(([, value]) => isFinite(value)).map(([metric, value]) => `${JSON.stringify(metric)}:${jsonValue(value)}`)
    const others = values.filter(([, value]) => !isFinite(value)).map(([metric, value]) => `${JSON.stringify(metric)}:"${String(value)}"`)
    return `{"device":"${device}","ts":${this.#time(ts)},"values":{${finite.join(',')}}${others.length === 0 ? '' : `,"nonFinite":{${others.join(',')}}`}}\n`
  }

  protected window (device: string, record: WindowRecord): string {
    const fields = windowFields.flatMap(field => {
      const value = record[field]
      if (value === null) return []
      const text = field === 'start' || field === 'firstTs' || field === 'lastTs' ? this.#time(value as number) : isFinite(value) ? jsonValue(value) : `"${String(value)}"`
      return [`"${field}":${text}`]
    })
    return `{"device":"${device}",${fields.join(',')}}\n`
  }
}
