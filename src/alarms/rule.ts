/** What an alarm rule may say, checked, with what it leaves out filled in. Pure. */
import { TwinfoldError } from '../core/errors.js'
import { isDeviceId } from '../core/ids.js'
import { metricNameBytesMax } from '../core/limits.js'
import type { Value } from '../core/reading.js'
import { oppositeOf, type Operator, type Severity, type Threshold } from '../core/threshold.js'
import type { AlarmRule, RuleScope, RuleSource } from '../../workers/watch-protocol.js'

export const rulesPerTenantMax = 200
export const durationSecondsMax = 30 * 86_400
export const noDataSecondsMin = 5
const ruleIdPattern = /^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$/

export interface RuleBody {
  readonly name?: string
  readonly severity?: Severity
  readonly enabled?: boolean
  readonly message?: string
  readonly scope?: { readonly model?: string, readonly device?: string, readonly tag?: string } | null
  readonly source: { readonly metric?: string, readonly reported?: string, readonly presence?: boolean }
  readonly condition?: { readonly op: Operator, readonly value: Value, readonly clear?: { readonly op?: Operator, readonly value: Value } | null } | null
  readonly durationSeconds?: number
  readonly noData?: { readonly seconds: number } | null
}

export function isRuleId (id: string): boolean { return ruleIdPattern.test(id) }

const refuse = (field: string, what: string): TwinfoldError => new TwinfoldError('invalid_field', `'${field}' ${what}`, { field })

/** @throws TwinfoldError `invalid_field` naming the member */
export function checkedRule (id: string, body: RuleBody, stamp: number): AlarmRule {
  if (!isRuleId(id)) throw refuse('id', 'must be 1 to 64 characters of A-Z a-z 0-9 . _ : -')
  const { name = id, severity = 'major', enabled = true, message = '', durationSeconds = 0, noData = null } = body
  const source = checkedSource(body.source)
  if (noData !== null) {
    if (!('metric' in source)) throw refuse('noData', `goes with a source 'metric'`)
    if (body.condition !== undefined && body.condition !== null) throw refuse('condition', `does not go with 'noData'`)
    if (durationSeconds !== 0) throw refuse('durationSeconds', `does not go with 'noData', which says itself how long`)
    if (noData.seconds < noDataSecondsMin || noData.seconds > durationSecondsMax) throw refuse('noData.seconds', `must be between ${noDataSecondsMin} and ${durationSecondsMax}`)
  } else if ('metric' in source && source.metric === '*') {
    throw refuse('source.metric', `may be * with 'noData' only`)
  }
  const condition = noData === null ? checkedCondition(body.condition ?? null, source) : null
  if (durationSeconds < 0 || durationSeconds > durationSecondsMax) throw refuse('durationSeconds', `must be between 0 and ${durationSecondsMax}`)
  return { id, name, severity, enabled, message, scope: checkedScope(body.scope ?? null), source, condition, durationSeconds, noData, stamp }
}

function checkedScope (scope: NonNullable<RuleBody['scope']> | null): RuleScope {
  if (scope === null) return null
  const { model, device, tag } = scope
  if ([model, device, tag].filter(part => part !== undefined).length !== 1) throw refuse('scope', `takes one of 'model', 'device' and 'tag'`)
  if (device !== undefined) {
    if (!isDeviceId(device)) throw refuse('scope.device', 'is no device id')
    return { device }
  }
  if (model !== undefined) return { model }
  if (!/^[A-Za-z0-9_.:/-]{1,64}=/.test(tag as string)) throw refuse('scope.tag', 'must be NAME=VALUE')
  return { tag: tag as string }
}

function checkedSource ({ metric, reported, presence }: RuleBody['source']): RuleSource {
  if ([metric, reported, presence].filter(part => part !== undefined && part !== false).length !== 1) throw refuse('source', `takes one of 'metric', 'reported' and 'presence'`)
  if (metric !== undefined) {
    if (metric === '' || Buffer.byteLength(metric) > metricNameBytesMax) throw refuse('source.metric', `must have 1 to ${metricNameBytesMax} bytes`)
    return { metric }
  }
  if (reported !== undefined) {
    if (reported === '' || reported.length > 1024) throw refuse('source.reported', 'must have 1 to 1024 characters')
    return { reported }
  }
  return { presence: true }
}

function checkedCondition (condition: NonNullable<RuleBody['condition']> | null, source: RuleSource): Threshold {
  if (condition === null) throw refuse('condition', `is required where 'noData' is not given`)
  const { op, value } = condition
  requireComparable(op, value, 'condition')
  if ('presence' in source && (value !== 'connected' && value !== 'disconnected')) throw refuse('condition.value', `is 'connected' or 'disconnected' for presence`)
  if (condition.clear === undefined || condition.clear === null) return { op, value, clear: null }
  const clear = { op: condition.clear.op ?? oppositeOf[op], value: condition.clear.value }
  requireComparable(clear.op, clear.value, 'condition.clear')
  if (typeof clear.value !== typeof value) throw refuse('condition.clear.value', `must be of the same type as 'condition.value'`)
  const rising = op === 'gt' || op === 'ge'
  const falling = op === 'lt' || op === 'le'
  if ((rising && (!(clear.op === 'lt' || clear.op === 'le') || clear.value > value)) || (falling && (!(clear.op === 'gt' || clear.op === 'ge') || clear.value < value))) {
    throw refuse('condition.clear', 'must lie on the other side of the limit, or at it, and look away from it')
  }
  return { op, value, clear }
}

function requireComparable (op: Operator, value: Value, field: string): void {
  if (typeof value === 'string' && value.length > 1024) throw refuse(`${field}.value`, 'must have at most 1024 characters')
  if (op !== 'eq' && op !== 'ne' && typeof value !== 'number') throw refuse(`${field}.value`, `must be a number for '${op}'`)
}
