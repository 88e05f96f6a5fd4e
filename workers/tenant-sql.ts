/**
 * A process that runs SQL of one tenant: chdb over that tenant's snapshot and nothing else. Everything is set up first, then the
 * connection is made read only, which the engine does not let anybody undo; what is in reach then is the snapshot. It has no
 * environment of the server, and ends with it.
 */
import { Session } from 'chdb'
import { treeStatement, whatIsRefused } from '../src/store/clickhouse/sql-tree.js'
import type { SqlFormat } from '../src/store/fleet-store.js'
import type { SqlLimits, SqlOpenTask, SqlReply, SqlRunTask, SqlTable, SqlTask } from './tenant-sql-protocol.js'

const text = (value: string): string => `'${value.replace(/[\\']/g, '\\$&')}'`

/** Beyond what a statement may use, so that the engine's own structures fit. */
const engineFormats: Readonly<Record<SqlFormat, string>> = { json: 'JSONEachRow', ndjson: 'JSONEachRow', csv: 'CSVWithNames' }

async function openTable (session: Session, { name, columns, files, timeColumn }: SqlTable, oldestTs: number): Promise<void> {
  const declared = columns.map(([column, type]) => `${column} ${type}`).join(', ')
  const names = columns.map(([column]) => column).join(', ')
  const parts: string[] = []
  for (const [index, file] of files.entries()) {
    await session.queryAsync(`CREATE TABLE snapshot.${name}_${index} (${declared}) ENGINE = File(Parquet, ${text(file)})`)
    const kept = timeColumn === null ? '' : ` WHERE ${timeColumn} >= fromUnixTimestamp64Micro(${oldestTs}, 'UTC')`
    parts.push(`SELECT ${names} FROM snapshot.${name}_${index}${kept}`)
  }
  if (files.length > 0) await session.queryAsync(`CREATE VIEW default.${name} AS ${parts.join(' UNION ALL ')}`)
  else await session.queryAsync(`CREATE TABLE default.${name} (${declared}) ENGINE = Memory`)
}

async function open (session: Session, { tables, oldestTs, limits }: SqlOpenTask): Promise<void> {
  await session.queryAsync('CREATE DATABASE IF NOT EXISTS default')
  await session.queryAsync('CREATE DATABASE snapshot')
  for (const table of tables) await openTable(session, table, oldestTs)
  await session.queryAsync('USE default')
  for (const [name, value] of settingsOf(limits)) await session.queryAsync(`SET ${name} = ${value}`)
  await session.queryAsync('SET readonly = 1')
}

function settingsOf ({ seconds, memoryBytes, rows, bytes }: SqlLimits): [string, string][] {
  return [
    ['max_execution_time', String(seconds)],
    ['max_memory_usage', String(memoryBytes)],
    ['max_threads', '2'],
    // One row more than is answered tells that there are more.
    ['limit', String(rows + 1)],
    ['max_result_bytes', String(bytes * 4)],
    ['result_overflow_mode', "'throw'"],
    ['max_bytes_before_external_group_by', '0'],
    ['max_bytes_before_external_sort', '0'],
    ['max_temporary_data_on_disk_size_for_query', '1'],
    ['max_ast_elements', '20000'],
    ['max_expanded_ast_elements', '100000'],
    ['max_subquery_depth', '20'],
    ['max_columns_to_read', '200'],
    ['max_block_size', '8192'],
    ['session_timezone', "'UTC'"],
    ['output_format_json_quote_denormals', '1'],
    ['output_format_json_quote_64bit_integers', '0'],
    ['allow_introspection_functions', '0'],
    ['allow_ddl', '0']
  ]
}

/** Cuts lines beyond the limits; a CSV's first line is its header. Line ends inside quotes of a CSV are none. */
export function cutRows (bytes: Uint8Array, format: SqlFormat, { rows, bytes: bytesMax }: Pick<SqlLimits, 'rows' | 'bytes'>): { body: Uint8Array, rows: number, truncated: boolean } {
  const header = format === 'csv' ? 1 : 0
  let quoted = false
  let lines = 0
  let end = 0
  for (let at = 0; at < bytes.length; at++) {
    if (format === 'csv' && bytes[at] === 0x22) quoted = !quoted
    if (bytes[at] !== 0x0a || quoted) continue
    if (at + 1 > bytesMax || lines === rows + header) return { body: bytes.subarray(0, end), rows: Math.max(0, lines - header), truncated: true }
    lines++
    end = at + 1
  }
  return { body: bytes.subarray(0, end), rows: Math.max(0, lines - header), truncated: false }
}

/** Lines of objects as one array. */
function arrayOf (lines: Uint8Array): Uint8Array {
  if (lines.length === 0) return new TextEncoder().encode('[]')
  const array = new Uint8Array(lines.length + 1)
  array[0] = 0x5b
  // Line ends never stand inside a line of JSON: each becomes a comma, the last one the end.
  for (let at = 0; at < lines.length; at++) array[at + 1] = lines[at] === 0x0a ? 0x2c : lines[at]
  array[lines.length] = 0x5d
  return array
}

/** As ClickHouse numbers ACCESS_DENIED. */
const notAllowed = 497

async function run (session: Session, { sql, format }: SqlRunTask, limits: SqlLimits): Promise<SqlReply> {
  const tree = await session.queryAsync(treeStatement(sql), { format: 'TSVRaw' })
  const refused = whatIsRefused(tree.text())
  if (refused !== null) return { kind: 'refused', code: notAllowed, text: `DB::Exception: tenant SQL must not use ${refused} (NOT_ALLOWED)` }
  const result = await session.queryAsync(sql, { format: engineFormats[format] })
  const cut = cutRows(result.bytes(), format, limits)
  return { kind: 'answer', ...cut, body: format === 'json' ? arrayOf(cut.body) : cut.body.slice() }
}

function refusal (error: unknown): SqlReply {
  const { message = '', clickhouseCode } = error as { message?: string, clickhouseCode?: number }
  const code = clickhouseCode ?? Number(/Code: (\d+)/.exec(message)?.[1] ?? 0)
  return { kind: 'refused', code, text: code === 0 ? '' : message }
}

/** The engine may be at work and would hold up an orderly end. */
function end (): void { process.kill(process.pid, 'SIGKILL') }

let session: Session | null = null
let limits: SqlLimits | null = null

if (process.send !== undefined) {
  const send = process.send.bind(process)
  process.on('disconnect', end)
  process.on('message', (task: SqlTask) => {
    const reply = (message: SqlReply): void => { send(message) }
    if (task.kind === 'open') {
      limits = task.limits
      session = new Session(task.directory)
      open(session, task).then(() => { reply({ kind: 'opened' }) }, (error: unknown) => { reply(refusal(error)) })
    } else if (session !== null && limits !== null) {
      run(session, task, limits).then(reply, (error: unknown) => { reply(refusal(error)) })
    }
  })
}
