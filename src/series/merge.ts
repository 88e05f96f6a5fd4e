/**
 * One device's readings from several chunks, joined into one chunk (INVARIANTS 3: counted once). A point is a value of a
 * metric at a timestamp; of several values for one point the one with the greatest (accept stamp, journalId, order
 * of arrival) wins, whatever its type.
 *
 * A merged chunk can be merged again without loss, because every point keeps its own stamp: rows ascend by (timestamp, stamp,
 * journalId), are distinct in it, and each holds only points that won. Rows of equal timestamp are joined by the
 * reader (`readingsOf`). Where sources of more than one journal are merged, the journal of each row stands in a string
 * column with the empty name (no metric has it), and that column counts instead of a source's `journalId`. So the result is the
 * same in whatever order and grouping chunks are merged, and however often; only sources that give one point twice under the
 * same stamp and journal (parts of one slice) must be listed in order of arrival.
 *
 * Columns of the result ascend by (name, type).
 */
import type { Chunk, Column, Value, ValueType } from '../core/reading.js'

/** Name of the column that holds the journalId of each row. */
export const journalColumnName = ''

export interface MergeSource {
  readonly chunk: Chunk
  /** Journal of the rows, where the chunk has no journal column. */
  readonly journalId: string
}

export interface MergeRange {
  /** µs: rows outside [fromTs, toTs) are left out. */
  readonly fromTs: number
  readonly toTs: number
  /** Rows with a lower accept stamp are erased and left out. */
  readonly erasedBefore: number
  /** Rows with a lower timestamp have expired and are left out. */
  readonly oldestTs: number
}

export interface MergeOptions {
  /** Writes the journal column even where all sources are of one journal: for a result that is stored without one. */
  readonly keepJournals?: boolean
}

export function mergeChunks (sources: readonly MergeSource[], range: MergeRange, options: MergeOptions = {}): Chunk {
  const { names, several } = journalsOf(sources)
  const rows = gatherRows(sources, range, names)
  const columns: Column[] = []
  const used = new Uint8Array(rows.joinedCount)
  for (const [metric, candidates] of candidatesByMetric(sources, rows)) {
    joinMetric(metric, candidates, rows, used, columns)
  }
  return assemble(rows, used, columns, several || options.keepJournals === true ? names : null)
}

function journalColumn (chunk: Chunk): readonly string[] | null {
  const column = chunk.columns.find(({ metric }) => metric === journalColumnName)
  return column !== undefined && column.type === 'string' && column.rows === null ? column.values : null
}

/** All journals in order of id, and whether the result must tell them apart. */
function journalsOf (sources: readonly MergeSource[]): { names: string[], several: boolean } {
  const names = new Set<string>()
  let several = false
  for (const { chunk, journalId } of sources) {
    const column = journalColumn(chunk)
    if (column === null) {
      names.add(journalId)
    } else {
      several = true
      for (const name of column) names.add(name)
    }
  }
  return { names: [...names].sort(), several: several || names.size > 1 }
}

/** Kept rows in order of (timestamp, stamp, journal, arrival); `position` means a place in that order. */
interface GatheredRows {
  /** First row number of each source in `positions`. */
  readonly offsets: readonly number[]
  /** Position of each source row, -1 where it is left out. */
  readonly positions: Int32Array
  /** Number of the distinct timestamp at a position. */
  readonly moments: Int32Array
  readonly momentCount: number
  /** Number of the distinct (timestamp, stamp, journal) at a position. */
  readonly joined: Int32Array
  readonly joinedCount: number
  /** By joined number. */
  readonly ts: Float64Array
  readonly stamps: Float64Array
  readonly journals: Int32Array
}

function gatherRows (sources: readonly MergeSource[], range: MergeRange, journalNames: readonly string[]): GatheredRows {
  const offsets: number[] = []
  let total = 0
  for (const { chunk } of sources) {
    offsets.push(total)
    total += chunk.ts.length
  }
  const fromTs = Math.max(range.fromTs, range.oldestTs)
  const ts = new Float64Array(total)
  const stamps = new Float64Array(total)
  const journals = new Int32Array(total)
  let order = new Int32Array(total)
  let kept = 0
  for (let i = 0; i < sources.length; i++) {
    const { chunk, journalId } = sources[i]
    const column = journalColumn(chunk)
    let journal = journalNames.indexOf(journalId)
    for (let row = 0; row < chunk.ts.length; row++) {
      if (!(chunk.ts[row] >= fromTs && chunk.ts[row] < range.toTs && chunk.stamps[row] >= range.erasedBefore)) continue
      if (column !== null && column[row] !== journalNames[journal]) journal = journalNames.indexOf(column[row])
      const at = offsets[i] + row
      ts[at] = chunk.ts[row]
      stamps[at] = chunk.stamps[row]
      journals[at] = journal
      order[kept++] = at
    }
  }
  order = order.subarray(0, kept)
  const compare = (a: number, b: number): number => ts[a] - ts[b] || stamps[a] - stamps[b] || journals[a] - journals[b] || a - b
  let sorted = true
  for (let i = 1; i < kept && sorted; i++) sorted = compare(order[i - 1], order[i]) < 0
  if (!sorted) order.sort(compare)
  return numberRows(offsets, order, ts, stamps, journals)
}

function numberRows (offsets: readonly number[], order: Int32Array, ts: Float64Array, stamps: Float64Array, journals: Int32Array): GatheredRows {
  const positions = new Int32Array(ts.length).fill(-1)
  const moments = new Int32Array(order.length)
  const joined = new Int32Array(order.length)
  const joinedTs = new Float64Array(order.length)
  const joinedStamps = new Float64Array(order.length)
  const joinedJournals = new Int32Array(order.length)
  let moment = -1
  let last = -1
  for (let position = 0; position < order.length; position++) {
    const at = order[position]
    positions[at] = position
    const newMoment = last < 0 || ts[at] !== joinedTs[last]
    if (newMoment) moment++
    if (newMoment || stamps[at] !== joinedStamps[last] || journals[at] !== joinedJournals[last]) {
      last++
      joinedTs[last] = ts[at]
      joinedStamps[last] = stamps[at]
      joinedJournals[last] = journals[at]
    }
    moments[position] = moment
    joined[position] = last
  }
  const count = last + 1
  return {
    offsets, positions, moments, momentCount: moment + 1, joined, joinedCount: count,
    ts: joinedTs.subarray(0, count), stamps: joinedStamps.subarray(0, count), journals: joinedJournals.subarray(0, count)
  }
}

interface Candidate { readonly column: Column, readonly offset: number }

function candidatesByMetric (sources: readonly MergeSource[], rows: GatheredRows): [string, Candidate[]][] {
  const byMetric = new Map<string, Candidate[]>()
  for (let i = 0; i < sources.length; i++) {
    const { chunk } = sources[i]
    const hasJournals = journalColumn(chunk) !== null
    for (const column of chunk.columns) {
      if (hasJournals && column.metric === journalColumnName) continue
      const candidate = { column, offset: rows.offsets[i] }
      const list = byMetric.get(column.metric)
      if (list === undefined) byMetric.set(column.metric, [candidate])
      else list.push(candidate)
    }
  }
  return [...byMetric].sort(([a], [b]) => a < b ? -1 : 1)
}

const typeOrder: readonly ValueType[] = ['boolean', 'number', 'string']

/** Finds the winner of every moment and adds the metric's columns, one per type that won somewhere. */
function joinMetric (metric: string, candidates: readonly Candidate[], rows: GatheredRows, used: Uint8Array, columns: Column[]): void {
  const { positions, moments, joined, momentCount } = rows
  const winners = new Int32Array(momentCount).fill(-1)
  const winningCandidate = new Int32Array(momentCount)
  const winningIndex = new Int32Array(momentCount)
  for (let i = 0; i < candidates.length; i++) {
    const { column, offset } = candidates[i]
    const { rows: present, values: { length } } = column
    for (let index = 0; index < length; index++) {
      const position = positions[offset + (present === null ? index : present[index])]
      if (position < 0) continue
      const moment = moments[position]
      // A row that has the metric in two types (no decoder makes one) gives the later type.
      if (position < winners[moment] || (position === winners[moment] &&
        typeOrder.indexOf(column.type) < typeOrder.indexOf(candidates[winningCandidate[moment]].column.type))) continue
      winners[moment] = position
      winningCandidate[moment] = i
      winningIndex[moment] = index
    }
  }
  for (const type of typeOrder) {
    if (!candidates.some(({ column }) => column.type === type)) continue
    const ownRows = new Uint32Array(momentCount)
    const values: { [index: number]: number | string } = type === 'number' ? new Float64Array(momentCount) : type === 'boolean' ? new Uint8Array(momentCount) : []
    let count = 0
    for (let moment = 0; moment < momentCount; moment++) {
      if (winners[moment] < 0) continue
      const { column } = candidates[winningCandidate[moment]]
      if (column.type !== type) continue
      const row = joined[winners[moment]]
      used[row] = 1
      ownRows[count] = row
      values[count++] = column.values[winningIndex[moment]]
    }
    if (count === 0) continue
    const present = ownRows.subarray(0, count)
    if (values instanceof Float64Array) columns.push({ metric, type: 'number', rows: present, values: values.subarray(0, count) })
    else if (values instanceof Uint8Array) columns.push({ metric, type: 'boolean', rows: present, values: values.subarray(0, count) })
    else columns.push({ metric, type: 'string', rows: present, values: values as string[] })
  }
}

/** Drops rows of which no point won, and writes the journal column where `journalNames` is given. */
function assemble (rows: GatheredRows, used: Uint8Array, columns: readonly Column[], journalNames: readonly string[] | null): Chunk {
  const numbers = new Uint32Array(rows.joinedCount)
  const ts = new Float64Array(rows.joinedCount)
  const stamps = new Float64Array(rows.joinedCount)
  const journals: string[] = []
  let count = 0
  for (let row = 0; row < rows.joinedCount; row++) {
    if (used[row] === 0) continue
    numbers[row] = count
    ts[count] = rows.ts[row]
    stamps[count] = rows.stamps[row]
    if (journalNames !== null) journals.push(journalNames[rows.journals[row]])
    count++
  }
  const merged: Column[] = journalNames === null ? [] : [{ metric: journalColumnName, type: 'string', rows: null, values: journals }]
  for (const column of columns) {
    const present = column.rows as Uint32Array
    for (let i = 0; i < present.length; i++) present[i] = numbers[present[i]]
    merged.push(present.length === count ? { ...column, rows: null } : column)
  }
  return { ts: ts.subarray(0, count), stamps: stamps.subarray(0, count), columns: merged }
}

/** One timestamp's points, in the order of the chunk's columns. */
export interface JoinedReading {
  /** µs */
  readonly ts: number
  readonly values: readonly (readonly [metric: string, value: Value])[]
}

/**
 * The readings of a merged chunk, rows of equal timestamp joined, from the oldest or from the newest. A timestamp
 * without a value in the chunk's columns is passed over.
 */
export function * readingsOf (chunk: Chunk, order: 'asc' | 'desc'): Generator<JoinedReading, void> {
  const { ts } = chunk
  const hasJournals = journalColumn(chunk) !== null
  const columns = chunk.columns.filter(({ metric }) => !hasJournals || metric !== journalColumnName)
  const ascending = order === 'asc'
  const cursors = Int32Array.from(columns, ({ values }) => ascending ? 0 : values.length - 1)
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
    const values: [string, Value][] = []
    for (let i = 0; i < columns.length; i++) {
      const column = columns[i]
      let index = end - 1
      if (column.rows !== null) {
        index = ascending ? lastBelow(column.rows, cursors[i], end) : lastBelowBackwards(column.rows, cursors[i], end)
        cursors[i] = index + (ascending ? 1 : 0)
        if (index < 0 || column.rows[index] < start) continue
      }
      values.push([column.metric, valueAt(column, index)])
    }
    if (values.length > 0) yield { ts: ts[start], values }
  }
}

/** The last index whose row is below `end`, searched upwards from `cursor`. */
function lastBelow (rows: Uint32Array, cursor: number, end: number): number {
  while (cursor < rows.length && rows[cursor] < end) cursor++
  return cursor - 1
}

function lastBelowBackwards (rows: Uint32Array, cursor: number, end: number): number {
  while (cursor >= 0 && rows[cursor] >= end) cursor--
  return cursor
}

/** The value at an index of a column's values. */
export function valueAt (column: Column, index: number): Value {
  return column.type === 'boolean' ? column.values[index] !== 0 : column.values[index]
}
