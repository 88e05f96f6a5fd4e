/**
 * The reducer: a twin and the next event give the next twin. The only code that makes a state, for a change that is being made and for one
 * that is read back alike, so that a rebuild from events gives the same bytes. Pure.
 */
import type { EventDraft, StoredTwinEvent } from './event-codec.js'
import { isEmpty, isObject, mergePatch } from './json-merge.js'
import { leavesAt, leavesOf, pathOf, pathsAbove, valueAt } from './leaf-path.js'
import { appliedMax, goneMax } from './twin-limits.js'
import type { JsonObject, LeafTime } from './twin-model.js'
import { absentTwin, type LeafTimes, type TwinState } from './twin-state.js'

/** The event of a draft: its version, and those of the parts after it. */
export function eventOf (state: TwinState, draft: EventDraft): StoredTwinEvent {
  const version = state.version + 1
  const fresh = draft.kind !== 'changed'
  return {
    ...draft,
    version,
    desiredVersion: draft.patch.desired !== undefined ? version : fresh ? 0 : state.desiredVersion,
    reportedVersion: draft.patch.reported !== undefined ? version : fresh ? 0 : state.reportedVersion
  }
}

/** @param event of the version after the state's */
export function reduce (state: TwinState, event: StoredTwinEvent): TwinState {
  if (event.kind === 'deleted') return absentTwin(event.version, event.stamp)
  const base = event.kind === 'created' ? absentTwin(state.version, state.floor) : state
  const { version, stamp, patch, from, named } = event
  const desired = changePart(base, 'desired', patch.desired, leafTime(event, false))
  const reported = changePart(base, 'reported', patch.reported, leafTime(event, true), event.over)
  return {
    alive: true,
    version,
    desiredVersion: patch.desired === undefined ? base.desiredVersion : version,
    reportedVersion: patch.reported === undefined ? base.reportedVersion : version,
    tagsVersion: patch.tags === undefined ? base.tagsVersion : version,
    createdAt: event.kind === 'created' ? stamp : base.createdAt,
    updatedAt: stamp,
    floor: base.floor,
    names: named === undefined ? base.names : named.is === 'added' ? [...base.names, named.name] : base.names.filter(name => name !== named.name),
    tags: patch.tags === undefined ? base.tags : mergePatch(base.tags, patch.tags) as Readonly<Record<string, string>>,
    desired: desired.value,
    reported: reported.value,
    times: { desired: desired.times, reported: reported.times },
    gone: { desired: desired.gone, reported: reported.gone },
    applied: from === undefined ? base.applied : moveOn(base.applied, from.journalId, from.position)
  }
}

function leafTime ({ stamp, from, at, v }: StoredTwinEvent, ofDevice: boolean): LeafTime {
  const accepted = from?.stamp ?? stamp
  const time = { at: at ?? accepted, stamp: accepted }
  return ofDevice && v !== undefined ? { ...time, v } : time
}

function moveOn (applied: ReadonlyMap<string, number>, journalId: string, position: number): ReadonlyMap<string, number> {
  const next = new Map(applied)
  next.delete(journalId)
  next.set(journalId, Math.max(position, applied.get(journalId) ?? 0))
  if (next.size > appliedMax) next.delete(next.keys().next().value as string)
  return next
}

interface Part { readonly value: JsonObject, readonly times: LeafTimes, readonly gone: LeafTimes }

function changePart (base: TwinState, part: 'desired' | 'reported', patch: JsonObject | undefined, time: LeafTime, over: readonly string[] = []): Part {
  const value = base[part]
  if ((patch === undefined || isEmpty(patch)) && over.length === 0) return { value, times: base.times[part], gone: base.gone[part] }
  const times = new Map(base.times[part])
  const gone = new Map(base.gone[part])
  for (const leaf of leavesOf(patch ?? {})) {
    const { path, keys } = leaf
    const before = valueAt(value, keys)
    if (leaf.value !== null && isObject(leaf.value) && isObject(before)) continue
    const below = before !== undefined && isObject(before) ? leavesAt(value, keys) : []
    for (const { path: inner } of below) times.delete(inner)
    for (const above of pathsAbove(keys)) bury(times, gone, above)
    times.delete(path)
    gone.delete(path)
    if (leaf.value !== null) times.set(path, time)
    // What an operator takes out is what was desired, leaf by leaf; what a device takes out is all that was there at any time.
    else if (part === 'desired' && below.length > 0) for (const inner of below) note(gone, inner.path, time)
    else gone.set(path, time)
  }
  for (const path of over) note(gone, path, time)
  while (gone.size > goneMax) gone.delete(gone.keys().next().value as string)
  return { value: patch === undefined ? value : mergePatch(value, patch), times, gone }
}

/** A leaf that gives way to an object is gone as a leaf: what was below it before must not come back with a delayed report. */
function bury (times: Map<string, LeafTime>, gone: Map<string, LeafTime>, path: string): void {
  const time = times.get(path)
  if (time === undefined) return
  times.delete(path)
  note(gone, path, time)
}

/** As the newest. */
function note (gone: Map<string, LeafTime>, path: string, time: LeafTime): void {
  gone.delete(path)
  gone.set(path, time)
}

/** The times that speak about a path: its own, those of leaves above it and below it, there or gone. */
export function timesAbout (state: TwinState, part: 'desired' | 'reported', keys: readonly string[]): { readonly above: readonly LeafTime[], readonly below: readonly { readonly keys: readonly string[], readonly time: LeafTime | undefined }[] } {
  const times = state.times[part]
  const gone = state.gone[part]
  const above: LeafTime[] = []
  for (const path of [...pathsAbove(keys), pathOf(keys)]) {
    for (const time of [times.get(path), gone.get(path)]) if (time !== undefined) above.push(time)
  }
  const value = valueAt(state[part], keys)
  const below = isObject(value) ? leavesAt(state[part], keys).map(leaf => ({ keys: leaf.keys, time: times.get(leaf.path) })) : []
  return { above, below }
}
