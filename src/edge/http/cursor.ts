/**
 * Cursors as clients see them: opaque, and tied to the query they came from, so that one that is used with other parameters
 * is refused instead of giving a wrong page. The tie is a hash against mistakes, not a signature: what a cursor may reach is
 * decided by the tenant of the request, never by the cursor (INVARIANTS 7).
 */
import { TwinfoldError } from '../../core/errors.js'
import { hash32 } from '../../core/ids.js'

const version = 'c1'

/** @param query everything that decides which things are listed and in which order. */
export function encodeCursor (query: readonly string[], position: string): string {
  return Buffer.from(`${version}.${hash32(query.join('\0')).toString(36)}.${position}`).toString('base64url')
}

/** @throws TwinfoldError `invalid_field` when it is no cursor of this query. */
export function decodeCursor (query: readonly string[], cursor: string): string {
  const text = /^[A-Za-z0-9_-]+$/.test(cursor) ? Buffer.from(cursor, 'base64url').toString() : ''
  const [ofVersion, hash, ...position] = text.split('.')
  if (ofVersion !== version || hash !== hash32(query.join('\0')).toString(36) || position.length === 0) {
    throw new TwinfoldError('invalid_field', 'the cursor does not belong to this query; start again without it', { field: 'cursor' })
  }
  return position.join('.')
}

/** The store's cursor of a request's, null at the start. */
export function storeCursor (query: readonly string[], cursor: string | undefined): string | null {
  return cursor === undefined ? null : decodeCursor(query, cursor)
}

export function nextCursor (query: readonly string[], next: string | null): string | null {
  return next === null ? null : encodeCursor(query, next)
}
