/**
 * Retained messages: one row a topic, ordered by topic, so that a SUBSCRIBE visits only topics that begin with its
 * filter's literal prefix. Counted per tenant in rows written with the messages, so opening reads no messages.
 */
import type { Log } from '../../../core/log.js'
import { decodePacket, encodePacket, encodePair } from '../../broker/codec.js'
import { matches, planFilter } from '../../broker/filter.js'
import { retainedKey, retainedRange, tenantKey, textOf } from './keys.js'
import type { Ledger } from '../../broker/ledger.js'
import { tenantOf, type BrokerPacket } from '../../broker/types.js'
import { del, put, type BatchWriter, type BrokerDatabase, type WriteOperation } from './writer.js'

/** Topics read at a time; between two pages nothing of the database is pinned, however slow the subscriber. */
const pageRows = 256
/** Messages whose payloads are in memory at a time for one look-up. */
const pageMessages = 16

export class RetainedMessages {
  readonly #database: BrokerDatabase
  readonly #writer: BatchWriter
  readonly #ledger: Ledger
  readonly #log: Log
  /** The last change under way of each topic: changes of one topic happen one after the other. */
  readonly #changing = new Map<string, Promise<void>>()
  #lastDone: Promise<unknown> = Promise.resolve()

  constructor (database: BrokerDatabase, writer: BatchWriter, ledger: Ledger, log: Log) {
    this.#database = database
    this.#writer = writer
    this.#ledger = ledger
    this.#log = log
  }

  /**
   * Stores, replaces or (empty payload) removes. Resolves after its write and in the order of the calls, because Aedes
   * publishes then, and a subscriber takes a packet that is overtaken for a duplicate.
   */
  store (packet: BrokerPacket): Promise<void> {
    const { topic } = packet
    const bytes = packet.payload.length === 0 ? null : encodePacket(packet, { extras: 'all' })
    const before = this.#changing.get(topic)
    const change = before === undefined ? this.#change(topic, bytes) : before.catch(() => {}).then(() => this.#change(topic, bytes))
    this.#changing.set(topic, change)
    const forget = (): void => { if (this.#changing.get(topic) === change) this.#changing.delete(topic) }
    change.then(forget, forget)
    const inOrder = this.#lastDone.then(() => change)
    this.#lastDone = inOrder.catch(() => {})
    return inOrder
  }

  async #change (topic: string, bytes: Buffer | null): Promise<void> {
    const key = retainedKey(topic)
    const stored = await this.#database.get(key)
    const { limits } = this.#ledger
    // From here to the write nothing else runs, so the counts are exact.
    const storedBytes = stored === undefined ? 0 : key.length + stored.length
    let value = bytes
    if (value !== null && stored === undefined && this.#ledger.held(topic, 'retained') >= limits.retainedPerTenantMax) {
      this.#ledger.refuse('retained', tenantOf(topic))
      value = null
    } else if (value !== null && this.#ledger.held(topic, 'retainedBytes') - storedBytes + key.length + value.length > limits.retainedBytesPerTenantMax) {
      this.#ledger.refuse('retained_bytes', tenantOf(topic))
      value = null
    }
    if (value === null && stored === undefined) return
    const bytesChange = (value === null ? 0 : key.length + value.length) - storedBytes
    const countChange = (value === null ? 0 : 1) - (stored === undefined ? 0 : 1)
    this.#ledger.add(topic, 'retained', countChange)
    this.#ledger.add(topic, 'retainedBytes', bytesChange)
    const operations: WriteOperation[] = [value === null ? del(key) : put(key, value)]
    if (bytesChange !== 0 || countChange !== 0) operations.push(this.#countsRow(topic))
    await this.#writer.write(operations)
  }

  #countsRow (topic: string): WriteOperation {
    const key = tenantKey(tenantOf(topic))
    const count = this.#ledger.held(topic, 'retained')
    return count === 0 ? del(key) : put(key, encodePair(count, this.#ledger.held(topic, 'retainedBytes')))
  }

  /**
   * Messages that match, filter by filter, in order of topic. A failure of the database ends it early and is logged:
   * Aedes has no error handler on the stream it makes of this.
   */
  async * find (filters: readonly string[]): AsyncGenerator<BrokerPacket> {
    for (const filter of filters) {
      try {
        yield * this.#findOne(filter)
      } catch (error) {
        this.#ledger.stats.readsFailed++
        this.#log.error({ tenant: tenantOf(filter), error }, 'looking up retained messages failed')
      }
    }
  }

  async * #findOne (filter: string): AsyncGenerator<BrokerPacket> {
    const { levels, exact, prefix } = planFilter(filter)
    const { stats } = this.#ledger
    stats.retainedLookups++
    if (exact !== null) {
      stats.retainedRowsVisited++
      yield * this.#read([retainedKey(exact)])
    }
    if (prefix === null) return
    const { gte, lt } = retainedRange(prefix)
    let from: { gte: Buffer } | { gt: Buffer } = { gte }
    for (;;) {
      const keys: Buffer[] = await this.#database.keys({ ...from, lt, limit: pageRows }).all()
      stats.retainedRowsVisited += keys.length
      const matching = keys.filter((key) => matches(levels, textOf(key)))
      for (let i = 0; i < matching.length; i += pageMessages) yield * this.#read(matching.slice(i, i + pageMessages))
      if (keys.length < pageRows) return
      from = { gt: keys[keys.length - 1] }
    }
  }

  async * #read (keys: Buffer[]): AsyncGenerator<BrokerPacket> {
    const values = await this.#database.getMany(keys)
    for (let i = 0; i < keys.length; i++) {
      const value = values[i]
      if (value === undefined) continue
      let packet: BrokerPacket
      try {
        packet = decodePacket(value)
      } catch (error) {
        this.#ledger.stats.rowsDamaged++
        this.#log.error({ tenant: tenantOf(textOf(keys[i])), topic: textOf(keys[i]), error }, 'a retained message is damaged and passed over')
        continue
      }
      yield packet
    }
  }
}
