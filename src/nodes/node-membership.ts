/**
 * This server as one of several (DESIGN 3.8): says every second that it lives, learns of the others, pushes its journal's stamps
 * past theirs, and measures its clock against the cluster's.
 *
 * Promises: what is accepted here after a beat is stamped above everything the others had accepted before theirs, as far as
 * their clocks can be believed (`stampAheadUsMax`); a node whose clock is off is not ready, and moves nobody's stamps. While
 * the store of nodes is away everything known stays as it was: no node becomes unready for that.
 *
 * Bounded: `nodesMax` nodes, one beat in flight.
 */
import { nodeLeaseMs, stampAheadUsMax, type Clock } from '../core/clock.js'
import type { Log } from '../core/log.js'
import type { BeatAnswer, NodeSeen, NodeStore } from '../store/node-store.js'
import { ClusterClock } from './cluster-clock.js'

export interface NodeMembershipOptions {
  readonly name: string
  /** Random, new at every start. */
  readonly bootId: string
  readonly journal: {
    readonly journalId: string
    readonly stampLast: number
    observeStamp(stampUs: number): void
  }
  readonly store: NodeStore
  readonly clock: Clock
  readonly log: Log
  /** Default 1,000. */
  readonly beatMs?: number
}

export interface NodeView {
  readonly name: string
  readonly bootId: string
  readonly journalId: string
  /** `live`: heard of within the lease. `clock-off`: live, but not to be believed. `gone`: silent for longer. */
  readonly state: 'live' | 'clock-off' | 'gone'
  /** Wall clock of the last beat, µs; 0 for this node before its first. */
  readonly lastSeenUs: number
  readonly clockOffsetMs: number | null
  /** How far its stamps ran ahead of its own wall clock, ms. */
  readonly stampAheadMs: number
  readonly startedAtUs: number
  readonly self: boolean
}

/** Samples of the clock that are taken one after the other at the start, so that a wrong clock shows at once. */
const samplesAtStart = 5

export class NodeMembership {
  readonly #options: NodeMembershipOptions
  readonly #clock = new ClusterClock()
  readonly #startedAtUs: number
  #seen: readonly NodeSeen[] = []
  #timer: NodeJS.Timeout | null = null
  #beating: Promise<void> | null = null
  #beats = 0
  #answeredAtMs = -Infinity
  #conflict: string | null = null
  #verdict: ClusterClock['verdict'] = 'unknown'
  #distrusted = new Set<string>()
  readonly stats = { beats: 0, beatFailures: 0, stampsObserved: 0, stampsDistrusted: 0 }

  constructor (options: NodeMembershipOptions) {
    this.#options = options
    this.#startedAtUs = options.clock.nowUs()
  }

  /** The first beats; a store that does not answer is tried again every second and holds up no start. */
  async open (): Promise<void> {
    for (let i = 0; i < samplesAtStart; i++) await this.#beat()
    this.#timer = setInterval(() => { this.#beating ??= this.#beat().finally(() => { this.#beating = null }) }, this.#options.beatMs ?? 1000)
  }

  /** Says goodbye, so that the others need not wait for the lease. */
  async close (): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer)
    await this.#beating
    const { store, name, bootId } = this.#options
    await store.leave(name, bootId).catch(() => { /* The lease says so in a few seconds. */ })
  }

  /** Why this node is not ready; empty where it is. */
  reasons (): string[] {
    return [this.#clock.reason, this.#conflict].filter(reason => reason !== null)
  }

  /** Own wall clock minus the cluster's, ms; null while it was never measured. */
  get clockOffsetMs (): number | null {
    return this.#clock.offsetUs === null ? null : this.#clock.offsetUs / 1000
  }

  /** Since the last beat that was answered, ms; Infinity before the first. What `list` says is as old as that. */
  get answerAgeMs (): number { return this.#options.clock.monotonicMs() - this.#answeredAtMs }

  /** All nodes, in order of name. As old as the last beat that was answered. */
  list (): NodeView[] {
    const { name, bootId } = this.#options
    return this.#seen.map((node): NodeView => ({
      name: node.name,
      bootId: node.bootId,
      journalId: node.journalId,
      state: node.silentMs > nodeLeaseMs ? 'gone' : node.clock === 'off' ? 'clock-off' : 'live',
      lastSeenUs: node.wallUs,
      clockOffsetMs: node.clockOffsetMs,
      stampAheadMs: Math.max(0, (node.stampLast - node.wallUs) / 1000),
      startedAtUs: node.startedAtUs,
      self: node.name === name && node.bootId === bootId
    })).sort((a, b) => a.name < b.name ? -1 : 1)
  }

  async #beat (): Promise<void> {
    const { store, clock, journal, name, bootId, log } = this.#options
    const askedUs = clock.nowUs()
    const { offsetUs, verdict } = this.#clock
    let answer: BeatAnswer
    try {
      answer = await store.beat({
        name, bootId, journalId: journal.journalId, stampLast: journal.stampLast, wallUs: askedUs, clockOffsetMs: offsetUs === null ? null : offsetUs / 1000, clock: verdict, startedAtUs: this.#startedAtUs
      })
    } catch (error) {
      this.stats.beatFailures++
      log.debug({ error: (error as Error).message }, 'the other nodes could not be asked; what was known of them stays')
      return
    }
    this.stats.beats++
    this.#answeredAtMs = clock.monotonicMs()
    this.#clock.add(askedUs, clock.nowUs(), answer.clusterUs)
    this.#seen = answer.nodes
    this.#noteVerdict()
    this.#noteConflict(answer)
    this.#beats++
    for (const node of answer.nodes) if (node.bootId !== bootId) this.#follow(node)
  }

  /** Pushes the journal past what the node had accepted, where that can be believed. */
  #follow (node: NodeSeen): void {
    const { clock, journal, log } = this.#options
    if (node.silentMs > nodeLeaseMs || node.clock !== 'ok') return
    // By the cluster's clock where it is known: a node that is behind must believe the others more than itself.
    const nowUs = clock.nowUs() - (this.#clock.offsetUs ?? 0)
    if (node.stampLast > nowUs + stampAheadUsMax) {
      this.stats.stampsDistrusted++
      if (!this.#distrusted.has(node.name)) {
        this.#distrusted.add(node.name)
        log.warn({ node: node.name, aheadMs: Math.round((node.stampLast - nowUs) / 1000) }, 'the stamps of another node run too far ahead to be followed; what it accepts wins over what is accepted here meanwhile')
      }
      return
    }
    this.#distrusted.delete(node.name)
    if (node.stampLast > journal.stampLast) {
      this.stats.stampsObserved++
      journal.observeStamp(node.stampLast)
    }
  }

  #noteVerdict (): void {
    const { verdict, reason } = this.#clock
    if (verdict === this.#verdict) return
    const { log } = this.#options
    if (reason !== null) log.error({ clockOffsetMs: this.clockOffsetMs }, reason)
    else if (this.#verdict === 'off') log.info({ clockOffsetMs: this.clockOffsetMs }, 'the clock of this machine is right again')
    this.#verdict = verdict
  }

  /** Two servers under one name, or on copies of one journal, would overwrite each other's rows. */
  #noteConflict ({ replacedBootId, nodes }: BeatAnswer): void {
    const { name, bootId, journal, log } = this.#options
    // The first beat of a boot replaces the one before it; later ones replace their own.
    const sameName = this.#beats > 0 && replacedBootId !== null && replacedBootId !== bootId
    const twin = nodes.find(node => node.bootId !== bootId && node.journalId === journal.journalId && node.silentMs <= nodeLeaseMs)
    const conflict = sameName
      ? `another running server has the node name '${name}'; give each its own TWINFOLD_NODE`
      : twin !== undefined && this.#beats >= samplesAtStart
        ? `node '${twin.name}' runs on a journal with the id of this one (${journal.journalId}): a data directory was copied; stop one of the two, its rows overwrite the other's`
        : null
    if (conflict !== null && conflict !== this.#conflict) log.error({ node: name }, conflict)
    this.#conflict = conflict
  }
}
