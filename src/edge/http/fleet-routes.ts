/** Questions over many devices: aggregates by group, tag and time, the top k, histograms. Answered by analytics (DESIGN 3.5). */
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { TwinfoldError } from '../../core/errors.js'
import { usPerDay } from '../../core/reading.js'
import type { FleetStore, FleetValue } from '../../store/fleet-store.js'
import { retentionDaysAt } from '../../tenancy/model.js'
import { authorizeHook, tenantOf } from './authorize.js'
import type { EdgeContext } from './edge-context.js'
import { askedOf, histogramOf, spanOf, whereOf, type FleetAsked, type FleetBody } from './fleet-request.js'
import { fleetDocs, type SimpleParameters } from './fleet-docs.js'
import { isoTime } from './query-time.js'

const offReason = 'fleet queries need analytics, which is off on this server: docs/CONFIGURATION.md says how to turn it on'

interface Asking {
  readonly fleet: FleetStore
  readonly tenant: string
  /** How far analytics is behind, and why points are missing where some are. */
  readonly asOf: { readonly lagSeconds: number, readonly gap?: string }
  /** As asked for. */
  readonly fromTs: number
  readonly toTs: number
  /** Cut to what is within retention; at or past `toTs`: nothing is. */
  readonly keptFromTs: number
}

async function asking (context: EdgeContext, request: FastifyRequest, body: FleetBody): Promise<Asking> {
  const { fleet, analytics, tenants } = context.options
  if (fleet === undefined) throw new TwinfoldError('not_found', offReason)
  const id = tenantOf(request)
  const nowUs = context.stamps.now()
  const { fromTs, toTs } = spanOf(body, nowUs)
  const tenant = await tenants.get(id)
  if (tenant === null) throw new TwinfoldError('not_found', 'the tenant is gone')
  // A retention that was shortened counts at once, as in every query. The lag is read before the answer: what comes in meanwhile makes it newer.
  const keptFromTs = Math.max(fromTs, nowUs - retentionDaysAt(tenant, nowUs) * usPerDay)
  const { state = 'up', reason = '', lagSeconds = 0 } = analytics?.status ?? {}
  return { fleet, tenant: id, asOf: { lagSeconds: Math.round(lagSeconds * 1000) / 1000, ...(state === 'gap' ? { gap: reason } : {}) }, fromTs, toTs, keptFromTs }
}

/** JSON has no NaN: as in readings they are texts. */
function jsonValue (value: FleetValue): FleetValue {
  return typeof value === 'number' && !Number.isFinite(value) ? String(value) : value
}

async function answerQuery (context: EdgeContext, request: FastifyRequest, body: FleetBody): Promise<object> {
  const asked: FleetAsked = askedOf(body)
  const where = whereOf(body.where)
  const { fleet, tenant, asOf, fromTs, toTs, keptFromTs } = await asking(context, request, body)
  const { rows, tier } = keptFromTs >= toTs
    ? { rows: [], tier: 'points' }
    : await fleet.queryFleet({ tenant, fromTs: keptFromTs, toTs, where, ...asked })
  return {
    from: isoTime(fromTs),
    to: isoTime(toTs),
    tier,
    ...asOf,
    rows: rows.map(row => {
      const group: Record<string, string> = {}
      asked.groupBy.forEach((key, index) => { group[key] = row.group[index] })
      const values: Record<string, FleetValue> = {}
      asked.aggs.forEach((agg, index) => { values[agg] = jsonValue(row.values[index]) })
      return { metric: row.metric, ...row.ts === null ? {} : { time: isoTime(row.ts) }, ...asked.groupBy.length === 0 ? {} : { group }, values }
    })
  }
}

async function answerHistogram (context: EdgeContext, request: FastifyRequest, body: FleetBody): Promise<object> {
  const histogram = histogramOf(body)
  const where = whereOf(body.where)
  const { fleet, tenant, asOf, fromTs, toTs, keptFromTs } = await asking(context, request, body)
  const { buckets, notFinite } = keptFromTs >= toTs
    ? { buckets: [], notFinite: 0 }
    : await fleet.histogram({ tenant, fromTs: keptFromTs, toTs, where, ...histogram })
  return { from: isoTime(fromTs), to: isoTime(toTs), tier: 'points', ...asOf, metric: histogram.metric, buckets, notFinite }
}

/** The parameters of a URL as the body that says the same. */
function bodyOf (parameters: SimpleParameters): FleetBody {
  const { from, to, metrics, agg, step, tz, groupBy, devices, type, gateway, tag, by, k, order } = parameters
  const tags: Record<string, string> = {}
  for (const text of tag ?? []) {
    const at = text.indexOf('=')
    if (at < 1) throw new TwinfoldError('invalid_field', `'tag' must be NAME=VALUE`, { field: 'tag' })
    tags[text.slice(0, at)] = text.slice(at + 1)
  }
  const isRanked = by !== undefined || k !== undefined
  if (isRanked && by === undefined) throw new TwinfoldError('invalid_field', `'by' is required with k, as in by=avg(temperature)`, { field: 'by' })
  return {
    from, to, metrics, agg, step, tz, groupBy,
    where: { type, gateway, ...devices === undefined ? {} : { devices: devices.split(',') }, tags },
    ...isRanked ? { topk: { by: by as string, k: k ?? 10, ...order === undefined ? {} : { order } } } : {}
  }
}

export function fleetRoutes (context: EdgeContext) {
  return async (app: FastifyInstance): Promise<void> => {
    const onRequest = authorizeHook(context, ['operator', 'application', 'viewer'])
    app.post('/fleet/query', { ...fleetDocs.post, onRequest }, async request => {
      const body = request.body as FleetBody
      return body.histogram === undefined ? await answerQuery(context, request, body) : await answerHistogram(context, request, body)
    })
    app.get('/fleet/query', { ...fleetDocs.get, onRequest }, async request => await answerQuery(context, request, bodyOf(request.query as SimpleParameters)))
  }
}

