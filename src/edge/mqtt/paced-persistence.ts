/**
 * The broker's persistence with a brake: stored messages (a session's queue, retained messages of a new
 * subscription) are replayed no faster than their client reads and acknowledges them. Without it a long queue would
 * overrun the outbound bound, the connection would be closed, and the next one would meet the same queue again.
 */
import { Readable } from 'node:stream'
import { TwinfoldError } from '../../core/errors.js'

/** What Aedes 1.2 asks of a persistence; all promises unless named a stream. */
export interface BrokerPersistence {
  setup(broker: unknown): Promise<void>
  storeRetained(packet: unknown): Promise<void>
  createRetainedStream(pattern: string): Readable
  createRetainedStreamCombi(patterns: readonly string[]): Readable
  addSubscriptions(client: SessionRef, subscriptions: readonly unknown[]): Promise<void>
  removeSubscriptions(client: SessionRef, topics: readonly string[]): Promise<void>
  subscriptionsByClient(client: SessionRef): Promise<unknown>
  subscriptionsByTopic(topic: string): Promise<readonly MatchedSubscription[]>
  countOffline(): Promise<unknown>
  cleanSubscriptions(client: SessionRef): Promise<unknown>
  outgoingEnqueue(subscription: unknown, packet: unknown): Promise<void>
  outgoingEnqueueCombi(subscriptions: readonly unknown[], packet: unknown): Promise<void>
  /** Where it is there, matching and queueing are one step, and `subscriptionsByTopic` is not asked before a publish. */
  outgoingEnqueueMatching?(packet: unknown): Promise<void>
  outgoingUpdate(client: SessionRef, packet: unknown): Promise<unknown>
  outgoingClearMessageId(client: SessionRef, packet: unknown): Promise<unknown>
  outgoingStream(client: SessionRef): Readable
  incomingStorePacket(client: SessionRef, packet: unknown): Promise<unknown>
  incomingGetPacket(client: SessionRef, packet: unknown): Promise<unknown>
  incomingDelPacket(client: SessionRef, packet: unknown): Promise<unknown>
  cleanIncoming?(client: SessionRef): Promise<unknown>
  putWill(client: SessionRef, packet: unknown): Promise<unknown>
  getWill(client: SessionRef): Promise<unknown>
  delWill(client: SessionRef): Promise<unknown>
  streamWill(brokers: unknown): Readable
  getClientList(topic: string): Readable
  destroy(): Promise<void>
}

/** A session as the broker names it: its client, or its id alone. */
export interface SessionRef {
  readonly id: string
  readonly clean?: boolean
  readonly conn?: unknown
}

/** A stored subscription of QoS 1 or 2 that matches a topic. */
export interface MatchedSubscription {
  readonly clientId: string
  readonly qos: number
}

/** The receiving end of a replay. */
export interface Receiver {
  /** Can take more stored messages now. */
  readonly hasRoom: boolean
  /** Resolves when `hasRoom` may have become true, or the connection has ended. */
  room(): Promise<void>
  readonly destroyed: boolean
}

/**
 * Stands for subscriptions that could not be looked up. Aedes drops a publish without a word when the look-up rejects,
 * so that its sender would wait for ever; this makes the next step, the enqueueing, fail, which it does report.
 */
class FailedLookup implements MatchedSubscription {
  readonly clientId = ''
  readonly topic = ''
  readonly qos = 0
  readonly error: unknown

  constructor (error: unknown) { this.error = error }
}

/** The store of sessions does not answer: it is not known what it holds. */
export function isStoreUnavailable (error: unknown): boolean {
  return error instanceof TwinfoldError && error.code === 'store_unavailable'
}

async function * paced (source: Readable, receiver: Receiver): AsyncGenerator<unknown> {
  for await (const item of source) {
    while (!receiver.hasRoom && !receiver.destroyed) await receiver.room()
    if (receiver.destroyed) return
    yield item
  }
}

export class PacedPersistence implements BrokerPersistence {
  readonly #stored: BrokerPersistence
  readonly #receiverOf: (client: SessionRef) => Receiver | null
  /** Who subscribed last: the broker asks for retained messages right after it announced the subscription. */
  subscriber: Receiver | null = null

  constructor (stored: BrokerPersistence, receiverOf: (client: SessionRef) => Receiver | null) {
    this.#stored = stored
    this.#receiverOf = receiverOf
  }

  async setup (broker: unknown): Promise<void> { await this.#stored.setup(broker) }

  createRetainedStreamCombi (patterns: readonly string[]): Readable {
    const source = this.#stored.createRetainedStreamCombi(patterns)
    const receiver = this.subscriber
    this.subscriber = null
    return receiver === null ? source : Readable.from(paced(source, receiver))
  }

  outgoingStream (client: SessionRef): Readable {
    const receiver = this.#receiverOf(client)
    // A clean session starts without a queue ([MQTT-3.1.2-6]).
    if (client.clean === true) return Readable.from([])
    const source = this.#stored.outgoingStream(client)
    return receiver === null ? source : Readable.from(paced(source, receiver))
  }

  /** One for each session, of its greatest QoS: a queue that got a message twice would deliver it twice ([MQTT-3.3.5-1]). */
  async subscriptionsByTopic (topic: string): Promise<readonly MatchedSubscription[]> {
    let matched: readonly MatchedSubscription[]
    try {
      matched = await this.#stored.subscriptionsByTopic(topic)
    } catch (error) {
      return [new FailedLookup(error)]
    }
    if (matched.length < 2) return matched
    const sessions = new Map<string, MatchedSubscription>()
    for (const subscription of matched) {
      const known = sessions.get(subscription.clientId)
      if (known === undefined || known.qos < subscription.qos) sessions.set(subscription.clientId, subscription)
    }
    return [...sessions.values()]
  }

  outgoingEnqueueCombi (subscriptions: readonly unknown[], packet: unknown): Promise<void> {
    const [first] = subscriptions
    if (first instanceof FailedLookup) return Promise.reject(first.error as Error)
    return this.#stored.outgoingEnqueueCombi(subscriptions, packet)
  }

  cleanIncoming (client: SessionRef): Promise<unknown> {
    return this.#stored.cleanIncoming?.(client) ?? Promise.resolve()
  }

  storeRetained (packet: unknown): Promise<void> { return this.#stored.storeRetained(packet) }
  createRetainedStream (pattern: string): Readable { return this.#stored.createRetainedStream(pattern) }
  addSubscriptions (client: SessionRef, subscriptions: readonly unknown[]): Promise<void> { return this.#stored.addSubscriptions(client, subscriptions) }
  removeSubscriptions (client: SessionRef, topics: readonly string[]): Promise<void> { return this.#stored.removeSubscriptions(client, topics) }
  subscriptionsByClient (client: SessionRef): Promise<unknown> { return this.#stored.subscriptionsByClient(client) }
  countOffline (): Promise<unknown> { return this.#stored.countOffline() }
  cleanSubscriptions (client: SessionRef): Promise<unknown> { return this.#stored.cleanSubscriptions(client) }
  outgoingEnqueue (subscription: unknown, packet: unknown): Promise<void> { return this.#stored.outgoingEnqueue(subscription, packet) }
  outgoingUpdate (client: SessionRef, packet: unknown): Promise<unknown> { return this.#stored.outgoingUpdate(client, packet) }
  outgoingClearMessageId (client: SessionRef, packet: unknown): Promise<unknown> { return this.#stored.outgoingClearMessageId(client, packet) }
  incomingStorePacket (client: SessionRef, packet: unknown): Promise<unknown> { return this.#stored.incomingStorePacket(client, packet) }
  incomingGetPacket (client: SessionRef, packet: unknown): Promise<unknown> { return this.#stored.incomingGetPacket(client, packet) }
  incomingDelPacket (client: SessionRef, packet: unknown): Promise<unknown> { return this.#stored.incomingDelPacket(client, packet) }
  putWill (client: SessionRef, packet: unknown): Promise<unknown> { return this.#stored.putWill(client, packet) }
  getWill (client: SessionRef): Promise<unknown> { return this.#stored.getWill(client) }
  delWill (client: SessionRef): Promise<unknown> { return this.#stored.delWill(client) }
  streamWill (brokers: unknown): Readable { return this.#stored.streamWill(brokers) }
  getClientList (topic: string): Readable { return this.#stored.getClientList(topic) }
  destroy (): Promise<void> { return this.#stored.destroy() }
}
