/**
 * Lists whose natural key is a tenant are spread over salts, or each would be one hot partition per tenant. This is their
 * common part: which salt a row has, and how the salts' rows become one list in order, page by page.
 */
import { TwinfoldError } from '../../../core/errors.js'
import { hash32 } from '../../../core/ids.js'
import type { Page } from '../../registry.js'

/** Part of the key layout: it never changes. */
export const listSalts = 16

/** Point reads that one page has under way at once. */
const lookUpsAtOnceMax = 64

/** The salt of a row of a list, by its id. Part of the key layout. */
export function saltOf (id: string): number {
  const hash = hash32(id)
  return (hash ^ (hash >>> 16)) & (listSalts - 1)
}

/** All salts of a list. */
export const allSalts: readonly number[] = Array.from({ length: listSalts }, (_, salt) => salt)

/** Rows that one salt is first asked for, so that the page is likely complete: a salt's share and something for chance. */
export function saltPageRows (limit: number): number {
  return Math.ceil(limit / listSalts * 1.5) + 4
}

export interface PageOptions<R, T> {
  /** Sorted by `idOf`; of several rows of one id the first is looked at. */
  readonly rows: AsyncIterable<R>
  readonly idOf: (row: R) => string
  /** The item that a row leads to, or null where it leads nowhere: such rows are passed over. */
  readonly itemOf: (row: R) => Promise<T | null>
  readonly limit: number
}

/** A page of what the rows lead to. `next` is null when nothing is known to follow. */
export async function pageOf<R, T> ({ rows, idOf, itemOf, limit }: PageOptions<R, T>): Promise<Page<T>> {
  const found: { readonly id: string, readonly item: T }[] = []
  const iterator = rows[Symbol.asyncIterator]()
  let last: string | null = null
  let ended = false
  while (!ended && found.length <= limit) {
    const some: R[] = []
    const wanted = Math.min(limit + 1 - found.length, lookUpsAtOnceMax)
    while (some.length < wanted) {
      const step = await iterator.next()
      ended = step.done === true
      if (step.done === true) break
      const id = idOf(step.value)
      if (id !== last) some.push(step.value)
      last = id
    }
    const items = await Promise.all(some.map(itemOf))
    items.forEach((item, i) => { if (item !== null) found.push({ id: idOf(some[i]), item }) })
  }
  await iterator.return?.()
  const page = found.slice(0, limit)
  return { items: page.map(({ item }) => item), next: found.length > limit ? encodeCursor(page[page.length - 1].id) : null }
}

function encodeCursor (id: string): string {
  return Buffer.from(id).toString('base64url')
}

/** The id after which a page begins, null from the start. @throws TwinfoldError `invalid_field` */
export function decodeCursor (cursor: string | null): string | null {
  if (cursor === null) return null
  // '' is the id of the first erasure, which is the whole tenant's.
  if (!/^[A-Za-z0-9_-]{0,1024}$/.test(cursor)) throw new TwinfoldError('invalid_field', 'the cursor is not one that this server gave out', { field: 'cursor' })
  return Buffer.from(cursor, 'base64url').toString()
}
