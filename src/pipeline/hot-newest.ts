/** The newest value of every metric of every device in a slice, for the hot state. Pure. */
import type { Value } from '../core/reading.js'
import type { DeviceLatest, LatestValue } from '../store/hot-state.js'
import { splitDeviceKey } from './group.js'
import { PointType, type SliceTable } from './slice-table.js'

/** Greater event time, then greater stamp, then later arrival (rows ascend by arrival). */
function isNewer (table: SliceTable, row: number, than: number): boolean {
  return (table.rowTs[row] - table.rowTs[than] || table.rowStamp[row] - table.rowStamp[than] || row - than) > 0
}

/**
 * The newest row of each (device, shape): all that can hold a newest value. Nothing is made per row, and a device has few shapes.
 */
function newestRows (table: SliceTable): Map<number, number>[] {
  const byDevice: Map<number, number>[] = Array.from({ length: table.devices.length })
  for (let row = 0; row < table.rows; row++) {
    const device = table.rowDevice[row]
    const shape = table.rowShape[row]
    const shapes = byDevice[device] ??= new Map()
    const best = shapes.get(shape)
    if (best === undefined || isNewer(table, row, best)) shapes.set(shape, row)
  }
  return byDevice
}

function valueOf (table: SliceTable, type: number, point: number): Value {
  const value = table.pointValue[point]
  if (type === PointType.number) return value
  return type === PointType.boolean ? value !== 0 : table.strings[value]
}

/** In order of device number; devices without readings are left out. */
export function newestValues (table: SliceTable, journalId: string): DeviceLatest[] {
  const devices: DeviceLatest[] = []
  const byDevice = newestRows(table)
  for (let number = 0; number < byDevice.length; number++) {
    const shapes = byDevice[number]
    if (shapes === undefined) continue
    /** Metric id to the row that its newest value stands in, and its place there. */
    const found = new Map<number, { readonly row: number, readonly type: number, readonly point: number }>()
    for (const [shapeId, row] of shapes) {
      const shape = table.shapes[shapeId]
      for (let at = 0; at < shape.metrics.length; at++) {
        const metric = shape.metrics[at]
        const other = found.get(metric)
        // A metric that stands twice in one reading gives the later one, as in a chunk.
        if (other === undefined || other.row === row || isNewer(table, row, other.row)) found.set(metric, { row, type: shape.types[at], point: table.rowPoint[row] + at })
      }
    }
    const values: LatestValue[] = []
    for (const [metric, { row, type, point }] of found) {
      values.push({ metric: table.metrics[metric], ts: table.rowTs[row], stamp: table.rowStamp[row], journalId, value: valueOf(table, type, point) })
    }
    devices.push({ ...splitDeviceKey(table.devices[number]), values })
  }
  return devices
}
