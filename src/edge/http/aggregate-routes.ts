/**
 * Windows of devices: aggregates by step, and points that keep the shape of a series. Workers choose the tier and write the JSON;
 * here parameters are checked and several devices' answers are put side by side.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { TwinfoldError } from '../../core/errors.js'
import { inParallel } from '../../core/in-parallel.js'
import type { QueryResult } from '../../../workers/protocol.js'
import type { DeviceScope, WindowQuery } from '../../../workers/query-protocol.js'
import { aggregateAnswer, aggregateQuery, severalAnswer, severalBody, severalQuery } from './aggregate-docs.js'
import { parseQuestion, valuesMax, type AggregateParameters, type WindowQuestion } from './aggregate-parameters.js'
import { authorizeHook, tenantOf } from './authorize.js'
import { decodeCursor, encodeCursor } from './cursor.js'
import { requireVisible } from './device-access.js'
import type { EdgeContext } from './edge-context.js'
import { sendJson, tierScope } from './query-scope.js'
import { idParams, routeDocs } from './route-docs.js'

/** Devices of one request whose windows are read side by side. */
const devicesAtOnce = 4

interface Several extends AggregateParameters { readonly devices: readonly string[] }

function taskOf ({ span: _span, ...question }: WindowQuestion, scope: DeviceScope): WindowQuery {
  return { ...question, ...scope } as WindowQuery
}

/** The cursor carries the range and the time as they were at the first page. */
function resumeAt (question: WindowQuestion, query: readonly string[], cursor: string): WindowQuestion {
  const [fromTs, toTs, nextTs, nowTs] = decodeCursor(query, cursor).split('.').map(Number)
  if (question.kind !== 'aggregate' || ![fromTs, toTs, nextTs, nowTs].every(Number.isSafeInteger) || fromTs < 0 || nextTs <= fromTs || nextTs >= toTs) {
    throw new TwinfoldError('invalid_field', 'the cursor does not belong to this query; start again without it', { field: 'cursor' })
  }
  return { ...question, span: { fromTs, toTs }, fromTs: nextTs, toTs, nowTs }
}

async function sendWindows (context: EdgeContext, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  const { id } = request.params as { id: string }
  const { cursor, ...parameters } = request.query as AggregateParameters & { readonly cursor?: string }
  const tenant = tenantOf(request)
  const asked = parseQuestion(parameters, context.stamps.now())
  const query = ['aggregates', tenant, id, JSON.stringify(Object.entries(parameters).sort(([a], [b]) => a < b ? -1 : 1))]
  if (cursor !== undefined && parameters.limit === undefined) throw new TwinfoldError('invalid_field', `'cursor' goes with the 'limit' of the page before`, { field: 'cursor' })
  const question = cursor === undefined ? asked : resumeAt(asked, query, cursor)
  await requireVisible(context, request, id)
  const result = await context.options.queries.run(taskOf(question, { ...await tierScope(context, tenant), device: id }))
  return await sendJson(reply, `{"device":${JSON.stringify(id)},`, result.body, `,"next":${JSON.stringify(nextOf(question, query, result))}}`)
}

function nextOf (question: WindowQuestion, query: readonly string[], { more, lastTs }: QueryResult): string | null {
  if (!more || lastTs === null || question.kind !== 'aggregate') return null
  return encodeCursor(query, `${question.span.fromTs}.${question.span.toTs}.${lastTs}.${question.nowTs}`)
}

async function sendSeveral (context: EdgeContext, request: FastifyRequest, reply: FastifyReply, { devices: given, ...parameters }: Several): Promise<FastifyReply> {
  const devices = [...new Set(given.length === 1 ? given[0].split(',') : given)]
  if (devices.length > severalDevicesMax) throw new TwinfoldError('invalid_field', `'devices' are at most ${severalDevicesMax}`, { field: 'devices' })
  const question = parseQuestion(parameters, context.stamps.now(), Math.floor(valuesMax / devices.length))
  const tenant = tenantOf(request)
  for (const id of devices) await requireVisible(context, request, id)
  const scope = await tierScope(context, tenant)
  const parts = await inParallel(devices, async device => {
    const { body } = await context.options.queries.run(taskOf(question, { ...scope, device }))
    return [Buffer.from(`{"device":${JSON.stringify(device)},`), body, Buffer.from('}')]
  }, devicesAtOnce)
  const joined = parts.flatMap((part, i) => i === 0 ? part : [Buffer.from(','), ...part])
  return await sendJson(reply, '{"results":[', Buffer.concat(joined), ']}')
}

/** In a body a comma is part of a name. */
function fromBody ({ metrics, ...several }: Several): Several {
  return { ...several, ...metrics === undefined ? {} : { metrics: metrics.map(one => typeof one === 'string' ? { metric: one } : one) } }
}

export const severalDevicesMax = 100

export function aggregateRoutes (context: EdgeContext) {
  return async (app: FastifyInstance): Promise<void> => {
    const onRequest = authorizeHook(context, ['operator', 'application', 'viewer', 'device'])
    app.get('/devices/:id/aggregates', {
      ...routeDocs({ ...aggregateAnswer, summary: 'Aggregates of a device\'s metrics by windows of time', tag: 'telemetry', params: idParams, query: aggregateQuery, errors: ['throttled'] }),
      onRequest
    }, async (request, reply) => await sendWindows(context, request, reply))

    const several = { ...severalAnswer, tag: 'telemetry' as const, errors: ['throttled' as const] }
    app.get('/series/query', {
      ...routeDocs({ ...several, summary: 'Aggregates of several devices by windows of time', query: severalQuery }),
      onRequest
    }, async (request, reply) => await sendSeveral(context, request, reply, request.query as Several))

    app.post('/series/query', {
      ...routeDocs({ ...several, summary: 'Aggregates of several devices, each metric with its own', body: severalBody }),
      onRequest
    }, async (request, reply) => await sendSeveral(context, request, reply, fromBody(request.body as Several)))
  }
}
