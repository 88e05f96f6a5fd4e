/**
 * ClickHouse's HTTP protocol in front of the embedded engine, as far as @clickhouse/client speaks it: /ping, statements, inserts of any
 * input format, `database`, settings and `param_…`, FORMAT and `default_format`, errors with their code and status. It listens on a
 * Unix socket in a directory of its owner's alone, which is all the authentication there is.
 */
import { randomUUID } from 'node:crypto'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { gunzipSync, inflateSync } from 'node:zlib'
import { EngineError, type Engine, type EngineRequest } from './engine.js'

const bodyBytesMax = 64 * 1024 ** 2

/** URL parameters that are not settings. */
const reserved = new Set(['query', 'database', 'default_format', 'query_id', 'session_id', 'session_timeout', 'session_check', 'role', 'user', 'password', 'quota_key', 'compress', 'decompress', 'stacktrace', 'close_session'])
/** Settings of a server's HTTP layer, which the engine does not know. */
const httpOnly = new Set([
  'wait_end_of_query', 'buffer_size', 'send_progress_in_http_headers', 'http_response_buffer_size', 'http_headers_progress_interval_ms', 'enable_http_compression',
  'http_zlib_compression_level', 'http_write_exception_in_output_format'
])
/** As a server maps them; every other code is 500. */
const statusByCode: Readonly<Record<number, number>> = {
  6: 400, 26: 400, 27: 400, 41: 400, 44: 400, 46: 404, 47: 404, 50: 404, 53: 400, 56: 404, 60: 404, 62: 400, 72: 400, 81: 404, 115: 404, 159: 408, 164: 500, 202: 503, 457: 400
}

export function createEngineServer (engine: Engine): Server {
  const server = createServer({ requestTimeout: 0 }, (request, response) => {
    const path = (request.url ?? '/').replace(/\?.*/s, '')
    if (path === '/ping') {
      request.resume()
      response.writeHead(200, { 'Content-Type': 'text/plain' }).end('Ok.\n')
      return
    }
    if (path !== '/' || request.method !== 'POST') {
      request.resume()
      response.writeHead(404, { 'Content-Type': 'text/plain' }).end('There is no handle for this\n')
      return
    }
    answer(engine, request, response).catch((error: Error) => { refuse(response, error) })
  })
  // Above the client's own limit: the client, and not this side, ends a connection that rests.
  server.keepAliveTimeout = 30_000
  return server
}

async function answer (engine: Engine, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { asked, queryId } = await requestOf(request)
  const { bytes, rowsRead, bytesRead, elapsedS, isInsert } = await engine.run(asked)
  const summary = {
    read_rows: String(rowsRead), read_bytes: String(bytesRead), written_rows: isInsert ? String(rowsRead) : '0', written_bytes: isInsert ? String(bytesRead) : '0', elapsed_ns: String(Math.round(elapsedS * 1e9))
  }
  response.writeHead(200, {
    'Content-Type': 'text/plain; charset=UTF-8', 'Content-Length': bytes.length, 'X-ClickHouse-Query-Id': queryId, 'X-ClickHouse-Summary': JSON.stringify(summary)
  }).end(bytes)
}

function refuse (response: ServerResponse, error: Error & { code?: unknown, clickhouseCode?: unknown }): void {
  if (response.headersSent || response.destroyed) {
    response.destroy()
    return
  }
  const number = error instanceof EngineError ? error.code : Number(error.clickhouseCode ?? /Code: (\d+)/.exec(error.message)?.[1] ?? 1002)
  const text = /^Code: /.test(error.message) ? error.message : `Code: ${number}. DB::Exception: ${error.message}. (UNKNOWN_EXCEPTION)`
  response.writeHead(statusByCode[number] ?? 500, { 'Content-Type': 'text/plain; charset=UTF-8', 'X-ClickHouse-Exception-Code': String(number), Connection: 'close' }).end(`${text}\n`)
}

async function requestOf (request: IncomingMessage): Promise<{ asked: EngineRequest, queryId: string }> {
  const parameters = new Map(new URL(request.url ?? '/', 'http://engine').searchParams)
  let body = await bodyOf(request)
  const contentType = request.headers['content-type'] ?? ''
  if (/^multipart\/form-data/.test(contentType)) {
    // The client sends long parameters that way.
    const form = await new Response(new Uint8Array(body), { headers: { 'content-type': contentType } }).formData()
    for (const [name, value] of form.entries()) parameters.set(name, String(value))
    body = Buffer.alloc(0)
  }
  const given = [...parameters]
  const settings = given.filter(([name]) => !reserved.has(name) && !httpOnly.has(name) && !name.startsWith('param_'))
  for (const [name] of given) if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name)) throw new EngineError(115, 'UNKNOWN_SETTING', `'${name}' is no name of a setting`)
  const asked: EngineRequest = {
    query: parameters.get('query') ?? '',
    body,
    database: parameters.get('database') ?? 'default',
    format: parameters.get('default_format') ?? 'TabSeparated',
    // Read-only last: the settings before it could not be set any more.
    settings: [...settings.filter(([name]) => name !== 'readonly'), ...settings.filter(([name]) => name === 'readonly')],
    parameters: given.filter(([name]) => name.startsWith('param_')).map(([name, value]) => [name.slice('param_'.length), value] as const)
  }
  return { asked, queryId: parameters.get('query_id') ?? randomUUID() }
}

async function bodyOf (request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > bodyBytesMax) throw new EngineError(241, 'MEMORY_LIMIT_EXCEEDED', `the body is above ${bodyBytesMax} bytes`)
    chunks.push(chunk)
  }
  const body = Buffer.concat(chunks)
  const encoding = request.headers['content-encoding']
  if (encoding === 'gzip') return gunzipSync(body, { maxOutputLength: bodyBytesMax })
  if (encoding === 'deflate') return inflateSync(body, { maxOutputLength: bodyBytesMax })
  if (encoding !== undefined && encoding !== 'identity') throw new EngineError(48, 'NOT_IMPLEMENTED', `Content-Encoding ${encoding} is not understood`)
  return body
}
