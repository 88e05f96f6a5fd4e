/** Writes a filter as text that reads back as the same filter. Pure. */
import { isoTime } from '../iso-time.js'
import { usPerSecond } from '../reading.js'
import type { Filter, FilterField, FilterValue } from './filter.js'

const plainKey = /^[A-Za-z0-9_$@:/-]+$/

export function printFilter (filter: Filter): string {
  switch (filter.kind) {
    case 'and': case 'or': return filter.items.map(item => printInside(item, filter.kind)).join(` ${filter.kind} `)
    case 'not': return `not ${printInside(filter.item, 'not')}`
    case 'exists': return `${printField(filter.field)} exists`
    case 'like': return `${printField(filter.field)} like ${JSON.stringify(`${filter.prefix}*`)}`
    case 'in': return `${printField(filter.field)} in (${filter.values.map(printValue).join(', ')})`
    case 'compare': return `${printField(filter.field)} ${filter.op} ${printValue(filter.value)}`
  }
}

function printInside (filter: Filter, around: 'and' | 'or' | 'not'): string {
  const needed = filter.kind === 'or' || (filter.kind === 'and' && around !== 'or')
  return needed ? `(${printFilter(filter)})` : printFilter(filter)
}

export function printField ({ root, path }: FilterField): string {
  return root + path.map(key => plainKey.test(key) ? `.${key}` : `[${JSON.stringify(key)}]`).join('')
}

function printValue (value: FilterValue): string {
  switch (value.type) {
    case 'null': return 'null'
    case 'time': return isoTime(value.us)
    case 'now': return value.offsetUs === 0 ? 'now' : `now${value.offsetUs < 0 ? '-' : '+'}${Math.abs(value.offsetUs) / usPerSecond}s`
    default: return JSON.stringify(value.value)
  }
}
