/** Readings as a test writes them, put into a staging table as a decoder does it. */
import type { Value } from '../../src/core/reading.js'
import { PointType, type SliceTable } from '../../src/pipeline/slice-table.js'

export interface SentReading {
  readonly device: string
  readonly ts: number
  readonly stamp: number
  readonly values: readonly (readonly [metric: string, value: Value])[]
}

export function fillTable (table: SliceTable, tenant: string, readings: readonly SentReading[]): void {
  for (const { device, ts, stamp, values } of readings) {
    const first = table.points
    const types: number[] = []
    for (const [, value] of values) {
      table.reservePoints(1)
      if (typeof value === 'string') {
        types.push(PointType.string)
        table.strings.push(value)
        table.pointValue[table.points++] = table.strings.length - 1
      } else {
        types.push(typeof value === 'boolean' ? PointType.boolean : PointType.number)
        table.pointValue[table.points++] = Number(value)
      }
    }
    table.addRow(table.deviceNumber(tenant, device), ts, stamp, table.shapeId(values.map(([metric]) => table.metricId(metric)), types), first)
  }
}
