/** The OpenAPI 3.1 document, made from the routes' own documents, and a page to read it. */
import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import type { FastifyInstance } from 'fastify'
import { problemSchema } from './route-docs.js'

/** Before the routes: they are collected as they are added. */
export async function registerOpenApi (app: FastifyInstance): Promise<void> {
  app.addSchema(problemSchema)
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'Twinfold',
        version: '1',
        description: 'Telemetry in over HTTP and MQTT, durable before it is acknowledged; devices, credentials, queries and dead letters. Errors are RFC 9457 problem details with a stable `code`.'
      },
      components: {
        securitySchemes: {
          bearer: { type: 'http', scheme: 'bearer', description: 'A device token (twd_…), an API key (twk_…) or a platform admin key (twa_…; with X-Tenant to act inside a tenant).' },
          apiKey: { type: 'apiKey', in: 'header', name: 'X-Api-Key' }
        }
      }
    },
    refResolver: { buildLocalReference: (json, _baseUri, _fragment, index) => typeof json.$id === 'string' ? json.$id : `def-${index}` }
  })
  app.get('/api/v1/openapi.json', { schema: { hide: true } }, (_request, reply) => { void reply.send(app.swagger()) })
  await app.register(async scope => {
    // The page's own assets are checked by nobody.
    scope.setValidatorCompiler(() => () => true)
    await scope.register(swaggerUi, { routePrefix: '/docs', staticCSP: true, uiConfig: { deepLinking: true, tryItOutEnabled: false } })
  })
}
