/**
 * Hours as a source of fleet queries: sealed rows where they answer for their points, elsewhere points folded to hours; both have the same
 * columns. An hour of a series comes from one of the two. Pure.
 */
import { usPerHour, usPerSecond } from '../../core/reading.js'
import type { FleetAgg, FleetQuery } from '../fleet-store.js'
import type { Span } from '../spans.js'
import { deviceConditions, type Bound } from './fleet-bound.js'
import type { FleetCover, OpenPair } from './fleet-cover.js'
import type { FleetSource } from './fleet-sql.js'

/**
 * Columns of an hour: `us` its start, `numbers` how many of its `points` are numbers, which sum, least, greatest and m2 (squared distances
 * from their mean) are of; the first and last value of any type, with their times.
 */
const sealedColumns = `p.metric AS metric, p.device AS device, toUnixTimestamp64Micro(toDateTime64(p.hour, 6, 'UTC')) AS us,
  if(p.type = 'number', p.count, 0) AS numbers, p.count AS points, p.sum AS sum, p.min AS least, p.max AS greatest, p.m2 AS m2,
  p.first_ts AS firstTs, (toString(p.type), p.first, toBool(p.first = 1), p.first_string) AS first, p.last_ts AS lastTs, (toString(p.type), p.last, toBool(p.last = 1), p.last_string) AS last`
const value = '(toString(p.type), p.number, p.boolean, p.string)'
const isNumber = `p.type = 'number'`
const foldedColumns = `p.metric AS metric, p.device AS device, toUnixTimestamp64Micro(toDateTime64(toStartOfHour(p.ts), 6, 'UTC')) AS us,
  countIf(${isNumber}) AS numbers, count() AS points, sumIf(p.number, ${isNumber}) AS sum, minIf(p.number, ${isNumber}) AS least, maxIf(p.number, ${isNumber}) AS greatest,
  if(numbers = 0, 0, varPopStableIf(p.number, ${isNumber}) * numbers) AS m2, min(p.ts) AS firstTs, argMin(${value}, p.ts) AS first, max(p.ts) AS lastTs, argMax(${value}, p.ts) AS last`

export function hourSource (database: string, query: FleetQuery, cover: FleetCover): FleetSource {
  return {
    table: (metrics, bound) => {
      const own = cover.pairs.filter(({ metric }) => metrics.includes(metric))
      const conditions = (spans: readonly Span[], column: string): string[] => {
        const [tenant, ...devices] = deviceConditions(database, query, bound)
        return [tenant, `p.metric IN ${bound.add('Array(String)', metrics)}`, within(spans, column, bound), ...devices]
      }
      const folded = (where: readonly string[]): string => `SELECT ${foldedColumns} FROM ${database}.points AS p FINAL WHERE ${where.join(' AND ')} GROUP BY metric, device, us`
      const parts = [`SELECT ${sealedColumns} FROM ${database}.tiers_1h AS p FINAL
  WHERE ${[...conditions(cover.sealed, 'p.hour'), ...own.length === 0 ? [] : [`NOT (${among(own, 'toUnixTimestamp64Second(p.hour)', bound)})`]].join(' AND ')}`]
      if (cover.open.length > 0) parts.push(folded(conditions(cover.open, 'p.ts')))
      if (own.length > 0) {
        const devices = [...new Set(own.map(({ device }) => device))]
        parts.push(folded([
          ...conditions([spanOf(own)], 'p.ts'), `p.device IN ${bound.add('Array(String)', devices)}`, among(own, 'toUnixTimestamp(toStartOfHour(p.ts))', bound)
        ]))
      }
      return `(${parts.join('\n  UNION ALL ')}) AS p`
    },
    where: () => '1',
    us: 'p.us',
    time: `fromUnixTimestamp64Micro(p.us, 'UTC')`,
    aggregate
  }
}

function within (spans: readonly Span[], column: string, bound: Bound): string {
  return `(${spans.map(({ fromTs, toTs }) => `${column} >= ${bound.time(fromTs)} AND ${column} < ${bound.time(toTs)}`).join(' OR ')})`
}

function spanOf (pairs: readonly OpenPair[]): Span {
  const hours = pairs.map(({ hour }) => hour)
  return { fromTs: Math.min(...hours), toTs: Math.max(...hours) + usPerHour }
}

/** @param seconds the hour's start as an expression */
function among (pairs: readonly OpenPair[], seconds: string, bound: Bound): string {
  const metrics = bound.add('Array(String)', pairs.map(({ metric }) => metric))
  const devices = bound.add('Array(String)', pairs.map(({ device }) => device))
  const hours = bound.add('Array(UInt32)', pairs.map(({ hour }) => hour / usPerSecond))
  return `(toString(p.metric), p.device, toUInt32(${seconds})) IN (SELECT arrayJoin(arrayZip(${metrics}, ${devices}, ${hours})))`
}

function aggregate (agg: FleetAgg, condition: string): string {
  const numbers = `p.numbers > 0 AND ${condition}`
  const count = `sumIf(p.numbers, ${numbers})`
  const sum = `sumIf(p.sum, ${numbers})`
  switch (agg) {
    case 'sum': return `sumOrNullIf(p.sum, ${numbers})`
    case 'min': return `minOrNullIf(p.least, ${numbers})`
    case 'max': return `maxOrNullIf(p.greatest, ${numbers})`
    case 'avg': return `if(${count} = 0, NULL, ${sum} / ${count})`
    // Distances of the hours' means from the mean of all: no difference of large squares.
    case 'stddev': return `if(${count} = 0, NULL, sqrt((sumIf(p.m2, ${numbers}) + arraySum(x -> x.1 * pow(x.2 - ${sum} / ${count}, 2), groupArrayIf((toFloat64(p.numbers), p.sum / p.numbers), ${numbers}))) / ${count}))`
    case 'count': return `toFloat64(sumIf(p.points, ${condition}))`
    case 'devices': return `toFloat64(uniqExactIf(p.device, ${condition}))`
    case 'first': return `argMinIf(p.first, (p.firstTs, p.device), ${condition})`
    case 'last': return `argMaxIf(p.last, (p.lastTs, p.device), ${condition})`
  }
  throw new Error(`'${String(agg)}' is nothing that hours tell`)
}
