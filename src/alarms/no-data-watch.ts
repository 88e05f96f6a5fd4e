/**
 * Watches for silence. A device is watched from its first point on (one that the rule names, from the rule on), by the accept stamps of
 * the slices that it was in. Nothing is raised before a whole period has gone by since the start of the server or since the device was
 * heard last, whichever is later: what devices sent while the server was away is still under way then.
 *
 * Where several nodes share the store, each writes down whom it has heard, and reads what the others have before it calls a device
 * silent; that takes `sharedLagUs` more.
 */
import type { Clock } from '../core/clock.js'
import { inParallel } from '../core/in-parallel.js'
import { Side } from '../core/threshold.js'
import type { DocumentStore } from '../store/document-store.js'
import { isOpen, type Edge } from './alarm-machine.js'
import type { Pair, RuleState } from './pair.js'
import { SeenTable, seenRulePrefix } from './seen-table.js'

const saveMs = 30_000
const sharedLagUs = 45e6
const reloadMs = 15_000
const raisedAtOnce = 1000

export interface NoDataWatchOptions {
  readonly documents: DocumentStore
  readonly clock: Clock
  readonly node: string
  readonly shared: boolean
  readonly pairOf: (state: RuleState, device: string) => Pair
  readonly advance: (pair: Pair, edges: readonly Edge[], stampUs: number) => Promise<void>
  readonly raise: (pair: Pair, edges: readonly Edge[], untilUs: number) => Promise<void>
}

interface Watched { readonly table: SeenTable, readonly loaded: Promise<void>, loadedMs: number }

export class NoDataWatch {
  readonly #options: NoDataWatchOptions
  readonly #tables = new Map<RuleState, Watched>()
  #savedMs: number

  constructor (options: NoDataWatchOptions) {
    this.#options = options
    this.#savedMs = options.clock.monotonicMs()
  }

  async watch (state: RuleState): Promise<SeenTable> {
    let watched = this.#tables.get(state)
    if (watched === undefined) {
      const { documents, node, clock } = this.#options
      const { rule, tenant } = state
      const table = new SeenTable({ documents, tenant, rule: rule.id, ruleStamp: rule.stamp, node })
      const loaded = table.load().then(() => { if (rule.scope !== null && 'device' in rule.scope) table.note(rule.scope.device, rule.stamp) })
      this.#tables.set(state, watched = { table, loaded, loadedMs: clock.monotonicMs() })
    }
    try {
      await watched.loaded
    } catch (error) {
      this.#tables.delete(state)
      throw error
    }
    return watched.table
  }

  /** They sent something in a slice of that stamp. */
  async heard (state: RuleState, devices: readonly string[], stampUs: number): Promise<void> {
    const table = await this.watch(state)
    const back: Pair[] = []
    for (const device of devices) {
      table.note(device, stampUs)
      const pair = state.pairs.get(device)
      if (pair !== undefined && isOpen(pair.track)) back.push(pair)
    }
    await inParallel(back, async pair => { await this.#options.advance(pair, [{ ts: stampUs, side: Side.clear, value: '' }], stampUs) })
  }

  /** @param judgedUs everything accepted before has been seen */
  async judge (judgedUs: number, startedUs: number): Promise<void> {
    for (const [state, watched] of this.#tables) {
      if (state.over) {
        this.#tables.delete(state)
        continue
      }
      const beforeUs = judgedUs - (state.rule.noData?.seconds ?? 0) * 1e6 - (this.#options.shared ? sharedLagUs : 0)
      if (beforeUs < startedUs) continue
      await watched.loaded
      await this.#refresh(watched)
      await inParallel(watched.table.takeSilentSince(beforeUs, raisedAtOnce), async ({ device, stampUs }) => {
        try {
          await this.#options.raise(this.#options.pairOf(state, device), [{ ts: stampUs + 1, side: Side.beyond, value: '' }], judgedUs)
        } catch (error) {
          watched.table.note(device, stampUs)
          throw error
        }
      })
    }
  }

  async #refresh (watched: Watched): Promise<void> {
    if (!this.#options.shared) return
    const nowMs = this.#options.clock.monotonicMs()
    if (nowMs - watched.loadedMs < reloadMs) return
    watched.loadedMs = nowMs
    await watched.table.load()
  }

  /** Writes down whom this node has heard. */
  async save (now: boolean): Promise<void> {
    const nowMs = this.#options.clock.monotonicMs()
    if (!now && nowMs - this.#savedMs < saveMs) return
    this.#savedMs = nowMs
    for (const [state, { table }] of this.#tables) if (!state.over) await table.save()
  }

  /** The rule is gone. */
  async forget (tenant: string, rule: string): Promise<void> {
    const { documents } = this.#options
    const { items } = await documents.listDocuments('alarm', tenant, seenRulePrefix(rule), null, 1000)
    await inParallel(items, async ({ id, revision }) => { await documents.deleteDocument('alarm', tenant, id, revision) })
  }
}
