/** The newest value of every metric of a merged chunk, for the hot state. Pure. */
import type { Chunk, Value } from '../core/reading.js'
import { journalColumnName, valueAt } from '../series/merge.js'
import type { LatestValue } from '../store/hot-state.js'

/** Of rows that all have one stamp and journal. */
export function newestOf (chunk: Chunk, stamp: number, journalId: string): LatestValue[] {
  const newest = new Map<string, { ts: number, value: Value }>()
  for (const column of chunk.columns) {
    if (column.metric === journalColumnName || column.values.length === 0) continue
    const index = column.values.length - 1
    const ts = chunk.ts[column.rows === null ? index : column.rows[index]]
    const known = newest.get(column.metric)
    if (known === undefined || ts > known.ts) newest.set(column.metric, { ts, value: valueAt(column, index) })
  }
  return [...newest].map(([metric, { ts, value }]) => ({ metric, ts, value, stamp, journalId }))
}
