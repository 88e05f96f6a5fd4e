/**
 * The persistence of Aedes 1.2 (the interface of aedes-persistence 11) on Redis, for brokers of several nodes: sessions, queues,
 * retained messages, wills. What it promises and how: outgoing.ts, sessions.ts, retained.ts. A method resolves when Redis has
 * answered; how much of that survives a crash of Redis is Redis' own setting (appendonly, replicas).
 */
import { Readable } from 'node:stream'
import type { BrokerPersistenceStats } from '../../broker/ledger.js'
import { separateOrders } from '../../broker/order.js'
import type { BrokerClient, BrokerHandle, BrokerPacket, BrokerSubscription, MatchedSubscription, QueuedPacket } from '../../broker/types.js'
import type { BrokerShared } from './broker-redis.js'
import type { ClusterOutgoing } from './outgoing.js'
import type { ClusterRetained } from './retained.js'
import type { ClusterSessions } from './sessions.js'

export interface ClusterPersistenceParts {
  readonly shared: BrokerShared
  readonly sessions: ClusterSessions
  readonly outgoing: ClusterOutgoing
  readonly retained: ClusterRetained
  readonly disconnected: (client: BrokerClient) => void
  readonly tenantSeen: (topic: string) => void
}

export class ClusterPersistence {
  readonly #parts: ClusterPersistenceParts
  /** Subscriptions of one SUBSCRIBE: Aedes hands the same array over once for each of its filters. */
  readonly #subscribing = new WeakMap<readonly BrokerSubscription[], Promise<void>>()
  #broker: BrokerHandle | null = null
  readonly #disconnected = (client: BrokerClient): void => { this.#parts.disconnected(client) }

  constructor (parts: ClusterPersistenceParts) { this.#parts = parts }

  /** Publishes are matched in Redis when they are queued: `subscriptionsByTopic` before that would be a second question. */
  readonly matchesWhenQueueing = true

  get stats (): Readonly<BrokerPersistenceStats> { return this.#parts.shared.ledger.stats }
  get broker (): BrokerHandle | null { return this.#broker }

  async setup (broker: BrokerHandle): Promise<void> {
    this.#broker = broker
    separateOrders(broker)
    broker.on?.('clientDisconnect', this.#disconnected)
  }

  async storeRetained (packet: BrokerPacket): Promise<void> {
    this.#parts.tenantSeen(packet.topic)
    await this.#parts.retained.store(packet)
  }

  createRetainedStream (filter: string): Readable { return this.createRetainedStreamCombi([filter]) }
  createRetainedStreamCombi (filters: readonly string[]): Readable { return Readable.from(this.#parts.retained.find(filters)) }

  async addSubscriptions (client: BrokerClient, subscriptions: readonly BrokerSubscription[]): Promise<void> {
    const underWay = this.#subscribing.get(subscriptions)
    if (underWay !== undefined) return await underWay
    this.#parts.tenantSeen(client.id)
    const done = this.#parts.sessions.subscribe(client, subscriptions)
    this.#subscribing.set(subscriptions, done)
    const forget = (): void => { this.#subscribing.delete(subscriptions) }
    done.then(forget, forget)
    await done
  }

  async removeSubscriptions (client: BrokerClient, filters: readonly string[]): Promise<void> { await this.#parts.sessions.unsubscribe(client.id, filters) }
  async subscriptionsByClient (client: BrokerClient): Promise<BrokerSubscription[]> { return await this.#parts.sessions.subscriptionsOf(client.id) }
  async subscriptionsByTopic (topic: string): Promise<MatchedSubscription[]> { return await this.#parts.sessions.match(topic) }
  async cleanSubscriptions (client: BrokerClient): Promise<void> { await this.#parts.sessions.discard(client) }

  async countOffline (): Promise<{ subsCount: number, clientsCount: number }> {
    const { subscriptions, sessions } = this.stats
    return { subsCount: subscriptions, clientsCount: sessions }
  }

  async outgoingEnqueue (subscription: MatchedSubscription, packet: BrokerPacket): Promise<void> { await this.#parts.outgoing.enqueue([subscription], packet) }
  async outgoingEnqueueCombi (subscriptions: readonly MatchedSubscription[], packet: BrokerPacket): Promise<void> { await this.#parts.outgoing.enqueue(subscriptions, packet) }
  /** For every session that the packet's topic matches, and to the nodes that want it. */
  async outgoingEnqueueMatching (packet: BrokerPacket): Promise<void> { await this.#parts.outgoing.enqueue(null, packet) }
  async outgoingUpdate (client: BrokerClient, packet: QueuedPacket): Promise<void> { await this.#parts.outgoing.update(client, packet) }
  async outgoingClearMessageId (client: BrokerClient, packet: QueuedPacket): Promise<QueuedPacket | undefined> { return await this.#parts.outgoing.clear(client, packet) }
  outgoingStream (client: BrokerClient): Readable { return Readable.from(this.#parts.outgoing.replay(client)) }

  async incomingStorePacket (client: BrokerClient, packet: BrokerPacket): Promise<void> { await this.#parts.sessions.storeIncoming(client, packet) }
  async incomingGetPacket (client: BrokerClient, packet: { messageId: number }): Promise<BrokerPacket> { return await this.#parts.sessions.getIncoming(client.id, packet.messageId) }
  async incomingDelPacket (client: BrokerClient, packet: { messageId: number }): Promise<void> { await this.#parts.sessions.deleteIncoming(client.id, packet.messageId) }
  async cleanIncoming (client: BrokerClient): Promise<void> { await this.#parts.sessions.cleanIncoming(client) }

  async putWill (client: BrokerClient, packet: BrokerPacket): Promise<void> { await this.#parts.sessions.putWill(client, packet) }
  async getWill (client: BrokerClient): Promise<BrokerPacket | undefined> { return await this.#parts.sessions.getWill(client.id) }
  async delWill (client: BrokerClient): Promise<BrokerPacket | undefined> { return await this.#parts.sessions.deleteWill(client) }
  /** The wills of dead nodes are published by the caretaker, after their lease. */
  streamWill (): Readable { return Readable.from([]) }

  getClientList (filter: string): Readable { return Readable.from(this.#parts.sessions.clientsOf(filter)) }

  /** What Aedes calls it. Nothing is deleted. */
  async destroy (): Promise<void> { this.#broker?.removeListener?.('clientDisconnect', this.#disconnected) }
}
