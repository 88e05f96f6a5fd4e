/**
 * The key layout of the broker in Redis (format 1). All keys of a tenant carry it as their hash tag, so that a script works on
 * one slot. `{base}` is `prefix:b{tenant}:`.
 *
 *     {base}n             number of the last queued message (µs of its time, or one more than the one before)
 *     {base}c             counts held against the limits
 *     {base}o             client → node|connection|since: who holds a connected client
 *     {base}z             persistent sessions by the time (ms) they were last seen connected
 *     {base}s:client      session: node, conn, q (entries), qb (bytes)
 *     {base}f:client      filter → options
 *     {base}t             prefix of a filter → subscriptions above QoS 0 that begin so: the tree that publishes are matched in
 *     {base}l:filter      client → QoS, of subscriptions above QoS 0
 *     {base}q:client      queue: m+identity → entry, i+packet id → identity
 *     {base}m, {base}r    message by number; references where there are more than one
 *     {base}p:client      received QoS 2 ids: packet id → packet; {base}y:client their order
 *     {base}w:node        wills of the clients connected to a node
 *     {base}h, {base}x    retained message by topic, and the topics in order
 *
 * `prefix:b{nodes}:` live (node → end of its lease, ms), v (node → version of its interest), i:node (filters), tenants.
 * Channels: `prefix:b:bus` to all nodes, `prefix:b:node:{id}` to one.
 */
import { tenantOf } from '../../broker/types.js'

export class BrokerKeys {
  readonly nodes: string
  readonly bus: string
  readonly nodeChannels: string
  readonly #prefix: string

  constructor (prefix: string) {
    this.#prefix = prefix
    this.nodes = `${prefix}:b{nodes}:`
    this.bus = `${prefix}:b:bus`
    this.nodeChannels = `${prefix}:b:node:`
  }

  /** The tenant's part of a client id, topic or filter. */
  base (text: string): string { return `${this.#prefix}:b{${tenantOf(text)}}:` }

  nodeChannel (nodeId: string): string { return this.nodeChannels + nodeId }
}
