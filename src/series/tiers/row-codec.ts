/** Tier rows to bytes and back, bit for bit (NaNs become the canonical one). Pure. FORMAT.md draws the bytes. */
import { corrupt, tooLarge } from '../columns/bounds.js'
import { ByteReader, ByteWriter } from '../columns/bytes.js'
import { EncodeScratch, type DecodeState } from '../columns/sequence.js'
import { readDirectory, seriesMax, writeDirectory, type DirectoryEntry } from './directory.js'
import type { WriteColumns } from './integer-columns.js'
import { planNumberColumns, readNumberColumns } from './number-columns.js'
import { openRow, RowKind, writeRow } from './row-frame.js'
import { compareSeries } from './series-order.js'
import { planBooleanColumns, planStringColumns, readBooleanColumns, readStringColumns } from './state-columns.js'
import { readWindowTimes, sameTimes, windowsMax, writeWindowTimes, type WindowTimes } from './time-columns.js'
import type { SeriesWindows, TierWindows } from './windows.js'

/** Windows of all series that a reader asks for. */
const allWindowsMax = 2 ** 20

/**
 * All windows of a row.
 * @param widthUs of the windows
 * @param rowStart µs: where the row's period begins; only smaller bytes depend on it
 * Throws `limit_reached` beyond 2^16 series, 2^14 windows of one, or 2^20 windows.
 */
export function encodeTierRow (windows: TierWindows, widthUs: number, rowStart: number): Uint8Array {
  const series = windows.filter(({ starts }) => starts.length > 0).sort(compareSeries)
  checkLimits(series)
  const { groups, groupOf } = groupTimes(series)
  const plans = series.map(planSeries)
  const windowCount = series.reduce((sum, { starts }) => sum + starts.length, 0)
  return writeRow(RowKind.windows, windowCount, (writer, settings) => {
    writer.varint(widthUs)
    writer.signed(rowStart)
    const scratch = new EncodeScratch(series.reduce((most, { starts }) => Math.max(most, starts.length), 1))
    const bodies = plans.map(write => {
      const body = new ByteWriter(1024)
      write(body, scratch, settings)
      return body
    })
    writeDirectory(writer, series.map(({ metric, type }, i) => ({ metric, type, group: groupOf[i], length: bodies[i].length })))
    writer.varint(groups.length)
    for (const times of groups) {
      writer.byte(0)
      const start = writer.length
      writeWindowTimes(writer, scratch, times, widthUs, rowStart, settings)
      writer.closeLength(start)
    }
    for (const body of bodies) writer.raw(body.bytes.subarray(0, body.length))
  })
}

function checkLimits (series: TierWindows): void {
  if (series.length > seriesMax) throw tooLarge(`a tier row of ${series.length} series; ${seriesMax} is the most`)
  let all = 0
  for (const { starts: { length } } of series) {
    all += length
    if (length > windowsMax) throw tooLarge(`${length} windows of a series in a row; ${windowsMax} is the most`)
  }
  if (all > allWindowsMax) throw tooLarge(`a tier row of ${all} windows; ${allWindowsMax} is the most`)
}

/** Metrics that came together share their times; only the newest few sets are compared. */
function groupTimes (series: TierWindows): { groups: WindowTimes[], groupOf: number[] } {
  const comparedMax = 16
  const groups: WindowTimes[] = []
  const groupOf = series.map(own => {
    for (let i = groups.length - 1; i >= 0 && i >= groups.length - comparedMax; i--) if (sameTimes(groups[i], own)) return i
    return groups.push(own) - 1
  })
  return { groups, groupOf }
}

function planSeries (series: SeriesWindows): WriteColumns {
  if (series.type === 'number') return planNumberColumns(series)
  return series.type === 'boolean' ? planBooleanColumns(series) : planStringColumns(series)
}

/** The windows in a row; with `metrics`, those only: the others are passed over undecoded. Throws `corrupt_data` and `format_newer`. */
export function decodeTierRow (bytes: Uint8Array, metrics?: ReadonlySet<string>): TierWindows {
  const { reader, state } = openRow(bytes, RowKind.windows)
  const widthUs = reader.varint()
  const rowStart = reader.signed()
  const entries = readDirectory(reader)
  const groups = new TimeGroups(reader, widthUs, rowStart, state)
  const windows: SeriesWindows[] = []
  let all = 0
  for (const entry of entries) {
    const at = reader.skip(entry.length)
    if (metrics !== undefined && !metrics.has(entry.metric)) continue
    const times = groups.times(entry.group)
    all += times.starts.length
    if (all > allWindowsMax) throw corrupt(`a tier row of more than ${allWindowsMax} windows`)
    const part = new ByteReader(reader.bytes, at, at + entry.length)
    windows.push(readSeries(part, entry, times, state))
    if (part.at !== part.end) throw corrupt(`${part.end - part.at} bytes behind the end of a series`)
  }
  if (reader.at !== reader.end) throw corrupt(`${reader.end - reader.at} bytes behind the end of a tier row`)
  return windows
}

/** Sets of times; each is decoded when it is first asked for. */
class TimeGroups {
  readonly #parts: (ByteReader | WindowTimes)[] = []
  readonly #read: (part: ByteReader) => WindowTimes

  constructor (reader: ByteReader, widthUs: number, rowStart: number, state: DecodeState) {
    const count = reader.varint()
    if (count > seriesMax) throw corrupt(`${count} sets of times`)
    for (let i = 0; i < count; i++) this.#parts.push(reader.part())
    this.#read = part => readWindowTimes(part, widthUs, rowStart, state)
  }

  times (group: number): WindowTimes {
    const part = this.#parts[group] as ByteReader | WindowTimes | undefined
    if (part === undefined) throw corrupt(`no set of times ${group}`)
    if (!(part instanceof ByteReader)) return part
    const times = this.#read(part)
    if (part.at !== part.end) throw corrupt(`${part.end - part.at} bytes behind the end of times`)
    this.#parts[group] = times
    return times
  }
}

function readSeries (reader: ByteReader, { metric, type }: DirectoryEntry, times: WindowTimes, state: DecodeState): SeriesWindows {
  if (type === 'number') return readNumberColumns(reader, metric, times, state)
  return type === 'boolean' ? readBooleanColumns(reader, metric, times, state) : readStringColumns(reader, metric, times, state)
}
