/**
 * Windows of one series out of many rows. Numbers are decoded straight into columns that grow, without an object or an array per row;
 * of the other types, which are few, each row's windows are kept and put together at the end.
 */
import type { ByteReader } from '../columns/bytes.js'
import type { DecodeState } from '../columns/sequence.js'
import { joinSeries } from './combine.js'
import type { DirectoryEntry } from './directory.js'
import { numberArrays } from './number-combine.js'
import { readNumberColumns, type NumberScratch } from './number-columns.js'
import { readBooleanColumns, readStringColumns } from './state-columns.js'
import type { TimesScratch } from './time-columns.js'
import { sliceSeries } from './window-arrays.js'
import type { NumberWindows, SeriesWindows } from './windows.js'

export interface GatheredSeries {
  /** Reads the series' part of a row. */
  add (reader: ByteReader, times: TimesScratch, state: DecodeState): void
  /** All windows, ascending by start; of one start there is one window. */
  finish (): SeriesWindows
}

/** @param rowsLeft rows that may still come: room is made for as many as the first one */
export function gatherSeries ({ metric, type }: DirectoryEntry, rowsLeft: number, scratch: NumberScratch): GatheredSeries {
  return type === 'number' ? new GatheredNumbers(metric, rowsLeft, scratch) : new GatheredStates(metric, type)
}

class GatheredNumbers implements GatheredSeries {
  readonly #scratch: NumberScratch
  readonly #rowsLeft: number
  #windows: NumberWindows
  #length = 0

  constructor (metric: string, rowsLeft: number, scratch: NumberScratch) {
    this.#scratch = scratch
    this.#rowsLeft = rowsLeft
    this.#windows = numberArrays(metric, 0)
  }

  add (reader: ByteReader, times: TimesScratch, state: DecodeState): void {
    const { count } = times
    const at = this.#length
    if (at + count > this.#windows.starts.length) this.#grow(at === 0 ? count * this.#rowsLeft : 2 * at + count)
    const { starts, counts, firstTs, lastTs } = times
    const windows = this.#windows
    for (let i = 0; i < count; i++) {
      windows.starts[at + i] = starts[i]
      windows.counts[at + i] = counts[i]
      windows.firstTs[at + i] = firstTs[i]
      windows.lastTs[at + i] = lastTs[i]
    }
    readNumberColumns(reader, windows, at, count, this.#scratch, state)
    this.#length = at + count
  }

  #grow (length: number): void {
    const grown = numberArrays(this.#windows.metric, length)
    for (const name of ['starts', 'counts', 'firstTs', 'lastTs', 'sums', 'mins', 'maxs', 'firsts', 'lasts', 'm2s', 'increases', 'areas', 'scales'] as const) {
      grown[name].set(this.#windows[name].subarray(0, this.#length))
    }
    this.#windows = grown
  }

  finish (): SeriesWindows {
    const windows = this.#windows
    return joinSeries([this.#length === windows.starts.length ? windows : sliceSeries(windows, 0, this.#length)])
  }
}

class GatheredStates implements GatheredSeries {
  readonly #metric: string
  readonly #type: 'boolean' | 'string'
  readonly #rows: SeriesWindows[] = []

  constructor (metric: string, type: 'boolean' | 'string') {
    this.#metric = metric
    this.#type = type
  }

  add (reader: ByteReader, times: TimesScratch, state: DecodeState): void {
    const own = times.copy()
    this.#rows.push(this.#type === 'boolean' ? readBooleanColumns(reader, this.#metric, own, state) : readStringColumns(reader, this.#metric, own, state))
  }

  finish (): SeriesWindows { return joinSeries(this.#rows) }
}
