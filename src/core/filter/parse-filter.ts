/**
 * Reads a filter: `reported.firmware lt "2.0" and (tags.site eq "berlin" or not lastActivity gt now-1h)`. `or` binds least, then `and`,
 * then `not`. What is wrong is an error that names the place and what was expected there; nothing else is ever thrown.
 */
import type { TwinfoldError } from '../errors.js'
import { timestampUsMax } from '../limits.js'
import { parseIsoTime } from '../iso-time.js'
import { usPerMs } from '../reading.js'
import { filterCharsMax, filterDepthMax, filterPathMax, filterTermsMax, isTimeField, pathRoots, plainRoots, type CompareOp, type Filter, type FilterField, type FilterRoot, type FilterTerm, type FilterValue } from './filter.js'
import { filterError, filterTokens, type FilterToken } from './filter-tokens.js'

const compareOps: ReadonlySet<string> = new Set<CompareOp>(['eq', 'ne', 'lt', 'le', 'gt', 'ge'])
const ordering: ReadonlySet<string> = new Set<CompareOp>(['lt', 'le', 'gt', 'ge'])
const fieldNames = `${plainRoots.join(', ')}, tags.NAME, latest.METRIC, desired.PATH, reported.PATH`
const operators = 'eq, ne, lt, le, gt, ge, in, like or exists'

/**
 * @param field of the request, for errors.
 * @throws TwinfoldError `invalid_field`
 */
export function parseFilter (text: string, field = 'filter'): Filter {
  if (text.length > filterCharsMax) throw filterError(field, filterCharsMax, `a filter has at most ${filterCharsMax} characters`)
  return new FilterParser(filterTokens(text, field), field).parse()
}

/** A field by its name alone: `reported.a.b`. @throws TwinfoldError `invalid_field` */
export function parseFilterField (text: string, field: string): FilterField {
  if (text.length > filterCharsMax) throw filterError(field, filterCharsMax, `a field has at most ${filterCharsMax} characters`)
  const tokens = filterTokens(text, field)
  const parser = new FilterParser(tokens, field)
  return parser.parseField()
}

class FilterParser {
  readonly #tokens: readonly FilterToken[]
  readonly #field: string
  #next = 0
  #terms = 0
  #depth = 0

  constructor (tokens: readonly FilterToken[], field: string) {
    this.#tokens = tokens
    this.#field = field
  }

  parse (): Filter {
    const filter = this.#parseAny()
    if (this.#token.kind !== 'end') throw this.#unexpected("'and', 'or' or the end")
    return filter
  }

  parseField (): FilterField {
    const field = this.#parseField()
    if (this.#token.kind !== 'end') throw this.#unexpected('the end of the field')
    return field
  }

  get #token (): FilterToken { return this.#tokens[this.#next] }

  /** The word that stands here, where it is no path. */
  get #word (): string {
    const token = this.#token
    return token.kind === 'path' && token.keys.length === 1 ? token.text.toLowerCase() : ''
  }

  #error (what: string, at = this.#token.at): TwinfoldError { return filterError(this.#field, at, what) }

  #unexpected (wanted: string): TwinfoldError {
    const { kind, text } = this.#token
    const found = text.length > 40 ? `${[...text].slice(0, 40).join('')}…` : text
    return this.#error(`expected ${wanted}, but ${kind === 'end' ? 'the filter ends' : `found '${found}'`}`)
  }

  #parseAny (): Filter { return this.#parseList('or', () => this.#parseAll()) }

  #parseAll (): Filter { return this.#parseList('and', () => this.#parseOne()) }

  #parseList (kind: 'and' | 'or', parseItem: () => Filter): Filter {
    const items = [parseItem()]
    while (this.#word === kind) {
      this.#next++
      items.push(parseItem())
    }
    return items.length === 1 ? items[0] : { kind, items }
  }

  #parseOne (): Filter {
    if (this.#word === 'not') return this.#inside(() => ({ kind: 'not', item: this.#parseOne() }))
    if (this.#isSign('(')) {
      return this.#inside(() => {
        const filter = this.#parseAny()
        this.#takeSign(')', "')', 'and' or 'or'")
        return filter
      })
    }
    return this.#parseTerm()
  }

  #inside (parse: () => Filter): Filter {
    if (++this.#depth > filterDepthMax) throw this.#error(`parentheses and 'not' go at most ${filterDepthMax} deep`)
    this.#next++
    const filter = parse()
    this.#depth--
    return filter
  }

  #isSign (sign: string): boolean {
    return this.#token.kind === 'sign' && this.#token.text === sign
  }

  #takeSign (sign: string, wanted = `'${sign}'`): void {
    if (!this.#isSign(sign)) throw this.#unexpected(wanted)
    this.#next++
  }

  #parseTerm (): FilterTerm {
    if (++this.#terms > filterTermsMax) throw this.#error(`a filter has at most ${filterTermsMax} comparisons`)
    const field = this.#parseField()
    const op = this.#word
    if (!compareOps.has(op) && op !== 'in' && op !== 'like' && op !== 'exists') throw this.#unexpected(`an operator: ${operators}`)
    const at = this.#token.at
    this.#next++
    if (op === 'exists') return { kind: 'exists', field }
    if (op === 'in') return { kind: 'in', field, values: this.#parseValues(field) }
    if (op === 'like') return { kind: 'like', field, prefix: this.#parsePrefix(field, at) }
    const value = this.#parseValue(field)
    if (ordering.has(op) && (value.type === 'null' || value.type === 'boolean')) throw this.#error(`'${op}' compares numbers, strings and times`, at)
    return { kind: 'compare', field, op: op as CompareOp, value }
  }

  #parseField (): FilterField {
    const token = this.#token
    if (token.kind !== 'path') throw this.#unexpected(`a field: ${fieldNames}`)
    const { keys, quoted } = token
    const [root, ...path] = keys
    const plain = quoted ? undefined : plainRoots.find(name => name === keys.join('.'))
    if (plain === undefined && !pathRoots.some(name => name === root)) throw this.#unexpected(`a field: ${fieldNames}`)
    this.#next++
    if (plain !== undefined) return { root: plain, path: [] }
    if (path.length === 0) throw this.#error(`'${root}' takes a name after a dot: ${root}.NAME`, token.at)
    if (path.length > filterPathMax) throw this.#error(`a path has at most ${filterPathMax} keys`, token.at)
    return { root: root as FilterRoot, path: root === 'tags' || root === 'latest' ? [path.join('.')] : path }
  }

  #parseValues (field: FilterField): FilterValue[] {
    this.#takeSign('(')
    const values: FilterValue[] = []
    do {
      if (values.length > 0) this.#next++
      const at = this.#token.at
      const value = this.#parseValue(field)
      if (value.type === 'null') throw this.#error("'in' takes strings, numbers, booleans and times; for what is missing say not … exists", at)
      values.push(value)
    } while (this.#isSign(','))
    this.#takeSign(')', "',' or ')'")
    return values
  }

  #parsePrefix (field: FilterField, at: number): string {
    if (isTimeField(field)) throw this.#error("'like' compares texts, and this field is a time", at)
    const token = this.#token
    if (token.kind !== 'string' || token.value.indexOf('*') !== token.value.length - 1 || token.value === '') throw this.#unexpected('a text with one * at its end: "prefix*"')
    this.#next++
    return token.value.slice(0, -1)
  }

  #parseValue (field: FilterField): FilterValue {
    const token = this.#token
    const value = isTimeField(field) ? timeOf(token) ?? this.#nullHere() : valueOf(token) ?? this.#wordValue()
    if (value === null) throw this.#unexpected(isTimeField(field) ? 'a time: ISO 8601, milliseconds since the epoch, now-1h (s, m, h, d, w), or null' : 'a value: a string in double quotes, a number, true, false or null')
    if (field.root === 'connection.state' && !(value.type === 'null' || (value.type === 'string' && (value.value === 'connected' || value.value === 'disconnected')))) {
      throw this.#unexpected('"connected" or "disconnected"')
    }
    this.#next++
    return value
  }

  #nullHere (): FilterValue | null { return this.#word === 'null' ? { type: 'null' } : null }

  #wordValue (): FilterValue | null {
    return this.#word === 'true' || this.#word === 'false' ? { type: 'boolean', value: this.#word === 'true' } : this.#nullHere()
  }
}

function valueOf (token: FilterToken): FilterValue | null {
  return token.kind === 'string' || token.kind === 'number' ? { type: token.kind, value: token.value } as FilterValue : null
}

function timeOf (token: FilterToken): FilterValue | null {
  if (token.kind === 'now') return { type: 'now', offsetUs: token.offsetUs }
  const us = token.kind === 'time' ? token.us : token.kind === 'number' ? Math.round(token.value * usPerMs) : token.kind === 'string' ? parseIsoTime(token.value) : null
  return us === null || us < 0 || us > timestampUsMax ? null : { type: 'time', us: us + 0 }
}
