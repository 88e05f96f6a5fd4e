/** Filters of live readings by what they let through: equal ones have equal keys on every node. Pure. */
import { createHash } from 'node:crypto'

interface FilterParts {
  readonly form: 'sse' | 'mqtt'
  readonly times: 'iso' | 'ms'
  /** In any order, without repetition; null: all. */
  readonly metrics: readonly string[] | null
}

/** The filter as workers/live-protocol.ts has it. */
export function liveFilter ({ form, times, metrics }: FilterParts): FilterParts & { readonly key: string } {
  const sorted = metrics === null ? null : [...metrics].sort()
  const key = createHash('sha256').update(JSON.stringify([form, times, sorted])).digest('base64url').slice(0, 16)
  return { key, form, times, metrics: sorted }
}
