/**
 * Writes down that the connections of a dead server are lost, and tells it: one node at a time, under a claim. Whoever asks before that
 * sees them as lost already (presence-state.ts). A sweep that dies is begun again by another; what it tells twice has the same ids.
 */
import type { Clock } from '../core/clock.js'
import type { Log } from '../core/log.js'
import type { ClaimStore } from '../store/claim-store.js'
import type { EventLog, OutEvent } from '../store/event-log.js'
import type { Connected, PresenceBoot, PresenceStore, SlotEnd } from '../store/presence-store.js'
import { connectedEvent, disconnectedEvent } from './presence-events.js'
import { lostAt, presenceState, type BootVerdict } from './presence-state.js'

export interface LostSweepOptions {
  readonly store: Pick<PresenceStore, 'connectionsOf' | 'getPresence' | 'putLost' | 'putPresenceSwept'> & Pick<ClaimStore, 'takeClaim' | 'releaseClaim'>
  readonly events: Pick<EventLog, 'appendEvents'>
  readonly verdictOf: (bootId: string, node: string) => BootVerdict
  readonly isOpenHere: (tenant: string, device: string) => boolean
  /** There are no other servers: nothing but what is open here is open. */
  readonly alone: boolean
  /** Of this server's start: the owner of the claim. */
  readonly bootId: string
  readonly clock: Clock
  readonly log: Log
}

const claimName = 'presence-sweep'
const leaseMs = 30_000
const connectionsPerStep = 500
/** A connection may have been written, and its event not, for this long before its server was last known to live, µs. */
const untoldUsMax = 60e6

export class LostSweep {
  readonly #options: LostSweepOptions
  #running: Promise<void> | null = null
  #closed = false
  readonly stats = { sweeps: 0, connectionsLost: 0 }

  constructor (options: LostSweepOptions) {
    this.#options = options
  }

  /** Nothing while one is under way: they are named again at the next look. */
  start (boots: readonly PresenceBoot[]): void {
    if (boots.length === 0 || this.#running !== null || this.#closed) return
    this.#running = this.#sweepAll(boots)
      .catch((error: unknown) => { this.#options.log.warn({ error: (error as Error).message }, 'connections of a dead server could not be written down; it is tried again') })
      .finally(() => { this.#running = null })
  }

  async close (): Promise<void> {
    this.#closed = true
    await this.#running
  }

  async #sweepAll (boots: readonly PresenceBoot[]): Promise<void> {
    const { store, bootId } = this.#options
    if (!await this.#claimed()) return
    try {
      for (const boot of boots) if (!await this.#sweep(boot)) return
    } finally {
      await store.releaseClaim(claimName, bootId).catch(() => { /* Its lease ends. */ })
    }
  }

  async #claimed (): Promise<boolean> {
    return await this.#options.store.takeClaim(claimName, this.#options.bootId, leaseMs) !== null
  }

  /** False where it has to stop. */
  async #sweep (boot: PresenceBoot): Promise<boolean> {
    const { store, log } = this.#options
    let some: Connected[] = []
    let count = 0
    // Before the first of them: a server that is alive after all sees that it has to tell them again, however far this comes.
    await store.putPresenceSwept(boot.bootId, 'begun')
    for await (const connection of store.connectionsOf(boot.bootId)) {
      some.push(connection)
      if (some.length < connectionsPerStep) continue
      await this.#lose(boot, some)
      count += some.length
      some = []
      // It may have come back: it was paused, say.
      if (this.#closed || this.#options.verdictOf(boot.bootId, boot.node).alive || !await this.#claimed()) return false
    }
    await this.#lose(boot, some)
    count += some.length
    await store.putPresenceSwept(boot.bootId, 'yes')
    this.stats.sweeps++
    if (count > 0) log.info({ node: boot.node, connections: count }, 'the connections of a server that died are written down as lost')
    return true
  }

  async #lose (boot: PresenceBoot, connections: readonly Connected[]): Promise<void> {
    const { store, events, clock } = this.#options
    const told: OutEvent[] = []
    const ends: SlotEnd[] = []
    for (const [tenant, own] of byTenant(connections)) {
      const online = await this.#online(tenant, own)
      own.forEach((connected, i) => {
        const { device, connection, node, bootId } = connected
        const end: SlotEnd = { tenant, device, connection, at: lostAt(connected, boot.aliveAt), reason: 'node_lost', node, bootId }
        const stamp = clock.nowUs()
        if (connected.at > boot.aliveAt - untoldUsMax) told.push(connectedEvent(connected, stamp))
        told.push(disconnectedEvent(end, connected, online[i], stamp))
        ends.push(end)
      })
    }
    if (ends.length === 0) return
    await events.appendEvents(told)
    await store.putLost(ends)
    this.stats.connectionsLost += ends.length
  }

  /** Whether each device has another connection by now. */
  async #online (tenant: string, lost: readonly Connected[]): Promise<readonly boolean[]> {
    const { store, alone, isOpenHere, verdictOf } = this.#options
    if (alone) return lost.map(({ device }) => isOpenHere(tenant, device))
    const rows = await store.getPresence(tenant, lost.map(({ device }) => device))
    return rows.map((row, i) => isOpenHere(tenant, row.device) || presenceState({ ...row, slots: row.slots.filter(slot => slot.connected.bootId !== lost[i].bootId) }, verdictOf).connected)
  }
}

function byTenant (connections: readonly Connected[]): Map<string, Connected[]> {
  const tenants = new Map<string, Connected[]>()
  for (const connection of connections) {
    const own = tenants.get(connection.tenant)
    if (own === undefined) tenants.set(connection.tenant, [connection])
    else own.push(connection)
  }
  return tenants
}
