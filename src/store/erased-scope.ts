/**
 * What is erased of one device (or of a whole tenant), as both stores keep it: the greatest stamp that erases all of it, and the
 * parts with a greater one. Pure. One erasure that another contains is not kept twice, so that readers have few to obey.
 */
import { TwinfoldError } from '../core/errors.js'
import type { Page } from './registry.js'
import { erasedPartsMax, type ErasedPart, type Erasure } from './small-stores.js'

export interface ErasedScope {
  /** 0: the whole was never erased. */
  readonly stamp: number
  readonly parts: readonly ErasedPart[]
}

function isWhole ({ metric = null, fromTs, toTs }: ErasedPart): boolean {
  return metric === null && fromTs === undefined && toTs === undefined
}

/** The part without its absent fields. */
export function plainPart ({ stamp, metric = null, fromTs, toTs }: ErasedPart): ErasedPart {
  return { stamp, ...(metric === null ? {} : { metric }), ...(fromTs === undefined ? {} : { fromTs }), ...(toTs === undefined ? {} : { toTs }) }
}

/** Whether all that `inner` erases is erased by `outer`. */
export function containsErased (outer: ErasedPart, inner: ErasedPart): boolean {
  return outer.stamp >= inner.stamp && (outer.metric === undefined || outer.metric === null || outer.metric === inner.metric) &&
    (outer.fromTs ?? -Infinity) <= (inner.fromTs ?? -Infinity) && (outer.toTs ?? Infinity) >= (inner.toTs ?? Infinity)
}

/**
 * The scope with one erasure more; the scope itself where that is contained in it already.
 * @throws TwinfoldError `limit_reached` beyond `erasedPartsMax` parts; `internal` for a part of a whole tenant.
 */
export function addErasure (scope: ErasedScope, erasure: Erasure): ErasedScope {
  if (isWhole(erasure)) {
    if (erasure.stamp <= scope.stamp) return scope
    return { stamp: erasure.stamp, parts: scope.parts.filter(part => part.stamp > erasure.stamp) }
  }
  if (erasure.device === null) throw new TwinfoldError('internal', 'a part of a whole tenant cannot be erased')
  const part = plainPart(erasure)
  if (part.stamp <= scope.stamp || scope.parts.some(other => containsErased(other, part))) return scope
  const others = scope.parts.filter(other => !containsErased(part, other))
  if (others.length >= erasedPartsMax) throw partsFull(erasure.device)
  return { stamp: scope.stamp, parts: [...others, part].sort((a, b) => a.stamp - b.stamp) }
}

export function partsFull (device: string): TwinfoldError {
  return new TwinfoldError('limit_reached', `${erasedPartsMax} metrics or ranges of device '${device}' are erased already; erase a range that contains them, or all of it`)
}

/** All that is erased of a device whose tenant's scope is `tenant`. */
export function joinErased (tenant: ErasedScope, own: ErasedScope): ErasedPart[] {
  const stamp = Math.max(tenant.stamp, own.stamp)
  const parts = own.parts.filter(part => part.stamp > stamp)
  return stamp === 0 ? parts : [{ stamp }, ...parts]
}

function erasuresIn (tenant: string, device: string, { stamp, parts }: ErasedScope): Erasure[] {
  const scope = { tenant, device: device === '' ? null : device }
  return [...stamp === 0 ? [] : [{ ...scope, stamp }], ...parts.map(part => ({ ...scope, ...part }))]
}

/**
 * A page of erasures in order of device, a device's whole before its parts.
 * @param scan visits the tenant's scopes in order of device ('': the whole tenant) from the given one on, until `visit` says false.
 * @throws TwinfoldError `invalid_field` for a cursor that is none.
 */
export async function pageErasures (tenant: string, cursor: string | null, limit: number,
  scan: (fromDevice: string, visit: (device: string, scope: ErasedScope) => boolean) => Promise<void>): Promise<Page<Erasure>> {
  const from = cursor === null ? { device: '', index: 0 } : decodeErasureCursor(cursor)
  const items: Erasure[] = []
  let next: string | null = null
  await scan(from.device, (device, scope) => {
    const erasures = erasuresIn(tenant, device, scope)
    for (let i = device === from.device ? from.index : 0; i < erasures.length; i++) {
      if (items.length === limit) {
        next = Buffer.from(`${i}:${device}`).toString('base64url')
        return false
      }
      items.push(erasures[i])
    }
    return true
  })
  return { items, next }
}

function decodeErasureCursor (cursor: string): { device: string, index: number } {
  const match = /^(\d{1,6}):([\x20-\x7e]{0,128})$/.exec(Buffer.from(cursor, 'base64url').toString('latin1'))
  if (match === null) throw new TwinfoldError('invalid_field', 'the cursor is not one that this server gave out', { field: 'cursor' })
  return { index: Number(match[1]), device: match[2] }
}
