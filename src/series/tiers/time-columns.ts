/** Starts, counts and times of windows: the same for all metrics that came together, so a row holds each set of them once. FORMAT.md, "Times". */
import { corrupt } from '../columns/bounds.js'
import type { ByteReader, ByteWriter } from '../columns/bytes.js'
import type { DecodeState, EncodeScratch, EncodeSettings } from '../columns/sequence.js'
import { ColumnScratch, ColumnsWriter, Kind, type ReadColumn } from './integer-columns.js'

export interface WindowTimes {
  readonly starts: Float64Array
  readonly counts: Float64Array
  readonly firstTs: Float64Array
  readonly lastTs: Float64Array
}

/** Windows of one series in a row. */
export const windowsMax = 2 ** 14

function same (a: Float64Array, b: Float64Array): boolean {
  if (a === b) return true
  if (a.length !== b.length) return false
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false
  return true
}

export const sameTimes = (a: WindowTimes, b: WindowTimes): boolean =>
  same(a.starts, b.starts) && same(a.counts, b.counts) && same(a.firstTs, b.firstTs) && same(a.lastTs, b.lastTs)

export function writeWindowTimes (writer: ByteWriter, scratch: EncodeScratch, times: WindowTimes, widthUs: number, rowStart: number, settings: EncodeSettings): void {
  const { starts, counts, firstTs, lastTs } = times
  const count = starts.length
  writer.varint(count)
  const columns = new ColumnsWriter()
  const numbers = starts.map(start => (start - rowStart) / widthUs)
  if (!(numbers.every(Number.isSafeInteger) && columns.integers(numbers.map((number, i) => i === 0 ? number : number - numbers[i - 1] - 1)))) columns.doubles(starts)
  if (!(counts.every(Number.isSafeInteger) && columns.integers(counts))) columns.doubles(counts)
  const offsets = firstTs.map((ts, i) => ts - starts[i])
  if (!(firstTs.every(Number.isSafeInteger) && offsets.every(Number.isSafeInteger) && columns.integers(offsets))) columns.doubles(firstTs)
  const spans = lastTs.map((ts, i) => ts - firstTs[i])
  if (!(lastTs.every(Number.isSafeInteger) && spans.every(Number.isSafeInteger) && columns.integers(spans))) columns.doubles(lastTs)
  columns.finish(writer, scratch, settings)
}

/** The times of a row, read into room that is used again. */
export class TimesScratch {
  readonly #columns = new ColumnScratch()
  #times: readonly ReadColumn[] = []
  count = 0

  get starts (): Float64Array { return this.#times[0].values }
  get counts (): Float64Array { return this.#times[1].values }
  get firstTs (): Float64Array { return this.#times[2].values }
  get lastTs (): Float64Array { return this.#times[3].values }

  read (reader: ByteReader, widthUs: number, rowStart: number, state: DecodeState): void {
    const count = reader.varint()
    if (count === 0 || count > windowsMax) throw corrupt(`${count} windows at byte ${reader.at}`)
    const columns = this.#times = this.#columns.read(reader, 4, count, state)
    const [starts, counts, firstTs, lastTs] = columns
    if (starts.kind !== Kind.doubles) {
      let number = -1
      for (let i = 0; i < count; i++) {
        number = i === 0 ? starts.values[0] : number + 1 + starts.values[i]
        starts.values[i] = rowStart + number * widthUs
      }
    }
    if (firstTs.kind !== Kind.doubles) for (let i = 0; i < count; i++) firstTs.values[i] += starts.values[i]
    if (lastTs.kind !== Kind.doubles) for (let i = 0; i < count; i++) lastTs.values[i] += firstTs.values[i]
    for (let i = 0; i < count; i++) {
      if (!(counts.values[i] >= 1) || (i > 0 && !(starts.values[i] > starts.values[i - 1]))) throw corrupt(`windows do not ascend, or are empty, at byte ${reader.at}`)
    }
    this.count = count
  }

  /** The times, in arrays of their own. */
  copy (): WindowTimes {
    const of = (values: Float64Array): Float64Array => values.slice(0, this.count)
    return { starts: of(this.starts), counts: of(this.counts), firstTs: of(this.firstTs), lastTs: of(this.lastTs) }
  }
}
