/**
 * The analytics store on ClickHouse (schemas/clickhouse). Inserts are synchronous (asynchronous ones are off whatever the server's
 * default) and synced by the tables' settings: what a write returned for is on stable storage. The same rows may be inserted any
 * number of times; reads say FINAL.
 */
import type { Clock } from '../../core/clock.js'
import { usPerSecond } from '../../core/reading.js'
import type { AnalyticsCount, AnalyticsDevice, AnalyticsHours, AnalyticsPoint, AnalyticsStore, DeviceName } from '../analytics-store.js'
import type { DependencyStatus, Watched } from '../dependency-status.js'
import type { MigrateResult } from '../migration-files.js'
import type { Erasure } from '../small-stores.js'
import { ClickHouseConnection, type ClickHouseConnectionOptions } from './clickhouse-connection.js'
import { deviceColumns, DeviceRows } from './device-rows.js'
import { erasedHours, erasedPoints, mutationSettings } from './erasures.js'
import { hourColumns, HourRows } from './hour-rows.js'
import { seriesKey, staleHours } from './stale-hours.js'
import { PointRows, pointColumns } from './point-rows.js'
import { TwinLatest } from './twin-latest.js'

/** One insert at most (the bytes: and the rest of one row); a longer list goes in several. */
export const insertPointsMax = 50_000
export const insertBytesMax = 8 * 1024 * 1024
/** Erasures of one statement: its text stays short. */
const erasuresPerStatement = 50

export interface ClickHouseAnalyticsOptions extends ClickHouseConnectionOptions {
  /** Where given, it is shared with others and not closed with this. */
  readonly connection?: ClickHouseConnection
}

export class ClickHouseAnalytics implements AnalyticsStore, Watched {
  /** For what else is asked of the same ClickHouse (fleet queries). */
  readonly connection: ClickHouseConnection
  readonly #clock: Clock
  readonly #latest: TwinLatest

  constructor (options: ClickHouseAnalyticsOptions) {
    this.connection = options.connection ?? new ClickHouseConnection(options)
    this.#clock = options.clock
    this.#latest = new TwinLatest(this.connection)
  }

  status (): DependencyStatus { return this.connection.status() }

  /** Makes the schema where it is not there yet; safe to repeat, and for several nodes at once. */
  async migrate (): Promise<MigrateResult> { return await this.connection.migrate() }

  async insertPoints (points: readonly AnalyticsPoint[], writtenUs = this.#clock.nowUs()): Promise<void> {
    const rows = new PointRows(Math.floor(writtenUs / usPerSecond))
    let count = 0
    for (const point of points) {
      rows.add(point)
      count++
      if (count < insertPointsMax && rows.length < insertBytesMax) continue
      await this.connection.insertRows('points', pointColumns, rows.take())
      count = 0
    }
    if (count > 0) await this.connection.insertRows('points', pointColumns, rows.take())
  }

  async replaceHours (buckets: readonly AnalyticsHours[]): Promise<void> {
    if (buckets.length === 0) return
    const stale = await staleHours(this.connection, buckets)
    const rows = new HourRows(this.#nowS)
    const flush = async (bytesMin: number): Promise<void> => {
      if (rows.length > bytesMin) await this.connection.insertRows('tiers_1h', hourColumns, rows.take())
    }
    for (const bucket of buckets) {
      const present = new Set<string>()
      for (const [at, series] of bucket.windows.entries()) {
        // A metric's types go in one insert, which is seen as one: an hour never has the one without the other.
        if (series.metric !== bucket.windows[at - 1]?.metric) await flush(insertBytesMax)
        for (let i = 0; i < series.starts.length; i++) {
          present.add(seriesKey(series.metric, series.type, series.starts[i]))
          rows.add(bucket, series, i)
        }
      }
      for (const { metric, type, hour } of stale.of(bucket)) {
        if (!present.has(seriesKey(metric, type, hour))) rows.addDeleted(bucket, metric, type, hour)
      }
    }
    await flush(0)
  }

  async putDevices (devices: readonly AnalyticsDevice[]): Promise<void> {
    if (devices.length === 0) return
    const rows = new DeviceRows()
    for (const device of devices) rows.add(device)
    await this.connection.insertRows('devices', deviceColumns, rows.take())
  }

  async dropDevicesBefore (tenant: string | null, version: number): Promise<void> {
    const { database } = this.connection
    await this.connection.command(`INSERT INTO ${database}.devices (${deviceColumns.join(', ')})
      SELECT tenant, device, '', '', '', false, map(), created_at, {version:UInt64}, 1 FROM ${database}.devices FINAL
      WHERE version < {version:UInt64}${tenant === null ? '' : ' AND tenant = {tenant:String}'}`, { version: String(version), ...(tenant === null ? {} : { tenant }) })
  }

  async erase (erasures: readonly Erasure[]): Promise<void> {
    for (let i = 0; i < erasures.length; i += erasuresPerStatement) {
      const some = erasures.slice(i, i + erasuresPerStatement)
      for (const { table, where, params } of [erasedPoints(some), erasedHours(some)]) {
        await this.#deleteWhere(table, where, params)
      }
      await this.#latest.erased(some)
    }
  }

  async putMark (journalId: string, position: number): Promise<void> {
    await this.connection.command(`INSERT INTO ${this.connection.database}.projection_marks (journal, position) SELECT {journal:String}, {position:UInt64}`,
      { journal: journalId, position: String(position) }, { settings: { async_insert: 0 } })
  }

  async getMark (journalId: string): Promise<number | null> {
    const [row] = await this.connection.query<{ position: number, rows: number }>(
      `SELECT toFloat64(max(position)) AS position, toFloat64(count()) AS rows FROM ${this.connection.database}.projection_marks WHERE journal = {journal:String}`, { journal: journalId })
    return row.rows === 0 ? null : row.position
  }

  async dropWrittenBefore (tenant: string | null, writtenUs: number): Promise<void> {
    const where = `written < toDateTime({before:UInt32}, 'UTC')${tenant === null ? '' : ' AND tenant = {tenant:String}'}`
    const params = { before: Math.floor(writtenUs / usPerSecond), ...(tenant === null ? {} : { tenant }) }
    for (const table of ['points', 'tiers_1h']) await this.#deleteWhere(table, where, params)
    await this.#latest.dropWrittenBefore(tenant, writtenUs)
  }

  async devicesWrittenBefore (tenant: string | null, writtenUs: number, after: DeviceName | null, limit: number): Promise<readonly DeviceName[]> {
    const { database } = this.connection
    const where = `written < toDateTime({before:UInt32}, 'UTC')${tenant === null ? '' : ' AND tenant = {tenant:String}'}${after === null ? '' : ' AND (tenant, device) > ({afterTenant:String}, {afterDevice:String})'}`
    const found = ['points', 'tiers_1h'].map(table => `SELECT toString(tenant) AS tenant, device FROM ${database}.${table} FINAL WHERE ${where}`)
    return await this.connection.query<DeviceName>(`SELECT DISTINCT tenant, device FROM (${found.join(' UNION ALL ')}) ORDER BY tenant, device LIMIT {limit:UInt32}`, {
      before: Math.floor(writtenUs / usPerSecond), limit,
      ...(tenant === null ? {} : { tenant }),
      ...(after === null ? {} : { afterTenant: after.tenant, afterDevice: after.device })
    }, { settings: { do_not_merge_across_partitions_select_final: 1 } })
  }

  async dropExpired (pointsBeforeUs: number, hoursBeforeUs: number): Promise<number> {
    let dropped = 0
    await this.#latest.dropExpired(pointsBeforeUs)
    // A month or year is over when the next one has begun before the time; partitions are numbers (202611, 2026).
    const month = new Date(pointsBeforeUs / 1000)
    const months = month.getUTCFullYear() * 100 + month.getUTCMonth() + 1
    const bounds = { points: months, hour_marks: months, tiers_1h: new Date(hoursBeforeUs / 1000).getUTCFullYear() }
    for (const [table, bound] of Object.entries(bounds)) {
      const found = await this.connection.query<{ partition: string }>(
        'SELECT DISTINCT partition FROM system.parts WHERE database = {database:String} AND table = {table:String} AND active AND toUInt32OrZero(partition) < {bound:UInt32}',
        { database: this.connection.database, table, bound })
      for (const { partition } of found) {
        if (!/^[0-9]+$/.test(partition)) continue
        await this.connection.command(`ALTER TABLE ${this.connection.database}.${table} DROP PARTITION ${partition}`)
        dropped++
      }
    }
    return dropped
  }

  async countPoints (tenant: string, fromTs: number, toTs: number): Promise<AnalyticsCount> {
    const [row] = await this.connection.query<AnalyticsCount>(
      `SELECT toFloat64(count()) AS points, toFloat64(uniqExact(device)) AS devices FROM ${this.connection.database}.points FINAL
        WHERE tenant = {tenant:String} AND ts >= fromUnixTimestamp64Micro({from:Int64}, 'UTC') AND ts < fromUnixTimestamp64Micro({to:Int64}, 'UTC')`,
      { tenant, from: String(fromTs), to: String(toTs) },
      // All versions of a point lie in one partition.
      { settings: { do_not_merge_across_partitions_select_final: 1 } })
    return { points: row.points, devices: row.devices }
  }

  async ping (): Promise<void> { await this.connection.ping() }

  async close (): Promise<void> { await this.connection.close() }

  /** Waits until no part that was there holds a row that fits. Nothing is rewritten where none does. */
  async #deleteWhere (table: string, where: string, params: Readonly<Record<string, unknown>>): Promise<void> {
    const { database } = this.connection
    const [{ rows }] = await this.connection.query<{ rows: number }>(`SELECT toFloat64(count()) AS rows FROM ${database}.${table} WHERE ${where}`, params)
    if (rows > 0) await this.connection.command(`DELETE FROM ${database}.${table} WHERE ${where}`, params, { settings: mutationSettings })
  }

  get #nowS (): number { return Math.floor(this.#clock.nowUs() / usPerSecond) }
}
