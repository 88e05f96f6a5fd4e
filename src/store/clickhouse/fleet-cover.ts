/**
 * Which hours of a long fleet query sealed rows answer for, and which come from points. Pure.
 *
 * An hour of a metric of a device comes from its rows in `tiers_1h` if all of them are whole (no other bucket has points of that hour) and
 * were read from the store later than the hour's mark, by more than clocks differ. A mark is not older than the moment at which the
 * newest point of the hour in `points` was in the store for every reader; so a seal that began to read after it has that point. Whatever
 * is not certain comes from points, which is always right: late points until their bucket is sealed again, hours of buckets of a
 * minute, hours whose row was erased, all that is not sealed yet.
 *
 * Should clocks be further apart, an answer may hold a late point only when its bucket is sealed again, which is soon.
 */
import { usPerHour, usPerSecond } from '../../core/reading.js'
import type { FleetAgg, FleetQuery } from '../fleet-store.js'
import { coverOf, coversSpan, joinSpans, withoutSpans, type Span } from '../spans.js'
import { Bound, deviceConditions, metricsOf, type FleetStatement } from './fleet-bound.js'

export interface OpenPair {
  readonly metric: string
  readonly device: string
  /** µs */
  readonly hour: number
}

export interface FleetCover {
  /** Read from sealed rows, but for `pairs`. */
  readonly sealed: readonly Span[]
  /** Read from points, for all devices. */
  readonly open: readonly Span[]
  /** Inside `sealed`: read from points. */
  readonly pairs: readonly OpenPair[]
}

/** Times are kept in whole seconds (one on each side), and clocks of nodes differ by a second at most. */
const marginSeconds = 3
/** Of an hour with more series than this that are open, all come from points. */
const pairsPerHourMax = 64
const pairsMax = 4000
const spansMax = 64
/** A shorter range is read from points at once. */
const hoursMin = 6
/** A change of offset is seen by looking as often. */
const zoneEveryMs = 7 * 86_400_000

const fromHours: ReadonlySet<FleetAgg> = new Set<FleetAgg>(['avg', 'min', 'max', 'sum', 'count', 'stddev', 'first', 'last', 'devices'])

/** The whole hours of the query, where hours can answer it at all. */
export function wholeHours (query: FleetQuery): Span | null {
  const { aggs, having, topK, step, fromTs, toTs } = query
  const asked = [...aggs, ...having.map(({ agg }) => agg), ...topK === null ? [] : [topK.agg]]
  if (!asked.every(agg => fromHours.has(agg))) return null
  const span = { fromTs: Math.ceil(fromTs / usPerHour) * usPerHour, toTs: Math.floor(toTs / usPerHour) * usPerHour }
  if (span.toTs - span.fromTs < hoursMin * usPerHour) return null
  if (step === null) return span
  if (step.kind === 'fixed') return step.us % usPerHour === 0 ? span : null
  return hasWholeHours(step.timeZone, span) ? span : null
}

/** The zone's offset is of whole hours all the time. */
function hasWholeHours (timeZone: string, { fromTs, toTs }: Span): boolean {
  const format = new Intl.DateTimeFormat('en', { timeZone, minute: 'numeric', second: 'numeric' })
  const isWhole = (us: number): boolean => format.formatToParts(us / 1000).every(({ type, value }) => type === 'literal' || Number(value) === 0)
  for (let us = fromTs; us < toTs; us += zoneEveryMs * 1000) if (!isWhole(us)) return false
  return isWhole(toTs)
}

/** One row: hours with open series (start in s, how many, the first of them as metric and device), and how many series' hours are sealed. */
export function coverStatement (database: string, query: FleetQuery, { fromTs, toTs }: Span): FleetStatement {
  const bound = new Bound()
  const metrics = bound.add('Array(String)', metricsOf(query))
  const conditions = (): string => [...deviceConditions(database, query, bound), `p.hour >= ${bound.time(fromTs)}`, `p.hour < ${bound.time(toTs)}`].join(' AND ')
  const sql = `SELECT groupArrayIf((start, open, which), open > 0) AS opened, toFloat64(sum(series - open)) AS sealed FROM (
  SELECT start, toFloat64(count()) AS series, toFloat64(countIf(isOpen)) AS open, groupArrayIf(${pairsPerHourMax})((metric, device), isOpen) AS which FROM (
    SELECT metric, device, start, max(isRow) = 0 OR min(readAt) <= max(markAt) + ${marginSeconds} AS isOpen FROM (
      SELECT p.metric AS metric, p.device AS device, toUInt32(toUnixTimestamp64Second(p.hour)) AS start, if(p.whole = 1, toUInt32(p.read_at), toUInt32(0)) AS readAt, toUInt32(0) AS markAt, 1 AS isRow
      FROM ${database}.tiers_1h AS p FINAL WHERE p.metric IN ${metrics} AND ${conditions()}
      UNION ALL
      SELECT arrayJoin(${metrics}) AS metric, p.device AS device, toUInt32(p.hour) AS start, toUInt32(4294967295) AS readAt, toUInt32(p.at) AS markAt, 0 AS isRow
      FROM ${database}.hour_marks AS p WHERE ${conditions()}
    ) GROUP BY metric, device, start
  ) GROUP BY start
)`
  return { sql, parameters: bound.values }
}

export type CoverRow = readonly [opened: readonly (readonly [start: number, open: number, which: readonly (readonly [metric: string, device: string])[]])[], sealed: number]

/** null: points answer everything. */
export function coverOfRow ([opened, sealed]: CoverRow, query: Span, whole: Span): FleetCover | null {
  if (sealed === 0) return null
  const edges = [{ fromTs: query.fromTs, toTs: whole.fromTs }, { fromTs: whole.toTs, toTs: query.toTs }]
  const hours: Span[] = []
  const pairs: OpenPair[] = []
  // Hours with few open series first: they make the most of the pairs that may be named.
  for (const [start, open, which] of [...opened].sort((a, b) => a[1] - b[1])) {
    const hour = start * usPerSecond
    if (open > pairsPerHourMax || pairs.length + open > pairsMax) hours.push({ fromTs: hour, toTs: hour + usPerHour })
    else pairs.push(...which.map(([metric, device]) => ({ metric, device, hour })))
  }
  let open = joinSpans([...edges, ...hours])
  for (let gapUs = usPerHour; open.length > spansMax; gapUs *= 2) open = joinSpans(open, gapUs)
  const sealedSpans = withoutSpans([whole], coverOf(open, usPerHour))
  if (sealedSpans.length === 0) return null
  return { sealed: sealedSpans, open, pairs: pairs.filter(({ hour }) => coversSpan(sealedSpans, hour, hour + usPerHour)) }
}
