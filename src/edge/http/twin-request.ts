/** What requests about twins say: which twin, on which conditions it is changed, and by whom. */
import type { FastifyRequest } from 'fastify'
import { TwinfoldError } from '../../core/errors.js'
import { evaluateFilter } from '../../core/filter/evaluate-filter.js'
import { fieldsOf } from '../../core/filter/filter.js'
import { parseFilter } from '../../core/filter/parse-filter.js'
import { isDeviceId, isTwinName } from '../../core/ids.js'
import type { Device } from '../../tenancy/model.js'
import type { Actor, TwinChange, TwinId, Twins, TwinView } from '../../twin/twin-model.js'
import { tenantOf } from './authorize.js'
import { requireVisible } from './device-access.js'
import type { EdgeContext } from './edge-context.js'
import type { Caller } from './edge-types.js'
import { expectedTag } from './entity-tag.js'
import { deviceNotFound } from './telemetry-admission.js'

export interface TwinParams { readonly id: string, readonly name?: string }

/** @throws TwinfoldError `not_ready` where this server has no twins */
export function twinsOf (context: EdgeContext): Twins {
  const { twins } = context.options
  if (twins === undefined) throw new TwinfoldError('not_ready', 'twins are not served here')
  return twins
}

/** The twin that the path names, of a device that the caller may see. @throws TwinfoldError `not_found`, `invalid_field` */
export async function twinIdOf (context: EdgeContext, request: FastifyRequest): Promise<TwinId> {
  const { id, name = '' } = request.params as TwinParams
  await requireVisible(context, request, id)
  if (name !== '' && !isTwinName(name)) throw new TwinfoldError('invalid_field', "a twin's name is 1 to 64 characters of A-Z a-z 0-9 . _ : @ - and none of reported, desired, delta, get, accepted, rejected", { field: 'name' })
  return { tenant: tenantOf(request), device: id, name }
}

export function twinNotFound ({ device, name }: TwinId): TwinfoldError {
  return name === '' ? deviceNotFound(device) : new TwinfoldError('not_found', `device '${device}' has no twin '${name}'`)
}

/** @throws TwinfoldError `not_found` */
export async function requireTwin (context: EdgeContext, id: TwinId): Promise<TwinView> {
  const twin = await twinsOf(context).get(id)
  if (twin === null) throw twinNotFound(id)
  return twin
}

/** @throws TwinfoldError `not_found` */
export async function requireDevice (context: EdgeContext, tenant: string, id: string): Promise<Device> {
  const device = isDeviceId(id) ? await context.options.store.getDevice(tenant, id) : null
  if (device === null) throw deviceNotFound(id)
  return device
}

export function actorOf (request: FastifyRequest): Actor {
  const { principal, role } = request.caller as Caller
  return { kind: role === 'application' ? 'application' : 'operator', id: principal.credentialId, via: 'http' }
}

/**
 * `If-Match`, `If-None-Match: *` and `?if=` as the change's conditions, which are judged on the state that it is committed upon.
 * @throws TwinfoldError `invalid_field`
 */
export async function conditionsOf (context: EdgeContext, request: FastifyRequest, id: TwinId): Promise<Pick<TwinChange, 'ifVersion' | 'condition'>> {
  const tag = expectedTag(request)
  const { if: text } = request.query as { readonly if?: string }
  const holds = text === undefined ? null : await filterCondition(context, id, text)
  const known = tag === '*' ? (twin: TwinView) => id.name === '' || twin.createdAt > 0 : tag === 'none' ? (twin: TwinView) => twin.createdAt === 0 : null
  const condition = holds === null && known === null ? undefined : (twin: TwinView) => (known?.(twin) ?? true) && (holds?.(twin) ?? true)
  const numbered = tag !== null && tag !== '*' && tag !== 'none'
  // A tag that no version has: nothing can be at it.
  return { ...(numbered ? { ifVersion: /^(?:0|[1-9][0-9]{0,15})$/.test(tag) ? Number(tag) : -1 } : {}), ...(condition === undefined ? {} : { condition }) }
}

async function filterCondition (context: EdgeContext, id: TwinId, text: string): Promise<(twin: TwinView) => boolean> {
  const filter = parseFilter(text, 'if')
  const fields = fieldsOf(filter)
  if (fields.some(({ root }) => root === 'latest')) throw new TwinfoldError('invalid_field', "'if' is judged on the twin, where 'latest' values are not known", { field: 'if' })
  const device = await requireDevice(context, id.tenant, id.device)
  const { presence, clock } = context.options
  const asksPresence = fields.some(({ root }) => root === 'lastActivity' || root.startsWith('connection.'))
  const [seen] = asksPresence && presence !== undefined ? await presence.view(id.tenant, [id.device]) : []
  const nowUs = clock.nowUs()
  return twin => evaluateFilter(filter, {
    id: device.id,
    type: device.type,
    name: device.name,
    gateway: device.gatewayId,
    createdAt: device.createdAt,
    tags: id.name === '' ? twin.tags : device.tags ?? {},
    desired: twin.desired,
    reported: twin.reported,
    ...(seen === undefined ? {} : { lastActivity: seen.lastActivity === 0 ? null : seen.lastActivity, connection: { state: seen.connected ? 'connected' : 'disconnected', since: seen.since === 0 ? null : seen.since, reason: seen.reason } })
  }, nowUs)
}
