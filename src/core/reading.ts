/** The words of the data model (DESIGN section 1). */

/** A metric's value. Numbers are IEEE doubles, NaN and infinities included (CBOR can carry them). */
export type Value = number | boolean | string

export type ValueType = 'number' | 'boolean' | 'string'

/** Where a chunk comes from: the slice that a mark record of a journal closed. Orders chunks of equal stamp. */
export interface SliceId {
  /** 16 hex digits. */
  readonly journalId: string
  /** Position of the slice's mark record in the journal (bytes since the journal began). */
  readonly mark: number
}

/** One metric's values in a chunk, in the order of the chunk's rows. */
export type Column =
  | { readonly metric: string, readonly type: 'number', readonly rows: Uint32Array | null, readonly values: Float64Array }
  | { readonly metric: string, readonly type: 'boolean', readonly rows: Uint32Array | null, readonly values: Uint8Array }
  | { readonly metric: string, readonly type: 'string', readonly rows: Uint32Array | null, readonly values: readonly string[] }
// `rows` holds the ascending row numbers that have a value; null means every row has one.

/**
 * Readings in columns. A chunk belongs to one device; the same shape carries a slab's rows, grouped by device.
 * At most one column per (metric, type).
 */
export interface Chunk {
  /** Timestamps in µs, one a row. Any order is legal for the codec; writers sort ascending, equal ones by stamp. */
  readonly ts: Float64Array
  /** Accept stamps in µs, one a row. */
  readonly stamps: Float64Array
  readonly columns: readonly Column[]
}

export const usPerMs = 1000
export const usPerSecond = 1e6
export const usPerMinute = 60e6
export const usPerHour = 3600e6
export const usPerDay = 86400e6
