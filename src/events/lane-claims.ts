/**
 * The lanes of the event log that this node serves: one node a lane, by a claim with a lease (ports: claim-store.ts), so that a lane
 * whose node is gone is taken over when the lease has run out. Which lanes a node asks for follows from the live nodes (rendezvous
 * hashing: a node that comes or goes moves its own share only); the claim decides where two disagree for a while.
 */
import type { Clock } from '../core/clock.js'
import { hash32 } from '../core/ids.js'
import type { ClaimStore } from '../store/claim-store.js'
import { eventLanes } from '../store/event-log.js'

export interface LaneClaimsOptions {
  readonly store: ClaimStore
  /** Never the same for two servers that may run at once. */
  readonly owner: string
  /** This node's name among `live`. */
  readonly node: string
  /** Names of the nodes that run; null: this one has the store to itself. */
  readonly live: (() => readonly string[]) | null
  readonly clock: Clock
  readonly leaseMs: number
}

/** The hash of short, similar texts, its bits mixed (the finaliser of MurmurHash3): else one node would win most lanes. */
function weight (name: string, lane: number): number {
  let hash = hash32(`${name}\0${lane}`)
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return (hash ^ (hash >>> 16)) >>> 0
}

/** The lanes of a node among all live ones. Pure. */
export function lanesOf (node: string, live: readonly string[]): number[] {
  const others = live.filter(other => other !== node)
  return Array.from({ length: eventLanes }, (_, lane) => lane).filter(lane => {
    const own = weight(node, lane)
    return others.every(other => own > weight(other, lane) || (own === weight(other, lane) && node < other))
  })
}

export class LaneClaims {
  readonly #options: LaneClaimsOptions
  readonly #endUs = new Map<number, number>()

  constructor (options: LaneClaimsOptions) { this.#options = options }

  /** Is the lane this node's, its lease not over? */
  holds (lane: number): boolean { return (this.#endUs.get(lane) ?? 0) > this.#options.clock.nowUs() }

  get held (): number[] { return [...this.#endUs.keys()].filter(lane => this.holds(lane)) }

  /** Lanes that are held and not this node's share any more: to be given up by `release`. */
  surplus (): number[] {
    const wanted = new Set(this.#wanted())
    return [...this.#endUs.keys()].filter(lane => !wanted.has(lane))
  }

  /** Takes and renews the claims of this node's share. Rejects as the store does; what was held runs on to the end of its lease. */
  async renew (): Promise<void> {
    const { store, owner, clock, leaseMs } = this.#options
    await Promise.all(this.#wanted().map(async lane => {
      // Counted from before the question: the lease cannot end earlier than this.
      const nowUs = clock.nowUs()
      if ((this.#endUs.get(lane) ?? 0) - nowUs > leaseMs * 500) return
      const claim = await store.takeClaim(nameOf(lane), owner, leaseMs)
      if (claim === null) this.#endUs.delete(lane)
      else this.#endUs.set(lane, nowUs + leaseMs * 1000)
    }))
  }

  /** Gives a lane back, so that the next owner does not wait for the lease. One that cannot be given back runs out. */
  async release (lane: number): Promise<void> {
    if (!this.#endUs.delete(lane)) return
    await this.#options.store.releaseClaim(nameOf(lane), this.#options.owner).catch(() => {})
  }

  #wanted (): number[] {
    const { node, live } = this.#options
    return lanesOf(node, live === null ? [] : live())
  }
}

function nameOf (lane: number): string { return `events/${lane}` }
