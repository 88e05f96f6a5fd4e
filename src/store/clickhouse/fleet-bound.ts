/**
 * What the statements of fleet queries are made of. Pure. Every value of the caller is a bound parameter; names come from fixed lists,
 * so that no text of a request ever stands in a statement.
 */
import type { FleetKey, FleetQuery, FleetSpan, FleetStep } from '../fleet-store.js'

type BoundValue = string | readonly string[] | readonly number[]
export type SqlParameters = Readonly<Record<string, BoundValue>>

export interface FleetStatement {
  readonly sql: string
  readonly parameters: SqlParameters
}

type BoundType = 'String' | 'Int64' | 'UInt64' | 'Float64' | 'Array(String)' | 'Array(UInt32)'

/** Gathers bound parameters under names of our own. */
export class Bound {
  readonly values: Record<string, BoundValue> = {}
  #count = 0

  add (type: BoundType, value: number | BoundValue): string {
    const name = `b${this.#count++}`
    // Numbers go as text: ClickHouse reads them to the same double, and 64-bit integers are not cut.
    this.values[name] = typeof value === 'number' ? String(value) : value
    return `{${name}:${type}}`
  }

  /** A point in time, µs. */
  time (us: number): string {
    return `fromUnixTimestamp64Micro(${this.add('Int64', us)}, 'UTC')`
  }
}

/** 0 to 1 of `p95`; null where it is no percentile. */
export function percentileOf (agg: string): number | null {
  const match = percentile.exec(agg)
  return match === null ? null : Number(match[1]) / 100
}

const percentile = /^p([0-9]{1,2}(?:\.[0-9]{1,3})?)$/

/** Every metric that the query reads: those of its answer, and those that its groups are chosen by. */
export function metricsOf ({ metrics, having, topK }: FleetQuery): string[] {
  return [...new Set([...metrics, ...chosenBy({ having, topK })])]
}

export function chosenBy ({ having, topK }: Pick<FleetQuery, 'having' | 'topK'>): string[] {
  return [...new Set([...having, ...topK === null ? [] : [topK]].map(({ metric }) => metric))]
}

/** Start of the window that the time lies in, µs. @param us the time as a number, µs @param time the same as a time */
export function windowStart (step: FleetStep, us: string, time: string, bound: Bound): string {
  if (step.kind === 'fixed') {
    const width = bound.add('Int64', step.us)
    return `intDiv(${us}, ${width}) * ${width}`
  }
  const zone = bound.add('String', step.timeZone)
  const days = bound.add('Int64', step.days)
  return `toUnixTimestamp64Micro(toDateTime64(toDate32(toInt32(intDiv(toRelativeDayNum(${time}, ${zone}), ${days}) * ${days})), 6, ${zone}))`
}

/** Whose rows count: the tenant's, of the devices that are meant. */
export function deviceConditions (database: string, { tenant, where }: FleetSpan, bound: Bound): string[] {
  const conditions = [`p.tenant = ${bound.add('String', tenant)}`]
  if (where.devices !== undefined) conditions.push(`p.device IN ${bound.add('Array(String)', where.devices)}`)
  const chosen: string[] = []
  if (where.types !== undefined) chosen.push(`type IN ${bound.add('Array(String)', where.types)}`)
  if (where.gateways !== undefined) chosen.push(`gateway IN ${bound.add('Array(String)', where.gateways)}`)
  for (const [name, values] of where.tags ?? []) chosen.push(`tags[${bound.add('String', name)}] IN ${bound.add('Array(String)', values)}`)
  if (chosen.length > 0) conditions.push(`p.device IN (SELECT device FROM ${database}.devices FINAL WHERE tenant = ${bound.add('String', tenant)} AND ${chosen.join(' AND ')})`)
  return conditions
}

/** The conditions of a span: tenant and metric first, as in the table's key. */
export function spanConditions (database: string, span: FleetSpan, metrics: readonly string[], bound: Bound): string {
  const [tenant, ...devices] = deviceConditions(database, span, bound)
  const conditions = [tenant, `p.metric IN ${bound.add('Array(String)', metrics)}`, `p.ts >= ${bound.time(span.fromTs)}`, `p.ts < ${bound.time(span.toTs)}`, ...devices]
  return conditions.join('\n  AND ')
}

export interface Keys {
  /** `p.device`, or a column of the joined devices, for each key of the query. */
  readonly columns: readonly string[]
  /** The join that gives them; '' where none is needed. */
  readonly join: string
}

export function keysOf (database: string, tenant: string, groupBy: readonly FleetKey[], bound: Bound): Keys {
  const joined: string[] = []
  const columns = groupBy.map((key, index) => {
    if (key === 'device') return 'p.device'
    joined.push(`${key.startsWith('tag:') ? `tags[${bound.add('String', key.slice(4))}]` : key} AS k${index}`)
    return `d.k${index}`
  })
  if (joined.length === 0) return { columns, join: '' }
  return { columns, join: `LEFT ANY JOIN (SELECT device, ${joined.join(', ')} FROM ${database}.devices FINAL WHERE tenant = ${bound.add('String', tenant)}) AS d ON d.device = p.device` }
}
