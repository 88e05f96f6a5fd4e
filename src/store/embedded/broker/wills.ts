/**
 * Wills of connected clients, on disk so that those of a server that died are published by its successor (Aedes asks
 * for them in `streamWill` by the id of the broker that held them).
 */
import type { Log } from '../../../core/log.js'
import { decodePacket, encodePacket } from '../../broker/codec.js'
import { tableRange, tags, textOf, willKey } from './keys.js'
import type { Ledger } from '../../broker/ledger.js'
import { tenantOf, type BrokerClient, type BrokerPacket } from '../../broker/types.js'
import { del, put, type BatchWriter, type BrokerDatabase } from './writer.js'

const pageRows = 64

export class Wills {
  readonly #database: BrokerDatabase
  readonly #writer: BatchWriter
  readonly #ledger: Ledger
  readonly #log: Log
  /** Client ids that have a will, with the connection that left it (null: before this opening). Bounded with the rows. */
  readonly #owners = new Map<string, BrokerClient | null>()

  constructor (database: BrokerDatabase, writer: BatchWriter, ledger: Ledger, log: Log) {
    this.#database = database
    this.#writer = writer
    this.#ledger = ledger
    this.#log = log
  }

  /** Takes note of a row found at opening. */
  restore (clientId: string): void {
    this.#owners.set(clientId, null)
    this.#ledger.add(clientId, 'wills', 1)
  }

  /** Marks the packet with broker and client, as Aedes expects of a persistence, and stores it. */
  async put (client: BrokerClient, packet: BrokerPacket, brokerId: string): Promise<void> {
    packet.brokerId = brokerId
    packet.clientId = client.id
    if (!this.#owners.has(client.id)) {
      if (this.#ledger.held(client.id, 'wills') >= this.#ledger.limits.willsPerTenantMax) {
        this.#ledger.refuse('wills', client.id)
        return
      }
      this.#ledger.add(client.id, 'wills', 1)
    }
    this.#owners.set(client.id, client)
    await this.#writer.write([put(willKey(client.id), encodePacket(packet, { extras: 'all' }))])
  }

  async get (clientId: string): Promise<BrokerPacket | undefined> {
    if (!this.#owners.has(clientId)) return undefined
    await this.#writer.write([])
    const value = await this.#database.get(willKey(clientId))
    return value === undefined ? undefined : this.#decode(clientId, value)
  }

  #decode (clientId: string, value: Buffer): BrokerPacket | undefined {
    try {
      return decodePacket(value)
    } catch (error) {
      this.#ledger.stats.rowsDamaged++
      this.#log.error({ tenant: tenantOf(clientId), client: clientId, error }, 'a will is damaged and passed over')
      return undefined
    }
  }

  /**
   * Removes and returns the will. Does nothing where the will belongs to another, live connection of the client: on a
   * takeover Aedes stores the new connection's will before the old connection's end removes "the client's".
   * Never rejects, because Aedes awaits it without a handler; a failure is logged, and the will may be published again.
   */
  async delete (client: BrokerClient): Promise<BrokerPacket | undefined> {
    const owner = this.#owners.get(client.id)
    if (owner === undefined) return undefined
    if (owner !== null && owner !== client && owner.closed === false) return undefined
    try {
      const will = await this.get(client.id)
      if (this.#owners.get(client.id) !== owner) return undefined
      this.#owners.delete(client.id)
      this.#ledger.add(client.id, 'wills', -1)
      await this.#writer.write([del(willKey(client.id))])
      return will
    } catch (error) {
      this.#log.error({ tenant: tenantOf(client.id), client: client.id, error }, 'a will could not be removed')
      return undefined
    }
  }

  /** Wills of brokers that are not named. */
  async * of (brokers: Readonly<Record<string, unknown>>): AsyncGenerator<BrokerPacket> {
    const { gte, lt } = tableRange(tags.will)
    let from: { gte: Buffer } | { gt: Buffer } = { gte }
    for (;;) {
      const rows: [Buffer, Buffer][] = await this.#database.iterator({ ...from, lt, limit: pageRows }).all()
      for (const [key, value] of rows) {
        const will = this.#decode(textOf(key), value)
        if (will !== undefined && brokers[will.brokerId ?? ''] === undefined) yield will
      }
      if (rows.length < pageRows) return
      from = { gt: rows[rows.length - 1][0] }
    }
  }
}
