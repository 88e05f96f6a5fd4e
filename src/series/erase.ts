/**
 * Drops the points of a chunk that were erased (DESIGN 3.8): those with an accept stamp below an erasure's, of its metric, in its
 * range of event times. Pure. It makes no difference whether chunks are joined (merge.ts) before or after: of several values
 * for one point the winner has the greatest stamp, so where it is erased, the others are.
 */
import type { Chunk, Column } from '../core/reading.js'
import type { ErasedPart } from '../store/small-stores.js'
import { journalColumnName } from './merge.js'

/**
 * The chunk without what the parts erase; the chunk itself where they erase nothing of it. Rows left without a point vanish. The
 * journal column of a merged chunk stays, with the rows that stay.
 */
export function dropErased (chunk: Chunk, parts: readonly ErasedPart[]): Chunk {
  if (parts.length === 0 || chunk.ts.length === 0) return chunk
  const masks = erasedRows(chunk, parts)
  if (masks.length === 0) return chunk
  const isJournals = (column: Column): boolean => column.metric === journalColumnName && column.type === 'string' && column.rows === null
  let changed = false
  const used = new Uint8Array(chunk.ts.length)
  const kept: { readonly column: Column, readonly indexes: Uint32Array | null }[] = []
  for (const column of chunk.columns) {
    if (isJournals(column)) {
      kept.push({ column, indexes: null })
      continue
    }
    const indexes = remaining(column, masks.filter(({ metric }) => metric === null || metric === column.metric).map(({ rows }) => rows))
    const length = indexes === null ? column.values.length : indexes.length
    if (indexes !== null) changed = true
    if (length === 0) continue
    for (let i = 0; i < length; i++) {
      const index = indexes === null ? i : indexes[i]
      used[column.rows === null ? index : column.rows[index]] = 1
    }
    kept.push({ column, indexes })
  }
  return changed ? assemble(chunk, kept, used, isJournals) : chunk
}

interface Mask { readonly metric: string | null, readonly rows: Uint8Array }

/** Which rows each part erases; parts that meet no row are left out. */
function erasedRows ({ ts, stamps }: Chunk, parts: readonly ErasedPart[]): Mask[] {
  const masks: Mask[] = []
  for (const { stamp, metric = null, fromTs = -Infinity, toTs = Infinity } of parts) {
    let rows: Uint8Array | null = null
    for (let row = 0; row < ts.length; row++) {
      if (stamps[row] < stamp && ts[row] >= fromTs && ts[row] < toTs) (rows ??= new Uint8Array(ts.length))[row] = 1
    }
    if (rows !== null) masks.push({ metric, rows })
  }
  return masks
}

/** Indexes of the column's values that stay; null: all of them. */
function remaining ({ rows: present, values: { length } }: Column, masks: readonly Uint8Array[]): Uint32Array | null {
  if (masks.length === 0) return null
  const indexes = new Uint32Array(length)
  let count = 0
  for (let index = 0; index < length; index++) {
    const row = present === null ? index : present[index]
    if (!masks.some(mask => mask[row] === 1)) indexes[count++] = index
  }
  return count === length ? null : indexes.subarray(0, count)
}

function assemble (chunk: Chunk, kept: readonly { readonly column: Column, readonly indexes: Uint32Array | null }[], used: Uint8Array, isJournals: (column: Column) => boolean): Chunk {
  const numbers = new Uint32Array(used.length)
  const rows = new Uint32Array(used.length)
  let count = 0
  for (let row = 0; row < used.length; row++) {
    if (used[row] === 0) continue
    numbers[row] = count
    rows[count++] = row
  }
  const stay = rows.subarray(0, count)
  const pick = (values: Float64Array): Float64Array => Float64Array.from(stay, row => values[row])
  return {
    ts: pick(chunk.ts),
    stamps: pick(chunk.stamps),
    columns: kept.map(({ column, indexes }) => isJournals(column) ? takeValues(column, stay, null) : renumber(column, indexes, numbers, count))
  }
}

function renumber (column: Column, indexes: Uint32Array | null, numbers: Uint32Array, count: number): Column {
  const length = indexes === null ? column.values.length : indexes.length
  const rows = new Uint32Array(length)
  for (let i = 0; i < length; i++) {
    const index = indexes === null ? i : indexes[i]
    rows[i] = numbers[column.rows === null ? index : column.rows[index]]
  }
  return takeValues(column, indexes, length === count ? null : rows)
}

/** The column's values at the indexes (null: all), in the rows given. */
function takeValues (column: Column, indexes: Uint32Array | null, rows: Uint32Array | null): Column {
  if (indexes === null) return { ...column, rows }
  const { metric } = column
  if (column.type === 'number') return { metric, type: 'number', rows, values: Float64Array.from(indexes, index => column.values[index]) }
  if (column.type === 'boolean') return { metric, type: 'boolean', rows, values: Uint8Array.from(indexes, index => column.values[index]) }
  return { metric, type: 'string', rows, values: Array.from(indexes, index => column.values[index]) }
}
