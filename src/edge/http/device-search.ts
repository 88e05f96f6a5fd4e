/** `GET /devices` with a filter, an order or a choice of fields: answered by search (src/search), not by the registry's listing. */
import type { FastifyRequest } from 'fastify'
import { TwinfoldError } from '../../core/errors.js'
import { filterCharsMax } from '../../core/filter/filter.js'
import { isDeviceId } from '../../core/ids.js'
import type { DeviceSearch } from '../../search/device-search.js'
import type { SearchPosition } from '../../store/twin-search.js'
import { tenantOf } from './authorize.js'
import { decodeCursor, encodeCursor } from './cursor.js'
import type { EdgeContext } from './edge-context.js'
import type { Schema } from './schema-check.js'

export type SearchSource = Pick<DeviceSearch, 'search'> & {
  /** The device was made, changed or deleted in the registry. */
  noteDevice (tenant: string, id: string): void
}

export interface SearchParameters {
  readonly filter?: string
  readonly sort?: string
  readonly fields?: string
  readonly device?: string
  readonly fresh?: boolean
  readonly count?: boolean
  readonly limit?: number
  readonly cursor?: string
  readonly gatewayId?: string
}

/** What makes a listing a search. */
export const searchSchemas: Readonly<Record<string, Schema>> = {
  filter: { type: 'string', maxLength: filterCharsMax, description: 'Which devices: `reported.firmware lt "2.0" and tags.site eq "berlin" and latest.temperature gt 80`. Fields: id, name, type, gateway, createdAt, tags.NAME, desired.PATH, reported.PATH, latest.METRIC, lastActivity, connection.state, connection.since, connection.reason; other keys in backticks or ["…"]. Operators: eq ne lt le gt ge in (…) like "prefix*" exists, and or not ( ). Values: JSON strings, numbers, true, false, null; times ISO 8601 or now-1h.', examples: ['reported.firmware lt "2.0" and tags.site eq "berlin"'] },
  sort: { type: 'string', maxLength: 1000, description: 'Up to three fields, `-` before one for descending: `type,-latest.temperature`. Devices without the field come last; the id decides at the end.' },
  fields: { type: 'string', maxLength: 4000, description: 'What is shown of each device: id, name, type, gatewayId, createdAt, tags, connection, lastActivity, desired, reported, version, desiredVersion, reportedVersion, updatedAt, and single ones such as tags.site, reported.firmware, latest.temperature. Default: id,name,type,tags,connection.' },
  device: { type: 'string', maxLength: 128, description: 'Only this device.' },
  fresh: { type: 'boolean', description: 'With `device`: judged on its record, not on the projection, so that what was just accepted is seen.' },
  count: { type: 'boolean', description: 'Also how many there are.' },
  cursor: { type: 'string', maxLength: 6000, description: '`next` of the page before.' }
}

export const searchAnswerSchemas: Readonly<Record<string, Schema>> = {
  count: { type: 'integer', description: 'Of a search, where asked for.' },
  lag: { type: 'object', description: 'Of a search: how far the projection is behind.', properties: { seconds: { type: 'number' } } },
  asOf: { type: 'string', format: 'date-time', description: 'Of a search: everything that happened before is in the answer.' }
}

export function isSearch ({ filter, sort, fields, device, fresh, count }: SearchParameters): boolean {
  return [filter, sort, fields, device, fresh, count].some(parameter => parameter !== undefined)
}

/** @throws TwinfoldError `invalid_field`, `analytics_unavailable`, `not_found` (analytics is off) */
export async function searchDevices (context: EdgeContext, request: FastifyRequest): Promise<object> {
  const { search } = context.options
  if (search === undefined) throw new TwinfoldError('not_found', 'a search needs analytics, which is off on this server; without filter, sort, fields and count the registry lists devices')
  const { limit = 100, cursor, gatewayId, ...asked } = request.query as SearchParameters
  if (gatewayId !== undefined) throw new TwinfoldError('invalid_field', "a search takes the gateway in its filter: gateway eq \"…\"", { field: 'gatewayId' })
  if (asked.device !== undefined && !isDeviceId(asked.device)) throw new TwinfoldError('invalid_field', "'device' is no device id: 1 to 128 characters of A-Z a-z 0-9 . _ : @ -", { field: 'device' })
  const tenant = tenantOf(request)
  const query = ['search', tenant, asked.filter ?? '', asked.sort ?? '', asked.device ?? '']
  const answer = await search.search({ ...asked, tenant, limit, after: cursor === undefined ? null : positionOf(decodeCursor(query, cursor)) })
  return { ...answer, next: answer.next === null ? null : encodeCursor(query, JSON.stringify(answer.next)) }
}

function positionOf (text: string): SearchPosition {
  try {
    const position = JSON.parse(text) as unknown
    if (Array.isArray(position) && position.every(part => typeof part === 'string' || typeof part === 'number')) return position
  } catch {}
  throw new TwinfoldError('invalid_field', 'the cursor does not belong to this query; start again without it', { field: 'cursor' })
}
