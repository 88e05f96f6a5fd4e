/** Jobs of a tenant: imports, deletions and bulk changes of twins, to follow and to stop. */
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { TwinfoldError } from '../../core/errors.js'
import type { Job } from '../../store/job-store.js'
import { authorizeHook, tenantOf } from './authorize.js'
import { nextCursor, storeCursor } from './cursor.js'
import type { EdgeContext } from './edge-context.js'
import { jobSchema } from './job-schema.js'
import { idParams, pageQuery, pageSchema, routeDocs } from './route-docs.js'
import { transferOf } from './transfer-source.js'

export function jobRoutes (context: EdgeContext) {
  return async (app: FastifyInstance): Promise<void> => {
    const operator = authorizeHook(context, ['operator'])
    const readers = authorizeHook(context, ['operator', 'application', 'viewer'])
    const jobOf = async (request: FastifyRequest): Promise<Job> => {
      const job = await transferOf(context).get(tenantOf(request), (request.params as { id: string }).id)
      if (job === null) throw new TwinfoldError('not_found', 'there is no job with that id')
      return job
    }

    app.get('/jobs', {
      ...routeDocs({
        summary: 'List jobs',
        description: 'Newest first. Finished ones are kept for a while: the last 500.',
        tag: 'transfer',
        query: pageQuery(),
        answers: { 200: { description: 'A page.', schema: pageSchema('jobs', jobSchema) } }
      }),
      onRequest: readers
    }, async request => {
      const { limit = 100, cursor } = request.query as { limit?: number, cursor?: string }
      const query = ['jobs', tenantOf(request)]
      const page = await transferOf(context).list(tenantOf(request), storeCursor(query, cursor), limit)
      return { jobs: page.items.map(job => transferOf(context).view(job)), next: nextCursor(query, page.next) }
    })

    app.get('/jobs/:id', {
      ...routeDocs({ summary: 'Get a job', tag: 'transfer', params: idParams, answers: { 200: { description: 'The job.', schema: jobSchema } } }),
      onRequest: readers
    }, async request => transferOf(context).view(await jobOf(request)))

    app.delete('/jobs/:id', {
      ...routeDocs({
        summary: 'Stop an import or a bulk change of twins',
        description: 'What it has done stays. A deletion cannot be stopped: its points are erased already.',
        tag: 'transfer',
        params: idParams,
        answers: { 202: { description: 'It stops soon.', schema: jobSchema } },
        errors: ['limit_reached']
      }),
      onRequest: operator
    }, async (request, reply) => {
      const job = await jobOf(request)
      if (job.kind === 'delete') throw new TwinfoldError('limit_reached', 'a deletion cannot be stopped: its points are erased already')
      // One that is finished stays as it is.
      await transferOf(context).cancel(job)
      return await reply.code(202).send(transferOf(context).view(job))
    })
  }
}
