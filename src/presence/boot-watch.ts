/**
 * Which starts of servers ("boots") live. Every boot says so in the store every few seconds, and in a cluster to the other nodes every
 * second (nodes/node-membership.ts). The nodes' word counts where it is fresh: a silent node is dead after its lease. The store's word
 * counts where the nodes cannot hear each other, with more patience. Only who was found dead twice in a row is swept, so that neither a
 * flushed Redis nor a Cassandra that was away for a minute ends connections that are open.
 *
 * A boot that finds itself swept (it was paused for long, say) says so to its owner, whose connections are open all the same.
 */
import type { Clock } from '../core/clock.js'
import type { Log } from '../core/log.js'
import type { PresenceBoot, PresenceStore } from '../store/presence-store.js'
import type { BootVerdict } from './presence-state.js'

/** What it needs of NodeMembership. */
export interface PresenceMembership {
  list(): readonly { readonly name: string, readonly bootId: string, readonly state: string }[]
  /** How old what `list` says is, ms. */
  readonly answerAgeMs: number
}

export interface BootWatchOptions {
  readonly store: Pick<PresenceStore, 'putPresenceBoot' | 'presenceBoots' | 'deletePresenceBoot'>
  /** null: this server is the only one. */
  readonly membership: PresenceMembership | null
  readonly node: string
  readonly bootId: string
  readonly clock: Clock
  readonly log: Log
  /** Default 3,000. */
  readonly everyMs?: number
}

const everyMsDefault = 3000
/** Beats of the others are this old at most, or they are no word at all. */
const freshMs = 4000
/** A boot that did not say that it lives for so long is dead, where the nodes' word is not to be had. */
const silentUsMax = 15e6
const sweptKeptUs = 3600e6
const timesDeadMin = 2

export class BootWatch {
  readonly #options: BootWatchOptions
  #boots = new Map<string, PresenceBoot>()
  #timesDead = new Map<string, number>()
  #timer: NodeJS.Timeout | null = null
  #running: Promise<void> | null = null
  #said = false
  #onLook: (sweepable: readonly PresenceBoot[], wasSwept: boolean) => void = () => {}

  constructor (options: BootWatchOptions) {
    this.#options = options
  }

  /** Says that this boot lives, where the store answers, and looks around from then on. @param onLook dead boots to be swept; and that this one was. Must not throw. */
  async open (onLook: (sweepable: readonly PresenceBoot[], wasSwept: boolean) => void): Promise<void> {
    this.#onLook = onLook
    await this.#look()
    this.#timer = setInterval(() => { this.#running ??= this.#look().finally(() => { this.#running = null }) }, this.#options.everyMs ?? everyMsDefault).unref()
  }

  /** @param clean every connection of it was written as ended: nobody need look for them */
  async close (clean: boolean): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer)
    await this.#running
    const { store, bootId } = this.#options
    if (clean) await store.deletePresenceBoot(bootId).catch(() => { /* Then it is found dead, with nothing to sweep. */ })
  }

  verdict (bootId: string, node: string): BootVerdict {
    const { membership, clock } = this.#options
    if (bootId === this.#options.bootId) return { alive: true, aliveAt: clock.nowUs() }
    const boot = this.#boots.get(bootId)
    const aliveAt = boot?.aliveAt ?? 0
    if (membership === null || boot?.swept === 'yes') return { alive: false, aliveAt }
    if (membership.answerAgeMs < freshMs) {
      const nodes = membership.list()
      const itself = nodes.find(other => other.bootId === bootId)
      if (itself !== undefined) return { alive: itself.state !== 'gone', aliveAt }
      // The server was started again.
      if (nodes.some(other => other.name === node && other.state !== 'gone')) return { alive: false, aliveAt }
    }
    return { alive: clock.nowUs() - aliveAt < silentUsMax, aliveAt }
  }

  async #look (): Promise<void> {
    const { store, bootId, node, clock, log, membership } = this.#options
    try {
      const boots = await store.presenceBoots()
      const own = boots.find(boot => boot.bootId === bootId)
      const wasSwept = this.#said && own?.swept !== 'no'
      const alive = { bootId, node, aliveAt: clock.nowUs() }
      await store.putPresenceBoot(this.#said && !wasSwept ? alive : { ...alive, swept: 'no' })
      this.#said = true
      this.#boots = new Map(boots.filter(boot => boot.bootId !== bootId).map(boot => [boot.bootId, boot]))
      await this.#dropOld()
      const timesNeeded = membership === null ? 1 : timesDeadMin
      this.#onLook(this.#dead().filter(boot => (this.#timesDead.get(boot.bootId) ?? 0) >= timesNeeded), wasSwept)
    } catch (error) {
      this.#timesDead.clear()
      log.debug({ error: (error as Error).message }, 'which servers live could not be asked; what was known stays')
    }
  }

  /** Those that are dead and not swept, counted. */
  #dead (): PresenceBoot[] {
    const dead = [...this.#boots.values()].filter(boot => boot.swept !== 'yes' && !this.verdict(boot.bootId, boot.node).alive)
    this.#timesDead = new Map(dead.map(({ bootId }) => [bootId, (this.#timesDead.get(bootId) ?? 0) + 1]))
    return dead
  }

  async #dropOld (): Promise<void> {
    const beforeUs = this.#options.clock.nowUs() - sweptKeptUs
    for (const { bootId, swept, aliveAt } of this.#boots.values()) {
      if (swept === 'yes' && aliveAt < beforeUs) await this.#options.store.deletePresenceBoot(bootId)
    }
  }
}
