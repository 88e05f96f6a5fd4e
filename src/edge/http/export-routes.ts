/** Export of readings and of tiers as a file, streamed as it is read; what an import of another server takes. */
import { pipeline } from 'node:stream'
import { createGzip } from 'node:zlib'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { TwinfoldError } from '../../core/errors.js'
import { isDeviceId } from '../../core/ids.js'
import { deviceIdCharsMax } from '../../core/limits.js'
import type { Tier } from '../../store/tier-store.js'
import { exportDevicesMax, transferFormats, type ExportTimes, type TransferFormat, type TransferShape } from '../../../workers/transfer-protocol.js'
import { authorizeHook, tenantOf } from './authorize.js'
import type { EdgeContext } from './edge-context.js'
import { metricsSchema, parseMetrics, tierScope } from './query-scope.js'
import { parseSpan, spanSchemas } from './query-time.js'
import { routeDocs } from './route-docs.js'
import { transferOf } from './transfer-source.js'
import { deviceNotFound } from './telemetry-admission.js'

const mediaTypes: Readonly<Record<TransferFormat, string>> = { csv: 'text/csv; charset=utf-8', ndjson: 'application/x-ndjson', parquet: 'application/vnd.apache.parquet' }

interface Parameters {
  readonly devices: readonly string[]
  readonly metrics?: readonly string[]
  readonly from?: string
  readonly to?: string
  readonly tier?: 'raw' | Tier
  readonly format?: TransferFormat
  readonly shape?: TransferShape
  readonly times?: ExportTimes
}

/** null: all. @throws TwinfoldError `invalid_field`, `not_found` */
async function devicesOf (context: EdgeContext, tenant: string, given: readonly string[]): Promise<readonly string[] | null> {
  const names = [...new Set(given.length === 1 ? given[0].split(',') : given)]
  if (names.length === 1 && names[0] === 'all') return null
  if (names.length > exportDevicesMax || names.some(name => name === '')) throw new TwinfoldError('invalid_field', `'devices' are 'all', or at most ${exportDevicesMax} ids`, { field: 'devices' })
  for (const name of names) if (!isDeviceId(name) || !(await context.devices.find(tenant, name)).known) throw deviceNotFound(name)
  return names
}

function acceptsGzip (request: FastifyRequest): boolean {
  const given = request.headers['accept-encoding']
  return typeof given === 'string' && given.split(',').some(part => /^\s*gzip\s*(?:;\s*q=(?:1(?:\.0*)?|0?\.[0-9]*[1-9][0-9]*))?\s*$/.test(part))
}

async function sendExport (context: EdgeContext, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  const given = request.query as Parameters
  const { tier = 'raw', format = 'csv', shape = 'wide', times = 'iso' } = given
  const tenant = tenantOf(request)
  const span = parseSpan(given, context.stamps.now())
  const metrics = parseMetrics(given.metrics)
  if (tier !== 'raw' && given.shape === 'wide') throw new TwinfoldError('invalid_field', `a tier is exported with a row a window and metric: leave 'shape' out`, { field: 'shape' })
  if (format === 'parquet' && given.times !== undefined) throw new TwinfoldError('invalid_field', `times of Parquet are TIMESTAMP in microseconds: leave 'times' out`, { field: 'times' })
  const devices = await devicesOf(context, tenant, given.devices)
  const scope = await tierScope(context, tenant)
  const stream = await transferOf(context).export({ ...scope, ...span, devices, metrics, tier, format, shape, times })
  void reply.header('content-type', mediaTypes[format]).header('content-disposition', `attachment; filename="${tier === 'raw' ? 'telemetry' : `telemetry-${tier}`}.${format}"`)
  if (format === 'parquet' || !acceptsGzip(request)) return await reply.send(stream)
  void reply.header('content-encoding', 'gzip').header('vary', 'accept-encoding')
  // A client that goes away ends both; what breaks in the export breaks the answer off.
  return await reply.send(pipeline(stream, createGzip({ level: 4 }), () => {}))
}

export function exportRoutes (context: EdgeContext) {
  return async (app: FastifyInstance): Promise<void> => {
    app.get('/exports', {
      ...routeDocs({
        summary: 'Export readings or a tier as a file',
        description: 'Streamed, device after device, in order of time; default: the last 24 hours. Raw: wide (a column a metric) or long (a row a point). CSV: texts are quoted, numbers and booleans are not. NDJSON: NaN and infinities stand in `nonFinite`. An import of another server gives the same points. A tier: a row a window and metric. gzip where the client accepts it (not Parquet).',
        tag: 'transfer',
        query: {
          type: 'object',
          additionalProperties: false,
          required: ['devices'],
          properties: {
            devices: { type: 'array', items: { type: 'string', maxLength: exportDevicesMax * (deviceIdCharsMax + 1) }, minItems: 1, maxItems: exportDevicesMax, description: `Ids with commas between, at most ${exportDevicesMax}, or 'all'.` },
            metrics: metricsSchema,
            ...spanSchemas,
            tier: { type: 'string', enum: ['raw', '1m', '1h', '1d'], default: 'raw' },
            format: { type: 'string', enum: [...transferFormats], default: 'csv' },
            shape: { type: 'string', enum: ['wide', 'long'], default: 'wide' },
            times: { type: 'string', enum: ['iso', 'ms', 'us'], default: 'iso', description: 'How times are written in CSV and NDJSON.' }
          }
        },
        answers: { 200: { description: 'The file. An answer that breaks off is not whole.', schema: { type: 'string' }, mediaType: 'text/csv' } },
        errors: ['throttled', 'limit_reached']
      }),
      onRequest: authorizeHook(context, ['operator', 'application', 'viewer'])
    }, async (request, reply) => await sendExport(context, request, reply))
  }
}
