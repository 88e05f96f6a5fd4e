/**
 * What the other nodes want, held in memory so that no message has to ask. A node is known with all its filters at a version, or
 * not at all; whoever misses a version loads that node's filters anew. Bounded by what nodes announce (interest.ts).
 */
import { SubscriptionIndex } from '../../broker/filter.js'

export interface InterestListener {
  wanted(filter: string): void
  unwanted(filter: string): void
}

interface Peer {
  readonly filters: Set<string>
  version: number
}

export class Peers {
  readonly #peers = new Map<string, Peer>()
  readonly #index = new SubscriptionIndex()
  readonly #listener: InterestListener

  constructor (listener: InterestListener) { this.#listener = listener }

  get ids (): readonly string[] { return [...this.#peers.keys()] }

  get filters (): number { return this.#index.size }

  /** -1 where the node is not known. */
  versionOf (nodeId: string): number { return this.#peers.get(nodeId)?.version ?? -1 }

  /** The nodes that want the topic, each once. */
  wanting (topic: string): ReadonlySet<string> {
    const nodes = new Set<string>()
    if (this.#peers.size === 0) return nodes
    for (const { clientId } of this.#index.match(topic)) nodes.add(clientId)
    return nodes
  }

  /** Replaces all that is known of a node. */
  replace (nodeId: string, version: number, filters: readonly string[]): void {
    const before = this.#peers.get(nodeId)
    const peer: Peer = { version, filters: new Set(filters) }
    this.#peers.set(nodeId, peer)
    // What is in both is added before it is removed, so that nobody takes it for unwanted in between.
    for (const filter of peer.filters) if (before?.filters.has(filter) !== true) this.#add(nodeId, filter)
    for (const filter of before?.filters ?? []) if (!peer.filters.has(filter)) this.#remove(nodeId, filter)
  }

  /** Follows a change; false where changes before it are missing: load the node. */
  change (nodeId: string, version: number, added: readonly string[], removed: readonly string[]): boolean {
    const peer = this.#peers.get(nodeId)
    if (peer === undefined || version > peer.version + 1) return false
    if (version <= peer.version) return true
    peer.version = version
    for (const filter of added) {
      if (peer.filters.has(filter)) continue
      peer.filters.add(filter)
      this.#add(nodeId, filter)
    }
    for (const filter of removed) if (peer.filters.delete(filter)) this.#remove(nodeId, filter)
    return true
  }

  drop (nodeId: string): void {
    const peer = this.#peers.get(nodeId)
    if (peer === undefined) return
    this.#peers.delete(nodeId)
    for (const filter of peer.filters) this.#remove(nodeId, filter)
  }

  #add (nodeId: string, filter: string): void {
    this.#index.add(nodeId, filter, { qos: 0 })
    this.#listener.wanted(filter)
  }

  #remove (nodeId: string, filter: string): void {
    this.#index.remove(nodeId, filter)
    this.#listener.unwanted(filter)
  }
}
