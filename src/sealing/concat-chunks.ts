/**
 * Joins chunks that follow one another in time without meeting, which is what punctual devices send: the same result as
 * `mergeChunks` with its journal column, by copying columns. Pure.
 */
import type { Chunk, Column } from '../core/reading.js'
import { journalColumnName, type MergeSource } from '../series/merge.js'

/** null where chunks overlap, are out of order, or give a time twice: then points must be joined one by one. */
export function concatChunks (sources: readonly MergeSource[]): Chunk | null {
  if (!areDisjoint(sources)) return null
  const rows = sources.reduce((sum, { chunk }) => sum + chunk.ts.length, 0)
  const ts = new Float64Array(rows)
  const stamps = new Float64Array(rows)
  const journals: string[] = []
  const gathered = new Map<string, Gathered>()
  let base = 0
  for (const { chunk, journalId } of sources) {
    ts.set(chunk.ts, base)
    stamps.set(chunk.stamps, base)
    const own = chunk.columns.find(isJournals)
    for (let row = 0; row < chunk.ts.length; row++) journals.push(own === undefined ? journalId : own.values[row] as string)
    for (const column of chunk.columns) if (column !== own) gather(gathered, column, base, chunk.ts.length)
    base += chunk.ts.length
  }
  const columns = [...gathered.values()].map(series => assemble(series, rows)).sort(byNameAndType)
  return { ts, stamps, columns: [{ metric: journalColumnName, type: 'string', rows: null, values: journals }, ...columns] }
}

interface Gathered { readonly parts: { readonly column: Column, readonly base: number, readonly rows: number }[], values: number }

const isJournals = (column: Column): boolean => column.metric === journalColumnName && column.type === 'string' && column.rows === null

/** Every row later than the one before it, and with a point of its own: `mergeChunks` drops rows without any. */
function areDisjoint (sources: readonly MergeSource[]): boolean {
  let last = -Infinity
  for (const { chunk } of sources) {
    for (let row = 0; row < chunk.ts.length; row++) {
      if (chunk.ts[row] <= last) return false
      last = chunk.ts[row]
    }
    if (!chunk.columns.some(column => column.rows === null && !isJournals(column))) return false
  }
  return hasOneTypeAMetric(sources)
}

/** A row that has a metric in two types is for `mergeChunks` to decide. */
function hasOneTypeAMetric (sources: readonly MergeSource[]): boolean {
  return sources.every(({ chunk: { columns } }) => new Set(columns.filter(column => !isJournals(column)).map(({ metric }) => metric)).size === columns.filter(column => !isJournals(column)).length)
}

function gather (gathered: Map<string, Gathered>, column: Column, base: number, rows: number): void {
  const key = `${column.type}\0${column.metric}`
  let series = gathered.get(key)
  if (series === undefined) gathered.set(key, series = { parts: [], values: 0 })
  series.parts.push({ column, base, rows })
  series.values += column.values.length
}

function assemble ({ parts, values: count }: Gathered, rows: number): Column {
  const { metric, type } = parts[0].column
  const present = count === rows ? null : presentRows(parts, count)
  if (type === 'string') return { metric, type, rows: present, values: parts.flatMap(({ column }) => column.values as string[]) }
  const values = type === 'number' ? new Float64Array(count) : new Uint8Array(count)
  let at = 0
  for (const { column } of parts) {
    values.set(column.values as Float64Array | Uint8Array, at)
    at += column.values.length
  }
  return { metric, type, rows: present, values } as Column
}

function presentRows (parts: Gathered['parts'], count: number): Uint32Array {
  const present = new Uint32Array(count)
  let at = 0
  for (const { column, base, rows } of parts) {
    if (column.rows === null) for (let row = 0; row < rows; row++) present[at++] = base + row
    else for (const row of column.rows) present[at++] = base + row
  }
  return present
}

function byNameAndType (a: Column, b: Column): number {
  if (a.metric !== b.metric) return a.metric < b.metric ? -1 : 1
  return a.type < b.type ? -1 : a.type > b.type ? 1 : 0
}
