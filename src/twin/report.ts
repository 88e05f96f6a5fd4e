/**
 * What a device reports: a JSON merge patch, with its own number and time where it gives them, and what of it counts. A leaf that was set by
 * a later report keeps its value, so a buffer that comes late, in any order and over any node, ends in the newest value of each leaf.
 * Pure.
 */
import { parseIsoTime } from '../core/iso-time.js'
import { futureUsMax, timestampUsMax } from '../core/limits.js'
import { usPerMs } from '../core/reading.js'
import { isEmpty, isObject, sameJson } from './json-merge.js'
import { leavesOf, pathsAbove, setAt, valueAt } from './leaf-path.js'
import { timesAbout } from './reduce.js'
import { checkShape, type TwinLimits } from './twin-limits.js'
import type { Json, JsonObject, LeafTime, TwinRules } from './twin-model.js'
import type { TwinState } from './twin-state.js'

export interface Report {
  readonly patch: JsonObject
  /** The device's time of the change (`$ts`), µs, and its number of the update (`$version`), where it gave them. */
  readonly at: number | null
  readonly v: number | null
}

export interface RefusedReport { readonly code: string, readonly detail: string }

const utf8 = new TextDecoder('utf-8', { fatal: true })

const refused = (code: string, detail: string): RefusedReport => ({ code, detail })

/** @param stamp accept stamp, µs: `$ts` may be ten minutes ahead of it */
export function parseReport (payload: Uint8Array, stamp: number, limits: TwinLimits): Report | RefusedReport {
  let body: Json
  try {
    body = JSON.parse(utf8.decode(payload)) as Json
  } catch {
    return refused('json_invalid', 'the report is no JSON in UTF-8')
  }
  if (!isObject(body)) return refused('twin_invalid', 'a report is a JSON object: a merge patch of the reported state')
  const { $version: v = null, $ts: ts = null, ...patch } = body
  if (v !== null && (typeof v !== 'number' || !Number.isSafeInteger(v) || v < 0)) return refused('twin_invalid', '$version is a whole number from 0 to 2^53 - 1')
  const at = ts === null ? null : timeOf(ts)
  if (at === undefined) return refused('ts_invalid', '$ts is milliseconds since the epoch or ISO 8601')
  if (at !== null && at > stamp + futureUsMax) return refused('ts_future', '$ts is more than 10 minutes ahead of arrival')
  const wrong = checkShape(patch, '', limits)
  if (wrong !== null) return refused(wrong.code === 'limit_reached' ? 'too_deep' : 'twin_invalid', wrong.detail)
  return { patch, at, v }
}

function timeOf (ts: Json): number | undefined {
  const us = typeof ts === 'number' ? Math.round(ts * usPerMs) : typeof ts === 'string' ? parseIsoTime(ts) ?? NaN : NaN
  return us >= 0 && us <= timestampUsMax ? us : undefined
}

/** Is a report with this time older than a leaf of that time? By the device's numbers, else by its time, else by who was accepted first. */
function isOlder (report: Report, stamp: number, leaf: LeafTime): boolean {
  if (report.v !== null && leaf.v !== undefined && report.v !== leaf.v) return report.v < leaf.v
  if (report.at !== null && report.at !== leaf.at) return report.at < leaf.at
  return stamp < leaf.stamp
}

/** A leaf that has the value already: does its time move on, so that what is older than this report loses against it? */
function movesTime (report: Report, stamp: number, leaf: LeafTime | undefined, byStamp: boolean): boolean {
  if (leaf === undefined) return byStamp || report.v !== null || report.at !== null
  if (report.v !== null && report.v !== leaf.v) return true
  if (report.at !== null) return report.at > leaf.at
  return report.v === null && byStamp && stamp > leaf.stamp
}

function removedBelow (state: TwinState, path: string): LeafTime[] {
  const found: LeafTime[] = []
  for (const [inner, time] of state.gone.reported) if (inner.startsWith(`${path}.`)) found.push(time)
  return found
}

export interface Winning {
  /** Empty where nothing counts. */
  readonly patch: JsonObject
  /** Paths that the report set or removed as a whole, where something newer stands below: what was there before is over all the same. */
  readonly over: readonly string[]
}

/**
 * The part of the report that counts, as a merge patch.
 * @param byStamp reports may come delayed through another node: a value that is repeated without a time of its own is noted too
 */
export function winningPatch (state: TwinState, report: Report, stamp: number, byStamp: boolean): Winning {
  const patch: Record<string, Json> = {}
  const over: string[] = []
  for (const { path, keys, value } of leavesOf(report.patch)) {
    const before = valueAt(state.reported, keys)
    // RFC 7396: an empty object makes sure that there is an object.
    if (value !== null && isObject(value) && before !== undefined && isObject(before)) continue
    const { above, below } = timesAbout(state, 'reported', keys)
    if (above.some(time => isOlder(report, stamp, time))) continue
    const newer = below.filter(({ time }) => time !== undefined && isOlder(report, stamp, time))
    // A later removal below it says, as a later leaf does, that there was an object.
    if (newer.length > 0 || (value !== null && removedBelow(state, path).some(time => isOlder(report, stamp, time)))) {
      // What was set below it later stays; what was set before goes.
      for (const leaf of below) if (!newer.includes(leaf)) setAt(patch, leaf.keys, null)
      if (movesTime(report, stamp, state.gone.reported.get(path), true)) over.push(path)
      continue
    }
    const same = value === null ? before === undefined : before !== undefined && sameJson(before, value)
    const known = state.times.reported.get(path) ?? state.gone.reported.get(path)
    if (!same || movesTime(report, stamp, known, byStamp)) setAt(patch, keys, value)
  }
  return { patch, over }
}

/**
 * What the report does to the desired state where the two differ: a merge patch of it, null where it does nothing.
 * @param policy TwinRules.conflicts
 */
export function desiredAfterReport (state: TwinState, patch: JsonObject, at: number, policy: TwinRules['conflicts']): JsonObject | null {
  if (policy === 'cloud') return null
  const desired: Record<string, Json> = {}
  for (const { keys, value } of leavesOf(patch)) {
    const wanted = valueAt(state.desired, keys)
    const blocked = wanted === undefined && pathsAbove(keys).some(path => state.times.desired.has(path))
    if (wanted === undefined && !blocked) continue
    if (wanted !== undefined && value !== null && (sameJson(wanted, value) || (isObject(value) && isObject(wanted)))) continue
    if (policy === 'newest') {
      const { above, below } = timesAbout(state, 'desired', keys)
      const latest = Math.max(0, ...above.map(time => time.at), ...below.map(({ time }) => time?.at ?? 0))
      if (at <= latest) continue
    }
    setAt(desired, keys, value)
  }
  return isEmpty(desired) ? null : desired
}
