/**
 * Records of a CSV file (RFC 4180) into rows. The header names the columns: of device and time, and either one a metric (wide) or
 * `metric` and `value` (long). A record without a quote is cut at its delimiters; one with quotes is csv-parse's, alone, so that
 * one that is malformed spoils no other.
 */
import { isUtf8 } from 'node:buffer'
import { parse } from 'csv-parse/sync'
import { TwinfoldError } from '../core/errors.js'
import type { Value } from '../core/reading.js'
import type { ImportSettings } from '../../workers/transfer-protocol.js'
import { reservedColumns, timeOfText, valueOfText } from './cells.js'
import type { PieceSink } from './piece-sink.js'
import type { SplitPiece, SplitRecord } from './record-splitter.js'
import { wideColumnsMax } from './row-limits.js'

interface Cell { readonly text: string, readonly quoted: boolean }

/** The columns of a file by what they are for; -1 where there is none. */
export interface CsvLayout {
  readonly names: readonly string[]
  readonly device: number
  readonly ts: number
  /** -1: a column a metric. */
  readonly metric: number
  readonly value: number
}

const byteOrderMark = '\ufeff'

/** @throws TwinfoldError `invalid_request` for a header that does not have the columns that the import names. */
export function csvLayout (names: readonly string[], settings: ImportSettings): CsvLayout {
  if (names.length > wideColumnsMax) throw new TwinfoldError('invalid_request', `the file has ${names.length} columns; ${wideColumnsMax} is the most, or a row a point with columns for metric and value`)
  const twice = names.find((name, i) => names.indexOf(name) !== i)
  if (twice !== undefined) throw new TwinfoldError('invalid_request', `the header names column '${twice.slice(0, 100)}' twice`)
  // An export whose metrics take these names calls its own columns so.
  const columnOf = (reserved: string, given: string): number => names.indexOf(names.includes(reserved) ? reserved : given)
  const layout = {
    names, device: columnOf(reservedColumns.device, settings.deviceColumn), ts: columnOf(reservedColumns.ts, settings.tsColumn), metric: names.indexOf(settings.metricColumn), value: names.indexOf(settings.valueColumn)
  }
  if (layout.ts < 0) throw new TwinfoldError('invalid_request', `the header has no column '${settings.tsColumn}' for the time; name it with tsColumn`, { field: 'tsColumn' })
  if (layout.device < 0 && settings.device === null) throw new TwinfoldError('invalid_request', `the header has no column '${settings.deviceColumn}'; name it with deviceColumn, or the device of all rows with device`, { field: 'deviceColumn' })
  const long = settings.shape === 'long' || (settings.shape === 'auto' && layout.metric >= 0 && layout.value >= 0)
  if (!long) return { ...layout, metric: -1, value: -1 }
  if (layout.metric < 0) throw new TwinfoldError('invalid_request', `the header has no column '${settings.metricColumn}'; name it with metricColumn`, { field: 'metricColumn' })
  if (layout.value < 0) throw new TwinfoldError('invalid_request', `the header has no column '${settings.valueColumn}'; name it with valueColumn`, { field: 'valueColumn' })
  return layout
}

export function csvHeader (piece: SplitPiece, settings: ImportSettings): readonly string[] {
  const [first] = piece.records
  if (first === undefined) throw new TwinfoldError('invalid_request', 'the file has no header')
  const cells = cellsOf(piece.buffer, first, settings.delimiter, true)
  if (cells === null) throw new TwinfoldError('invalid_request', 'the header is not UTF-8, or its quotes do not match')
  return cells.map(({ text }, i) => i === 0 && text.startsWith(byteOrderMark) ? text.slice(1) : text)
}

/** null: not UTF-8, or quotes that do not match. */
function cellsOf (buffer: Buffer, record: SplitRecord, delimiter: string, isUtf8Whole: boolean): Cell[] | null {
  const bytes = buffer.subarray(record.from, record.to)
  if (!isUtf8Whole && !isUtf8(bytes)) return null
  if (!record.hasQuotes) return bytes.toString('utf8').split(delimiter).map(text => ({ text, quoted: false }))
  try {
    const rows = parse(bytes, {
      delimiter,
      relax_column_count: true,
      cast: (text, { quoting }) => ({ text, quoted: quoting }) as unknown as string
    }) as unknown as Cell[][]
    return rows.length === 1 ? rows[0] : null
  } catch {
    return null
  }
}

export interface CsvOptions {
  readonly settings: ImportSettings
  readonly isoUs: (text: string) => number
}

/** All records of the piece from the given one on. */
export function parseCsv (piece: SplitPiece, fromRecord: number, layout: CsvLayout, sink: PieceSink, { settings, isoUs }: CsvOptions): void {
  const isUtf8Whole = isUtf8(piece.buffer)
  for (let i = fromRecord; i < piece.records.length; i++) {
    const record = piece.records[i]
    const payload = (): Uint8Array => piece.buffer.subarray(record.from, record.to)
    const cells = cellsOf(piece.buffer, record, settings.delimiter, isUtf8Whole)
    if (cells === null) {
      sink.refuse(record.line, 'not_a_reading', 'the row is not UTF-8, or its quotes do not match', payload)
    } else if (cells.length !== layout.names.length) {
      sink.refuse(record.line, 'not_a_reading', `the row has ${cells.length} columns, the header ${layout.names.length}`, payload)
    } else {
      addRow(record.line, cells, layout, sink, { settings, isoUs }, payload)
    }
  }
}

function addRow (line: number, cells: readonly Cell[], layout: CsvLayout, sink: PieceSink, { settings, isoUs }: CsvOptions, payload: () => Uint8Array): void {
  const values: [string, Value][] = []
  const put = (metric: string, { text, quoted }: Cell): boolean => {
    const isText = quoted && settings.quoted === 'string'
    if (!isText && (text === '' || text === settings.missing)) return true
    const value = isText ? text : valueOfText(text)
    if (value === undefined) return false
    values.push([metric, value])
    return true
  }
  let good = true
  if (layout.metric >= 0) {
    good = put(cells[layout.metric].text, cells[layout.value])
  } else {
    for (let at = 0; at < cells.length && good; at++) {
      if (at !== layout.device && at !== layout.ts) good = put(layout.names[at], cells[at])
    }
  }
  if (!good) {
    sink.refuse(line, 'value_invalid', 'a number is beyond the range of a double', payload)
    return
  }
  sink.add(line, layout.device < 0 ? null : cells[layout.device].text, timeOfText(cells[layout.ts].text, settings.times, isoUs), values, payload)
}
