/** Erasures as conditions of DELETE statements: every value in a parameter. Pure. */
import type { ClickHouseSettings as QuerySettings } from '@clickhouse/client'
import { usPerHour } from '../../core/reading.js'
import { timestampUsMax } from '../../core/limits.js'
import type { Erasure } from '../small-stores.js'

export interface DeleteStatement {
  readonly table: string
  readonly where: string
  readonly params: Readonly<Record<string, unknown>>
}

/** The statement returns when it is done, on every replica. */
export const mutationSettings: QuerySettings = { lightweight_deletes_sync: '2', mutations_sync: '2' }

/** Points of the scopes with a lower accept stamp: the upper half of the version. */
export function erasedPoints (erasures: readonly Erasure[]): DeleteStatement {
  return statement('points', erasures, ({ fromTs, toTs, stamp }, name) => {
    const terms = [`version < bitShiftLeft(toUInt128({${name}s:UInt64}), 64)`]
    const params: Record<string, string> = { [`${name}s`]: String(stamp) }
    if (fromTs !== undefined) {
      terms.push(`ts >= fromUnixTimestamp64Micro({${name}f:Int64}, 'UTC')`)
      params[`${name}f`] = String(Math.max(0, fromTs))
    }
    if (toTs !== undefined) {
      terms.push(`ts < fromUnixTimestamp64Micro({${name}u:Int64}, 'UTC')`)
      params[`${name}u`] = String(Math.min(toTs, timestampUsMax))
    }
    return { terms, params }
  })
}

/**
 * Hours that meet the scopes, of buckets that do, folded before the erasure: the seal that follows it brings those anew that hold more. Buckets
 * of a minute share their hour with others, which are not sealed again.
 */
export function erasedHours (erasures: readonly Erasure[]): DeleteStatement {
  return statement('tiers_1h', erasures, ({ fromTs, toTs, stamp }, name) => {
    const terms = [`version < {${name}s:UInt64}`]
    const params: Record<string, string> = { [`${name}s`]: String(stamp) }
    if (fromTs !== undefined) {
      terms.push(`hour >= fromUnixTimestamp64Micro({${name}f:Int64}, 'UTC')`, `addMinutes(bucket_start, bucket_minutes) > fromUnixTimestamp64Micro({${name}b:Int64}, 'UTC')`)
      params[`${name}f`] = String(Math.max(0, Math.floor(fromTs / usPerHour) * usPerHour))
      params[`${name}b`] = String(Math.max(0, fromTs))
    }
    if (toTs !== undefined) {
      terms.push(`hour < fromUnixTimestamp64Micro({${name}u:Int64}, 'UTC')`, `bucket_start < fromUnixTimestamp64Micro({${name}u:Int64}, 'UTC')`)
      params[`${name}u`] = String(Math.min(toTs, timestampUsMax))
    }
    return { terms, params }
  })
}

function statement (table: string, erasures: readonly Erasure[], more: (erasure: Erasure, name: string) => { terms: string[], params: Record<string, string> }): DeleteStatement {
  const params: Record<string, string> = {}
  const scopes = erasures.map((erasure, i) => {
    const name = `e${i}`
    const terms = [`tenant = {${name}t:String}`]
    params[`${name}t`] = erasure.tenant
    if (erasure.device !== null) {
      terms.push(`device = {${name}d:String}`)
      params[`${name}d`] = erasure.device
    }
    if (erasure.metric !== undefined && erasure.metric !== null) {
      terms.push(`metric = {${name}m:String}`)
      params[`${name}m`] = erasure.metric
    }
    const rest = more(erasure, name)
    Object.assign(params, rest.params)
    return `(${[...terms, ...rest.terms].join(' AND ')})`
  })
  return { table, where: scopes.join(' OR '), params }
}
