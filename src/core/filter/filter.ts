/**
 * The filter language over devices: what a filter is once it is read (parse-filter.ts), and the bounds it keeps. Search compiles it
 * to SQL, conditional changes and bulk jobs evaluate it on a record (evaluate-filter.ts); both give the same answer for the same device.
 *
 * Two values only, true and false. A comparison is true where the field has a value of the literal's type that compares so; with another
 * type, or without a value, it is false. `ne` is the opposite of `eq`, so it is true for what is missing. null is the same as missing.
 */

/** Fields without a path, and those that take one. */
export const plainRoots = ['id', 'name', 'type', 'gateway', 'createdAt', 'lastActivity', 'connection.state', 'connection.since', 'connection.reason'] as const
/** `tags` and `latest` take one key (dots in it are part of it); `desired` and `reported` a path of keys. */
export const pathRoots = ['tags', 'latest', 'desired', 'reported'] as const

export type FilterRoot = typeof plainRoots[number] | typeof pathRoots[number]

export interface FilterField {
  readonly root: FilterRoot
  /** Empty for fields without a path. */
  readonly path: readonly string[]
}

export type FilterValue =
  | { readonly type: 'string', readonly value: string }
  | { readonly type: 'number', readonly value: number }
  | { readonly type: 'boolean', readonly value: boolean }
  | { readonly type: 'null' }
  /** µs; only with fields that are times. */
  | { readonly type: 'time', readonly us: number }
  /** `now` when the filter is evaluated, and so much later (µs, negative: before). */
  | { readonly type: 'now', readonly offsetUs: number }

export type CompareOp = 'eq' | 'ne' | 'lt' | 'le' | 'gt' | 'ge'

export type FilterTerm =
  | { readonly kind: 'compare', readonly field: FilterField, readonly op: CompareOp, readonly value: FilterValue }
  /** Equal to one of them. */
  | { readonly kind: 'in', readonly field: FilterField, readonly values: readonly FilterValue[] }
  | { readonly kind: 'exists', readonly field: FilterField }
  /** A text that begins so. */
  | { readonly kind: 'like', readonly field: FilterField, readonly prefix: string }

export type Filter =
  | { readonly kind: 'and' | 'or', readonly items: readonly Filter[] }
  | { readonly kind: 'not', readonly item: Filter }
  | FilterTerm

export const filterCharsMax = 2000
/** Comparisons in one filter. */
export const filterTermsMax = 50
/** Parentheses and `not` inside each other. */
export const filterDepthMax = 10
/** Keys of a path. */
export const filterPathMax = 10

const timeRoots: ReadonlySet<string> = new Set<FilterRoot>(['createdAt', 'lastActivity', 'connection.since'])

/** Its values are times: µs in a subject, ISO text in a filter. */
export function isTimeField ({ root }: FilterField): boolean {
  return timeRoots.has(root)
}

/** Every field that the filter looks at, in order, repeated where it is. */
export function fieldsOf (filter: Filter): FilterField[] {
  switch (filter.kind) {
    case 'and': case 'or': return filter.items.flatMap(fieldsOf)
    case 'not': return fieldsOf(filter.item)
    default: return [filter.field]
  }
}
