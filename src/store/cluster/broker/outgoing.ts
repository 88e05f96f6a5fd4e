/**
 * Messages above QoS 0 on their way to persistent sessions. A publish is queued for every session that its topic matches, on
 * whatever node it is, and sent to the nodes, in one script; when that has answered, its publisher may be acknowledged.
 *
 * A session gets a message either live, when its node hears of it, or from its queue (`replay`: when it connects, and after
 * anything that may have been missed). Which of the two is decided by the message's number: while a replay runs all numbered
 * messages are its business, and when it has found nothing more up to a number, those above it are live. So the order of the
 * queue is the order of delivery, and nothing comes twice on one connection.
 */
import { TwinfoldError } from '../../../core/errors.js'
import { decodePacket, encodePacket } from '../../broker/codec.js'
import type { LimitKind } from '../../broker/ledger.js'
import type { BrokerClient, BrokerPacket, MatchedSubscription, QueuedPacket } from '../../broker/types.js'
import { onTenant, type BrokerShared } from './broker-redis.js'
import type { LiveClient, Owed } from './live-clients.js'
import { clearScript, enqueueScript, pubrelScript, readQueueScript, sendingScript } from './queue-scripts.js'
import { encodeOptions } from './sessions.js'

/** Messages whose payloads are in memory at a time for one session that comes back. */
const pageMessages = 16
/** Acknowledgements kept for Redis to come back, of one connection; more than a client can owe. */
const owedMax = 32_768

/** The packet of a publish, with the number that its entries in the queues got. */
export type NumberedPacket = BrokerPacket & { queueNumber?: number }

interface Entry {
  readonly identity: string
  readonly number: number
  readonly qos: number
  readonly retain: boolean
  readonly messageId: number
  readonly pubrel: boolean
}

function entryOf (identity: string, text: string): Entry {
  const [number, , qos, retain, messageId, state] = text.split('|')
  return { identity, number: Number(number), qos: Number(qos), retain: retain === '1', messageId: Number(messageId), pubrel: state === 'r' }
}

export function identityOf (packet: BrokerPacket): string { return `${packet.brokerId ?? ''}:${packet.brokerCounter ?? 0}` }

const isPubrel = (packet: QueuedPacket): packet is { cmd: 'pubrel', messageId: number } => packet.cmd === 'pubrel'

export class ClusterOutgoing {
  readonly #shared: BrokerShared
  /** The nodes that want a topic, as far as this node knows. */
  readonly #wanting: (topic: string) => ReadonlySet<string>
  /** The last publish that took more than one script: those after it wait, so that none overtakes it. */
  #long: Promise<unknown> | null = null
  /** Closes the connection; ordinary on a takeover, so it needs no stack. */
  readonly #superseded = new Error('another connection has the session')

  constructor (shared: BrokerShared, wanting: (topic: string) => ReadonlySet<string>) {
    this.#shared = shared
    this.#wanting = wanting
  }

  /**
   * Queues the packet for the sessions named, or where that is null for all that its topic matches, and sends it to the nodes.
   * At a bound a session is passed over (BrokerLimits). `store_unavailable`: it is not known whether it was queued.
   */
  async enqueue (named: readonly MatchedSubscription[] | null, packet: NumberedPacket): Promise<void> {
    if (named?.length === 0) return
    while (this.#long !== null) await this.#long
    const sessions = (named ?? []).flatMap(({ clientId, qos = packet.qos, rap }) => [clientId, encodeOptions({ qos, rap })])
    const nodes = named === null ? [...this.#wanting(packet.topic)] : []
    const rest = await this.#enqueue(packet, sessions, nodes, '', named === null)
    if (rest === null) return
    const long = this.#enqueueRest(packet, rest, named === null)
    this.#long = long.catch(() => {}).then(() => { this.#long = null })
    await long
  }

  async #enqueueRest (packet: NumberedPacket, first: Rest, send: boolean): Promise<void> {
    for (let rest: Rest | null = first; rest !== null;) rest = await this.#enqueue(packet, rest.sessions, rest.nodes, String(packet.queueNumber), send)
  }

  async #enqueue (packet: NumberedPacket, sessions: readonly string[], nodes: readonly string[], number: string, send: boolean): Promise<Rest | null> {
    const { ledger, nodeId, keys } = this.#shared
    const { limits } = ledger
    const answer = await onTenant(this.#shared, packet.topic, enqueueScript, [
      packet.topic, packet.qos, packet.retain ? 1 : 0, identityOf(packet), encodePacket(packet, { extras: 'queued' }),
      limits.queuedPerSessionMax, limits.queuedBytesPerSessionMax, limits.queuedPerTenantMax, limits.queuedBytesPerTenantMax, limits.sessionsPerTenantMax,
      nodeId, keys.nodeChannels, number, send ? 1 : 0, nodes.length, ...nodes, ...sessions
    ]) as [Buffer, Buffer[], Buffer[], Buffer[]]
    packet.queueNumber = Number(answer[0].toString())
    for (let i = 0; i < answer[1].length; i += 2) ledger.refuse(answer[1][i].toString() as LimitKind, answer[1][i + 1].toString())
    return answer[2].length === 0 ? null : { sessions: answer[2].map(String), nodes: answer[3].map(String) }
  }

  /**
   * A PUBLISH is about to be sent under `packet.messageId`, or a PUBREL is owed. The packet comes back with another identifier
   * where its own is in use in the session's queue. Rejects, so that it is not sent, where another connection has the session: what
   * this one sent would come again under another identifier. While Redis is away the subscriber gets it all the same.
   */
  async update (client: BrokerClient, packet: QueuedPacket): Promise<void> {
    const live = this.#shared.live.of(client)
    const known = live === undefined && this.#shared.live.get(client.id) !== undefined
    if (isPubrel(packet)) return await this.#releasing(client, live, packet.messageId)
    if (known) throw this.#superseded
    const identity = identityOf(packet)
    // Aedes goes by the filter that equals the topic, where there is one of QoS 0: no acknowledgement will come.
    if (packet.qos === 0) {
      await this.clear(client, { ...packet, messageId: undefined })
      return
    }
    live?.noteSent(identity, packet.messageId ?? 0)
    try {
      const id = await onTenant(this.#shared, client.id, sendingScript, [client.id, live?.connection ?? '', identity, packet.messageId ?? 0, packet.qos]) as number
      if (id === -1) throw this.#superseded
      if (id === 0) this.#shared.ledger.stats.untracked++
      if (id === 0 || id === packet.messageId) return
      packet.messageId = id
      live?.noteSent(identity, id)
    } catch (error) {
      this.#unwritten(client, error)
    }
  }

  async #releasing (client: BrokerClient, live: LiveClient | undefined, messageId: number): Promise<void> {
    const identity = live?.identities.get(messageId) ?? ''
    try {
      await onTenant(this.#shared, client.id, pubrelScript, [client.id, messageId, identity])
    } catch (error) {
      this.#owe(live, { kind: 'pubrel', identity, messageId })
      this.#unwritten(client, error)
    }
  }

  /** Takes a message out of the queue; resolves with what was queued, undefined where it was not. Never rejects while the client is connected. */
  async clear (client: BrokerClient, packet: QueuedPacket): Promise<QueuedPacket | undefined> {
    const live = this.#shared.live.of(client)
    const messageId = packet.messageId ?? 0
    const identity = messageId !== 0 ? live?.identities.get(messageId) ?? '' : isPubrel(packet) ? '' : identityOf(packet)
    live?.pending?.delete(identity)
    try {
      const cleared = await this.#clear(client.id, messageId, identity)
      if (identity !== '') live?.forget(identity)
      return cleared
    } catch (error) {
      this.#owe(live, { kind: 'clear', identity, messageId })
      this.#unwritten(client, error)
      return undefined
    }
  }

  async #clear (clientId: string, messageId: number, identity: string): Promise<QueuedPacket | undefined> {
    const [, entry, packet] = await onTenant(this.#shared, clientId, clearScript, [clientId, messageId, identity]) as (Buffer | undefined)[]
    return entry === undefined ? undefined : this.#packetOf(clientId, entryOf(identity, entry.toString()), packet ?? null) ?? undefined
  }

  #unwritten (client: BrokerClient, error: unknown): void {
    if (!(error instanceof TwinfoldError) || error.code !== 'store_unavailable') throw error
    this.#shared.log.debug({ client: client.id, error: error.message }, 'the queue of a session could not be written')
  }

  #owe (live: LiveClient | undefined, owed: Owed): void {
    if (live !== undefined && live.owed.length < owedMax) live.owed.push(owed)
  }

  /** Tells Redis what it missed while it was away. */
  async settle (live: LiveClient): Promise<void> {
    const { id } = live.client
    for (const { kind, identity, messageId } of live.owed.splice(0)) {
      if (kind === 'pubrel') {
        await this.#releasing(live.client, live, messageId)
      } else {
        await this.#clear(id, messageId, identity)
        live.forget(identity)
      }
    }
  }

  /** What waits for the session and was not sent on this connection, in order; what was sent on an earlier one has DUP set [MQTT-3.3.1-1]. */
  async * replay (client: BrokerClient): AsyncGenerator<QueuedPacket> {
    const live = this.#shared.live.of(client)
    if (live === undefined) {
      const { entries } = await this.#read(client.id, 0)
      for (let i = 0; i < entries.length; i += pageMessages) {
        for await (const { packet } of this.#contents(client.id, entries.slice(i, i + pageMessages), false)) yield packet
      }
      return
    }
    if (live.replaying) {
      live.again = true
      return
    }
    live.replaying = true
    live.behind = false
    const marks = live.client.conn
    if (marks !== undefined) marks.replayedUpTo = Infinity
    try {
      for (let after = 0; ;) {
        const { last, entries } = await this.#read(client.id, after)
        const fresh = entries.filter(({ identity }) => !live.sent.has(identity))
        yield * this.#replayed(live, fresh)
        after = last
        if (fresh.length > 0) continue
        if (live.again) {
          live.again = false
          after = 0
        } else if (marks === undefined || marks.skippedUpTo <= last) {
          if (marks !== undefined && this.#shared.link.up) marks.replayedUpTo = last
          return
        }
      }
    } catch (error) {
      live.behind = true
      this.#shared.log.debug({ client: client.id, error: (error as Error).message }, 'a replay waits for Redis')
    } finally {
      live.replaying = false
      live.pending = null
    }
  }

  async * #replayed (live: LiveClient, entries: readonly Entry[]): AsyncGenerator<QueuedPacket> {
    const pending = live.pending = new Map(entries.map(entry => [entry.identity, entry]))
    for (let i = 0; i < entries.length; i += pageMessages) {
      const page = entries.slice(i, i + pageMessages).filter(({ identity }) => pending.has(identity))
      for await (const { identity, packet } of this.#contents(live.client.id, page, true)) {
        // Acknowledged meanwhile, or no longer this connection's business.
        if (!pending.delete(identity) || this.#shared.live.get(live.client.id) !== live) continue
        live.noteSent(identity, packet.messageId ?? 0)
        yield packet
      }
    }
  }

  /** In order of number. */
  async #read (clientId: string, after: number): Promise<{ last: number, entries: Entry[] }> {
    const [last, ...fields] = await onTenant(this.#shared, clientId, readQueueScript, [clientId, String(after)]) as Buffer[]
    const entries: Entry[] = []
    for (let i = 0; i < fields.length; i += 2) entries.push(entryOf(fields[i].toString(), fields[i + 1].toString()))
    entries.sort((a, b) => a.number - b.number)
    return { last: Number(last.toString()), entries }
  }

  /** @param again what has an identifier was sent before. */
  async * #contents (clientId: string, entries: readonly Entry[], again: boolean): AsyncGenerator<{ readonly identity: string, readonly packet: QueuedPacket }> {
    if (entries.length === 0) return
    const key = `${this.#shared.keys.base(clientId)}m`
    const contents = await this.#shared.redis.run(async redis => await redis.hmgetBuffer(key, ...entries.map(({ number }) => String(number))))
    for (let i = 0; i < entries.length; i++) {
      const packet = this.#packetOf(clientId, entries[i], contents[i])
      // One that is gone was acknowledged meanwhile, or Redis lost it.
      if (packet === null) continue
      const { identity, messageId } = entries[i]
      yield { identity, packet: isPubrel(packet) ? packet : { ...packet, dup: again && messageId !== 0 } }
    }
  }

  #packetOf (clientId: string, entry: Entry, bytes: Buffer | null): QueuedPacket | null {
    if (entry.pubrel) return { cmd: 'pubrel', messageId: entry.messageId }
    if (bytes === null || bytes.length === 0) return null
    try {
      const packet = decodePacket(bytes)
      return { ...packet, cmd: packet.cmd ?? 'publish', qos: entry.qos, retain: entry.retain, dup: false, messageId: entry.messageId === 0 ? undefined : entry.messageId }
    } catch (error) {
      this.#shared.ledger.stats.rowsDamaged++
      this.#shared.log.error({ client: clientId, error }, 'a queued message is damaged and passed over')
      return null
    }
  }
}

/** Who is left of a publish that is for more sessions than one script takes, and the nodes to tell at the end. */
interface Rest { readonly sessions: readonly string[], readonly nodes: readonly string[] }
