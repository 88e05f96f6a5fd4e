/**
 * The partition plan of a device (DESIGN 3.3), to look at: how its readings are spread over partitions of the store. Nothing is
 * set here: plans follow the load by themselves.
 */
import type { FastifyInstance } from 'fastify'
import { bucketOf, bucketWidthsMinutes, partitionBytesTarget, saltsToRead, type BucketWidthMinutes, type PartitionPlan } from '../../series/partition-plan.js'
import { authorizeHook, tenantOf } from './authorize.js'
import { requireVisible } from './device-access.js'
import type { EdgeContext } from './edge-context.js'
import { isoTime } from './query-time.js'
import { idParams, routeDocs } from './route-docs.js'
import type { Schema } from './schema-check.js'

const widthNames: Readonly<Record<BucketWidthMinutes, string>> = { 1: '1m', 60: '1h', 1440: '1d', 43_200: '30d' }

const timeSchema: Schema = { type: 'string', format: 'date-time' }
const widthSchema: Schema = { type: 'string', enum: bucketWidthsMinutes.map(width => widthNames[width]) }
const planSchema: Schema = {
  type: 'object',
  required: ['device', 'version', 'widths', 'salts', 'saltsNow', 'bucketNow', 'targetBytes'],
  properties: {
    device: { type: 'string' },
    version: { type: 'integer', description: 'Counts the changes; 0: the device has the plan that every device begins with.' },
    widths: {
      type: 'array',
      description: 'Width of the buckets, by event time; an entry may lie ahead.',
      items: { type: 'object', properties: { from: timeSchema, width: widthSchema } }
    },
    salts: {
      type: 'array',
      description: 'Partitions that a bucket is spread over, by the accept stamp from which writers use them. They only grow; readers ask all.',
      items: { type: 'object', properties: { since: timeSchema, salts: { type: 'integer', minimum: 1 } } }
    },
    saltsNow: { type: 'integer', minimum: 1, description: 'Salts that writers use now.' },
    saltsRead: { type: 'integer', minimum: 1, description: 'Salts that readers ask.' },
    bucketNow: { type: 'object', description: 'The bucket that a reading of now goes to.', properties: { start: timeSchema, width: widthSchema } },
    targetBytes: { type: 'integer', description: 'A partition is meant to stay below this; the plan changes before.' }
  }
}

/** @param nowUs event time and stamp of a reading that arrives now, µs */
export function planView (device: string, version: number, plan: PartitionPlan, nowUs: number): object {
  const bucket = bucketOf(plan, nowUs)
  let saltsNow = plan.salts[0].salts
  for (const { fromStamp, salts } of plan.salts) if (fromStamp <= nowUs) saltsNow = salts
  return {
    device,
    version,
    widths: plan.widths.map(({ fromTs, widthMinutes }) => ({ from: isoTime(fromTs), width: widthNames[widthMinutes] })),
    salts: plan.salts.map(({ fromStamp, salts }) => ({ since: isoTime(fromStamp), salts })),
    saltsNow,
    saltsRead: saltsToRead(plan),
    bucketNow: { start: isoTime(bucket.start), width: widthNames[bucket.widthMinutes] },
    targetBytes: partitionBytesTarget
  }
}

export function planRoutes (context: EdgeContext) {
  return async (app: FastifyInstance): Promise<void> => {
    app.get('/devices/:id/partition-plan', {
      ...routeDocs({
        summary: 'The partition plan of a device',
        description: 'How its readings are spread over partitions of the store. The plan follows the load of the device by itself; there is nothing to set.',
        tag: 'devices',
        params: idParams,
        answers: { 200: { description: 'The plan in force and what is coming.', schema: planSchema } }
      }),
      onRequest: authorizeHook(context, ['operator', 'viewer'])
    }, async request => {
      const { id } = request.params as { id: string }
      await requireVisible(context, request, id)
      const { plan, version } = await context.options.store.getPlan(tenantOf(request), id)
      return planView(id, version, plan, context.stamps.now())
    })
  }
}
