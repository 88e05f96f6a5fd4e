/**
 * Every route's document: what OpenAPI 3.1 says of it and, for parameters and bodies of resources, what is enforced
 * (schema-check.ts). A route lists the error codes it can answer with; statuses follow from the error table.
 */
import { errorTable, type ErrorCode } from '../../core/errors.js'
import { idempotencyKeyCharsMax } from '../../core/limits.js'
import { telemetryMediaTypes } from './media-type.js'
import { problemMediaType } from './problem.js'
import type { Schema } from './schema-check.js'

export const problemSchema = {
  $id: 'Problem',
  title: 'Problem',
  type: 'object',
  description: 'RFC 9457 problem details',
  required: ['type', 'title', 'status', 'detail', 'code', 'retryable'],
  properties: {
    type: { type: 'string', description: 'urn:twinfold:problem:{code}' },
    title: { type: 'string' },
    status: { type: 'integer' },
    detail: { type: 'string', description: 'For people: what is wrong here and what to do.' },
    code: { type: 'string', enum: Object.keys(errorTable), description: 'Stable; for programs.' },
    field: { type: 'string', description: 'The field of the request that is at fault.' },
    retryable: { type: 'boolean', description: 'The same request may succeed later; see Retry-After.' }
  }
} as const

export interface RouteDoc {
  readonly summary: string
  readonly description?: string
  readonly tag: 'telemetry' | 'events' | 'devices' | 'commands' | 'models' | 'alarms' | 'tenants' | 'keys' | 'dead letters' | 'analytics' | 'transfer' | 'system'
  readonly params?: Schema
  readonly query?: Schema
  readonly headers?: Schema
  readonly body?: Schema
  readonly bodyBytesMax?: number
  readonly consumes?: readonly string[]
  /** Positive answers by status. */
  readonly answers: Readonly<Record<number, { readonly description: string, readonly schema?: Schema, readonly mediaType?: string }>>
  /** Beyond those that every route that takes a credential has. */
  readonly errors?: readonly ErrorCode[]
  /** No credential is needed. Default false. */
  readonly open?: boolean
}

const always: readonly ErrorCode[] = ['internal', 'not_ready', 'store_unavailable']
const withCredential: readonly ErrorCode[] = ['unauthenticated', 'forbidden']
const withInput: readonly ErrorCode[] = ['invalid_field', 'invalid_request']
const withBody: readonly ErrorCode[] = ['unsupported_media_type', 'payload_too_large']

function errorsOf (doc: RouteDoc): Map<number, ErrorCode[]> {
  const codes = new Set<ErrorCode>(doc.errors ?? [])
  if (doc.open !== true) for (const code of [...always, ...withCredential, ...withInput, 'not_found' as const]) codes.add(code)
  if (doc.body !== undefined) for (const code of withBody) codes.add(code)
  const byStatus = new Map<number, ErrorCode[]>()
  for (const code of codes) {
    const { status } = errorTable[code]
    byStatus.set(status, [...byStatus.get(status) ?? [], code])
  }
  return byStatus
}

/** Fastify's route options of a document. */
export function routeDocs (doc: RouteDoc): { schema: Record<string, unknown>, bodyLimit?: number } {
  const response: Record<string, unknown> = {}
  for (const [status, { description, schema, mediaType }] of Object.entries(doc.answers)) {
    response[status] = schema === undefined
      ? { type: 'null', description }
      : { description, content: { [mediaType ?? 'application/json']: { schema } } }
  }
  for (const [status, codes] of errorsOf(doc)) {
    response[status] = { description: codes.join(', '), content: { [problemMediaType]: { schema: { $ref: 'Problem#' } } } }
  }
  const schema: Record<string, unknown> = { summary: doc.summary, tags: [doc.tag], response }
  if (doc.description !== undefined) schema.description = doc.description
  if (doc.params !== undefined) schema.params = doc.params
  if (doc.query !== undefined) schema.querystring = doc.query
  if (doc.headers !== undefined) schema.headers = doc.headers
  if (doc.body !== undefined) schema.body = doc.body
  if (doc.consumes !== undefined) schema.consumes = doc.consumes
  schema.security = doc.open === true ? [] : [{ bearer: [] }, { apiKey: [] }]
  return doc.bodyBytesMax === undefined ? { schema } : { schema, bodyLimit: doc.bodyBytesMax }
}

export const idSchema: Schema = { type: 'string', minLength: 1, maxLength: 128 }
export const idParams: Schema = { type: 'object', required: ['id'], properties: { id: idSchema } }

export function pageQuery (more: Readonly<Record<string, Schema>> = {}, limitDefault = 100): Schema {
  return {
    type: 'object',
    additionalProperties: false,
    properties: {
      limit: { type: 'integer', minimum: 1, maximum: 1000, default: limitDefault },
      cursor: { type: 'string', maxLength: 2048, description: '`next` of the page before.' },
      ...more
    }
  }
}

/** A page of things. */
export function pageSchema (name: string, item: Schema): Schema {
  return { type: 'object', required: [name, 'next'], properties: { [name]: { type: 'array', items: item }, next: { type: ['string', 'null'] } } }
}

const telemetryHeaders: Schema = {
  type: 'object',
  properties: { 'idempotency-key': { type: 'string', minLength: 1, maxLength: idempotencyKeyCharsMax, description: 'The same key and body within 24 hours are accepted once.' } }
}
const accepted = {
  202: {
    description: 'The body is on stable storage. Header Idempotent-Replayed: true where it was accepted before.',
    schema: {
      type: 'object',
      required: ['accepted', 'stamp'],
      properties: { accepted: { type: 'boolean' }, stamp: { type: 'integer', description: 'Accept stamp, microseconds since the epoch.' } }
    } as Schema
  }
}
const telemetryErrors: readonly ErrorCode[] = ['idempotency_mismatch', 'throttled', 'journal_unavailable', 'journal_full']
const readingText = 'A reading `{"temperature":21.3}` or `{"ts":1700000000000,"values":{…}}` (milliseconds or ISO 8601), an array of them, NDJSON, SenML (RFC 8428) in JSON or CBOR, or CBOR. What is wrong inside a body is kept in the dead-letter log.'
const readingBody: Schema = { type: ['object', 'array'], description: 'Readings, in one of the formats of the description.' }

export const telemetryDocs = {
  device: routeDocs({
    summary: 'Send telemetry of a device',
    description: `For the device itself, a gateway of it, an application or an operator. ${readingText}`,
    tag: 'telemetry',
    params: idParams,
    headers: telemetryHeaders,
    body: readingBody,
    consumes: telemetryMediaTypes,
    answers: accepted,
    errors: telemetryErrors
  }),
  own: routeDocs({
    summary: 'Send telemetry of the calling device, or of several devices',
    description: 'With a device token the readings are the device\'s own. With a key of an application or operator every reading names its `device`. ' + readingText,
    tag: 'telemetry',
    headers: telemetryHeaders,
    body: readingBody,
    consumes: telemetryMediaTypes,
    answers: accepted,
    errors: telemetryErrors
  })
}
