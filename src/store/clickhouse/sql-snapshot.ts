/**
 * The snapshot that a tenant's SQL is answered from: that tenant's rows, each point once, as Parquet files in a directory of its own.
 * Another tenant's bytes are in none of them, which is what keeps tenants apart on every engine (DESIGN 3.5).
 *
 * A file a table and month. A month is written again only where its rows have changed: a fingerprint of them is part of the file's name.
 */
import { createHash } from 'node:crypto'
import { createWriteStream } from 'node:fs'
import { mkdir, readdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { TwinfoldError } from '../../core/errors.js'
import type { SqlTable } from '../../../workers/tenant-sql-protocol.js'
import type { ClickHouseConnection } from './clickhouse-connection.js'

type Columns = SqlTable['columns']

const valueType = `Enum8('number' = 1, 'boolean' = 2, 'string' = 3)`
const time = `DateTime64(6, 'UTC')`
const hour = `DateTime64(0, 'UTC')`

interface Source {
  readonly name: string
  readonly columns: Columns
  readonly timeColumn: string | null
  /** What changes when a row does. */
  readonly fingerprint: string
}

const float = (names: readonly string[]): Columns => names.map(name => [name, 'Float64'])

const sources: readonly Source[] = [
  {
    name: 'points',
    columns: [['device', 'String'], ['metric', 'LowCardinality(String)'], ['ts', time], ['type', valueType], ['number', 'Float64'], ['boolean', 'Bool'], ['string', 'String']],
    timeColumn: 'ts',
    fingerprint: 'count(), max(version), sum(toUInt64(bitShiftRight(version, 64)))'
  },
  {
    name: 'tiers_1h',
    columns: [
      ['device', 'String'], ['metric', 'LowCardinality(String)'], ['hour', hour], ['type', valueType], ['bucket_start', hour], ['bucket_minutes', 'UInt32'], ['count', 'UInt64'],
      ...float(['sum', 'min', 'max', 'first', 'last']), ['first_ts', time], ['last_ts', time], ...float(['m2', 'increase', 'area']), ['changes', 'UInt64'], ['true_us', 'UInt64'],
      ['first_string', 'String'], ['last_string', 'String']
    ],
    timeColumn: 'hour',
    fingerprint: 'count(), max(version), sum(version)'
  },
  {
    name: 'devices',
    columns: [['device', 'String'], ['type', 'String'], ['name', 'String'], ['gateway', 'String'], ['is_gateway', 'Bool'], ['tags', 'Map(String, String)'], ['created_at', time]],
    timeColumn: null,
    fingerprint: 'count(), max(version), sum(version)'
  }
]

interface Part { readonly month: number, readonly rows: number, readonly print: string }

/** Parameters of an export are bound; the tenant's directory is named by a hash of it. */
export class SqlSnapshot {
  readonly #connection: ClickHouseConnection
  readonly #directory: string
  readonly #rowsMax: number

  /** @param rowsMax rows of a table that a snapshot holds at most */
  constructor (connection: ClickHouseConnection, directory: string, rowsMax: number) {
    this.#connection = connection
    this.#directory = directory
    this.#rowsMax = rowsMax
  }

  directoryOf (tenant: string): string {
    return join(this.#directory, createHash('sha256').update(tenant).digest('hex').slice(0, 32))
  }

  /**
   * Brings the tenant's files to the state of now.
   * @throws TwinfoldError `analytics_unavailable`; `limit_reached` where the tenant has more than a snapshot may hold.
   */
  async refresh (tenant: string, oldestTs: number): Promise<SqlTable[]> {
    const directory = join(this.directoryOf(tenant), 'files')
    await mkdir(directory, { recursive: true, mode: 0o700 })
    const present = new Set(await readdir(directory))
    const tables: SqlTable[] = []
    const wanted = new Set<string>()
    for (const source of sources) {
      const files: string[] = []
      for (const part of await this.#parts(source, tenant, oldestTs)) {
        const name = `${source.name}-${part.month}-${part.print}.parquet`
        if (!present.has(name)) await this.#write(source, tenant, oldestTs, part.month, join(directory, name))
        wanted.add(name)
        files.push(join(directory, name))
      }
      tables.push({ name: source.name, columns: source.columns, files, timeColumn: source.timeColumn })
    }
    for (const name of present) if (!wanted.has(name)) await rm(join(directory, name), { force: true })
    return tables
  }

  async forget (tenant: string): Promise<void> {
    await rm(this.directoryOf(tenant), { recursive: true, force: true })
  }

  /** What older snapshots of a server before left behind. */
  async clear (): Promise<void> {
    await rm(this.#directory, { recursive: true, force: true })
  }

  async #parts ({ name, timeColumn, fingerprint }: Source, tenant: string, oldestTs: number): Promise<Part[]> {
    const month = timeColumn === null ? '0' : `toYYYYMM(${timeColumn})`
    const parts = await this.#connection.query<Part>(
      `SELECT toUInt32(${month}) AS month, toFloat64(count()) AS rows, hex(cityHash64(${fingerprint})) AS print FROM ${this.#connection.database}.${name}
        WHERE tenant = {tenant:String}${kept(timeColumn)} GROUP BY month ORDER BY month`, { tenant, oldest: String(oldestTs) })
    const rows = parts.reduce((sum, part) => sum + part.rows, 0)
    if (rows > this.#rowsMax) throw new TwinfoldError('limit_reached', `SQL is for tenants with up to ${this.#rowsMax} rows in ${name}; this one has ${rows}. Ask fleet queries, or shorten the retention`)
    return parts
  }

  async #write ({ name, columns, timeColumn }: Source, tenant: string, oldestTs: number, month: number, file: string): Promise<void> {
    const inMonth = timeColumn === null ? '' : ` AND toYYYYMM(${timeColumn}) = {month:UInt32}`
    const sql = `SELECT ${columns.map(([column]) => column).join(', ')} FROM ${this.#connection.database}.${name} FINAL
      WHERE tenant = {tenant:String}${inMonth}${kept(timeColumn)} FORMAT Parquet`
    await this.#connection.run(async client => {
      const { stream } = await client.exec({
        query: sql,
        query_params: { tenant, month: String(month), oldest: String(oldestTs) },
        clickhouse_settings: { do_not_merge_across_partitions_select_final: 1, output_format_parquet_compression_method: 'zstd', output_format_parquet_string_as_string: 1 }
      })
      await pipeline(stream, createWriteStream(`${file}.new`, { mode: 0o600 }))
    })
    await rename(`${file}.new`, file)
  }
}

function kept (timeColumn: string | null): string {
  return timeColumn === null ? '' : ` AND ${timeColumn} >= fromUnixTimestamp64Micro({oldest:Int64}, 'UTC')`
}
