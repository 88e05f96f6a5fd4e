/** How credentials are shown, found and revoked. A secret is shown once, when it is made, and never stored. */
import { TwinfoldError } from '../../core/errors.js'
import type { Credential } from '../../tenancy/model.js'
import { cutOff } from './cut-off.js'
import type { EdgeContext } from './edge-context.js'
import { isoTime } from './query-time.js'
import type { Schema } from './schema-check.js'

export const credentialSchema: Schema = {
  type: 'object',
  properties: {
    id: { type: 'string' },
    role: { type: 'string', enum: ['admin', 'operator', 'application', 'viewer', 'device'] },
    device: { type: ['string', 'null'] },
    label: { type: 'string' },
    createdAt: { type: 'string', format: 'date-time' }
  }
}

export const secretSchema: Schema = {
  type: 'object',
  properties: { id: { type: 'string' }, role: { type: 'string' }, label: { type: 'string' }, secret: { type: 'string', description: 'Shown this once.' } }
}

export const labelSchema: Schema = { type: 'string', maxLength: 256 }

export function credentialView ({ id, role, device, label, createdAt }: Credential): object {
  return { id, role, device, label, createdAt: isoTime(createdAt) }
}

export const credentialNotFound = (id: string): TwinfoldError => new TwinfoldError('not_found', `there is no credential '${id}' here`)

/** Store pages that one request looks at while listing; beyond, the page is short and has a cursor. */
const scanStepsMax = 500

/**
 * A page of the credentials that `wanted` keeps, in order of public id. The store lists all credentials of a tenant together,
 * so this passes over the others.
 */
export async function listCredentialsWhere (context: EdgeContext, tenant: string | null, wanted: (credential: Credential) => boolean, cursor: string | null, limit: number): Promise<{ items: Credential[], next: string | null }> {
  const items: Credential[] = []
  let next = cursor
  for (let step = 0; step < scanStepsMax; step++) {
    // Never more than is missing, so that the store's cursor is the page's.
    const page = await context.options.store.listCredentials(tenant, next, limit - items.length)
    items.push(...page.items.filter(wanted))
    next = page.next
    if (next === null || items.length === limit) break
  }
  return { items, next }
}

/** Credentials read in one go while looking for one. */
const scanPage = 1000

/** The credential of that public id that `wanted` keeps, or null. */
export async function findCredential (context: EdgeContext, tenant: string | null, id: string, wanted: (credential: Credential) => boolean): Promise<Credential | null> {
  let cursor: string | null = null
  do {
    const page: { items: readonly Credential[], next: string | null } = await context.options.store.listCredentials(tenant, cursor, scanPage)
    const found = page.items.find(credential => credential.id === id)
    if (found !== undefined) return wanted(found) ? found : null
    cursor = page.next
  } while (cursor !== null)
  return null
}

/** Revokes at once on this node: cached decisions go, connections that used it are cut. */
export async function revoke (context: EdgeContext, tenant: string | null, id: string): Promise<void> {
  const { store } = context.options
  if (await store.deleteCredential(tenant, id) === null) throw credentialNotFound(id)
  cutOff(context, { kind: 'credential', tenant, credentialId: id })
}
