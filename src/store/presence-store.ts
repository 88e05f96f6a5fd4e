/**
 * Port: which devices are connected, where, and when they were last heard of.
 *
 * Of every device each node keeps a slot of its own: the last connection that it had there, and how that ended. A node writes its slots
 * in the order in which things happened to it; what several nodes write comes in any order and never meets, so no late "disconnected" of
 * an older connection hides a newer one. What becomes of the connections of a node that died is written by another one, beside the slot's
 * own columns (`putLost`). Readers put the slots together (`presence/presence-state.ts`).
 *
 * Nothing here is conditional or synced: it survives SIGKILL; after a power loss it is what it was some seconds before.
 */

export interface Connected {
  readonly tenant: string
  readonly device: string
  /** Unique for every connection; sorts by time of connecting on one node. */
  readonly connection: string
  readonly node: string
  /** New at every start of a server. */
  readonly bootId: string
  /** µs */
  readonly at: number
  /** '' for the device itself, else the gateway that speaks for it. */
  readonly via: string
  /** Seconds without a word after which the connection ends; 0: never. */
  readonly keepAliveSeconds: number
}

export type DisconnectReason = 'client' | 'closed' | 'keep_alive' | 'taken_over' | 'revoked' | 'protocol' | 'slow' | 'server_stopped' | 'node_lost'

export interface Disconnected {
  readonly tenant: string
  readonly device: string
  /** The connection that ended. */
  readonly connection: string
  readonly at: number
  readonly reason: DisconnectReason
}

/** Names the slot that it is written to. */
export type SlotEnd = Disconnected & { readonly node: string, readonly bootId: string }

export interface PresenceSlot {
  /** The last connection that the node wrote. */
  readonly connected: Connected
  /** How that very connection ended; null: it is open, where its server lives. */
  readonly disconnected: Disconnected | null
}

export interface PresenceRow {
  readonly tenant: string
  readonly device: string
  /** One a node at most, those that connected last first. */
  readonly slots: readonly PresenceSlot[]
  /** Last word of the device as far as it was written down, µs; 0: none. */
  readonly activityAt: number
}

export interface PresenceBoot {
  readonly bootId: string
  readonly node: string
  /** When it last said that it lives, µs, by its own clock. */
  readonly aliveAt: number
  /** Whether its connections are being, or were, written down as lost. */
  readonly swept: 'no' | 'begun' | 'yes'
}

/** Slots of one device that are kept when it is read; of more, those that ended first are taken away. */
export const presenceSlotsMax = 8

export interface PresenceStore {
  /** The connections are among those of their boots from now on. Of several of one device and node the last given stands in the slot. */
  putConnected(rows: readonly Connected[]): Promise<void>
  /** The slot's node says that the connection that stands in it ended; it is no longer among those of its boot. */
  putDisconnected(rows: readonly SlotEnd[]): Promise<void>
  /** The same, said by another than the node itself. Of several of one device and node the last given counts. */
  putLost(rows: readonly SlotEnd[]): Promise<void>
  /** Connections that ended and stand in no slot are no longer among those of their boots. */
  dropConnections(rows: readonly SlotEnd[]): Promise<void>
  /** Times of one device that one node gives ascend; the latest of all nodes is read. */
  putActivity(node: string, rows: readonly { readonly tenant: string, readonly device: string, readonly at: number }[]): Promise<void>
  /** In the order asked; absent devices give a row without anything. */
  getPresence(tenant: string, devices: readonly string[]): Promise<readonly PresenceRow[]>
  /**
   * Says that the boot lives; it stays among the boots until it is deleted. Without `swept` that stays as it is: a boot that says it lives
   * must not hide from itself that others have taken it for dead.
   */
  putPresenceBoot(boot: Omit<PresenceBoot, 'swept'> & Partial<Pick<PresenceBoot, 'swept'>>): Promise<void>
  /** How far its sweep is, whatever it says of itself meanwhile. */
  putPresenceSwept(bootId: string, swept: PresenceBoot['swept']): Promise<void>
  presenceBoots(): Promise<readonly PresenceBoot[]>
  deletePresenceBoot(bootId: string): Promise<void>
  /** Connections of the boot that were put and not ended; those of one device by connection, ascending. */
  connectionsOf(bootId: string): AsyncIterable<Connected>
  deletePresence(tenant: string, device: string): Promise<void>
}
