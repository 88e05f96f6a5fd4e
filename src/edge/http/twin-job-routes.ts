/** Bulk changes of twins: `POST /twins/jobs`. They are followed and stopped like every job (job-routes.ts). */
import type { FastifyInstance } from 'fastify'
import { TwinfoldError } from '../../core/errors.js'
import { filterCharsMax } from '../../core/filter/filter.js'
import type { TwinJobs } from '../../search/twin-jobs.js'
import type { Actor, JsonObject } from '../../twin/twin-model.js'
import { authorizeHook, tenantOf } from './authorize.js'
import type { EdgeContext } from './edge-context.js'
import { jobSchema } from './job-schema.js'
import { routeDocs } from './route-docs.js'
import { transferOf } from './transfer-source.js'

export type TwinJobSource = Pick<TwinJobs, 'create' | 'dryRun'>

interface JobBody {
  readonly filter?: string
  readonly devices?: readonly string[]
  readonly patch: { readonly desired?: JsonObject, readonly tags?: Readonly<Record<string, string | null>> }
  readonly condition?: string
  readonly reason?: string
}

const docs = routeDocs({
  summary: 'Change many twins',
  description: 'A merge patch of desired state, tags or both, for the devices that a filter finds (as GET /devices) or that are named (1,000 at most). Answers with a job: GET /jobs/{id} follows it, DELETE stops it. At most 5 such jobs are open in a tenant. Devices are chosen in order of id, as search has them when their turn comes.',
  tag: 'devices',
  query: { type: 'object', additionalProperties: false, properties: { dryRun: { type: 'boolean', default: false, description: 'Only say how many devices it would take, and some of them.' } } },
  body: {
    type: 'object',
    required: ['patch'],
    additionalProperties: false,
    properties: {
      filter: { type: 'string', minLength: 1, maxLength: filterCharsMax, description: 'Which devices, as in GET /devices.' },
      devices: { type: 'array', maxItems: 1000, items: { type: 'string', maxLength: 128 }, description: 'Instead of a filter.' },
      patch: {
        type: 'object',
        additionalProperties: false,
        properties: { desired: { type: 'object', description: 'Merge patch (RFC 7396).' }, tags: { type: 'object', additionalProperties: { type: ['string', 'null'], maxLength: 256 }, description: 'null takes a tag away.' } }
      },
      condition: { type: 'string', minLength: 1, maxLength: filterCharsMax, description: 'A filter over id, tags, desired and reported that must hold for the twin when it is changed; twins that it does not hold for are left as they are.' },
      reason: { type: 'string', maxLength: 256, description: 'For the history of every twin.' }
    }
  },
  answers: {
    200: { description: 'Of a dry run: how many devices, and the first of them.', schema: { type: 'object', properties: { count: { type: 'integer' }, sample: { type: 'array', items: { type: 'string' } } } } },
    202: { description: 'The job.', schema: jobSchema }
  },
  errors: ['limit_reached', 'analytics_unavailable']
})

export function twinJobRoutes (context: EdgeContext) {
  return async (app: FastifyInstance): Promise<void> => {
    app.post('/twins/jobs', { ...docs, onRequest: authorizeHook(context, ['operator', 'application']) }, async (request, reply) => {
      const { twinJobs } = context.options
      if (twinJobs === undefined) throw new TwinfoldError('not_ready', 'bulk changes are not offered by this server now')
      const { filter = null, devices = null, patch, condition = null, reason = '' } = request.body as JobBody
      const { role, principal } = request.caller as NonNullable<typeof request.caller>
      const actor: Actor = { kind: role === 'application' ? 'application' : 'operator', id: principal.credentialId, via: 'job' }
      const asked = { filter, devices, patch, condition, reason, actor }
      if ((request.query as { dryRun?: boolean }).dryRun === true) return await twinJobs.dryRun(tenantOf(request), asked)
      const job = await twinJobs.create(tenantOf(request), asked)
      return await reply.code(202).header('location', `/api/v1/jobs/${job.id}`).send(transferOf(context).view(job))
    })
  }
}
