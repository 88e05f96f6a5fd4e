/**
 * One slice of the journal into rows of the store: decode, group, write (DESIGN 3). Runs in a worker thread. The outcome depends
 * on the slice, the tenants' settings and the plans in force at its stamps alone, and every row has a key derived from the
 * slice, so a slice that is packed again (crash, retry, second worker) writes the same rows again.
 *
 * Order of writes: chunks with their marks, then dead letters and idempotency keys; the caller advances the cursor only
 * after all of them (INVARIANTS 1, 3). The newest values go into the hot state beside the rows; where they did not, it is
 * distrusted before the slice counts as packed.
 */
import { randomUUID } from 'node:crypto'
import type { PartitionPlan } from '../series/partition-plan.js'
import { changeHotGeneration } from '../store/hot-generation.js'
import type { Store } from '../store/store.js'
import type { HotResult, HotTask, PackResult, PackTask } from '../../workers/protocol.js'
import { GrowthCounter } from './growth-counter.js'
import { denseDevices, groupSlice, orderByDevice, type GroupedSlice } from './group.js'
import { newestValues } from './hot-newest.js'
import { HotWriter } from './hot-writer.js'
import { lateBuckets, lateMinutes } from './late-buckets.js'
import { LiveReader } from './live-readings.js'
import { SeenCache } from './seen-cache.js'
import { SliceDecoder } from './slice-decoder.js'
import type { SliceWatch } from './slice-watch.js'
import type { TaskLookup } from './task-lookup.js'

export interface SlicePackerOptions {
  readonly store: Store
  readonly plans: TaskLookup<PartitionPlan>
  /** How long a tenant or the existence of a device may be remembered, milliseconds. */
  readonly leaseMs: number
  readonly monotonicMs: () => number
  /** Looks for violations of models and edges of alarms. Absent: nobody does. */
  readonly watch?: SliceWatch
  /** Names a generation of the hot state; never the same twice. Default: random. */
  readonly newGeneration?: () => string
}

export class SlicePacker {
  readonly #store: Store
  readonly #decoder: SliceDecoder
  readonly #hot: HotWriter | null
  readonly #live = new LiveReader()
  readonly #growth = new GrowthCounter()
  readonly #seen = new SeenCache({ devicesMax: 200_000 })
  #seenEpoch = 0
  readonly #plans: TaskLookup<PartitionPlan>
  readonly #watch: SliceWatch | null
  readonly #monotonicMs: () => number
  readonly #newGeneration: () => string

  constructor (options: SlicePackerOptions) {
    const { store, monotonicMs } = options
    this.#store = store
    this.#monotonicMs = monotonicMs
    this.#decoder = new SliceDecoder(store, options)
    this.#hot = store.hot === null ? null : new HotWriter({ hot: store.hot, monotonicMs })
    this.#plans = options.plans
    this.#watch = options.watch ?? null
    this.#newGeneration = options.newGeneration ?? randomUUID
  }

  async pack (task: PackTask): Promise<PackResult> {
    const cpuStart = this.#monotonicMs()
    const { table } = this.#decoder
    const { letters, keys, ...decoded } = await this.#decoder.decode(task)
    const live = this.#live.select(table, task)
    if (table.epoch !== this.#seenEpoch) {
      this.#seen.clear()
      this.#seenEpoch = table.epoch
    }
    const { order, starts } = orderByDevice(table)
    this.#plans.begin()
    await this.#plans.load(denseDevices(table, starts).map(number => table.devices[number]))
    const grouped = groupSlice(table, order, starts, {
      slice: { journalId: task.journalId, mark: task.mark.to },
      stamp: task.mark.stamp,
      seen: this.#seen,
      planOf: deviceKey => this.#plans.get(deviceKey),
      retentionDaysOf: tenant => this.#decoder.retentionDaysOf(tenant, task.mark.stamp)
    })
    // The rows of each device stand in order of event time now.
    const watch = await this.#watch?.look(table, order, starts) ?? null
    const cpuMs = this.#monotonicMs() - cpuStart
    await this.#write(task, grouped)
    if (letters.length > 0) await this.#store.putDeadLetters(letters)
    if (keys.length > 0) await this.#store.putIdempotency(keys)
    return {
      ...decoded,
      readings: table.rows,
      points: table.points,
      bytesOut: grouped.bytesOut,
      chunkRows: grouped.chunks.length,
      slabRows: grouped.slabs.length,
      late: lateBuckets(grouped.chunks, task.mark.stamp),
      growing: this.#growth.note(grouped.chunks, task.mark.stamp),
      ...(hasLateSlabs(grouped, task.mark.stamp) ? { lateSlabs: { stamp: task.mark.stamp, mark: task.mark.to } } : {}),
      loads: grouped.chunks.map(row => ({ tenant: row.tenant, device: row.device, bytes: row.bytes.length + 80, rows: 1 })),
      cpuMs,
      ...(watch === null ? {} : { watch }),
      ...(live === null ? {} : { live })
    }
  }

  /** A slice for the hot state alone, while it cannot be packed. What is not put now is put when it is packed. */
  async packHot (task: HotTask): Promise<HotResult> {
    if (this.#hot === null) return { put: true }
    await this.#decoder.decode(task)
    const live = this.#live.select(this.#decoder.table, task)
    return { put: await this.#hot.put(newestValues(this.#decoder.table, task.journalId)), ...(live === null ? {} : { live }) }
  }

  async #write (task: PackTask, grouped: GroupedSlice): Promise<void> {
    const hot = this.#hot === null ? true : this.#hot.put(newestValues(this.#decoder.table, task.journalId))
    try {
      await this.#store.raw.writeHead({ ...grouped, outbox: { journalId: task.journalId, stream: 'pack', sequence: task.mark.to } })
    } catch (error) {
      // The repetition must write the `seen` rows again that this attempt took for written.
      this.#seen.clear()
      throw error
    } finally {
      await hot
    }
    if (!await hot) await changeHotGeneration(this.#store, this.#newGeneration)
  }
}

function hasLateSlabs ({ slabs }: GroupedSlice, stamp: number): boolean {
  const before = lateMinutes(stamp)
  return slabs.some(({ minute }) => minute < before)
}
