/**
 * Groups the readings of one slice into rows of the head (DESIGN 3.2): a device with many readings in the slice gets
 * chunks of its own, split by bucket; devices with few share slabs by shard and minute. Pure: the same table, plans and
 * slice give the same rows, whenever and wherever the slice is packed again.
 */
import { shardOf } from '../core/ids.js'
import { chunkReadingsMax, denseReadingsMin } from '../core/limits.js'
import { usPerDay, usPerMinute, type Chunk, type Column, type SliceId } from '../core/reading.js'
import { encodeChunk, encodeSlab } from '../series/codec.js'
import { bucketOf, saltFor, type Bucket, type PartitionPlan } from '../series/partition-plan.js'
import type { DeviceChunkRow, RetentionClass, SeriesSeenRow, SlabRow } from '../store/raw-store.js'
import { PointType, type Shape, type SliceTable } from './slice-table.js'
import type { SeenCache } from './seen-cache.js'

export interface GroupContext {
  readonly slice: SliceId
  /** Accept stamp of the mark: the plan and the retention class in force at it are used. */
  readonly stamp: number
  /** @param deviceKey `tenant \0 device` */
  planOf(deviceKey: string): PartitionPlan
  retentionDaysOf(tenant: string): number
  /** null: the `seen` rows are there already (a merge of slabs). */
  readonly seen: SeenCache | null
  /** Readings from which a device gets chunks of its own. */
  readonly denseReadingsMin?: number
  /** First `part` of the chunks. */
  readonly firstPart?: number
}

export interface GroupedSlice {
  readonly chunks: (DeviceChunkRow & RetentionClass)[]
  readonly slabs: (SlabRow & RetentionClass)[]
  readonly seen: (SeriesSeenRow & RetentionClass)[]
  bytesOut: number
}

interface Slab {
  readonly tenant: string
  readonly shard: number
  readonly minute: number
  readonly devices: { device: string, rows: number }[]
  readonly rows: number[]
}

/** Minutes since the epoch stay below this until the year 2097. */
const minuteSpan = 2 ** 26

/** Row numbers ordered by device, arrival order kept; `starts[d]` is where device d begins. */
export function orderByDevice (table: SliceTable): { order: Int32Array, starts: Int32Array } {
  const starts = new Int32Array(table.devices.length + 1)
  for (let row = 0; row < table.rows; row++) starts[table.rowDevice[row] + 1]++
  for (let device = 0; device < table.devices.length; device++) starts[device + 1] += starts[device]
  const next = starts.slice()
  const order = new Int32Array(table.rows)
  for (let row = 0; row < table.rows; row++) order[next[table.rowDevice[row]]++] = row
  return { order, starts }
}

/** Devices that will get chunks of their own, whose plans are therefore needed. */
export function denseDevices (table: SliceTable, starts: Int32Array): number[] {
  const dense: number[] = []
  for (let device = 0; device < table.devices.length; device++) {
    if (starts[device + 1] - starts[device] >= denseReadingsMin) dense.push(device)
  }
  return dense
}

export function splitDeviceKey (key: string): { tenant: string, device: string } {
  const at = key.indexOf('\0')
  return { tenant: key.slice(0, at), device: key.slice(at + 1) }
}

export function groupSlice (table: SliceTable, order: Int32Array, starts: Int32Array, context: GroupContext): GroupedSlice {
  const grouped: GroupedSlice = { chunks: [], slabs: [], seen: [], bytesOut: 0 }
  const denseMin = context.denseReadingsMin ?? denseReadingsMin
  const slabs = new Map<number, Slab>()
  const tenants = new Map<string, number>()
  for (let number = 0; number < table.devices.length; number++) {
    const start = starts[number]
    const end = starts[number + 1]
    if (start === end) continue
    const { tenant, device } = splitDeviceKey(table.devices[number])
    sortByTs(table, order, start, end)
    if (context.seen !== null) noteSeen(table, order, start, end, tenant, device, context, context.seen, grouped)
    if (end - start >= denseMin) {
      packDense(table, order, start, end, tenant, device, context, grouped)
      continue
    }
    let tenantNumber = tenants.get(tenant)
    if (tenantNumber === undefined) tenants.set(tenant, tenantNumber = tenants.size)
    addSparse(table, order, start, end, tenant, device, (tenantNumber * 256 + shardOf(device)) * minuteSpan, slabs)
  }
  for (const slab of slabs.values()) {
    const bytes = encodeSlab(slab.devices, buildChunk(table, Int32Array.from(slab.rows), 0, slab.rows.length))
    grouped.bytesOut += bytes.length
    grouped.slabs.push({
      tenant: slab.tenant, shard: slab.shard, minute: slab.minute, slice: context.slice, stamp: context.stamp, bytes, retentionDays: context.retentionDaysOf(slab.tenant)
    })
  }
  return grouped
}

/** Insertion sort where the rows are nearly in order, which they are; a real sort otherwise. Stable: later arrival stays behind. */
function sortByTs (table: SliceTable, order: Int32Array, start: number, end: number): void {
  const { rowTs } = table
  let sorted = true
  for (let i = start + 1; i < end && sorted; i++) sorted = rowTs[order[i - 1]] <= rowTs[order[i]]
  if (sorted) return
  const rows = Array.from(order.subarray(start, end)).sort((a, b) => rowTs[a] - rowTs[b] || a - b)
  order.set(rows, start)
}

function noteSeen (table: SliceTable, order: Int32Array, start: number, end: number, tenant: string, device: string, context: GroupContext, seen: SeenCache, grouped: GroupedSlice): void {
  let lastDay = -1
  let lastShape = -1
  for (let i = start; i < end; i++) {
    const row = order[i]
    const shape = table.rowShape[row]
    const day = Math.floor(table.rowTs[row] / usPerDay)
    if (day === lastDay && shape === lastShape) continue
    lastDay = day
    lastShape = shape
    if (!seen.isNew(table.devices[table.rowDevice[row]], day, shape)) continue
    const metrics = table.shapes[shape].metrics.map(id => table.metrics[id]).sort()
    grouped.seen.push({ tenant, device, day: day * usPerDay, metrics, retentionDays: context.retentionDaysOf(tenant) })
  }
}

function packDense (table: SliceTable, order: Int32Array, start: number, end: number, tenant: string, device: string, context: GroupContext, grouped: GroupedSlice): void {
  const plan = context.planOf(table.devices[table.rowDevice[order[start]]])
  const salt = saltFor(plan, context.slice, context.stamp)
  const retentionDays = context.retentionDaysOf(tenant)
  let from = start
  let part = context.firstPart ?? 0
  let bucket: Bucket = bucketOf(plan, table.rowTs[order[start]])
  let bucketEnd = bucket.start + bucket.widthMinutes * usPerMinute
  const emit = (to: number): void => {
    const bytes = encodeChunk(buildChunk(table, order, from, to))
    grouped.bytesOut += bytes.length
    grouped.chunks.push({
      tenant, device, bucket, salt, slice: context.slice, part: part++, minTs: table.rowTs[order[from]], maxTs: table.rowTs[order[to - 1]], bytes, retentionDays
    })
    from = to
  }
  for (let i = start + 1; i < end; i++) {
    const ts = table.rowTs[order[i]]
    const leavesBucket = ts >= bucketEnd || (plan.widths.length > 1 && bucketOf(plan, ts).widthMinutes !== bucket.widthMinutes)
    // Equal timestamps stay in one chunk, where their order of arrival decides between equal stamps.
    if (leavesBucket || (i - from >= chunkReadingsMax && ts !== table.rowTs[order[i - 1]])) {
      emit(i)
      if (leavesBucket) {
        bucket = bucketOf(plan, ts)
        bucketEnd = bucket.start + bucket.widthMinutes * usPerMinute
      }
    }
  }
  emit(end)
}

function addSparse (table: SliceTable, order: Int32Array, start: number, end: number, tenant: string, device: string, keyBase: number, slabs: Map<number, Slab>): void {
  for (let i = start; i < end; i++) {
    const row = order[i]
    const minuteNumber = Math.floor(table.rowTs[row] / usPerMinute)
    let slab = slabs.get(keyBase + minuteNumber)
    if (slab === undefined) {
      slab = { tenant, shard: shardOf(device), minute: minuteNumber * usPerMinute, devices: [], rows: [] }
      slabs.set(keyBase + minuteNumber, slab)
    }
    const last = slab.devices[slab.devices.length - 1]
    if (last !== undefined && last.device === device) last.rows++
    else slab.devices.push({ device, rows: 1 })
    slab.rows.push(row)
  }
}

/** The rows order[from..to) as a chunk. */
export function buildChunk (table: SliceTable, order: Int32Array, from: number, to: number): Chunk {
  const rows = to - from
  const ts = new Float64Array(rows)
  const stamps = new Float64Array(rows)
  const shape = table.rowShape[order[from]]
  let uniform = true
  for (let i = 0; i < rows; i++) {
    const row = order[from + i]
    ts[i] = table.rowTs[row]
    stamps[i] = table.rowStamp[row]
    if (table.rowShape[row] !== shape) uniform = false
  }
  const columns = uniform ? uniformColumns(table, order, from, rows, table.shapes[shape]) : mixedColumns(table, order, from, rows)
  return { ts, stamps, columns }
}

function uniformColumns (table: SliceTable, order: Int32Array, from: number, rows: number, shape: Shape): Column[] {
  const columns: Column[] = []
  const { rowPoint, pointValue } = table
  for (let at = 0; at < shape.metrics.length; at++) {
    const metric = table.metrics[shape.metrics[at]]
    if (shape.types[at] === PointType.number) {
      const values = new Float64Array(rows)
      for (let i = 0; i < rows; i++) values[i] = pointValue[rowPoint[order[from + i]] + at]
      columns.push({ metric, type: 'number', rows: null, values })
    } else if (shape.types[at] === PointType.boolean) {
      const values = new Uint8Array(rows)
      for (let i = 0; i < rows; i++) values[i] = pointValue[rowPoint[order[from + i]] + at]
      columns.push({ metric, type: 'boolean', rows: null, values })
    } else {
      const values = new Array<string>(rows)
      for (let i = 0; i < rows; i++) values[i] = table.strings[pointValue[rowPoint[order[from + i]] + at]]
      columns.push({ metric, type: 'string', rows: null, values })
    }
  }
  return columns
}

interface GatheredColumn { readonly metric: string, readonly type: number, readonly rows: number[], readonly values: number[] }

function mixedColumns (table: SliceTable, order: Int32Array, from: number, rows: number): Column[] {
  const byShape = new Map<number, GatheredColumn[]>()
  const byMetric = new Map<number, GatheredColumn>()
  const gathered: GatheredColumn[] = []
  const columnsOf = (shapeId: number): GatheredColumn[] => {
    const shape = table.shapes[shapeId]
    const list = shape.metrics.map((metricId, at) => {
      const type = shape.types[at]
      let column = byMetric.get(metricId * 4 + type)
      if (column === undefined) {
        column = { metric: table.metrics[metricId], type, rows: [], values: [] }
        byMetric.set(metricId * 4 + type, column)
        gathered.push(column)
      }
      return column
    })
    byShape.set(shapeId, list)
    return list
  }
  for (let i = 0; i < rows; i++) {
    const row = order[from + i]
    const shapeId = table.rowShape[row]
    const list = byShape.get(shapeId) ?? columnsOf(shapeId)
    const point = table.rowPoint[row]
    for (let at = 0; at < list.length; at++) {
      list[at].rows.push(i)
      list[at].values.push(table.pointValue[point + at])
    }
  }
  return gathered.map(({ metric, type, rows: present, values }): Column => {
    const presence = present.length === rows ? null : Uint32Array.from(present)
    if (type === PointType.number) return { metric, type: 'number', rows: presence, values: Float64Array.from(values) }
    if (type === PointType.boolean) return { metric, type: 'boolean', rows: presence, values: Uint8Array.from(values) }
    return { metric, type: 'string', rows: presence, values: values.map(index => table.strings[index]) }
  })
}
