/**
 * A device in a real store whose points are written in slices, sealed, merged and erased at will, beside a model that is
 * a list of points: what the windows of every answer are compared with.
 */
import { systemClock } from '../../src/core/clock.js'
import { usPerDay, usPerSecond, type Value } from '../../src/core/reading.js'
import { groupSlice, orderByDevice } from '../../src/pipeline/group.js'
import { SlabMerge } from '../../src/pipeline/merge-slabs.js'
import { SeenCache } from '../../src/pipeline/seen-cache.js'
import { SliceTable } from '../../src/pipeline/slice-table.js'
import { planLookup } from '../../src/pipeline/task-lookup.js'
import { QueryRunner } from '../../src/query/run-query.js'
import { sealBucket } from '../../src/sealing/seal-bucket.js'
import { defaultPlan, type Bucket, type PartitionPlan } from '../../src/series/partition-plan.js'
import { parseAggregate } from '../../src/series/steps/aggregates.js'
import { bordersOf } from '../../src/series/steps/step.js'
import { Zone } from '../../src/series/steps/zone.js'
import { nearestRank } from '../../src/series/tiers/index.js'
import type { ErasedPart } from '../../src/store/small-stores.js'
import type { Store } from '../../src/store/store.js'
import { tierClasses, tierRetentionDefault, type Tenant } from '../../src/tenancy/model.js'
import type { AggregateQuery, DeviceScope } from '../../workers/query-protocol.js'
import { fillTable, type SentReading } from '../pipeline/fill-table.js'

const journalId = '00000000000000aa'

export interface ModelPoint { readonly ts: number, readonly value: Value, readonly stamp: number }

/** The answer to an aggregate query, as JSON gives it; windows in µs. */
export interface Answer {
  readonly tier: string
  readonly edges?: string
  readonly tiers?: readonly { readonly tier: string, readonly from: number, readonly to: number }[]
  readonly from: number
  readonly to: number
  readonly windows: readonly number[]
  readonly series: readonly { readonly metric: string, readonly type: string, readonly agg: string, readonly error?: number, readonly values: readonly unknown[] }[]
}

export class World {
  readonly store: Store
  readonly tenant: string
  readonly device: string
  readonly plan: PartitionPlan
  readonly #runner: QueryRunner
  readonly #merge: SlabMerge
  readonly #points = new Map<string, ModelPoint>()
  readonly #erased: ErasedPart[] = []
  readonly #remembers: boolean
  #mark = 0
  #stamp: number
  #sequence = 0

  constructor (store: Store, { tenant, device = 'd', plan = defaultPlan, startStamp, remembers = true }: { tenant: string, device?: string, plan?: PartitionPlan, startStamp: number, remembers?: boolean }) {
    this.store = store
    this.tenant = tenant
    this.device = device
    this.plan = plan
    this.#remembers = remembers
    this.#stamp = startStamp
    this.#runner = new QueryRunner(store, { clock: systemClock })
    this.#merge = new SlabMerge({ store, plans: planLookup(store, { leaseMs: 1000, rememberedMax: 100 }), monotonicMs: () => 0, nowUs: () => 0 })
  }

  async open (): Promise<void> {
    await this.store.createTenant(this.#record)
    if (this.plan !== defaultPlan) await this.store.putPlanIfVersion(this.tenant, this.device, this.plan, 0)
  }

  get #record (): Tenant { return { id: this.tenant, name: '', createdAt: 0, retention: [{ sinceStamp: 0, days: 36_500 }], disabled: false } }

  scope (more: Partial<DeviceScope> = {}): DeviceScope {
    const classes = { '1m': tierClasses(this.#record, '1m'), '1h': tierClasses(this.#record, '1h'), '1d': tierClasses(this.#record, '1d') }
    return { tenant: this.tenant, device: this.device, retentionDays: [36_500], oldestTs: 0, tierClasses: classes, tierOldestTs: { '1m': 0, '1h': 0, '1d': 0 }, ...more }
  }

  /** One slice; points of it are remembered by the model. */
  async write (readings: readonly { readonly ts: number, readonly values: readonly (readonly [string, Value])[] }[], denseReadingsMin = 8): Promise<void> {
    const sent: SentReading[] = readings.map(({ ts, values }) => ({ device: this.device, ts, stamp: ++this.#stamp, values }))
    const table = new SliceTable()
    fillTable(table, this.tenant, sent)
    const { order, starts } = orderByDevice(table)
    this.#mark += 1000
    await this.store.raw.writeHead(groupSlice(table, order, starts, {
      slice: { journalId, mark: this.#mark }, stamp: this.#stamp, planOf: () => this.plan, retentionDaysOf: () => 36_500, seen: new SeenCache({ devicesMax: 10 }), denseReadingsMin
    }))
    if (!this.#remembers) return
    for (const { ts, stamp, values } of sent) for (const [metric, value] of values) this.#points.set(`${ts} ${metric}`, { ts, stamp, value })
  }

  async mergeSlabs (): Promise<void> {
    await this.#merge.merge({ kind: 'merge', journalId, before: this.#mark + 1, slabsMax: 100_000 })
  }

  async seal (bucket: Bucket, again = false): Promise<void> {
    const nowUs = tierRetentionDefault['1m'] * usPerDay
    const task = {
      kind: 'seal' as const, tenant: this.tenant, device: this.device, bucket, generation: { epoch: 1, sequence: ++this.#sequence },
      asOf: ++this.#stamp, nowUs, leaseEndUs: Infinity, growing: false, again, outbox: null
    }
    await sealBucket(task, { store: this.store, nowUs: () => nowUs, cpuMs: () => 0 })
  }

  /** Buckets that have head chunks. */
  async unsealed (fromTs: number, toTs: number): Promise<Bucket[]> {
    const spans = await this.store.raw.listHeadSpans(this.scope(), fromTs, toTs)
    return [...new Map(spans.map(({ bucket }) => [`${bucket.widthMinutes} ${bucket.start}`, bucket])).values()]
  }

  async erase (part: Omit<ErasedPart, 'stamp'>): Promise<void> {
    const erased = { ...part, stamp: ++this.#stamp }
    await this.store.putErasure({ tenant: this.tenant, device: this.device, ...erased })
    this.#erased.push(erased)
  }

  /** The metric's points in order of time. */
  points (metric: string): ModelPoint[] {
    const suffix = ` ${metric}`
    const live = ({ ts, stamp }: ModelPoint): boolean => !this.#erased.some(part =>
      stamp < part.stamp && (part.metric ?? metric) === metric && ts >= (part.fromTs ?? -Infinity) && ts < (part.toTs ?? Infinity))
    return [...this.#points].filter(([key]) => key.endsWith(suffix)).map(([, point]) => point).filter(live).sort((a, b) => a.ts - b.ts)
  }

  async ask (query: Omit<AggregateQuery, keyof DeviceScope | 'kind' | 'times' | 'valuesMax'> & { readonly valuesMax?: number }, scope: Partial<DeviceScope> = {}): Promise<Answer> {
    const result = await this.#runner.run({ kind: 'aggregate', ...this.scope(scope), times: 'ms', valuesMax: 1e6, ...query })
    const answer = JSON.parse(`{${new TextDecoder().decode(result.body)}}`) as Answer
    const us = (ms: number): number => Math.round(ms * 1000)
    return { ...answer, from: us(answer.from), to: us(answer.to), windows: answer.windows.map(us) }
  }

  /** What `ask` must answer, by `metric type agg`: values by window, from a walk over the points. */
  expected ({ wanted, step, zone, fromTs, toTs, nowTs }: Pick<AggregateQuery, 'wanted' | 'step' | 'zone' | 'fromTs' | 'toTs' | 'nowTs'>): Map<string, Map<number, unknown>> {
    const borders = bordersOf(step, new Zone(zone), fromTs, toTs)
    const answer = new Map<string, Map<number, unknown>>()
    for (const { metric, aggs } of wanted) {
      const all = this.points(metric as string)
      for (const type of ['number', 'boolean', 'string']) {
        const points = all.filter(({ value }) => typeof value === type)
        for (const agg of aggs) {
          const values = new Map<number, unknown>()
          for (let i = 0; i + 1 < borders.length; i++) {
            const from = firstFrom(points, borders[i])
            const near = points.slice(Math.max(0, from - 1), firstFrom(points, borders[i + 1]))
            const value = naive(near, agg, type, borders[i], borders[i + 1], nowTs)
            if (value !== undefined) values.set(borders[i], value)
          }
          if (values.size > 0) answer.set(`${metric} ${type} ${agg}`, values)
        }
      }
    }
    return answer
  }
}

/** Index of the first point not before a time. */
function firstFrom (points: readonly ModelPoint[], ts: number): number {
  let low = 0
  let high = points.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (points[middle].ts < ts) low = middle + 1
    else high = middle
  }
  return low
}

/** undefined: nothing there, or no aggregate of this type. */
function naive (points: readonly ModelPoint[], agg: string, type: string, from: number, to: number, nowTs: number): unknown {
  const inside = points.filter(({ ts }) => ts >= from && ts < to)
  if (inside.length === 0) return undefined
  const before = points.findLast(({ ts }) => ts < from)
  const walk = before === undefined ? inside : [before, ...inside]
  const end = Math.min(to, nowTs)
  /** Time each value is held inside the window. */
  const held = walk.map(({ ts, value }, i) => ({ value, us: Math.max(0, Math.max(from, walk[i + 1]?.ts ?? Math.max(end, ts)) - Math.max(from, ts)) }))
  switch (agg) {
    case 'count': return inside.length
    case 'first': return inside[0].value
    case 'last': return inside[inside.length - 1].value
  }
  if (type === 'number') return naiveNumber(inside.map(({ value }) => value as number), walk, held as { value: number, us: number }[], agg)
  const changes = walk.filter(({ value }, i) => i > 0 && value !== walk[i - 1].value).length
  switch (agg) {
    case 'changes': return changes
    case 'trues': return type === 'boolean' ? inside.filter(({ value }) => value === true).length : undefined
    case 'timeIn': {
      const us = new Map<unknown, number>()
      for (const one of held) if (one.us > 0) us.set(one.value, (us.get(one.value) ?? 0) + one.us)
      return type === 'boolean' ? (us.get(true) ?? 0) / usPerSecond : Object.fromEntries([...us].map(([value, time]) => [value, time / usPerSecond]))
    }
  }
  return undefined
}

function naiveNumber (values: readonly number[], walk: readonly ModelPoint[], held: readonly { value: number, us: number }[], agg: string): unknown {
  const sum = values.reduce((total, value) => total + value, 0)
  const mean = sum / values.length
  const delta = walk.slice(1).reduce((total, { value }, i) => total + ((value as number) < (walk[i].value as number) ? value as number : (value as number) - (walk[i].value as number)), 0)
  const walkUs = walk[walk.length - 1].ts - walk[0].ts
  const heldUs = held.reduce((total, { us }) => total + us, 0)
  switch (agg) {
    case 'sum': return sum
    case 'avg': return mean
    case 'min': return Math.min(...values)
    case 'max': return Math.max(...values)
    case 'stddev': return Math.sqrt(values.reduce((total, value) => total + (value - mean) ** 2, 0) / values.length)
    case 'delta': return delta
    case 'rate': return walkUs > 0 ? delta / (walkUs / usPerSecond) : null
    case 'twa': return heldUs > 0 ? held.reduce((total, { value, us }) => total + value * us, 0) / heldUs : values[values.length - 1]
  }
  const { q } = parseAggregate(agg) ?? {}
  return q === undefined ? undefined : [...values].sort((a, b) => a - b)[nearestRank(q, values.length) - 1]
}

/** Differences between an answer and what is expected; empty where they agree. */
export function differences (answer: Answer, expected: ReadonlyMap<string, ReadonlyMap<number, unknown>>): string[] {
  const found: string[] = []
  const seen = new Set<string>()
  const windows = new Set(answer.windows)
  for (const { metric, type, agg, error, values } of answer.series) {
    const key = `${metric} ${type} ${agg}`
    seen.add(key)
    const wanted = expected.get(key)
    answer.windows.forEach((window, i) => {
      if (!same(values[i], wanted?.get(window) ?? null, error)) found.push(`${key} at ${window}: ${JSON.stringify(values[i])} instead of ${JSON.stringify(wanted?.get(window))}`)
    })
  }
  for (const [key, values] of expected) {
    if (!seen.has(key)) found.push(`${key} is missing`)
    for (const window of values.keys()) if (!windows.has(window)) found.push(`${key}: window ${window} is missing`)
  }
  return found
}

function same (a: unknown, b: unknown, error?: number): boolean {
  if (typeof a === 'number' && typeof b === 'number') return Math.abs(a - b) <= (error ?? 0) * Math.abs(b) * 1.000001 + 1e-9 * Math.max(1, Math.abs(a), Math.abs(b))
  if (a !== null && b !== null && typeof a === 'object' && typeof b === 'object') {
    const keys = new Set([...Object.keys(a), ...Object.keys(b)])
    return [...keys].every(key => same((a as Record<string, unknown>)[key] ?? 0, (b as Record<string, unknown>)[key] ?? 0))
  }
  return a === b
}
