/** Tier rows to bytes and back, bit for bit (NaNs become the canonical one). Pure. FORMAT.md draws the bytes. */
import { corrupt, tooLarge } from '../columns/bounds.js'
import { ByteWriter } from '../columns/bytes.js'
import { EncodeScratch } from '../columns/sequence.js'
import { seriesMax, type DirectoryEntry } from './directory.js'
import { gatherSeries, type GatheredSeries } from './gathered.js'
import type { WriteColumns } from './integer-columns.js'
import { NumberScratch, planNumberColumns } from './number-columns.js'
import { RowKind, writeRow } from './row-frame.js'
import { assertRead, RowReader, writeParts } from './row-parts.js'
import { compareSeries } from './series-order.js'
import { planBooleanColumns, planStringColumns } from './state-columns.js'
import { sameTimes, TimesScratch, windowsMax, writeWindowTimes, type WindowTimes } from './time-columns.js'
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
  return writeRow(RowKind.windows, windowCount, widthUs, (writer, settings) => {
    const scratch = new EncodeScratch(series.reduce((most, { starts }) => Math.max(most, starts.length), 1))
    const bodies = plans.map(write => {
      const body = new ByteWriter(1024)
      write(body, scratch, settings)
      return body
    })
    const shared = groups.map(times => {
      const part = new ByteWriter(256)
      writeWindowTimes(part, scratch, times, widthUs, rowStart, settings)
      return part
    })
    writeParts(writer, widthUs, rowStart, series.map(({ metric, type }, i) => ({ metric, type, group: groupOf[i] })), shared, bodies)
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
  return decodeTierRows([bytes], metrics)
}

/**
 * The windows in all rows of one kind of a device, as `joinWindows` of each row's windows would give them. Rows that follow one another
 * in time, as a scan yields them, are read fastest. Throws `corrupt_data` and `format_newer`.
 * @param rowsMost how many rows may come: room is made for them
 */
export function decodeTierRows (rows: Iterable<Uint8Array>, metrics?: ReadonlySet<string>, rowsMost = 1): TierWindows {
  const row = new RowReader(RowKind.windows, metrics)
  const times = new SharedTimes(row)
  const scratch = new NumberScratch()
  const gathered = new Map<string, GatheredSeries>()
  let entries: readonly DirectoryEntry[] = []
  let bySeries: GatheredSeries[] = []
  let left = rowsMost
  for (const bytes of rows) {
    row.open(bytes)
    times.next()
    if (row.entries !== entries) {
      entries = row.entries
      bySeries = row.wanted.map(i => gatheredOf(gathered, entries[i], Math.max(1, left), scratch))
    }
    left--
    let all = 0
    for (let k = 0; k < bySeries.length; k++) {
      const series = row.wanted[k]
      const own = times.of(entries[series].group)
      all += own.count
      if (all > allWindowsMax) throw corrupt(`a tier row of more than ${allWindowsMax} windows`)
      const part = row.series(series)
      bySeries[k].add(part, own, row.state)
      assertRead(part)
    }
  }
  return [...gathered.values()].map(series => series.finish()).sort(compareSeries)
}

function gatheredOf (gathered: Map<string, GatheredSeries>, entry: DirectoryEntry, rowsLeft: number, scratch: NumberScratch): GatheredSeries {
  const key = `${entry.type} ${entry.metric}`
  let series = gathered.get(key)
  if (series === undefined) gathered.set(key, series = gatherSeries(entry, rowsLeft, scratch))
  return series
}

/** The sets of times of a row; each is decoded when it is first asked for. */
class SharedTimes {
  readonly #row: RowReader
  readonly #times: { readonly scratch: TimesScratch, row: number }[] = []
  #number = 0

  constructor (row: RowReader) {
    this.#row = row
  }

  /** Another row was opened. */
  next (): void { this.#number++ }

  of (group: number): TimesScratch {
    const { widthUs, rowStart, shared, state } = this.#row
    if (group >= shared) throw corrupt(`no set of times ${group}`)
    while (this.#times.length <= group) this.#times.push({ scratch: new TimesScratch(), row: 0 })
    const times = this.#times[group]
    if (times.row !== this.#number) {
      const part = this.#row.part(group)
      times.scratch.read(part, widthUs, rowStart, state)
      assertRead(part)
      times.row = this.#number
    }
    return times.scratch
  }
}
