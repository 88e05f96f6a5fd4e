/**
 * Fleet queries as ClickHouse SQL. Pure. Every value of the caller is a bound parameter; names come from the fixed lists here, and
 * numbers inside aggregates from our own formatting, so that no text of a request ever stands in a statement.
 *
 * FINAL: a point that was sent twice, or corrected, is in an answer once, however far ClickHouse has merged.
 */
import type { FleetAgg, FleetKey, FleetMeasure, FleetQuery, FleetSpan, FleetStep, HistogramQuery } from '../fleet-store.js'

export type SqlParameters = Readonly<Record<string, string | readonly string[]>>

export interface FleetStatement {
  readonly sql: string
  readonly parameters: SqlParameters
}

type BoundType = 'String' | 'Int64' | 'Float64' | 'Array(String)'

/** Gathers bound parameters under names of our own. */
class Bound {
  readonly values: Record<string, string | readonly string[]> = {}
  #count = 0

  add (type: BoundType, value: string | number | readonly string[]): string {
    const name = `b${this.#count++}`
    // Numbers go as text: ClickHouse reads them to the same double, and 64-bit integers are not cut.
    this.values[name] = typeof value === 'number' ? String(value) : value
    return `{${name}:${type}}`
  }
}

/**
 * quantileDD's answers lie between 1 - a and 1 + 3a of the right one (measured over 20 decades), not between 1 - a and 1 + a as its
 * manual says. Divided by 1 + a they are within 2a, which this keeps below 1 %.
 */
const sketchAccuracy = 0.0045
const isNumber = `p.type = 'number'`
const percentile = /^p([0-9]{1,2}(?:\.[0-9]{1,3})?)$/

/** 0 to 1 of `p95`; null where it is no percentile. */
export function percentileOf (agg: string): number | null {
  const match = percentile.exec(agg)
  return match === null ? null : Number(match[1]) / 100
}

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

/** As a number that can be compared: of first and last their numbers. */
function measure ({ agg, metric }: FleetMeasure, bound: Bound): string {
  const expression = aggregate(agg, `p.metric = ${bound.add('String', metric)}`)
  return agg === 'first' || agg === 'last' ? `if((${expression}).1 = 'number', (${expression}).2, NULL)` : expression
}

/** Start of the window that a point lies in, µs. */
function windowStart (step: FleetStep, bound: Bound): string {
  if (step.kind === 'fixed') {
    const us = bound.add('Int64', step.us)
    return `intDiv(toUnixTimestamp64Micro(p.ts), ${us}) * ${us}`
  }
  const zone = bound.add('String', step.timeZone)
  const days = bound.add('Int64', step.days)
  return `toUnixTimestamp64Micro(toDateTime64(toDate32(toInt32(intDiv(toRelativeDayNum(p.ts, ${zone}), ${days}) * ${days})), 6, ${zone}))`
}

/** The conditions of a span: tenant first, as in the table's key. */
function spanConditions (database: string, { tenant, fromTs, toTs, where }: FleetSpan, metrics: readonly string[], bound: Bound): string {
  const time = (us: number): string => `fromUnixTimestamp64Micro(${bound.add('Int64', us)}, 'UTC')`
  const conditions = [
    `p.tenant = ${bound.add('String', tenant)}`,
    `p.metric IN ${bound.add('Array(String)', metrics)}`,
    `p.ts >= ${time(fromTs)}`,
    `p.ts < ${time(toTs)}`
  ]
  if (where.devices !== undefined) conditions.push(`p.device IN ${bound.add('Array(String)', where.devices)}`)
  const chosen: string[] = []
  if (where.types !== undefined) chosen.push(`type IN ${bound.add('Array(String)', where.types)}`)
  if (where.gateways !== undefined) chosen.push(`gateway IN ${bound.add('Array(String)', where.gateways)}`)
  for (const [name, values] of where.tags ?? []) chosen.push(`tags[${bound.add('String', name)}] IN ${bound.add('Array(String)', values)}`)
  if (chosen.length > 0) conditions.push(`p.device IN (SELECT device FROM ${database}.devices FINAL WHERE tenant = ${bound.add('String', tenant)} AND ${chosen.join(' AND ')})`)
  return conditions.join('\n  AND ')
}

interface Keys {
  /** `p.device`, or a column of the joined devices, for each key of the query. */
  readonly columns: readonly string[]
  /** The join that gives them; '' where none is needed. */
  readonly join: string
}

function keysOf (database: string, tenant: string, groupBy: readonly FleetKey[], bound: Bound): Keys {
  const joined: string[] = []
  const columns = groupBy.map((key, index) => {
    if (key === 'device') return 'p.device'
    joined.push(`${key.startsWith('tag:') ? `tags[${bound.add('String', key.slice(4))}]` : key} AS k${index}`)
    return `d.k${index}`
  })
  if (joined.length === 0) return { columns, join: '' }
  return { columns, join: `LEFT ANY JOIN (SELECT device, ${joined.join(', ')} FROM ${database}.devices FINAL WHERE tenant = ${bound.add('String', tenant)}) AS d ON d.device = p.device` }
}

/** The groups that a query is about, with their rank: its filters on aggregates, and its top k. */
function chosenGroups (database: string, query: FleetQuery, bound: Bound): string {
  const { topK, having, groupBy } = query
  const metrics = [...new Set([...having, ...topK === null ? [] : [topK]].map(({ metric }) => metric))]
  const { columns, join } = keysOf(database, query.tenant, groupBy, bound)
  const named = columns.map((column, index) => `${column} AS r${index}`)
  const filters = having.map(condition => `${measure(condition, bound)} ${condition.op} ${bound.add('Float64', condition.value)}`)
  const by = topK === null ? null : measure(topK, bound)
  if (by !== null) filters.push(`isNotNull(${by})`)
  const names = columns.map((_, index) => `r${index}`).join(', ')
  const groups = `SELECT ${named.join(', ')} FROM ${database}.points AS p FINAL ${join}
WHERE ${spanConditions(database, query, metrics, bound)}
GROUP BY ${names} HAVING ${filters.join(' AND ')}`
  if (topK === null) return `SELECT ${names}, 0 AS rank FROM (${groups})`
  // With a LIMIT the order of a subquery holds.
  return `SELECT ${names}, rowNumberInAllBlocks() AS rank FROM (${groups}
ORDER BY ${String(by)} ${topK.order === 'asc' ? 'ASC' : 'DESC'}, ${names} LIMIT ${topK.k})`
}

/** Columns: metric, start, a group's keys, the aggregates. @param database of lower-case letters, digits and `_`. */
export function fleetStatement (database: string, query: FleetQuery, rowsMax: number): FleetStatement {
  const bound = new Bound()
  const { columns, join } = keysOf(database, query.tenant, query.groupBy, bound)
  const keys = columns.map((column, index) => `${column} AS g${index}`)
  const groups = ['m', 'start', ...columns.map((_, index) => `g${index}`)]
  const start = query.step === null ? 'NULL' : windowStart(query.step, bound)
  const aggregates = query.aggs.map((agg, index) => `${aggregate(agg, '1')} AS a${index}`)
  const isChosen = query.topK !== null || query.having.length > 0
  // A metric that is the same in every row costs a third of the time where it is grouped by.
  const metric = query.metrics.length === 1 ? bound.add('String', query.metrics[0]) : 'p.metric'
  const inner = `SELECT ${metric} AS m, ${start} AS start${keys.map(key => `, ${key}`).join('')}, ${aggregates.join(', ')}
FROM ${database}.points AS p FINAL ${join}
WHERE ${spanConditions(database, query, query.metrics, bound)}
GROUP BY ${groups.join(', ')}`
  const wanted = [...groups, ...query.aggs.map((_, index) => `a${index}`)].join(', ')
  if (!isChosen) {
    return { sql: `${inner}\nORDER BY ${[...groups.slice(2), 'm', 'start'].join(', ')} LIMIT ${rowsMax}`, parameters: bound.values }
  }
  const same = columns.map((_, index) => `g${index} = r${index}`).join(' AND ')
  const sql = `SELECT ${wanted} FROM (${inner}) AS rows INNER JOIN (${chosenGroups(database, query, bound)}) AS chosen ON ${same}
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
