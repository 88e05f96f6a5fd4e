/** Probes, metrics and the front door. They need no credential, and say nothing about any tenant. */
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { TwinfoldError } from '../../core/errors.js'
import { secretOf } from './authorize.js'
import type { EdgeContext } from './edge-context.js'
import { routeDocs } from './route-docs.js'
import type { Schema } from './schema-check.js'

const loopback = /^(?:127\.|::1$|::ffff:127\.)/

/** From this machine and not handed on by a proxy on it that we were not told to trust. */
function isLocal (request: FastifyRequest, trustProxy: boolean): boolean {
  if (!trustProxy && (request.headers['x-forwarded-for'] !== undefined || request.headers.forwarded !== undefined)) return false
  return loopback.test(request.ip ?? '')
}

async function requireMetricsAccess (context: EdgeContext, request: FastifyRequest): Promise<void> {
  const { metricsAccess = 'loopback', trustProxy = false, authenticator } = context.options
  if (metricsAccess === 'public') return
  if (metricsAccess === 'loopback' && isLocal(request, trustProxy)) return
  const secret = secretOf(request)
  const principal = secret === null ? null : await authenticator.authenticate(secret)
  if (principal === null) throw new TwinfoldError('unauthenticated', 'metrics take a platform admin key')
  if (principal.role !== 'admin') throw new TwinfoldError('forbidden', 'metrics take a platform admin key')
}

const readinessSchema: Schema = {
  type: 'object',
  required: ['ready', 'degraded', 'reasons', 'dependencies'],
  properties: {
    ready: { type: 'boolean' },
    degraded: { type: 'boolean', description: 'It takes telemetry, and something that it leans on is not up: some answers are missing or older.' },
    reasons: { type: 'array', items: { type: 'string' }, description: 'Why it is not ready.' },
    dependencies: {
      type: 'array',
      items: {
        type: 'object',
        properties: { name: { type: 'string' }, state: { type: 'string', enum: ['up', 'slow', 'down'] }, reason: { type: 'string', description: 'Why it is not up.' } }
      }
    }
  }
}

export function systemRoutes (context: EdgeContext) {
  return async (app: FastifyInstance): Promise<void> => {
    const { readiness, metrics } = context.options
    app.get('/', { schema: { hide: true } }, (_request, reply) => {
      void reply.send({ name: 'Twinfold', what: 'IoT telemetry and digital twins', api: '/api/v1', docs: '/docs', openapi: '/api/v1/openapi.json', health: '/healthz', ready: '/readyz' })
    })
    app.get('/healthz', routeDocs({
      summary: 'The process runs', tag: 'system', open: true, answers: { 200: { description: 'It does.', schema: { type: 'object', properties: { ok: { type: 'boolean' } } } } }
    }), (_request, reply) => { void reply.send({ ok: true }) })
    app.get('/readyz', routeDocs({
      summary: 'The server takes telemetry and answers',
      description: '503 with the reasons while it does not. A store that is down does not make it unready: telemetry is acknowledged from the journal, and `degraded` says so.',
      tag: 'system',
      open: true,
      answers: { 200: { description: 'It does.', schema: readinessSchema }, 503: { description: 'It does not.', schema: readinessSchema } }
    }), (_request, reply) => {
      const state = context.closing ? { ready: false, reasons: ['stopping'] } : readiness()
      const dependencies = (context.options.dependencies?.() ?? []).map(({ name, state, reason }) => ({ name, state, reason }))
      void reply.code(state.ready ? 200 : 503).send({ ready: state.ready, degraded: dependencies.some(({ state }) => state !== 'up'), reasons: state.reasons, dependencies })
    })
    app.get('/metrics', routeDocs({
      summary: 'Metrics in the text format of Prometheus',
      tag: 'system',
      open: true,
      answers: { 200: { description: 'Metrics.', mediaType: 'text/plain', schema: { type: 'string' } } },
      errors: ['unauthenticated', 'forbidden', 'internal']
    }), async (request, reply) => {
      await requireMetricsAccess(context, request)
      const { contentType, body } = await metrics.render()
      return await reply.header('content-type', contentType).send(body)
    })
  }
}
