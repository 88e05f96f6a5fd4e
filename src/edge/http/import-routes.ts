/**
 * Bulk import of history: the body is a file, streamed to this node's disk and read by a job (src/transfer). Answered when the
 * file is on stable storage and the job is there.
 */
import { Readable } from 'node:stream'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { TwinfoldError } from '../../core/errors.js'
import { isDeviceId } from '../../core/ids.js'
import { deviceIdCharsMax } from '../../core/limits.js'
import { transferFormats, type ImportSettings, type TransferFormat } from '../../../workers/transfer-protocol.js'
import { authorizeHook, tenantOf } from './authorize.js'
import type { EdgeContext } from './edge-context.js'
import { jobSchema } from './job-schema.js'
import { routeDocs } from './route-docs.js'
import type { Schema } from './schema-check.js'
import { transferOf } from './transfer-source.js'

const mediaTypes: ReadonlyMap<string, TransferFormat> = new Map([
  ['text/csv', 'csv'], ['application/csv', 'csv'],
  ['application/x-ndjson', 'ndjson'], ['application/ndjson', 'ndjson'], ['application/jsonl', 'ndjson'],
  ['application/vnd.apache.parquet', 'parquet'], ['application/x-parquet', 'parquet']
])

const columnSchema: Schema = { type: 'string', minLength: 1, maxLength: 128 }

interface Parameters {
  readonly format?: TransferFormat
  readonly shape?: ImportSettings['shape']
  readonly device?: string
  readonly deviceColumn?: string
  readonly tsColumn?: string
  readonly metricColumn?: string
  readonly valueColumn?: string
  readonly times?: ImportSettings['times']
  readonly delimiter?: string
  readonly quoted?: ImportSettings['quoted']
  readonly missing?: string
}

/** @throws TwinfoldError `unsupported_media_type`, `invalid_field` */
function settingsOf (request: FastifyRequest): ImportSettings {
  const given = request.query as Parameters
  const essence = (request.headers['content-type'] ?? '').split(';', 1)[0].trim().toLowerCase()
  const format = given.format ?? mediaTypes.get(essence)
  if (format === undefined) throw new TwinfoldError('unsupported_media_type', `an import is one of ${[...mediaTypes.keys()].join(', ')}, or says format=csv, ndjson or parquet`, { field: 'Content-Type' })
  const { device = null, deviceColumn = 'device', tsColumn = 'ts', metricColumn = 'metric', valueColumn = 'value', delimiter = ',' } = given
  if (device !== null && !isDeviceId(device)) throw new TwinfoldError('invalid_field', `'device' is no device id`, { field: 'device' })
  if (delimiter.charCodeAt(0) < 9 || delimiter === '"' || delimiter === '\n' || delimiter === '\r' || delimiter.charCodeAt(0) > 126) throw new TwinfoldError('invalid_field', `'delimiter' is one character of ASCII, no quote and no line end`, { field: 'delimiter' })
  const columns = [deviceColumn, tsColumn, metricColumn, valueColumn]
  const twice = columns.find((name, i) => columns.indexOf(name) !== i)
  if (twice !== undefined) throw new TwinfoldError('invalid_field', `column '${twice}' is named for two things`, { field: 'tsColumn' })
  return {
    format, shape: given.shape ?? 'auto', device, deviceColumn, tsColumn, metricColumn, valueColumn, times: given.times ?? 'auto', delimiter, quoted: given.quoted ?? 'string', missing: given.missing ?? ''
  }
}

/** @throws TwinfoldError `unsupported_media_type` */
function isGzip (encoding: string | undefined): boolean {
  const name = encoding?.toLowerCase() ?? 'identity'
  if (name !== 'identity' && name !== 'gzip') throw new TwinfoldError('unsupported_media_type', 'Content-Encoding is gzip, or absent', { field: 'Content-Encoding' })
  return name === 'gzip'
}

const description = `CSV with a header: wide (a column a metric, beside those for device and time) or long (\`metric\` and \`value\`); quoted cells are texts, others numbers and booleans where they look like it. NDJSON: a reading a line, \`{"device":"d","ts":1700000000000,"values":{…}}\`. Parquet: wide or long. A row's device must be registered. What a point had before is replaced; what is accepted after this request wins over it. The same file twice changes nothing. The job tells what was read, written and refused.`

export function importRoutes (context: EdgeContext) {
  return async (app: FastifyInstance): Promise<void> => {
    // The body is a file that is never held in memory.
    app.removeAllContentTypeParsers()
    app.addContentTypeParser('*', (_request, payload, done) => { done(null, payload) })
    app.post('/imports', {
      config: { longBody: true },
      ...routeDocs({
        summary: 'Import history from a file',
        description,
        tag: 'transfer',
        query: {
          type: 'object',
          additionalProperties: false,
          properties: {
            format: { type: 'string', enum: [...transferFormats], description: 'Default: by Content-Type.' },
            shape: { type: 'string', enum: ['auto', 'wide', 'long'], default: 'auto', description: 'auto: long where the file has the columns for metric and value.' },
            device: { type: 'string', maxLength: deviceIdCharsMax, description: 'Device of rows that name none.' },
            deviceColumn: columnSchema,
            tsColumn: columnSchema,
            metricColumn: columnSchema,
            valueColumn: columnSchema,
            times: { type: 'string', enum: ['auto', 'iso', 's', 'ms', 'us'], default: 'auto', description: 'auto: numbers are milliseconds, texts ISO 8601.' },
            delimiter: { type: 'string', minLength: 1, maxLength: 1, default: ',' },
            quoted: { type: 'string', enum: ['string', 'any'], default: 'string', description: 'CSV: quoted cells are texts, or are read as if they were not quoted.' },
            missing: { type: 'string', maxLength: 32, description: 'CSV: an unquoted cell with this text is no point, as an empty one is.' }
          }
        },
        answers: { 202: { description: 'The file is here, and the job follows at Location.', schema: jobSchema } },
        consumes: [...mediaTypes.keys()],
        errors: ['unsupported_media_type', 'payload_too_large', 'limit_reached']
      }),
      onRequest: authorizeHook(context, ['operator'])
    }, async (request, reply) => {
      const settings = settingsOf(request)
      const gzip = isGzip(request.headers['content-encoding'])
      const body = request.body instanceof Readable ? request.body : Readable.from([])
      const job = await transferOf(context).import(tenantOf(request), settings, body, { gzip })
      return await reply.code(202).header('location', `/api/v1/jobs/${job.id}`).send(transferOf(context).view(job))
    })
  }
}
