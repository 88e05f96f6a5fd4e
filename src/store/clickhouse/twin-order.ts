/** Order of a search as SQL, and where the next page begins in it. Pure. */
import type { SearchPosition, SearchSort } from '../twin-search.js'
import type { Bound } from './fleet-bound.js'
import type { TwinFields } from './twin-fields.js'

/** Texts are ordered by so many characters: a cursor holds them. */
const textCharsMax = 100

interface OrderPart {
  readonly sql: string
  readonly type: 'Int64' | 'Float64' | 'String'
  readonly order: 'asc' | 'desc'
}

/** Without the field last, then by type, then by value; the id decides last. */
export function orderParts (sort: readonly SearchSort[], fields: TwinFields): OrderPart[] {
  const parts: OrderPart[] = []
  for (const { field, order } of sort) {
    const { string, number, boolean } = fields.of(field)
    const kinds: string[] = []
    // NaN has no place among numbers.
    const isNumber = number === null ? '0' : number.type === 'Float64' ? `(${number.is} AND NOT isNaN(${number.value}))` : number.is
    if (number !== null) kinds.push(`${isNumber}, 1`)
    if (string !== null) kinds.push(`${string.is}, 2`)
    if (boolean !== null) kinds.push(`${boolean.is}, 3`)
    const kind = `multiIf(${kinds.join(', ')}, 0)`
    parts.push({ sql: `${kind} = 0`, type: 'Int64', order: 'asc' })
    if (kinds.length > 1) parts.push({ sql: kind, type: 'Int64', order })
    if (number !== null) parts.push({ sql: `if(${isNumber}, ${number.value}, 0)`, type: number.type, order })
    if (boolean !== null) parts.push({ sql: `if(${boolean.is}, ${boolean.value}, 0)`, type: 'Int64', order })
    if (string !== null) parts.push({ sql: `if(${string.is}, leftUTF8(${string.value}, ${textCharsMax}), '')`, type: 'String', order })
  }
  return [...parts, { sql: 't.device', type: 'String', order: 'asc' }]
}

/** Rows after the position. */
export function afterCondition (parts: readonly OrderPart[], position: SearchPosition, bound: Bound): string {
  const values = parts.map(({ type }, i) => bound.add(type, String(position[i])))
  const terms = parts.map(({ sql, order }, at) => {
    const same = parts.slice(0, at).map((part, i) => `${part.sql} = ${values[i]}`)
    return `(${[...same, `${sql} ${order === 'asc' ? '>' : '<'} ${values[at]}`].join(' AND ')})`
  })
  return `(${terms.join(' OR ')})`
}
