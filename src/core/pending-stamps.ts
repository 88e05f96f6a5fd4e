/**
 * Stamps that number entries of an outbox, and which of them may still be written: work that runs side by side ends in any order, and
 * a reader that goes by a cursor may pass a number only once nothing below it can appear any more.
 */
export interface StampSource {
  /** Reserves consecutive stamps and returns the first. */
  takeStamps (count: number): number
}

export class PendingStamps implements StampSource {
  readonly #source: StampSource
  readonly #pending = new Set<number>()

  constructor (source: StampSource) {
    this.#source = source
  }

  /** Held back until `releaseStamps` is called with what it returns. */
  takeStamps (count: number): number {
    const first = this.#source.takeStamps(count)
    this.#pending.add(first)
    return first
  }

  /** Whatever was to be written under them is written, or will be written under others. */
  releaseStamps (first: number): void {
    this.#pending.delete(first)
  }

  /** A stamp above all that were used and released, and not above one that is pending. */
  settled (): number {
    // As many are pending as there are threads at work.
    return this.#pending.size === 0 ? this.#source.takeStamps(1) : Math.min(...this.#pending) - 1
  }
}
