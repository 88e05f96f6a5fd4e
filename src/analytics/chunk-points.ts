/** Chunks into points for the analytics store. Pure. */
import type { Chunk, Column } from '../core/reading.js'
import { dropErased } from '../series/erase.js'
import { journalColumnName, mergeChunks, valueAt } from '../series/merge.js'
import type { AnalyticsPoint } from '../store/analytics-store.js'
import type { ErasedPart } from '../store/small-stores.js'

export interface PointSource {
  readonly tenant: string
  readonly device: string
  /** Journal of the rows, where the chunk has no journal column. */
  readonly journalId: string
  readonly chunk: Chunk
  /** What is erased, and left out. */
  readonly erased: readonly ErasedPart[]
}

/** Journal of rows that name none; no journal has this id. */
const noJournal = '0'.repeat(16)

/**
 * The chunk's points. Of values for one point under one stamp and journal the last stands last, so that a store that keeps the
 * last of equal ones keeps what every reader shows.
 */
export function * pointsOf (source: PointSource): Generator<AnalyticsPoint> {
  const { tenant, device } = source
  const chunk = dropErased(oneColumnPerMetric(source), source.erased)
  const journals = journalsOf(chunk)
  const journalId = source.journalId === '' ? noJournal : source.journalId
  for (const column of chunk.columns) {
    const { metric, rows, values } = column
    if (metric === journalColumnName) continue
    for (let i = 0; i < values.length; i++) {
      const row = rows === null ? i : rows[i]
      const stamp = chunk.stamps[row]
      yield { tenant, device, metric, ts: chunk.ts[row], value: valueAt(column, i), stamp, journalId: journals === null ? journalId : journals[row] }
    }
  }
}

function journalsOf (chunk: Chunk): readonly string[] | null {
  const column: Column | undefined = chunk.columns.find(({ metric }) => metric === journalColumnName)
  return column?.type === 'string' ? column.values : null
}

/**
 * Where a metric has columns of two types, their order of arrival is between the columns: the join that readers use settles
 * each point. Elsewhere the chunk as it is.
 */
function oneColumnPerMetric ({ chunk, journalId }: PointSource): Chunk {
  const names = new Set(chunk.columns.map(({ metric }) => metric))
  if (names.size === chunk.columns.length) return chunk
  return mergeChunks([{ chunk, journalId }], { fromTs: 0, toTs: Infinity, oldestTs: 0, erasedBefore: 0 })
}
