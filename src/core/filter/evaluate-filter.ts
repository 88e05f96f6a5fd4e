/** Says whether a filter holds for a device as it is known here. Pure; the same answer as search gives (compiled to SQL) for the same values. */
import type { CompareOp, Filter, FilterField, FilterTerm, FilterValue } from './filter.js'
import { compareTexts, wellFormed } from './well-formed.js'

type SubjectValue = string | number | boolean | null | readonly SubjectValue[] | { readonly [key: string]: SubjectValue }
type SubjectObject = Readonly<Record<string, SubjectValue>>

/** A device to a filter. What is absent or null is missing. */
export interface FilterSubject {
  readonly id: string
  readonly type?: string
  readonly name?: string
  readonly gateway?: string | null
  /** Times: µs. */
  readonly createdAt?: number | null
  readonly lastActivity?: number | null
  readonly connection?: { readonly state: 'connected' | 'disconnected', readonly since: number | null, readonly reason?: string | null } | null
  readonly tags?: Readonly<Record<string, string>>
  readonly desired?: SubjectObject
  readonly reported?: SubjectObject
  /** Newest value of each metric, by event time. */
  readonly latest?: Readonly<Record<string, string | number | boolean>>
}

/** @param nowUs what `now` stands for, µs; default: this machine's time. */
export function evaluateFilter (filter: Filter, subject: FilterSubject, nowUs = Date.now() * 1000): boolean {
  switch (filter.kind) {
    case 'and': return filter.items.every(item => evaluateFilter(item, subject, nowUs))
    case 'or': return filter.items.some(item => evaluateFilter(item, subject, nowUs))
    case 'not': return !evaluateFilter(filter.item, subject, nowUs)
    default: return holds(filter, readField(filter.field, subject), nowUs)
  }
}

function holds (term: FilterTerm, got: SubjectValue | undefined, nowUs: number): boolean {
  switch (term.kind) {
    case 'exists': return got !== undefined && got !== null
    case 'like': return typeof got === 'string' && wellFormed(got).startsWith(term.prefix)
    case 'in': return term.values.some(value => isEqual(got, value, nowUs))
    case 'compare':
      if (term.op === 'eq') return isEqual(got, term.value, nowUs)
      return term.op === 'ne' ? !isEqual(got, term.value, nowUs) : isOrdered(got, term.op, term.value, nowUs)
  }
}

/** The literal's value; times as µs. */
function literal (value: FilterValue, nowUs: number): string | number | boolean | null {
  if (value.type === 'null') return null
  return value.type === 'time' ? value.us : value.type === 'now' ? nowUs + value.offsetUs : value.value
}

function isEqual (got: SubjectValue | undefined, value: FilterValue, nowUs: number): boolean {
  const wanted = literal(value, nowUs)
  if (wanted === null) return got === undefined || got === null
  return typeof got === 'string' && typeof wanted === 'string' ? compareTexts(got, wanted) === 0 : got === wanted
}

function isOrdered (got: SubjectValue | undefined, op: CompareOp, value: FilterValue, nowUs: number): boolean {
  const wanted = literal(value, nowUs)
  if (typeof got === 'string' && typeof wanted === 'string') return isSide(compareTexts(got, wanted), op)
  // NaN is neither side of anything.
  return typeof got === 'number' && typeof wanted === 'number' && !Number.isNaN(got) && isSide(got < wanted ? -1 : got > wanted ? 1 : 0, op)
}

function isSide (order: number, op: CompareOp): boolean {
  return op === 'lt' ? order < 0 : op === 'le' ? order <= 0 : op === 'gt' ? order > 0 : order >= 0
}

/** The field's value; undefined where it has none. */
export function readField ({ root, path }: FilterField, subject: FilterSubject): SubjectValue | undefined {
  switch (root) {
    case 'connection.state': return subject.connection?.state
    case 'connection.since': return subject.connection?.since
    case 'connection.reason': return subject.connection?.reason
    case 'tags': case 'latest': case 'desired': case 'reported': return readPath(subject[root], path)
    default: return subject[root]
  }
}

function readPath (from: SubjectObject | undefined, path: readonly string[]): SubjectValue | undefined {
  let at: SubjectValue | undefined = from
  for (const key of path) {
    if (typeof at !== 'object' || at === null || Array.isArray(at) || !Object.hasOwn(at, key)) return undefined
    at = (at as SubjectObject)[key]
  }
  return at
}
