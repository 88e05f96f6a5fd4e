/** Tenants: made and changed by platform admins; a tenant's own people may read theirs. */
import type { FastifyInstance } from 'fastify'
import { TwinfoldError } from '../../core/errors.js'
import { isTenantId } from '../../core/ids.js'
import { tenantIdCharsMax } from '../../core/limits.js'
import { newCredential } from '../../gate/authenticate.js'
import { tiers } from '../../store/tier-store.js'
import { retentionDaysDefault, retentionDaysMax, tierRetentionDefault, type RetentionEntry, type Tenant, type TierRetentionEntry } from '../../tenancy/model.js'
import { authorizeHook } from './authorize.js'
import { nextCursor, storeCursor } from './cursor.js'
import { cutOff } from './cut-off.js'
import type { EdgeContext } from './edge-context.js'
import { isoTime } from './query-time.js'
import { idParams, pageQuery, pageSchema, routeDocs } from './route-docs.js'
import type { Schema } from './schema-check.js'
import { secretSchema } from './credential-view.js'

/** A tenant's record keeps this many changes of retention; setting more joins the two oldest. */
const retentionEntriesMax = 32

const tenantSchema: Schema = {
  type: 'object',
  properties: {
    id: { type: 'string' },
    name: { type: 'string' },
    disabled: { type: 'boolean' },
    retentionDays: { type: 'integer' },
    tierRetention: { type: 'object', description: 'Days that rows of each tier are kept.', properties: { '1m': { type: 'integer' }, '1h': { type: 'integer' }, '1d': { type: 'integer' } } },
    createdAt: { type: 'string', format: 'date-time' }
  }
}
const nameSchema: Schema = { type: 'string', minLength: 1, maxLength: 256 }
const retentionSchema: Schema = { type: 'integer', minimum: 1, maximum: retentionDaysMax }
const tierRetentionSchema: Schema = {
  type: 'object', minProperties: 1, additionalProperties: false, properties: Object.fromEntries(tiers.map(tier => [tier, retentionSchema]))
}

export function tenantView (tenant: Tenant): object {
  const { id, name, disabled, createdAt, retention } = tenant
  return { id, name, disabled, retentionDays: retention[retention.length - 1].days, tierRetention: tierDaysNow(tenant), createdAt: isoTime(createdAt) }
}

/** Pure. What arrived before `stamp` keeps its retention. */
export function withRetention (entries: readonly RetentionEntry[], stamp: number, days: number): readonly RetentionEntry[] {
  if (entries[entries.length - 1].days === days) return entries
  const all = [...entries, { sinceStamp: stamp, days }]
  // The longer of the two oldest: joining must not make anything expire early.
  if (all.length > retentionEntriesMax) all.splice(0, 2, { sinceStamp: 0, days: Math.max(all[0].days, all[1].days) })
  return all
}

type TierDays = TierRetentionEntry['days']

function tierDaysNow (tenant: Pick<Tenant, 'tierRetention'>): TierDays {
  return tenant.tierRetention?.at(-1)?.days ?? tierRetentionDefault
}

/** Pure. As `withRetention`, for the tiers; those that are not named keep theirs. */
export function withTierRetention (tenant: Pick<Tenant, 'tierRetention'>, stamp: number, days: Partial<TierDays>): readonly TierRetentionEntry[] {
  const now = tierDaysNow(tenant)
  const next = { ...now, ...days }
  const entries = tenant.tierRetention ?? [{ sinceStamp: 0, days: tierRetentionDefault }]
  if (tiers.every(tier => next[tier] === now[tier])) return entries
  const all = [...entries, { sinceStamp: stamp, days: next }]
  if (all.length > retentionEntriesMax) {
    const joined = Object.fromEntries(tiers.map(tier => [tier, Math.max(all[0].days[tier], all[1].days[tier])])) as TierDays
    all.splice(0, 2, { sinceStamp: 0, days: joined })
  }
  return all
}

const tenantNotFound = (): TwinfoldError => new TwinfoldError('not_found', 'there is no tenant with this id that this credential may see')

interface TenantChange { readonly name?: string, readonly disabled?: boolean, readonly retentionDays?: number, readonly tierRetention?: Partial<TierDays> }

/** Changes one tenant's record and everything that remembers it on this node. */
async function changeTenant (context: EdgeContext, id: string, change: TenantChange): Promise<Tenant> {
  const { store, tenants, authenticator } = context.options
  const changed = await context.changes.run(`tenant\0${id}`, async () => {
    const tenant = isTenantId(id) ? await store.getTenant(id) : null
    if (tenant === null) throw tenantNotFound()
    const next: Tenant = {
      ...tenant,
      name: change.name ?? tenant.name,
      disabled: change.disabled ?? tenant.disabled,
      retention: change.retentionDays === undefined ? tenant.retention : withRetention(tenant.retention, context.stamps.now(), change.retentionDays),
      ...(change.tierRetention === undefined ? {} : { tierRetention: withTierRetention(tenant, context.stamps.now(), change.tierRetention) })
    }
    await store.updateTenant(next)
    return next
  })
  tenants.forget(id)
  if (change.disabled === true) cutOff(context, { kind: 'tenant', tenant: id })
  else if (change.disabled === false) authenticator.forget(principal => principal.tenant === id)
  return changed
}

export function tenantRoutes (context: EdgeContext) {
  return async (app: FastifyInstance): Promise<void> => {
    const { store, clock, tenants } = context.options
    const admin = authorizeHook(context, [], 'platform')

    app.post('/tenants', {
      ...routeDocs({
        summary: 'Create a tenant',
        description: 'The answer holds an operator key of the tenant, shown this once.',
        tag: 'tenants',
        body: {
          type: 'object',
          required: ['id'],
          additionalProperties: false,
          properties: { id: { type: 'string', pattern: `^[a-z0-9][a-z0-9_\\-]{0,${tenantIdCharsMax - 1}}$` }, name: nameSchema, retentionDays: retentionSchema, tierRetention: tierRetentionSchema }
        },
        answers: { 201: { description: 'Created.', schema: { type: 'object', properties: { tenant: tenantSchema, key: secretSchema } } } },
        errors: ['already_exists']
      }),
      onRequest: admin
    }, async (request, reply) => {
      const { id, name = id, retentionDays = retentionDaysDefault, tierRetention } = request.body as { id: string, name?: string, retentionDays?: number, tierRetention?: Partial<TierDays> }
      const now = clock.nowUs()
      const tenant: Tenant = {
        id, name, createdAt: now, retention: [{ sinceStamp: 0, days: retentionDays }], disabled: false,
        ...(tierRetention === undefined ? {} : { tierRetention: [{ sinceStamp: 0, days: { ...tierRetentionDefault, ...tierRetention } }] })
      }
      if (!await store.createTenant(tenant)) throw new TwinfoldError('already_exists', `tenant '${id}' exists already`, { field: 'id' })
      const { secret, credential } = newCredential('operator', id, null, 'first operator key', now)
      await store.putCredential(credential)
      tenants.forget(id)
      return await reply.code(201).header('location', `/api/v1/tenants/${id}`)
        .send({ tenant: tenantView(tenant), key: { id: credential.id, role: credential.role, label: credential.label, secret } })
    })

    app.get('/tenants', {
      ...routeDocs({ summary: 'List tenants', tag: 'tenants', query: pageQuery(), answers: { 200: { description: 'A page, in order of id.', schema: pageSchema('tenants', tenantSchema) } } }),
      onRequest: admin
    }, async request => {
      const { limit = 100, cursor } = request.query as { limit?: number, cursor?: string }
      const page = await store.listTenants(storeCursor(['tenants'], cursor), limit)
      return { tenants: page.items.map(tenantView), next: nextCursor(['tenants'], page.next) }
    })

    app.get('/tenants/:id', {
      ...routeDocs({ summary: 'Get a tenant', tag: 'tenants', params: idParams, answers: { 200: { description: 'The tenant.', schema: tenantSchema } } }),
      onRequest: authorizeHook(context, ['operator', 'application', 'viewer'], 'either')
    }, async request => {
      const { id } = request.params as { id: string }
      const own = request.caller?.tenant ?? null
      // Another tenant and none at all: the same answer, and the same look-ups.
      const tenant = isTenantId(id) && (own === null || own === id) ? await store.getTenant(id) : null
      if (tenant === null) throw tenantNotFound()
      return tenantView(tenant)
    })

    app.patch('/tenants/:id', {
      ...routeDocs({
        summary: 'Change a tenant',
        description: 'A new retention applies to what arrives from now on, one of the tiers (`tierRetention`) to what is sealed from now on; a shorter one holds for answers at once. Disabling refuses every credential of the tenant and cuts its connections.',
        tag: 'tenants',
        params: idParams,
        body: { type: 'object', minProperties: 1, additionalProperties: false, properties: { name: nameSchema, disabled: { type: 'boolean' }, retentionDays: retentionSchema, tierRetention: tierRetentionSchema } },
        answers: { 200: { description: 'The tenant as it is now.', schema: tenantSchema } }
      }),
      onRequest: admin
    }, async request => {
      const { id } = request.params as { id: string }
      return tenantView(await changeTenant(context, id, request.body as TenantChange))
    })
  }
}
