/** Messages between the server and the process that runs one tenant's SQL. */
import type { SqlFormat } from '../src/store/fleet-store.js'

/** A table of the snapshot: its columns with their types, and its Parquet files. */
export interface SqlTable {
  readonly name: string
  readonly columns: readonly (readonly [name: string, type: string])[]
  /** Absolute paths; none: an empty table. */
  readonly files: readonly string[]
  /** Its time, where what has expired is left out. */
  readonly timeColumn: string | null
}

export interface SqlLimits {
  readonly seconds: number
  readonly memoryBytes: number
  readonly rows: number
  readonly bytes: number
}

export interface SqlOpenTask {
  readonly kind: 'open'
  /** For the engine's own files; holds nothing before. */
  readonly directory: string
  readonly tables: readonly SqlTable[]
  /** µs */
  readonly oldestTs: number
  readonly limits: SqlLimits
}

export interface SqlRunTask {
  readonly kind: 'run'
  /** Judged by the guard. */
  readonly sql: string
  readonly format: SqlFormat
}

export type SqlTask = SqlOpenTask | SqlRunTask

export type SqlReply =
  | { readonly kind: 'opened' }
  | { readonly kind: 'answer', readonly body: Uint8Array, readonly rows: number, readonly truncated: boolean }
  /** The engine's number and text, '' where it is not the engine's. */
  | { readonly kind: 'refused', readonly code: number, readonly text: string }
