/** A range of a chunk's rows, by number or by time, as a chunk that shares the memory of its numbers. Pure. */
import type { Chunk, Column } from '../core/reading.js'

/** Index of the first element that is not below `bound`, in an ascending array. */
export function lowerBound (values: ArrayLike<number>, bound: number): number {
  let low = 0
  let high = values.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (values[middle] < bound) low = middle + 1
    else high = middle
  }
  return low
}

/** Rows with fromTs <= ts < toTs of a chunk whose rows ascend by time, µs. Columns without a value there are left out. */
export function cutChunk (chunk: Chunk, fromTs: number, toTs: number): Chunk {
  return sliceRows(chunk, lowerBound(chunk.ts, fromTs), lowerBound(chunk.ts, toTs))
}

/** Rows [from, to) of the chunk. Columns without a value there are left out. */
export function sliceRows (chunk: Chunk, from: number, to: number): Chunk {
  if (from === 0 && to === chunk.ts.length) return chunk
  const columns = chunk.columns.map(column => cutColumn(column, from, to)).filter(({ values }) => values.length > 0)
  return { ts: chunk.ts.subarray(from, to), stamps: chunk.stamps.subarray(from, to), columns }
}

function cutColumn (column: Column, from: number, to: number): Column {
  const first = column.rows === null ? from : lowerBound(column.rows, from)
  const end = column.rows === null ? to : lowerBound(column.rows, to)
  const rows = column.rows === null ? null : column.rows.slice(first, end).map(row => row - from)
  if (column.type === 'number') return { ...column, rows, values: column.values.subarray(first, end) }
  if (column.type === 'boolean') return { ...column, rows, values: column.values.subarray(first, end) }
  return { ...column, rows, values: column.values.slice(first, end) }
}
