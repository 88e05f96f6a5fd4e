/**
 * Which tier a range of windows is read from: the coarsest whose windows fit between the answer's borders and that is kept for long
 * enough. Where a border falls inside a coarse window, that one alone is read finer: a day in Kathmandu is hours, and minutes at
 * its edges. Pure.
 */
import { usPerMinute } from '../core/reading.js'
import { stepUsMin, type Step } from '../series/steps/step.js'
import { coverOf, joinSpans, withinSpans, withoutSpans, type Span } from '../store/spans.js'
import { tiers, type Tier } from '../store/tier-store.js'
import { tierWidthUs } from '../store/read-windows.js'
import type { Source } from '../../workers/query-protocol.js'

/** Windows [from, to) of the answer, by number, that come from one source. */
export interface Segment {
  readonly source: Source
  readonly from: number
  readonly to: number
}

export const coarsestFirst: readonly Source[] = [...[...tiers].reverse(), 'raw']

/** Beyond that share of windows that are cut, the next finer tier is read throughout. */
const cutShareMax = 1 / 4

/** Windows of a width that have a border inside. */
function cutBy (borders: Float64Array, widthUs: number): Span[] {
  const cut: Span[] = []
  for (const border of borders) if (border % widthUs !== 0) cut.push({ fromTs: border, toTs: border + 1 })
  return coverOf(cut, widthUs)
}

/** Does the tier, with finer ones at the edges, give these windows exactly? @param step whose windows the borders are */
export function fits (borders: Float64Array, tier: Tier, step: Step): boolean {
  // Known without a look at thousands of borders.
  if (step.unit === 'us' && step.count % tierWidthUs[tier] === 0) return true
  if (stepUsMin(step) < tierWidthUs[tier] / 2) return false
  for (const border of borders) if (border % usPerMinute !== 0) return false
  const hullUs = borders[borders.length - 1] - borders[0]
  const cutUs = cutBy(borders, tierWidthUs[tier]).reduce((sum, { fromTs, toTs }) => sum + toTs - fromTs, 0)
  return cutUs <= hullUs * cutShareMax
}

/**
 * Oldest first. @param candidates coarsest first; the last is used where none is kept. @param oldestTs before which a source holds nothing, µs.
 */
export function segmentsOf (borders: Float64Array, candidates: readonly Source[], oldestTs: (source: Source) => number): Segment[] {
  const segments: Segment[] = []
  let to = borders.length - 1
  let reached = Infinity
  for (const source of candidates) {
    if (to === 0 || oldestTs(source) >= reached) continue
    reached = oldestTs(source)
    let from = to
    while (from > 0 && borders[from] > reached) from--
    if (from < to) segments.unshift({ source, from, to })
    to = from
  }
  // What nobody keeps is asked of the one that keeps longest, and is empty.
  if (segments.length === 0) return [{ source: candidates[0], from: 0, to: borders.length - 1 }]
  return segments.map((segment, i) => i === 0 ? { ...segment, from: 0 } : segment)
}

export interface Piece { readonly tier: Tier, readonly ranges: readonly Span[] }

/** What is read of which tier, coarsest first: together the whole range between the outer borders, nothing twice. */
export function piecesOf (borders: Float64Array, top: Tier, step: Step): Piece[] {
  const pieces: Piece[] = []
  let wanted: Span[] = joinSpans([{ fromTs: Math.max(0, borders[0]), toTs: borders[borders.length - 1] }])
  if (step.unit === 'us' && step.count % tierWidthUs[top] === 0) return [{ tier: top, ranges: wanted }]
  for (const tier of [...tiers].reverse().slice([...tiers].reverse().indexOf(top))) {
    const cut = withinSpans(cutBy(borders, tierWidthUs[tier]), wanted)
    const ranges = withoutSpans(wanted, cut)
    if (ranges.length > 0) pieces.push({ tier, ranges })
    wanted = cut
    if (cut.length === 0) break
  }
  return pieces
}
