/**
 * The readings that were delivered last, for watchers that come back after a short break with the id of the last one they got. In
 * order of delivery; bounded by characters, oldest first. Best effort: what is not here any more is a gap.
 */
import type { LiveGroup } from '../../workers/live-protocol.js'

interface Batch {
  readonly groups: readonly LiveGroup[]
  readonly chars: number
  /** Version of the wants when it was delivered. */
  readonly version: number
}

export class ReplayRing {
  readonly #charsMax: number
  #batches: Batch[] = []
  #chars = 0

  constructor (charsMax: number) { this.#charsMax = charsMax }

  add (groups: readonly LiveGroup[], version: number): void {
    let chars = 0
    for (const group of groups) chars += group.text.length + group.newest.length
    this.#batches.push({ groups, chars, version })
    this.#chars += chars
    let gone = 0
    while (this.#chars > this.#charsMax && gone < this.#batches.length) this.#chars -= this.#batches[gone++].chars
    if (gone > 0) this.#batches = this.#batches.slice(gone)
  }

  clear (): void {
    this.#batches = []
    this.#chars = 0
  }

  /** What was delivered with the id and after it, and the version of the wants then; null where the id is not known. */
  from (id: string): { readonly groups: readonly LiveGroup[], readonly version: number } | null {
    for (let at = this.#batches.length - 1; at >= 0; at--) {
      if (!this.#batches[at].groups.some(group => group.id === id)) continue
      // A slice of another node may have come in several batches.
      let first = at
      while (first > 0 && this.#batches[first - 1].groups.some(group => group.id === id)) first--
      return { groups: this.#batches.slice(first).flatMap(batch => batch.groups), version: this.#batches[first].version }
    }
    return null
  }
}
