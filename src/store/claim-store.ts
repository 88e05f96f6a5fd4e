/**
 * Port: who does work that one node at a time must do (DESIGN 3.2): a claim is held by one owner until its lease ends, and its
 * epoch grows by a conditional write whenever it changes hands. What is written under a claim carries the epoch, so an owner that
 * was paused past its lease cannot overwrite what came after it.
 */
export interface ClaimStore {
  /**
   * Takes the claim where it is free, its lease is over, or it is the owner's already (then the lease begins anew and the epoch stays).
   * An epoch is greater than every one that any other owner had. null: another owner holds it.
   * @param leaseMs from now, by the caller's clock; clocks of nodes differ by 250 ms at most (DESIGN 3.8).
   */
  takeClaim(name: string, owner: string, leaseMs: number): Promise<{ readonly epoch: number } | null>
  /** Gives the claim back; nothing where another owner holds it. */
  releaseClaim(name: string, owner: string): Promise<void>
}
