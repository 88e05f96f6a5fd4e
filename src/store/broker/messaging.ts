/**
 * The port through which the brokers of several nodes are one: who holds a client, who wants which messages, and how a
 * message gets there. What waits in sessions is the persistence's business; this carries what is under way. Topics, filters
 * and client ids are in broker form (`tenant/…`).
 */
import type { BrokerPacket } from './types.js'

/** A connection of this node, as the messaging sees it. */
export interface ConnectedClient {
  readonly id: string
  readonly clean: boolean
  readonly closed: boolean
  readonly will: BrokerPacket | null
  readonly subscriptions: Readonly<Record<string, { readonly qos: number }>>
}

/** What the messaging asks of this node's broker. */
export interface LocalBroker {
  /** Hands a message of another node to this node's subscribers. `number`: its place in the sessions' queues, 0 where it is in none. */
  deliver(packet: BrokerPacket, number: number): void
  /** Another node has the client now: closes its connection here; calls back when that is done. */
  closeClient(client: ConnectedClient, done: () => void): void
  /** Publishes the will of a client whose node died. */
  publishWill(packet: BrokerPacket): Promise<void>
  /** Sends a session what waits in its queue and was not sent on this connection. */
  catchUp(client: ConnectedClient): Promise<void>
  /** A filter that another node wants, and one that it no longer wants; one for one. */
  wanted(filter: string): void
  unwanted(filter: string): void
}

export interface BrokerMessaging {
  /** Unique for each start of a process. */
  readonly nodeId: string
  /** This node is known to the others and knows them. While false, messages stay on this node. */
  readonly up: boolean
  /** Begins; resolves when this node has joined, or after a bounded time without the others. */
  open(local: LocalBroker): Promise<void>
  /**
   * A client connects: its connection on another node is closed first. Rejects with `store_unavailable` where that cannot be
   * made sure and the session is one that is kept; a clean one is taken in all the same, and claimed later.
   */
  claim(client: { readonly id: string, readonly clean: boolean }): Promise<void>
  /** A connection wants the filter. Resolves when the live nodes know (or after a bounded time), at once while alone. */
  subscribed(filter: string): Promise<void>
  unsubscribed(filter: string): void
  /** Sends a QoS 0 message to the nodes that want it; messages above QoS 0 travel with their entry in the queues. */
  forward(packet: BrokerPacket): void
  /** Leaves the others. The connections of this node must be closed. */
  close(): Promise<void>
}
