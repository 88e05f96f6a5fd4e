/** The fleet-wide read side: whether it is there and how far behind, and how much a tenant has in it. */
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { RebuildProgress } from '../../analytics/rebuild.js'
import { TwinfoldError } from '../../core/errors.js'
import { usPerDay } from '../../core/reading.js'
import { retentionDaysAt } from '../../tenancy/model.js'
import { authorizeHook, tenantOf } from './authorize.js'
import type { EdgeContext } from './edge-context.js'
import { isoTime, parseSpan, spanSchemas, type SpanParameters } from './query-time.js'
import { routeDocs } from './route-docs.js'
import type { Schema } from './schema-check.js'

const lagSchema: Schema = { type: ['number', 'null'], description: 'How long points of this node have waited to be in analytics: since the oldest one that is not. 0: all are in. null: analytics is off.' }

/** What the routes answer from; absent where analytics is off. */
export interface AnalyticsSource {
  readonly status: {
    readonly state: 'up' | 'down' | 'gap' | 'off' | 'idle'
    readonly reason: string
    readonly lagSeconds: number
    readonly hoursLagSeconds: number
    readonly rebuild: RebuildProgress | null
  }
  /** Begins a rebuild of a tenant or (null) of all, unless one runs. */
  startRebuild (tenant: string | null): RebuildProgress | null
  /** Once a device was made, changed or deleted. */
  noteDevice (tenant: string, id: string): void
  /** Once an erasure was stored. */
  noteErasure (): void
  countPoints (tenant: string, fromTs: number, toTs: number): Promise<{ readonly points: number, readonly devices: number, readonly lagSeconds: number }>
}

const offReason = 'analytics is off on this server: it is turned off (TWINFOLD_ANALYTICS), or a cluster has no ClickHouse (TWINFOLD_CLICKHOUSE)'

const hoursLagSchema: Schema = { type: ['number', 'null'], description: 'The same of sealed hours, which fleet queries over long ranges are made of.' }

const rebuildSchema: Schema = {
  type: ['object', 'null'],
  description: 'The last rebuild of this server since it started.',
  properties: {
    state: { type: 'string', enum: ['running', 'done', 'failed'] }, startedAt: { type: 'string', format: 'date-time' }, devices: { type: 'integer' }, points: { type: 'integer' }, hours: { type: 'integer' },
    damaged: { type: 'integer', description: 'Devices with rows that could not be read.' }
  }
}

/** Says no tenant's name: any tenant may ask. */
function rebuildView (rebuild: RebuildProgress | null): object | null {
  if (rebuild === null) return null
  const { state, startedUs, devices, points, hours, damaged } = rebuild
  return { state, startedAt: isoTime(startedUs), devices, points, hours, damaged }
}

/** Milliseconds are as fine as a lag is worth telling. */
function rounded (seconds: number): number {
  return Math.round(seconds * 1000) / 1000
}

async function countPoints (context: EdgeContext, request: FastifyRequest): Promise<object> {
  const { analytics, tenants } = context.options
  if (analytics === undefined) throw new TwinfoldError('not_found', offReason)
  const nowUs = context.stamps.now()
  const { fromTs, toTs } = parseSpan(request.query as SpanParameters, nowUs)
  const id = tenantOf(request)
  const tenant = await tenants.get(id)
  if (tenant === null) throw new TwinfoldError('not_found', 'the tenant is gone')
  // A retention that was shortened counts at once, as in every query.
  const keptFromTs = Math.max(fromTs, nowUs - retentionDaysAt(tenant, nowUs) * usPerDay)
  const { points, devices, lagSeconds } = keptFromTs >= toTs
    ? { points: 0, devices: 0, lagSeconds: analytics.status.lagSeconds }
    : await analytics.countPoints(id, keptFromTs, toTs)
  return { from: isoTime(fromTs), to: isoTime(toTs), points, devices, lagSeconds: rounded(lagSeconds) }
}

export function analyticsRoutes (context: EdgeContext) {
  return async (app: FastifyInstance): Promise<void> => {
    const onRequest = authorizeHook(context, ['operator', 'application', 'viewer'])

    app.get('/analytics/status', {
      ...routeDocs({
        summary: 'Whether fleet-wide analytics answers, and how far it is behind',
        description: 'Of the node that answers. `gap`: points are missing until analytics is rebuilt. Readings of single devices do not depend on it.',
        tag: 'analytics',
        answers: {
          200: {
            description: 'The state.',
            schema: {
              type: 'object',
              required: ['state', 'reason', 'lagSeconds', 'hoursLagSeconds', 'rebuild'],
              properties: { state: { type: 'string', enum: ['up', 'down', 'off', 'gap', 'idle'] }, reason: { type: 'string', description: 'Why it is not up; empty when it is.' }, lagSeconds: lagSchema, hoursLagSeconds: hoursLagSchema, rebuild: rebuildSchema }
            }
          }
        }
      }),
      onRequest
    }, async () => {
      const { analytics } = context.options
      if (analytics === undefined) return { state: 'off', reason: offReason, lagSeconds: null, hoursLagSeconds: null, rebuild: null }
      const { state, reason, lagSeconds, hoursLagSeconds, rebuild } = analytics.status
      return { state, reason, lagSeconds: rounded(lagSeconds), hoursLagSeconds: rounded(hoursLagSeconds), rebuild: rebuildView(rebuild) }
    })

    app.post('/analytics/rebuild', {
      ...routeDocs({
        summary: 'Bring everything into analytics anew from the store',
        description: 'For platform administrators. Questions are answered meanwhile; `GET /analytics/status` shows how far it is. 404 where analytics is off.',
        tag: 'analytics',
        query: { type: 'object', additionalProperties: false, properties: { tenant: { type: 'string', maxLength: 128, description: 'Only this tenant; a gap is closed by a rebuild of all.' } } },
        answers: { 202: { description: 'It runs.', schema: { type: 'object', properties: { rebuild: rebuildSchema } } } }
      }),
      onRequest: authorizeHook(context, [], 'platform')
    }, async (request, reply) => {
      const { analytics, store } = context.options
      if (analytics === undefined) throw new TwinfoldError('not_found', offReason)
      const { tenant = null } = request.query as { tenant?: string }
      if (tenant !== null && await store.getTenant(tenant) === null) throw new TwinfoldError('not_found', 'there is no such tenant')
      return await reply.code(202).send({ rebuild: rebuildView(analytics.startRebuild(tenant)) })
    })

    app.get('/analytics/points', {
      ...routeDocs({
        summary: 'How many points of how many devices of the tenant lie in a range',
        description: 'Default: the last 24 hours. Each point is counted once, however often it was sent. 404 where analytics is off.',
        tag: 'analytics',
        query: { type: 'object', additionalProperties: false, properties: spanSchemas },
        answers: {
          200: {
            description: 'Points and devices as of `lagSeconds` ago.',
            schema: {
              type: 'object',
              required: ['from', 'to', 'points', 'devices', 'lagSeconds'],
              properties: { from: { type: 'string', format: 'date-time' }, to: { type: 'string', format: 'date-time' }, points: { type: 'integer' }, devices: { type: 'integer' }, lagSeconds: lagSchema }
            }
          }
        },
        errors: ['analytics_unavailable']
      }),
      onRequest
    }, async request => await countPoints(context, request))
  }
}
