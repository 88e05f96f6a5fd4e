/** Messages between the main thread and the readers: questions about windows. Readings and latest values are in protocol.ts. */
import type { Step } from '../src/series/steps/step.js'
import type { Tier } from '../src/store/tier-store.js'
import type { TimeFormat } from './protocol.js'

/** What stands in windows without a point: nothing (they are left out), null, the value before, a line between neighbours, or a number. */
export type Fill = 'none' | 'null' | 'previous' | 'linear' | number

export type Source = 'raw' | Tier

/** Which device, and what of it is still kept. */
export interface DeviceScope {
  readonly tenant: string
  readonly device: string
  /** Classes of raw rows, and before which time, µs, raw points are outside the retention. */
  readonly retentionDays: readonly number[]
  readonly oldestTs: number
  readonly tierClasses: Readonly<Record<Tier, readonly number[]>>
  readonly tierOldestTs: Readonly<Record<Tier, number>>
}

export interface AggregateQuery extends DeviceScope {
  readonly kind: 'aggregate'
  /** Which aggregates of which metrics; null: those of every metric that is not named. Texts as in src/series/steps/aggregates.ts. */
  readonly wanted: readonly { readonly metric: string | null, readonly aggs: readonly string[] }[]
  readonly step: Step
  /** IANA name. */
  readonly zone: string
  /** µs, [fromTs, toTs): the windows that it meets are answered whole. */
  readonly fromTs: number
  readonly toTs: number
  /** µs: a last value is held until then at most. */
  readonly nowTs: number
  readonly fill: Fill
  readonly times: TimeFormat
  /** Fold from this alone. Default: the coarsest that answers. */
  readonly source?: Source
  /** Windows of this page; further ones follow under `lastTs`. Absent: all. */
  readonly limit?: number
  /** Values that an answer holds at most. */
  readonly valuesMax: number
}

/** Points that show the shape of a series, fewer than there are. */
export interface ShapeQuery extends DeviceScope {
  readonly kind: 'shape'
  /** Largest triangles (Steinarsson 2013), or the least and the greatest of each stretch. */
  readonly shape: 'lttb' | 'minmax'
  readonly metrics: readonly string[] | null
  readonly fromTs: number
  readonly toTs: number
  /** Points of a series at most. */
  readonly maxPoints: number
  readonly times: TimeFormat
  readonly source?: Source
  readonly valuesMax: number
}

export type WindowQuery = AggregateQuery | ShapeQuery
