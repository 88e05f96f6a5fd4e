/** Random filters over random devices that they often hold for, and a reading of the filter language that shares nothing with the server's. */
import fc from 'fast-check'
import type { FilterSubject } from '../../src/core/filter/evaluate-filter.js'
import type { Filter, FilterField, FilterTerm, FilterValue } from '../../src/core/filter/filter.js'

/** Few words, so that fields and values meet; with all that text can hold. */
export const words = ['', 'a', 'b', 'A', 'berlin', 'ümlaut', "o'hare", '"q"', '\\n\\', 'a\nb', '2.0', '10.0', '1', 'true', '{b0:String}', "'; DROP TABLE twins; --", '%_*', '\u{1F4A5}', '\uFFFD', '\uFF5E', 'x'.repeat(120)]
const keys = ['a', 'b', 'a.b', 'k y', '`', '"]', '__proto__', 'ü', 'toString', '\\']
const numbers = [0, 1, -1, 2, 10, 0.1, 0.1 + 0.2, -0.5, 1e300, -1e-300, 5e-324, 9007199254740993, 4e15]
const times = [1, 1000, 1_700_000_000_000_000, 1_700_000_000_000_001, 1_800_000_000_000_000]

const text = fc.constantFrom(...words)
const number = fc.constantFrom(...numbers)
const time = fc.constantFrom(...times)
const key = fc.constantFrom(...keys)
const path = fc.array(key, { minLength: 1, maxLength: 3 })
const plainText = fc.constantFrom('id', 'name', 'type', 'gateway', 'connection.reason').map((root): FilterField => ({ root: root as FilterField['root'], path: [] }))
const timeField = fc.constantFrom('createdAt', 'lastActivity', 'connection.since').map((root): FilterField => ({ root: root as FilterField['root'], path: [] }))
const oneKey = fc.tuple(fc.constantFrom('tags' as const, 'latest' as const), key).map(([root, name]): FilterField => ({ root, path: [name] }))
const pathField = fc.tuple(fc.constantFrom('desired' as const, 'reported' as const), path).map(([root, names]): FilterField => ({ root, path: names }))
const anyField = fc.oneof({ arbitrary: plainText, weight: 2 }, { arbitrary: oneKey, weight: 3 }, { arbitrary: pathField, weight: 4 })
const state: FilterField = { root: 'connection.state', path: [] }
const stateText = fc.constantFrom('connected', 'disconnected')

const textValue = text.map((value): FilterValue => ({ type: 'string', value }))
const numberValue = number.map((value): FilterValue => ({ type: 'number', value }))
const booleanValue = fc.boolean().map((value): FilterValue => ({ type: 'boolean', value }))
const nullValue = fc.constant<FilterValue>({ type: 'null' })
const timeValue = fc.oneof(time.map((us): FilterValue => ({ type: 'time', us })), fc.constantFrom(0, 1e6, -3600e6).map((offsetUs): FilterValue => ({ type: 'now', offsetUs })))
const equalOps = fc.constantFrom('eq' as const, 'ne' as const)
const allOps = fc.constantFrom('eq' as const, 'ne' as const, 'lt' as const, 'le' as const, 'gt' as const, 'ge' as const)

const term: fc.Arbitrary<Filter> = fc.oneof(
  { arbitrary: fc.record({ kind: fc.constant('compare' as const), field: anyField, op: allOps, value: fc.oneof(textValue, numberValue) }), weight: 5 },
  fc.record({ kind: fc.constant('compare' as const), field: anyField, op: equalOps, value: fc.oneof(booleanValue, nullValue) }),
  fc.record({ kind: fc.constant('compare' as const), field: timeField, op: allOps, value: timeValue }),
  fc.record({ kind: fc.constant('compare' as const), field: fc.constant(state), op: equalOps, value: stateText.map((value): FilterValue => ({ type: 'string', value })) }),
  fc.record({ kind: fc.constant('in' as const), field: anyField, values: fc.array(fc.oneof(textValue, numberValue, booleanValue), { minLength: 1, maxLength: 4 }) }),
  fc.record({ kind: fc.constant('exists' as const), field: fc.oneof(anyField, timeField, fc.constant(state)) }),
  fc.record({ kind: fc.constant('like' as const), field: anyField, prefix: text.map(word => word.replaceAll('*', '').slice(0, 3)) })
)

/** As the reader would make it: lists of two or more, no list right inside a list of its kind, ten deep at most. */
export const anyFilter: fc.Arbitrary<Filter> = fc.letrec<{ filter: Filter }>(tie => ({
  filter: fc.oneof({ maxDepth: 3, depthIdentifier: 'filter', withCrossShrink: true }, term,
    fc.record({ kind: fc.constantFrom('and' as const, 'or' as const), items: fc.array(tie('filter'), { minLength: 2, maxLength: 3 }) }),
    fc.record({ kind: fc.constant('not' as const), item: tie('filter') }))
})).filter

type Json = NonNullable<FilterSubject['reported']>[string]
const leaf: fc.Arbitrary<Json> = fc.oneof(text, number, fc.boolean(), fc.constant(null), fc.constant([1, 'a']), fc.constant({}))
const ownEntries = <T> (value: fc.Arbitrary<T>): fc.Arbitrary<Record<string, T>> => fc.array(fc.tuple(key, value), { maxLength: 5 }).map(entries => {
  const object: Record<string, T> = {}
  for (const [name, item] of entries) Object.defineProperty(object, name, { value: item, enumerable: true, configurable: true, writable: true })
  return object
})
const document: fc.Arbitrary<Record<string, Json>> = ownEntries(fc.oneof({ arbitrary: leaf, weight: 3 }, ownEntries(fc.oneof(leaf, ownEntries(leaf)))))

export const anySubject: fc.Arbitrary<FilterSubject> = fc.record({
  id: fc.constantFrom('a', 'b', 'A', '1'), type: text, name: text, gateway: fc.option(fc.constantFrom('a', 'b')), createdAt: time,
  lastActivity: fc.option(fc.constantFrom(1_800_000_000_000_000, 1_800_000_000_000_001)),
  connection: fc.option(fc.oneof(
    fc.record({ state: fc.constant('connected' as const), since: time, reason: fc.constant(null) }),
    fc.record({ state: fc.constant('disconnected' as const), since: time, reason: fc.constantFrom('a', 'closed') }))),
  tags: ownEntries(text), desired: document, reported: document,
  latest: ownEntries(fc.oneof(text, number, fc.boolean(), fc.constantFrom(NaN, Infinity, -Infinity)))
})

/** The language as its description says it, without its words: for comparing. */
export function naive (filter: Filter, subject: FilterSubject, now: number): boolean {
  if (filter.kind === 'and') return !filter.items.some(item => !naive(item, subject, now))
  if (filter.kind === 'or') return filter.items.filter(item => naive(item, subject, now)).length > 0
  return filter.kind === 'not' ? naive(filter.item, subject, now) === false : naiveTerm(filter as FilterTerm, subject, now)
}

function naiveTerm (filter: FilterTerm, subject: FilterSubject, now: number): boolean {
  const [value] = valuesAt(filter.field, subject)
  const has = value !== undefined && value !== null
  if (filter.kind === 'exists') return has
  if (filter.kind === 'like') return typeof value === 'string' && value.slice(0, filter.prefix.length) === filter.prefix
  const equals = (wanted: FilterValue): boolean => wanted.type === 'null' ? !has : has && value === plain(wanted, now)
  if (filter.kind === 'in') return filter.values.map(equals).includes(true)
  const { op, value: literal } = filter
  if (op === 'eq') return equals(literal)
  if (op === 'ne') return !equals(literal)
  const wanted = plain(literal, now)
  if (typeof value !== typeof wanted || (typeof value !== 'string' && typeof value !== 'number')) return false
  const [a, b] = typeof value === 'string' ? [utf8(value), utf8(wanted as string)] : [value, wanted as number]
  if (op === 'lt') return a < b
  if (op === 'gt') return a > b
  return op === 'le' ? a <= b : a >= b
}

/** Hex of UTF-8: in the order of its bytes. */
const utf8 = (word: string): string => Buffer.from(word).toString('hex')

function plain (value: FilterValue, now: number): unknown {
  if (value.type === 'time') return value.us
  return value.type === 'now' ? now + value.offsetUs : value.type === 'null' ? null : value.value
}

function valuesAt ({ root, path: names }: FilterField, subject: FilterSubject): [unknown] {
  let at: unknown = subject
  for (const name of [...root.split('.'), ...names]) {
    const entry = typeof at === 'object' && at !== null && !Array.isArray(at) ? Object.entries(at).find(([key]) => key === name) : undefined
    if (entry === undefined) return [undefined]
    at = entry[1]
  }
  return [at]
}
