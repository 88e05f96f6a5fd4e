/**
 * On which side of an alarm's condition a value is. Packers and the alarm engine ask the same question of points, of reported values and
 * of presence. Pure.
 */
import type { Value } from './reading.js'

export const severities = ['critical', 'major', 'minor', 'warning'] as const
export type Severity = typeof severities[number]

export const operators = ['gt', 'ge', 'lt', 'le', 'eq', 'ne'] as const
export type Operator = typeof operators[number]

export interface Threshold {
  readonly op: Operator
  readonly value: Value
  /** Where it is over again; null: as soon as the condition does not hold. */
  readonly clear: { readonly op: Operator, readonly value: Value } | null
}

export const Side = { clear: 0, between: 1, beyond: 2 } as const
export type Side = typeof Side[keyof typeof Side]

/** The operator that holds where the given one does not. */
export const oppositeOf: Readonly<Record<Operator, Operator>> = { gt: 'le', ge: 'lt', lt: 'ge', le: 'gt', eq: 'ne', ne: 'eq' }

function holds (op: Operator, value: Value, limit: Value): boolean {
  switch (op) {
    case 'gt': return value > limit
    case 'ge': return value >= limit
    case 'lt': return value < limit
    case 'le': return value <= limit
    case 'eq': return value === limit
    case 'ne': return value !== limit
  }
}

/** null: the value says nothing, because it has another type than the limit or is no number at all. */
export function sideOf (threshold: Threshold, value: Value): Side | null {
  if (typeof value !== typeof threshold.value || Number.isNaN(value)) return null
  if (holds(threshold.op, value, threshold.value)) return Side.beyond
  const { clear } = threshold
  return clear === null || holds(clear.op, value, clear.value) ? Side.clear : Side.between
}

/** Which devices an alarm rule is for; null: all of the tenant. A tag is NAME=VALUE. */
export type RuleScope = { readonly model: string } | { readonly device: string } | { readonly tag: string } | null

export function inScope (scope: RuleScope, device: { readonly id: string, readonly type: string, readonly tags?: Readonly<Record<string, string>> }): boolean {
  if (scope === null) return true
  if ('device' in scope) return scope.device === device.id
  if ('model' in scope) return scope.model === device.type
  const at = scope.tag.indexOf('=')
  const { tags } = device
  return tags !== undefined && Object.hasOwn(tags, scope.tag.slice(0, at)) && tags[scope.tag.slice(0, at)] === scope.tag.slice(at + 1)
}
