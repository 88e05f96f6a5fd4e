/**
 * What the MQTT stage tells of connections, and what is known of them: the surface between the stage, presence, the edges, commands and
 * search. The stage calls on the main thread, never waits, and no call throws: CONNACK does not wait for a store.
 */
import type { DisconnectReason } from '../store/presence-store.js'

/** One connection, on behalf of one device: its own, or a gateway's for a child. The stage keeps the object; presence holds it while it is open. */
export interface PresenceSession {
  readonly tenant: string
  readonly device: string
  /** Unique for every connection (a gateway's children may share its), sorts by time of connecting on one node; printable ASCII without a slash, at most 64 characters. */
  readonly connection: string
  readonly keepAliveSeconds: number
  /** '' for the device itself, else the gateway that speaks for it. */
  readonly via: string
  /** When it was last heard, pings included, µs; read now and then, so a getter over the stage's own tick will do. */
  readonly lastHeardUs: number
}

/** Who is told of connections. Each is opened once and closed once. */
export interface PresenceSink {
  /** The connection is accepted. Of several open ones of a device the one opened last stands for it. */
  opened (session: PresenceSession): void
  /** It has ended; unknown ones are passed over. */
  closed (session: PresenceSession, reason: DisconnectReason, lastHeardUs: number): void
  /** A device without a connection was heard (HTTP). Cheap: gathered and written every half minute. */
  noteActivity (tenant: string, device: string, atUs: number): void
}

export interface PresenceView {
  readonly connected: boolean
  /** When it connected, or when its last connection ended, µs; 0: it never had one. */
  readonly since: number
  /** Why the last connection ended; null while connected, and where there never was one. */
  readonly reason: DisconnectReason | null
  /** Last word of the device as far as is known, µs; 0: none. For one that is connected to another node up to two minutes old. */
  readonly lastActivity: number
  /** It was heard of before, but not for longer than the setting says (`TWINFOLD_STALE_AFTER_S`). */
  readonly stale: boolean
  /** Node that it is or was connected to, and the gateway that speaks for it; null: none. */
  readonly node: string | null
  readonly via: string | null
  /** Of the connection that it has or had last; null: none. */
  readonly connection: string | null
}

/** Where presence is asked for. */
export interface PresenceSource {
  /** In the order asked. What this node knows itself is there at once, of other nodes it may be a second old. @throws TwinfoldError `store_unavailable` */
  view (tenant: string, devices: readonly string[]): Promise<readonly PresenceView[]>
  /** Whether a connection of the device is open on this node. */
  isConnectedHere (tenant: string, device: string): boolean
  /** The device goes: what is known of it is taken away. */
  forget (tenant: string, device: string): Promise<void>
}
