/** A range of a chunk's rows as a chunk of its own. Pure; number columns share the memory of the whole. */
import type { Chunk, Column } from '../core/reading.js'

/** Rows [from, to) of the chunk. Columns without a value there are left out. */
export function sliceRows (chunk: Chunk, from: number, to: number): Chunk {
  const columns: Column[] = []
  for (const column of chunk.columns) {
    const part = sliceColumn(column, from, to)
    if (part !== null) columns.push(part)
  }
  return { ts: chunk.ts.subarray(from, to), stamps: chunk.stamps.subarray(from, to), columns }
}

function sliceColumn (column: Column, from: number, to: number): Column | null {
  const start = column.rows === null ? from : lowerBound(column.rows, from)
  const end = column.rows === null ? to : lowerBound(column.rows, to)
  if (start === end) return null
  const rows = column.rows === null || end - start === to - from ? null : column.rows.subarray(start, end).map(row => row - from)
  const { metric } = column
  if (column.type === 'number') return { metric, type: 'number', rows, values: column.values.subarray(start, end) }
  if (column.type === 'boolean') return { metric, type: 'boolean', rows, values: column.values.subarray(start, end) }
  return { metric, type: 'string', rows, values: column.values.slice(start, end) }
}

/** Index of the first entry that is not below `row`. */
function lowerBound (rows: Uint32Array, row: number): number {
  let low = 0
  let high = rows.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (rows[middle] < row) low = middle + 1
    else high = middle
  }
  return low
}
