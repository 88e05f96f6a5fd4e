/** Deletion of a device's readings: all of them, of some metrics, of a range of time. */
import type { FastifyInstance } from 'fastify'
import { TwinfoldError } from '../../core/errors.js'
import { authorizeHook, tenantOf } from './authorize.js'
import { requireVisible } from './device-access.js'
import type { EdgeContext } from './edge-context.js'
import { jobSchema } from './job-schema.js'
import { metricsSchema, parseMetrics } from './query-scope.js'
import { parseQueryTime, spanSchemas } from './query-time.js'
import { idParams, routeDocs } from './route-docs.js'
import { transferOf } from './transfer-source.js'

/** Each is an erasure of its own. */
const erasedMetricsMax = 32

export function eraseRoutes (context: EdgeContext) {
  return async (app: FastifyInstance): Promise<void> => {
    app.delete('/devices/:id/telemetry', {
      ...routeDocs({
        summary: 'Delete readings of a device',
        description: 'Without parameters all of them. What was accepted before this request is in no answer any more when it is answered; the job follows until it is gone from raw, tiers and analytics. What is accepted later counts, whatever its time. The device\'s dead letters stay.',
        tag: 'devices',
        params: idParams,
        query: {
          type: 'object',
          additionalProperties: false,
          properties: { metrics: { ...metricsSchema, description: `At most ${erasedMetricsMax} names, with commas between. Default: all.` }, from: { ...spanSchemas.from, description: 'Default: the beginning.' }, to: { ...spanSchemas.to, description: 'Exclusive. Default: no end.' } }
        },
        answers: { 202: { description: 'Erased; the job follows at Location.', schema: jobSchema } },
        errors: ['limit_reached']
      }),
      onRequest: authorizeHook(context, ['operator'])
    }, async (request, reply) => {
      const { id } = request.params as { id: string }
      const given = request.query as { metrics?: readonly string[], from?: string, to?: string }
      const nowUs = context.stamps.now()
      const metrics = parseMetrics(given.metrics)
      if (metrics !== null && metrics.length > erasedMetricsMax) throw new TwinfoldError('invalid_field', `'metrics' are at most ${erasedMetricsMax} names here; ask several times`, { field: 'metrics' })
      const fromTs = given.from === undefined ? null : parseQueryTime(given.from, nowUs, 'from')
      const toTs = given.to === undefined ? null : parseQueryTime(given.to, nowUs, 'to')
      if (fromTs !== null && toTs !== null && fromTs >= toTs) throw new TwinfoldError('invalid_field', `'from' must lie before 'to'`, { field: 'from' })
      await requireVisible(context, request, id)
      const job = await transferOf(context).erase({ tenant: tenantOf(request), device: id, metrics, fromTs, toTs })
      return await reply.code(202).header('location', `/api/v1/jobs/${job.id}`).send(transferOf(context).view(job))
    })
  }
}
