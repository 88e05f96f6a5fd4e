/**
 * Turns the slabs of sparse devices into chunks per device (DESIGN 3.2), so that a reader of one device does not read its
 * shard's slabs of all time. Runs in a worker thread, on the same staging table and grouping as packing. Merged chunks keep every
 * point's accept stamp and carry the id of the newest slice they contain; a merge that is repeated after a crash finds the slabs
 * again or finds them gone. Points that stand twice stay so and are joined by the reader.
 */
import { hash32 } from '../core/ids.js'
import { usPerDay, type Chunk, type Column } from '../core/reading.js'
import { decodeSlabRows, readSlabDirectory } from '../series/codec.js'
import type { PartitionPlan } from '../series/partition-plan.js'
import type { RetentionClass, SlabRow } from '../store/raw-store.js'
import type { Store } from '../store/store.js'
import type { MergeResult, MergeTask } from '../../workers/protocol.js'
import type { BucketName } from '../../workers/seal-protocol.js'
import { GrowthCounter } from './growth-counter.js'
import { groupSlice, orderByDevice, type GroupedSlice } from './group.js'
import { lateBuckets } from './late-buckets.js'
import { PointType, SliceTable } from './slice-table.js'
import type { TaskLookup } from './task-lookup.js'

type StoredSlab = SlabRow & RetentionClass

/**
 * `part` of merged rows, from here on: apart from the parts that packing gives out, and from those of a merge of other slabs
 * whose newest slice is the same. A merge of the same slabs, repeated, writes the same rows again.
 */
const mergedPart = 1_000_000

function firstPartOf (slabs: readonly StoredSlab[]): number {
  return mergedPart + hash32(slabs.map(slab => `${slab.minute}:${slab.slice.mark}`).join()) % 2 ** 31
}
/** Slab bytes that are merged in one go: bounds the staging table. */
const groupBytesMax = 8 * 1024 * 1024

export interface SlabMergeOptions {
  readonly store: Store
  readonly plans: TaskLookup<PartitionPlan>
  readonly monotonicMs: () => number
  /** Wall clock, µs: numbers the merges in the outbox. */
  readonly nowUs: () => number
}

export class SlabMerge {
  readonly #options: SlabMergeOptions
  readonly #table = new SliceTable()
  readonly #growth = new GrowthCounter()
  #lastSequence = 0

  constructor (options: SlabMergeOptions) {
    this.#options = options
  }

  async merge (task: MergeTask): Promise<MergeResult> {
    const { store, monotonicMs } = this.#options
    const start = monotonicMs()
    const result = { slabs: 0, chunkRows: 0, readings: 0 }
    const late: BucketName[] = []
    const growing: BucketName[] = []
    let group: StoredSlab[] = []
    let groupBytes = 0
    let written = 0
    const flush = async (): Promise<void> => {
      if (group.length === 0) return
      const { chunks } = await this.#mergeGroup(group)
      // Merges are numbered in the order in which they are written, whichever thread writes them: a projection follows that order.
      this.#lastSequence = task.firstSequence === undefined ? Math.max(this.#lastSequence + 1, this.#options.nowUs()) : task.firstSequence + written
      written++
      const outbox = { journalId: group[0].slice.journalId, stream: 'merge', sequence: this.#lastSequence } as const
      await store.raw.replaceSlabs(group, { chunks, slabs: [], seen: [], outbox })
      late.push(...lateBuckets(chunks, this.#options.nowUs()))
      growing.push(...this.#growth.note(chunks, this.#options.nowUs()))
      result.slabs += group.length
      result.chunkRows += chunks.length
      result.readings += this.#table.rows
      group = []
      groupBytes = 0
    }
    for await (const slab of store.raw.scanSlabsToMerge({ journalId: task.journalId, mark: task.before }, task.slabsMax, task.late)) {
      if (group.length > 0 && (!sameGroup(group[0], slab) || groupBytes > groupBytesMax)) await flush()
      group.push(slab)
      groupBytes += slab.bytes.length
    }
    await flush()
    return { ...result, late, growing, cpuMs: monotonicMs() - start }
  }

  async #mergeGroup (slabs: readonly StoredSlab[]): Promise<GroupedSlice> {
    const { tenant, retentionDays, slice: { journalId } } = slabs[0]
    const table = this.#table
    table.reset()
    let mark = 0
    let stamp = 0
    for (const slab of slabs) {
      mark = Math.max(mark, slab.slice.mark)
      stamp = Math.max(stamp, addSlab(table, tenant, slab.bytes))
    }
    const { order, starts } = orderByDevice(table)
    const { plans } = this.#options
    plans.begin()
    await plans.load(table.devices)
    return groupSlice(table, order, starts, {
      slice: { journalId, mark }, stamp, seen: null, denseReadingsMin: 1, firstPart: firstPartOf(slabs), retentionDaysOf: () => retentionDays,
      planOf: deviceKey => plans.get(deviceKey)
    })
  }
}

/** One shard's slabs of one journal and day go together: enough readings per chunk, little memory. */
function sameGroup (a: StoredSlab, b: StoredSlab): boolean {
  return a.tenant === b.tenant && a.shard === b.shard && a.slice.journalId === b.slice.journalId &&
    a.retentionDays === b.retentionDays && Math.floor(a.minute / usPerDay) === Math.floor(b.minute / usPerDay)
}

const pointTypes = { number: PointType.number, boolean: PointType.boolean, string: PointType.string } as const

/** Adds a slab's readings to the table; returns their greatest stamp. */
function addSlab (table: SliceTable, tenant: string, bytes: Uint8Array): number {
  const chunk = decodeSlabRows(bytes)
  const rowDevice = new Int32Array(chunk.ts.length)
  for (const { device, firstRow, rows } of readSlabDirectory(bytes)) rowDevice.fill(table.deviceNumber(tenant, device), firstRow, firstRow + rows)
  if (chunk.columns.every(column => column.rows === null)) addWholeRows(table, chunk, rowDevice)
  else addSparseRows(table, chunk, rowDevice)
  let stamp = 0
  for (let row = 0; row < chunk.stamps.length; row++) if (chunk.stamps[row] > stamp) stamp = chunk.stamps[row]
  return stamp
}

function put (table: SliceTable, column: Column, index: number): void {
  if (column.type === 'string') {
    table.strings.push(column.values[index])
    table.pointValue[table.points++] = table.strings.length - 1
  } else {
    table.pointValue[table.points++] = column.values[index]
  }
}

function addWholeRows (table: SliceTable, chunk: Chunk, rowDevice: Int32Array): void {
  const { columns } = chunk
  const shape = table.shapeId(columns.map(column => table.metricId(column.metric)), columns.map(column => pointTypes[column.type]))
  table.reservePoints(columns.length * chunk.ts.length)
  for (let row = 0; row < chunk.ts.length; row++) {
    const first = table.points
    for (let i = 0; i < columns.length; i++) put(table, columns[i], row)
    table.addRow(rowDevice[row], chunk.ts[row], chunk.stamps[row], shape, first)
  }
}

function addSparseRows (table: SliceTable, chunk: Chunk, rowDevice: Int32Array): void {
  const { columns } = chunk
  const metrics = columns.map(column => table.metricId(column.metric))
  const types = columns.map(column => pointTypes[column.type])
  const cursors = new Uint32Array(columns.length)
  const shapes = new Map<string, number>()
  for (let row = 0; row < chunk.ts.length; row++) {
    const first = table.points
    table.reservePoints(columns.length)
    let present = ''
    for (let i = 0; i < columns.length; i++) {
      const { rows } = columns[i]
      if (rows !== null && rows[cursors[i]] !== row) continue
      put(table, columns[i], rows === null ? row : cursors[i]++)
      present += String.fromCharCode(i)
    }
    let shape = shapes.get(present)
    if (shape === undefined) {
      const which = Array.from(present, char => char.charCodeAt(0))
      shape = table.shapeId(which.map(i => metrics[i]), which.map(i => types[i]))
      shapes.set(present, shape)
    }
    table.addRow(rowDevice[row], chunk.ts[row], chunk.stamps[row], shape, first)
  }
}
