/**
 * Received QoS 2 messages between PUBLISH and PUBREL [MQTT-4.3.3-2]: a packet identifier that is here is a redelivery.
 * Those of clean sessions end with the connection [MQTT-3.1.2-6], hence with the process, and stay in memory.
 */
import { decodePacket, encodePacket } from '../../broker/codec.js'
import { incomingKey } from './keys.js'
import type { Ledger } from '../../broker/ledger.js'
import type { SessionTable } from './sessions.js'
import type { BrokerClient, BrokerPacket } from '../../broker/types.js'
import { del, put, type BatchWriter, type BrokerDatabase, type WriteOperation } from './writer.js'

/** By identifier, in order of arrival: the encoded packet, or null where it is on disk. */
type Waiting = Map<number, Buffer | null>

export class IncomingMessages {
  readonly #database: BrokerDatabase
  readonly #writer: BatchWriter
  readonly #ledger: Ledger
  readonly #sessions: SessionTable
  readonly #clients = new Map<string, Waiting>()
  /** The ordinary answer for a new identifier: Aedes wants a rejection, and a stack for each would cost more than the rest. */
  readonly #noSuchPacket = new Error('no such packet')

  constructor (database: BrokerDatabase, writer: BatchWriter, ledger: Ledger, sessions: SessionTable) {
    this.#database = database
    this.#writer = writer
    this.#ledger = ledger
    this.#sessions = sessions
  }

  /** Takes note of a row found at opening. */
  restore (clientId: string, messageId: number): void {
    this.#waitingOf(clientId).set(messageId, null)
    this.#ledger.add(clientId, 'incoming', 1)
    const session = this.#sessions.get(clientId)
    if (session !== undefined) session.incoming++
  }

  async store (client: BrokerClient, packet: BrokerPacket): Promise<void> {
    const messageId = packet.messageId ?? 0
    const { limits } = this.#ledger
    const waiting = this.#waitingOf(client.id)
    const operations: WriteOperation[] = []
    if (!waiting.has(messageId)) {
      if (waiting.size >= limits.incomingPerClientMax) {
        this.#ledger.refuse('incoming', client.id)
        const [oldest] = waiting.keys()
        this.#forget(client.id, waiting, oldest, operations)
      } else if (this.#ledger.held(client.id, 'incoming') >= limits.incomingPerTenantMax) {
        this.#ledger.refuse('incoming', client.id)
        if (waiting.size === 0) this.#clients.delete(client.id)
        return
      }
    }
    const session = client.clean === true ? null : this.#sessions.obtain(client.id, operations)
    if (!waiting.has(messageId)) {
      this.#clients.set(client.id, waiting)
      this.#ledger.add(client.id, 'incoming', 1)
      if (session !== null) session.incoming++
    }
    const bytes = encodePacket(packet, { extras: 'queued', payloadBytesMax: limits.incomingPayloadBytesMax })
    waiting.set(messageId, session === null ? bytes : null)
    if (session !== null) operations.push(put(incomingKey(client.id, messageId), bytes))
    await this.#writer.write(operations)
  }

  /** Rejects where the identifier is not waiting, which is how Aedes asks whether it is. */
  async get (client: BrokerClient, messageId: number): Promise<BrokerPacket> {
    const kept = this.#clients.get(client.id)?.get(messageId)
    if (kept === undefined) throw this.#noSuchPacket
    const bytes = kept ?? await this.#database.get(incomingKey(client.id, messageId))
    if (bytes === undefined) throw this.#noSuchPacket
    return { ...decodePacket(bytes), messageId }
  }

  async delete (client: BrokerClient, messageId: number): Promise<void> {
    const waiting = this.#clients.get(client.id)
    if (waiting === undefined || !waiting.has(messageId)) throw this.#noSuchPacket
    const operations: WriteOperation[] = []
    this.#forget(client.id, waiting, messageId, operations)
    await this.#writer.write(operations)
  }

  /** All of a client's. */
  async clean (clientId: string): Promise<void> {
    const operations: WriteOperation[] = []
    const waiting = this.#clients.get(clientId)
    if (waiting === undefined) return
    for (const messageId of [...waiting.keys()]) this.#forget(clientId, waiting, messageId, operations)
    await this.#writer.write(operations)
  }

  #waitingOf (clientId: string): Waiting {
    let waiting = this.#clients.get(clientId)
    if (waiting === undefined) {
      waiting = new Map()
      this.#clients.set(clientId, waiting)
    }
    return waiting
  }

  #forget (clientId: string, waiting: Waiting, messageId: number, operations: WriteOperation[]): void {
    const onDisk = waiting.get(messageId) === null
    waiting.delete(messageId)
    if (waiting.size === 0) this.#clients.delete(clientId)
    this.#ledger.add(clientId, 'incoming', -1)
    if (!onDisk) return
    operations.push(del(incomingKey(clientId, messageId)))
    const session = this.#sessions.get(clientId)
    if (session !== undefined && session.incoming > 0) session.incoming--
  }
}
