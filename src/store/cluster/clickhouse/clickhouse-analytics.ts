/**
 * The analytics store on a ClickHouse server, over HTTP. Inserts are synchronous (asynchronous ones are off whatever the server's
 * default) and synced by the table's settings: what `insertPoints` returned for is on stable storage. The same points may be
 * inserted any number of times; reads say FINAL.
 *
 * The schema is made at the first use that finds the server there, so that a server that starts without ClickHouse starts.
 */
import { Readable } from 'node:stream'
import { ClickHouseLogLevel, createClient, type ClickHouseClient, type ClickHouseSettings as QuerySettings } from '@clickhouse/client'
import type { Clock } from '../../../core/clock.js'
import type { Log } from '../../../core/log.js'
import type { ClickHouseSettings } from '../../../../workers/protocol.js'
import type { AnalyticsCount, AnalyticsPoint, AnalyticsStore } from '../../analytics-store.js'
import type { DependencyStatus, Watched } from '../../dependency-status.js'
import { Dependency } from '../dependency.js'
import { readMigrations, schemaFolder, type MigrateResult } from '../migration-files.js'
import { clickHouseError, isServersFault, isUnknownTable } from './clickhouse-errors.js'
import { migrateClickHouse } from './migrate-clickhouse.js'
import { PointRows, pointColumns } from './point-rows.js'

/** One insert at most (the bytes: and the rest of one point); a longer list goes in several. */
export const insertPointsMax = 50_000
export const insertBytesMax = 8 * 1024 * 1024
const pingTimeoutMs = 3000
const requestTimeoutMs = 30_000
/** Calls at once, and calls that may wait; one more is answered with `analytics_unavailable`. */
const callsMax = 8
const callsWaitingMax = 64

const insertSettings: QuerySettings = {
  async_insert: 0,
  wait_end_of_query: 1,
  // A backfill may span more months than the default allows; a batch is bounded by its points.
  max_partitions_per_insert_block: '0',
  // Several blocks of one insert keep their order, which decides between values of one point under one stamp.
  max_insert_threads: '1'
}

export interface ClickHouseAnalyticsOptions {
  readonly settings: ClickHouseSettings
  readonly clock: Clock
  readonly log: Log
  /** Ask from time to time whether the server is there. */
  readonly watch: boolean
}

export class ClickHouseAnalytics implements AnalyticsStore, Watched {
  readonly #client: ClickHouseClient
  readonly #database: string
  readonly #dependency: Dependency
  readonly #migrations = readMigrations(schemaFolder('clickhouse'), 'sql')
  #migrated: Promise<MigrateResult> | null = null

  constructor ({ settings, clock, log, watch }: ClickHouseAnalyticsOptions) {
    this.#client = createClient({
      url: settings.url, request_timeout: requestTimeoutMs, max_open_connections: callsMax, application: 'twinfold',
      // Every failure is thrown; the client's own lines would go around our log.
      log: { level: ClickHouseLogLevel.OFF }
    })
    this.#database = settings.database
    this.#dependency = new Dependency({
      name: 'ClickHouse', clock, log, code: 'analytics_unavailable', failuresMax: 3, runningMax: callsMax, waitingMax: callsWaitingMax, isFault: isServersFault,
      probe: watch ? async () => { await this.#ask() } : undefined
    })
  }

  status (): DependencyStatus { return this.#dependency.status() }

  /** Makes the schema where it is not there yet; safe to repeat, and for several nodes at once. */
  async migrate (): Promise<MigrateResult> {
    this.#migrated = null
    return await this.#run(async () => await this.#ensureSchema())
  }

  async insertPoints (points: readonly AnalyticsPoint[]): Promise<void> {
    const rows = new PointRows()
    let count = 0
    for (const point of points) {
      rows.add(point)
      count++
      if (count < insertPointsMax && rows.length < insertBytesMax) continue
      await this.#insert(rows.take())
      count = 0
    }
    if (count > 0) await this.#insert(rows.take())
  }

  async #insert (rows: Buffer): Promise<void> {
    const query = `INSERT INTO ${this.#database}.points (${pointColumns.join(', ')}) FORMAT RowBinary`
    await this.#run(async () => {
      await this.#ensureSchema()
      const values = Readable.from([rows], { objectMode: false })
      const { stream } = await this.#client.exec({ query, values, clickhouse_settings: insertSettings })
      // The answer has no body; it is read to its end so that the connection can serve again.
      for await (const _piece of stream) { /* nothing is said */ }
    })
  }

  async countPoints (tenant: string, fromTs: number, toTs: number): Promise<AnalyticsCount> {
    return await this.#run(async () => {
      await this.#ensureSchema()
      const answer = await this.#client.query({
        query: `SELECT toFloat64(count()) AS points, toFloat64(uniqExact(device)) AS devices FROM ${this.#database}.points FINAL
          WHERE tenant = {tenant:String} AND ts >= fromUnixTimestamp64Micro({from:Int64}, 'UTC') AND ts < fromUnixTimestamp64Micro({to:Int64}, 'UTC')`,
        query_params: { tenant, from: String(fromTs), to: String(toTs) },
        format: 'JSONEachRow',
        // All versions of a point lie in one partition.
        clickhouse_settings: { do_not_merge_across_partitions_select_final: 1 }
      })
      const [row] = await answer.json<AnalyticsCount>()
      return { points: row.points, devices: row.devices }
    })
  }

  async ping (): Promise<void> {
    await this.#dependency.run(async () => { await this.#ask() })
  }

  async close (): Promise<void> {
    this.#dependency.close()
    await this.#client.close()
  }

  async #ask (): Promise<void> {
    const answer = await this.#client.ping({ select: false, abort_signal: AbortSignal.timeout(pingTimeoutMs) })
    if (!answer.success) throw clickHouseError(answer.error)
  }

  async #ensureSchema (): Promise<MigrateResult> {
    this.#migrated ??= migrateClickHouse(this.#client, this.#database, this.#migrations)
    try {
      return await this.#migrated
    } catch (error) {
      this.#migrated = null
      throw error
    }
  }

  async #run<T> (call: () => Promise<T>): Promise<T> {
    return await this.#dependency.run(async () => {
      try {
        return await call()
      } catch (error) {
        // Somebody dropped the tables, or the server came back without its data: they are made again at the next try.
        if (isUnknownTable(error)) this.#migrated = null
        throw clickHouseError(error)
      }
    })
  }
}
