/**
 * Events of a twin as they are stored: JSON with the number of its format. Old formats are read for ever: each is brought to the next
 * one, step by step, until it is the current one; a newer one is refused by name.
 */
import { TwinfoldError } from '../core/errors.js'
import type { EntityEvent } from '../store/entity-store.js'
import { put } from './json-merge.js'
import type { Actor, Json, JsonObject, TwinEvent } from './twin-model.js'

/** 2: actor as parts, reason, where a report came from. 1: actor as one text, parts of the patch side by side. */
export const eventFormat = 2

/** An event with what only the reducer needs. */
export interface StoredTwinEvent extends TwinEvent {
  /** Of what a device said: its message in the journal, which is applied once. */
  readonly from?: { readonly journalId: string, readonly position: number, readonly stamp: number }
  /** The device's own time (µs) and number of its update. */
  readonly at?: number
  readonly v?: number
  /** As in `Winning`. */
  readonly over?: readonly string[]
  /** Versions of the parts after it, for those who are told of it. */
  readonly desiredVersion: number
  readonly reportedVersion: number
}

export type EventDraft = Omit<StoredTwinEvent, 'version' | 'desiredVersion' | 'reportedVersion'>

type Body = Readonly<Record<string, Json>>

interface Body2 {
  readonly f: 2
  readonly kind: TwinEvent['kind']
  readonly actor: readonly [kind: string, id: string, via: string]
  readonly reason?: string
  readonly desired?: JsonObject
  readonly reported?: JsonObject
  readonly tags?: Readonly<Record<string, string | null>>
  readonly from?: readonly [journalId: string, position: number, stamp: number]
  readonly at?: number
  readonly v?: number
  readonly over?: readonly string[]
  readonly named?: readonly [name: string, is: string]
  readonly dv: number
  readonly rv: number
}

export function encodeEvent (event: StoredTwinEvent): EntityEvent {
  const { version, stamp, kind, actor, reason, patch, from, at, v, over, named, desiredVersion: dv, reportedVersion: rv } = event
  // What is undefined is left out.
  const body: { readonly [name in keyof Body2]: Body2[name] | undefined } = {
    f: eventFormat,
    kind,
    actor: [actor.kind, actor.id, actor.via],
    reason: reason === '' ? undefined : reason,
    desired: patch.desired,
    reported: patch.reported,
    tags: patch.tags,
    from: from === undefined ? undefined : [from.journalId, from.position, from.stamp],
    at,
    v,
    over,
    named: named === undefined ? undefined : [named.name, named.is],
    dv,
    rv
  }
  return { version, stamp, body: JSON.stringify(body) }
}

/** By format: how it is brought to the next one. */
const upcasts: Readonly<Record<number, (body: Body) => Body>> = { 1: fromFormat1 }

/** @throws TwinfoldError `format_newer`, `corrupt_data` */
export function decodeEvent ({ version, stamp, body }: EntityEvent): StoredTwinEvent {
  let parsed: Body
  try {
    parsed = JSON.parse(body) as Body
  } catch (error) {
    throw new TwinfoldError('corrupt_data', `event ${version} of a twin is no JSON`, { cause: error })
  }
  const found = parsed?.f
  if (typeof found !== 'number' || !Number.isInteger(found) || found < 1) throw new TwinfoldError('corrupt_data', `event ${version} of a twin names no format`)
  if (found > eventFormat) throw new TwinfoldError('format_newer', `event ${version} of a twin has format ${found}; this version of Twinfold knows ${eventFormat}`)
  for (let format = found; format < eventFormat; format++) parsed = upcasts[format](parsed)
  const { kind, actor, reason = '', desired, reported, tags, from, at, v, over, named, dv, rv } = parsed as unknown as Body2
  return {
    version,
    stamp,
    kind,
    actor: { kind: actor[0], id: actor[1], via: actor[2] } as Actor,
    reason,
    patch: { ...(desired === undefined ? {} : { desired }), ...(reported === undefined ? {} : { reported }), ...(tags === undefined ? {} : { tags }) },
    ...(from === undefined ? {} : { from: { journalId: from[0], position: from[1], stamp: from[2] } }),
    ...(at === undefined ? {} : { at }),
    ...(v === undefined ? {} : { v }),
    ...(over === undefined ? {} : { over }),
    ...(named === undefined ? {} : { named: { name: named[0], is: named[1] as 'added' | 'removed' } }),
    desiredVersion: dv,
    reportedVersion: rv
  }
}

/** `{f:1, k:'created'|…, by:'kind:via:id', d, r, t, dv, rv}` */
function fromFormat1 (body: Body): Body {
  const [kind, via, ...id] = String(body.by).split(':')
  const next: Record<string, Json> = { f: 2, kind: body.k, actor: [kind, id.join(':'), via], dv: body.dv ?? 0, rv: body.rv ?? 0 }
  for (const [old, name] of [['d', 'desired'], ['r', 'reported'], ['t', 'tags']] as const) if (body[old] !== undefined) put(next, name, body[old])
  return next
}
