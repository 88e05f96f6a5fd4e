/** The alarms of a series of points by their definition, and what tests of alarms share. */
import { Side } from '../../src/core/threshold.js'
import type { AlarmStep, Edge } from '../../src/alarms/alarm-machine.js'

export interface Told { readonly kind: 'raise' | 'clear', readonly at: number, readonly since?: number }

/** Alarms of a series of points, from its definition: looks at every moment, remembers nothing. */
export function naive (points: readonly { readonly ts: number, readonly side: Side }[], durationUs: number): Told[] {
  const told: Told[] = []
  let active = false
  let spent = -1
  const sideAt = (ts: number): Side => points.findLast(point => point.ts <= ts)?.side ?? Side.clear
  const begin = (ts: number): number => {
    let since = ts
    for (const point of points.toReversed()) {
      if (point.ts > ts) continue
      if (point.side !== Side.beyond) break
      since = point.ts
    }
    return since
  }
  const moments = new Set(points.flatMap(({ ts }) => [ts, ts + durationUs]))
  const end = points.at(-1)?.ts ?? 0
  for (const ts of [...moments].sort((a, b) => a - b)) {
    if (ts > end) break
    // What was beyond until now has lasted until now, though the value goes at this moment.
    const just = points.findLast(point => point.ts < ts)
    if (just?.side === Side.beyond && !active && spent !== begin(just.ts) && ts - begin(just.ts) >= durationUs) {
      active = true
      spent = begin(just.ts)
      told.push({ kind: 'raise', at: spent + durationUs, since: spent })
    }
    const side = sideAt(ts)
    if (side === Side.beyond) {
      const since = begin(ts)
      if (active) spent = since
      else if (spent !== since && ts - since >= durationUs) {
        active = true
        spent = since
        told.push({ kind: 'raise', at: since + durationUs, since })
      }
    } else if (side === Side.clear && active) {
      active = false
      told.push({ kind: 'clear', at: ts })
    }
  }
  return told
}

export const told = (steps: readonly AlarmStep[]): Told[] => steps.map(step => step.kind === 'raise' ? { kind: 'raise', at: step.at, since: step.since } : { kind: 'clear', at: step.at })

/** As a packer cuts a slice: first, changes, last. */
export function cut (points: readonly Edge[]): Edge[] {
  return points.filter((point, at) => at === 0 || at === points.length - 1 || point.side !== points[at - 1].side)
}
