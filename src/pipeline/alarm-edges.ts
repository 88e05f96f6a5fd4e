/**
 * What the points of a slice say to alarm rules: for every rule and device the first point, every change of side (beyond the limit,
 * between, clear) and the last point, in order of event time. Points stay here; only these edges leave the worker.
 *
 * Of several values for one time the one accepted last counts. Bounded: `edgesMax` of a rule and device in a slice; further changes are
 * left out and counted, the last point stays.
 */
import type { Value } from '../core/reading.js'
import { inScope, sideOf, type Side } from '../core/threshold.js'
import type { AlarmRule, RuleEdges } from '../../workers/watch-protocol.js'
import { valueAt } from './metric-check.js'
import type { SliceTable } from './slice-table.js'
import type { TenantRules, WatchedDevice } from './watch-lookup.js'

const edgesMax = 64

/** Gathers the edges of one rule over the devices of a slice. */
class EdgeColumns {
  readonly devices: string[] = []
  readonly starts: number[] = []
  readonly ts: number[] = []
  readonly sides: number[] = []
  readonly values: Value[] = []
  dropped = 0
  #began = 0
  #ts = -1
  #side: Side = 0
  #value: Value = 0
  touched = false

  /** A point of the device that is being looked at; ascending by time. */
  add (ts: number, side: Side, value: Value): void {
    if (this.#ts !== -1 && ts !== this.#ts) this.#commit(false)
    this.#ts = ts
    this.#side = side
    this.#value = value
    this.touched = true
  }

  endDevice (device: string): void {
    if (!this.touched) return
    if (this.#ts !== -1) this.#commit(true)
    this.devices.push(device)
    this.starts.push(this.#began)
    this.#began = this.ts.length
    this.#ts = -1
    this.touched = false
  }

  #commit (last: boolean): void {
    const { length } = this.ts
    const changed = length === this.#began || this.sides[length - 1] !== this.#side
    if (changed && !last && length - this.#began >= edgesMax - 1) {
      this.dropped++
      return
    }
    if (!changed && !last) return
    this.ts.push(this.#ts)
    this.sides.push(this.#side)
    this.values.push(this.#value)
  }
}

interface ShapeRule { readonly at: number, readonly rule: AlarmRule, readonly columns: EdgeColumns }

/** One tenant in one slice. */
export class TenantEdges {
  readonly #tenant: string
  readonly #rules: TenantRules
  readonly #columns = new Map<AlarmRule, EdgeColumns>()
  readonly #byShape = new Map<number, readonly ShapeRule[]>()

  constructor (tenant: string, rules: TenantRules) {
    this.#tenant = tenant
    this.#rules = rules
    for (const rule of rules.all) this.#columns.set(rule, new EdgeColumns())
  }

  /** The rows order[from..to) of one device, ascending by event time. @param known null where no rule asks for type or tags */
  look (table: SliceTable, order: Int32Array, from: number, to: number, device: string, known: WatchedDevice | null): void {
    const scoped = { id: device, type: known?.type ?? '', tags: known?.tags }
    const out = new Set<AlarmRule>()
    for (const rule of this.#rules.all) if (rule.scope !== null && !inScope(rule.scope, scoped)) out.add(rule)
    if (out.size === this.#rules.all.length) return
    for (let i = from; i < to; i++) {
      const row = order[i]
      for (const { at, rule, columns } of this.#rulesOf(table, table.rowShape[row])) {
        if (out.size > 0 && out.has(rule)) continue
        if (rule.condition === null) { columns.touched = true; continue }
        const value = valueAt(table, row, at)
        const side = sideOf(rule.condition, value)
        if (side !== null) columns.add(table.rowTs[row], side, value)
      }
    }
    for (const columns of this.#columns.values()) columns.endDevice(device)
  }

  result (): { readonly edges: RuleEdges[], readonly dropped: number } {
    const edges: RuleEdges[] = []
    let dropped = 0
    for (const [rule, { devices, starts, ts, sides, values, dropped: left }] of this.#columns) {
      dropped += left
      if (devices.length > 0) edges.push({ tenant: this.#tenant, rule, devices, starts: [...starts, ts.length], ts, sides, values })
    }
    return { edges, dropped }
  }

  #rulesOf (table: SliceTable, shapeId: number): readonly ShapeRule[] {
    let found = this.#byShape.get(shapeId)
    if (found === undefined) {
      const list: ShapeRule[] = []
      table.shapes[shapeId].metrics.forEach((id, at) => {
        for (const rule of this.#rules.byMetric.get(table.metrics[id]) ?? []) list.push({ at, rule, columns: this.#columns.get(rule) as EdgeColumns })
      })
      for (const rule of this.#rules.ofAny) list.push({ at: 0, rule, columns: this.#columns.get(rule) as EdgeColumns })
      this.#byShape.set(shapeId, found = list)
    }
    return found
  }
}
