/** Which devices a caller may see: all of the tenant, or for a device itself and, for a gateway, its children. */
import type { FastifyRequest } from 'fastify'
import { isDeviceId } from '../../core/ids.js'
import { tenantOf } from './authorize.js'
import type { EdgeContext } from './edge-context.js'
import { deviceNotFound } from './telemetry-admission.js'

/** @throws TwinfoldError `not_found`, in the same words for a device that is not there and one that is not the caller's. */
export async function requireVisible (context: EdgeContext, request: FastifyRequest, id: string): Promise<void> {
  const tenant = tenantOf(request)
  if (!isDeviceId(id)) throw deviceNotFound(id)
  const device = await context.devices.find(tenant, id)
  const self = request.caller?.role === 'device' ? request.caller.principal.device as string : null
  if (self !== null && self !== id) {
    const gateway = await context.devices.find(tenant, self)
    if (!gateway.known || !gateway.gateway || device.gatewayId !== self) throw deviceNotFound(id)
  }
  if (!device.known) throw deviceNotFound(id)
}
