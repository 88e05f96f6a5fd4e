/**
 * A store that is packed, sealed, projected and erased step by step, in whatever order, with ClickHouse behind it as the projection would fill
 * it: what fleet queries over hours are judged by. Time is its own, and passes by seconds.
 */
import { completeAt } from '../../src/analytics/complete-hours.js'
import { systemClock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import { usPerHour, usPerMinute, usPerSecond, type Chunk, type Column } from '../../src/core/reading.js'
import { bucketOf, defaultPlan, type Bucket, type PartitionPlan } from '../../src/series/partition-plan.js'
import { foldWindows, TierFolder, type TierWindows } from '../../src/series/tiers/index.js'
import type { AnalyticsHours } from '../../src/store/analytics-store.js'
import { ClickHouseAnalytics } from '../../src/store/clickhouse/clickhouse-analytics.js'
import type { ClickHouseConnection } from '../../src/store/clickhouse/clickhouse-connection.js'
import type { Erasure } from '../../src/store/small-stores.js'
import { standing, type Random, type WorldPoint } from './fleet-world.js'

export const tenant = 'acme'

/** The points' hour windows, along the tree. */
export function hoursOf (points: readonly WorldPoint[]): TierWindows {
  const folder = new TierFolder(usPerMinute)
  const ordered = [...points].sort((a, b) => a.ts - b.ts)
  const times = [...new Set(ordered.map(({ ts }) => ts))]
  const rowOf = new Map(times.map((ts, row) => [ts, row]))
  const columns: Column[] = []
  for (const name of [...new Set(ordered.map(({ metric, value }) => `${metric}\0${typeof value}`))].sort()) {
    const [metric, type] = name.split('\0')
    const own = ordered.filter(point => point.metric === metric && typeof point.value === type)
    const rows = Uint32Array.from(own, ({ ts }) => rowOf.get(ts) ?? 0)
    const values = own.map(({ value }) => value)
    columns.push((type === 'number' ? { metric, type, rows, values: Float64Array.from(values as number[]) } : type === 'boolean' ? { metric, type, rows, values: Uint8Array.from(values, Number) } : { metric, type, rows, values }) as Column)
  }
  const ts = Float64Array.from(times)
  if (times.length > 0) folder.add({ ts, stamps: ts, columns } satisfies Chunk)
  return foldWindows(folder.finish(), usPerHour)
}

export class HoursWorld {
  readonly analytics: ClickHouseAnalytics
  readonly #random: Random
  readonly #plans: ReadonlyMap<string, PartitionPlan>
  /** In the store, visible to every reader. */
  packed: WorldPoint[] = []
  unprojected: WorldPoint[] = []
  readonly #seals: AnalyticsHours[] = []
  readonly erasures: Erasure[] = []
  nowUs: number

  constructor (connection: ClickHouseConnection, { random, plans, nowUs }: { random: Random, plans: ReadonlyMap<string, PartitionPlan>, nowUs: number }) {
    this.analytics = new ClickHouseAnalytics({ settings: { url: '', database: connection.database }, connection, clock: systemClock, log: silentLog, watch: false })
    this.#random = random
    this.#plans = plans
    this.nowUs = nowUs
  }

  get sealsWaiting (): number { return this.#seals.length }

  pass (seconds: number): void { this.nowUs += Math.floor(seconds * usPerSecond) }

  /** Clocks of nodes differ by as much. */
  get #clockUs (): number { return Math.floor(this.nowUs + (this.#random() - 0.5) * usPerSecond / 2) }

  /** The points' versions become their accept stamps: now. */
  pack (points: readonly WorldPoint[]): void {
    const stamped = points.map((point, i) => ({ ...point, version: this.nowUs + i }))
    this.nowUs += points.length
    this.packed = standing([...this.packed, ...stamped])
    this.unprojected.push(...stamped)
  }

  /** @param share of what waits, in no order */
  async project (share = 1): Promise<void> {
    const taken = this.unprojected.filter(() => this.#random() < share)
    this.unprojected = this.unprojected.filter(point => !taken.includes(point))
    const kept = taken.filter(point => !this.#isErased(point))
    await this.analytics.insertPoints(kept.map(({ version, ...point }) => ({ ...point, stamp: version, journalId: '00000000000000aa' })), this.#clockUs)
  }

  /** Seals a bucket; its hours wait to be projected. `meanwhile`: between the stamp and the reading. */
  seal (device: string, bucket: Bucket, meanwhile = (): void => {}): void {
    const stamp = this.#clockUs
    meanwhile()
    const plan = this.#plans.get(device) ?? defaultPlan
    const points = this.packed.filter(point => point.device === device && sameBucket(bucketOf(plan, point.ts), bucket))
    this.#seals.push({ tenant, device, bucket, version: stamp, windows: hoursOf(points), complete: completeAt(plan, bucket, stamp) })
  }

  bucketsOf (device: string): Bucket[] {
    const plan = this.#plans.get(device) ?? defaultPlan
    const buckets = new Map<string, Bucket>()
    for (const point of this.packed) {
      const bucket = bucketOf(plan, point.ts)
      if (point.device === device) buckets.set(`${bucket.start}:${bucket.widthMinutes}`, bucket)
    }
    return [...buckets.values()]
  }

  /** In no order. @param count at most */
  async projectSeals (count = Infinity): Promise<void> {
    this.#seals.sort(() => this.#random() - 0.5)
    const some = this.#seals.splice(0, count)
    // Of a bucket only one state goes in one call.
    const calls: Map<string, AnalyticsHours>[] = []
    for (const seal of some) {
      const name = `${seal.device}:${seal.bucket.start}:${seal.bucket.widthMinutes}`
      let call = calls.find(seals => !seals.has(name))
      if (call === undefined) calls.push(call = new Map())
      call.set(name, seal)
    }
    for (const call of calls.sort(() => this.#random() - 0.5)) await this.analytics.replaceHours([...call.values()])
  }

  async erase (scope: Omit<Erasure, 'stamp' | 'tenant'>): Promise<void> {
    const erasure: Erasure = { tenant, ...scope, stamp: this.nowUs }
    this.erasures.push(erasure)
    this.nowUs += 1
    const before = this.packed
    this.packed = before.filter(point => !this.#isErased(point))
    // The buckets are sealed again; of those that are empty now, too.
    await this.analytics.erase([erasure])
    this.#seals.splice(0, Infinity)
    for (const device of new Set(before.map(point => point.device))) {
      for (const bucket of this.bucketsOf(device)) if (this.#random() < 0.5) this.seal(device, bucket)
    }
  }

  #isErased ({ device, metric, ts, version }: WorldPoint): boolean {
    return this.erasures.some(erasure => version < erasure.stamp && (erasure.device === null || erasure.device === device) &&
      (erasure.metric === undefined || erasure.metric === null || erasure.metric === metric) && ts >= (erasure.fromTs ?? 0) && ts < (erasure.toTs ?? Infinity))
  }
}

function sameBucket (a: Bucket, b: Bucket): boolean {
  return a.start === b.start && a.widthMinutes === b.widthMinutes
}
