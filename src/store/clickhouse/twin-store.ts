/**
 * Fleet search on ClickHouse (schemas/clickhouse/0004-twins.sql). What one search may cost is bounded by the engine (time, memory); one
 * that meets a bound is refused by name.
 */
import { ClickHouseError, type ClickHouseSettings } from '@clickhouse/client'
import { TwinfoldError } from '../../core/errors.js'
import type { JsonObject } from '../../twin/twin-model.js'
import type { FoundTwin, SearchChoice, SearchPosition, SearchQuery, TwinConnection, TwinRow, TwinSearchStore } from '../twin-search.js'
import type { ClickHouseConnection } from './clickhouse-connection.js'
import { Bound, type FleetStatement } from './fleet-bound.js'
import { RowBuffer } from './row-buffer.js'
import { TwinFields } from './twin-fields.js'
import { TwinFilter } from './twin-filter.js'
import { afterCondition, orderParts } from './twin-order.js'
import { twinColumns, TwinRows } from './twin-rows.js'

/** One insert at most, and the rest of one row. */
const insertBytesMax = 8 * 1024 * 1024
const secondsMax = 10
const memoryBytesMax = 512 * 1024 ** 2
/** Name of the mark that says that the tables are the ones that were filled. */
const filledMark = 'twins'

const querySettings: ClickHouseSettings = {
  max_execution_time: secondsMax,
  max_memory_usage: String(memoryBytesMax),
  join_use_nulls: 0,
  // Each side of a join is one tenant's devices: building one table costs less than spreading it over threads (measured: two thirds).
  join_algorithm: 'hash',
  output_format_json_quote_denormals: 1,
  output_format_json_quote_64bit_integers: 0
}

/** ClickHouse's exceptions that say that a search costs too much: time, memory, depth of the statement. */
const tooCostly: Readonly<Record<string, string>> = {
  159: `it takes longer than ${secondsMax} s`,
  160: `it would take longer than ${secondsMax} s`,
  241: `it takes more than ${memoryBytesMax / 1024 ** 2} MiB of memory`,
  167: 'it is too deep',
  168: 'it is too large'
}

export class ClickHouseTwins implements TwinSearchStore {
  readonly #connection: ClickHouseConnection
  readonly #rows = new TwinRows()

  constructor (connection: ClickHouseConnection) {
    this.#connection = connection
  }

  async putTwins (rows: readonly TwinRow[]): Promise<void> {
    for (let at = 0; at < rows.length;) {
      while (at < rows.length && this.#rows.length < insertBytesMax) this.#rows.add(rows[at++])
      await this.#connection.insertRows('twins', twinColumns, this.#rows.take())
    }
  }

  async putActivity (rows: readonly { readonly tenant: string, readonly device: string, readonly at: number }[]): Promise<void> {
    if (rows.length === 0) return
    const buffer = new RowBuffer()
    for (const { tenant, device, at } of rows) {
      buffer.reserve(18, tenant.length + device.length)
      buffer.text(tenant)
      buffer.text(device)
      buffer.uint64(at)
    }
    await this.#connection.insertRows('twin_activity', ['tenant', 'device', 'at'], buffer.take())
  }

  async dropTwinsBefore (tenant: string | null, readAt: number): Promise<void> {
    const table = `${this.#connection.database}.twins`
    await this.#connection.command(`INSERT INTO ${table} (tenant, device, read_at, deleted)
      SELECT tenant, device, {readAt:UInt64}, 1 FROM ${table} FINAL WHERE read_at < {readAt:UInt64}${tenant === null ? '' : ' AND tenant = {tenant:String}'}`,
    { readAt: String(readAt), ...(tenant === null ? {} : { tenant }) }, { settings: { async_insert: 0 } })
  }

  async strayTwins (limit: number): Promise<readonly { tenant: string, device: string }[]> {
    const { database } = this.#connection
    const same = ['type', 'name', 'gateway', 'created_at', 'tags']
    const registered = 'toString(type) AS type, name, gateway, toUInt64(toUnixTimestamp64Micro(created_at)) AS created_at, mapSort(tags) AS tags'
    const seen = 'toString(type) AS type, name, gateway, created_at, mapSort(tags) AS tags'
    return await this.#connection.query(`SELECT if(d.device = '', t.tenant, d.tenant) AS tenant, if(d.device = '', t.device, d.device) AS device FROM
      (SELECT toString(tenant) AS tenant, device, ${registered} FROM ${database}.devices FINAL) AS d
      FULL OUTER JOIN (SELECT toString(tenant) AS tenant, device, ${seen} FROM ${database}.twins FINAL) AS t ON d.tenant = t.tenant AND d.device = t.device
      WHERE d.device = '' OR t.device = '' OR ${same.map(column => `d.${column} != t.${column}`).join(' OR ')} LIMIT {limit:UInt32}`, { limit })
  }

  async findTwins (query: SearchQuery): Promise<{ readonly twins: readonly FoundTwin[], readonly next: SearchPosition | null }> {
    const { statement, width } = pageStatement(this.#connection.database, query)
    const rows = await this.#select<(string | number)[]>(statement)
    const page = rows.slice(0, query.limit)
    const ids = page.map(row => row[width - 1] as string)
    return { twins: await this.#details(query, ids), next: rows.length > query.limit ? page[page.length - 1] : null }
  }

  async findIds (choice: SearchChoice, after: string, limit: number): Promise<readonly string[]> {
    const { from, where, bound } = chosen(this.#connection.database, choice)
    const sql = `SELECT t.device FROM ${from()} WHERE ${where} AND t.device > ${bound.add('String', after)} ORDER BY t.device LIMIT ${Math.trunc(limit)}`
    return (await this.#select<[string]>({ sql, parameters: bound.values })).map(([id]) => id)
  }

  async countTwins (choice: SearchChoice): Promise<number> {
    const { from, where, bound } = chosen(this.#connection.database, choice)
    const [[count]] = await this.#select<[number]>({ sql: `SELECT toFloat64(count()) FROM ${from()} WHERE ${where}`, parameters: bound.values })
    return count
  }

  async getFilled (): Promise<number | null> {
    const [row] = await this.#connection.query<{ position: number, rows: number }>(
      `SELECT toFloat64(max(position)) AS position, toFloat64(count()) AS rows FROM ${this.#connection.database}.projection_marks WHERE journal = {mark:String}`, { mark: filledMark })
    return row.rows === 0 ? null : row.position
  }

  async putFilled (stamp: number): Promise<void> {
    await this.#connection.command(`INSERT INTO ${this.#connection.database}.projection_marks (journal, position) SELECT {mark:String}, {stamp:UInt64}`,
      { mark: filledMark, stamp: String(stamp) }, { settings: { async_insert: 0 } })
  }

  async #details (query: SearchQuery, ids: readonly string[]): Promise<FoundTwin[]> {
    if (ids.length === 0) return []
    const rows = await this.#select<DetailRow>(detailStatement(this.#connection.database, query, ids))
    const found = new Map(rows.map(row => [row[0], toTwin(row, query.latest)]))
    // One that was deleted between the two looks is gone.
    return ids.map(id => found.get(id)).filter(twin => twin !== undefined)
  }

  async #select<Row> ({ sql, parameters }: FleetStatement): Promise<Row[]> {
    try {
      return await this.#connection.run(async client => {
        const answer = await client.query({ query: sql, query_params: { ...parameters }, format: 'JSONCompactEachRow', clickhouse_settings: querySettings, use_multipart_params_auto: true })
        return await answer.json<Row>()
      })
    } catch (error) {
      const { cause } = error as Error
      const what = cause instanceof ClickHouseError && Object.hasOwn(tooCostly, cause.code) ? tooCostly[cause.code] : null
      throw what === null ? error : new TwinfoldError('invalid_field', `the search costs too much: ${what}; ask for less in 'filter' and 'sort'`, { field: 'filter', cause })
    }
  }
}

/** FROM and WHERE of a choice; `from` is made when all fields are known. */
function chosen (database: string, { tenant, filter, device, nowUs, oldestTs }: SearchChoice): { from: () => string, where: string, bound: Bound, fields: TwinFields } {
  const bound = new Bound()
  const ofTenant = bound.add('String', tenant)
  const fields = new TwinFields(database, bound, ofTenant, oldestTs)
  const conditions = [`t.tenant = ${ofTenant}`]
  if (device !== null) conditions.push(`t.device = ${bound.add('String', device)}`)
  if (filter !== null) conditions.push(new TwinFilter(fields, bound, nowUs).condition(filter))
  return { from: () => `${database}.twins AS t FINAL ${fields.joins()}`, where: conditions.join(' AND '), bound, fields }
}

/** One row more than the page: whether there is a next one. The last column is the id. */
function pageStatement (database: string, query: SearchQuery): { statement: FleetStatement, width: number } {
  const { from, where, bound, fields } = chosen(database, query)
  const parts = orderParts(query.sort, fields)
  const after = query.after === null ? '' : ` AND ${afterCondition(parts, query.after, bound)}`
  const columns = parts.map(({ sql }, i) => `${sql} AS o${i}`)
  const order = parts.map((part, i) => `o${i} ${part.order === 'asc' ? 'ASC' : 'DESC'}`)
  const sql = `SELECT ${columns.join(', ')} FROM ${from()}\nWHERE ${where}${after}\nORDER BY ${order.join(', ')} LIMIT ${Math.trunc(query.limit) + 1}`
  return { statement: { sql, parameters: bound.values }, width: parts.length }
}

type LatestCells = readonly [us: number, type: number, number: number | string, boolean: boolean, string: string]
type DetailRow = readonly [
  id: string, name: string, type: string, gateway: string, createdAt: number, tags: Readonly<Record<string, string>>, state: number, since: number, reason: string,
  activity: number, version: number, desiredVersion: number, reportedVersion: number, updatedAt: number, desired: string, reported: string, ...latest: LatestCells[]
]

function detailStatement (database: string, { tenant, latest, documents, oldestTs }: SearchQuery, ids: readonly string[]): FleetStatement {
  const bound = new Bound()
  const [ofTenant, devices] = [bound.add('String', tenant), bound.add('Array(String)', ids)]
  const fields = new TwinFields(database, bound, ofTenant, oldestTs, devices)
  const columns = ['t.device', 't.name', 'toString(t.type)', 't.gateway', 't.created_at', 't.tags', 't.state', 't.since', 'toString(t.reason)', fields.activity(),
    't.twin_version', 't.desired_version', 't.reported_version', 't.updated_at', documents ? 't.desired' : "''", documents ? 't.reported' : "''"]
  for (const metric of latest) {
    const { alias, is } = fields.latest(metric)
    columns.push(`(${alias}.us, if(${is}, ${alias}.type, 0), ${alias}.number, ${alias}.boolean, ${alias}.string)`)
  }
  return { sql: `SELECT ${columns.join(', ')} FROM ${database}.twins AS t FINAL ${fields.joins()}\nWHERE t.tenant = ${ofTenant} AND t.device IN ${devices}`, parameters: bound.values }
}

const denormals: Readonly<Record<string, number>> = { nan: NaN, inf: Infinity, '-inf': -Infinity, '-nan': NaN }

function toTwin (row: DetailRow, metrics: readonly string[]): FoundTwin {
  const [id, name, type, gateway, createdAt, tags, state, since, reason, lastActivity, version, desiredVersion, reportedVersion, updatedAt, desired, reported, ...cells] = row
  const latest: Record<string, { ts: number, value: number | boolean | string }> = {}
  cells.forEach(([ts, kind, number, boolean, string], i) => {
    if (kind === 0) return
    const value = kind === 3 ? string : kind === 2 ? boolean : typeof number === 'number' ? number : denormals[number] ?? Number(number)
    Object.defineProperty(latest, metrics[i], { value: { ts, value }, enumerable: true })
  })
  const connection: TwinConnection | null = state === 0 ? null : { state: state === 1 ? 'connected' : 'disconnected', since, reason: reason === '' ? null : reason }
  return { id, name, type, gateway: gateway === '' ? null : gateway, createdAt, tags, connection, lastActivity, version, desiredVersion, reportedVersion, updatedAt, desired: objectOf(desired), reported: objectOf(reported), latest }
}

function objectOf (text: string): JsonObject {
  return text === '' ? {} : JSON.parse(text) as JsonObject
}
