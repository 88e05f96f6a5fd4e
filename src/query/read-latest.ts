/**
 * The newest point of each metric of a device, by event time: a late point never replaces a newer one. Where the store has a
 * hot state that is complete for the device it answers, else the raw store, which then fills it. The answers are the same.
 *
 * While the store does not answer, the hot state gives what it knows, and the answer says so (`source`): it need not be all.
 */
import type { Clock } from '../core/clock.js'
import { TwinfoldError } from '../core/errors.js'
import { usPerDay, type Chunk } from '../core/reading.js'
import { journalColumnName, readingsOf } from '../series/merge.js'
import { HotGenerationLease } from '../store/hot-generation.js'
import type { HotState, KnownLatest, LatestValue } from '../store/hot-state.js'
import type { Store } from '../store/store.js'
import type { LatestQuery, QueryResult } from '../../workers/protocol.js'
import { bytesOf, formatTime, formatValue } from '../core/json-values.js'
import { erasedOf, readReadings, type Erased } from '../store/read-readings.js'

/** A change of the generation is seen at the latest then: part of the 500 ms of INVARIANTS 2. */
const generationLeaseMs = 200

const unavailable = (error: unknown): boolean => error instanceof TwinfoldError && error.code === 'store_unavailable'

/** A hot state that answers more slowly than this is of no use to a query. */
const hotMsMax = 300

/** null: it failed or took too long; it may still happen. */
async function inTime<T> (action: Promise<T>): Promise<T | null> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<null>(resolve => { timer = setTimeout(() => { resolve(null) }, hotMsMax) })
  try {
    return await Promise.race([action.catch(() => null), late])
  } finally {
    clearTimeout(timer)
  }
}

/** Is the value gone, by an erasure of the device, of its metric, or of its time? */
function isErased ({ metric, ts, stamp }: LatestValue, { before, parts }: Erased): boolean {
  return stamp < before || parts.some(part => stamp < part.stamp && (part.metric ?? metric) === metric && ts >= (part.fromTs ?? -Infinity) && ts < (part.toTs ?? Infinity))
}

const succeeded = async (action: Promise<void>): Promise<boolean> => await inTime(action.then(() => true)) === true

export class LatestReader {
  readonly #store: Store
  readonly #generation: HotGenerationLease

  constructor (store: Store, clock: Pick<Clock, 'monotonicMs'>) {
    this.#store = store
    this.#generation = new HotGenerationLease(store, { leaseMs: generationLeaseMs, monotonicMs: () => clock.monotonicMs() })
  }

  /** @throws TwinfoldError `store_unavailable` where neither the store nor the hot state knows. */
  async run (task: LatestQuery, checkpoint: () => void): Promise<QueryResult> {
    const { hot } = this.#store
    if (hot === null) return this.#answer(await this.#fromStore(task, checkpoint), task)
    let erased: Erased
    let generation: string
    try {
      const [parts, read] = await Promise.all([this.#store.erasedParts(task.tenant, task.device), this.#generation.read()])
      erased = erasedOf(parts)
      generation = read
    } catch (error) {
      if (unavailable(error)) return await this.#duringOutage(hot, task, error)
      throw error
    }
    const known = await inTime(hot.getLatest(task.tenant, task.device, generation))
    if (known?.complete === true && !known.values.some(value => isErased(value, erased))) return this.#answer(known.values, task)
    try {
      return this.#answer(await this.#fromStoreAndFill(hot, task, known, erased, checkpoint), task)
    } catch (error) {
      if (unavailable(error)) return await this.#duringOutage(hot, task, error)
      throw error
    }
  }

  async #duringOutage (hot: HotState, task: LatestQuery, outage: unknown): Promise<QueryResult> {
    const known = await hot.getLatest(task.tenant, task.device, null).catch(() => null)
    if (known === null || known.values.length === 0) throw outage
    return { ...this.#answer(known.values, task), source: 'hot' }
  }

  /** The hot state is filled with all metrics, whichever were asked for; that it is behind or away changes no answer. */
  async #fromStoreAndFill (hot: HotState, task: LatestQuery, known: KnownLatest | null, erased: Erased, checkpoint: () => void): Promise<readonly LatestValue[]> {
    const { tenant, device } = task
    const basis = known?.basis ?? null
    if (basis === null) return await this.#fromStore(task, checkpoint)
    // An erased value would stand against the older ones that are left. All of the device goes, though one metric may be meant: the fill brings it back.
    const stale = known?.values.some(value => isErased(value, erased)) === true
    if (stale && !await succeeded(hot.forgetDevice(tenant, device, erased.before))) return await this.#fromStore(task, checkpoint)
    // The basis was taken before the store is read: what happens to the hot state meanwhile shows.
    // Complete means whatever the retention of this question: the next one's may reach further back.
    const values = await this.#fromStore({ ...task, metrics: null, oldestTs: 0 }, checkpoint)
    await succeeded(hot.fillLatest({ tenant, device, values }, basis))
    return values
  }

  #answer (values: readonly LatestValue[], task: LatestQuery): QueryResult {
    const parts = values.filter(({ metric, ts }) => ts >= task.oldestTs && (task.metrics === null || task.metrics.includes(metric)))
      .sort((a, b) => a.metric < b.metric ? -1 : 1)
      .map(({ metric, ts, value }) => `${JSON.stringify(metric)}:{"ts":${formatTime(ts, task.times)},"value":${formatValue(value)}}`)
    return { body: bytesOf(`{${parts.join(',')}}`), readings: parts.length, lastTs: null, more: false }
  }

  async #fromStore (task: LatestQuery, checkpoint: () => void): Promise<LatestValue[]> {
    const wantedOn = new Map<number, Set<string>>()
    for await (const row of this.#store.raw.scanSeen(task)) {
      checkpoint()
      for (const metric of row.metrics) {
        if (task.metrics !== null && !task.metrics.includes(metric)) continue
        let day = wantedOn.get(row.day)
        if (day === undefined) wantedOn.set(row.day, day = new Set())
        day.add(metric)
      }
    }
    const found = new Map<string, LatestValue>()
    for (const day of [...wantedOn.keys()].sort((a, b) => b - a)) {
      const missing = new Set([...wantedOn.get(day) as Set<string>].filter(metric => !found.has(metric)))
      if (missing.size > 0) await findLatest(this.#store, task, day, missing, found, checkpoint)
    }
    return [...found.values()]
  }
}

/** Stamp and journal of the metric's value at a timestamp that the merged chunk has for it. */
function acceptedAs (chunk: Chunk, metric: string, ts: number): { stamp: number, journalId: string } {
  const journals = chunk.columns.find(column => column.metric === journalColumnName && column.type === 'string')
  let found = -1
  for (const { metric: name, rows, values } of chunk.columns) {
    if (name !== metric) continue
    for (let i = values.length - 1; i >= 0; i--) {
      const row = rows === null ? i : rows[i]
      if (chunk.ts[row] === ts) found = Math.max(found, row)
      if (chunk.ts[row] <= ts) break
    }
  }
  return { stamp: chunk.stamps[found], journalId: journals === undefined ? '' : journals.values[found] as string }
}

async function findLatest (store: Store, task: LatestQuery, day: number, missing: Set<string>, found: Map<string, LatestValue>, checkpoint: () => void): Promise<void> {
  const request = { ...task, fromTs: day, toTs: day + usPerDay, order: 'desc' as const, metrics: new Set(missing), checkpoint }
  for await (const chunk of readReadings(store, request)) {
    for (const reading of readingsOf(chunk, 'desc')) {
      for (const [metric, value] of reading.values) {
        if (!missing.has(metric)) continue
        found.set(metric, { metric, ts: reading.ts, value, ...acceptedAs(chunk, metric, reading.ts) })
        missing.delete(metric)
      }
      if (missing.size === 0) return
    }
  }
}
