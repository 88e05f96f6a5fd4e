/**
 * Port: which devices are connected, where, and when they were last heard of. Connecting and disconnecting write different columns of a
 * device's row, so a late "disconnected" of an older connection cannot hide a newer connection.
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

export interface PresenceRow {
  readonly tenant: string
  readonly device: string
  /** The last that was opened; null: never since the device was made. */
  readonly connected: Connected | null
  /** Of the last connection that ended. */
  readonly disconnected: Disconnected | null
  /** Last word of the device as far as it was written down, µs; 0: none. */
  readonly activityAt: number
}

export interface PresenceStore {
  putConnected(rows: readonly Connected[]): Promise<void>
  putDisconnected(rows: readonly (Disconnected & { readonly bootId: string })[]): Promise<void>
  /** Keeps the later of what is there and what is given. */
  putActivity(rows: readonly { readonly tenant: string, readonly device: string, readonly at: number }[]): Promise<void>
  /** In the order asked; absent devices give a row without anything. */
  getPresence(tenant: string, devices: readonly string[]): Promise<readonly PresenceRow[]>
  /** Boots that have connections that were not taken back: those of servers that run, and of those that died. */
  presenceBoots(): Promise<readonly string[]>
  /** Connections of the boot that were opened and not closed. */
  connectionsOf(bootId: string): AsyncIterable<Connected>
  deletePresence(tenant: string, device: string): Promise<void>
}
