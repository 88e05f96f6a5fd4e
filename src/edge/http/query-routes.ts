/**
 * Readings of a device: a range, in pages, and the latest value of each metric. The readings come from a worker as JSON bytes
 * and are passed on as they are; nothing per point happens here.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { TwinfoldError } from '../../core/errors.js'
import type { LatestQuery, RangeQuery, ReadingOrder, TimeFormat } from '../../../workers/protocol.js'
import { authorizeHook, tenantOf } from './authorize.js'
import { decodeCursor, encodeCursor } from './cursor.js'
import { requireVisible } from './device-access.js'
import type { EdgeContext } from './edge-context.js'
import { anyTime, metricsSchema, parseMetrics, rawScope, sendJson, timesSchema } from './query-scope.js'
import { isoTime, parseSpan, spanSchemas, type Span } from './query-time.js'
import { idParams, routeDocs } from './route-docs.js'

export { parseMetrics } from './query-scope.js'

export const rangeLimitMax = 10_000
const rangeLimitDefault = 1000

interface ReadParameters { readonly metrics?: readonly string[], readonly times?: TimeFormat }
interface RangeParameters extends ReadParameters {
  readonly from?: string
  readonly to?: string
  readonly order?: ReadingOrder
  readonly limit?: number
  readonly cursor?: string
}

/** The cursor carries the range as it was resolved at the first page, so that `now-6h` does not move from page to page. */
function resumeAt (query: readonly string[], cursor: string, order: ReadingOrder): { whole: Span, rest: Span } {
  const [fromTs, toTs, lastTs] = decodeCursor(query, cursor).split('.').map(Number)
  if (![fromTs, toTs, lastTs].every(Number.isSafeInteger) || fromTs < 0 || lastTs < fromTs || lastTs >= toTs) {
    throw new TwinfoldError('invalid_field', 'the cursor does not belong to this query; start again without it', { field: 'cursor' })
  }
  return { whole: { fromTs, toTs }, rest: order === 'asc' ? { fromTs: lastTs + 1, toTs } : { fromTs, toTs: lastTs } }
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
  const task: RangeQuery = { kind: 'range', ...await rawScope(context, tenant), device: id, metrics, ...span.rest, order, limit, times }
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
  const task: LatestQuery = { kind: 'latest', ...await rawScope(context, tenant), device: id, metrics: wanted, times }
  const result = await context.options.queries.run(task)
  return await sendJson(reply, `{"device":${JSON.stringify(id)},"latest":`, result.body, result.source === undefined ? '}' : `,"source":"${result.source}"}`)
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
