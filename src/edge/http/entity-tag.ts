/** Conditional writes of resources by entity tag: `If-Match` and `If-None-Match` (RFC 9110 section 13.1). */
import type { FastifyReply, FastifyRequest } from 'fastify'
import { TwinfoldError } from '../../core/errors.js'
import type { Schema } from './schema-check.js'

export const matchHeaders: Schema = {
  type: 'object',
  properties: {
    'if-match': { type: 'string', maxLength: 200, description: 'The `ETag` that it must still have; `*`: it must exist. Else 412.' },
    'if-none-match': { type: 'string', maxLength: 200, description: '`*`: it must not exist yet. Else 412.' }
  }
}

/**
 * The tag that must be there: null for whatever is there, `*` for any, `none` for nothing.
 * @throws TwinfoldError `invalid_field` where the headers are not one strong tag or `*`
 */
export function expectedTag (request: FastifyRequest): string | null {
  const { 'if-match': match, 'if-none-match': noneMatch } = request.headers
  if (noneMatch !== undefined) {
    if (noneMatch.trim() !== '*' || match !== undefined) throw new TwinfoldError('invalid_field', 'If-None-Match takes * here, and no If-Match beside it', { field: 'If-None-Match' })
    return 'none'
  }
  if (match === undefined) return null
  const found = /^\s*(?:(\*)|"([A-Za-z0-9._:-]{1,100})")\s*$/.exec(match)
  if (found === null) throw new TwinfoldError('invalid_field', 'If-Match takes one entity tag as an answer gave it, in quotes, or *', { field: 'If-Match' })
  return found[1] ?? found[2]
}

export function sendTag (reply: FastifyReply, tag: string): FastifyReply { return reply.header('etag', `"${tag}"`) }
