/**
 * Rows of a Parquet file, a range at a time: wide (a column a metric) or long (`metric` with `value`, or with `number`, `boolean`
 * and `string` as an export writes them). Only flat columns of numbers, booleans and texts can be points; a file with others
 * fails, naming the column. Memory is bounded by one row group.
 */
import { brotliDecompressSync, gunzipSync } from 'node:zlib'
import { asyncBufferFromFile, parquetMetadataAsync, parquetRead, type AsyncBuffer, type Compressors, type FileMetaData, type SchemaElement } from 'hyparquet'
import { TwinfoldError } from '../core/errors.js'
import type { Value } from '../core/reading.js'
import type { ImportCursor, ImportSettings } from '../../workers/transfer-protocol.js'
import { timeOfNumber, timeOfText, valueOfText } from './cells.js'
import { csvLayout } from './parse-csv.js'
import type { PieceSink } from './piece-sink.js'
import { piecePointsMax, pieceRowsMax } from './row-limits.js'

/** A row group is decoded as a whole where the file has no page index. */
const groupValuesMax = 32_000_000
const groupBytesMax = 512 * 1024 * 1024
/** The key in the file's metadata under which an export says which column holds what. */
export const columnsKey = 'twinfold.columns'
/** Columns of a long file that say a value by its type. */
const typedColumns = ['number', 'boolean', 'string'] as const

export interface ParquetColumn { readonly column: string, readonly metric: string }

const compressors: Compressors = {
  GZIP: (input, outputBytes) => gunzipSync(input, { maxOutputLength: Math.max(1, outputBytes) }),
  BROTLI: (input, outputBytes) => brotliDecompressSync(input, { maxOutputLength: Math.max(1, outputBytes) })
}

/** Times as µs, whatever their unit: dates would cut microseconds. */
const parsers = {
  timestampFromMilliseconds: (ms: bigint) => Number(ms) * 1000,
  timestampFromMicroseconds: (us: bigint) => Number(us),
  timestampFromNanoseconds: (ns: bigint) => Math.round(Number(ns) / 1000)
}

interface Layout {
  readonly device: number
  readonly ts: number
  /** Times are µs, by the column's own type. */
  readonly tsIsMicros: boolean
  readonly metric: number
  /** Long: the columns that may hold the value. Wide: all of metrics. */
  readonly values: readonly number[]
  readonly names: readonly string[]
}

function leavesOf (metadata: FileMetaData): SchemaElement[] {
  const leaves = metadata.schema.slice(1)
  for (const { name, num_children: children, repetition_type: repetition } of leaves) {
    if (children !== undefined || repetition === 'REPEATED') throw broken(`column '${name.slice(0, 100)}' is nested; points are numbers, booleans and texts`)
  }
  return leaves
}

function broken (detail: string): TwinfoldError {
  return new TwinfoldError('invalid_request', detail)
}

function isTime ({ converted_type: converted, logical_type: logical }: SchemaElement): boolean {
  return converted === 'TIMESTAMP_MILLIS' || converted === 'TIMESTAMP_MICROS' || logical?.type === 'TIMESTAMP'
}

function checkValueColumn (element: SchemaElement): void {
  const { name, type, converted_type: converted } = element
  const texts = type === 'BYTE_ARRAY' && (converted === undefined || converted === 'UTF8' || converted === 'ENUM')
  const numbers = (type === 'DOUBLE' || type === 'FLOAT' || type === 'INT32' || type === 'INT64') && !isTime(element) && converted !== 'DATE' && converted !== 'TIME_MILLIS' && converted !== 'TIME_MICROS'
  if (!texts && !numbers && type !== 'BOOLEAN') throw broken(`column '${name.slice(0, 100)}' is of type ${converted ?? type ?? 'unknown'}; points are numbers, booleans and texts`)
}

function layoutOf (metadata: FileMetaData, settings: ImportSettings): Layout {
  const leaves = leavesOf(metadata)
  const columns = leaves.map(({ name }) => name)
  const typed = columns.includes(settings.metricColumn) && !columns.includes(settings.valueColumn) ? typedColumns.filter(name => columns.includes(name)) : []
  const { device, ts, metric, value } = csvLayout(columns, typed.length > 0 ? { ...settings, valueColumn: typed[0] } : settings)
  const values = metric >= 0 ? (typed.length > 0 ? typed.map(name => columns.indexOf(name)) : [value]) : columns.map((_, at) => at).filter(at => at !== device && at !== ts)
  for (const at of values) checkValueColumn(leaves[at])
  return { device, ts, tsIsMicros: isTime(leaves[ts]), metric, values, names: metricNames(metadata, columns) }
}

/** What an export said of its columns: a metric of two types has two. */
function metricNames (metadata: FileMetaData, columns: readonly string[]): string[] {
  const said = metadata.key_value_metadata?.find(({ key }) => key === columnsKey)?.value
  if (said === undefined) return [...columns]
  try {
    const byColumn = new Map((JSON.parse(said) as ParquetColumn[]).map(({ column, metric }) => [column, metric]))
    return columns.map(column => byColumn.get(column) ?? column)
  } catch {
    return [...columns]
  }
}

function checkGroups (metadata: FileMetaData): void {
  for (const { num_rows: rows, total_byte_size: bytes, columns } of metadata.row_groups) {
    if (Number(rows) * columns.length > groupValuesMax || Number(bytes) > groupBytesMax) {
      throw broken(`a row group has ${rows} rows and ${bytes} bytes; ${groupValuesMax} values and ${groupBytesMax} bytes are the most: write the file with smaller row groups`)
    }
  }
}

async function openFile (path: string): Promise<{ file: AsyncBuffer, metadata: FileMetaData }> {
  const file = await asyncBufferFromFile(path)
  return { file, metadata: await parquetMetadataAsync(file, { parsers }) }
}

/** Adds the rows from `at` on to the sink; ends at a bound of rows or points. @throws TwinfoldError `invalid_request` for a file that cannot be read. */
export async function parseParquet (path: string, at: ImportCursor, sink: PieceSink, { settings, isoUs }: { readonly settings: ImportSettings, readonly isoUs: (text: string) => number }): Promise<{ next: ImportCursor, done: boolean, progress: number }> {
  try {
    const { file, metadata } = await openFile(path)
    checkGroups(metadata)
    const layout = layoutOf(metadata, settings)
    const total = Number(metadata.num_rows)
    const count = Math.max(1, Math.min(pieceRowsMax, Math.floor(piecePointsMax / layout.names.length)))
    const end = Math.min(total, at.offset + count)
    if (end > at.offset) await readRows(file, metadata, at, end, layout, sink, settings, isoUs)
    return { next: { offset: end, line: end + 1, columns: null }, done: end >= total, progress: total === 0 ? 1 : end / total }
  } catch (error) {
    if (error instanceof TwinfoldError) throw error
    throw broken(`the file cannot be read as Parquet: ${(error as Error).message.slice(0, 300)}`)
  }
}

async function readRows (file: AsyncBuffer, metadata: FileMetaData, at: ImportCursor, end: number, layout: Layout, sink: PieceSink, settings: ImportSettings, isoUs: (text: string) => number): Promise<void> {
  await parquetRead({
    file, metadata, compressors, parsers, rowStart: at.offset, rowEnd: end, useOffsetIndex: true,
    onComplete: rows => {
      rows.forEach((row: unknown[], i) => { addRow(at.line + i, row, layout, sink, settings, isoUs) })
    }
  })
}

function addRow (line: number, row: readonly unknown[], layout: Layout, sink: PieceSink, settings: ImportSettings, isoUs: (text: string) => number): void {
  const payload = (): Uint8Array => Buffer.from(JSON.stringify(row, (_, value: unknown) => typeof value === 'bigint' ? Number(value) : value))
  const time = row[layout.ts]
  const ts = typeof time === 'string' ? timeOfText(time, settings.times, isoUs)
    : typeof time === 'number' || typeof time === 'bigint' ? (layout.tsIsMicros ? inRange(Number(time)) : timeOfNumber(Number(time), settings.times)) : NaN
  const device = layout.device < 0 ? null : row[layout.device] ?? null
  const values: [string, Value][] = []
  for (const at of layout.values) {
    const value = row[at]
    if (value === null || value === undefined) continue
    values.push([layout.metric >= 0 ? String(row[layout.metric]) : layout.names[at], typeof value === 'bigint' ? Number(value) : value as Value])
  }
  // A long file with one column of texts for all types is read as CSV would be.
  if (layout.metric >= 0 && layout.values.length === 1 && values.length === 1 && typeof values[0][1] === 'string' && settings.quoted === 'any') {
    const value = valueOfText(values[0][1])
    if (value !== undefined) values[0][1] = value
  }
  sink.add(line, device === null ? null : String(device), ts, values, payload)
}

function inRange (us: number): number {
  return us >= 0 && us <= Number.MAX_SAFE_INTEGER ? us : NaN
}
