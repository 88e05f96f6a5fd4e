/**
 * The rules that are evaluated on this node, each with the devices that it knows of, and what is stored of them: read when a rule is
 * first met, and again after a lease where other nodes write too. Ends the alarms of versions of rules that are not in force any more,
 * and takes away what is long over.
 */
import type { Clock } from '../core/clock.js'
import { inParallel } from '../core/in-parallel.js'
import type { Log } from '../core/log.js'
import { Side } from '../core/threshold.js'
import type { DocumentStore, StoredDocument } from '../store/document-store.js'
import type { AlarmRule } from '../../workers/watch-protocol.js'
import { alarmId, type AlarmDocument, type StoredAlarm } from './alarm-document.js'
import { isOpen } from './alarm-machine.js'
import type { AlarmWriter } from './alarm-writer.js'
import { newPair, newRuleState, type Pair, type RuleState } from './pair.js'
import type { RuleService } from './rule-service.js'
import { seenPrefix } from './seen-table.js'

/** Cleared alarms are kept so long; what never became one, a day. */
export const clearedKeptUs = 30 * 86_400e6
const noneKeptUs = 86_400e6
const sweepMs = 3_600_000
const tenantsLeaseMs = 5000

export interface RuleStatesOptions {
  readonly documents: DocumentStore
  readonly writer: AlarmWriter
  readonly clock: Clock
  readonly log: Log
  /** How long what was read is taken for all there is; Infinity where this node alone writes. */
  readonly leaseMs: number
  readonly pairsMax: number
  /** Its documents were read. */
  readonly loaded: (state: RuleState) => void
}

export class RuleStates {
  readonly #options: RuleStatesOptions
  readonly #states = new Map<string, RuleState>()
  readonly #sweptMs = new Map<string, number>()
  pairs = 0
  forgotten = 0
  #tenantsMs = -Infinity

  constructor (options: RuleStatesOptions) { this.#options = options }

  /** null: a later version of the rule is known. */
  async of (tenant: string, rule: AlarmRule): Promise<RuleState | null> {
    const key = `${tenant}\0${rule.id}`
    let state = this.#states.get(key)
    if (state === undefined || state.rule.stamp < rule.stamp) {
      const before = state
      this.#states.set(key, state = newRuleState(tenant, rule))
      if (before !== undefined) {
        this.#end(before)
        await this.retire(tenant, rule.id, rule)
      }
    } else if (state.rule.stamp > rule.stamp || state.over) {
      return null
    }
    await this.#load(state)
    return state
  }

  /** It is not in force any more. Returns what was known of it. */
  drop (tenant: string, id: string): RuleState | null {
    const state = this.#states.get(`${tenant}\0${id}`)
    if (state === undefined) return null
    this.#end(state)
    this.#states.delete(`${tenant}\0${id}`)
    return state
  }

  /** A rule and a device; made where it was not met yet. Beyond the bound quiet ones of the rule are forgotten, longest known first. */
  pairOf (state: RuleState, device: string): Pair {
    let pair = state.pairs.get(device)
    if (pair === undefined) {
      if (this.pairs >= this.#options.pairsMax) this.#forgetQuiet(state)
      state.pairs.set(device, pair = newPair(state, device))
      this.pairs++
    }
    return pair
  }

  #forgetQuiet (state: RuleState): void {
    let left = 1000
    for (const [device, pair] of state.pairs) {
      if (left-- === 0) break
      if (isOpen(pair.track)) continue
      state.pairs.delete(device)
      this.pairs--
      this.forgotten++
    }
  }

  #end (state: RuleState): void {
    state.over = true
    this.pairs -= state.pairs.size
    this.#options.writer.uncount(state)
  }

  /** Tenants that have rules or alarms; none where they were asked for just now. */
  async tenants (rules: RuleService): Promise<readonly string[]> {
    const nowMs = this.#options.clock.monotonicMs()
    if (nowMs - this.#tenantsMs < tenantsLeaseMs) return []
    const tenants = [...new Set([...await rules.tenants(), ...await this.#options.documents.documentTenants('alarm')])]
    this.#tenantsMs = nowMs
    return tenants
  }

  /** An alarm as it is stored now; null: there is none. */
  async pairFor (tenant: string, rule: string, device: string): Promise<Pair | null> {
    const found = await this.#options.documents.getDocument('alarm', tenant, alarmId(rule, device))
    if (found === null) return null
    const stored = storedOf(found)
    const state = this.#states.get(`${tenant}\0${rule}`)
    const pair = state !== undefined && state.rule.stamp === stored.document.ruleStamp ? this.pairOf(state, device) : newPair(pastState(tenant, stored.document), device)
    this.#options.writer.found(pair, stored)
    return pair
  }

  /** Ends the alarms of earlier versions of the rule than the given one (null, or not enabled: of all). */
  async retire (tenant: string, id: string, rule: AlarmRule | null): Promise<void> {
    const stamp = rule !== null && rule.enabled ? rule.stamp : -1
    await this.#eachAlarm(tenant, `${id}~`, async found => { await this.#endPast(tenant, found, stamp) })
  }

  /** The same for all rules of a tenant, and takes away what is long over. Once an hour. */
  async retireOthers (tenant: string, rules: readonly AlarmRule[]): Promise<void> {
    const nowMs = this.#options.clock.monotonicMs()
    if (nowMs - (this.#sweptMs.get(tenant) ?? -Infinity) < sweepMs) return
    const stamps = new Map(rules.filter(({ enabled }) => enabled).map(({ id, stamp }) => [id, stamp]))
    await this.#eachAlarm(tenant, '', async found => {
      const { document } = storedOf(found)
      if (await this.#endPast(tenant, found, stamps.get(document.rule) ?? -1)) return
      const keptUs = document.state === 'none' ? noneKeptUs : clearedKeptUs
      if (document.state === 'active' || isOpen(document.track) || document.untold.length > 0 || document.changedAt > this.#options.clock.nowUs() - keptUs) return
      await this.#options.documents.deleteDocument('alarm', tenant, found.id, found.revision)
    })
    this.#sweptMs.set(tenant, nowMs)
  }

  /** True where it was of another version and had to be ended, or told. */
  async #endPast (tenant: string, found: StoredDocument, stamp: number): Promise<boolean> {
    const stored = storedOf(found)
    const { document } = stored
    if (document.ruleStamp === stamp || (stamp !== -1 && document.ruleStamp > stamp)) return false
    if (document.state !== 'active' && !isOpen(document.track) && document.untold.length === 0) return false
    const pair = newPair(pastState(tenant, document), document.device)
    this.#options.writer.found(pair, stored)
    await this.#options.writer.end(pair, 'rule_changed')
    return true
  }

  async #eachAlarm (tenant: string, prefix: string, action: (found: StoredDocument) => Promise<void>): Promise<void> {
    let cursor: string | null = null
    do {
      const page: Awaited<ReturnType<DocumentStore['listDocuments']>> = await this.#options.documents.listDocuments('alarm', tenant, prefix, cursor, 500)
      await inParallel(page.items.filter(({ id }) => !id.startsWith(seenPrefix)), action)
      cursor = page.next
    } while (cursor !== null)
  }

  async #load (state: RuleState): Promise<void> {
    if (this.#options.clock.monotonicMs() - state.loadedMs < this.#options.leaseMs) return
    state.loading ??= this.#read(state).finally(() => { state.loading = null })
    await state.loading
  }

  async #read (state: RuleState): Promise<void> {
    const { writer, clock, loaded } = this.#options
    const nowMs = clock.monotonicMs()
    const over: Pair[] = []
    await this.#eachAlarm(state.tenant, `${state.rule.id}~`, async found => {
      if (await this.#endPast(state.tenant, found, state.rule.stamp)) return
      const stored = storedOf(found)
      const pair = this.pairOf(state, stored.document.device)
      if ((pair.stored?.revision ?? 0) >= stored.revision) return
      writer.found(pair, stored)
      if (pair.track.active && pair.track.side === Side.clear) over.push(pair)
    })
    // Raised by another node, of a value that this one has seen go.
    await inParallel(over, async pair => { await writer.advance(pair, track => ({ track, steps: [] })) })
    state.loadedMs = nowMs
    loaded(state)
  }
}

function storedOf ({ body, revision }: StoredDocument): StoredAlarm {
  return { document: JSON.parse(body) as AlarmDocument, revision }
}

/** Of a version of a rule that is only known from an alarm. */
function pastState (tenant: string, { rule, ruleStamp, name, severity, message }: AlarmDocument): RuleState {
  const state = newRuleState(tenant, {
    id: rule, name, severity, message, enabled: true, scope: null, source: { metric: '' }, condition: null, durationSeconds: 0, noData: null, stamp: ruleStamp
  })
  state.counted = false
  return state
}
