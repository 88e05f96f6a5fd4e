/**
 * Errors as RFC 9457 problem details. Whatever goes wrong, in our code, in Fastify or in Node's HTTP parser, is turned
 * into a code of the one error table here, so that a client meets one shape only. Nothing unexpected is told to a client:
 * the text of an unknown fault goes to the log, never into an answer (INVARIANTS 7).
 */
import type { Socket } from 'node:net'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { errorTable, TwinfoldError, type ErrorCode } from '../../core/errors.js'
import { InvariantBroken } from '../../core/invariant.js'
import type { Log } from '../../core/log.js'

export const problemMediaType = 'application/problem+json'

/** RFC 9457 section 3, with the extension members `code`, `field` and `retryable`. */
export interface Problem {
  readonly type: string
  readonly title: string
  readonly status: number
  readonly detail: string
  readonly code: ErrorCode
  readonly field?: string
  readonly retryable: boolean
}

/** @param status other than the table's only where HTTP itself names a closer one (408, 431). */
export function problemOf (error: TwinfoldError, status = errorTable[error.code].status): Problem {
  const { title, retryable } = errorTable[error.code]
  const problem = { type: `urn:twinfold:problem:${error.code}`, title, status, detail: error.message, code: error.code, retryable }
  return error.field === undefined ? problem : { ...problem, field: error.field }
}

/** Seconds for `Retry-After`: whole, at least one. */
export function retryAfterSeconds (error: TwinfoldError): number {
  return Math.max(1, Math.ceil((error.retryAfterMs ?? 1000) / 1000))
}

const frameworkCodes: Readonly<Record<string, { code: ErrorCode, detail: string }>> = {
  FST_ERR_CTP_BODY_TOO_LARGE: { code: 'payload_too_large', detail: 'the body is larger than this route accepts' },
  FST_ERR_CTP_INVALID_MEDIA_TYPE: { code: 'unsupported_media_type', detail: 'send the body as application/json' },
  FST_ERR_CTP_EMPTY_JSON_BODY: { code: 'invalid_request', detail: 'the body is empty; a JSON object is expected' },
  FST_ERR_CTP_INVALID_JSON_BODY: { code: 'invalid_request', detail: 'the body is not valid JSON' },
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: { code: 'invalid_request', detail: 'Content-Length does not match the body' },
  FST_ERR_BAD_URL: { code: 'invalid_request', detail: 'the path is not a valid URL path' },
  FST_ERR_MAX_PARAM_LENGTH: { code: 'invalid_request', detail: 'a part of the path is too long' }
}

/** The error of the table that stands for any thrown value; `internal` for what was not expected. */
export function toTwinfoldError (error: unknown): TwinfoldError {
  if (error instanceof TwinfoldError) return error
  const { code, statusCode } = error as { code?: unknown, statusCode?: unknown }
  const known = typeof code === 'string' && Object.hasOwn(frameworkCodes, code) ? frameworkCodes[code] : undefined
  if (known !== undefined) return new TwinfoldError(known.code, known.detail, { cause: error })
  if (typeof statusCode === 'number' && statusCode >= 400 && statusCode < 500) {
    return new TwinfoldError('invalid_request', 'the request cannot be understood', { cause: error })
  }
  return new TwinfoldError('internal', 'an unexpected fault; it is in the log of the server', { cause: error })
}

/** Answers with the problem. Counted by the caller. */
export function sendProblem (reply: FastifyReply, error: TwinfoldError): void {
  const problem = problemOf(error)
  if (problem.retryable && problem.status !== 500) void reply.header('retry-after', retryAfterSeconds(error))
  if (error.code === 'unauthenticated') void reply.header('www-authenticate', 'Bearer realm="twinfold"')
  // The rest of such a body is not worth reading: the connection ends with the answer.
  if (error.code === 'payload_too_large') void reply.header('connection', 'close')
  void reply.code(problem.status).header('content-type', problemMediaType).send(JSON.stringify(problem))
}

/** Fastify's error handler: every thrown or sent error ends here. */
export function problemHandler (log: Log, count: (code: ErrorCode) => void) {
  return (thrown: unknown, request: FastifyRequest, reply: FastifyReply): void => {
    // A broken invariant stops the process (core/invariant.ts); the answer is not worth more than the data.
    if (thrown instanceof InvariantBroken) setImmediate(() => { throw thrown })
    const error = toTwinfoldError(thrown)
    count(error.code)
    // What is unavailable is logged by the part that is, once; a line per refused request would be a flood.
    if (errorTable[error.code].status === 500) {
      log.error({ error: thrown, code: error.code, method: request.method, route: request.routeOptions.url ?? '', tenant: request.caller?.tenant ?? '' }, 'request failed')
    }
    sendProblem(reply, error)
  }
}

const parserStatus: Readonly<Record<string, { status: number, reason: string, detail: string }>> = {
  HPE_HEADER_OVERFLOW: { status: 431, reason: 'Request Header Fields Too Large', detail: 'the header fields are larger than the limit' },
  HPE_CHUNK_EXTENSIONS_OVERFLOW: { status: 413, reason: 'Payload Too Large', detail: 'the chunk extensions are larger than the limit' },
  ERR_HTTP_REQUEST_TIMEOUT: { status: 408, reason: 'Request Timeout', detail: 'the request did not arrive in time' }
}

/** Node's `clientError`: what is no HTTP request never reaches Fastify, so it is answered on the socket. */
export function answerParserError (error: { code?: string }, socket: Socket): void {
  if (error.code === 'ECONNRESET' || socket.destroyed || !socket.writable) {
    socket.destroy()
    return
  }
  const { status, reason, detail } = parserStatus[error.code ?? ''] ?? { status: 400, reason: 'Bad Request', detail: 'this is not a valid HTTP/1.1 request' }
  const body = JSON.stringify(problemOf(new TwinfoldError('invalid_request', detail), status))
  socket.end(`HTTP/1.1 ${status} ${reason}\r\ncontent-type: ${problemMediaType}\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`)
}
