/**
 * Evaluates alarm rules: edges of metrics from the packers, of reported values and presence from their own watch, and the time that goes
 * by. One state machine for a rule and a device (alarm-machine.ts), written by alarm-writer.ts.
 *
 * What a device's alarm depends on survives a crash: alarms and streaks that go on are documents; slices whose edges were not written are
 * packed again. What is only remembered is the event time that was evaluated last of quiet devices: after a crash a late point may be
 * taken for a new one. Time is judged by what has been evaluated (alarm-tap.ts), and not before `startGraceMs` after the start.
 *
 * Bounded: `pairsMax` rules and devices are remembered; quiet ones are forgotten first.
 */
import type { Clock } from '../core/clock.js'
import { inParallel } from '../core/in-parallel.js'
import type { Log } from '../core/log.js'
import type { Side } from '../core/threshold.js'
import type { DocumentStore } from '../store/document-store.js'
import type { EventLog } from '../store/event-log.js'
import type { RegistryStore } from '../store/registry.js'
import type { AlarmRule, MetricViolation, RuleEdges } from '../../workers/watch-protocol.js'
import { afterEdges, afterSilence, isPending, type Edge } from './alarm-machine.js'
import { AlarmTap, type PackingPool } from './alarm-tap.js'
import { AlarmWriter } from './alarm-writer.js'
import { NoDataWatch } from './no-data-watch.js'
import type { Pair, RuleState } from './pair.js'
import { RuleStates } from './rule-states.js'
import type { RuleService } from './rule-service.js'

export interface AlarmEngineOptions {
  readonly documents: DocumentStore
  readonly events: Pick<EventLog, 'appendEvents'>
  readonly registry: Pick<RegistryStore, 'getDevice'>
  readonly rules: RuleService
  readonly clock: Clock
  readonly log: Log
  /** Of this node; stays the same over restarts. */
  readonly node: string
  /** Other nodes write alarms too. */
  readonly shared: boolean
  /** Told of violations of device models that the packers found. */
  readonly violations?: (violations: readonly MetricViolation[]) => void
  /** Default 1,000. */
  readonly tickMs?: number
  /** Default 10,000. */
  readonly startGraceMs?: number
  /** How long what other nodes wrote may go unseen; default 5,000. */
  readonly leaseMs?: number
  /** Default 500,000. */
  readonly pairsMax?: number
  readonly activeMax?: number
}

const writesAtOnce = 64

export class AlarmEngine {
  readonly #options: AlarmEngineOptions
  readonly #states: RuleStates
  readonly #noData: NoDataWatch
  readonly #pending = new Set<Pair>()
  readonly writer: AlarmWriter
  readonly tap: AlarmTap
  #startedUs = 0
  #timer: NodeJS.Timeout | null = null
  #ticking: Promise<void> | null = null
  #closing = false
  readonly stats = { late: 0, ticks: 0, tickFailures: 0 }

  constructor (options: AlarmEngineOptions) {
    this.#options = options
    const { documents, events, clock, log, shared, leaseMs = 5000, pairsMax = 500_000 } = options
    this.writer = new AlarmWriter({
      documents, events, clock, log, mayRaise: async pair => await this.#mayRaise(pair), ...options.activeMax === undefined ? {} : { activeMax: options.activeMax }
    })
    this.tap = new AlarmTap({
      clock, take: async (edges, stampUs) => { await this.take(edges, stampUs) }, violations: violations => { options.violations?.(violations) }
    })
    this.#states = new RuleStates({ documents, writer: this.writer, clock, log, leaseMs: shared ? leaseMs : Infinity, pairsMax, loaded: state => { this.#loaded(state) } })
    this.#noData = new NoDataWatch({
      documents,
      clock,
      node: options.node,
      shared,
      pairOf: (state, device) => this.#states.pairOf(state, device),
      advance: async (pair, edges, stampUs) => { await this.#advance(pair, edges, stampUs) },
      raise: async (pair, edges, untilUs) => { await this.#raiseSilent(pair, edges, untilUs) }
    })
  }

  /** Rules and devices that are remembered, those forgotten since the start, and alarms that the event log still has to be told of. */
  get sizes (): { readonly pairs: number, readonly forgotten: number, readonly pending: number, readonly untold: number } {
    return { pairs: this.#states.pairs, forgotten: this.#states.forgotten, pending: this.#pending.size, untold: this.writer.untold }
  }

  /** The pool as the packer uses it. */
  on (pool: PackingPool): PackingPool { return this.tap.on(pool) }

  /** Reads alarms and streaks that go on, and tells what was not told. The store must answer. */
  async open (): Promise<void> {
    this.#startedUs = this.#options.clock.nowUs()
    await this.#follow()
    this.#timer = setInterval(() => { this.#begin() }, this.#options.tickMs ?? 1000).unref()
  }

  async close (): Promise<void> {
    this.#closing = true
    if (this.#timer !== null) clearInterval(this.#timer)
    await this.#ticking
    await this.#noData.save(true).catch((error: Error) => { this.#options.log.warn({ error: error.message }, 'what devices were heard last could not be written down') })
    await this.writer.tidy().catch(() => {})
  }

  /** Durable when it resolves. @param stampUs accept stamp that all of it was accepted before */
  async take (edges: readonly RuleEdges[], stampUs: number): Promise<void> {
    const slow: { pair: Pair, edges: readonly Edge[] }[] = []
    for (const group of edges) {
      const state = await this.#states.of(group.tenant, group.rule)
      if (state === null) continue
      if (state.rule.noData !== null) {
        await this.#noData.heard(state, group.devices, stampUs)
        continue
      }
      for (let at = 0; at < group.devices.length; at++) {
        const pair = this.#states.pairOf(state, group.devices[at])
        const own = edgesOf(group, at)
        if (own[own.length - 1].ts <= pair.track.lastTs) { this.stats.late++; continue }
        if (this.writer.quick(pair, track => afterEdges(track, own, state.durationUs))) this.#evaluated(pair, stampUs)
        else slow.push({ pair, edges: own })
      }
    }
    await inParallel(slow, async ({ pair, edges: own }) => { await this.#advance(pair, own, stampUs) }, writesAtOnce)
  }

  /** Edges of one device, from whatever source. Durable when it resolves. */
  async note (tenant: string, rule: AlarmRule, device: string, edges: readonly Edge[], stampUs: number): Promise<void> {
    const state = await this.#states.of(tenant, rule)
    if (state !== null) await this.#advance(this.#states.pairOf(state, device), edges, stampUs)
  }

  /** A rule was written, or deleted (null): alarms of its other versions are over. */
  async ruleChanged (tenant: string, id: string, rule: AlarmRule | null): Promise<void> {
    for (const pair of this.#states.drop(tenant, id)?.pairs.values() ?? []) this.#pending.delete(pair)
    await this.#states.retire(tenant, id, rule)
    if (rule === null) await this.#noData.forget(tenant, id)
    else if (rule.enabled) await this.#states.of(tenant, rule)
  }

  /** The alarm of a rule and a device as it is stored; null: there is none. */
  async pairFor (tenant: string, rule: string, device: string): Promise<Pair | null> {
    return await this.#states.pairFor(tenant, rule, device)
  }

  async #advance (pair: Pair, edges: readonly Edge[], stampUs: number): Promise<void> {
    await this.writer.advance(pair, track => afterEdges(track, edges, pair.state.durationUs))
    this.#evaluated(pair, stampUs)
  }

  async #raiseSilent (pair: Pair, edges: readonly Edge[], untilUs: number): Promise<void> {
    await this.writer.advance(pair, track => {
      const begun = afterEdges(track, edges, pair.state.durationUs)
      const after = afterSilence(begun.track, untilUs, pair.state.durationUs)
      return { track: after.track, steps: [...begun.steps, ...after.steps] }
    })
  }

  #evaluated (pair: Pair, stampUs: number): void {
    pair.arrivedAt = Math.max(pair.arrivedAt, stampUs)
    this.#notePending(pair)
  }

  #notePending (pair: Pair): void {
    if (pair.state.rule.noData === null && isPending(pair.track) && !pair.state.over) this.#pending.add(pair)
    else this.#pending.delete(pair)
  }

  #loaded (state: RuleState): void {
    for (const pair of state.pairs.values()) this.#notePending(pair)
  }

  async #mayRaise (pair: Pair): Promise<boolean> {
    const { rules, registry } = this.#options
    const { rule } = pair.state
    const current = await rules.get(pair.tenant, rule.id)
    if (current === null || current.stamp !== rule.stamp || !current.enabled) {
      pair.state.over = true
      return false
    }
    return await registry.getDevice(pair.tenant, pair.device) !== null
  }

  #begin (): void {
    if (this.#closing) return
    this.#ticking ??= this.tick().catch((error: Error) => {
      this.stats.tickFailures++
      this.#options.log.warn({ error: error.message }, 'alarms could not be looked after; it is tried again')
    }).finally(() => { this.#ticking = null })
  }

  /** What time alone does. Public for tests. */
  async tick (): Promise<void> {
    this.stats.ticks++
    await this.writer.tidy()
    await this.#follow()
    const nowUs = this.#options.clock.nowUs()
    if (nowUs - this.#startedUs < (this.#options.startGraceMs ?? 10_000) * 1000) return
    const judgedUs = this.tap.evaluatedTo()
    const due: { pair: Pair, untilUs: number }[] = []
    for (const pair of this.#pending) {
      const { track, state, arrivedAt } = pair
      const untilUs = track.lastTs + Math.max(0, judgedUs - arrivedAt)
      if (state.over || !isPending(track)) this.#pending.delete(pair)
      else if (untilUs >= track.since + state.durationUs) due.push({ pair, untilUs })
    }
    await inParallel(due, async ({ pair, untilUs }) => {
      await this.writer.advance(pair, track => afterSilence(track, untilUs, pair.state.durationUs))
      this.#notePending(pair)
    }, writesAtOnce)
    await this.#noData.judge(judgedUs, this.#startedUs)
    await this.#noData.save(false)
  }

  /** Rules that were written elsewhere, and those that nothing has come for since the start. */
  async #follow (): Promise<void> {
    const { rules } = this.#options
    for (const tenant of await this.#states.tenants(rules)) {
      const current = await rules.all(tenant)
      for (const rule of current) {
        if (!rule.enabled) continue
        const state = await this.#states.of(tenant, rule)
        if (state !== null && state.rule.noData !== null) await this.#noData.watch(state)
      }
      await this.#states.retireOthers(tenant, current)
    }
  }
}

function edgesOf ({ starts, ts, sides, values }: RuleEdges, at: number): Edge[] {
  const edges: Edge[] = []
  for (let i = starts[at]; i < starts[at + 1]; i++) edges.push({ ts: ts[i], side: sides[i] as Side, value: values[i] })
  return edges
}
