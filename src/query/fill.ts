/** What stands in windows without a point. Pure. */
import type { Fill } from '../../workers/query-protocol.js'

/** A value of an answer; an object is time in state by value. */
export type Cell = number | boolean | string | Readonly<Record<string, number>> | null

/** Fills the gaps of a series in place. @param borders of the windows, µs: lines run between the windows' begins. */
export function fillGaps (cells: Cell[], borders: Float64Array, fill: Fill): void {
  if (fill === 'none' || fill === 'null') return
  if (fill === 'linear') {
    fillLines(cells, borders)
    return
  }
  let last: Cell = typeof fill === 'number' ? fill : null
  for (let i = 0; i < cells.length; i++) {
    if (cells[i] === null) cells[i] = last
    else if (fill === 'previous') last = cells[i]
  }
}

function fillLines (cells: Cell[], borders: Float64Array): void {
  let from = -1
  for (let to = 0; to < cells.length; to++) {
    const end = cells[to]
    if (end === null) continue
    const begin = from < 0 ? null : cells[from]
    if (typeof begin === 'number' && typeof end === 'number') {
      const slope = (end - begin) / (borders[to] - borders[from])
      for (let i = from + 1; i < to; i++) cells[i] = begin + slope * (borders[i] - borders[from])
    }
    from = to
  }
}
