/** What every format of an export is made of. */
import type { Chunk, Value } from '../core/reading.js'

/** A window of a tier, flat. Fields that a type does not have are null. Times µs. */
export interface WindowRecord {
  readonly metric: string
  readonly type: 'number' | 'boolean' | 'string'
  readonly start: number
  readonly count: number
  readonly firstTs: number
  readonly first: Value
  readonly lastTs: number
  readonly last: Value
  readonly sum: number | null
  readonly min: number | null
  readonly max: number | null
  readonly mean: number | null
  readonly m2: number | null
  readonly increase: number | null
  readonly area: number | null
  readonly trues: number | null
  readonly trueUs: number | null
  readonly changes: number | null
}

export const windowFields = [
  'start', 'metric', 'type', 'count', 'firstTs', 'first', 'lastTs', 'last', 'sum', 'min', 'max', 'mean', 'm2', 'increase', 'area', 'trues', 'trueUs', 'changes'
] as const satisfies readonly (keyof WindowRecord)[]

export interface ExportWriter {
  begin(): Promise<void>
  /** Joined readings, ascending. Returns the points written. */
  chunk(device: string, chunk: Chunk): Promise<number>
  windows(device: string, records: readonly WindowRecord[]): Promise<number>
  end(): Promise<void>
}

export type Write = (bytes: Uint8Array) => Promise<void>
