/** Sets of time ranges, as readers of windows need them. Pure; µs, half open. */

export interface Span { readonly fromTs: number, readonly toTs: number }

/** Ascending and disjoint; ranges with at most `gapUs` between them become one. */
export function joinSpans (spans: readonly Span[], gapUs = 0): Span[] {
  const joined: { fromTs: number, toTs: number }[] = []
  for (const { fromTs, toTs } of [...spans].sort((a, b) => a.fromTs - b.fromTs)) {
    if (fromTs >= toTs) continue
    const last = joined.at(-1)
    if (last !== undefined && fromTs <= last.toTs + gapUs) last.toTs = Math.max(last.toTs, toTs)
    else joined.push({ fromTs, toTs })
  }
  return joined
}

/** The windows of a width that the ranges meet, as ranges. */
export function coverOf (spans: readonly Span[], widthUs: number): Span[] {
  return joinSpans(spans.map(({ fromTs, toTs }) => ({ fromTs: Math.floor(fromTs / widthUs) * widthUs, toTs: Math.ceil(toTs / widthUs) * widthUs })))
}

/** What two joined sets have in common. */
export function withinSpans (spans: readonly Span[], others: readonly Span[]): Span[] {
  const common: Span[] = []
  for (let i = 0, j = 0; i < spans.length && j < others.length;) {
    const fromTs = Math.max(spans[i].fromTs, others[j].fromTs)
    const toTs = Math.min(spans[i].toTs, others[j].toTs)
    if (fromTs < toTs) common.push({ fromTs, toTs })
    if (spans[i].toTs < others[j].toTs) i++
    else j++
  }
  return common
}

/** What of a joined set is not in the other joined set. */
export function withoutSpans (spans: readonly Span[], removed: readonly Span[]): Span[] {
  const rest: Span[] = []
  let j = 0
  for (const { fromTs, toTs } of spans) {
    let at = fromTs
    while (j < removed.length && removed[j].toTs <= at) j++
    for (let k = j; k < removed.length && removed[k].fromTs < toTs; k++) {
      if (removed[k].fromTs > at) rest.push({ fromTs: at, toTs: removed[k].fromTs })
      at = Math.max(at, removed[k].toTs)
    }
    if (at < toTs) rest.push({ fromTs: at, toTs })
  }
  return rest
}

/** One range of a joined set contains [fromTs, toTs). */
export function coversSpan (spans: readonly Span[], fromTs: number, toTs: number): boolean {
  return spans.some(span => span.fromTs <= fromTs && toTs <= span.toTs)
}
