/** Windows of booleans and strings made of smaller ones: every run of rows that has the same start becomes one window. All exact. */
import { boundedStates } from './states.js'
import type { BooleanWindows, StringWindows } from './windows.js'

/** As `combineNumbers`. */
export function combineBooleans (from: BooleanWindows, starts: Float64Array, ends: Int32Array): BooleanWindows {
  const times = combineTimes(from, starts, ends)
  const count = ends.length
  const out = { firsts: new Uint8Array(count), lasts: new Uint8Array(count), trues: new Float64Array(count), changes: new Float64Array(count), trueUs: new Float64Array(count) }
  let first = 0
  for (let row = 0; row < count; row++) {
    out.firsts[row] = from.firsts[first]
    out.lasts[row] = from.lasts[ends[row] - 1]
    for (let i = first; i < ends[row]; i++) {
      out.trues[row] += from.trues[i]
      out.changes[row] += from.changes[i]
      out.trueUs[row] += from.trueUs[i]
      if (i === first) continue
      if (from.firsts[i] !== from.lasts[i - 1]) out.changes[row]++
      if (from.lasts[i - 1] !== 0) out.trueUs[row] += from.firstTs[i] - from.lastTs[i - 1]
    }
    first = ends[row]
  }
  return { metric: from.metric, type: 'boolean', ...times, ...out }
}

/** As `combineNumbers`. Times beyond `statesMax` values join ''; what one window has let go does not come back. */
export function combineStrings (from: StringWindows, starts: Float64Array, ends: Int32Array): StringWindows {
  const times = combineTimes(from, starts, ends)
  const firsts: string[] = []
  const lasts: string[] = []
  const states: ReadonlyMap<string, number>[] = []
  const changes = new Float64Array(ends.length)
  let first = 0
  for (let row = 0; row < ends.length; row++) {
    const end = ends[row]
    firsts.push(from.firsts[first])
    lasts.push(from.lasts[end - 1])
    const held = new Map<string, number>()
    const hold = (value: string, heldUs: number): void => { if (heldUs > 0) held.set(value, (held.get(value) ?? 0) + heldUs) }
    for (let i = first; i < end; i++) {
      changes[row] += from.changes[i]
      for (const [value, heldUs] of from.states[i]) hold(value, heldUs)
      if (i === first) continue
      if (from.firsts[i] !== from.lasts[i - 1]) changes[row]++
      hold(from.lasts[i - 1], from.firstTs[i] - from.lastTs[i - 1])
    }
    states.push(end === first + 1 ? from.states[first] : boundedStates(held))
    first = end
  }
  return { metric: from.metric, type: 'string', ...times, firsts, lasts, changes, states }
}

interface Times { readonly starts: Float64Array, readonly counts: Float64Array, readonly firstTs: Float64Array, readonly lastTs: Float64Array }

function combineTimes (from: Times, starts: Float64Array, ends: Int32Array): Times {
  const count = ends.length
  const out = { starts: new Float64Array(count), counts: new Float64Array(count), firstTs: new Float64Array(count), lastTs: new Float64Array(count) }
  let first = 0
  for (let row = 0; row < count; row++) {
    out.starts[row] = starts[first]
    out.firstTs[row] = from.firstTs[first]
    out.lastTs[row] = from.lastTs[ends[row] - 1]
    for (let i = first; i < ends[row]; i++) out.counts[row] += from.counts[i]
    first = ends[row]
  }
  return out
}
