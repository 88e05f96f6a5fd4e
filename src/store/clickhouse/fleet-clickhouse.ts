/**
 * Fleet queries on ClickHouse: from sealed hours where they answer for their points (fleet-cover.ts), else from points. The engine's own limits bound what one may cost (time, memory, groups, rows); meeting one is an
 * error that names the field of the request that would make the question smaller.
 */
import { ClickHouseError, type ClickHouseSettings } from '@clickhouse/client'
import { TwinfoldError } from '../../core/errors.js'
import type { FleetAnswer, FleetQuery, FleetRow, FleetStore, FleetValue, HistogramAnswer, HistogramQuery } from '../fleet-store.js'
import type { ClickHouseConnection } from './clickhouse-connection.js'
import type { FleetStatement } from './fleet-bound.js'
import { coverOfRow, coverStatement, wholeHours, type CoverRow, type FleetCover } from './fleet-cover.js'
import { hourSource } from './fleet-hours.js'
import { fleetStatement, histogramStatement } from './fleet-sql.js'

/** Rows of one answer; groups while it is folded; seconds and bytes that one query may take. */
export const fleetRowsMax = 10_000
const groupsMax = 200_000
/** Hours of series that are folded on the way to an answer from hours. */
const hoursMax = 8_000_000
const secondsMax = 25
const memoryBytesMax = 1024 ** 3

const querySettings: ClickHouseSettings = {
  // All versions of a point lie in one partition.
  do_not_merge_across_partitions_select_final: 1,
  max_execution_time: secondsMax,
  max_memory_usage: String(memoryBytesMax),
  max_rows_to_group_by: String(groupsMax),
  group_by_overflow_mode: 'throw',
  // Doubles as they are: NaN and infinities are told apart from nothing.
  output_format_json_quote_denormals: 1,
  output_format_json_quote_64bit_integers: 0
}

/** ClickHouse's exceptions that say that a query is too large, and what of the request makes it smaller. */
const tooLarge: Readonly<Record<string, { readonly field: string, readonly what: string }>> = {
  158: { field: 'groupBy', what: `it has more than ${groupsMax} groups: group by less, or take a longer step` },
  159: { field: 'from', what: `it took longer than ${secondsMax} s: take a shorter range, or fewer devices` },
  160: { field: 'from', what: `it would take longer than ${secondsMax} s: take a shorter range, or fewer devices` },
  241: { field: 'from', what: `it took more than ${memoryBytesMax / 1024 ** 2} MiB of memory: take a shorter range, fewer groups, or a longer step` }
}

/** A value that is an aggregate, or the tuple of first and last. */
type Cell = number | string | boolean | null | readonly [string, number | string, boolean, string]

export class FleetClickHouse implements FleetStore {
  readonly #connection: ClickHouseConnection

  constructor (connection: ClickHouseConnection) {
    this.#connection = connection
  }

  async queryFleet (query: FleetQuery): Promise<FleetAnswer> {
    const { database } = this.#connection
    const cover = await this.#cover(query)
    const rows = cover === null
      ? await this.#rows<Cell[]>(fleetStatement(database, query, fleetRowsMax + 1))
      : await this.#rows<Cell[]>(fleetStatement(database, query, fleetRowsMax + 1, hourSource(database, query, cover)), { max_rows_to_group_by: String(hoursMax) })
    if (rows.length > fleetRowsMax) {
      const field = query.step === null ? 'groupBy' : 'step'
      throw new TwinfoldError('limit_reached', `the answer has more than ${fleetRowsMax} rows: take a longer step, a shorter range or fewer groups, or ask for the top k`, { field })
    }
    const keys = query.groupBy.length
    return { rows: rows.map(cells => toRow(cells, keys)), tier: cover === null ? 'points' : '1h' }
  }

  /** What sealed hours answer for; null: nothing, or there is too much to find out. */
  async #cover (query: FleetQuery): Promise<FleetCover | null> {
    const whole = wholeHours(query)
    if (whole === null) return null
    try {
      const [row] = await this.#rows<CoverRow>(coverStatement(this.#connection.database, query, whole), { max_rows_to_group_by: String(hoursMax) })
      return coverOfRow(row, query, whole)
    } catch (error) {
      if (error instanceof TwinfoldError && error.code === 'limit_reached') return null
      throw error
    }
  }

  async histogram (query: HistogramQuery): Promise<HistogramAnswer> {
    const rows = await this.#rows<[number | null, number, number, number]>(histogramStatement(this.#connection.database, query))
    let notFinite = 0
    const buckets: { from: number, to: number, count: number }[] = []
    for (const [bucket, count, least, width] of rows) {
      if (bucket === null) notFinite += count
      else buckets.push({ from: least + bucket * width, to: least + (bucket + 1) * width, count })
    }
    return { buckets, notFinite }
  }

  async #rows<Row> ({ sql, parameters }: FleetStatement, settings: ClickHouseSettings = {}): Promise<Row[]> {
    try {
      return await this.#connection.run(async client => {
        const answer = await client.query({ query: sql, query_params: { ...parameters }, format: 'JSONCompactEachRow', clickhouse_settings: { ...querySettings, ...settings }, use_multipart_params_auto: true })
        return await answer.json<Row>()
      })
    } catch (error) {
      throw limitOf(error) ?? error
    }
  }
}

function limitOf (error: unknown): TwinfoldError | null {
  const cause = error instanceof TwinfoldError ? error.cause : error
  if (!(cause instanceof ClickHouseError) || !Object.hasOwn(tooLarge, cause.code)) return null
  const { field, what } = tooLarge[cause.code]
  return new TwinfoldError('limit_reached', `the query is too large: ${what}`, { field, cause })
}

function toRow (cells: readonly Cell[], keys: number): FleetRow {
  return {
    metric: cells[0] as string,
    ts: cells[1] as number | null,
    group: cells.slice(2, 2 + keys) as string[],
    values: cells.slice(2 + keys).map(toValue)
  }
}

const denormals: Readonly<Record<string, number>> = { nan: NaN, inf: Infinity, '-inf': -Infinity, '-nan': NaN }

function toNumber (cell: number | string): number {
  return typeof cell === 'number' ? cell : denormals[cell] ?? Number(cell)
}

function toValue (cell: Cell): FleetValue {
  if (!Array.isArray(cell)) return typeof cell === 'string' ? toNumber(cell) : cell as number | null
  const [type, number, boolean, string] = cell as readonly [string, number | string, boolean, string]
  return type === 'number' ? toNumber(number) : type === 'boolean' ? boolean : string
}
