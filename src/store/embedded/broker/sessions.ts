/**
 * Persistent sessions: their subscriptions, and when they end. A session exists while it has a subscription, a queued
 * message or a QoS 2 handshake, and at most `sessionExpiryMs` past its last disconnect. In memory: one record a
 * session and the index of its subscriptions; queues and payloads are not.
 */
import type { Clock } from '../../../core/clock.js'
import type { Log } from '../../../core/log.js'
import { encodeOptions, encodePair, type SubscriptionOptions } from '../../broker/codec.js'
import { SubscriptionIndex } from '../../broker/filter.js'
import { sessionKey, subscriptionKey } from './keys.js'
import type { Ledger } from '../../broker/ledger.js'
import type { Outbox } from './outbox.js'
import { tenantOf, type BrokerClient, type BrokerSubscription, type MatchedSubscription } from '../../broker/types.js'
import { del, put, type BatchWriter, type WriteOperation } from './writer.js'

export class Session {
  readonly clientId: string
  /** Queue entries with lower numbers belong to an earlier session of the client that is being removed. */
  readonly firstNumber: number
  /** µs; 0 while connected. */
  disconnectedAt = 0
  /** The live connection, where there is one. */
  connection: BrokerClient | null = null
  /** Tells the deliveries of one connection from those of another. */
  connectionNumber = 0
  subscriptions: Map<string, SubscriptionOptions> | null = null
  queued = 0
  queuedBytes = 0
  /** QoS 2 identifiers that wait for PUBREL. */
  incoming = 0
  /** The queue in memory: while connected, see outgoing.ts. */
  outbox: Outbox | null = null
  /** Operations under way that use it. */
  outboxUsers = 0
  removed = false

  constructor (clientId: string, firstNumber: number) {
    this.clientId = clientId
    this.firstNumber = firstNumber
  }

  get empty (): boolean {
    return this.subscriptions === null && this.queued === 0 && this.incoming === 0
  }
}

export interface SessionTableOptions {
  readonly writer: BatchWriter
  readonly ledger: Ledger
  readonly clock: Clock
  readonly log: Log
  /** The client's live connection with a persistent session, if it has one. */
  readonly liveClient: (clientId: string) => BrokerClient | null
  /** Told when a session has lost its connection. */
  readonly resting: (session: Session) => void
  /** The number that the next queued message gets. */
  readonly nextNumber: () => number
}

export class SessionTable {
  readonly #options: SessionTableOptions
  readonly #sessions = new Map<string, Session>()
  /** Disconnected sessions in order of disconnect, so that a sweep looks at expired ones only. */
  readonly #offline = new Map<string, Session>()
  readonly #index = new SubscriptionIndex()
  #withSubscriptions = 0

  constructor (options: SessionTableOptions) {
    this.#options = options
  }

  get (clientId: string): Session | undefined {
    return this.#sessions.get(clientId)
  }

  get withSubscriptions (): number { return this.#withSubscriptions }

  /** Subscriptions above QoS 0, which are those that queue. */
  get queueing (): number { return this.#index.size }

  match (topic: string): MatchedSubscription[] {
    return this.#index.match(topic)
  }

  * clientsOf (filter: string): Generator<string> {
    for (const session of this.#sessions.values()) if (session.subscriptions?.has(filter)) yield session.clientId
  }

  /** The session, made if need be; its row joins `operations`. null when the tenant has as many as it may. */
  obtain (clientId: string, operations: WriteOperation[]): Session | null {
    const known = this.#sessions.get(clientId)
    if (known !== undefined) return known
    const { ledger, clock, liveClient, nextNumber } = this.#options
    if (ledger.held(clientId, 'sessions') >= ledger.limits.sessionsPerTenantMax) {
      ledger.refuse('sessions', clientId)
      return null
    }
    const session = new Session(clientId, nextNumber())
    this.restore(session)
    session.connection = liveClient(clientId)
    if (session.connection === null) {
      session.disconnectedAt = clock.nowUs()
      this.#offline.set(clientId, session)
    }
    operations.push(sessionRow(session))
    return session
  }

  /** Enters a session as it is; at opening `restored` follows once all are there. */
  restore (session: Session): void {
    this.#sessions.set(session.clientId, session)
    this.#options.ledger.add(session.clientId, 'sessions', 1)
  }

  restoreSubscription (session: Session, filter: string, options: SubscriptionOptions): void {
    if (session.subscriptions === null) {
      session.subscriptions = new Map()
      this.#withSubscriptions++
    }
    if (!session.subscriptions.has(filter)) this.#options.ledger.stats.subscriptions++
    session.subscriptions.set(filter, options)
    if (options.qos > 0) this.#index.add(session.clientId, filter, options)
    else this.#index.remove(session.clientId, filter)
  }

  /** Orders all sessions for expiry. Those that were connected when the server died count from now; their rows are returned. */
  restored (): WriteOperation[] {
    const operations: WriteOperation[] = []
    const now = this.#options.clock.nowUs()
    const sessions = [...this.#sessions.values()]
    for (const session of sessions) {
      if (session.disconnectedAt !== 0) continue
      session.disconnectedAt = now
      operations.push(sessionRow(session))
    }
    sessions.sort((a, b) => a.disconnectedAt - b.disconnectedAt)
    for (const session of sessions) this.#offline.set(session.clientId, session)
    return operations
  }

  async subscribe (client: BrokerClient, subscriptions: readonly BrokerSubscription[]): Promise<void> {
    // Aedes hands over the whole SUBSCRIBE when its first filter is authorised. A hook that answers at once and marks
    // what it refuses with the failure code of SUBACK (128) has seen all of them one turn later.
    await null
    const accepted = subscriptions.filter(({ qos }) => qos <= 2)
    if (accepted.length === 0) return
    const { ledger, writer } = this.#options
    const operations: WriteOperation[] = []
    const session = this.obtain(client.id, operations)
    if (session === null) return
    for (const { topic, qos, rh, rap, nl, subscriptionIdentifier } of accepted) {
      if (!session.subscriptions?.has(topic) && (session.subscriptions?.size ?? 0) >= ledger.limits.subscriptionsPerSessionMax) {
        ledger.refuse('subscriptions', client.id)
        continue
      }
      const options = { qos, rh, rap, nl, ...(subscriptionIdentifier === undefined ? undefined : { subscriptionIdentifier }) }
      this.restoreSubscription(session, topic, options)
      operations.push(put(subscriptionKey(client.id, topic), encodeOptions(options)))
    }
    await writer.write(operations)
  }

  async unsubscribe (clientId: string, filters: readonly string[]): Promise<void> {
    const session = this.#sessions.get(clientId)
    if (session === undefined) return
    const operations: WriteOperation[] = []
    for (const filter of filters) {
      if (!session.subscriptions?.delete(filter)) continue
      this.#index.remove(clientId, filter)
      this.#options.ledger.stats.subscriptions--
      operations.push(del(subscriptionKey(clientId, filter)))
      if (session.subscriptions.size === 0) {
        session.subscriptions = null
        this.#withSubscriptions--
      }
    }
    if (session.empty && session.connection === null) operations.push(...this.forget(session))
    await this.#options.writer.write(operations)
  }

  subscriptionsOf (clientId: string): BrokerSubscription[] {
    const stored = this.#sessions.get(clientId)?.subscriptions
    return stored ? [...stored].map(([topic, options]) => ({ topic, ...options })) : []
  }

  /** Takes a session out of memory and returns what removes its rows, all but its queue's. */
  forget (session: Session): WriteOperation[] {
    const { clientId } = session
    const operations = [del(sessionKey(clientId))]
    if (session.subscriptions !== null) {
      for (const filter of session.subscriptions.keys()) {
        this.#index.remove(clientId, filter)
        operations.push(del(subscriptionKey(clientId, filter)))
      }
      this.#options.ledger.stats.subscriptions -= session.subscriptions.size
      this.#withSubscriptions--
      session.subscriptions = null
    }
    session.removed = true
    this.#sessions.delete(clientId)
    this.#offline.delete(clientId)
    this.#options.ledger.add(clientId, 'sessions', -1)
    return operations
  }

  connected (client: BrokerClient): void {
    const session = this.#sessions.get(client.id)
    if (session === undefined || client.clean === true || session.connection === client) return
    session.connection = client
    session.connectionNumber++
    session.disconnectedAt = 0
    this.#offline.delete(client.id)
    this.#writeQuietly(client.id, [sessionRow(session)])
  }

  disconnected (client: BrokerClient): void {
    const session = this.#sessions.get(client.id)
    if (session === undefined || session.connection !== client) return
    session.connection = null
    session.connectionNumber++
    this.#options.resting(session)
    if (session.empty) {
      this.#writeQuietly(client.id, this.forget(session))
      return
    }
    session.disconnectedAt = this.#options.clock.nowUs()
    this.#offline.set(client.id, session)
    this.#writeQuietly(client.id, [sessionRow(session)])
  }

  /** Disconnected sessions past their expiry, the oldest first, at most `countMax`. */
  expired (countMax: number): Session[] {
    const { clock, ledger } = this.#options
    const endedBefore = clock.nowUs() - ledger.limits.sessionExpiryMs * 1000
    const found: Session[] = []
    for (const session of this.#offline.values()) {
      if (session.disconnectedAt > endedBefore || found.length === countMax) break
      found.push(session)
    }
    return found
  }

  /** For rows that nobody waits for: without them a session only counts its expiry from another time. */
  #writeQuietly (clientId: string, operations: readonly WriteOperation[]): void {
    this.#options.writer.write(operations).catch((error: unknown) => {
      this.#options.log.warn({ tenant: tenantOf(clientId), client: clientId, error }, 'the state of a session could not be written')
    })
  }
}

function sessionRow (session: Session): WriteOperation {
  return put(sessionKey(session.clientId), encodePair(session.firstNumber, session.disconnectedAt))
}
