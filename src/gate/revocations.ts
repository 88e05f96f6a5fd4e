/**
 * Revocations between nodes: what is revoked through one node is told to the others, which forget the decisions that rest on it
 * and cut the connections within about a second. While the log is away new decisions follow within the leases of the caches,
 * connections when the log is back: what could not be told is told then.
 *
 * Bounded: `waitingMax` revocations wait to be told; beyond, the oldest are dropped and logged, and connections that rest on them
 * on other nodes stay until they end.
 */
import type { Log } from '../core/log.js'
import type { Revocation, RevocationLog } from '../store/revocation-log.js'
import type { Principal } from '../tenancy/model.js'

export interface RevocationsOptions {
  readonly revocations: RevocationLog
  readonly authenticator: { forget(wanted: (principal: Principal) => boolean): void }
  readonly tenants: { forget(id: string): void }
  readonly connections: { disconnect(wanted: (principal: Principal) => boolean): number }
  readonly log: Log
  /** Default 1,000. */
  readonly intervalMs?: number
}

const waitingMax = 10_000
const readMax = 1000

/** Does the principal rest on what was revoked? */
export function isRevoked (revocation: Revocation, principal: Principal): boolean {
  if (principal.tenant !== revocation.tenant) return false
  if (revocation.kind === 'credential') return principal.credentialId === revocation.credentialId
  return revocation.kind === 'tenant' || principal.device === revocation.device
}

export class Revocations {
  readonly #options: RevocationsOptions
  #waiting: Revocation[] = []
  #place: string | null = null
  #timer: NodeJS.Timeout | null = null
  #busy: Promise<void> | null = null
  readonly stats = { told: 0, followed: 0, connectionsCut: 0, dropped: 0 }

  constructor (options: RevocationsOptions) {
    this.#options = options
  }

  /** What the other nodes say from now on will be followed. */
  get following (): boolean { return this.#place !== null }

  /** Follows what the other nodes say from now on. Does not wait for the log. */
  open (): void {
    this.#timer = setInterval(() => { this.step() }, this.#options.intervalMs ?? 1000)
    this.step()
  }

  async close (): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer)
    await this.#busy
  }

  /** Tells the other nodes; this one has done it already. */
  announce (revocation: Revocation): void {
    if (this.#waiting.length >= waitingMax) {
      this.#waiting.shift()
      this.stats.dropped++
      this.#options.log.error({ waitingMax }, 'too many revocations wait for Redis; connections on other nodes that rest on the oldest are not cut')
    }
    this.#waiting.push(revocation)
    this.step()
  }

  /** One round, unless one is under way. */
  step (): void {
    this.#busy ??= this.#round().catch((error: Error) => {
      this.#options.log.debug({ error: error.message }, 'revocations could not be exchanged; it is tried again')
    }).finally(() => { this.#busy = null })
  }

  async #round (): Promise<void> {
    const { revocations } = this.#options
    this.#place ??= await revocations.end()
    while (this.#waiting.length > 0) {
      await revocations.add(this.#waiting[0])
      this.#waiting.shift()
      this.stats.told++
    }
    for (;;) {
      const read = await revocations.readAfter(this.#place, readMax)
      for (const revocation of read.revocations) this.#follow(revocation)
      this.#place = read.place
      if (read.revocations.length < readMax) return
    }
  }

  /** Also what this node said itself: it changes nothing then. */
  #follow (revocation: Revocation): void {
    const { authenticator, tenants, connections } = this.#options
    const wanted = (principal: Principal): boolean => isRevoked(revocation, principal)
    if (revocation.kind === 'tenant') tenants.forget(revocation.tenant)
    authenticator.forget(wanted)
    this.stats.connectionsCut += connections.disconnect(wanted)
    this.stats.followed++
  }
}
