/**
 * Which hours of buckets ClickHouse has from earlier seals, so that those without a successor can be said to be deleted. One
 * question for many buckets; of one device's metrics nothing but its own rows is read, thanks to the sparse index on tenant and
 * the range of hours.
 */
import { usPerMinute, usPerSecond, type ValueType } from '../../core/reading.js'
import type { Bucket } from '../../series/partition-plan.js'
import type { AnalyticsHours } from '../analytics-store.js'
import type { ClickHouseConnection } from './clickhouse-connection.js'

export interface HourSeen {
  readonly metric: string
  readonly type: ValueType
  /** µs */
  readonly hour: number
}

export interface StaleHours {
  /** Hours of the bucket with a lower version. */
  of (bucket: AnalyticsHours): readonly HourSeen[]
}

interface Row {
  readonly tenant: string
  readonly device: string
  readonly bucketStart: number
  readonly bucketMinutes: number
  readonly metric: string
  readonly type: ValueType
  readonly hour: number
  readonly version: number
}

export function seriesKey (metric: string, type: ValueType, hour: number): string {
  return `${hour}\0${type}\0${metric}`
}

function bucketKey (tenant: string, device: string, { start, widthMinutes }: Bucket): string {
  return `${tenant}\0${device}\0${widthMinutes}\0${start}`
}

/** @throws TwinfoldError `analytics_unavailable` */
export async function staleHours (connection: ClickHouseConnection, buckets: readonly AnalyticsHours[]): Promise<StaleHours> {
  const starts = buckets.map(({ bucket }) => bucket.start)
  const ends = buckets.map(({ bucket }) => bucket.start + bucket.widthMinutes * usPerMinute)
  const rows = await connection.query<Row>(`SELECT tenant, device, toFloat64(toUnixTimestamp64Second(bucket_start)) AS bucketStart, toFloat64(bucket_minutes) AS bucketMinutes,
      metric, toString(type) AS type, toFloat64(toUnixTimestamp64Second(hour)) AS hour, toFloat64(version) AS version
    FROM ${connection.database}.tiers_1h FINAL
    WHERE tenant IN {tenants:Array(String)} AND device IN {devices:Array(String)}
      AND hour >= fromUnixTimestamp64Second({from:Int64}, 'UTC') - 3600 AND hour < fromUnixTimestamp64Second({to:Int64}, 'UTC')`, {
    tenants: [...new Set(buckets.map(({ tenant }) => tenant))],
    devices: [...new Set(buckets.map(({ device }) => device))],
    from: String(Math.min(...starts) / usPerSecond),
    to: String(Math.max(...ends) / usPerSecond)
  })
  const byBucket = new Map<string, Row[]>()
  for (const row of rows) {
    const key = bucketKey(row.tenant, row.device, { start: row.bucketStart * usPerSecond, widthMinutes: row.bucketMinutes as Bucket['widthMinutes'] })
    const known = byBucket.get(key)
    if (known === undefined) byBucket.set(key, [row])
    else known.push(row)
  }
  return {
    of: ({ tenant, device, bucket, version }) => (byBucket.get(bucketKey(tenant, device, bucket)) ?? [])
      .filter(row => row.version < version)
      .map(({ metric, type, hour }) => ({ metric, type, hour: hour * usPerSecond }))
  }
}
