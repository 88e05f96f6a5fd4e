/**
 * All tier rows of a bucket from its joined readings, along the one tree that sealing, `verify` and readers share: raw to minutes,
 * minutes to hours, hours to days; sketches of hours, merged to days (DESIGN 3.4). Pure. INVARIANTS 4: the same points give the
 * same bytes, whatever the chunks that they come in.
 *
 * Folds a day at a time, so that a bucket of 30 days needs the memory of one day's windows.
 */
import { usPerDay, usPerHour, usPerMinute, type Chunk } from '../core/reading.js'
import { encodeSketchRow, encodeTierRow, foldSketches, foldWindows, SketchFolder, sliceWindows, TierFolder, type TierWindows } from '../series/tiers/index.js'
import { cutChunk } from '../series/cut-chunk.js'
import type { TierKind } from '../store/tier-store.js'

/** A tier row without its bucket and its place. */
export interface FoldedRow {
  readonly kind: TierKind
  /** µs */
  readonly start: number
  readonly bytes: Uint8Array
}

interface OpenDay { readonly start: number, readonly tiers: TierFolder, readonly sketches: SketchFolder }

export class BucketFolder {
  readonly #rows: FoldedRow[] = []
  #day: OpenDay | null = null

  /** Joined chunks, ascending, none overlapping the one before. */
  add (chunk: Chunk): void {
    const { ts } = chunk
    const last = ts[ts.length - 1]
    for (let at = ts[0]; ts.length > 0;) {
      const start = Math.floor(at / usPerDay) * usPerDay
      if (this.#day?.start !== start) {
        this.#closeDay()
        this.#day = { start, tiers: new TierFolder(usPerMinute), sketches: new SketchFolder(usPerHour) }
      }
      const part = last < start + usPerDay ? cutChunk(chunk, at, Infinity) : cutChunk(chunk, at, start + usPerDay)
      this.#day?.tiers.add(part)
      this.#day?.sketches.add(part)
      if (last < start + usPerDay) return
      at = cutChunk(chunk, start + usPerDay, Infinity).ts[0]
    }
  }

  /** All rows, in order of time inside each kind. */
  finish (): readonly FoldedRow[] {
    this.#closeDay()
    return this.#rows
  }

  /** One row for the day: what a row costs besides its windows (names, a form for every column) is more than a quiet hour's windows. */
  #addMinutes (day: number, minutes: TierWindows): void {
    const hours = hoursOf(minutes)
    const windows = minutes.reduce((sum, { starts }) => sum + starts.length, 0)
    if (hours.length > 1 && windows <= minutesRowMax) {
      this.#rows.push({ kind: '1m', start: day, bytes: encodeTierRow(minutes, usPerMinute, day) })
      return
    }
    for (const hour of hours) {
      this.#rows.push({ kind: '1m', start: hour, bytes: encodeTierRow(sliceWindows(minutes, hour, hour + usPerHour), usPerMinute, hour) })
    }
  }

  #closeDay (): void {
    if (this.#day === null) return
    const { start, tiers, sketches } = this.#day
    this.#day = null
    const minutes = tiers.finish()
    this.#addMinutes(start, minutes)
    const hours = foldWindows(minutes, usPerHour)
    this.#rows.push({ kind: '1h', start, bytes: encodeTierRow(hours, usPerHour, start) })
    this.#rows.push({ kind: '1d', start, bytes: encodeTierRow(foldWindows(hours, usPerDay), usPerDay, start) })
    const hourly = sketches.finish()
    // Devices that send no numbers have none.
    if (hourly.length === 0) return
    this.#rows.push({ kind: 'q1h', start, bytes: encodeSketchRow(hourly, usPerHour, start) })
    this.#rows.push({ kind: 'q1d', start, bytes: encodeSketchRow(foldSketches(hourly, usPerDay), usPerDay, start) })
  }
}

/** A row of minutes holds at most so many windows of all metrics: above it is cut into hours. */
const minutesRowMax = 2 ** 16

/** Hours that have a window, ascending. */
function hoursOf (minutes: TierWindows): number[] {
  const hours = new Set<number>()
  for (const { starts } of minutes) for (const start of starts) hours.add(Math.floor(start / usPerHour) * usPerHour)
  return [...hours].sort((a, b) => a - b)
}
