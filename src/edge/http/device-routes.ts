/** Devices of a tenant: registered, changed, and deleted with everything that belongs to them. */
import type { FastifyInstance } from 'fastify'
import { TwinfoldError } from '../../core/errors.js'
import { isDeviceId } from '../../core/ids.js'
import { deviceIdCharsMax } from '../../core/limits.js'
import { newCredential } from '../../gate/authenticate.js'
import type { Device } from '../../tenancy/model.js'
import { authorizeHook, tenantOf } from './authorize.js'
import { secretSchema } from './credential-view.js'
import { nextCursor, storeCursor } from './cursor.js'
import { checkedTags, tagsSchema, type Tags } from './device-tags.js'
import { requireVisible } from './device-access.js'
import { isSearch, searchAnswerSchemas, searchDevices, searchSchemas, type SearchParameters } from './device-search.js'
import { connectionSchema, connectionsOf } from './connection-view.js'
import { cutOff } from './cut-off.js'
import type { EdgeContext } from './edge-context.js'
import { isoTime } from './query-time.js'
import { idParams, pageQuery, pageSchema, routeDocs } from './route-docs.js'
import type { Schema } from './schema-check.js'
import { deviceNotFound } from './telemetry-admission.js'
import { actorOf } from './twin-request.js'
import type { Actor } from '../../twin/twin-model.js'

const textSchema: Schema = { type: 'string', maxLength: 256 }
const deviceIdSchema: Schema = { type: 'string', pattern: `^[A-Za-z0-9._:@\\-]{1,${deviceIdCharsMax}}$` }
const changeable: Readonly<Record<string, Schema>> = {
  name: textSchema,
  type: textSchema,
  gateway: { type: 'boolean', description: 'May speak for the devices whose gatewayId names it.' },
  gatewayId: { type: ['string', 'null'], maxLength: deviceIdCharsMax, description: 'A gateway of the same tenant.' },
  tags: tagsSchema
}
const deviceSchema: Schema = {
  type: 'object',
  properties: { id: { type: 'string' }, name: { type: 'string' }, type: { type: 'string' }, gateway: { type: 'boolean' }, gatewayId: { type: ['string', 'null'] }, tags: { type: 'object', additionalProperties: { type: 'string' } }, createdAt: { type: 'string', format: 'date-time' }, connection: connectionSchema }
}

const devicesQuery = pageQuery({ gatewayId: { type: 'string', maxLength: deviceIdCharsMax, description: 'Only the devices of that gateway; of the listing.' }, ...searchSchemas })
const listing = pageSchema('devices', deviceSchema)
const devicesPage: Schema = { ...listing, properties: { ...listing.properties, ...searchAnswerSchemas } }

interface DeviceChange { readonly name?: string, readonly type?: string, readonly gateway?: boolean, readonly gatewayId?: string | null, readonly tags?: Tags }

export function deviceView ({ id, name, type, gateway, gatewayId, tags = {}, createdAt }: Device): object {
  return { id, name, type, gateway, gatewayId, tags, createdAt: isoTime(createdAt) }
}

async function requireGateway (context: EdgeContext, tenant: string, id: string, gatewayId: string | null | undefined): Promise<void> {
  if (gatewayId === null || gatewayId === undefined) return
  const gateway = isDeviceId(gatewayId) && gatewayId !== id ? await context.options.store.getDevice(tenant, gatewayId) : null
  if (gateway === null || !gateway.gateway) throw new TwinfoldError('invalid_field', `'gatewayId' must name another device of this tenant that is a gateway`, { field: 'gatewayId' })
}

async function createDevice (context: EdgeContext, tenant: string, body: DeviceChange & { readonly id: string }, actor: Actor): Promise<{ device: Device, token: object }> {
  const { store, clock } = context.options
  const { id, name = '', type = '', gateway = false, gatewayId = null, tags = {} } = body
  const device: Device = { tenant, id, name, type, gateway, gatewayId, createdAt: clock.nowUs(), tags: checkedTags(tags) }
  return await context.changes.run(`device\0${tenant}\0${id}`, async () => {
    await requireGateway(context, tenant, id, gatewayId)
    if (!await store.createDevice(device)) throw new TwinfoldError('already_exists', `device '${id}' exists already`, { field: 'id' })
    // Before it has a token, so before it can say anything.
    await context.options.twins?.deviceCreated(tenant, id, device.tags ?? {}, actor)
    const { secret, credential } = newCredential('device', tenant, id, 'first token', device.createdAt)
    await store.putCredential(credential)
    noteDevice(context, tenant, id)
    return { device, token: { id: credential.id, role: credential.role, label: credential.label, secret } }
  })
}

/** The device was made, changed or deleted: whoever remembers it looks again. */
function noteDevice (context: EdgeContext, tenant: string, id: string): void {
  const { analytics, search, deviceChanged } = context.options
  context.devices.forget(tenant, id)
  analytics?.noteDevice(tenant, id)
  search?.noteDevice(tenant, id)
  deviceChanged?.(tenant, id)
}

/** Tags are the twin's (src/twin); the registry has a copy, which the change of the twin writes. */
async function changeTags (context: EdgeContext, tenant: string, id: string, tags: Tags, actor: Actor): Promise<void> {
  const outcome = await context.options.twins?.change({ tenant, device: id, name: '' }, { tags, replace: true }, actor)
  if (outcome?.kind === 'refused') throw outcome.code === 'not_found' ? deviceNotFound(id) : new TwinfoldError(outcome.code, outcome.detail, { field: 'tags' })
  noteDevice(context, tenant, id)
}

async function changeDevice (context: EdgeContext, tenant: string, id: string, asked: DeviceChange, actor: Actor): Promise<Device> {
  const { store, twins } = context.options
  if (asked.tags !== undefined) checkedTags(asked.tags)
  const { tags, ...rest } = asked
  const throughTwin = twins !== undefined && tags !== undefined
  const changed = await changeRecord(context, tenant, id, throughTwin ? rest : asked)
  if (!throughTwin) return changed
  // Not under the lock of the record, which the copy takes.
  await changeTags(context, tenant, id, tags, actor)
  return await store.getDevice(tenant, id) ?? changed
}

async function changeRecord (context: EdgeContext, tenant: string, id: string, change: DeviceChange): Promise<Device> {
  const { store } = context.options
  return await context.changes.run(`device\0${tenant}\0${id}`, async () => {
    const device = isDeviceId(id) ? await store.getDevice(tenant, id) : null
    if (device === null) throw deviceNotFound(id)
    await requireGateway(context, tenant, id, change.gatewayId)
    const { name, type, gateway, gatewayId, tags = {} } = { ...device, ...change }
    const next: Device = { ...device, name, type, gateway, gatewayId, tags: checkedTags(tags) }
    await store.updateDevice(next)
    noteDevice(context, tenant, id)
    // A gateway's open connection remembers for whom it may speak.
    if (next.gateway !== device.gateway) cutOff(context, { kind: 'device', tenant, device: id })
    if (next.gatewayId !== device.gatewayId && device.gatewayId !== null) cutOff(context, { kind: 'device', tenant, device: device.gatewayId })
    return next
  })
}

/** Children of a gateway that goes: a device that is later given its id must not inherit them. */
async function releaseChildren (context: EdgeContext, tenant: string, gatewayId: string): Promise<void> {
  const { store } = context.options
  for (;;) {
    const { items } = await store.listDevicesOfGateway(tenant, gatewayId, null, 100)
    if (items.length === 0) return
    for (const { id } of items) {
      await context.changes.run(`device\0${tenant}\0${id}`, async () => {
        const child = await store.getDevice(tenant, id)
        if (child?.gatewayId === gatewayId) await store.updateDevice({ ...child, gatewayId: null })
        noteDevice(context, tenant, id)
      })
    }
  }
}

/**
 * The erasure is written before the device goes, so that a crash in between leaves no readings behind, and once more after,
 * so that it also covers what was accepted meanwhile. Returns its stamp.
 */
async function deleteDevice (context: EdgeContext, tenant: string, id: string, actor: Actor): Promise<{ stamp: number, job: string | null }> {
  const { store } = context.options
  return await context.changes.run(`device\0${tenant}\0${id}`, async () => {
    const device = isDeviceId(id) ? await store.getDevice(tenant, id) : null
    if (device === null) throw deviceNotFound(id)
    await store.putErasure({ tenant, device: id, stamp: context.stamps.now() })
    if (device.gateway) await releaseChildren(context, tenant, id)
    await context.options.twins?.deviceDeleted(tenant, id, actor)
    // Before, so that nothing waits for a device that is later given its id; after, for what was asked for meanwhile.
    await context.options.commands?.deviceDeleted(tenant, id)
    await store.deleteDevice(tenant, id)
    // What it said until it was gone from the registry may have made its twins anew.
    await context.options.twins?.deviceDeleted(tenant, id, actor)
    noteDevice(context, tenant, id)
    cutOff(context, { kind: 'device', tenant, device: id })
    await context.options.commands?.deviceDeleted(tenant, id).catch(() => {})
    const stamp = context.stamps.now()
    await store.putErasure({ tenant, device: id, stamp })
    // A device that is later given its id was never connected. What is left of it where the store is away shows nothing of its data.
    await context.options.presence?.forget(tenant, id).catch(() => {})
    await context.options.alarms?.deviceDeleted(tenant, id)
    // Queries obey the erasure whatever the hot state holds: it may be away.
    await store.hot?.forgetDevice(tenant, id, stamp).catch(() => {})
    const job = await context.options.transfer?.erase({ tenant, device: id, metrics: null, fromTs: null, toTs: null, deviceDeleted: true, stamp })
    return { stamp, job: job?.id ?? null }
  })
}

export function deviceRoutes (context: EdgeContext) {
  return async (app: FastifyInstance): Promise<void> => {
    const { store } = context.options
    const operator = authorizeHook(context, ['operator'])
    const readers = authorizeHook(context, ['operator', 'application', 'viewer'])
    const readersAndSelf = authorizeHook(context, ['operator', 'application', 'viewer', 'device'])

    app.post('/devices', {
      ...routeDocs({
        summary: 'Register a device',
        description: 'The answer holds a token of the device, shown this once.',
        tag: 'devices',
        body: { type: 'object', required: ['id'], additionalProperties: false, properties: { id: deviceIdSchema, ...changeable } },
        answers: { 201: { description: 'Registered.', schema: { type: 'object', properties: { device: deviceSchema, token: secretSchema } } } },
        errors: ['already_exists']
      }),
      onRequest: operator
    }, async (request, reply) => {
      const { device, token } = await createDevice(context, tenantOf(request), request.body as DeviceChange & { id: string }, actorOf(request))
      return await reply.code(201).header('location', `/api/v1/devices/${encodeURIComponent(device.id)}`).send({ device: deviceView(device), token })
    })

    app.get('/devices', {
      ...routeDocs({
        summary: 'List or search devices',
        description: 'Without filter, sort, fields, count and device: the registry, in order of id. With any of them: a search over registry, twins, presence and latest values, served by analytics; `lag` says how far that is behind.',
        tag: 'devices',
        query: devicesQuery,
        answers: { 200: { description: 'A page.', schema: devicesPage } },
        errors: ['analytics_unavailable']
      }),
      onRequest: readers
    }, async request => {
      if (isSearch(request.query as SearchParameters)) return await searchDevices(context, request)
      const tenant = tenantOf(request)
      const { limit = 100, cursor, gatewayId } = request.query as { limit?: number, cursor?: string, gatewayId?: string }
      const query = ['devices', tenant, gatewayId ?? '']
      const at = storeCursor(query, cursor)
      const page = gatewayId === undefined ? await store.listDevices(tenant, at, limit) : await store.listDevicesOfGateway(tenant, gatewayId, at, limit)
      const connections = await connectionsOf(context, tenant, page.items.map(({ id }) => id))
      return { devices: page.items.map((device, i) => ({ ...deviceView(device), ...connections[i] })), next: nextCursor(query, page.next) }
    })

    app.get('/devices/:id', {
      ...routeDocs({ summary: 'Get a device', tag: 'devices', params: idParams, answers: { 200: { description: 'The device.', schema: deviceSchema } } }),
      onRequest: readersAndSelf
    }, async request => {
      const { id } = request.params as { id: string }
      await requireVisible(context, request, id)
      const device = await store.getDevice(tenantOf(request), id)
      if (device === null) throw deviceNotFound(id)
      return { ...deviceView(device), ...(await connectionsOf(context, device.tenant, [id]))[0] }
    })

    app.patch('/devices/:id', {
      ...routeDocs({
        summary: 'Change a device',
        tag: 'devices',
        params: idParams,
        body: { type: 'object', minProperties: 1, additionalProperties: false, properties: changeable },
        answers: { 200: { description: 'The device as it is now.', schema: deviceSchema } }
      }),
      onRequest: operator
    }, async request => deviceView(await changeDevice(context, tenantOf(request), (request.params as { id: string }).id, request.body as DeviceChange, actorOf(request))))

    app.delete('/devices/:id', {
      ...routeDocs({
        summary: 'Delete a device and everything it sent',
        description: 'Its tokens are revoked, its connections cut, and its readings no longer answered at once; their bytes go with the next compaction.',
        tag: 'devices',
        params: idParams,
        answers: { 200: { description: 'Deleted.', schema: { type: 'object', properties: { deleted: { type: 'boolean' }, erasedBefore: { type: 'integer', description: 'Readings accepted before this stamp (microseconds) are erased.' }, job: { type: ['string', 'null'], description: 'The job that follows until they are gone from raw, tiers and analytics.' } } } } }
      }),
      onRequest: operator
    }, async request => {
      const { stamp, job } = await deleteDevice(context, tenantOf(request), (request.params as { id: string }).id, actorOf(request))
      return { deleted: true, erasedBefore: stamp, job }
    })
  }
}
