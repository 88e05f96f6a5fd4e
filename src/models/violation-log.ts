/**
 * Violations of device models as this node has seen them since its start: counts, counts of the last hours, the newest examples. A
 * slice that is packed again after a crash is counted again: these are numbers to look at, not a ledger.
 *
 * Bounded: `entriesPerTypeMax` (metric, kind) of a type and `typesMax` types; what is beyond is counted under the metric ''.
 */
import { usPerHour } from '../core/reading.js'
import type { Value } from '../core/reading.js'
import type { Clock } from '../core/clock.js'
import type { MetricViolation, ViolationKind } from '../../workers/watch-protocol.js'

const typesMax = 5000
const entriesPerTypeMax = 200
const hoursKept = 48
const examplesKept = 5
const exampleCharsMax = 200

export interface ViolationExample { readonly device: string, readonly value: Value, readonly ts: number, readonly at: number }

export interface ViolationCount {
  readonly metric: string
  readonly kind: ViolationKind
  readonly total: number
  /** Begin of the hour, µs, and what came in it; newest last. */
  readonly hours: readonly { readonly hour: number, readonly count: number }[]
  /** Newest first. */
  readonly examples: readonly ViolationExample[]
}

interface Entry { total: number, readonly hours: { hour: number, count: number }[], readonly examples: ViolationExample[], readonly metric: string, readonly kind: ViolationKind }

export class ViolationLog {
  readonly #clock: Clock
  readonly #types = new Map<string, Map<string, Entry>>()
  readonly stats = { type: 0, range: 0, unknown: 0, desired: 0, reported: 0 }
  readonly sinceUs: number

  constructor ({ clock }: { readonly clock: Clock }) {
    this.#clock = clock
    this.sinceUs = clock.nowUs()
  }

  note ({ tenant, type, metric, kind, count, device, value, ts }: MetricViolation): void {
    this.stats[kind] += count
    const entry = this.#entry(`${tenant}\0${type}`, metric, kind)
    if (entry === null) return
    const at = this.#clock.nowUs()
    const hour = Math.floor(at / usPerHour) * usPerHour
    entry.total += count
    const last = entry.hours[entry.hours.length - 1]
    if (last?.hour === hour) last.count += count
    else entry.hours.push({ hour, count })
    if (entry.hours.length > hoursKept) entry.hours.shift()
    entry.examples.unshift({ device, value: typeof value === 'string' ? value.slice(0, exampleCharsMax) : value, ts, at })
    if (entry.examples.length > examplesKept) entry.examples.pop()
  }

  noteAll (violations: readonly MetricViolation[]): void { for (const violation of violations) this.note(violation) }

  /** Most first. */
  of (tenant: string, type: string): readonly ViolationCount[] {
    const oldest = this.#clock.nowUs() - hoursKept * usPerHour
    return [...this.#types.get(`${tenant}\0${type}`)?.values() ?? []].sort((a, b) => b.total - a.total)
      .map(({ metric, kind, total, hours, examples }) => ({ metric, kind, total, hours: hours.filter(({ hour }) => hour > oldest), examples: [...examples] }))
  }

  /** The model is gone. */
  forget (tenant: string, type: string): void { this.#types.delete(`${tenant}\0${type}`) }

  /** null: there is no room for one more type. */
  #entry (typeKey: string, metric: string, kind: ViolationKind): Entry | null {
    let entries = this.#types.get(typeKey)
    if (entries === undefined) {
      if (this.#types.size >= typesMax) return null
      this.#types.set(typeKey, entries = new Map())
    }
    const known = entries.has(`${kind}\0${metric}`) || entries.size < entriesPerTypeMax
    const name = known ? metric : ''
    let entry = entries.get(`${kind}\0${name}`)
    if (entry === undefined) entries.set(`${kind}\0${name}`, entry = { total: 0, hours: [], examples: [], metric: name, kind })
    return entry
  }
}
