/**
 * What the MQTT broker must not forget, on LevelDB: retained messages, persistent sessions with their queued QoS 1/2
 * messages, QoS 2 handshakes, wills. It is a persistence of Aedes 1.2 (the interface of aedes-persistence 11).
 *
 * Promises: a method resolves when LevelDB has its write in its log, which survives SIGKILL (`sync`: power loss too);
 * opening restores everything, and un-acknowledged messages are sent again, in order, with DUP and their identifier.
 * Everything is bounded (BrokerLimits). Memory: the index of subscriptions, a record a session, and the queues of
 * connected sessions without payloads.
 */
import { Readable } from 'node:stream'
import type { Clock } from '../../../core/clock.js'
import type { Log } from '../../../core/log.js'
import { IncomingMessages } from './incoming.js'
import { Ledger, type BrokerLimits, type BrokerPersistenceStats, type LimitListener } from '../../broker/ledger.js'
import { countRun, load, openDatabase } from './load.js'
import { separateOrders } from '../../broker/order.js'
import { OutgoingQueues } from './outgoing.js'
import { RetainedMessages } from './retained.js'
import { SessionTable } from './sessions.js'
import type { BrokerClient, BrokerHandle, BrokerPacket, BrokerSubscription, MatchedSubscription, QueuedPacket } from '../../broker/types.js'
import { Wills } from './wills.js'
import { BatchWriter, type BrokerDatabase } from './writer.js'

export { brokerLimitsDefault, type BrokerLimits, type BrokerPersistenceStats, type LimitKind, type LimitListener } from '../../broker/ledger.js'

export interface BrokerPersistenceOptions {
  readonly directory: string
  readonly clock: Clock
  readonly log: Log
  /** Those not named have the default. */
  readonly limits?: Partial<BrokerLimits>
  /** fsync every batch, so that what was resolved survives power loss too. Default false. */
  readonly sync?: boolean
  readonly onLimit?: LimitListener
  /** How often expired sessions are looked for; 0 never (call `sweepExpired`). Default 60,000. */
  readonly sweepEveryMs?: number
}

const sweepEveryMsDefault = 60_000
/** Sessions removed between two looks at the clock. */
const sweepSessions = 100
/** Packet counters of one opening begin above those of the one before, so (broker id, counter) never comes twice. */
const countersPerRun = 2 ** 32

/** Faults: `format_newer`, `corrupt_data`, `store_unavailable` (see openDatabase). */
export async function openBrokerPersistence (options: BrokerPersistenceOptions): Promise<BrokerPersistence> {
  const database = await openDatabase(options.directory)
  try {
    const persistence = new BrokerPersistence(database, await countRun(database), options)
    await persistence.load()
    return persistence
  } catch (error) {
    await database.close()
    throw error
  }
}

export class BrokerPersistence {
  readonly #database: BrokerDatabase
  readonly #run: number
  readonly #log: Log
  readonly #ledger: Ledger
  readonly #writer: BatchWriter
  readonly #retained: RetainedMessages
  readonly #outgoing: OutgoingQueues
  readonly #sessions: SessionTable
  readonly #incoming: IncomingMessages
  readonly #wills: Wills
  readonly #sweepEveryMs: number
  /** Subscriptions of one SUBSCRIBE: Aedes hands the same array over once for each of its filters. */
  readonly #subscribing = new WeakMap<readonly BrokerSubscription[], { readonly clientId: string, readonly done: Promise<void> }>()
  #broker: BrokerHandle | null = null
  #sweepTimer: NodeJS.Timeout | null = null
  #sweeping: Promise<number> | null = null
  #closing: Promise<void> | null = null
  readonly #connected = (client: BrokerClient): void => this.#sessions.connected(client)
  readonly #disconnected = (client: BrokerClient): void => this.#sessions.disconnected(client)

  /** @param run how often the database was opened, this time included. Use `openBrokerPersistence`. */
  constructor (database: BrokerDatabase, run: number, options: BrokerPersistenceOptions) {
    const { clock, log } = options
    this.#database = database
    this.#run = run
    this.#log = log
    this.#sweepEveryMs = options.sweepEveryMs ?? sweepEveryMsDefault
    const ledger = new Ledger(options.limits ?? {}, options.onLimit ?? (() => {}))
    const writer = new BatchWriter(database, options.sync ?? false)
    const outgoing = new OutgoingQueues({ database, writer, ledger, log })
    this.#ledger = ledger
    this.#writer = writer
    this.#outgoing = outgoing
    this.#retained = new RetainedMessages(database, writer, ledger, log)
    this.#sessions = new SessionTable({
      writer,
      ledger,
      clock,
      log,
      liveClient: (clientId) => this.#liveClient(clientId),
      resting: (session) => outgoing.rest(session),
      nextNumber: () => outgoing.nextNumber
    })
    this.#incoming = new IncomingMessages(database, writer, ledger, this.#sessions)
    this.#wills = new Wills(database, writer, ledger, log)
  }

  /** Reads what an earlier opening left. Called once by `openBrokerPersistence`. */
  async load (): Promise<void> {
    await load(this.#database, { ledger: this.#ledger, sessions: this.#sessions, outgoing: this.#outgoing, incoming: this.#incoming, wills: this.#wills })
    if (this.#sweepEveryMs > 0) {
      this.#sweepTimer = setInterval(() => {
        this.sweepExpired().catch((error: unknown) => this.#log.error({ error }, 'removing expired sessions failed'))
      }, this.#sweepEveryMs).unref()
    }
  }

  get stats (): Readonly<BrokerPersistenceStats> {
    const { stats } = this.#ledger
    stats.batches = this.#writer.batches
    stats.operations = this.#writer.operations
    return stats
  }

  get broker (): BrokerHandle | null { return this.#broker }

  /** Aedes passes itself in when it starts to listen. Its packet counter moves on, and its `publish` is wrapped (separateOrders). */
  async setup (broker: BrokerHandle): Promise<void> {
    this.#broker = broker
    broker.counter = Math.max(broker.counter, (this.#run - 1) * countersPerRun)
    separateOrders(broker)
    broker.on?.('client', this.#connected)
    broker.on?.('clientDisconnect', this.#disconnected)
  }

  async storeRetained (packet: BrokerPacket): Promise<void> {
    await this.#retained.store(packet)
  }

  createRetainedStream (filter: string): Readable {
    return this.createRetainedStreamCombi([filter])
  }

  createRetainedStreamCombi (filters: readonly string[]): Readable {
    return Readable.from(this.#retained.find(filters))
  }

  async addSubscriptions (client: BrokerClient, subscriptions: readonly BrokerSubscription[]): Promise<void> {
    const underWay = this.#subscribing.get(subscriptions)
    if (underWay?.clientId === client.id) return await underWay.done
    const done = this.#sessions.subscribe(client, subscriptions)
    this.#subscribing.set(subscriptions, { clientId: client.id, done })
    const forget = (): void => { this.#subscribing.delete(subscriptions) }
    done.then(forget, forget)
    await done
  }

  async removeSubscriptions (client: BrokerClient, filters: readonly string[]): Promise<void> {
    await this.#sessions.unsubscribe(client.id, filters)
  }

  async subscriptionsByClient (client: BrokerClient): Promise<BrokerSubscription[]> {
    return this.#sessions.subscriptionsOf(client.id)
  }

  async countOffline (): Promise<{ subsCount: number, clientsCount: number }> {
    return { subsCount: this.#sessions.queueing, clientsCount: this.#sessions.withSubscriptions }
  }

  async subscriptionsByTopic (topic: string): Promise<MatchedSubscription[]> {
    return this.#sessions.match(topic)
  }

  /** Discards the client's session with its queue [MQTT-3.1.2-6]; QoS 2 handshakes go with `cleanIncoming`. */
  async cleanSubscriptions (client: BrokerClient): Promise<void> {
    const session = this.#sessions.get(client.id)
    if (session !== undefined) await this.#outgoing.removeAll(session, this.#sessions.forget(session))
  }

  async outgoingEnqueue (subscription: MatchedSubscription, packet: BrokerPacket): Promise<void> {
    await this.#outgoing.enqueue([subscription], packet)
  }

  async outgoingEnqueueCombi (subscriptions: readonly MatchedSubscription[], packet: BrokerPacket): Promise<void> {
    await this.#outgoing.enqueue(subscriptions, packet)
  }

  async outgoingUpdate (client: BrokerClient, packet: QueuedPacket): Promise<void> {
    await this.#outgoing.update(client, packet)
  }

  async outgoingClearMessageId (client: BrokerClient, packet: QueuedPacket): Promise<QueuedPacket | undefined> {
    return await this.#outgoing.clear(client, packet)
  }

  outgoingStream (client: BrokerClient): Readable {
    return Readable.from(this.#outgoing.stream(client))
  }

  async incomingStorePacket (client: BrokerClient, packet: BrokerPacket): Promise<void> {
    await this.#incoming.store(client, packet)
  }

  async incomingGetPacket (client: BrokerClient, packet: { messageId: number }): Promise<BrokerPacket> {
    return await this.#incoming.get(client, packet.messageId)
  }

  async incomingDelPacket (client: BrokerClient, packet: { messageId: number }): Promise<void> {
    await this.#incoming.delete(client, packet.messageId)
  }

  async cleanIncoming (client: BrokerClient): Promise<void> {
    await this.#incoming.clean(client.id)
  }

  async putWill (client: BrokerClient, packet: BrokerPacket): Promise<void> {
    await this.#wills.put(client, packet, this.#broker?.id ?? '')
  }

  async getWill (client: BrokerClient): Promise<BrokerPacket | undefined> {
    return await this.#wills.get(client.id)
  }

  async delWill (client: BrokerClient): Promise<BrokerPacket | undefined> {
    return await this.#wills.delete(client)
  }

  /** Wills whose broker is not a key of `brokers`. */
  streamWill (brokers: Readonly<Record<string, unknown>> = {}): Readable {
    return Readable.from(this.#wills.of(brokers))
  }

  /** Client ids that subscribe to exactly this filter. */
  getClientList (filter: string): Readable {
    return Readable.from(this.#sessions.clientsOf(filter))
  }

  /** Ends sessions past their expiry and returns how many. Cost is by sessions ended, not by sessions. */
  async sweepExpired (): Promise<number> {
    this.#sweeping ??= this.#sweep().finally(() => { this.#sweeping = null })
    return await this.#sweeping
  }

  async #sweep (): Promise<number> {
    let ended = 0
    while (this.#closing === null) {
      const expired = this.#sessions.expired(sweepSessions)
      if (expired.length === 0) break
      for (const session of expired) {
        // It may have come back while another was removed.
        if (session.removed || session.connection !== null) continue
        await Promise.all([this.#incoming.clean(session.clientId), this.#outgoing.removeAll(session, this.#sessions.forget(session))])
        ended++
        this.#ledger.stats.sessionsExpired++
      }
    }
    return ended
  }

  /** Writes what is waiting and closes the database. What is called later rejects (writes with `not_ready`). Idempotent. */
  async close (): Promise<void> {
    this.#closing ??= this.#close()
    await this.#closing
  }

  /** What Aedes calls it. Nothing is deleted. */
  async destroy (): Promise<void> {
    await this.close()
  }

  async #close (): Promise<void> {
    if (this.#sweepTimer !== null) clearInterval(this.#sweepTimer)
    this.#broker?.removeListener?.('client', this.#connected)
    this.#broker?.removeListener?.('clientDisconnect', this.#disconnected)
    await this.#sweeping?.catch(() => {})
    await this.#writer.close()
    await this.#database.close()
  }

  #liveClient (clientId: string): BrokerClient | null {
    const client = this.#broker?.clients?.[clientId]
    return client !== undefined && client.clean !== true && client.closed !== true ? client : null
  }
}
