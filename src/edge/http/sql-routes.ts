/** SQL of a tenant over its own rows, read only (DESIGN 3.5). */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { TwinfoldError } from '../../core/errors.js'
import { usPerDay } from '../../core/reading.js'
import { sqlFormats, type SqlAnswer, type SqlFormat, type TenantSql } from '../../store/fleet-store.js'
import { retentionDaysAt } from '../../tenancy/model.js'
import { authorizeHook, tenantOf } from './authorize.js'
import type { EdgeContext } from './edge-context.js'
import { isoTime } from './query-time.js'
import { routeDocs } from './route-docs.js'

const queryCharsMax = 32 * 1024
const mediaTypes: Readonly<Record<SqlFormat, string>> = { json: 'application/json; charset=utf-8', csv: 'text/csv; charset=utf-8', ndjson: 'application/x-ndjson; charset=utf-8' }

function offered (context: EdgeContext): TenantSql {
  const { sql } = context.options
  if (sql === undefined) throw new TwinfoldError('not_found', 'SQL needs analytics, which is off on this server: docs/CONFIGURATION.md says how to turn it on')
  if (sql.off !== null) throw new TwinfoldError('not_found', `SQL is off on this server: ${sql.off}`)
  return sql
}

async function oldestOf (context: EdgeContext, id: string): Promise<number> {
  const tenant = await context.options.tenants.get(id)
  if (tenant === null) throw new TwinfoldError('not_found', 'the tenant is gone')
  const nowUs = context.stamps.now()
  return Math.max(0, nowUs - retentionDaysAt(tenant, nowUs) * usPerDay)
}

async function send (reply: FastifyReply, format: SqlFormat, { body, rows, truncated, asOf }: SqlAnswer): Promise<FastifyReply> {
  void reply.header('content-type', mediaTypes[format]).header('x-rows', String(rows)).header('x-truncated', String(truncated)).header('x-as-of', isoTime(asOf))
  if (format !== 'json') return await reply.send(Buffer.from(body.buffer, body.byteOffset, body.byteLength))
  const tail = `,"rowCount":${rows},"truncated":${String(truncated)},"asOf":"${isoTime(asOf)}"}`
  return await reply.send(Buffer.concat([Buffer.from('{"rows":'), body, Buffer.from(tail)]))
}

async function run (context: EdgeContext, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  const { query, format = 'json' } = request.body as { query: string, format?: SqlFormat }
  const sql = offered(context)
  const tenant = tenantOf(request)
  const answer = await sql.run({ tenant, query, format, oldestTs: await oldestOf(context, tenant) })
  return await send(reply, format, answer)
}

export function sqlRoutes (context: EdgeContext) {
  return async (app: FastifyInstance): Promise<void> => {
    app.post('/sql', {
      ...routeDocs({
        summary: 'Ask in SQL, over the own tenant\'s rows',
        description: 'One SELECT in ClickHouse\'s dialect over `points` (device, metric, ts, type, number, boolean, string), `tiers_1h` (sealed hours) and `devices` (device, type, name, gateway, is_gateway, tags, created_at). Each point is there once; the state is that of `asOf`, at most a minute old when the statement starts. No settings, formats, table functions or system tables. One statement at a time per tenant; 30 s, 1 GiB of memory, 100,000 rows and 32 MiB of answer: `truncated` tells that there was more, 409 that a statement was too large. 404 where SQL is off.',
        tag: 'analytics',
        body: {
          type: 'object',
          required: ['query'],
          additionalProperties: false,
          properties: {
            query: { type: 'string', minLength: 1, maxLength: queryCharsMax, examples: [`SELECT device, avg(number) AS mean FROM points WHERE metric = 'temperature' AND ts > now() - INTERVAL 1 DAY GROUP BY device ORDER BY mean DESC LIMIT 10`] },
            format: { type: 'string', enum: [...sqlFormats], default: 'json' }
          }
        },
        answers: {
          200: {
            description: 'The rows; for csv (first line: names) and ndjson the rest is in the headers X-Rows, X-Truncated and X-As-Of.',
            schema: {
              type: 'object',
              required: ['rows', 'rowCount', 'truncated', 'asOf'],
              properties: { rows: { type: 'array', items: { type: 'object' } }, rowCount: { type: 'integer' }, truncated: { type: 'boolean' }, asOf: { type: 'string', format: 'date-time' } }
            }
          }
        },
        errors: ['analytics_unavailable', 'limit_reached', 'throttled']
      }),
      onRequest: authorizeHook(context, ['operator', 'viewer'])
    }, async (request, reply) => await run(context, request, reply))
  }
}
