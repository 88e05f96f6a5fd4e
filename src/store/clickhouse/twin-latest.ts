/**
 * Takes series out of the table of latest values and fills them again from the points that are there: after points of them were erased
 * or did not come again. A view can only add to it.
 *
 * Between the two steps a search does not see the value; a crash between them is made good by the next try, since who erases and who
 * rebuilds repeat what was not finished. A point that comes meanwhile is brought by the view, and stands by its version.
 */
import { usPerSecond } from '../../core/reading.js'
import type { Erasure } from '../small-stores.js'
import type { ClickHouseConnection, QueryParams } from './clickhouse-connection.js'
import { mutationSettings } from './erasures.js'

const columns = 'tenant, metric, device, ts, type, number, boolean, string, stamp, version, written'
const fromPoints = `tenant, metric, device, ts, type, number, boolean, string, toUInt64(bitShiftRight(version, 64)),
  bitOr(bitShiftLeft(toUInt256(toUnixTimestamp64Micro(ts)), 128), toUInt256(version)), written`
const devicesPerStep = 500

export class TwinLatest {
  readonly #connection: ClickHouseConnection

  constructor (connection: ClickHouseConnection) {
    this.#connection = connection
  }

  /** After the points of these erasures are gone. */
  async erased (erasures: readonly Erasure[]): Promise<void> {
    const scopes: string[] = []
    const erased: string[] = []
    const params: Record<string, unknown> = {}
    for (const [i, { tenant, device, metric = null, stamp, fromTs, toTs }] of erasures.entries()) {
      const scope = [`tenant = {e${i}t:String}`]
      params[`e${i}t`] = tenant
      if (device !== null) {
        scope.push(`device = {e${i}d:String}`)
        params[`e${i}d`] = device
      }
      if (metric !== null) {
        scope.push(`metric = {e${i}m:String}`)
        params[`e${i}m`] = metric
      }
      params[`e${i}s`] = String(stamp)
      params[`e${i}f`] = String(Math.max(0, fromTs ?? 0))
      params[`e${i}u`] = String(Math.min(toTs ?? Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER))
      scopes.push(`(${scope.join(' AND ')})`)
      erased.push(`(${scope.join(' AND ')} AND stamp < {e${i}s:UInt64} AND toUnixTimestamp64Micro(ts) >= {e${i}f:Int64} AND toUnixTimestamp64Micro(ts) < {e${i}u:Int64})`)
    }
    // What stands for the series may be a younger point; then nothing changes.
    if (await this.#count(erased.join(' OR '), params, 'FINAL') > 0) await this.#refill(scopes.join(' OR '), params)
  }

  /** After points that were written before a time, µs, and not again since are gone. */
  async dropWrittenBefore (tenant: string | null, writtenUs: number): Promise<void> {
    const stale = `written < toDateTime({before:UInt32}, 'UTC')${tenant === null ? '' : ' AND tenant = {tenant:String}'}`
    const params = { before: Math.floor(writtenUs / usPerSecond), limit: devicesPerStep, ...(tenant === null ? {} : { tenant }) }
    let after = { tenant: '', device: '' }
    for (;;) {
      const page = await this.#connection.query<{ tenant: string, device: string }>(`SELECT DISTINCT toString(tenant) AS tenant, device FROM ${this.#table} FINAL
        WHERE ${stale} AND (toString(tenant), device) > ({afterTenant:String}, {afterDevice:String}) ORDER BY tenant, device LIMIT {limit:UInt32}`,
      { ...params, afterTenant: after.tenant, afterDevice: after.device })
      for (const id of new Set(page.map(row => row.tenant))) {
        await this.#refill('tenant = {tenant:String} AND device IN {devices:Array(String)}', { tenant: id, devices: page.filter(row => row.tenant === id).map(({ device }) => device) })
      }
      if (page.length < devicesPerStep) return
      after = page[page.length - 1]
    }
  }

  /** What has expired everywhere, by event time, µs. */
  async dropExpired (beforeUs: number): Promise<void> {
    await this.#delete(`ts < fromUnixTimestamp64Micro({before:Int64}, 'UTC')`, { before: String(Math.max(0, beforeUs)) })
  }

  get #table (): string { return `${this.#connection.database}.latest` }

  async #count (where: string, params: QueryParams, final = ''): Promise<number> {
    const [{ rows }] = await this.#connection.query<{ rows: number }>(`SELECT toFloat64(count()) AS rows FROM ${this.#table} ${final} WHERE ${where}`, params)
    return rows
  }

  async #delete (where: string, params: QueryParams): Promise<void> {
    if (await this.#count(where, params) > 0) await this.#connection.command(`DELETE FROM ${this.#table} WHERE ${where}`, params, { settings: mutationSettings })
  }

  async #refill (where: string, params: QueryParams): Promise<void> {
    await this.#delete(where, params)
    // In order of points, which is that of series: every block is cut to a row a series.
    await this.#connection.command(`INSERT INTO ${this.#table} (${columns}) SELECT ${fromPoints} FROM ${this.#connection.database}.points WHERE ${where}`, params,
      { settings: { async_insert: 0, max_insert_threads: '1' } })
  }
}
