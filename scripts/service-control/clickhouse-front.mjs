/**
 * ClickHouse's HTTP interface over chdb (the same engine as a library), for tests and for development on machines that cannot
 * have a ClickHouse server: `node clickhouse-front.mjs --port 8123 --data DIRECTORY`. Not for production.
 *
 * It promises what @clickhouse/client needs: /ping, queries and commands (POST, GET is read-only), inserts of any input format
 * (plain or gzip), `database`, settings and `param_…` for one request each, FORMAT and `default_format`, and errors with their
 * code and status. It differs from a server: any user and password are accepted, sessions, roles and progress headers are
 * ignored, answers are sent once complete and never compressed, and queries run one at a time (the engine ends the whole
 * process when a connection is closed under a running query), up to `waitingMax` waiting; one more gets code 202.
 */
import { mkdirSync, rmSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { randomUUID } from 'node:crypto'
import { parseArgs } from 'node:util'
import { gunzipSync, inflateSync } from 'node:zlib'
import { Session } from 'chdb'
import { insertFromFile, isRead, literal, secondStatement } from './clickhouse-sql.mjs'

const bodyBytesMax = 256 * 1024 ** 2
const waitingMax = 1000
const portMax = 65_535

/** URL parameters that are not settings. */
const reserved = new Set(['query', 'database', 'default_format', 'query_id', 'session_id', 'session_timeout', 'session_check', 'role', 'user', 'password', 'quota_key', 'compress', 'decompress', 'stacktrace', 'close_session'])
/** Settings of a server's HTTP layer, which the engine does not know. */
const httpOnly = new Set(['wait_end_of_query', 'buffer_size', 'send_progress_in_http_headers', 'http_response_buffer_size', 'http_headers_progress_interval_ms', 'enable_http_compression', 'http_zlib_compression_level', 'http_write_exception_in_output_format'])
/** As a server maps them; every other code is 500. */
const statusByCode = { 6: 400, 26: 400, 27: 400, 41: 400, 44: 400, 46: 404, 47: 404, 50: 404, 53: 400, 56: 404, 60: 404, 62: 400, 72: 400, 81: 404, 115: 404, 159: 408, 164: 500, 202: 503, 457: 400, 516: 401 }

class QueryError extends Error {
  constructor (code, name, text) {
    super(`Code: ${code}. DB::Exception: ${text}. (${name})`)
    this.code = code
  }
}

const { values: given } = parseArgs({ options: { port: { type: 'string' }, data: { type: 'string' } } })
const port = Number(given.port)
if (!Number.isInteger(port) || port < 1 || port > portMax || given.data === undefined) {
  process.stderr.write('usage: clickhouse-front.mjs --port PORT --data DIRECTORY\n')
  process.exit(2)
}
const uploads = join(given.data, 'uploads')
rmSync(uploads, { recursive: true, force: true })
mkdirSync(uploads, { recursive: true })
const session = new Session(join(given.data, 'engine'))

// Queries one at a time, in the order they came.
let last = Promise.resolve()
let waiting = 0
function inTurn (work) {
  if (waiting >= waitingMax) return Promise.reject(new QueryError(202, 'TOO_MANY_SIMULTANEOUS_QUERIES', `Too many simultaneous queries: ${waiting} are waiting`))
  waiting++
  const result = last.then(work)
  last = result.catch(() => { /* It is told to whoever asked. */ }).finally(() => { waiting-- })
  return result
}

async function bodyOf (request) {
  const chunks = []
  let bytes = 0
  for await (const chunk of request) {
    bytes += chunk.length
    if (bytes > bodyBytesMax) throw new QueryError(241, 'MEMORY_LIMIT_EXCEEDED', `the body is above ${bodyBytesMax} bytes`)
    chunks.push(chunk)
  }
  const body = Buffer.concat(chunks)
  const encoding = request.headers['content-encoding']
  if (encoding === 'gzip') return gunzipSync(body, { maxOutputLength: bodyBytesMax })
  if (encoding === 'deflate') return inflateSync(body, { maxOutputLength: bodyBytesMax })
  if (encoding !== undefined && encoding !== 'identity') throw new QueryError(48, 'NOT_IMPLEMENTED', `Content-Encoding ${encoding} is beyond this front`)
  return body
}

/** The parts of a multipart body by name: the client sends long query parameters that way. */
async function partsOf (request, body) {
  const form = await new Response(body, { headers: { 'content-type': request.headers['content-type'] } }).formData()
  return [...form.entries()].map(([name, value]) => [name, String(value)])
}

async function requestOf (request) {
  const url = new URL(request.url ?? '/', 'http://front')
  const parameters = new Map(url.searchParams)
  let body = await bodyOf(request)
  if (/^multipart\/form-data/.test(request.headers['content-type'] ?? '')) {
    for (const [name, value] of await partsOf(request, body)) parameters.set(name, value)
    body = Buffer.alloc(0)
  }
  const settings = [...parameters].filter(([name]) => !reserved.has(name) && !httpOnly.has(name) && !name.startsWith('param_'))
  for (const [name] of [...settings, ...parameters]) if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name)) throw new QueryError(115, 'UNKNOWN_SETTING', `'${name}' is no name of a setting`)
  const readonly = Number(parameters.get('readonly') ?? (request.method === 'GET' ? 2 : 0))
  return {
    query: parameters.get('query') ?? '',
    body,
    queryId: parameters.get('query_id') || randomUUID(),
    database: parameters.get('database') || String(request.headers['x-clickhouse-database'] ?? 'default'),
    format: parameters.get('default_format') || String(request.headers['x-clickhouse-format'] ?? 'TabSeparated'),
    parameters: [...parameters].filter(([name]) => name.startsWith('param_')),
    // Once set on a connection, `readonly` could not be unset: it is judged here instead.
    settings: settings.filter(([name]) => name !== 'readonly'),
    readonly
  }
}

/** The statement to run, and the file that holds an insert's data, if there is one. */
async function statementOf ({ query, body, readonly }) {
  const insert = body.length > 0 && query !== '' ? insertFromFile(query) : null
  if (insert !== null) {
    if (readonly !== 0) throw new QueryError(164, 'READONLY', 'Cannot insert in readonly mode')
    const file = join(uploads, randomUUID())
    await writeFile(file, body)
    return { sql: insert(file), file }
  }
  const sql = [query, body.toString('utf8')].filter(part => part !== '').join('\n')
  if (sql.trim() === '') throw new QueryError(62, 'SYNTAX_ERROR', 'Syntax error: Empty query')
  if (readonly !== 0 && !isRead(sql)) throw new QueryError(164, 'READONLY', 'Cannot execute query in readonly mode')
  const second = secondStatement(sql)
  if (second !== null) throw new QueryError(62, 'SYNTAX_ERROR', `Syntax error (Multi-statements are not allowed): failed at position ${second + 1} (end of query)`)
  return { sql, file: null }
}

/** Runs one request with its database, settings and parameters, which the next one does not see. */
async function execute ({ database, format, parameters, settings }, sql) {
  const done = []
  try {
    if (database !== 'default') {
      await session.queryAsync(`USE ${literal(database, '`')}`)
      done.push('USE default')
    }
    for (const [name, value] of settings) {
      await session.queryAsync(`SET ${name} = ${/^-?\d+(\.\d+)?$/.test(value) ? value : literal(value, "'")}`)
      done.push(`SET ${name} = DEFAULT`)
    }
    for (const [name, value] of parameters) await session.queryAsync(`SET ${name} = ${literal(value, "'")}`)
    return await session.queryAsync(sql, { format })
  } finally {
    for (const undo of done.reverse()) await session.queryAsync(undo)
  }
}

async function answer (request, response) {
  const asked = await requestOf(request)
  const { sql, file } = await statementOf(asked)
  try {
    const result = await inTurn(() => execute(asked, sql))
    const isInsert = /^\s*INSERT\b/i.test(sql)
    const rows = String(result.rowsRead ?? 0)
    const bytes = Buffer.from(result.bytes())
    response.writeHead(200, {
      'Content-Type': 'text/plain; charset=UTF-8',
      'Content-Length': bytes.length,
      'X-ClickHouse-Query-Id': asked.queryId,
      'X-ClickHouse-Summary': JSON.stringify({ read_rows: rows, read_bytes: String(result.bytesRead ?? 0), written_rows: isInsert ? rows : '0', written_bytes: isInsert ? String(result.bytesRead ?? 0) : '0', elapsed_ns: String(Math.round((result.elapsed ?? 0) * 1e9)) })
    }).end(bytes)
  } finally {
    if (file !== null) rmSync(file, { force: true })
  }
}

const server = createServer({ requestTimeout: 0 }, (request, response) => {
  const path = (request.url ?? '/').replace(/\?.*/s, '')
  if (path === '/ping' || path === '/replicas_status') {
    request.resume()
    response.writeHead(200, { 'Content-Type': 'text/plain' }).end('Ok.\n')
    return
  }
  if (path !== '/' || !['GET', 'POST'].includes(request.method ?? '')) {
    request.resume()
    response.writeHead(404, { 'Content-Type': 'text/plain' }).end('There is no handle for this\n')
    return
  }
  answer(request, response).catch(error => {
    const code = error.code ?? 0
    const number = typeof code === 'number' ? code : Number(error.clickhouseCode ?? /^Code: (\d+)/.exec(error.message)?.[1] ?? 1002)
    if (response.headersSent || response.destroyed) { response.destroy(); return }
    const text = /^Code: /.test(error.message) ? error.message : `Code: ${number}. DB::Exception: ${error.message}. (UNKNOWN_EXCEPTION)`
    response.writeHead(statusByCode[number] ?? 500, { 'Content-Type': 'text/plain; charset=UTF-8', 'X-ClickHouse-Exception-Code': String(number), Connection: 'close' }).end(`${text}\n`)
  })
})
server.keepAliveTimeout = 10_000
server.on('error', error => {
  process.stderr.write(`${error.message}\n`)
  process.exit(1)
})
server.listen({ host: '127.0.0.1', port })

for (const signal of ['SIGTERM', 'SIGINT']) {
  process.once(signal, () => {
    server.close()
    server.closeAllConnections()
    // Only an idle engine may be closed.
    void last.then(() => { session.close(); process.exit(0) })
  })
}
