/** Webhooks: where a tenant's events go, how they do, and what could not be delivered (src/events). For operators. */
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { TwinfoldError } from '../../core/errors.js'
import type { WebhookInput } from '../../events/webhook-model.js'
import { authorizeHook, tenantOf } from './authorize.js'
import { nextCursor, storeCursor } from './cursor.js'
import type { EdgeContext } from './edge-context.js'
import { eventsOf } from './event-routes.js'
import { isoTime, parseQueryTime } from './query-time.js'
import { idParams, pageQuery, pageSchema, routeDocs } from './route-docs.js'
import type { Schema } from './schema-check.js'
import { createdSchema, deliveriesSchema, deliveriesView, inputSchemas, letterSchema, letterView, secretInputSchema, webhookSchema, webhookView } from './webhook-docs.js'

const lettersPerRequestMax = 100
const idsSchema: Schema = { type: 'array', items: { type: 'string', minLength: 1, maxLength: 200 }, minItems: 1, maxItems: lettersPerRequestMax, uniqueItems: true }
const idOf = (request: FastifyRequest): string => (request.params as { id: string }).id
const oneWebhook = { 200: { description: 'The webhook as it is now.', schema: webhookSchema } }

export function webhookRoutes (context: EdgeContext) {
  return async (app: FastifyInstance): Promise<void> => {
    const onRequest = authorizeHook(context, ['operator'])
    resourceRoutes(app, context, onRequest)
    orderRoutes(app, context, onRequest)
    letterRoutes(app, context, onRequest)
  }
}

type OnRequest = ReturnType<typeof authorizeHook>

function resourceRoutes (app: FastifyInstance, context: EdgeContext, onRequest: OnRequest): void {
  app.post('/webhooks', {
    ...routeDocs({
      summary: 'Make a webhook',
      description: 'Events from now on are sent to the URL by POST as CloudEvents, signed after Standard Webhooks (webhook-id, webhook-timestamp, webhook-signature), at least once, in order per device. See docs/EVENTS.md.',
      tag: 'events',
      body: {
        type: 'object',
        required: ['url'],
        additionalProperties: false,
        properties: { id: { type: 'string', pattern: '^[a-z0-9][a-z0-9_-]{0,63}$', description: 'Made up where none is given.' }, ...inputSchemas, secret: secretInputSchema }
      },
      answers: { 201: { description: 'Made; the secret is shown this once.', schema: createdSchema } },
      errors: ['already_exists', 'limit_reached']
    }),
    onRequest
  }, async (request, reply) => {
    const { webhook, secret } = await eventsOf(context).webhooks.create(tenantOf(request), request.body as WebhookInput & { id?: string, url: string })
    return await reply.code(201).header('location', `/api/v1/webhooks/${webhook.id}`).send({ ...webhookView(webhook), secret })
  })

  app.get('/webhooks', {
    ...routeDocs({ summary: 'List webhooks', tag: 'events', answers: { 200: { description: 'All of the tenant, in order of id.', schema: { type: 'object', properties: { webhooks: { type: 'array', items: webhookSchema } } } } } }),
    onRequest
  }, async request => ({ webhooks: (await eventsOf(context).webhooks.list(tenantOf(request))).map(webhookView) }))

  app.get('/webhooks/:id', {
    ...routeDocs({ summary: 'Get a webhook', tag: 'events', params: idParams, answers: oneWebhook }),
    onRequest
  }, async request => webhookView(await eventsOf(context).webhooks.get(tenantOf(request), idOf(request))))

  app.patch('/webhooks/:id', {
    ...routeDocs({
      summary: 'Change a webhook',
      description: 'What is not given stays. `headers` replaces all of them. What waits for a next attempt is tried at once.',
      tag: 'events',
      params: idParams,
      body: { type: 'object', minProperties: 1, additionalProperties: false, properties: inputSchemas },
      answers: oneWebhook
    }),
    onRequest
  }, async request => webhookView(await eventsOf(context).webhooks.update(tenantOf(request), idOf(request), request.body as WebhookInput)))

  app.delete('/webhooks/:id', {
    ...routeDocs({ summary: 'Delete a webhook', description: 'With its dead letters.', tag: 'events', params: idParams, answers: { 204: { description: 'Deleted.' } } }),
    onRequest
  }, async (request, reply) => {
    await eventsOf(context).webhooks.delete(tenantOf(request), idOf(request))
    return await reply.code(204).send()
  })
}

function orderRoutes (app: FastifyInstance, context: EdgeContext, onRequest: OnRequest): void {
  app.post('/webhooks/:id/test', {
    ...routeDocs({
      summary: 'Send a test event now',
      description: 'Of type io.twinfold.webhook.test, past everything that waits.',
      tag: 'events',
      params: idParams,
      answers: { 200: { description: 'What the target said.', schema: { type: 'object', properties: { delivered: { type: 'boolean' }, status: { type: ['integer', 'null'] }, reason: { type: 'string' }, durationMs: { type: 'integer' } } } } }
    }),
    onRequest
  }, async request => await eventsOf(context).webhooks.test(tenantOf(request), idOf(request)))

  app.post('/webhooks/:id/rotate-secret', {
    ...routeDocs({
      summary: 'Give a webhook a new secret',
      description: 'For a day deliveries carry a signature of each, so that the receiver can change over in between.',
      tag: 'events',
      params: idParams,
      body: { type: ['object', 'null'], additionalProperties: false, properties: { secret: secretInputSchema } },
      answers: { 200: { description: 'The new secret, shown this once.', schema: { type: 'object', properties: { secret: { type: 'string' }, oldValidUntil: { type: 'string', format: 'date-time' } } } } }
    }),
    onRequest
  }, async request => {
    const { secret: given } = (request.body ?? {}) as { secret?: string }
    const { secret, oldUntilUs } = await eventsOf(context).webhooks.rotateSecret(tenantOf(request), idOf(request), given)
    return { secret, oldValidUntil: isoTime(oldUntilUs) }
  })

  for (const [name, paused, summary, description] of [
    ['pause', true, 'Pause a webhook', 'Events wait for it in the log, for 7 days.'],
    ['resume', false, 'Resume a paused webhook', 'What waited is delivered first.']
  ] as const) {
    app.post(`/webhooks/:id/${name}`, { ...routeDocs({ summary, description, tag: 'events', params: idParams, answers: oneWebhook }), onRequest },
      async request => webhookView(await eventsOf(context).webhooks.setPaused(tenantOf(request), idOf(request), paused)))
  }

  app.post('/webhooks/:id/replay', {
    ...routeDocs({
      summary: 'Deliver everything again from a time on',
      description: 'The events of that time on that the webhook wants, in order, with the ids they had. What waits is delivered in its turn.',
      tag: 'events',
      params: idParams,
      body: { type: 'object', required: ['from'], additionalProperties: false, properties: { from: { type: 'string', maxLength: 40, description: 'Within the last 7 days: ISO 8601, milliseconds since the epoch, or relative (now-6h).' } } },
      answers: { 202: { description: 'It begins.', schema: webhookSchema } }
    }),
    onRequest
  }, async (request, reply) => {
    const { from } = request.body as { from: string }
    return await reply.code(202).send(webhookView(await eventsOf(context).webhooks.replay(tenantOf(request), idOf(request), parseQueryTime(from, context.options.clock.nowUs(), 'from'))))
  })

  app.get('/webhooks/:id/deliveries', {
    ...routeDocs({ summary: 'How a webhook does', description: 'State, counts, what waits, the last attempts.', tag: 'events', params: idParams, answers: { 200: { description: 'As stored by the nodes that serve it, every half second.', schema: deliveriesSchema } } }),
    onRequest
  }, async request => deliveriesView(await eventsOf(context).webhooks.report(tenantOf(request), idOf(request)), context.options.clock.nowUs()))
}

function letterRoutes (app: FastifyInstance, context: EdgeContext, onRequest: OnRequest): void {
  app.get('/webhooks/:id/dead-letters', {
    ...routeDocs({
      summary: 'List events that could not be delivered',
      description: 'Refused by the target for good, tried for too long, or too old; the newest 1,000 of each of 16 lanes are kept.',
      tag: 'events',
      params: idParams,
      query: pageQuery(),
      answers: { 200: { description: 'A page, in order of time within a lane.', schema: pageSchema('deadLetters', letterSchema) } }
    }),
    onRequest
  }, async request => {
    const tenant = tenantOf(request)
    const { limit = 100, cursor } = request.query as { limit?: number, cursor?: string }
    const query = ['webhook-letters', tenant, idOf(request)]
    const page = await eventsOf(context).webhooks.deadLetters(tenant, idOf(request), storeCursor(query, cursor), limit)
    return { deadLetters: page.items.map(letterView), next: nextCursor(query, page.next) }
  })

  app.post('/webhooks/:id/dead-letters/replay', {
    ...routeDocs({
      summary: 'Send dead letters again',
      description: 'Now, in the order given; one that is delivered is deleted. After three failures, or half a minute, the rest is not tried.',
      tag: 'events',
      params: idParams,
      body: { type: 'object', required: ['ids'], additionalProperties: false, properties: { ids: idsSchema } },
      answers: {
        200: {
          description: 'What became of each.',
          schema: { type: 'object', properties: { delivered: { type: 'integer' }, results: { type: 'array', items: { type: 'object', properties: { id: { type: 'string' }, result: { type: 'string', enum: ['delivered', 'failed', 'not_found', 'cut', 'not_tried'] }, reason: { type: 'string' } } } } } }
        }
      }
    }),
    onRequest
  }, async request => {
    const results = await eventsOf(context).webhooks.replayLetters(tenantOf(request), idOf(request), (request.body as { ids: readonly string[] }).ids)
    return { delivered: results.filter(({ result }) => result === 'delivered').length, results }
  })

  app.delete('/webhooks/:id/dead-letters', {
    ...routeDocs({
      summary: 'Delete dead letters of a webhook',
      tag: 'events',
      params: idParams,
      body: { type: 'object', minProperties: 1, maxProperties: 1, additionalProperties: false, properties: { ids: idsSchema, all: { type: 'boolean' } } },
      answers: { 200: { description: 'How many there were.', schema: { type: 'object', properties: { deleted: { type: 'integer' } } } } }
    }),
    onRequest
  }, async request => {
    const { ids, all } = request.body as { ids?: readonly string[], all?: boolean }
    if (ids === undefined && all !== true) throw new TwinfoldError('invalid_field', `name 'ids', or 'all': true`, { field: 'all' })
    return { deleted: await eventsOf(context).webhooks.deleteDeadLetters(tenantOf(request), idOf(request), ids ?? null) }
  })
}
