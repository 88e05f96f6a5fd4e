/**
 * Messages above QoS 0 on their way to persistent sessions. A message is stored once (`m`), whoever it is for; every
 * session has a small row (`q`) that names it, carries its packet identifier, and goes with the last acknowledgement.
 * The message goes with its last reference, in the same batch.
 *
 * The queue of a connected session is indexed in memory (small entries, no payloads) and read from its rows when the
 * session comes back; a disconnected one is two counters.
 */
import { LRUCache } from 'lru-cache'
import { hash32 } from '../../../core/ids.js'
import type { Log } from '../../../core/log.js'
import { decodePacket, decodeReference, encodePacket, encodeReference, type Reference } from '../../broker/codec.js'
import { messageKey, numberOf, referenceKey, referenceRange } from './keys.js'
import type { Ledger } from '../../broker/ledger.js'
import { Outbox, type OutboxEntry } from './outbox.js'
import type { Session, SessionTable } from './sessions.js'
import { tenantOf, type BrokerClient, type BrokerPacket, type MatchedSubscription, type QueuedPacket } from '../../broker/types.js'
import { del, put, type BatchWriter, type BrokerDatabase, type WriteOperation } from './writer.js'

/** Contents of recent messages, for acknowledgements that follow soon. */
const recentBytesMax = 8 * 1024 * 1024
/** Messages whose payloads are in memory at a time for one session that comes back. */
const pageMessages = 16
/** Queues kept indexed for sessions without a connection (a delivery that was under way when they left). */
const idleOutboxesMax = 64
/** Operations of one batch when a queue is removed. */
const removalOperationsMax = 512

export interface OutgoingOptions {
  readonly database: BrokerDatabase
  readonly writer: BatchWriter
  readonly ledger: Ledger
  readonly log: Log
}

export class OutgoingQueues {
  readonly #database: BrokerDatabase
  readonly #writer: BatchWriter
  readonly #ledger: Ledger
  readonly #log: Log
  #sessions!: SessionTable
  #nextNumber = 1
  /** References of messages that have more than one. */
  readonly #shared = new Map<number, number>()
  readonly #loading = new Map<Session, Promise<Outbox>>()
  readonly #idle = new Set<Session>()
  readonly #recent = new LRUCache<number, Buffer>({ max: 16_384, maxSize: recentBytesMax, sizeCalculation: (bytes) => bytes.length })
  #lastBrokerId = ''
  #lastBrokerHash = hash32('')

  constructor (options: OutgoingOptions) {
    this.#database = options.database
    this.#writer = options.writer
    this.#ledger = options.ledger
    this.#log = options.log
  }

  /** Greater than every number in use; queue order is number order. */
  get nextNumber (): number { return this.#nextNumber }

  /** Called once before anything else, with what opening has found. */
  start (sessions: SessionTable, nextNumber: number, references: ReadonlyMap<number, number>): void {
    this.#sessions = sessions
    this.#nextNumber = nextNumber
    for (const [number, count] of references) if (count > 1) this.#shared.set(number, count)
  }

  /**
   * Queues the packet for each session once. At a bound the session is passed over (BrokerLimits). Resolves after the
   * write and in the order of the calls, with or without subscriptions: Aedes emits the packet then, and a connected
   * subscriber takes one that was overtaken for a duplicate.
   */
  async enqueue (subscriptions: readonly MatchedSubscription[], packet: BrokerPacket): Promise<void> {
    const operations: WriteOperation[] = []
    if (subscriptions.length > 0) this.#enqueue(subscriptions, packet, operations)
    await this.#writer.write(operations)
  }

  #enqueue (subscriptions: readonly MatchedSubscription[], packet: BrokerPacket, operations: WriteOperation[]): void {
    const message = encodePacket(packet, { extras: 'queued' })
    // Taken at the end, so that a session that this message begins owns it.
    const number = this.#nextNumber
    const { limits } = this.#ledger
    const base = { pubrel: false, messageId: 0, size: message.length, brokerHash: this.#hashOf(packet.brokerId), brokerCounter: packet.brokerCounter ?? 0 }
    const entries = new Map<Session, OutboxEntry>()
    let connected = false
    for (const { clientId, qos = packet.qos, rap } of subscriptions) {
      const session = this.#sessions.obtain(clientId, operations)
      if (session === null) continue
      const before = entries.get(session)
      if (before !== undefined) {
        // Overlapping filters: one delivery at the highest QoS of them [MQTT-3.3.5-1].
        before.copies++
        before.qos = Math.max(before.qos, Math.min(packet.qos, qos))
        continue
      }
      const storedBytes = entries.size === 0 ? message.length : 0
      if (this.#ledger.held(clientId, 'queued') >= limits.queuedPerTenantMax ||
        this.#ledger.held(clientId, 'queuedBytes') + storedBytes > limits.queuedBytesPerTenantMax) {
        this.#ledger.refuse('queued_tenant', clientId)
      } else if (session.queued >= limits.queuedPerSessionMax) {
        this.#ledger.refuse('queued', clientId)
      } else if (session.queuedBytes + message.length > limits.queuedBytesPerSessionMax) {
        this.#ledger.refuse('queued_bytes', clientId)
      } else {
        this.#ledger.add(clientId, 'queued', 1)
        this.#ledger.add(clientId, 'queuedBytes', storedBytes)
        session.queued++
        session.queuedBytes += message.length
        // An established subscription gets RETAIN 0 [MQTT-3.3.1-9], unless it asked for it as published (MQTT 5).
        entries.set(session, { ...base, number, qos: Math.min(packet.qos, qos), retain: packet.retain && rap === true, copies: 1, sentOn: -1 })
        connected ||= session.outbox !== null
      }
    }
    if (entries.size === 0) return
    this.#nextNumber++
    operations.push(put(messageKey(number), message))
    for (const [session, entry] of entries) {
      operations.push(put(referenceKey(session.clientId, number), encodeReference(entry)))
      session.outbox?.add(entry)
    }
    if (entries.size > 1) this.#shared.set(number, entries.size)
    if (connected) this.#recent.set(number, message)
  }

  /**
   * A PUBLISH is about to be sent under `packet.messageId`, or a PUBREL is owed. The packet may come back changed, and
   * Aedes sends it as it is then: with another identifier where its own is in use in this session, with the same one
   * and DUP where the message is under way on this connection already (it was queued while the session came back).
   * A message that is not in the queue is let through: the subscriber is connected.
   */
  async update (client: BrokerClient, packet: QueuedPacket): Promise<void> {
    const session = this.#sessions.get(client.id)
    if (session === undefined || session.queued === 0) {
      this.#ledger.stats.untracked++
      return
    }
    await this.#withOutbox(session, async (outbox) => {
      const entry = this.#find(outbox, packet)
      if (entry === undefined) this.#ledger.stats.untracked++
      else if (isPubrel(packet)) await this.#awaitPubcomp(client, session, outbox, entry)
      else await this.#sending(client, session, outbox, entry, packet)
    })
  }

  async #sending (client: BrokerClient, session: Session, outbox: Outbox, entry: OutboxEntry, packet: BrokerPacket): Promise<void> {
    if (isSuperseded(session, client)) return
    const messageId = packet.messageId ?? 0
    if (entry.sentOn === session.connectionNumber && session.connection === client && entry.messageId !== 0 && entry.messageId !== messageId) {
      packet.messageId = entry.messageId
      packet.dup = true
      return
    }
    entry.sentOn = session.connectionNumber
    if (messageId === 0 || (messageId === entry.messageId && packet.qos === entry.qos)) return
    if (outbox.byMessageId(messageId) !== entry) {
      packet.messageId = outbox.freeMessageId(messageId)
      outbox.setMessageId(entry, packet.messageId)
    }
    entry.qos = packet.qos
    await this.#writer.write([put(referenceKey(session.clientId, entry.number), encodeReference(entry))])
  }

  async #awaitPubcomp (client: BrokerClient, session: Session, outbox: Outbox, entry: OutboxEntry): Promise<void> {
    // A PUBREC of the connection before is as good as one of this, but its PUBREL goes nowhere and is sent again.
    if (!isSuperseded(session, client)) entry.sentOn = session.connectionNumber
    if (entry.pubrel) return
    const operations = this.#release(session, entry)
    outbox.setPubrel(entry)
    entry.size = 0
    operations.push(put(referenceKey(session.clientId, entry.number), encodeReference(entry)))
    await this.#writer.write(operations)
  }

  /**
   * Takes a message out of the queue: by its packet identifier (acknowledged), or by its identity where Aedes does not
   * deliver it after all. It says that once for each overlapping subscription too, so all copies must be taken back.
   * Resolves with what was queued, undefined where it was not.
   */
  async clear (client: BrokerClient, packet: QueuedPacket): Promise<QueuedPacket | undefined> {
    const session = this.#sessions.get(client.id)
    if (session === undefined || session.queued === 0) return undefined
    return await this.#withOutbox(session, async (outbox) => {
      const entry = this.#find(outbox, packet)
      if (entry === undefined) return undefined
      if (!packet.messageId && entry.copies > 1) {
        entry.copies--
        return undefined
      }
      const message = entry.pubrel ? undefined : this.#recent.get(entry.number) ?? await this.#database.get(messageKey(entry.number))
      // Another acknowledgement may have been faster.
      if (session.removed || outbox.byNumber(entry.number) !== entry) return undefined
      const queued = this.#packetOf(session, entry, message)
      await this.#writer.write(this.#remove(session, outbox, entry))
      return queued ?? undefined
    })
  }

  /** What was queued when it is called, in order; what was sent on an earlier connection has DUP set [MQTT-3.3.1-1]. */
  async * stream (client: BrokerClient): AsyncGenerator<QueuedPacket> {
    const session = this.#sessions.get(client.id)
    if (session === undefined || session.queued === 0) return
    session.outboxUsers++
    try {
      const outbox = this.#ready(session) ?? await this.#load(session)
      const entries = outbox.inOrder()
      // The newest may still be on their way to the database.
      await this.#writer.write([])
      for (let i = 0; i < entries.length; i += pageMessages) {
        const page = entries.slice(i, i + pageMessages)
        const messages = await this.#database.getMany(page.map(({ number }) => messageKey(number)))
        for (let j = 0; j < page.length; j++) {
          const packet = await this.#toResend(session, outbox, page[j], messages[j])
          if (packet !== null) yield packet
        }
      }
    } finally {
      session.outboxUsers--
    }
  }

  /** null where the entry is not to be sent: gone, on its way already, or damaged. */
  async #toResend (session: Session, outbox: Outbox, entry: OutboxEntry, message: Buffer | undefined): Promise<QueuedPacket | null> {
    if (session.removed || outbox.byNumber(entry.number) !== entry) return null
    const sentHere = entry.sentOn === session.connectionNumber
    // The subscription itself has delivered it while the queue was being read.
    if (sentHere && session.connection !== null) return null
    const packet = this.#packetOf(session, entry, message)
    if (packet === null) await this.#writer.write(this.#remove(session, outbox, entry))
    else if (entry.messageId !== 0 && !sentHere && !isPubrel(packet)) packet.dup = true
    return packet
  }

  /**
   * Removes a session that `SessionTable.forget` has taken out, with its queue. A new session of the client may begin
   * meanwhile: it owns higher numbers.
   */
  async removeAll (session: Session, operations: WriteOperation[]): Promise<void> {
    const endNumber = this.#nextNumber
    session.outbox = null
    this.#idle.delete(session)
    await this.#writer.write(operations)
    if (session.queued === 0) return
    let removals: WriteOperation[] = []
    for await (const [key, value] of this.#database.iterator(referenceRange(session.clientId, session.firstNumber, endNumber))) {
      removals.push(del(key), ...this.#release(session, { ...decodeReference(value), number: numberOf(key) }))
      if (removals.length < removalOperationsMax) continue
      await this.#writer.write(removals)
      removals = []
    }
    await this.#writer.write(removals)
    this.#ledger.add(session.clientId, 'queued', -session.queued)
    session.queued = 0
  }

  /** The session has lost its connection: its queue may leave memory once nothing uses it. */
  rest (session: Session): void {
    if (session.outbox === null) return
    this.#idle.add(session)
    for (const idle of this.#idle) {
      if (this.#idle.size <= idleOutboxesMax) break
      if (idle.connection !== null) {
        this.#idle.delete(idle)
      } else if (idle.outboxUsers === 0) {
        this.#idle.delete(idle)
        idle.outbox = null
      }
    }
  }

  /** Runs `work` with the session's outbox, which stays in memory meanwhile. undefined for a session that has ended. */
  async #withOutbox<T> (session: Session, work: (outbox: Outbox) => Promise<T>): Promise<T | undefined> {
    session.outboxUsers++
    try {
      const outbox = this.#ready(session) ?? await this.#load(session)
      return session.removed ? undefined : await work(outbox)
    } finally {
      session.outboxUsers--
    }
  }

  #ready (session: Session): Outbox | undefined {
    return this.#loading.has(session) ? undefined : session.outbox ?? undefined
  }

  /** Reads a session's references. What is queued meanwhile joins the same outbox. */
  #load (session: Session): Promise<Outbox> {
    let loading = this.#loading.get(session)
    if (loading === undefined) {
      loading = this.#read(session).finally(() => this.#loading.delete(session))
      this.#loading.set(session, loading)
    }
    return loading
  }

  async #read (session: Session): Promise<Outbox> {
    const outbox = new Outbox()
    session.outbox = outbox
    if (session.connection === null) this.rest(session)
    try {
      await this.#writer.write([])
      for (const [key, value] of await this.#database.iterator(referenceRange(session.clientId, session.firstNumber, this.#nextNumber)).all()) {
        const number = numberOf(key)
        if (!outbox.has(number)) outbox.add({ ...decodeReference(value), number, sentOn: -1 })
      }
      return outbox
    } catch (error) {
      if (session.outbox === outbox) session.outbox = null
      throw error
    }
  }

  #find (outbox: Outbox, packet: QueuedPacket): OutboxEntry | undefined {
    if (isPubrel(packet) || packet.brokerCounter === undefined) return packet.messageId ? outbox.byMessageId(packet.messageId) : undefined
    // An acknowledgement has an identifier only; a packet on its way has an identity, which is the surer one.
    return outbox.byIdentity(packet.brokerCounter, this.#hashOf(packet.brokerId))
  }

  #remove (session: Session, outbox: Outbox, entry: OutboxEntry): WriteOperation[] {
    outbox.remove(entry)
    session.queued--
    this.#ledger.add(session.clientId, 'queued', -1)
    return [del(referenceKey(session.clientId, entry.number)), ...this.#release(session, entry)]
  }

  /** Gives up an entry's part in its message. */
  #release (session: Session, entry: Reference & { readonly number: number }): WriteOperation[] {
    if (entry.pubrel) return []
    session.queuedBytes -= entry.size
    const references = this.#shared.get(entry.number) ?? 1
    if (references > 2) this.#shared.set(entry.number, references - 1)
    else this.#shared.delete(entry.number)
    if (references > 1) return []
    this.#recent.delete(entry.number)
    this.#ledger.add(session.clientId, 'queuedBytes', -entry.size)
    return [del(messageKey(entry.number))]
  }

  /** null where the message cannot be read. */
  #packetOf (session: Session, entry: OutboxEntry, message: Buffer | undefined): QueuedPacket | null {
    if (entry.pubrel) return { cmd: 'pubrel', messageId: entry.messageId }
    try {
      if (message === undefined) throw new Error('its row is missing')
      const packet = decodePacket(message)
      return { ...packet, cmd: packet.cmd ?? 'publish', qos: entry.qos, retain: entry.retain, dup: false, messageId: entry.messageId === 0 ? undefined : entry.messageId }
    } catch (error) {
      this.#ledger.stats.rowsDamaged++
      this.#log.error({ tenant: tenantOf(session.clientId), client: session.clientId, error }, 'a queued message is damaged and passed over')
      return null
    }
  }

  #hashOf (brokerId: string | undefined): number {
    const id = brokerId ?? ''
    if (id !== this.#lastBrokerId) {
      this.#lastBrokerId = id
      this.#lastBrokerHash = hash32(id)
    }
    return this.#lastBrokerHash
  }
}

/** Has the session got another connection since? What the old one still sends is lost. */
function isSuperseded (session: Session, client: BrokerClient): boolean {
  return session.connection !== null && session.connection !== client
}

function isPubrel (packet: QueuedPacket): packet is { cmd: 'pubrel', messageId: number } {
  return packet.cmd === 'pubrel'
}
