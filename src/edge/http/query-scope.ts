/** What questions about a device's past share: which metrics, and how far back its tenant keeps what. */
import type { FastifyReply } from 'fastify'
import { TwinfoldError } from '../../core/errors.js'
import { metricNameBytesMax, metricsPerReadingMax } from '../../core/limits.js'
import { usPerDay } from '../../core/reading.js'
import { tiers, type Tier } from '../../store/tier-store.js'
import { retentionDaysAt, tierClasses, tierDaysAt, type Tenant } from '../../tenancy/model.js'
import type { RangeQuery } from '../../../workers/protocol.js'
import type { DeviceScope } from '../../../workers/query-protocol.js'
import type { EdgeContext } from './edge-context.js'
import type { Schema } from './schema-check.js'

export const metricsSchema: Schema = {
  type: 'array',
  items: { type: 'string', maxLength: metricsPerReadingMax * (metricNameBytesMax + 1) },
  maxItems: metricsPerReadingMax,
  description: 'Names with commas between, or the parameter several times with one name each. Default: all.'
}
export const timesSchema: Schema = { type: 'string', enum: ['iso', 'ms'], default: 'iso', description: 'How times are written.' }
export const anyTime: Schema = { type: ['string', 'number'] }

/** Sorted and without repetition; null: all. @throws TwinfoldError `invalid_field` */
export function parseMetrics (given: readonly string[] | undefined): readonly string[] | null {
  if (given === undefined) return null
  const names = given.length === 1 ? given[0].split(',') : given
  const unique = [...new Set(names)].sort()
  if (unique.length > metricsPerReadingMax || unique.some(name => name === '' || Buffer.byteLength(name) > metricNameBytesMax)) {
    throw new TwinfoldError('invalid_field', `'metrics' are at most ${metricsPerReadingMax} names of 1 to ${metricNameBytesMax} bytes`, { field: 'metrics' })
  }
  return unique
}

async function tenantOf (context: EdgeContext, id: string): Promise<Tenant> {
  const tenant: Tenant | null = await context.options.tenants.get(id)
  if (tenant === null) throw new TwinfoldError('not_found', 'the tenant is gone')
  return tenant
}

const keptSince = (nowUs: number, days: number): number => Math.max(0, nowUs - days * usPerDay)

/** What the tenant keeps of raw readings. */
export async function rawScope (context: EdgeContext, id: string): Promise<Pick<RangeQuery, 'tenant' | 'retentionDays' | 'oldestTs'>> {
  const tenant = await tenantOf(context, id)
  const nowUs = context.stamps.now()
  return { tenant: id, retentionDays: [...new Set(tenant.retention.map(entry => entry.days))], oldestTs: keptSince(nowUs, retentionDaysAt(tenant, nowUs)) }
}

/** What the tenant keeps of raw readings and of tiers. */
export async function tierScope (context: EdgeContext, id: string): Promise<Omit<DeviceScope, 'device'>> {
  const tenant = await tenantOf(context, id)
  const nowUs = context.stamps.now()
  const ofTiers = <T>(value: (tier: Tier) => T): Record<Tier, T> => Object.fromEntries(tiers.map(tier => [tier, value(tier)])) as Record<Tier, T>
  return {
    ...await rawScope(context, id),
    tierClasses: ofTiers(tier => tierClasses(tenant, tier)),
    tierOldestTs: ofTiers(tier => keptSince(nowUs, tierDaysAt(tenant, tier, nowUs)))
  }
}

/** Bytes of a worker's answer between a head and a tail. */
export async function sendJson (reply: FastifyReply, head: string, body: Uint8Array, tail: string): Promise<FastifyReply> {
  return await reply.header('content-type', 'application/json; charset=utf-8').send(Buffer.concat([Buffer.from(head), body, Buffer.from(tail)]))
}
