/** A request for a command, read from its body and headers. Limits that a schema cannot say are checked here. */
import { createHash } from 'node:crypto'
import type { FastifyRequest } from 'fastify'
import type { CommandRequest } from '../../commands/commands.js'
import { TwinfoldError } from '../../core/errors.js'
import { usPerMs } from '../../core/reading.js'
import type { Actor, Json } from '../../twin/twin-model.js'
import { parseIdempotencyKey } from './idempotency-keys.js'
import { parseQueryTime } from './query-time.js'

const payloadBytesMax = 64 * 1024
const payloadDepthMax = 20
const timeoutMsDefault = 3_600_000
const aheadUsMax = 30 * 24 * 3600e6

interface Body {
  readonly name: string
  readonly payload?: Json
  readonly envelope?: boolean
  readonly priority?: number
  readonly expiresAt?: string | number
  readonly timeoutMs?: number
  readonly delivery?: 'queued' | 'ifConnected'
  readonly retries?: number
  readonly reason?: string
}

function isDeeper (value: Json, depth: number): boolean {
  if (typeof value !== 'object' || value === null) return false
  return depth === 0 || Object.values(value as Readonly<Record<string, Json>>).some(inner => isDeeper(inner, depth - 1))
}

function deadlineOf ({ expiresAt, timeoutMs }: Body, nowUs: number): number {
  if (expiresAt === undefined) return nowUs + (timeoutMs ?? timeoutMsDefault) * usPerMs
  if (timeoutMs !== undefined) throw new TwinfoldError('invalid_field', `give 'expiresAt' or 'timeoutMs', not both`, { field: 'timeoutMs' })
  const at = parseQueryTime(String(expiresAt), nowUs, 'expiresAt')
  if (at <= nowUs || at > nowUs + aheadUsMax) throw new TwinfoldError('invalid_field', `'expiresAt' must lie ahead, by 30 days at most`, { field: 'expiresAt' })
  return at
}

/** @throws TwinfoldError `invalid_field`, `payload_too_large` */
export function commandRequest (request: FastifyRequest, nowUs: number): CommandRequest {
  const body = request.body as Body
  const { name, payload, envelope = false, priority = 5, delivery = 'queued', retries = 0, reason = '' } = body
  if (payload !== undefined) {
    if (isDeeper(payload, payloadDepthMax)) throw new TwinfoldError('invalid_field', `'payload' is nested deeper than ${payloadDepthMax}`, { field: 'payload' })
    const bytes = Buffer.byteLength(JSON.stringify(payload))
    if (bytes > payloadBytesMax) throw new TwinfoldError('payload_too_large', `'payload' has ${bytes} bytes; ${payloadBytesMax} are allowed`, { field: 'payload' })
  }
  const header = request.headers['idempotency-key']
  return { name, ...payload === undefined ? {} : { payload }, envelope, priority, expiresAt: deadlineOf(body, nowUs), delivery, retries, reason, idempotency: header === undefined ? null : idempotencyOf(request, parseIdempotencyKey(header)) }
}

/** Of the credential: two callers may use the same key. */
function idempotencyOf (request: FastifyRequest, key: string): NonNullable<CommandRequest['idempotency']> {
  const hash = (text: string): string => createHash('sha256').update(text).digest('hex').slice(0, 40)
  return { key: hash(`${request.caller?.principal.credentialId ?? ''}\0${key}`), fingerprint: hash(JSON.stringify(request.body)) }
}

export function actorOf (request: FastifyRequest): Actor {
  const caller = request.caller
  return { kind: caller?.role === 'application' ? 'application' : 'operator', id: caller?.principal.credentialId ?? '', via: 'http' }
}
