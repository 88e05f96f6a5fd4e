/** API keys: of a tenant (operator, application, viewer) or, for a platform admin without X-Tenant, of the platform. */
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { TwinfoldError } from '../../core/errors.js'
import { newCredential } from '../../gate/authenticate.js'
import type { Credential, Role } from '../../tenancy/model.js'
import { authorizeHook } from './authorize.js'
import { credentialNotFound, credentialSchema, credentialView, findCredential, labelSchema, listCredentialsWhere, revoke, secretSchema } from './credential-view.js'
import { nextCursor, storeCursor } from './cursor.js'
import type { EdgeContext } from './edge-context.js'
import { idParams, pageQuery, pageSchema, routeDocs } from './route-docs.js'

const isKey = (credential: Credential): boolean => credential.role !== 'device'
/** null: the platform. */
const scopeOf = (request: FastifyRequest): string | null => request.caller?.tenant ?? null

export function keyRoutes (context: EdgeContext) {
  return async (app: FastifyInstance): Promise<void> => {
    const { store, clock } = context.options
    const onRequest = authorizeHook(context, ['operator'], 'either')

    app.post('/keys', {
      ...routeDocs({
        summary: 'Make an API key',
        description: 'Roles: operator (everything in the tenant), application (telemetry in, reads), viewer (reads). An admin key without X-Tenant makes admin keys of the platform.',
        tag: 'keys',
        body: { type: 'object', required: ['role'], additionalProperties: false, properties: { role: { type: 'string', enum: ['operator', 'application', 'viewer', 'admin'] }, label: labelSchema } },
        answers: { 201: { description: 'Made; the secret is shown this once.', schema: secretSchema } }
      }),
      onRequest
    }, async (request, reply) => {
      const { role, label = '' } = request.body as { role: Role, label?: string }
      const tenant = scopeOf(request)
      if ((role === 'admin') !== (tenant === null)) {
        throw new TwinfoldError('invalid_field', tenant === null ? 'a platform key has role admin; name a tenant in X-Tenant for the others' : 'a key of a tenant is operator, application or viewer', { field: 'role' })
      }
      const { secret, credential } = newCredential(role, tenant, null, label, clock.nowUs())
      await store.putCredential(credential)
      return await reply.code(201).header('location', `/api/v1/keys/${credential.id}`).send({ id: credential.id, role, label, secret })
    })

    app.get('/keys', {
      ...routeDocs({
        summary: 'List API keys',
        description: 'Without the tokens of devices. A page may be short or empty and still have a `next`.',
        tag: 'keys',
        query: pageQuery(),
        answers: { 200: { description: 'A page, in order of id; without secrets.', schema: pageSchema('keys', credentialSchema) } }
      }),
      onRequest
    }, async request => {
      const tenant = scopeOf(request)
      const { limit = 100, cursor } = request.query as { limit?: number, cursor?: string }
      const query = ['keys', tenant ?? '']
      const page = await listCredentialsWhere(context, tenant, isKey, storeCursor(query, cursor), limit)
      return { keys: page.items.map(credentialView), next: nextCursor(query, page.next) }
    })

    app.delete('/keys/:id', {
      ...routeDocs({
        summary: 'Revoke an API key',
        description: 'It is refused at once; connections that used it are cut. A key cannot revoke itself, so that nobody locks himself out.',
        tag: 'keys',
        params: idParams,
        answers: { 204: { description: 'Revoked.' } }
      }),
      onRequest
    }, async (request, reply) => {
      const { id } = request.params as { id: string }
      const tenant = scopeOf(request)
      if (id === request.caller?.principal.credentialId) throw new TwinfoldError('forbidden', 'a key cannot revoke itself; use another one')
      if (await findCredential(context, tenant, id, isKey) === null) throw credentialNotFound(id)
      await revoke(context, tenant, id)
      return await reply.code(204).send()
    })
  }
}
