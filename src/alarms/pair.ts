/** One rule and one device as a node remembers them, and how that is brought together with what another node has written. */
import { Side } from '../core/threshold.js'
import type { AlarmRule } from '../../workers/watch-protocol.js'
import type { StoredAlarm } from './alarm-document.js'
import { newTrack, type Track } from './alarm-machine.js'

export interface Pair {
  readonly tenant: string
  readonly device: string
  readonly state: RuleState
  track: Track
  stored: StoredAlarm | null
  /** Accept stamp of what was evaluated last, µs: event time goes on from there while nothing comes. */
  arrivedAt: number
  /** Number of the last event that the event log has for certain. */
  told: number
}

export interface RuleState {
  readonly tenant: string
  readonly rule: AlarmRule
  readonly durationUs: number
  readonly pairs: Map<string, Pair>
  /** Monotonic; when its documents were read last. */
  loadedMs: number
  loading: Promise<void> | null
  /** Its active alarms count. Not where the rule is known from an old alarm only, or not in force any more. */
  counted: boolean
  /** Another version of the rule is in force: nothing is written in its name any more. */
  over: boolean
}

export function newRuleState (tenant: string, rule: AlarmRule): RuleState {
  // A source that is silent since `ts` counts from one µs later: the point itself still came.
  const durationUs = rule.noData === null ? rule.durationSeconds * 1e6 : rule.noData.seconds * 1e6 - 1
  return { tenant, rule, durationUs, pairs: new Map(), loadedMs: -Infinity, loading: null, counted: true, over: false }
}

export function newPair (state: RuleState, device: string): Pair {
  return { tenant: state.tenant, device, state, track: newTrack, stored: null, arrivedAt: 0, told: 0 }
}

/** Takes over what is stored. What this node evaluated later stands; whether there is an alarm is as stored. */
export function adopt (pair: Pair, stored: StoredAlarm | null): void {
  pair.stored = stored
  if (stored === null || stored.document.ruleStamp !== pair.state.rule.stamp) {
    pair.track = { ...pair.track, active: false }
    return
  }
  const { track } = stored.document
  if (track.lastTs >= pair.track.lastTs) {
    pair.track = track
    pair.arrivedAt = Math.max(pair.arrivedAt, stored.document.changedAt)
    return
  }
  const mine = pair.track
  const here = mine.side === Side.beyond
  // A streak that was going on in both has had its alarm where the stored one has.
  const same = here && track.side === Side.beyond && track.since <= mine.since
  const since = same ? track.since : mine.since
  const spent = here && (track.active || (mine.active && !track.active) || (same && track.spent === track.since)) ? since : Math.max(mine.spent, track.spent)
  pair.track = { ...mine, since, sinceValue: same ? track.sinceValue : mine.sinceValue, spent, active: track.active }
}
