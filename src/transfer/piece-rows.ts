/**
 * What a piece of an import holds, gathered by device in columns: a row per row of the file. Rows of one timestamp (the points of
 * a file with a row a point) become one when the chunk is merged; of a point that stands twice the later row counts.
 */
import { usPerDay, type Chunk, type Column, type Value } from '../core/reading.js'
import { mergeChunks } from '../series/merge.js'

interface Gathered<T> { readonly rows: number[], readonly values: T[] }
interface MetricColumns { number?: Gathered<number>, boolean?: Gathered<number>, string?: Gathered<string> }

export class DeviceRows {
  readonly #ts: number[] = []
  readonly #columns = new Map<string, MetricColumns>()
  /** Points by type. */
  readonly types = { number: 0, boolean: 0, string: 0 }

  get rows (): number { return this.#ts.length }

  /** Begins a row; `put` adds to it. @param ts µs */
  begin (ts: number): void {
    this.#ts.push(ts)
  }

  put (metric: string, value: Value): void {
    let columns = this.#columns.get(metric)
    if (columns === undefined) this.#columns.set(metric, columns = {})
    const row = this.#ts.length - 1
    this.types[typeof value as keyof DeviceRows['types']]++
    if (typeof value === 'number') add(columns.number ??= { rows: [], values: [] }, row, value)
    else if (typeof value === 'boolean') add(columns.boolean ??= { rows: [], values: [] }, row, value ? 1 : 0)
    else add(columns.string ??= { rows: [], values: [] }, row, value)
  }

  /** The rows as one chunk, ascending, every point once. */
  chunk (stamp: number, journalId: string): Chunk {
    const rows = this.#ts.length
    const columns: Column[] = []
    const presence = (present: readonly number[]): Uint32Array | null => present.length === rows ? null : Uint32Array.from(present)
    for (const [metric, { number, boolean, string }] of this.#columns) {
      if (boolean !== undefined) columns.push({ metric, type: 'boolean', rows: presence(boolean.rows), values: Uint8Array.from(boolean.values) })
      if (number !== undefined) columns.push({ metric, type: 'number', rows: presence(number.rows), values: Float64Array.from(number.values) })
      if (string !== undefined) columns.push({ metric, type: 'string', rows: presence(string.rows), values: string.values })
    }
    const chunk = { ts: Float64Array.from(this.#ts), stamps: new Float64Array(rows).fill(stamp), columns }
    return mergeChunks([{ chunk, journalId }], { fromTs: 0, toTs: Infinity, erasedBefore: 0, oldestTs: 0 })
  }
}

function add<T> (column: Gathered<T>, row: number, value: T): void {
  column.rows.push(row)
  column.values.push(value)
}

/** Metrics of a merged chunk by UTC day (µs). */
export function metricsByDay (chunk: Chunk): Map<number, Set<string>> {
  const days = new Map<number, Set<string>>()
  const dayOfRow = Float64Array.from(chunk.ts, ts => Math.floor(ts / usPerDay) * usPerDay)
  const one = chunk.ts.length > 0 && dayOfRow[0] === dayOfRow[dayOfRow.length - 1]
  for (const { metric, rows, values } of chunk.columns) {
    let last = -1
    for (let i = 0; i < values.length; i++) {
      const day = dayOfRow[rows === null ? i : rows[i]]
      if (day === last) continue
      last = day
      const metrics = days.get(day)
      if (metrics === undefined) days.set(day, new Set([metric]))
      else metrics.add(metric)
      if (one) break
    }
  }
  return days
}
