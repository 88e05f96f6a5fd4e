/** Times in state of a window, bounded: the values held longest keep their own, the rest is counted under ''. */
import { statesMax } from './windows.js'

const byName = (a: readonly [string, number], b: readonly [string, number]): number => a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0

/** Ascending by value, so that equal windows are equal maps. Of values held equally long the lower ones are kept. '' has no place of its own to lose. */
export function boundedStates (held: ReadonlyMap<string, number>): ReadonlyMap<string, number> {
  const entries = [...held]
  if (entries.length > statesMax) {
    let rest = held.get('') ?? 0
    const named = entries.filter(([value]) => value !== '').sort((a, b) => b[1] - a[1] || byName(a, b))
    for (const [, heldUs] of named.splice(statesMax)) rest += heldUs
    if (rest > 0) named.push(['', rest])
    return new Map(named.sort(byName))
  }
  return new Map(entries.sort(byName))
}
