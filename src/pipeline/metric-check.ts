/**
 * Holds the points of a slice against the tables of metrics of device models. A shape says the types, so only ranges are looked at per
 * reading, and nothing at all where a shape's metrics fit and have no ranges.
 *
 * Bounded: `kindsMax` (type, metric, kind) are told of a slice; what is beyond is counted under the metric ''.
 */
import type { Value } from '../core/reading.js'
import type { MetricViolation, ViolationKind } from '../../workers/watch-protocol.js'
import { PointType, type Shape, type SliceTable } from './slice-table.js'
import type { WatchedMetrics } from './watch-lookup.js'

const kindsMax = 1000
const typeNames = ['number', 'boolean', 'string'] as const

/** What to look at in readings of one shape. */
interface ShapeCheck {
  /** Points that are wrong whatever their value. */
  readonly always: readonly { readonly at: number, readonly metric: string, readonly kind: ViolationKind }[]
  readonly ranges: readonly { readonly at: number, readonly metric: string, readonly min: number, readonly max: number }[]
}

const nothingToCheck: ShapeCheck = { always: [], ranges: [] }

interface Found { count: number, row: number, at: number, readonly metric: string, readonly kind: ViolationKind, readonly tenant: string, readonly type: string }

export class MetricCheck {
  readonly #checks = new WeakMap<WatchedMetrics, Map<number, ShapeCheck>>()
  #found = new Map<string, Found>()
  #checksOf = new WeakMap<WatchedMetrics, number>()

  begin (): void { this.#found = new Map() }

  /** The rows order[from..to) of one device. */
  check (table: SliceTable, order: Int32Array, from: number, to: number, tenant: string, type: string, model: WatchedMetrics): void {
    const checks = this.#shapesOf(model, table.epoch)
    for (let i = from; i < to; i++) {
      const row = order[i]
      const shape = table.rowShape[row]
      let check = checks.get(shape)
      if (check === undefined) checks.set(shape, check = checkOf(table, table.shapes[shape], model))
      if (check === nothingToCheck) continue
      for (const { at, metric, kind } of check.always) this.#note(tenant, type, metric, kind, row, at)
      for (const { at, metric, min, max } of check.ranges) {
        const value = table.pointValue[table.rowPoint[row] + at]
        if (value < min || value > max || Number.isNaN(value)) this.#note(tenant, type, metric, 'range', row, at)
      }
    }
  }

  end (table: SliceTable): MetricViolation[] {
    return [...this.#found.values()].map(({ count, row, at, metric, kind, tenant, type }) => {
      const key = table.devices[table.rowDevice[row]]
      return { tenant, type, metric, kind, count, device: key.slice(key.indexOf('\0') + 1), value: valueAt(table, row, at), ts: table.rowTs[row] }
    })
  }

  #shapesOf (model: WatchedMetrics, epoch: number): Map<number, ShapeCheck> {
    let checks = this.#checks.get(model)
    if (checks === undefined || this.#checksOf.get(model) !== epoch) {
      this.#checks.set(model, checks = new Map())
      this.#checksOf.set(model, epoch)
    }
    return checks
  }

  #note (tenant: string, type: string, metric: string, kind: ViolationKind, row: number, at: number): void {
    const key = `${tenant}\0${type}\0${kind}\0${metric}`
    let found = this.#found.get(key)
    if (found === undefined && this.#found.size >= kindsMax) found = this.#found.get(`${tenant}\0${type}\0${kind}\0`)
    if (found === undefined) {
      const name = this.#found.size < kindsMax ? metric : ''
      this.#found.set(name === metric ? key : `${tenant}\0${type}\0${kind}\0`, { count: 1, row, at, metric: name, kind, tenant, type })
      return
    }
    found.count++
    found.row = row
    found.at = at
  }
}

function checkOf (table: SliceTable, shape: Shape, { metrics, flagUnknown, flagViolation }: WatchedMetrics): ShapeCheck {
  const always: { at: number, metric: string, kind: ViolationKind }[] = []
  const ranges: { at: number, metric: string, min: number, max: number }[] = []
  shape.metrics.forEach((id, at) => {
    const metric = table.metrics[id]
    const spec = metrics.get(metric)
    if (spec === undefined) {
      if (flagUnknown) always.push({ at, metric, kind: 'unknown' })
    } else if (flagViolation) {
      if (spec.type !== typeNames[shape.types[at]]) always.push({ at, metric, kind: 'type' })
      else if (spec.min !== undefined || spec.max !== undefined) ranges.push({ at, metric, min: spec.min ?? -Infinity, max: spec.max ?? Infinity })
    }
  })
  return always.length === 0 && ranges.length === 0 ? nothingToCheck : { always, ranges }
}

/** The value of a point of a row. */
export function valueAt (table: SliceTable, row: number, at: number): Value {
  const value = table.pointValue[table.rowPoint[row] + at]
  const type = table.shapes[table.rowShape[row]].types[at]
  if (type === PointType.number) return value
  return type === PointType.boolean ? value !== 0 : table.strings[value]
}
