/**
 * The alarm of one rule for one device, as a function of what its source did in event time. The source is taken for a step function: a
 * value holds until the next one. A *streak* is a time during which the value is beyond the limit without a break; it raises one alarm
 * when it has lasted as long as the rule asks, and no second one ever, whatever clears the alarm meanwhile. Pure.
 *
 * What is older than what was evaluated last changes nothing, which makes a repeat harmless and a late point a point for the queries only.
 */
import type { Value } from '../core/reading.js'
import { Side } from '../core/threshold.js'

export interface Track {
  /** Newest event time that was evaluated, µs; -1: none. */
  readonly lastTs: number
  readonly side: Side
  /** Begin of the streak while the side is beyond; µs. */
  readonly since: number
  readonly sinceValue: Value
  /** The streak that began then has had its alarm. -1: none. */
  readonly spent: number
  readonly active: boolean
}

export const newTrack: Track = { lastTs: -1, side: Side.clear, since: -1, sinceValue: 0, spent: -1, active: false }

export interface Edge { readonly ts: number, readonly side: Side, readonly value: Value }

export type AlarmStep =
  /** `since` names the streak: the cause. `at`: when it had lasted long enough, event time, µs. */
  | { readonly kind: 'raise', readonly since: number, readonly at: number, readonly value: Value }
  | { readonly kind: 'clear', readonly at: number, readonly value: Value }

export interface Advanced { readonly track: Track, readonly steps: readonly AlarmStep[] }

/** The streak that is not spent has not lasted long enough yet. */
export function isPending ({ side, spent, since, active }: Track): boolean {
  return side === Side.beyond && !active && spent !== since
}

/** The streak goes on, whether it has had its alarm or not: what must be remembered over a restart. */
export function isOpen (track: Track): boolean { return track.side === Side.beyond || track.active }

/** The streak went on until `ts`. */
function held (track: Track, ts: number, durationUs: number): Advanced {
  if (!isPending(track) || ts - track.since < durationUs) return { track, steps: [] }
  const { since, sinceValue: value } = track
  return { track: { ...track, active: true, spent: since }, steps: [{ kind: 'raise', since, at: since + durationUs, value }] }
}

/** Time went on until `ts` (event time) without a new value. */
export function afterSilence (track: Track, ts: number, durationUs: number): Advanced { return held(track, ts, durationUs) }

function afterEdge (track: Track, { ts, side, value }: Edge, durationUs: number): Advanced {
  const before = held(track, ts, durationUs)
  let next: Track = { ...before.track, lastTs: ts, side }
  const steps = [...before.steps]
  if (side === Side.beyond && track.side !== Side.beyond) {
    // While the alarm stands, its cause stands for every streak within it.
    next = { ...next, since: ts, sinceValue: value, ...next.active ? { spent: ts } : {} }
    const now = held(next, ts, durationUs)
    steps.push(...now.steps)
    next = now.track
  } else if (side === Side.clear && next.active) {
    next = { ...next, active: false }
    steps.push({ kind: 'clear', at: ts, value })
  }
  return { track: next, steps }
}

/** @param edges ascending by time; those up to `lastTs` are passed over */
export function afterEdges (track: Track, edges: readonly Edge[], durationUs: number): Advanced {
  let advanced: Advanced = { track, steps: [] }
  for (const edge of edges) {
    if (edge.ts <= advanced.track.lastTs) continue
    const { track: next, steps } = afterEdge(advanced.track, edge, durationUs)
    advanced = { track: next, steps: steps.length === 0 ? advanced.steps : [...advanced.steps, ...steps] }
  }
  return advanced
}

/** Somebody said that it is over: this streak raises nothing any more. */
export function afterManualClear (track: Track): Track {
  return { ...track, active: false, spent: track.side === Side.beyond ? track.since : track.spent }
}
