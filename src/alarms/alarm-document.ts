/**
 * An alarm as it is stored, one document for a rule and a device, and the events that are told of it. The document holds what was not
 * told yet: it is written before the event log is, so whoever finds it after a crash tells the same events (same ids) again. Pure.
 */
import { createHash } from 'node:crypto'
import type { Value } from '../core/reading.js'
import type { Severity } from '../core/threshold.js'
import { Side } from '../core/threshold.js'
import type { OutEvent } from '../store/event-log.js'
import type { AlarmRule } from '../../workers/watch-protocol.js'
import type { AlarmStep, Track } from './alarm-machine.js'
import { isOpen, isPending } from './alarm-machine.js'

export type ClearReason = 'condition' | 'manual' | 'rule_changed' | 'device_deleted'

export interface AlarmDocument {
  readonly v: 1
  readonly rule: string
  /** Of the version of the rule that it is of. */
  readonly ruleStamp: number
  readonly device: string
  readonly name: string
  readonly severity: Severity
  readonly message: string
  /** `none`: never raised, but a streak goes on. */
  readonly state: 'none' | 'active' | 'cleared'
  readonly causeId: string
  /** Event times, µs; 0: not. */
  readonly raisedAt: number
  readonly clearedAt: number
  readonly clearReason: ClearReason | ''
  readonly acknowledged: boolean
  readonly ackedAt: number
  readonly ackedBy: string
  readonly ackComment: string
  /** That raised it. */
  readonly value: Value
  /** How often it was raised since the document is there. */
  readonly count: number
  /** Wall clock of the last change, µs. */
  readonly changedAt: number
  /** Events told so far: their order. */
  readonly events: number
  readonly untold: readonly OutEvent[]
  readonly track: Track
}

export interface StoredAlarm { readonly document: AlarmDocument, readonly revision: number }

export function alarmId (rule: string, device: string): string { return `${rule}~${device}` }

export function emptyAlarm (rule: AlarmRule, device: string, track: Track): AlarmDocument {
  return {
    v: 1, rule: rule.id, ruleStamp: rule.stamp, device, name: rule.name, severity: rule.severity, message: rule.message, state: 'none', causeId: '', raisedAt: 0, clearedAt: 0, clearReason: '',
    acknowledged: false, ackedAt: 0, ackedBy: '', ackComment: '', value: 0, count: 0, changedAt: 0, events: 0, untold: [], track
  }
}

/** The same for the same streak, whoever finds it, however often. */
export function causeOf (tenant: string, rule: AlarmRule, device: string, since: number): string {
  return createHash('sha256').update(`${tenant}\0${rule.id}\0${rule.stamp}\0${device}\0${since}`).digest('hex').slice(0, 32)
}

export function alarmView (alarm: AlarmDocument): Readonly<Record<string, unknown>> {
  const { rule, device, name, severity, message, state, causeId, raisedAt, clearedAt, clearReason, acknowledged, ackedAt, ackedBy, ackComment, value, count } = alarm
  const time = (us: number): string | null => us === 0 ? null : new Date(us / 1000).toISOString()
  return {
    id: alarmId(rule, device), rule, device, name, severity, message, state, causeId, value, count, raisedAt: time(raisedAt), clearedAt: time(clearedAt), clearReason: clearReason === '' ? null : clearReason,
    acknowledged, ackedAt: time(ackedAt), ackedBy: ackedBy === '' ? null : ackedBy, ackComment: ackComment === '' ? null : ackComment
  }
}

type AlarmEventType = 'alarm.raised' | 'alarm.acknowledged' | 'alarm.cleared'

/** The alarm with one event more to tell. */
function withEvent (tenant: string, alarm: AlarmDocument, type: AlarmEventType, nowUs: number): AlarmDocument {
  const events = alarm.events + 1
  const event: OutEvent = {
    id: `${type}.${alarm.causeId}`, tenant, device: alarm.device, type, stamp: nowUs, data: JSON.stringify(alarmView(alarm)), sequence: { of: `alarm/${alarm.rule}`, number: events }
  }
  return { ...alarm, events, changedAt: nowUs, untold: [...alarm.untold, event] }
}

export function raised (tenant: string, alarm: AlarmDocument, rule: AlarmRule, step: AlarmStep & { readonly kind: 'raise' }, nowUs: number): AlarmDocument {
  const { name, severity, message, stamp: ruleStamp } = rule
  return withEvent(tenant, {
    ...alarm, name, severity, message, ruleStamp, state: 'active', causeId: causeOf(tenant, rule, alarm.device, step.since), raisedAt: step.at, clearedAt: 0, clearReason: '',
    acknowledged: false, ackedAt: 0, ackedBy: '', ackComment: '', value: step.value, count: alarm.count + 1
  }, 'alarm.raised', nowUs)
}

export function cleared (tenant: string, alarm: AlarmDocument, at: number, reason: ClearReason, nowUs: number): AlarmDocument {
  return withEvent(tenant, { ...alarm, state: 'cleared', clearedAt: at, clearReason: reason }, 'alarm.cleared', nowUs)
}

export function acknowledged (tenant: string, alarm: AlarmDocument, by: string, comment: string, nowUs: number): AlarmDocument {
  return withEvent(tenant, { ...alarm, acknowledged: true, ackedAt: nowUs, ackedBy: by, ackComment: comment }, 'alarm.acknowledged', nowUs)
}

/** There is more to be remembered than what memory holds: the document must be written. */
export function mustWrite (before: AlarmDocument | null, track: Track, steps: readonly AlarmStep[]): boolean {
  if (steps.length > 0) return true
  // A streak that raises nothing is worth no document.
  if (before === null && !track.active && !isPending(track)) return false
  const wasOpen = before !== null && isOpen(before.track)
  if (wasOpen !== isOpen(track)) return true
  // Another streak than the one that is written down.
  return before !== null && track.side === Side.beyond && (before.track.side !== Side.beyond || before.track.since !== track.since) && !track.active
}
