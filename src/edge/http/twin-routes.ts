/** Twins over HTTP: read, changed by merge patch or as a whole, on conditions; by their devices through the journal, as over MQTT. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { TwinfoldError, type ErrorCode } from '../../core/errors.js'
import { isDeviceId } from '../../core/ids.js'
import { inParallel } from '../../core/in-parallel.js'
import type { ChangeOutcome, JsonObject, TwinChange, TwinId } from '../../twin/twin-model.js'
import { authorizeHook, tenantOf } from './authorize.js'
import { connectionsOf } from './connection-view.js'
import type { EdgeContext } from './edge-context.js'
import { sendTag } from './entity-tag.js'
import { twinDocs } from './twin-docs.js'
import { twinHistoryRoutes } from './twin-history-routes.js'
import { actorOf, conditionsOf, requireDevice, requireTwin, twinIdOf, twinNotFound, twinsOf } from './twin-request.js'
import { twinView, type TimesForm } from './twin-view.js'
import { parseQueryTime } from './query-time.js'

interface TwinBody { readonly desired?: JsonObject, readonly tags?: Readonly<Record<string, string | null>>, readonly reported?: JsonObject, readonly reason?: string }
interface TwinQuery { readonly times?: TimesForm, readonly at?: string, readonly version?: number }

/** How long a report over HTTP waits to be applied; then it is answered with 202. */
const reportWaitMs = 5000

async function sendTwin (context: EdgeContext, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  const { times = 'iso', at, version } = request.query as TwinQuery
  const id = await twinIdOf(context, request)
  if (at !== undefined || version !== undefined) return await sendPast(context, id, reply, { times, at, version })
  const twin = await requireTwin(context, id)
  void sendTag(reply, String(twin.version))
  if (isKnown(request.headers['if-none-match'], twin.version)) return await reply.code(304).send()
  const device = await requireDevice(context, id.tenant, id.device)
  if (id.name === '') twinsOf(context).seenTags?.(id.tenant, id.device, twin, device.tags ?? {})
  const [connection] = await connectionsOf(context, id.tenant, [id.device])
  return await reply.send(twinView(twin, device, times, connection))
}

/** RFC 9110 section 13.1.2: weak comparison, any of a list. */
function isKnown (header: string | undefined, version: number): boolean {
  return header !== undefined && header.split(',').some(tag => tag.trim() === '*' || tag.trim().replace(/^W\//, '') === `"${version}"`)
}

async function sendPast (context: EdgeContext, id: TwinId, reply: FastifyReply, { times, at, version }: TwinQuery): Promise<FastifyReply> {
  if (at !== undefined && version !== undefined) throw new TwinfoldError('invalid_field', "name 'at' or 'version', not both", { field: 'version' })
  const when = version === undefined ? { stamp: parseQueryTime(at as string, context.stamps.now(), 'at') } : { version }
  const twin = await twinsOf(context).at(id, when)
  if (twin === null) throw new TwinfoldError('not_found', 'the twin was not there then, or it is before the history that is kept')
  return await reply.send(twinView(twin, await requireDevice(context, id.tenant, id.device), times ?? 'iso'))
}

/** @throws TwinfoldError for every outcome that changes nothing but `unchanged` */
async function answerOutcome (context: EdgeContext, reply: FastifyReply, id: TwinId, outcome: ChangeOutcome, times: TimesForm): Promise<FastifyReply> {
  if (outcome.kind === 'refused') {
    if (outcome.code === 'not_found') throw twinNotFound({ ...id, name: '' })
    throw new TwinfoldError(outcome.code, outcome.detail, { field: outcome.field })
  }
  const { twin } = outcome
  void sendTag(reply, String(twin.version))
  if (outcome.kind === 'precondition_failed') throw new TwinfoldError('precondition_failed', `the twin is at version ${twin.version}, and does not meet the conditions of the request`)
  const [device, [connection]] = await Promise.all([requireDevice(context, id.tenant, id.device), connectionsOf(context, id.tenant, [id.device])])
  return await reply.send(twinView(twin, device, times, connection))
}

async function changeTwin (context: EdgeContext, request: FastifyRequest, reply: FastifyReply, replace: boolean): Promise<FastifyReply> {
  const body = request.body as TwinBody
  const id = await twinIdOf(context, request)
  const { times = 'iso' } = request.query as TwinQuery
  if (request.caller?.role === 'device') return await reportState(context, request, reply, id, body, times)
  const { reported, ...change } = body
  if (reported !== undefined) throw new TwinfoldError('forbidden', "'reported' is the device's to change, with its own token")
  if (change.desired === undefined && change.tags === undefined) throw new TwinfoldError('invalid_field', "'desired' or 'tags' must be there", { field: 'desired' })
  const wanted: TwinChange = { ...change, replace, ...await conditionsOf(context, request, id) }
  const outcome = await twinsOf(context).change(id, wanted, actorOf(request))
  if (outcome.kind === 'changed' && change.tags !== undefined) context.devices.forget(id.tenant, id.device)
  return await answerOutcome(context, reply, id, outcome, times)
}

/** Why a report was refused, as codes of this API. */
const refusalCodes: Readonly<Record<string, ErrorCode>> = { twin_too_large: 'limit_reached', too_deep: 'limit_reached', device_unknown: 'not_found' }

async function reportState (context: EdgeContext, request: FastifyRequest, reply: FastifyReply, id: TwinId, body: TwinBody, times: TimesForm): Promise<FastifyReply> {
  const { inlet } = context.options
  const { reported } = body
  if (reported === undefined || Object.keys(body).some(key => key !== 'reported')) throw new TwinfoldError('forbidden', "a device changes 'reported', and nothing else of its twin")
  if (request.headers['if-match'] !== undefined || request.headers['if-none-match'] !== undefined || (request.query as object as { if?: string }).if !== undefined) {
    throw new TwinfoldError('invalid_field', 'a report has no conditions: what is older than a leaf loses by its $ts or $version', { field: 'If-Match' })
  }
  if (inlet === undefined) throw new TwinfoldError('not_ready', 'reported state is not accepted here')
  const path = id.name === '' ? 'twin/reported' : `twin/${id.name}/reported`
  const outcome = await inlet.submit({ tenant: id.tenant, device: id.device, path, payload: Buffer.from(JSON.stringify(reported)) }, reportWaitMs)
  if (outcome === null) return await reply.code(202).send({ accepted: true, applied: false })
  if (outcome.kind === 'refused') throw new TwinfoldError(refusalCodes[outcome.code] ?? 'invalid_field', outcome.detail, { field: 'reported' })
  const twin = await requireTwin(context, id)
  const device = await requireDevice(context, id.tenant, id.device)
  return await sendTag(reply, String(twin.version)).send(twinView(twin, device, times))
}

async function getMany (context: EdgeContext, request: FastifyRequest): Promise<object> {
  const { devices, name = '' } = request.body as { readonly devices: readonly string[], readonly name?: string }
  const { times = 'iso' } = request.query as TwinQuery
  const tenant = tenantOf(request)
  const wrong = devices.find((id): boolean => !isDeviceId(id))
  if (wrong !== undefined) throw new TwinfoldError('invalid_field', `'${wrong.slice(0, 200)}' is no device id`, { field: 'devices' })
  const twins = await twinsOf(context).getMany(devices.map(device => ({ tenant, device, name })))
  const there = devices.filter((_, i) => twins[i] !== null)
  const [records, connections] = await Promise.all([
    inParallel(there, async id => await context.options.store.getDevice(tenant, id)),
    connectionsOf(context, tenant, there)
  ])
  let next = 0
  return {
    twins: twins.map(twin => {
      if (twin === null) return null
      const view = twinView(twin, records[next], times, connections[next])
      next++
      return view
    })
  }
}

export function twinRoutes (context: EdgeContext) {
  return async (app: FastifyInstance): Promise<void> => {
    const readers = authorizeHook(context, ['operator', 'application', 'viewer'])
    const readersAndSelf = authorizeHook(context, ['operator', 'application', 'viewer', 'device'])
    const writers = authorizeHook(context, ['operator', 'application'])
    const writersAndSelf = authorizeHook(context, ['operator', 'application', 'device'])
    app.addContentTypeParser('application/merge-patch+json', { parseAs: 'string' }, app.getDefaultJsonParser('error', 'error'))

    for (const path of ['/devices/:id/twin', '/devices/:id/twins/:name'] as const) {
      const named = path.endsWith(':name')
      app.get(path, { ...twinDocs.get(named), onRequest: readersAndSelf }, async (request, reply) => await sendTwin(context, request, reply))
      app.patch(path, { ...twinDocs.patch(named), onRequest: writersAndSelf }, async (request, reply) => await changeTwin(context, request, reply, false))
      app.put(path, { ...twinDocs.put(named), onRequest: writers }, async (request, reply) => await changeTwin(context, request, reply, true))
    }

    app.get('/devices/:id/twins', { ...twinDocs.names, onRequest: readersAndSelf }, async request => {
      const id = await twinIdOf(context, request)
      return { names: (await requireTwin(context, id)).names ?? [] }
    })

    app.delete('/devices/:id/twins/:name', { ...twinDocs.delete, onRequest: writers }, async request => {
      const id = await twinIdOf(context, request)
      if (!await twinsOf(context).remove(id, actorOf(request))) throw twinNotFound(id)
      return { deleted: true }
    })

    app.post('/twins/get', { ...twinDocs.getMany, onRequest: readers }, async request => await getMany(context, request))

    await app.register(twinHistoryRoutes(context))
  }
}
