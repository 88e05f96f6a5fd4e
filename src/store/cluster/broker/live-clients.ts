/**
 * The clients that are connected to this node, and what is under way to each persistent one on its connection: enough to send a
 * queued message once, to acknowledge it by its identity, and to finish after an outage of Redis what could not be written.
 * Bounded by connections and by the packet ids that a client may leave unacknowledged.
 */
import type { BrokerClient, BrokerPacket } from '../../broker/types.js'

/** Where a replay tells a connection which numbered messages it takes care of (see edge/mqtt/delivery.ts). */
export interface ReplayMarks {
  /** Messages with this number or a lower one reach the session by replay only. */
  replayedUpTo: number
  /** The greatest number that was passed over because of that. */
  skippedUpTo: number
}

export type LiveBrokerClient = BrokerClient & {
  readonly conn?: ReplayMarks
  readonly subscriptions?: Readonly<Record<string, { readonly qos: number }>>
  readonly will?: BrokerPacket | null
}

/** An acknowledgement that Redis has not been told of. */
export interface Owed {
  readonly kind: 'clear' | 'pubrel'
  readonly identity: string
  readonly messageId: number
}

export class LiveClient {
  readonly client: LiveBrokerClient
  /** Tells this connection from others of the client on any node. */
  readonly connection: string
  /** ms */
  readonly since: number
  /** Redis knows that this node holds the client. */
  claimed = false
  /** Sent on this connection and not known to be out of the queue: identity → packet id (0: about to be sent). */
  readonly sent = new Map<string, number>()
  readonly identities = new Map<number, string>()
  /** What a running replay is going to send. */
  pending: Map<string, unknown> | null = null
  replaying = false
  /** Another replay was asked for while one runs. */
  again = false
  /** A replay ended early because Redis did not answer. */
  behind = false
  readonly owed: Owed[] = []

  constructor (client: LiveBrokerClient, connection: string, since: number) {
    this.client = client
    this.connection = connection
    this.since = since
  }

  noteSent (identity: string, messageId: number): void {
    const before = this.sent.get(identity)
    if (before !== undefined && before !== 0) this.identities.delete(before)
    this.sent.set(identity, messageId)
    if (messageId !== 0) this.identities.set(messageId, identity)
  }

  forget (identity: string): void {
    const messageId = this.sent.get(identity)
    if (messageId === undefined) return
    this.sent.delete(identity)
    if (messageId !== 0) this.identities.delete(messageId)
  }
}

export class LiveClients {
  readonly #live = new Map<string, LiveClient>()
  readonly #nodeId: string
  #connections = 0

  constructor (nodeId: string) { this.#nodeId = nodeId }

  /** Unique on all nodes. */
  newConnection (): string { return `${this.#nodeId}.${++this.#connections}` }

  set (live: LiveClient): void { this.#live.set(live.client.id, live) }

  get (clientId: string): LiveClient | undefined { return this.#live.get(clientId) }

  /** The record of this very connection; undefined where another one has taken its place. */
  of (client: BrokerClient): LiveClient | undefined {
    const live = this.#live.get(client.id)
    return live?.client === client ? live : undefined
  }

  /** Forgets a connection unless another has taken its place. */
  end (live: LiveClient): void { if (this.#live.get(live.client.id) === live) this.#live.delete(live.client.id) }

  all (): LiveClient[] { return [...this.#live.values()] }
}
