/**
 * Fleet queries as ClickHouse SQL. Pure. Every value of the caller is a bound parameter; numbers inside aggregates come from our own
 * formatting, so that no text of a request ever stands in a statement. A query is the same over points and over hours (`FleetSource`).
 *
 * FINAL: a point that was sent twice, or corrected, is in an answer once, however far ClickHouse has merged.
 */
import type { FleetAgg, FleetMeasure, FleetQuery, HistogramQuery } from '../fleet-store.js'
import { Bound, chosenBy, keysOf, percentileOf, spanConditions, windowStart, type FleetStatement } from './fleet-bound.js'

/**
 * quantileDD's answers lie between 1 - a and 1 + 3a of the right one (measured over 20 decades), not between 1 - a and 1 + a as its
 * manual says. Divided by 1 + a they are within 2a, which this keeps below 1 %.
 */
const sketchAccuracy = 0.0045
const isNumber = `p.type = 'number'`

/** The aggregate over the rows that `condition` lets through. */
function aggregate (agg: FleetAgg, condition: string): string {
  const numbers = `${isNumber} AND ${condition}`
  switch (agg) {
    case 'avg': case 'min': case 'max': case 'sum': return `${agg}OrNullIf(p.number, ${numbers})`
    case 'stddev': return `stddevPopStableOrNullIf(p.number, ${numbers})`
    case 'count': return `toFloat64(countIf(${condition}))`
    case 'devices': return `toFloat64(uniqExactIf(p.device, ${condition}))`
    // The device decides between values of one time, so that the answer does not depend on the order of reading.
    case 'first': return `argMinIf((toString(p.type), p.number, p.boolean, p.string), (p.ts, p.device), ${condition})`
    case 'last': return `argMaxIf((toString(p.type), p.number, p.boolean, p.string), (p.ts, p.device), ${condition})`
  }
  const level = percentileOf(agg)
  if (level === null) throw new Error(`'${String(agg)}' is no aggregate`)
  return `quantileDDOrNullIf(${sketchAccuracy}, ${level.toFixed(6)})(p.number, ${numbers} AND isFinite(p.number)) / ${1 + sketchAccuracy}`
}

/** Rows that a query is answered from, as `p`, and what its aggregates are there. */
export interface FleetSource {
  /** The table or subquery. */
  table (metrics: readonly string[], bound: Bound): string
  /** What of it counts. */
  where (metrics: readonly string[], bound: Bound): string
  /** The time of a row, as a number of µs and as a time. */
  readonly us: string
  readonly time: string
  /** The aggregate over the rows that `condition` lets through. */
  aggregate (agg: FleetAgg, condition: string): string
}

/** Every point. */
export function pointSource (database: string, query: FleetQuery): FleetSource {
  return {
    table: () => `${database}.points AS p FINAL`,
    where: (metrics, bound) => spanConditions(database, query, metrics, bound),
    us: 'toUnixTimestamp64Micro(p.ts)',
    time: 'p.ts',
    aggregate
  }
}

/** As a number that can be compared: of first and last their numbers. */
function measure (source: FleetSource, { agg, metric }: FleetMeasure, bound: Bound): string {
  const expression = source.aggregate(agg, `p.metric = ${bound.add('String', metric)}`)
  return agg === 'first' || agg === 'last' ? `if((${expression}).1 = 'number', (${expression}).2, NULL)` : expression
}

/** The groups that a query is about, with their rank: its filters on aggregates, and its top k. */
function chosenGroups (database: string, source: FleetSource, query: FleetQuery, bound: Bound): string {
  const { topK, having, groupBy } = query
  const metrics = chosenBy(query)
  const { columns, join } = keysOf(database, query.tenant, groupBy, bound)
  const named = columns.map((column, index) => `${column} AS r${index}`)
  const filters = having.map(condition => `${measure(source, condition, bound)} ${condition.op} ${bound.add('Float64', condition.value)}`)
  const by = topK === null ? null : measure(source, topK, bound)
  if (by !== null) filters.push(`isNotNull(${by})`)
  const names = columns.map((_, index) => `r${index}`).join(', ')
  const groups = `SELECT ${named.join(', ')} FROM ${source.table(metrics, bound)} ${join}
WHERE ${source.where(metrics, bound)}
GROUP BY ${names} HAVING ${filters.join(' AND ')}`
  if (topK === null) return `SELECT ${names}, 0 AS rank FROM (${groups})`
  // With a LIMIT the order of a subquery holds.
  return `SELECT ${names}, rowNumberInAllBlocks() AS rank FROM (${groups}
ORDER BY ${String(by)} ${topK.order === 'asc' ? 'ASC' : 'DESC'}, ${names} LIMIT ${topK.k})`
}

/** Columns: metric, start, a group's keys, the aggregates. @param database of lower-case letters, digits and `_`. */
export function fleetStatement (database: string, query: FleetQuery, rowsMax: number, source = pointSource(database, query)): FleetStatement {
  const bound = new Bound()
  const { columns, join } = keysOf(database, query.tenant, query.groupBy, bound)
  const keys = columns.map((column, index) => `${column} AS g${index}`)
  const groups = ['m', 'start', ...columns.map((_, index) => `g${index}`)]
  const start = query.step === null ? 'NULL' : windowStart(query.step, source.us, source.time, bound)
  const aggregates = query.aggs.map((agg, index) => `${source.aggregate(agg, '1')} AS a${index}`)
  const isChosen = query.topK !== null || query.having.length > 0
  // A metric that is the same in every row costs a third of the time where it is grouped by.
  const metric = query.metrics.length === 1 ? bound.add('String', query.metrics[0]) : 'p.metric'
  const inner = `SELECT ${metric} AS m, ${start} AS start${keys.map(key => `, ${key}`).join('')}, ${aggregates.join(', ')}
FROM ${source.table(query.metrics, bound)} ${join}
WHERE ${source.where(query.metrics, bound)}
GROUP BY ${groups.join(', ')}`
  const wanted = [...groups, ...query.aggs.map((_, index) => `a${index}`)].join(', ')
  if (!isChosen) {
    return { sql: `${inner}\nORDER BY ${[...groups.slice(2), 'm', 'start'].join(', ')} LIMIT ${rowsMax}`, parameters: bound.values }
  }
  const same = columns.map((_, index) => `g${index} = r${index}`).join(' AND ')
  const sql = `SELECT ${wanted} FROM (${inner}) AS rows INNER JOIN (${chosenGroups(database, source, query, bound)}) AS chosen ON ${same}
ORDER BY rank, ${[...groups.slice(2), 'm', 'start'].join(', ')} LIMIT ${rowsMax}`
  return { sql, parameters: bound.values }
}

/** Columns: bucket, its count; bucket NULL for what is not finite. Before them the bounds: least, width. */
export function histogramStatement (database: string, query: HistogramQuery): FleetStatement {
  const bound = new Bound()
  const from = `${database}.points AS p FINAL WHERE ${spanConditions(database, query, [query.metric], bound)} AND ${isNumber}`
  if (query.buckets.kind === 'width') {
    const width = bound.add('Float64', query.buckets.width)
    const sql = `SELECT if(isFinite(p.number), floor(p.number / ${width}), NULL) AS bucket, toFloat64(count()), 0., ${width}
FROM ${from} GROUP BY bucket ORDER BY bucket`
    return { sql, parameters: bound.values }
  }
  const count = bound.add('Float64', query.buckets.count)
  const sql = `WITH (SELECT (minIf(p.number, isFinite(p.number)), maxIf(p.number, isFinite(p.number))) FROM ${from}) AS ends,
  ends.1 AS least, (ends.2 / ${count} - ends.1 / ${count}) AS width
SELECT if(isFinite(p.number), if(width > 0, least(${count} - 1, floor((p.number - least) / width)), 0), NULL) AS bucket, toFloat64(count()), any(least), any(width)
FROM ${from} GROUP BY bucket ORDER BY bucket`
  return { sql: sql.replaceAll('least(', 'LEAST('), parameters: bound.values }
}
