/** Cells of a column as JSON. Pure. */
import { formatValue } from '../core/json-values.js'
import type { Cell } from './fill.js'

export function formatCell (cell: Cell): string {
  if (cell === null) return 'null'
  if (typeof cell !== 'object') return formatValue(cell)
  return `{${Object.entries(cell).map(([state, seconds]) => `${JSON.stringify(state)}:${formatValue(seconds)}`).join(',')}}`
}

/** The cells of the shown windows, as an array. */
export function formatCells (cells: readonly Cell[], shown: readonly number[]): string {
  let text = '['
  for (let i = 0; i < shown.length; i++) {
    const cell = cells[shown[i]]
    if (i > 0) text += ','
    text += typeof cell === 'number' && cell - cell === 0 && cell !== 0 ? cell : formatCell(cell)
  }
  return text + ']'
}
