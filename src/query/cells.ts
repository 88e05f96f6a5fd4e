/** The values of one aggregate of one series, a cell a window. Pure. */
import { usPerSecond } from '../core/reading.js'
import type { AggregateName } from '../series/steps/aggregates.js'
import type { Cell } from './fill.js'
import type { NumberGroups } from './group-numbers.js'
import type { StateGroups } from './group-states.js'

/** null: the aggregate says nothing about numbers. */
export function numberCells (groups: NumberGroups, name: AggregateName, length: number): Cell[] | null {
  const valueOf = numberValue(groups, name)
  if (valueOf === null) return null
  const cells = new Array<Cell>(length).fill(null)
  for (let i = 0; i < groups.length; i++) cells[groups.index[i]] = valueOf(i)
  return cells
}

function numberValue (groups: NumberGroups, name: AggregateName): ((i: number) => number | null) | null {
  const { counts, sums, mins, maxs, firsts, lasts, m2s, deltas, deltaUs, areas, areaUs } = groups
  switch (name) {
    case 'avg': return i => sums[i] / counts[i]
    case 'min': return i => mins[i]
    case 'max': return i => maxs[i]
    case 'sum': return i => sums[i]
    case 'count': return i => counts[i]
    case 'first': return i => firsts[i]
    case 'last': return i => lasts[i]
    case 'stddev': return i => Math.sqrt(m2s[i] / counts[i])
    case 'delta': return i => deltas[i]
    case 'rate': return i => deltaUs[i] > 0 ? deltas[i] / (deltaUs[i] / usPerSecond) : null
    case 'twa': return i => areaUs[i] > 0 ? areas[i] / areaUs[i] : lasts[i]
    default: return null
  }
}

/** null: the aggregate says nothing about values of this type. */
export function stateCells<V extends boolean | string> (type: 'boolean' | 'string', groups: StateGroups<V>, name: AggregateName, length: number): Cell[] | null {
  const valueOf = stateValue(type, groups, name)
  if (valueOf === null) return null
  const cells = new Array<Cell>(length).fill(null)
  for (let i = 0; i < groups.length; i++) cells[groups.index[i]] = valueOf(i)
  return cells
}

function stateValue<V extends boolean | string> (type: 'boolean' | 'string', groups: StateGroups<V>, name: AggregateName): ((i: number) => Cell) | null {
  const { counts, firsts, lasts, changes, trues, held } = groups
  switch (name) {
    case 'count': return i => counts[i]
    case 'first': return i => firsts[i]
    case 'last': return i => lasts[i]
    case 'changes': return i => changes[i]
    case 'trues': return type === 'boolean' ? i => trues[i] : null
    case 'timeIn': return type === 'boolean'
      ? i => (held[i].get(true as V) ?? 0) / usPerSecond
      : i => Object.fromEntries([...held[i]].map(([value, us]) => [value, us / usPerSecond]))
    default: return null
  }
}
