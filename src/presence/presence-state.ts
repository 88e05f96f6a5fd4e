/**
 * What the slots of a device say together (store/presence-store.ts), given which servers live. Pure.
 */
import type { Connected, DisconnectReason, PresenceRow } from '../store/presence-store.js'

export interface BootVerdict {
  readonly alive: boolean
  /** When it was last known to live, µs; 0: not known. */
  readonly aliveAt: number
}

export interface PresenceState {
  readonly connected: boolean
  /** µs; 0: never connected. */
  readonly since: number
  readonly reason: DisconnectReason | null
  /** The connection that is open, or that ended last; null: none. */
  readonly connection: Connected | null
}

const never: PresenceState = { connected: false, since: 0, reason: null, connection: null }

/**
 * Connected where any slot's connection is open on a server that lives: the one opened last. Else as of the one that ended last; one
 * whose server is dead ended with it.
 */
export function presenceState (row: PresenceRow, verdictOf: (bootId: string, node: string) => BootVerdict): PresenceState {
  let open: Connected | null = null
  let last = never
  for (const { connected, disconnected } of row.slots) {
    const verdict = disconnected === null ? verdictOf(connected.bootId, connected.node) : null
    if (verdict?.alive === true) {
      if (open === null || connected.at > open.at) open = connected
    } else {
      const since = disconnected?.at ?? lostAt(connected, verdict?.aliveAt ?? 0, row.activityAt)
      if (since >= last.since) last = { connected: false, since, reason: disconnected?.reason ?? 'node_lost', connection: connected }
    }
  }
  return open === null ? last : { connected: true, since: open.at, reason: null, connection: open }
}

/** When a connection was lost whose server died: as far as is known, µs. */
export function lostAt ({ at }: Connected, aliveAt: number, activityAt = 0): number {
  return Math.max(at, aliveAt, activityAt)
}
