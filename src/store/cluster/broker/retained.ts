/** Retained messages in Redis: by topic, with the topics in order, so that a look-up visits only those that begin with its filter's literal prefix. */
import { decodePacket, encodePacket } from '../../broker/codec.js'
import { matches, planFilter } from '../../broker/filter.js'
import { tenantOf, type BrokerPacket } from '../../broker/types.js'
import type { LimitKind } from '../../broker/ledger.js'
import { onTenant, type BrokerShared } from './broker-redis.js'
import { retainScript } from './queue-scripts.js'

const pageTopics = 256
/** Messages whose payloads are in memory at a time for one look-up. */
const pageMessages = 16

export class ClusterRetained {
  readonly #shared: BrokerShared

  constructor (shared: BrokerShared) { this.#shared = shared }

  /** Stores, replaces or (empty payload) removes. */
  async store (packet: BrokerPacket): Promise<void> {
    const { ledger } = this.#shared
    const { topic } = packet
    const bytes = packet.payload.length === 0 ? '' : encodePacket(packet, { extras: 'all' })
    const refused = String(await onTenant(this.#shared, topic, retainScript, [topic, bytes, ledger.limits.retainedPerTenantMax, ledger.limits.retainedBytesPerTenantMax]))
    if (refused !== '') ledger.refuse(refused as LimitKind, tenantOf(topic))
  }

  /** Those that match, filter by filter, in order of topic. Ends early, with a log line, where Redis does not answer: nobody could be told. */
  async * find (filters: readonly string[]): AsyncGenerator<BrokerPacket> {
    for (const filter of filters) {
      try {
        yield * this.#findOne(filter)
      } catch (error) {
        this.#shared.ledger.stats.readsFailed++
        this.#shared.log.warn({ tenant: tenantOf(filter), error }, 'looking up retained messages failed')
      }
    }
  }

  async * #findOne (filter: string): AsyncGenerator<BrokerPacket> {
    const { levels, exact, prefix } = planFilter(filter)
    const { redis, keys, ledger } = this.#shared
    const base = keys.base(filter)
    ledger.stats.retainedLookups++
    if (exact !== null) {
      ledger.stats.retainedRowsVisited++
      yield * this.#read(base, [exact])
    }
    if (prefix === null) return
    // 0xff is in no UTF-8 text.
    const end = Buffer.concat([Buffer.from(`(${prefix}`), Buffer.from([0xff])])
    let from = `[${prefix}`
    for (;;) {
      const start = from
      const topics = await redis.run(async client => await client.zrangebylex(`${base}x`, start, end, 'LIMIT', 0, pageTopics))
      ledger.stats.retainedRowsVisited += topics.length
      const matching = topics.filter(topic => matches(levels, topic))
      for (let i = 0; i < matching.length; i += pageMessages) yield * this.#read(base, matching.slice(i, i + pageMessages))
      if (topics.length < pageTopics) return
      from = `(${topics[topics.length - 1]}`
    }
  }

  async * #read (base: string, topics: readonly string[]): AsyncGenerator<BrokerPacket> {
    const values = await this.#shared.redis.run(async client => await client.hmgetBuffer(`${base}h`, ...topics))
    for (let i = 0; i < topics.length; i++) {
      const value = values[i]
      if (value === null) continue
      let packet: BrokerPacket
      try {
        packet = decodePacket(value)
      } catch (error) {
        this.#shared.ledger.stats.rowsDamaged++
        this.#shared.log.error({ tenant: tenantOf(topics[i]), topic: topics[i], error }, 'a retained message is damaged and passed over')
        continue
      }
      yield packet
    }
  }
}
