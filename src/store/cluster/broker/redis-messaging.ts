/**
 * The brokers of several nodes on one Redis as one broker. A node joins with a lease that its heartbeat renews, says what its
 * connections want (announcer.ts), knows what the others want (peers.ts), and hears of messages on a channel of its own. A client
 * belongs to the node that claimed it last; the node before closes its connection.
 *
 * Guaranteed: when a SUBACK leaves, every live node that answers within a second sends matching messages here; a message above
 * QoS 0 for a persistent session is in the session's queue before its publisher is acknowledged, and is sent from there whatever
 * happens to the messages between nodes. Not guaranteed: QoS 0 and clean sessions across a broken connection (at most once).
 *
 * When Redis was away, or its data is gone, the node joins anew: it announces everything, claims its clients, writes the
 * subscriptions of those that are connected, and replays their queues.
 */
import type { RedisSettings } from '../../../../workers/protocol.js'
import { TwinfoldError } from '../../../core/errors.js'
import type { Clock } from '../../../core/clock.js'
import { decodePacket, encodePacket } from '../../broker/codec.js'
import type { BrokerMessaging, ConnectedClient, LocalBroker } from '../../broker/messaging.js'
import type { BrokerPacket } from '../../broker/types.js'
import { Announcer } from './announcer.js'
import { onTenant, type BrokerShared } from './broker-redis.js'
import { Bus, echo, encodeNodeMessage, encodePacketMessage, type InterestMessage, type NodeMessage } from './bus.js'
import { LiveClient, type LiveBrokerClient } from './live-clients.js'
import { heartbeatScript, interestScript, leaveScript, nodeScripts } from './node-scripts.js'
import { Peers } from './peers.js'
import { queueScripts } from './queue-scripts.js'
import type { Rejoin } from './rejoin.js'
import { call, loadScripts } from './script.js'
import { claimScript, releaseScript, sessionScripts } from './session-scripts.js'

/** A node that is not heard of for this long is gone: its interest is dropped, its wills are published. */
export const leaseMs = 6000
const heartbeatMs = 2000
/** Longest wait for another node to close a client's connection; one that is gone is not waited for. */
const closeElsewhereMsMax = 1000
/** The start waits this long for Redis. */
const openMsMax = 3000
const rejoinAfterMs = 500
/** Bytes of QoS 0 messages on their way to Redis; what comes beyond is dropped and counted. */
const forwardBytesMax = 16 * 1024 * 1024

export interface MessagingStats {
  forwarded: number
  /** QoS 0 messages that were not sent to another node: too many were under way. */
  forwardDropped: number
  received: number
  takeovers: number
  joins: number
  /** Announcements that not every live node had confirmed in time. */
  unseen: number
  /** Other nodes, and their filters in memory. */
  peers: number
  peerFilters: number
}

export interface RedisMessagingOptions {
  readonly settings: RedisSettings
  readonly shared: BrokerShared
  readonly clock: Clock
  readonly filtersPerTenantMax: number
  readonly rejoin: Rejoin
  /** Told of nodes whose lease has ended. */
  readonly dead: (nodes: readonly string[]) => void
  /** A tenant has a client here. */
  readonly tenantSeen: (clientId: string) => void
}

export class RedisMessaging implements BrokerMessaging {
  readonly nodeId: string
  readonly #stats: MessagingStats = { forwarded: 0, forwardDropped: 0, received: 0, takeovers: 0, joins: 0, unseen: 0, peers: 0, peerFilters: 0 }
  readonly #options: RedisMessagingOptions
  readonly #shared: BrokerShared
  readonly #announcer: Announcer
  readonly #peers: Peers
  readonly #closing = new Map<number, () => void>()
  #bus: Bus | null = null
  #local: LocalBroker | null = null
  #joined = false
  #joining: Promise<void> | null = null
  #joinAgain = false
  #requests = 0
  #heartbeat: NodeJS.Timeout | null = null
  #forwardBytes = 0
  #closed = false
  #liveNodes: readonly string[] = []

  constructor (options: RedisMessagingOptions) {
    const { shared } = options
    this.#options = options
    this.#shared = shared
    this.nodeId = shared.nodeId
    this.#announcer = new Announcer({
      redis: shared.redis, keys: shared.keys, nodeId: shared.nodeId, log: shared.log, filtersPerTenantMax: options.filtersPerTenantMax, lost: () => { this.#rejoin() }
    })
    this.#peers = new Peers({ wanted: filter => { this.#local?.wanted(filter) }, unwanted: filter => { this.#local?.unwanted(filter) } })
    shared.redis.onChange(() => { this.#linkChanged() })
  }

  get up (): boolean { return this.#joined && this.#shared.redis.up && this.#bus?.up === true }

  /** Nodes that live, this one too, as of the last heartbeat. */
  get liveNodes (): readonly string[] { return this.#liveNodes }

  get stats (): Readonly<MessagingStats> {
    this.#stats.unseen = this.#announcer.unseen
    this.#stats.peers = this.#peers.ids.length
    this.#stats.peerFilters = this.#peers.filters
    return this.#stats
  }

  wanting (topic: string): ReadonlySet<string> { return this.#peers.wanting(topic) }

  async open (local: LocalBroker): Promise<void> {
    this.#local = local
    const { settings } = this.#options
    const { keys, log, nodeId } = this.#shared
    const first = new Promise<void>(resolve => {
      const timer = setTimeout(resolve, openMsMax)
      this.#firstJoin = () => {
        clearTimeout(timer)
        resolve()
      }
    })
    this.#bus = new Bus(settings, keys, nodeId, {
      link: () => { this.#linkChanged() },
      interest: message => { this.#interest(message) },
      gone: node => { this.#gone(node) },
      message: message => { this.#message(message) },
      packet: (number, bytes) => { this.#packet(number, bytes) }
    }, log)
    this.#heartbeat = setInterval(() => { void this.#beat() }, heartbeatMs).unref()
    await first
    if (!this.up) log.warn({ node: nodeId }, 'the other nodes cannot be reached: this node serves its own clients alone')
  }

  #firstJoin: () => void = () => {}

  // Joining

  #linkChanged (): void {
    if (this.#closed) return
    const { link, live } = this.#shared
    link.up = this.#shared.redis.up && this.#bus?.up === true
    if (link.up) {
      this.#rejoin()
      return
    }
    // What is sent from now on may be missed, so what comes after it must wait: the replay after joining has all, in order.
    for (const { client } of live.all()) if (client.clean !== true && client.conn !== undefined) client.conn.replayedUpTo = Infinity
    if (!this.#joined) return
    this.#joined = false
    this.#announcer.pause()
    this.#shared.log.warn({ node: this.nodeId }, 'the other nodes cannot be reached: messages stay on this node')
  }

  /** Joins, or joins again where that is under way. */
  #rejoin (): void {
    this.#joined = false
    if (this.#joining !== null) {
      this.#joinAgain = true
      return
    }
    this.#joining = this.#join().catch((error: unknown) => {
      this.#shared.log.debug({ error: (error as Error).message }, 'joining the other nodes failed')
      setTimeout(() => { if (!this.#closed && !this.#joined && this.#bus?.up === true) this.#rejoin() }, rejoinAfterMs).unref()
    }).finally(() => {
      this.#joining = null
      const again = this.#joinAgain && !this.#closed
      this.#joinAgain = false
      if (again && this.#bus?.up === true) this.#rejoin()
    })
  }

  async #join (): Promise<void> {
    const { redis, log } = this.#shared
    await redis.run(async client => { await loadScripts(client, [...nodeScripts, ...sessionScripts, ...queueScripts]) })
    const nodes = await this.#sendHeartbeat(true)
    for (const node of this.#peers.ids) if (!nodes.has(node)) this.#gone(node)
    await Promise.all([...nodes.keys()].map(async node => { await this.#load(node) }))
    // From here on other nodes wait for this one to know what they want; from the announcement on they send what is wanted here.
    await this.#announcer.anew()
    if (this.#joinAgain || !redis.up || this.#bus?.up !== true) return
    this.#joined = true
    this.#stats.joins++
    log.info({ node: this.nodeId, nodes: nodes.size + 1 }, 'joined the other nodes')
    this.#firstJoin()
    await this.#options.rejoin.run(live => this.#reclaim(live), this.#local as LocalBroker)
  }

  async #beat (): Promise<void> {
    this.#bus?.beat()
    if (!this.up) return
    try {
      const nodes = await this.#sendHeartbeat(false)
      for (const [node, version] of nodes) if (this.#peers.versionOf(node) < version) await this.#load(node)
      for (const node of this.#peers.ids) if (!nodes.has(node)) this.#gone(node)
      await this.#options.rejoin.catchUpBehind(this.#local as LocalBroker)
    } catch (error) {
      this.#shared.log.debug({ error: (error as Error).message }, 'a heartbeat failed')
    }
  }

  /** The other live nodes and the versions of their interest. */
  async #sendHeartbeat (join: boolean): Promise<Map<string, number>> {
    const { redis, keys } = this.#shared
    const args = [this.nodeId, leaseMs, keys.nodeChannel(this.nodeId), echo, join ? 1 : 0]
    const [known, dead, live] = await redis.run(async client => await call(client, heartbeatScript, keys.nodes, args)) as [number, Buffer[], Buffer[]]
    if (known === 0) {
      this.#shared.log.warn({ node: this.nodeId }, 'Redis has lost its data, or took this node for gone: joining anew')
      this.#rejoin()
      throw new TwinfoldError('store_unavailable', 'this node is not known to the others')
    }
    const nodes = new Map<string, number>()
    for (let i = 0; i < live.length; i += 2) nodes.set(live[i].toString(), Number(live[i + 1].toString()))
    this.#liveNodes = [...nodes.keys()]
    nodes.delete(this.nodeId)
    if (dead.length > 0) this.#options.dead(dead.map(String).filter(node => node !== this.nodeId))
    return nodes
  }

  // What the others want

  async #load (node: string): Promise<void> {
    const { redis, keys } = this.#shared
    const [version, filters] = await redis.run(async client => await call(client, interestScript, keys.nodes, [node])) as [Buffer, Buffer[]]
    this.#peers.replace(node, Number(version.toString()), filters.map(String))
    this.#tellSeen(node)
  }

  #interest ([node, version, anew, added, ...filters]: InterestMessage): void {
    if (node === this.nodeId) return
    if (anew === '1') this.#peers.replace(node, version, filters.slice(0, added))
    else if (!this.#peers.change(node, version, filters.slice(0, added), filters.slice(added))) {
      this.#load(node).catch((error: unknown) => { this.#shared.log.debug({ error: (error as Error).message }, 'what a node wants could not be read') })
      return
    }
    this.#tellSeen(node)
  }

  readonly #toTell = new Set<string>()

  /** Says once a turn how far this node knows what another wants. */
  #tellSeen (node: string): void {
    if (this.#toTell.size === 0) {
      setImmediate(() => {
        const nodes = [...this.#toTell]
        this.#toTell.clear()
        for (const each of nodes) void this.#send(each, { kind: 'seen', from: this.nodeId, version: this.#peers.versionOf(each) })
      })
    }
    this.#toTell.add(node)
  }

  #gone (node: string): void {
    this.#peers.drop(node)
    this.#announcer.forget(node)
  }

  subscribed (filter: string): Promise<void> { return this.#announcer.add(filter) }

  unsubscribed (filter: string): void { this.#announcer.remove(filter) }

  // Messages

  forward (packet: BrokerPacket): void {
    const nodes = this.#peers.wanting(packet.topic)
    if (nodes.size === 0 || !this.up) return
    const message = encodePacketMessage(encodePacket(packet, { extras: 'queued' }))
    for (const node of nodes) {
      if (this.#forwardBytes > forwardBytesMax) {
        this.#stats.forwardDropped++
        continue
      }
      this.#forwardBytes += message.length
      this.#stats.forwarded++
      const arrived = (): void => { this.#forwardBytes -= message.length }
      this.#shared.redis.run(async client => await client.publish(this.#shared.keys.nodeChannel(node), message)).then(arrived, arrived)
    }
  }

  #packet (number: number, bytes: Buffer): void {
    this.#stats.received++
    this.#local?.deliver({ ...decodePacket(bytes), cmd: 'publish' }, number)
  }

  /** Resolves with the number of nodes that heard it: 0 where the node is not there. */
  async #send (node: string, message: NodeMessage): Promise<number> {
    const { redis, keys } = this.#shared
    return await redis.run(async client => await client.publish(keys.nodeChannel(node), encodeNodeMessage(message))).catch(() => 0)
  }

  #message (message: NodeMessage): void {
    switch (message.kind) {
      case 'seen': return this.#announcer.seen(message.from, message.version)
      case 'closed': return this.#closing.get(message.request)?.()
      case 'close': return this.#close(message)
    }
  }

  // Who holds a client

  async claim (client: ConnectedClient): Promise<void> {
    const live = new LiveClient(client as LiveBrokerClient, this.#shared.live.newConnection(), Math.floor(this.#options.clock.nowUs() / 1000))
    if (client.clean) this.#hold(live)
    try {
      if (!this.up) throw new TwinfoldError('store_unavailable', 'this node has not joined the others')
      this.#options.tenantSeen(client.id)
      const [before] = await onTenant(this.#shared, client.id, claimScript, [client.id, this.nodeId, live.connection, client.clean ? 1 : 0, '']) as [Buffer, number]
      live.claimed = true
      if (!client.clean) this.#hold(live)
      await this.#closeElsewhere(client.id, before.toString())
    } catch (error) {
      if (!client.clean) throw error
    }
    if (this.#shared.live.get(client.id) !== live) throw new TwinfoldError('not_ready', 'the client has connected once more meanwhile')
  }

  /** The connection holds the client on this node now; one that was on its way is closed, one that is there the broker closes. */
  #hold (live: LiveClient): void {
    const before = this.#shared.live.get(live.client.id)
    this.#shared.live.set(live)
    if (before !== undefined && before.client.closed !== true) this.#local?.closeClient(before.client as ConnectedClient, () => {})
  }

  /** After an outage; closes the client here where it has connected elsewhere since. */
  async #reclaim (live: LiveClient): Promise<boolean> {
    const { client } = live
    const args = [client.id, this.nodeId, live.connection, client.clean === true ? 1 : 0, live.since]
    const [before, holds] = await onTenant(this.#shared, client.id, claimScript, args) as [Buffer, number]
    if (holds === 0) {
      this.#local?.closeClient(client as ConnectedClient, () => {})
      return false
    }
    live.claimed = true
    void this.#closeElsewhere(client.id, before.toString())
    return true
  }

  async #closeElsewhere (clientId: string, owner: string): Promise<void> {
    const [node, connection] = owner.split('|')
    if (owner === '' || node === this.nodeId) return
    this.#stats.takeovers++
    const request = ++this.#requests
    await new Promise<void>(resolve => {
      const done = (): void => {
        clearTimeout(timer)
        this.#closing.delete(request)
        resolve()
      }
      const timer = setTimeout(done, closeElsewhereMsMax)
      this.#closing.set(request, done)
      void this.#send(node, { kind: 'close', from: this.nodeId, client: clientId, connection, request }).then(heard => { if (heard === 0) done() })
    })
  }

  #close ({ from, client, connection, request }: NodeMessage & { kind: 'close' }): void {
    const answer = (): void => { void this.#send(from, { kind: 'closed', request }) }
    const live = this.#shared.live.get(client)
    if (live === undefined || live.connection !== connection) return answer()
    this.#local?.closeClient(live.client as ConnectedClient, () => {
      this.#shared.live.end(live)
      answer()
    })
  }

  /** The connection has ended. */
  release (client: ConnectedClient): void {
    const live = this.#shared.live.of(client)
    if (live === undefined) return
    this.#shared.live.end(live)
    if (!live.claimed) return
    onTenant(this.#shared, client.id, releaseScript, [client.id, this.nodeId, live.connection]).catch((error: unknown) => {
      this.#shared.log.debug({ client: client.id, error: (error as Error).message }, 'a client could not be released')
    })
  }

  async close (): Promise<void> {
    if (this.#closed) return
    const wasUp = this.up
    this.#closed = true
    if (this.#heartbeat !== null) clearInterval(this.#heartbeat)
    this.#announcer.pause()
    await this.#joining?.catch(() => {})
    const { redis, keys } = this.#shared
    if (wasUp) {
      await redis.run(async client => {
        await call(client, leaveScript, keys.nodes, [this.nodeId])
        await client.publish(keys.bus, JSON.stringify({ gone: this.nodeId }))
      }).catch(() => {})
    }
    this.#bus?.close()
  }
}
