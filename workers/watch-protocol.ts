/**
 * What the packers look for in the points that they decode, and what they find: violations of device models, and edges for alarms.
 * Plain data: it crosses the thread boundary, and the store.
 */
import type { Value } from '../src/core/reading.js'
import type { RuleScope, Severity, Threshold } from '../src/core/threshold.js'

export type { RuleScope }

export type MetricType = 'number' | 'boolean' | 'string'

/** Of one metric in a model. */
export interface MetricSpec {
  readonly type: MetricType
  readonly unit?: string
  /** Inclusive; numbers only. */
  readonly min?: number
  readonly max?: number
  readonly description?: string
}

/** What a model says of metrics. */
export interface MetricTable {
  readonly metrics: Readonly<Record<string, MetricSpec>>
  readonly onUnknownMetric: 'accept' | 'flag'
  readonly onMetricViolation: 'accept' | 'flag'
}

export type ViolationKind = 'type' | 'range' | 'unknown' | 'desired' | 'reported'

/** Violations of one kind in one slice, and the newest of them. */
export interface MetricViolation {
  readonly tenant: string
  readonly type: string
  /** '' for the metrics beyond those that a slice names. */
  readonly metric: string
  readonly kind: ViolationKind
  readonly count: number
  readonly device: string
  readonly value: Value
  /** Event time, µs. */
  readonly ts: number
}

export type RuleSource =
  /** `*`: any metric; with `noData` only. */
  | { readonly metric: string }
  /** Path of a leaf of the device's own reported state, dotted. */
  | { readonly reported: string }
  /** The value is `connected` or `disconnected`. */
  | { readonly presence: true }

export interface AlarmRule {
  readonly id: string
  readonly name: string
  readonly severity: Severity
  readonly enabled: boolean
  readonly message: string
  readonly scope: RuleScope
  readonly source: RuleSource
  /** null where `noData` is not. */
  readonly condition: Threshold | null
  /** It must hold so long, by event time. */
  readonly durationSeconds: number
  readonly noData: { readonly seconds: number } | null
  /** When it was written, µs; never the same for two versions of a rule, those of a deleted one included. */
  readonly stamp: number
}

/** What one slice says to one rule. Columns, because there may be many devices. */
export interface RuleEdges {
  readonly tenant: string
  readonly rule: AlarmRule
  readonly devices: readonly string[]
  /** First edge of each device, and one more for the end. */
  readonly starts: readonly number[]
  /** Event times, µs, ascending for each device: its first point, every change of side, its last point. */
  readonly ts: readonly number[]
  /** `Side` of each. */
  readonly sides: readonly number[]
  readonly values: readonly Value[]
}

export interface WatchResult {
  readonly violations: readonly MetricViolation[]
  readonly edges: readonly RuleEdges[]
  /** Changes of side that were left out, because a device had too many in the slice. */
  readonly edgesDropped: number
}
