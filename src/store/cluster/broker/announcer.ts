/**
 * Tells the other nodes what this one wants. Changes that gather while one announcement is under way are the next one. A new filter is
 * announced when it is stored, and every node that lived then has said that it knows, or `seenMsMax` has passed: from then on
 * no node takes the topic for one that nobody wants.
 */
import type { Log } from '../../../core/log.js'
import type { RedisConnection } from '../redis/open-redis.js'
import { OwnInterest, type InterestChange } from './interest.js'
import type { BrokerKeys } from './keys.js'
import { announceScript } from './node-scripts.js'
import { call } from './script.js'

/** Longest wait for another node to say that it knows. A node that is slower may miss messages for so much longer. */
const seenMsMax = 1000
/** Filters of one announcement. */
const filtersMax = 2000
/** Distinct filters of one tenant that are announced one by one. */
export const filtersPerTenantMax = 50_000

interface Seeing {
  readonly version: number
  readonly nodes: Set<string>
  readonly done: () => void
  readonly timer: NodeJS.Timeout
}

export class Announcer {
  readonly #redis: RedisConnection
  readonly #keys: BrokerKeys
  readonly #nodeId: string
  readonly #log: Log
  readonly #interest: OwnInterest
  /** Redis has lost what this node announced. */
  readonly #lost: () => void
  #added = new Set<string>()
  #removed = new Set<string>()
  #waiters: (() => void)[] = []
  #running: Promise<void> | null = null
  readonly #seeing = new Set<Seeing>()
  /** While false, changes are only noted: `anew` announces all. */
  active = false
  /** Announcements that not every live node had confirmed in time. */
  unseen = 0

  constructor (options: { redis: RedisConnection, keys: BrokerKeys, nodeId: string, log: Log, filtersPerTenantMax: number, lost: () => void }) {
    this.#redis = options.redis
    this.#keys = options.keys
    this.#nodeId = options.nodeId
    this.#log = options.log
    this.#interest = new OwnInterest(options.filtersPerTenantMax)
    this.#lost = options.lost
  }

  /** Resolves when it is announced, or at once where there is nobody to announce to. */
  add (filter: string): Promise<void> {
    this.#note(this.#interest.add(filter))
    if (!this.active) return Promise.resolve()
    if (this.#running === null && this.#added.size === 0) return Promise.resolve()
    return new Promise(resolve => {
      this.#waiters.push(resolve)
      this.#run()
    })
  }

  remove (filter: string): void {
    this.#note(this.#interest.remove(filter))
    if (this.active && this.#removed.size > 0) this.#run()
  }

  #note ({ added, removed }: InterestChange): void {
    if (!this.active) return
    for (const filter of added) {
      this.#removed.delete(filter)
      this.#added.add(filter)
    }
    for (const filter of removed) {
      this.#added.delete(filter)
      this.#removed.add(filter)
    }
  }

  #run (): void {
    this.#running ??= this.#announceAll().finally(() => {
      this.#running = null
      if (this.#waiters.length > 0) this.#run()
    })
  }

  async #announceAll (): Promise<void> {
    // Lets the rest of this turn join.
    await null
    while (this.#waiters.length > 0 || this.#added.size > 0 || this.#removed.size > 0) {
      const added = [...this.#added]
      const removed = [...this.#removed]
      const waiters = this.#waiters
      this.#added = new Set()
      this.#removed = new Set()
      this.#waiters = []
      let seen: Promise<void> = Promise.resolve()
      try {
        if (this.active) seen = (await this.#announce(added, removed, false)).seen
      } catch (error) {
        // When Redis is back everything is announced anew.
        this.#log.debug({ error: (error as Error).message }, 'what this node wants could not be announced')
      }
      // The next announcement does not wait for the nodes to say that they know this one.
      void seen.then(() => { for (const waiter of waiters) waiter() })
    }
  }

  /** Announces all that is wanted, in place of all that was. Rejects where Redis does not answer. */
  async anew (): Promise<void> {
    this.#added.clear()
    this.#removed.clear()
    // What comes from here on is a change to it.
    this.active = true
    const { seen } = await this.#announce([...this.#interest.all()], [], true)
    await seen
  }

  async #announce (added: readonly string[], removed: readonly string[], anew: boolean): Promise<{ readonly seen: Promise<void> }> {
    let last: { version: number, nodes: string[] } | null = null
    const total = added.length + removed.length
    for (let from = 0; from === 0 || from < total; from += filtersMax) {
      const plus = added.slice(from, from + filtersMax)
      const minusFrom = Math.max(0, from - added.length)
      const minus = removed.slice(minusFrom, Math.max(0, from + filtersMax - added.length))
      const answer = await this.#redis.run(async client => await call(client, announceScript, this.#keys.nodes, [
        this.#nodeId, this.#keys.bus, this.#keys.nodeChannels, anew && from === 0 ? 1 : 0, plus.length, ...plus, ...minus
      ])) as [number, Buffer[]] | []
      if (answer.length === 0) {
        this.#lost()
        return { seen: Promise.resolve() }
      }
      last = { version: answer[0], nodes: answer[1].map(String) }
    }
    return { seen: last === null || added.length === 0 ? Promise.resolve() : this.#untilSeen(last.version, last.nodes) }
  }

  #untilSeen (version: number, nodes: readonly string[]): Promise<void> {
    if (nodes.length === 0) return Promise.resolve()
    return new Promise(resolve => {
      const done = (): void => {
        clearTimeout(seeing.timer)
        this.#seeing.delete(seeing)
        resolve()
      }
      const timer = setTimeout(() => {
        this.unseen++
        this.#log.warn({ nodes: [...seeing.nodes] }, 'a node has not said in time that it knows what this node wants')
        done()
      }, seenMsMax)
      const seeing: Seeing = { version, nodes: new Set(nodes), done, timer }
      this.#seeing.add(seeing)
      // Its word may have been faster than the answer.
      for (const [node, seen] of this.#seenBy) if (seen >= version) seeing.nodes.delete(node)
      if (seeing.nodes.size === 0) done()
    })
  }

  readonly #seenBy = new Map<string, number>()

  /** A node knows what this one wants up to a version. */
  seen (node: string, version: number): void {
    this.#seenBy.set(node, version)
    for (const seeing of [...this.#seeing]) {
      if (seeing.version <= version && seeing.nodes.delete(node) && seeing.nodes.size === 0) seeing.done()
    }
  }

  /** A node is gone: nothing is awaited of it. */
  forget (node: string): void {
    this.#seenBy.delete(node)
    for (const seeing of [...this.#seeing]) if (seeing.nodes.delete(node) && seeing.nodes.size === 0) seeing.done()
  }

  /** This node is alone now: nobody is waited for. */
  pause (): void {
    this.active = false
    this.#seenBy.clear()
    this.#added.clear()
    this.#removed.clear()
    for (const seeing of [...this.#seeing]) seeing.done()
  }
}
