/**
 * Port: questions over many devices of one tenant, answered by analytics (DESIGN 3.5). What an answer holds is what the projection
 * has brought over so far; each point is in it once, with the value that was accepted last.
 *
 * Fleet queries are made of parts that are bound or come from fixed lists; tenant SQL is the tenant's own text, and sees that
 * tenant's rows only.
 */

/** `p` with a number: a percentile, 1 % relative error. */
export type FleetAgg = 'avg' | 'min' | 'max' | 'sum' | 'count' | 'stddev' | 'first' | 'last' | 'devices' | `p${number}`

/** What rows are kept apart by, beside metric and time. */
export type FleetKey = 'device' | 'type' | 'gateway' | `tag:${string}`

/** Devices that count; a device has to meet all that is given. Absent: all of the tenant. */
export interface FleetWhere {
  readonly devices?: readonly string[]
  readonly types?: readonly string[]
  /** Devices behind these gateways. */
  readonly gateways?: readonly string[]
  /** One of the values for each name. */
  readonly tags?: ReadonlyMap<string, readonly string[]>
}

/** A step of fixed length from the epoch on, or of calendar days in a zone. */
export type FleetStep = { readonly kind: 'fixed', readonly us: number } | { readonly kind: 'days', readonly days: number, readonly timeZone: string }

/** An aggregate of a metric over the whole range, by which groups are chosen. */
export interface FleetMeasure { readonly agg: FleetAgg, readonly metric: string }

export interface FleetHaving extends FleetMeasure {
  readonly op: '<' | '<=' | '>' | '>='
  readonly value: number
}

export interface FleetSpan {
  readonly tenant: string
  /** µs, [fromTs, toTs), within retention. */
  readonly fromTs: number
  readonly toTs: number
  readonly where: FleetWhere
}

export interface FleetQuery extends FleetSpan {
  readonly metrics: readonly string[]
  readonly aggs: readonly FleetAgg[]
  readonly groupBy: readonly FleetKey[]
  readonly step: FleetStep | null
  readonly having: readonly FleetHaving[]
  readonly topK: (FleetMeasure & { readonly k: number, readonly order: 'desc' | 'asc' }) | null
}

export type FleetValue = number | string | boolean | null

export interface FleetRow {
  readonly metric: string
  /** µs: start of the window; null where the query has no step. */
  readonly ts: number | null
  /** As `groupBy`; '' stands for devices without that tag, type or gateway. */
  readonly group: readonly string[]
  /** As `aggs`; null: the group has no value of that kind. */
  readonly values: readonly FleetValue[]
}

export type FleetTier = 'points' | '1h'

export interface FleetAnswer {
  /** By rank (top k) or group, then metric and time. */
  readonly rows: readonly FleetRow[]
  /** What was read: `1h` where sealed hours came from their tier rows. */
  readonly tier: FleetTier
}

export interface HistogramQuery extends FleetSpan {
  readonly metric: string
  /** So many of one width between the least and the greatest value, or of this width from 0 on. */
  readonly buckets: { readonly kind: 'count', readonly count: number } | { readonly kind: 'width', readonly width: number }
}

export interface HistogramAnswer {
  /** Ascending, [from, to), the last one closed; those without points are left out. */
  readonly buckets: readonly { readonly from: number, readonly to: number, readonly count: number }[]
  /** NaN and infinities, which lie in no bucket. */
  readonly notFinite: number
}

export interface FleetStore {
  /** @throws TwinfoldError `analytics_unavailable`; `limit_reached` naming the field that would make it smaller. */
  queryFleet (query: FleetQuery): Promise<FleetAnswer>
  /** @throws TwinfoldError as `queryFleet` */
  histogram (query: HistogramQuery): Promise<HistogramAnswer>
}

export const sqlFormats = ['json', 'csv', 'ndjson'] as const
export type SqlFormat = typeof sqlFormats[number]

export interface SqlRequest {
  readonly tenant: string
  readonly query: string
  readonly format: SqlFormat
  /** µs: what is older has expired and is not seen. */
  readonly oldestTs: number
}

export interface SqlAnswer {
  /** `json`: an array of objects. `csv`: with a line of names. */
  readonly body: Uint8Array
  readonly rows: number
  /** The limit of rows or bytes was met: there are more. */
  readonly truncated: boolean
  /** µs: state of the data that was asked. */
  readonly asOf: number
}

export interface TenantSql {
  /** Why it is not offered; null: it is. */
  readonly off: string | null
  /**
   * One SELECT over `points`, `tiers_1h` and `devices`.
   * @throws TwinfoldError `invalid_field` (`query`: what may not be asked, or what the engine says is wrong with it), `limit_reached`,
   * `throttled` (one query at a time per tenant), `analytics_unavailable`.
   */
  run (request: SqlRequest): Promise<SqlAnswer>
  close (): Promise<void>
}
