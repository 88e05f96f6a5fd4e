/** Persistent sessions in Redis: subscriptions, received QoS 2 ids, wills. All are bounded by BrokerLimits, judged in the scripts. */
import { decodePacket, encodePacket } from '../../broker/codec.js'
import type { SubscriptionOptions } from '../../broker/codec.js'
import type { BrokerClient, BrokerPacket, BrokerSubscription, MatchedSubscription } from '../../broker/types.js'
import { holderOf, onTenant, type BrokerShared } from './broker-redis.js'
import { matchScript } from './queue-scripts.js'
import { discardScript, incomingDeleteScript, incomingScript, subscribeScript, unsubscribeScript, willScript } from './session-scripts.js'

/** QoS first, then `r` where RETAIN is kept as published, then the rest, for MQTT 5. The scripts know the first two. */
export function encodeOptions ({ qos, rh, rap, nl, subscriptionIdentifier }: SubscriptionOptions): string {
  const rest = [rh ?? '', rap === undefined ? '' : Number(rap), nl === undefined ? '' : Number(nl), subscriptionIdentifier ?? ''].join(',')
  return `${qos}${rap === true ? 'r' : '-'}${rest}`
}

function decodeOptions (text: string): SubscriptionOptions {
  const [rh, rap, nl, identifier] = text.slice(2).split(',')
  const options = { qos: Number(text[0]), rh: rh === '' ? undefined : Number(rh), rap: rap === '' ? undefined : rap === '1', nl: nl === '' ? undefined : nl === '1' }
  return identifier === '' ? options : { ...options, subscriptionIdentifier: Number(identifier) }
}

export class ClusterSessions {
  readonly #shared: BrokerShared
  /** Received QoS 2 ids of clean sessions end with the connection [MQTT-3.1.2-6]; the stage bounds them. */
  readonly #cleanIncoming = new Map<string, Map<number, BrokerPacket>>()
  /** Whose will is stored: Aedes removes "the client's" after a new connection of the client has stored its own. */
  readonly #willOwners = new Map<string, BrokerClient>()
  readonly #noSuchPacket = new Error('no such packet')

  constructor (shared: BrokerShared) { this.#shared = shared }

  async subscribe (client: BrokerClient, subscriptions: readonly BrokerSubscription[]): Promise<void> {
    // See the embedded sessions: what the hook refuses is marked one turn later.
    await null
    const accepted = subscriptions.filter(({ qos }) => qos <= 2)
    if (accepted.length === 0) return
    const { limits } = this.#shared.ledger
    const args: (string | number)[] = [client.id, ...holderOf(this.#shared, client.id), limits.sessionsPerTenantMax, limits.subscriptionsPerSessionMax]
    for (const { topic, ...options } of accepted) args.push(topic, encodeOptions(options))
    const refused = await onTenant(this.#shared, client.id, subscribeScript, args) as number
    if (refused === -1) this.#shared.ledger.refuse('sessions', client.id)
    for (let i = 0; i < refused; i++) this.#shared.ledger.refuse('subscriptions', client.id)
  }

  async unsubscribe (clientId: string, filters: readonly string[]): Promise<void> {
    await onTenant(this.#shared, clientId, unsubscribeScript, [clientId, ...filters])
  }

  async subscriptionsOf (clientId: string): Promise<BrokerSubscription[]> {
    const stored = await this.#shared.redis.run(async redis => await redis.hgetall(`${this.#shared.keys.base(clientId)}f:${clientId}`))
    return Object.entries(stored).map(([topic, options]) => ({ topic, ...decodeOptions(options) }))
  }

  async match (topic: string): Promise<MatchedSubscription[]> {
    const found = await onTenant(this.#shared, topic, matchScript, [topic]) as Buffer[]
    const matched: MatchedSubscription[] = []
    for (let i = 0; i < found.length; i += 3) matched.push({ clientId: found[i].toString(), topic: found[i + 1].toString(), ...decodeOptions(found[i + 2].toString()) })
    return matched
  }

  /** Who subscribes to exactly this filter, above QoS 0. */
  async * clientsOf (filter: string): AsyncGenerator<string> {
    yield * await this.#shared.redis.run(async redis => await redis.hkeys(`${this.#shared.keys.base(filter)}l:${filter}`))
  }

  async discard (client: BrokerClient): Promise<void> {
    const live = this.#shared.live.of(client)
    // A claim of a clean session has discarded it, or will when Redis is back.
    if (live !== undefined && client.clean === true) return
    await onTenant(this.#shared, client.id, discardScript, [client.id])
  }

  async storeIncoming (client: BrokerClient, packet: BrokerPacket): Promise<void> {
    const { ledger } = this.#shared
    const messageId = packet.messageId ?? 0
    if (client.clean === true) {
      let waiting = this.#cleanIncoming.get(client.id)
      if (waiting === undefined) this.#cleanIncoming.set(client.id, waiting = new Map())
      waiting.set(messageId, { ...packet })
      if (waiting.size > ledger.limits.incomingPerClientMax) waiting.delete(waiting.keys().next().value as number)
      return
    }
    const { limits } = ledger
    const bytes = encodePacket(packet, { extras: 'queued', payloadBytesMax: limits.incomingPayloadBytesMax })
    const args = [client.id, messageId, bytes, limits.incomingPerClientMax, limits.incomingPerTenantMax, limits.sessionsPerTenantMax, ...holderOf(this.#shared, client.id)]
    const answer = await onTenant(this.#shared, client.id, incomingScript, args)
    if (answer !== 1) ledger.refuse('incoming', client.id)
  }

  /** Rejects where the id is not waiting, which is how Aedes asks; with `store_unavailable` where that is not known. */
  async getIncoming (clientId: string, messageId: number): Promise<BrokerPacket> {
    const kept = this.#cleanIncoming.get(clientId)?.get(messageId)
    if (kept !== undefined) return { ...kept }
    const bytes = await this.#shared.redis.run(async redis => await redis.hgetBuffer(`${this.#shared.keys.base(clientId)}p:${clientId}`, String(messageId)))
    if (bytes === null) throw this.#noSuchPacket
    return { ...decodePacket(bytes), messageId }
  }

  async deleteIncoming (clientId: string, messageId: number): Promise<void> {
    if (this.#cleanIncoming.get(clientId)?.delete(messageId) === true) return
    const gone = await onTenant(this.#shared, clientId, incomingDeleteScript, [clientId, messageId])
    if (gone === 0) throw this.#noSuchPacket
  }

  async cleanIncoming (client: BrokerClient): Promise<void> {
    this.#cleanIncoming.delete(client.id)
    // A claim of a clean session has discarded what was stored.
    if (this.#shared.live.of(client) !== undefined || !this.#shared.redis.up) return
    await onTenant(this.#shared, client.id, incomingDeleteScript, [client.id, ''])
  }

  async putWill (client: BrokerClient, packet: BrokerPacket): Promise<void> {
    packet.brokerId = this.#shared.nodeId
    packet.clientId = client.id
    this.#willOwners.set(client.id, client)
    try {
      await this.#writeWill(client.id, encodePacket(packet, { extras: 'all' }))
    } catch (error) {
      // The broker has it in memory. Redis is told when it is back; a persistent session has been refused before this.
      this.#shared.log.debug({ client: client.id, error }, 'a will could not be stored')
    }
  }

  /** Also says again what was said before, after Redis lost it. */
  async restoreWill (client: BrokerClient, packet: BrokerPacket): Promise<void> {
    if (this.#willOwners.get(client.id) === client) await this.#writeWill(client.id, encodePacket(packet, { extras: 'all' }))
  }

  async #writeWill (clientId: string, will: Buffer | ''): Promise<BrokerPacket | undefined> {
    const { ledger, nodeId } = this.#shared
    const [before, room] = await onTenant(this.#shared, clientId, willScript, [nodeId, clientId, will, ledger.limits.willsPerTenantMax]) as [Buffer, number]
    if (room === 0) ledger.refuse('wills', clientId)
    return before.length === 0 ? undefined : decodePacket(before)
  }

  async getWill (clientId: string): Promise<BrokerPacket | undefined> {
    const { redis, keys, nodeId } = this.#shared
    const bytes = await redis.run(async client => await client.hgetBuffer(`${keys.base(clientId)}w:${nodeId}`, clientId))
    return bytes === null ? undefined : decodePacket(bytes)
  }

  /** Never rejects: Aedes awaits it without a handler. A will that could not be removed may be published once more when this node ends. */
  async deleteWill (client: BrokerClient): Promise<BrokerPacket | undefined> {
    const owner = this.#willOwners.get(client.id)
    if (owner === undefined || (owner !== client && owner.closed === false)) return undefined
    this.#willOwners.delete(client.id)
    try {
      return await this.#writeWill(client.id, '')
    } catch (error) {
      this.#shared.log.debug({ client: client.id, error }, 'a will could not be removed')
      return undefined
    }
  }
}
