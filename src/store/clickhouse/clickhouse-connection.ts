/**
 * One connection to ClickHouse for everything that is asked of it: a server over HTTP, or the engine of the embedded profile, which
 * answers the same protocol on a socket of its own (src/store/embedded/analytics/). Behind a circuit breaker and a bulkhead.
 *
 * The schema is made at the first use that finds ClickHouse there, so that a server that starts without it starts, and again where
 * the tables have vanished.
 */
import { Agent } from 'node:http'
import { Readable } from 'node:stream'
import { ClickHouseLogLevel, createClient, type ClickHouseClient, type ClickHouseSettings as QuerySettings } from '@clickhouse/client'
import type { Clock } from '../../core/clock.js'
import type { Log } from '../../core/log.js'
import type { ClickHouseSettings } from '../../../workers/protocol.js'
import type { DependencyStatus, Watched } from '../dependency-status.js'
import { Dependency } from '../dependency.js'
import { readMigrations, schemaFolder, type MigrateResult } from '../migration-files.js'
import { clickHouseError, isServersFault, isUnknownTable } from './clickhouse-errors.js'
import { migrateClickHouse } from './migrate-clickhouse.js'

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

export interface ClickHouseConnectionOptions {
  readonly settings: ClickHouseSettings
  readonly clock: Clock
  readonly log: Log
  /** Ask every second whether it is there, so that the state is right while nobody calls. */
  readonly watch: boolean
}

export type QueryParams = Readonly<Record<string, unknown>>

export interface QueryCallOptions {
  readonly settings?: QuerySettings
  readonly signal?: AbortSignal
}

export class ClickHouseConnection implements Watched {
  /** For statements: made of lower-case letters, digits and `_`. */
  readonly database: string
  readonly #client: ClickHouseClient
  readonly #agent: Agent | null
  readonly #dependency: Dependency
  readonly #migrations = readMigrations(schemaFolder('clickhouse'), 'sql')
  #migrated: Promise<MigrateResult> | null = null

  constructor ({ settings, clock, log, watch }: ClickHouseConnectionOptions) {
    const { socketPath } = settings
    this.#agent = socketPath === undefined ? null : new Agent({ keepAlive: true, maxSockets: callsMax, socketPath } as object)
    this.#client = createClient({
      url: settings.url, request_timeout: requestTimeoutMs, max_open_connections: callsMax, application: 'twinfold',
      ...(this.#agent === null ? {} : { http_agent: this.#agent }),
      // Every failure is thrown; the client's own lines would go around our log.
      log: { level: ClickHouseLogLevel.OFF }
    })
    this.database = settings.database
    this.#dependency = new Dependency({
      name: 'ClickHouse', clock, log, code: 'analytics_unavailable', failuresMax: 3, runningMax: callsMax, waitingMax: callsWaitingMax, isFault: isServersFault,
      probe: watch ? async () => { await this.#ask() } : undefined
    })
  }

  status (): DependencyStatus { return this.#dependency.status() }

  /** Makes the schema where it is not there yet; safe to repeat, and for several nodes at once. */
  async migrate (): Promise<MigrateResult> {
    this.#migrated = null
    return await this.#dependency.run(async () => {
      try {
        return await this.#ensureSchema()
      } catch (error) {
        throw clickHouseError(error)
      }
    })
  }

  /**
   * Runs one call with the client, the schema being there.
   * @throws TwinfoldError `analytics_unavailable`, the client's error as its cause.
   */
  async run<T> (call: (client: ClickHouseClient) => Promise<T>): Promise<T> {
    return await this.#dependency.run(async () => {
      try {
        await this.#ensureSchema()
        return await call(this.#client)
      } catch (error) {
        // Somebody dropped the tables, or the server came back without its data: they are made again at the next try.
        if (isUnknownTable(error)) this.#migrated = null
        throw clickHouseError(error)
      }
    })
  }

  /**
   * Rows of a SELECT as objects. Values come in through `{name:Type}` placeholders, never through the text.
   * @throws TwinfoldError as `run`
   */
  async query<Row> (sql: string, params: QueryParams = {}, { settings, signal }: QueryCallOptions = {}): Promise<Row[]> {
    return await this.run(async client => {
      const answer = await client.query({
        query: sql, query_params: { ...params }, format: 'JSONEachRow', clickhouse_settings: settings, ...(signal === undefined ? {} : { abort_signal: signal })
      })
      return await answer.json<Row>()
    })
  }

  /** A statement without an answer. @throws TwinfoldError as `run` */
  async command (sql: string, params: QueryParams = {}, { settings, signal }: QueryCallOptions = {}): Promise<void> {
    await this.run(async client => {
      await client.command({ query: sql, query_params: { ...params }, clickhouse_settings: settings, ...(signal === undefined ? {} : { abort_signal: signal }) })
    })
  }

  /**
   * Rows in RowBinary into a table; synchronous, on stable storage when it returns (the tables are synced by their settings).
   * @throws TwinfoldError as `run`
   */
  async insertRows (table: string, columns: readonly string[], rows: Buffer): Promise<void> {
    const query = `INSERT INTO ${this.database}.${table} (${columns.join(', ')}) FORMAT RowBinary`
    await this.run(async client => {
      const { stream } = await client.exec({ query, values: Readable.from([rows], { objectMode: false }), clickhouse_settings: insertSettings })
      // The answer has no body; it is read to its end so that the connection can serve again.
      for await (const _piece of stream) { /* nothing is said */ }
    })
  }

  async ping (): Promise<void> {
    await this.#dependency.run(async () => { await this.#ask() })
  }

  async close (): Promise<void> {
    this.#dependency.close()
    await this.#client.close()
    this.#agent?.destroy()
  }

  async #ask (): Promise<void> {
    const answer = await this.#client.ping({ select: false, abort_signal: AbortSignal.timeout(pingTimeoutMs) })
    if (!answer.success) throw clickHouseError(answer.error)
  }

  async #ensureSchema (): Promise<MigrateResult> {
    this.#migrated ??= migrateClickHouse(this.#client, this.database, this.#migrations)
    try {
      return await this.#migrated
    } catch (error) {
      this.#migrated = null
      throw error
    }
  }
}
