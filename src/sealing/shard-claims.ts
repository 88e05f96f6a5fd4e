/**
 * The claims under which this node seals (DESIGN 3.2): one a shard, taken when there is something to seal in it and kept while there
 * is. Idle shards cost nothing, and a shard whose node is gone is taken over when the lease has run out.
 */
import type { Clock } from '../core/clock.js'
import type { ClaimStore } from '../store/claim-store.js'

export interface ShardClaimsOptions {
  readonly store: ClaimStore
  /** Never the same for two servers that may run at once. */
  readonly owner: string
  readonly clock: Clock
  readonly leaseMs: number
}

export interface HeldClaim {
  readonly epoch: number
  /** Wall clock, µs. */
  readonly endUs: number
}

/** After another owner was found in the way. */
const askAgainUs = 5e6

export class ShardClaims {
  readonly #options: ShardClaimsOptions
  readonly #held = new Map<number, HeldClaim>()
  readonly #refusedUntilUs = new Map<number, number>()

  constructor (options: ShardClaimsOptions) {
    this.#options = options
  }

  /** Claims whose lease has not run out. */
  get size (): number {
    const nowUs = this.#options.clock.nowUs()
    let size = 0
    for (const { endUs } of this.#held.values()) if (endUs > nowUs) size++
    return size
  }

  /** The claim with at least half of its lease left; null where another owner has it. */
  async hold (shard: number): Promise<HeldClaim | null> {
    const { store, owner, clock, leaseMs } = this.#options
    // Counted from before the question: the lease cannot end earlier than this.
    const nowUs = clock.nowUs()
    const held = this.#held.get(shard)
    if (held !== undefined && held.endUs - nowUs > leaseMs * 500) return held
    if ((this.#refusedUntilUs.get(shard) ?? 0) > nowUs) return null
    const claim = await store.takeClaim(claimName(shard), owner, leaseMs)
    if (claim === null) {
      this.#held.delete(shard)
      this.#refusedUntilUs.set(shard, nowUs + askAgainUs)
      return null
    }
    const taken = { epoch: claim.epoch, endUs: nowUs + leaseMs * 1000 }
    this.#held.set(shard, taken)
    this.#refusedUntilUs.delete(shard)
    return taken
  }

  /** Gives back what need not be kept, so that the next owner does not wait for the lease. A claim that cannot be given back runs out. */
  async release (isKept: (shard: number) => boolean): Promise<void> {
    const { store, owner } = this.#options
    const given = [...this.#held.keys()].filter(shard => !isKept(shard))
    await Promise.all(given.map(async shard => {
      this.#held.delete(shard)
      await store.releaseClaim(claimName(shard), owner).catch(() => {})
    }))
  }
}

function claimName (shard: number): string {
  return `seal/${shard}`
}
