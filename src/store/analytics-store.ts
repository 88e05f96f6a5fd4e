/**
 * Port: the fleet-wide read side (DESIGN 3.5). A projection of the raw store, fed idempotently: writing a point again changes
 * no answer, and of two values for one point the one with the greater (stamp, journal id) stands.
 */
import type { Value } from '../core/reading.js'

export interface AnalyticsPoint {
  readonly tenant: string
  readonly device: string
  readonly metric: string
  /** Event time, µs. */
  readonly ts: number
  readonly value: Value
  /** Accept stamp, µs. */
  readonly stamp: number
  /** The journal that gave the stamp, 16 hex digits: decides between equal stamps of two nodes. */
  readonly journalId: string
}

export interface AnalyticsCount {
  readonly points: number
  readonly devices: number
}

export interface AnalyticsStore {
  /** Rejects with `analytics_unavailable`; the whole batch may then be in, in part, or not: it is written again. */
  insertPoints(points: readonly AnalyticsPoint[]): Promise<void>
  /** Points and devices of the tenant with event times in [fromTs, toTs), each point once. */
  countPoints(tenant: string, fromTs: number, toTs: number): Promise<AnalyticsCount>
  ping(): Promise<void>
  close(): Promise<void>
}
