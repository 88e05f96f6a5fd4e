/**
 * Filters as SQL conditions: made from what was parsed, never from text; every value is bound. Two values only, as in the language: no
 * condition is ever NULL, so NOT is the opposite. Pure.
 */
import type { CompareOp, Filter, FilterTerm, FilterValue } from '../../core/filter/filter.js'
import type { Bound } from './fleet-bound.js'
import type { SqlField, TwinFields } from './twin-fields.js'

const operators: Readonly<Record<CompareOp, string>> = { eq: '=', ne: '!=', lt: '<', le: '<=', gt: '>', ge: '>=' }

export class TwinFilter {
  readonly #fields: TwinFields
  readonly #bound: Bound
  readonly #nowUs: number

  constructor (fields: TwinFields, bound: Bound, nowUs: number) {
    this.#fields = fields
    this.#bound = bound
    this.#nowUs = nowUs
  }

  /** @throws TwinfoldError `invalid_field`: too many metrics */
  condition (filter: Filter): string {
    switch (filter.kind) {
      case 'and': case 'or': return `(${filter.items.map(item => this.condition(item)).join(filter.kind === 'and' ? ' AND ' : ' OR ')})`
      case 'not': return `(NOT ${this.condition(filter.item)})`
      default: return this.#term(filter)
    }
  }

  #term (term: FilterTerm): string {
    const field = this.#fields.of(term.field)
    switch (term.kind) {
      case 'exists': return `(${field.exists})`
      case 'like': return field.string === null ? '0' : `(${field.string.is} AND startsWith(${field.string.value}, ${this.#bound.add('String', field.string.prefix + term.prefix)}))`
      case 'in': return `(${term.values.map(value => this.#compare(field, 'eq', value)).join(' OR ')})`
      case 'compare': return term.op === 'ne' ? `(NOT ${this.#compare(field, 'eq', term.value)})` : this.#compare(field, term.op, term.value)
    }
  }

  #compare (field: SqlField, op: CompareOp, value: FilterValue): string {
    const sign = operators[op]
    switch (value.type) {
      case 'null': return `(NOT (${field.exists}))`
      case 'boolean': return field.boolean === null ? '0' : `(${field.boolean.is} AND ${field.boolean.value} = ${value.value ? 1 : 0})`
      case 'string': return field.string === null ? '0' : `(${field.string.is} AND ${field.string.value} ${sign} ${this.#bound.add('String', field.string.prefix + value.value)})`
      case 'number': return this.#compareNumber(field, sign, value.value)
      case 'time': return this.#compareNumber(field, sign, value.us)
      case 'now': return this.#compareNumber(field, sign, this.#nowUs + value.offsetUs)
    }
  }

  #compareNumber ({ number }: SqlField, sign: string, value: number): string {
    return number === null ? '0' : `(${number.is} AND ${number.value} ${sign} ${this.#bound.add(number.type, value)})`
  }
}
