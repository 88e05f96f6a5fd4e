/**
 * Commands over HTTP: asked for, waited for, followed and cancelled by operators and applications; fetched and answered by devices that
 * do not speak MQTT. What is shown keeps apart what the server knows and what the device said (INVARIANTS 6).
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { Command, CommandState } from '../../commands/command.js'
import type { Commands } from '../../commands/commands.js'
import { TwinfoldError } from '../../core/errors.js'
import { idempotencyKeyCharsMax } from '../../core/limits.js'
import { authorizeHook, tenantOf } from './authorize.js'
import { commandJson, commandParams, commandSchema, commandStates, outcomeSchema, pendingJson, pendingSchema, pollMax, requestSchema, waitMsMax } from './command-docs.js'
import { actorOf, commandRequest } from './command-request.js'
import { nextCursor, storeCursor } from './cursor.js'
import { requireVisible } from './device-access.js'
import { refusalError } from './device-inlet-routes.js'
import type { EdgeContext } from './edge-context.js'
import { idParams, pageQuery, pageSchema, routeDocs } from './route-docs.js'
import type { Schema } from './schema-check.js'

/** An answer of a device does not wait longer for the store. */
const answerWaitMs = 2000
const createHeaders: Schema = { type: 'object', properties: { 'idempotency-key': { type: 'string', minLength: 1, maxLength: idempotencyKeyCharsMax, description: 'The same key and body within 24 hours (and while the command is pending) give the same command.' } } }
const waitSchema: Schema = { type: 'integer', minimum: 0, maximum: waitMsMax, description: 'Wait so many ms for the end of the command.' }

export function commandRoutes (context: EdgeContext) {
  return async (app: FastifyInstance): Promise<void> => {
    app.addHook('preClose', done => {
      context.options.commands?.stopWaiting()
      done()
    })
    operatorRoutes(app, context)
    readRoutes(app, context)
    deviceRoutes(app, context)
  }
}

function commandsOf (context: EdgeContext): Commands {
  const { commands } = context.options
  if (commands === undefined) throw new TwinfoldError('not_ready', 'this server sends no commands')
  return commands
}

function commandNotFound (device: string, id: string): TwinfoldError {
  return new TwinfoldError('not_found', `device '${device}' has no command '${id}'; finished ones are kept for 30 days, the newest 1000`)
}

async function sendCommand (reply: FastifyReply, commands: Commands, device: string, command: Command, unfinishedStatus: number): Promise<FastifyReply> {
  const view = commands.view(command)
  void reply.header('location', `/api/v1/devices/${encodeURIComponent(device)}/commands/${command.id}`)
  return await reply.code(view.finished ? 200 : unfinishedStatus).send(commandJson(device, view))
}

function operatorRoutes (app: FastifyInstance, context: EdgeContext): void {
  const senders = authorizeHook(context, ['operator', 'application'])
  app.post('/devices/:id/commands', {
    ...routeDocs({
      summary: 'Send a command to a device',
      description: 'It is on stable storage when this answers. 200: it has come to its end; 202: it is under way (Location). 503: it may or may not have been taken; send it again with the same Idempotency-Key.',
      tag: 'commands',
      params: idParams,
      query: { type: 'object', additionalProperties: false, properties: { wait: waitSchema } },
      headers: createHeaders,
      body: requestSchema,
      answers: { 200: { description: 'It has come to its end.', schema: commandSchema }, 202: { description: 'It is under way.', schema: commandSchema } },
      errors: ['limit_reached', 'idempotency_mismatch', 'journal_unavailable', 'journal_full']
    }),
    onRequest: senders
  }, async (request, reply) => {
    const commands = commandsOf(context)
    const { id } = request.params as { id: string }
    const { wait = 0 } = request.query as { wait?: number }
    await requireVisible(context, request, id)
    const tenant = tenantOf(request)
    const outcome = await commands.create(tenant, id, commandRequest(request, context.options.clock.nowUs()), actorOf(request))
    if (outcome.kind === 'limit_reached') throw new TwinfoldError('limit_reached', outcome.detail)
    if (outcome.kind === 'mismatch') throw new TwinfoldError('idempotency_mismatch', 'this Idempotency-Key was used with another body', { field: 'Idempotency-Key' })
    if (outcome.kind === 'repeated') void reply.header('idempotent-replayed', 'true')
    const command = wait > 0 ? await commands.wait(tenant, id, outcome.command.id, wait) ?? outcome.command : outcome.command
    return await sendCommand(reply, commands, id, command, 202)
  })

  app.post('/devices/:id/commands/:commandId/cancel', {
    ...routeDocs({
      summary: 'Cancel a command',
      description: 'Only before it was handed over: one that was handed over may be carried out, and nobody can call it back. Then 409, and nothing is changed.',
      tag: 'commands',
      params: commandParams,
      answers: { 200: { description: 'It is cancelled; no device will get it.', schema: commandSchema } },
      errors: ['too_late', 'journal_unavailable', 'journal_full']
    }),
    onRequest: senders
  }, async (request, reply) => {
    const commands = commandsOf(context)
    const { id, commandId } = request.params as { id: string, commandId: string }
    await requireVisible(context, request, id)
    const outcome = await commands.cancel(tenantOf(request), id, commandId)
    if (outcome.kind === 'not_found') throw commandNotFound(id, commandId)
    if (outcome.kind === 'too_late') throw new TwinfoldError('too_late', `command '${commandId}' is ${commands.view(outcome.command).state}; it can be cancelled only before it is handed over`)
    return await sendCommand(reply, commands, id, outcome.command, 200)
  })
}

function readRoutes (app: FastifyInstance, context: EdgeContext): void {
  const readers = authorizeHook(context, ['operator', 'application', 'viewer', 'device'])
  app.get('/devices/:id/commands', {
    ...routeDocs({
      summary: 'List commands of a device',
      description: 'Newest first, pending and finished.',
      tag: 'commands',
      params: idParams,
      query: pageQuery({ state: { type: 'string', enum: commandStates }, name: { type: 'string', maxLength: 64 } }),
      answers: { 200: { description: 'A page. With a filter it may hold fewer than `limit` and go on.', schema: pageSchema('commands', commandSchema) } }
    }),
    onRequest: readers
  }, async request => {
    const commands = commandsOf(context)
    const { id } = request.params as { id: string }
    const { limit = 100, cursor, state, name } = request.query as { limit?: number, cursor?: string, state?: CommandState, name?: string }
    await requireVisible(context, request, id)
    const tenant = tenantOf(request)
    const query = ['commands', tenant, id, state ?? '', name ?? '']
    const page = await commands.list(tenant, id, { state: state ?? null, name: name ?? null, before: storeCursor(query, cursor), limit })
    return { commands: page.commands.map(command => commandJson(id, commands.view(command))), next: nextCursor(query, page.next) }
  })

  app.get('/devices/:id/commands/:commandId', {
    ...routeDocs({
      summary: 'Get a command',
      tag: 'commands',
      params: commandParams,
      query: { type: 'object', additionalProperties: false, properties: { wait: waitSchema } },
      answers: { 200: { description: 'The command.', schema: commandSchema } }
    }),
    onRequest: readers
  }, async request => {
    const commands = commandsOf(context)
    const { id, commandId } = request.params as { id: string, commandId: string }
    const { wait = 0 } = request.query as { wait?: number }
    await requireVisible(context, request, id)
    const command = await commands.wait(tenantOf(request), id, commandId, wait)
    if (command === null) throw commandNotFound(id, commandId)
    return commandJson(id, commands.view(command))
  })
}

function deviceRoutes (app: FastifyInstance, context: EdgeContext): void {
  const devices = authorizeHook(context, ['device'])
  app.get('/devices/:id/commands/pending', {
    ...routeDocs({
      summary: 'Fetch the commands that wait for the calling device',
      description: 'For devices that poll. They count as sent, durably, before this answers: a command is given once, and with retries left again at a later request until it is answered. Highest priority first.',
      tag: 'commands',
      params: idParams,
      query: { type: 'object', additionalProperties: false, properties: { limit: { type: 'integer', minimum: 1, maximum: pollMax, default: 10 } } },
      answers: { 200: { description: 'Commands to carry out.', schema: pendingSchema } },
      errors: ['journal_unavailable', 'journal_full']
    }),
    onRequest: devices
  }, async request => {
    const commands = commandsOf(context)
    const { id } = request.params as { id: string }
    const { limit = 10 } = request.query as { limit?: number }
    await requireVisible(context, request, id)
    noteActivity(context, request, id)
    const given = await commands.poll(tenantOf(request), id, limit)
    return { commands: given.map(command => pendingJson(commands.view(command))) }
  })

  app.post('/devices/:id/commands/:commandId/response', {
    ...routeDocs({
      summary: 'Answer a command',
      description: 'As over MQTT. 200: it is recorded; 202: it is on stable storage and will be. A number 0 or 200 to 299, true, "ok", "done" and texts that begin with "succe" mean success.',
      tag: 'commands',
      params: commandParams,
      body: { type: 'object', required: ['status'], additionalProperties: false, properties: { status: { type: ['string', 'number', 'boolean'], maxLength: 256 }, payload: {} } },
      answers: { 200: { description: 'Recorded.', schema: outcomeSchema }, 202: { description: 'Stored.', schema: outcomeSchema } },
      errors: ['journal_unavailable', 'journal_full', 'throttled']
    }),
    onRequest: devices
  }, async (request, reply) => {
    const { inlet } = context.options
    const commands = commandsOf(context)
    if (inlet === undefined) throw new TwinfoldError('not_ready', 'this server takes no answers')
    const { id, commandId } = request.params as { id: string, commandId: string }
    await requireVisible(context, request, id)
    const tenant = tenantOf(request)
    const command = await commands.get(tenant, id, commandId)
    if (command === null) throw commandNotFound(id, commandId)
    noteActivity(context, request, id)
    const outcome = await inlet.submit({ tenant, device: id, path: `commands/${command.name}/response/${commandId}`, payload: Buffer.from(JSON.stringify(request.body)) }, answerWaitMs)
    if (outcome?.kind === 'refused') throw refusalError(outcome)
    return await reply.code(outcome === null ? 202 : 200).send({ outcome: outcome === null ? 'accepted' : 'applied' })
  })
}

function noteActivity (context: EdgeContext, request: FastifyRequest, device: string): void {
  context.options.presence?.noteActivity(tenantOf(request), device, context.options.clock.nowUs())
}
