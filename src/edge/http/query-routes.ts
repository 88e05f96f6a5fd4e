/**
 * Readings of a device: a range, in pages, and the latest value of each metric. The readings come from a worker as JSON bytes
 * and are passed on as they are; nothing per point happens here.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { TwinfoldError } from '../../core/errors.js'
import { metricNameBytesMax, metricsPerReadingMax } from '../../core/limits.js'
import { usPerDay } from '../../core/reading.js'
import { retentionDaysAt, type Tenant } from '../../tenancy/model.js'
import type { LatestQuery, RangeQuery, ReadingOrder, TimeFormat } from '../../../workers/protocol.js'
import { authorizeHook, tenantOf } from './authorize.js'
import { decodeCursor, encodeCursor } from './cursor.js'
import { requireVisible } from './device-access.js'
import type { EdgeContext } from './edge-context.js'
import { isoTime, parseSpan, spanSchemas, type Span } from './query-time.js'
import { idParams, routeDocs } from './route-docs.js'
import type { Schema } from './schema-check.js'

export const rangeLimitMax = 10_000
const rangeLimitDefault = 1000

const metricsSchema: Schema = {
  type: 'array',
  items: { type: 'string', maxLength: metricsPerReadingMax * (metricNameBytesMax + 1) },
  maxItems: metricsPerReadingMax,
  description: 'Names with commas between, or the parameter several times with one name each. Default: all.'
}
const timesSchema: Schema = { type: 'string', enum: ['iso', 'ms'], default: 'iso', description: 'How times are written.' }
const anyTime: Schema = { type: ['string', 'number'] }

interface ReadParameters { readonly metrics?: readonly string[], readonly times?: TimeFormat }
interface RangeParameters extends ReadParameters {
  readonly from?: string
  readonly to?: string
  readonly order?: ReadingOrder
  readonly limit?: number
  readonly cursor?: string
}

/** Sorted and without repetition; null: all. @throws TwinfoldError `invalid_field` */
export function parseMetrics (given: readonly string[] | undefined): readonly string[] | null {
  if (given === undefined) return null
  const names = given.length === 1 ? given[0].split(',') : given
  const unique = [...new Set(names)].sort()
  if (unique.length > metricsPerReadingMax || unique.some(name => name === '' || Buffer.byteLength(name) > metricNameBytesMax)) {
    throw new TwinfoldError('invalid_field', `'metrics' are at most ${metricsPerReadingMax} names of 1 to ${metricNameBytesMax} bytes`, { field: 'metrics' })
  }
  return unique
}

/** The cursor carries the range as it was resolved at the first page, so that `now-6h` does not move from page to page. */
function resumeAt (query: readonly string[], cursor: string, order: ReadingOrder): { whole: Span, rest: Span } {
  const [fromTs, toTs, lastTs] = decodeCursor(query, cursor).split('.').map(Number)
  if (![fromTs, toTs, lastTs].every(Number.isSafeInteger) || fromTs < 0 || lastTs < fromTs || lastTs >= toTs) {
    throw new TwinfoldError('invalid_field', 'the cursor does not belong to this query; start again without it', { field: 'cursor' })
  }
  return { whole: { fromTs, toTs }, rest: order === 'asc' ? { fromTs: lastTs + 1, toTs } : { fromTs, toTs: lastTs } }
}

async function tenantBounds (context: EdgeContext, id: string): Promise<Pick<RangeQuery, 'tenant' | 'retentionDays' | 'oldestTs'>> {
  const tenant: Tenant | null = await context.options.tenants.get(id)
  if (tenant === null) throw new TwinfoldError('not_found', 'the tenant is gone')
  const nowUs = context.stamps.now()
  return {
    tenant: id,
    retentionDays: [...new Set(tenant.retention.map(entry => entry.days))],
    oldestTs: Math.max(0, nowUs - retentionDaysAt(tenant, nowUs) * usPerDay)
  }
}

async function sendRange (context: EdgeContext, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  const { id } = request.params as { id: string }
  const parameters = request.query as RangeParameters
  const { order = 'desc', limit = rangeLimitDefault, times = 'iso', from = '', to = '' } = parameters
  const metrics = parseMetrics(parameters.metrics)
  const tenant = tenantOf(request)
  const query = ['range', tenant, id, from, to, order, metrics === null ? '*' : metrics.join('\0')]
  const nowUs = context.stamps.now()
  const whole = parseSpan(parameters, nowUs)
  const span = parameters.cursor === undefined ? { whole, rest: whole } : resumeAt(query, parameters.cursor, order)
  await requireVisible(context, request, id)
  const task: RangeQuery = { kind: 'range', ...await tenantBounds(context, tenant), device: id, metrics, ...span.rest, order, limit, times }
  const result = span.rest.fromTs >= span.rest.toTs ? emptyRange : await context.options.queries.run(task)
  const next = result.more && result.lastTs !== null ? encodeCursor(query, `${span.whole.fromTs}.${span.whole.toTs}.${result.lastTs}`) : null
  const time = (us: number): string => times === 'ms' ? String(us / 1000) : `"${isoTime(us)}"`
  const head = `{"device":${JSON.stringify(id)},"order":"${order}","from":${time(span.whole.fromTs)},"to":${time(span.whole.toTs)},"readings":`
  return await sendJson(reply, head, result.body, `,"next":${JSON.stringify(next)}}`)
}

const emptyRange = { body: Buffer.from('[]'), readings: 0, lastTs: null, more: false }

async function sendLatest (context: EdgeContext, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  const { id } = request.params as { id: string }
  const { times = 'iso', metrics } = request.query as ReadParameters
  const tenant = tenantOf(request)
  const wanted = parseMetrics(metrics)
  await requireVisible(context, request, id)
  const task: LatestQuery = { kind: 'latest', ...await tenantBounds(context, tenant), device: id, metrics: wanted, times }
  const result = await context.options.queries.run(task)
  return await sendJson(reply, `{"device":${JSON.stringify(id)},"latest":`, result.body, result.source === undefined ? '}' : `,"source":"${result.source}"}`)
}

async function sendJson (reply: FastifyReply, head: string, body: Uint8Array, tail: string): Promise<FastifyReply> {
  return await reply.header('content-type', 'application/json; charset=utf-8').send(Buffer.concat([Buffer.from(head), body, Buffer.from(tail)]))
}

export function queryRoutes (context: EdgeContext) {
  return async (app: FastifyInstance): Promise<void> => {
    const onRequest = authorizeHook(context, ['operator', 'application', 'viewer', 'device'])

    app.get('/devices/:id/telemetry', {
      ...routeDocs({
        summary: 'Readings of a device in a range',
        description: 'Default: the last 24 hours, newest first. `next` is the cursor of the following page, null at the end.',
        tag: 'telemetry',
        params: idParams,
        query: {
          type: 'object',
          additionalProperties: false,
          properties: {
            ...spanSchemas,
            metrics: metricsSchema,
            order: { type: 'string', enum: ['asc', 'desc'], default: 'desc' },
            limit: { type: 'integer', minimum: 1, maximum: rangeLimitMax, default: rangeLimitDefault },
            cursor: { type: 'string', maxLength: 2048 },
            times: timesSchema
          }
        },
        answers: {
          200: {
            description: 'Readings. NaN and infinities are the strings "NaN", "Infinity" and "-Infinity".',
            schema: {
              type: 'object',
              properties: {
                device: { type: 'string' },
                order: { type: 'string' },
                from: anyTime,
                to: anyTime,
                readings: { type: 'array', items: { type: 'object', properties: { ts: anyTime, values: { type: 'object' } } } },
                next: { type: ['string', 'null'] }
              }
            }
          }
        },
        errors: ['throttled']
      }),
      onRequest
    }, async (request, reply) => await sendRange(context, request, reply))

    app.get('/devices/:id/telemetry/latest', {
      ...routeDocs({
        summary: 'The latest value of each metric, by event time',
        description: 'While the store does not answer: what the hot state knows, with `"source":"hot"`; it may lack metrics. 503 where that knows nothing.',
        tag: 'telemetry',
        params: idParams,
        query: { type: 'object', additionalProperties: false, properties: { metrics: metricsSchema, times: timesSchema } },
        answers: {
          200: {
            description: 'By metric.',
            schema: {
              type: 'object',
              properties: { device: { type: 'string' }, latest: { type: 'object', additionalProperties: { type: 'object', properties: { ts: anyTime, value: { type: ['number', 'boolean', 'string'] } } } }, source: { type: 'string', enum: ['hot'], description: 'Only while the store does not answer: what is known, which need not be all.' } }
            }
          }
        },
        errors: ['throttled']
      }),
      onRequest
    }, async (request, reply) => await sendLatest(context, request, reply))
  }
}
