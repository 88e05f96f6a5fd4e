/** Tokens of a device: made (the secret is shown once), listed, revoked. */
import type { FastifyInstance } from 'fastify'
import { newCredential } from '../../gate/authenticate.js'
import { authorizeHook, tenantOf } from './authorize.js'
import { credentialNotFound, credentialSchema, credentialView, findCredential, labelSchema, listCredentialsWhere, revoke, secretSchema } from './credential-view.js'
import { nextCursor, storeCursor } from './cursor.js'
import { requireVisible } from './device-access.js'
import type { EdgeContext } from './edge-context.js'
import { idParams, idSchema, pageQuery, pageSchema, routeDocs } from './route-docs.js'

export function deviceTokenRoutes (context: EdgeContext) {
  return async (app: FastifyInstance): Promise<void> => {
    const { store, clock } = context.options
    const operator = authorizeHook(context, ['operator'])

    app.post('/devices/:id/tokens', {
      ...routeDocs({
        summary: 'Make another token of a device',
        tag: 'devices',
        params: idParams,
        body: { type: ['object', 'null'], additionalProperties: false, properties: { label: labelSchema } },
        answers: { 201: { description: 'Made.', schema: secretSchema } }
      }),
      onRequest: operator
    }, async (request, reply) => {
      const tenant = tenantOf(request)
      const { id } = request.params as { id: string }
      const { label = '' } = (request.body ?? {}) as { label?: string }
      // Under the device's lock: a token must not outlive a deletion that runs beside it.
      const { secret, credential } = await context.changes.run(`device\0${tenant}\0${id}`, async () => {
        await requireVisible(context, request, id)
        const made = newCredential('device', tenant, id, label, clock.nowUs())
        await store.putCredential(made.credential)
        return made
      })
      return await reply.code(201).send({ id: credential.id, role: credential.role, label: credential.label, secret })
    })

    app.get('/devices/:id/tokens', {
      ...routeDocs({
        summary: 'List the tokens of a device',
        description: 'A page may be short or empty and still have a `next`.',
        tag: 'devices',
        params: idParams,
        query: pageQuery(),
        answers: { 200: { description: 'A page, in order of id; without secrets.', schema: pageSchema('tokens', credentialSchema) } }
      }),
      onRequest: operator
    }, async request => {
      const tenant = tenantOf(request)
      const { id } = request.params as { id: string }
      const { limit = 100, cursor } = request.query as { limit?: number, cursor?: string }
      await requireVisible(context, request, id)
      const query = ['tokens', tenant, id]
      const page = await listCredentialsWhere(context, tenant, credential => credential.device === id, storeCursor(query, cursor), limit)
      return { tokens: page.items.map(credentialView), next: nextCursor(query, page.next) }
    })

    app.delete('/devices/:id/tokens/:token', {
      ...routeDocs({
        summary: 'Revoke a token',
        description: 'It is refused at once; connections that used it are cut.',
        tag: 'devices',
        params: { type: 'object', required: ['id', 'token'], properties: { id: idSchema, token: idSchema } },
        answers: { 204: { description: 'Revoked.' } }
      }),
      onRequest: operator
    }, async (request, reply) => {
      const tenant = tenantOf(request)
      const { id, token } = request.params as { id: string, token: string }
      await requireVisible(context, request, id)
      if (await findCredential(context, tenant, token, credential => credential.device === id) === null) throw credentialNotFound(token)
      await revoke(context, tenant, token)
      return await reply.code(204).send()
    })
  }
}
