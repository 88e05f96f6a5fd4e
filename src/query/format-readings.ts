/** Readings of a joined chunk as JSON, without an object per reading or point (`readingsOf` gives the same as values). Pure. */
import type { Chunk, Column } from '../core/reading.js'
import { journalColumnName } from '../series/merge.js'
import type { TimeFormat } from '../../workers/protocol.js'
import { formatTime, formatValue } from '../core/json-values.js'
import type { JsonBytes } from './json-bytes.js'
import type { NumberTexts } from './number-texts.js'

export interface FormattedReadings {
  readonly count: number
  /** µs; null where there is none. */
  readonly lastTs: number | null
  /** There are more than were asked for. */
  readonly more: boolean
}

interface Cursor { readonly name: Uint8Array, readonly column: Column, at: number }

export interface FormatOptions {
  readonly order: 'asc' | 'desc'
  /** Readings at most. */
  readonly most: number
  readonly times: TimeFormat
  readonly numbers: NumberTexts
}

/** Writes readings, from the oldest or from the newest, each with a comma behind it; rows of equal timestamp are one reading. */
export function formatReadings (out: JsonBytes, chunk: Chunk, { order, most, times, numbers }: FormatOptions): FormattedReadings {
  const { ts } = chunk
  const ascending = order === 'asc'
  const cursors: Cursor[] = chunk.columns.filter(({ metric }) => metric !== journalColumnName)
    .map(column => ({ name: encoder.encode(`${JSON.stringify(column.metric)}:`), column, at: ascending ? 0 : column.values.length - 1 }))
  let count = 0
  let lastTs: number | null = null
  let start = ascending ? 0 : ts.length
  let end = start
  while (ascending ? end < ts.length : start > 0) {
    if (ascending) {
      start = end++
      while (end < ts.length && ts[end] === ts[start]) end++
    } else {
      end = start--
      while (start > 0 && ts[start - 1] === ts[start]) start--
    }
    const before = out.length
    out.ascii('{"ts":')
    out.ascii(formatTime(ts[start], times))
    out.ascii(',"values":{')
    const opened = out.length
    for (const cursor of cursors) {
      const index = ascending ? lastBelow(cursor, end) : lastBelowBackwards(cursor, end)
      const { rows } = cursor.column
      if (index < 0 || (rows !== null && rows[index] < start)) continue
      if (out.length > opened) out.ascii(',')
      out.raw(cursor.name)
      writeValue(out, cursor.column, index, numbers)
    }
    if (out.length === opened || count === most) {
      const more = out.length > opened
      out.cutTo(before)
      if (more) return { count, lastTs, more }
      continue
    }
    out.ascii('}},')
    count++
    lastTs = ts[start]
  }
  return { count, lastTs, more: false }
}

const encoder = new TextEncoder()

/** Index of the last value in a row below `end`; cursors only move on. */
function lastBelow (cursor: Cursor, end: number): number {
  const { rows } = cursor.column
  if (rows === null) return end - 1
  while (cursor.at < rows.length && rows[cursor.at] < end) cursor.at++
  return cursor.at - 1
}

function lastBelowBackwards (cursor: Cursor, end: number): number {
  const { rows } = cursor.column
  if (rows === null) return end - 1
  while (cursor.at >= 0 && rows[cursor.at] >= end) cursor.at--
  return cursor.at
}

function writeValue (out: JsonBytes, { type, values }: Column, index: number, numbers: NumberTexts): void {
  if (type === 'number') out.ascii(numbers.of(values[index]))
  else if (type === 'boolean') out.ascii(values[index] === 0 ? 'false' : 'true')
  else out.text(formatValue(values[index]))
}
