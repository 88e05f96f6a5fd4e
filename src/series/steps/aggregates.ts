/** Aggregates that queries may ask for: their names, and what each needs. Pure. */

export type AggregateName = 'avg' | 'min' | 'max' | 'sum' | 'count' | 'first' | 'last' | 'stddev' | 'rate' | 'delta' | 'twa' | 'trues' | 'timeIn' | 'changes' | 'quantile'

export interface Aggregate {
  /** As it was asked for and is answered: `avg`, `p95`, `p99.9`. */
  readonly text: string
  readonly name: AggregateName
  /** Of a quantile: 0 to 1. */
  readonly q?: number
}

const plain: readonly AggregateName[] = ['avg', 'min', 'max', 'sum', 'count', 'first', 'last', 'stddev', 'rate', 'delta', 'twa', 'trues', 'timeIn', 'changes']
/** Aggregates that look at the last point before a window. */
const lookingBack: ReadonlySet<AggregateName> = new Set(['rate', 'delta', 'twa', 'timeIn', 'changes'])

/** Aggregates of one metric in one answer. */
export const aggregatesMax = 16

/** null where it is none. */
export function parseAggregate (text: string): Aggregate | null {
  if ((plain as readonly string[]).includes(text)) return { text, name: text as AggregateName }
  const quantile = /^p([0-9]{1,2}(?:\.[0-9]{1,3})?|100)$/.exec(text)
  return quantile === null ? null : { text, name: 'quantile', q: Number(quantile[1]) / 100 }
}

export function looksBack ({ name }: Aggregate): boolean {
  return lookingBack.has(name)
}

export const aggregateNames = [...plain, 'p50', 'p90', 'p95', 'p99'].join(', ')
