/**
 * Windows of the aggregation pyramid, in columns: one entry of every array a window, ascending by start, windows without
 * a point left out. A series is told by (metric, type), as in chunks: a metric that changed its type has windows of both.
 * Times are µs. Everything is a function of the points alone: whatever the chunks and the order in which they came, the
 * same points give the same bits (INVARIANTS 4).
 */
import type { ValueType } from '../../core/reading.js'

interface WindowsOf<T extends ValueType> {
  readonly metric: string
  readonly type: T
  /** µs, multiples of the width. */
  readonly starts: Float64Array
  /** Points in the window. */
  readonly counts: Float64Array
  readonly firstTs: Float64Array
  readonly lastTs: Float64Array
}

export interface NumberWindows extends WindowsOf<'number'> {
  /** NaNs are points like others: they make sum, mean and m2 NaN, and are passed over by min and max where there is another. */
  readonly sums: Float64Array
  readonly mins: Float64Array
  readonly maxs: Float64Array
  readonly firsts: Float64Array
  readonly lasts: Float64Array
  /** Sum of the squared distances from the mean (Chan, Golub, LeVeque 1979): variance is m2 / count. */
  readonly m2s: Float64Array
  /** What a counter grew by between the window's first and last point: the sum of all rises; after a fall (a reset) the new value counts whole. */
  readonly increases: Float64Array
  /** Integral of the value over time from the first to the last point, each value held until the next point; value times µs. */
  readonly areas: Float64Array
  /**
   * Decimal places that the window's values need, 0 to 12, where its sums and increases are exact decimals (exact.ts), else -1.
   * Squares and areas are exact as well where they are not too large.
   */
  readonly scales: Int8Array
}

export interface BooleanWindows extends WindowsOf<'boolean'> {
  readonly firsts: Uint8Array
  readonly lasts: Uint8Array
  /** Points that are true. */
  readonly trues: Float64Array
  /** Points that differ from the one before them in the window. */
  readonly changes: Float64Array
  /** µs between the first and the last point in which the value held was true. */
  readonly trueUs: Float64Array
}

export interface StringWindows extends WindowsOf<'string'> {
  readonly firsts: readonly string[]
  readonly lasts: readonly string[]
  readonly changes: Float64Array
  /** µs that each value was held between the first and the last point; of more than `statesMax` values the ones held longest, the rest under ''. */
  readonly states: readonly ReadonlyMap<string, number>[]
}

/** Distinct strings of one window whose time is kept apart. */
export const statesMax = 16

export type SeriesWindows = NumberWindows | BooleanWindows | StringWindows

/** Ascending by (metric, type). */
export type TierWindows = readonly SeriesWindows[]
