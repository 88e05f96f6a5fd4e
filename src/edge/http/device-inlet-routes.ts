/**
 * What a device says once, over HTTP: the same way as over MQTT, through the journal to the applier. 200: it is told to the sinks; 202: it
 * is durable and will be (INVARIANTS 1).
 */
import type { FastifyInstance } from 'fastify'
import { errorTable, TwinfoldError, type ErrorCode } from '../../core/errors.js'
import type { MessageOutcome } from '../../inlet/device-message.js'
import { authorizeHook, tenantOf } from './authorize.js'
import { requireVisible } from './device-access.js'
import type { EdgeContext } from './edge-context.js'
import { idSchema, routeDocs } from './route-docs.js'
import { checkerOf, type Schema } from './schema-check.js'

const eventBytesMax = 180 * 1024
/** An answer does not wait longer for the store. */
const waitMs = 2000

const outcomeSchema: Schema = { type: 'object', properties: { outcome: { type: 'string', enum: ['applied', 'accepted'] } } }

/** The error that a refused message is answered with. */
export function refusalError (outcome: Extract<MessageOutcome, { kind: 'refused' }>): TwinfoldError {
  return new TwinfoldError(outcome.code in errorTable ? outcome.code as ErrorCode : 'invalid_request', outcome.detail)
}

export function deviceInletRoutes (context: EdgeContext) {
  return async (app: FastifyInstance): Promise<void> => {
    const { inlet, presence, clock } = context.options
    // Whatever a device sends is an event; a body of no known type too.
    app.removeAllContentTypeParsers()
    app.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => { done(null, body) })
    app.setValidatorCompiler<Schema>(({ schema, httpPart }) => httpPart === 'body' ? () => true : checkerOf(schema, httpPart))
    app.post('/devices/:id/events/:type', {
      ...routeDocs({
        summary: 'Report an event of a device',
        description: 'Forwarded to webhooks, streams and subscribers as `device.event`. 202: it is stored and will be forwarded as soon as the store answers.',
        tag: 'devices',
        params: { type: 'object', required: ['id', 'type'], properties: { id: idSchema, type: { type: 'string', minLength: 1, maxLength: 128, pattern: '^[^/+#\\u0000]+$' } } },
        answers: { 200: { description: 'Forwarded.', schema: outcomeSchema }, 202: { description: 'Stored.', schema: outcomeSchema } },
        errors: ['payload_too_large', 'journal_unavailable', 'journal_full', 'throttled']
      }),
      bodyLimit: eventBytesMax,
      onRequest: authorizeHook(context, ['operator', 'application', 'device'])
    }, async (request, reply) => {
      if (inlet === undefined) throw new TwinfoldError('not_ready', 'this server takes no events')
      const { id, type } = request.params as { id: string, type: string }
      await requireVisible(context, request, id)
      const tenant = tenantOf(request)
      if (request.caller?.role === 'device') presence?.noteActivity(tenant, id, clock.nowUs())
      const payload = request.body instanceof Buffer ? request.body : Buffer.alloc(0)
      const outcome = await inlet.submit({ tenant, device: id, path: `events/${type}`, payload }, waitMs)
      if (outcome?.kind === 'refused') throw refusalError(outcome)
      return await reply.code(outcome === null ? 202 : 200).send({ outcome: outcome === null ? 'accepted' : 'applied' })
    })
  }
}
