/** Windows of an hour as rows of the `tiers_1h` table. Pure. */
import { usPerSecond, type ValueType } from '../../core/reading.js'
import type { AnalyticsHours } from '../analytics-store.js'
import type { SeriesWindows } from '../../series/tiers/windows.js'
import { valueTypes } from './point-rows.js'
import { RowBuffer } from './row-buffer.js'

export const hourColumns = [
  'tenant', 'metric', 'device', 'hour', 'type', 'bucket_start', 'bucket_minutes', 'count', 'sum', 'min', 'max', 'first', 'last', 'first_ts', 'last_ts', 'm2', 'increase', 'area',
  'changes', 'true_us', 'first_string', 'last_string', 'version', 'is_deleted', 'written', 'read_at', 'whole'
] as const

/** 22 numbers of at most 8 bytes, and the lengths of five texts. */
const fixedBytesMax = 22 * 8 + 5 * 5

export type HourOwner = Omit<AnalyticsHours, 'windows'>

interface HourValues {
  readonly count: number
  readonly sum: number
  readonly min: number
  readonly max: number
  readonly first: number
  readonly last: number
  readonly firstTs: number
  readonly lastTs: number
  readonly m2: number
  readonly increase: number
  readonly area: number
  readonly changes: number
  readonly trueUs: number
  readonly firstString: string
  readonly lastString: string
}

const nothing: HourValues = {
  count: 0, sum: 0, min: 0, max: 0, first: 0, last: 0, firstTs: 0, lastTs: 0, m2: 0, increase: 0, area: 0, changes: 0, trueUs: 0, firstString: '', lastString: ''
}

export class HourRows {
  readonly #rows = new RowBuffer()
  readonly #writtenS: number

  /** @param writtenS when the rows are written, seconds since the epoch. */
  constructor (writtenS: number) {
    this.#writtenS = writtenS
  }

  get length (): number { return this.#rows.length }

  /** Window `i` of a series. */
  add (owner: HourOwner, series: SeriesWindows, i: number): void {
    this.#row(owner, series.metric, series.type, series.starts[i], valuesOf(series, i), false)
  }

  /** Says that the window has no points any more. */
  addDeleted (owner: HourOwner, metric: string, type: ValueType, hour: number): void {
    this.#row(owner, metric, type, hour, nothing, true)
  }

  take (): Buffer { return this.#rows.take() }

  #row ({ tenant, device, bucket, version, complete }: HourOwner, metric: string, type: ValueType, hour: number, values: HourValues, isDeleted: boolean): void {
    const rows = this.#rows
    rows.reserve(fixedBytesMax, tenant.length + metric.length + device.length + values.firstString.length + values.lastString.length)
    rows.text(tenant)
    rows.text(metric)
    rows.text(device)
    rows.uint64(hour / usPerSecond)
    rows.byte(valueTypes[type])
    rows.uint64(bucket.start / usPerSecond)
    rows.uint32(bucket.widthMinutes)
    rows.uint64(values.count)
    for (const value of [values.sum, values.min, values.max, values.first, values.last]) rows.double(value)
    rows.uint64(values.firstTs)
    rows.uint64(values.lastTs)
    for (const value of [values.m2, values.increase, values.area]) rows.double(value)
    rows.uint64(values.changes)
    rows.uint64(values.trueUs)
    rows.text(values.firstString)
    rows.text(values.lastString)
    rows.uint64(version)
    rows.byte(isDeleted ? 1 : 0)
    rows.uint32(this.#writtenS)
    rows.uint32(Math.max(0, Math.floor((complete?.readAt ?? 0) / usPerSecond)))
    rows.byte(complete?.isWhole(hour) === true ? 1 : 0)
  }
}

function valuesOf (series: SeriesWindows, i: number): HourValues {
  const { counts: { [i]: count }, firstTs: { [i]: firstTs }, lastTs: { [i]: lastTs } } = series
  const common = { ...nothing, count, firstTs, lastTs }
  switch (series.type) {
    case 'number': return {
      ...common, sum: series.sums[i], min: series.mins[i], max: series.maxs[i], first: series.firsts[i], last: series.lasts[i],
      m2: series.m2s[i], increase: series.increases[i], area: series.areas[i]
    }
    case 'boolean': {
      const first = series.firsts[i]
      const last = series.lasts[i]
      const trues = series.trues[i]
      return { ...common, first, last, sum: trues, min: trues === count ? 1 : 0, max: trues > 0 ? 1 : 0, changes: series.changes[i], trueUs: series.trueUs[i] }
    }
    case 'string': return { ...common, changes: series.changes[i], firstString: series.firsts[i], lastString: series.lasts[i] }
  }
}
