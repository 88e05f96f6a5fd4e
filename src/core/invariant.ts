/**
 * A broken assumption stops the process with the number of the promise it would break (docs/INVARIANTS.md):
 * going on with a wrong picture of the data is worse than a restart, from which the journal recovers.
 */
export class InvariantBroken extends Error {
  readonly invariant: number
  constructor (invariant: number, what: string) {
    super(`INVARIANT ${invariant} broken: ${what}`)
    this.name = 'InvariantBroken'
    this.invariant = invariant
  }
}

export function invariant (holds: boolean, number: number, what: string): asserts holds {
  if (!holds) throw new InvariantBroken(number, what)
}
