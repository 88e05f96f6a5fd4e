/**
 * Who asks, and may they ask this at all: the first step of every route but the open ones. A credential that is in the
 * authenticator's cache costs no promise. What exists in other tenants never changes an answer here (INVARIANTS 7).
 */
import type { FastifyReply, FastifyRequest, HookHandlerDoneFunction } from 'fastify'
import { TwinfoldError } from '../../core/errors.js'
import { isTenantId } from '../../core/ids.js'
import type { Principal, Role } from '../../tenancy/model.js'
import type { Caller } from './edge-types.js'
import type { EdgeContext } from './edge-context.js'

/** Where a route acts: in a tenant, on the platform (admins only), or either as the caller says. */
export type RouteScope = 'tenant' | 'platform' | 'either'

const noCredential = 'send Authorization: Bearer <secret> with a device token or an API key'

/** The secret of `Authorization: Bearer …` or `X-Api-Key`; null where there is none. */
export function secretOf (request: FastifyRequest): string | null {
  const { authorization } = request.headers
  if (authorization !== undefined) {
    // RFC 9110 section 11.1: the scheme is case-insensitive.
    if (authorization.startsWith('Bearer ')) return authorization.slice(7)
    return /^bearer +/i.test(authorization) ? authorization.replace(/^bearer +/i, '') : null
  }
  const key = request.headers['x-api-key']
  return typeof key === 'string' && key !== '' ? key : null
}

/** The caller from the cache alone; undefined where somebody must be asked. @throws TwinfoldError as `authorize`. */
export function authorizeNow (context: EdgeContext, request: FastifyRequest, roles: readonly Role[]): Caller | undefined {
  const secret = secretOf(request)
  if (secret === null) throw new TwinfoldError('unauthenticated', noCredential)
  const principal = context.options.authenticator.cached(secret)
  if (principal === undefined) return undefined
  if (principal === null) throw new TwinfoldError('unauthenticated', 'the credential is unknown or was revoked')
  return principal.role === 'admin' ? undefined : tenantCaller(principal, request, roles)
}

function tenantCaller (principal: Principal, request: FastifyRequest, roles: readonly Role[]): Caller {
  const asked = request.headers['x-tenant']
  // The same answer whether the other tenant exists or not.
  if (asked !== undefined && asked !== principal.tenant) throw new TwinfoldError('forbidden', 'this credential belongs to another tenant than X-Tenant names')
  if (!roles.includes(principal.role)) throw new TwinfoldError('forbidden', `role '${principal.role}' may not do this; it takes ${roles.join(' or ')}`)
  return { principal, role: principal.role, tenant: principal.tenant }
}

async function adminCaller (context: EdgeContext, principal: Principal, request: FastifyRequest, scope: RouteScope, roles: readonly Role[]): Promise<Caller> {
  const asked = request.headers['x-tenant']
  if (scope === 'platform' || (scope === 'either' && asked === undefined)) return { principal, role: 'admin', tenant: null }
  if (asked === undefined) throw new TwinfoldError('invalid_field', 'a platform key acts inside a tenant: name it in the X-Tenant header', { field: 'X-Tenant' })
  if (!isTenantId(asked) || await context.options.tenants.get(asked) === null) throw new TwinfoldError('not_found', 'there is no tenant with the id that X-Tenant names')
  if (!roles.includes('operator')) throw new TwinfoldError('forbidden', `a platform key may not do this; it takes ${roles.join(' or ')}`)
  return { principal, role: 'operator', tenant: asked }
}

/**
 * @throws TwinfoldError `unauthenticated`, `forbidden`, for admins also `invalid_field` and `not_found` about X-Tenant.
 */
export async function authorize (context: EdgeContext, request: FastifyRequest, roles: readonly Role[], scope: RouteScope): Promise<Caller> {
  const secret = secretOf(request)
  if (secret === null) throw new TwinfoldError('unauthenticated', noCredential)
  const principal = await context.options.authenticator.authenticate(secret)
  if (principal === null) throw new TwinfoldError('unauthenticated', 'the credential is unknown or was revoked')
  if (principal.role === 'admin') return await adminCaller(context, principal, request, scope, roles)
  if (scope === 'platform') throw new TwinfoldError('forbidden', 'this takes a platform admin key')
  return tenantCaller(principal, request, roles)
}

/** The onRequest hook of a route. Also refuses what arrives while the server stops. */
export function authorizeHook (context: EdgeContext, roles: readonly Role[], scope: RouteScope = 'tenant') {
  return (request: FastifyRequest, _reply: FastifyReply, done: HookHandlerDoneFunction): void => {
    context.stats.requests++
    if (context.closing) { done(new TwinfoldError('not_ready', 'the server is stopping')); return }
    authorize(context, request, roles, scope).then(caller => { request.caller = caller; done() }, done)
  }
}

/** The tenant of an authorized request of scope `tenant`. */
export function tenantOf (request: FastifyRequest): string {
  const tenant = request.caller?.tenant
  if (typeof tenant !== 'string') throw new TwinfoldError('forbidden', 'this takes a credential of a tenant')
  return tenant
}
