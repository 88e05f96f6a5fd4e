/**
 * Windows of a device at the resolution of a tier, for everybody who asks for them: queries, exports, verification. What tier rows
 * cannot say yet is folded from raw along the tree that sealers fold along (raw, 1m, 1h, 1d), and the two meet at window borders:
 * no seam, nothing twice, and a point of any lateness is in (INVARIANTS 2, 3). Runs in a worker thread.
 *
 * Which windows are stale is looked up before any tier row is read: slabs first, then head spans, then rows. A merge writes
 * its chunks before it removes slabs, and a seal its rows before it removes head chunks, so what moves meanwhile is
 * seen at least once, and the windows that it touches come from raw alone.
 */
import { shardOf } from '../core/ids.js'
import { inParallel } from '../core/in-parallel.js'
import { usPerDay, usPerHour, usPerMinute, type Chunk } from '../core/reading.js'
import { decodeSlabDevice } from '../series/codec.js'
import {
  decodeSketchRows, decodeTierRows, foldWindows, joinSketches, joinWindows, SketchFolder, sliceWindows, TierFolder, type SketchWindows, type TierWindows
} from '../series/tiers/index.js'
import { cutChunk, lowerBound } from '../series/cut-chunk.js'
import { readReadings } from './read-readings.js'
import type { ErasedPart } from './small-stores.js'
import { coverOf, coversSpan, joinSpans, withinSpans, withoutSpans, type Span } from './spans.js'
import type { Store } from './store.js'
import { tierOfKind, tiers, type Tier, type TierKind, type TierRow } from './tier-store.js'

export const tierWidthUs: Readonly<Record<Tier, number>> = { '1m': usPerMinute, '1h': usPerHour, '1d': usPerDay }
/** The time that one row stands for at most: rows of minutes are of a day or of an hour, which begins like one. */
const rowSpanUs = usPerDay

export interface WindowsRequest {
  readonly tenant: string
  readonly device: string
  /** Classes of raw rows, and before which time, µs, raw points are outside the retention. */
  readonly retentionDays: readonly number[]
  readonly oldestTs: number
  /** The same of each tier. */
  readonly tierClasses: Readonly<Record<Tier, readonly number[]>>
  readonly tierOldestTs: Readonly<Record<Tier, number>>
  /** µs, [fromTs, toTs): all that will be read lies in it. */
  readonly fromTs: number
  readonly toTs: number
  readonly metrics: ReadonlySet<string> | null
  /** Called between rows: throws where the reader is to give up. */
  readonly checkpoint?: () => void
}

/** Ranges (µs) that are looked at one by one rather than with what lies between them. */
const rowsBetweenMax = 8
const rangesAtOnce = 16
/** Rows that are read between two looks at whether to give up. */
const rowsAtOnce = 400

/** Ranges whose windows are folded from raw: of all metrics, and beyond that of one. */
interface Stale { readonly all: readonly Span[], readonly byMetric: ReadonlyMap<string, readonly Span[]> }

/** What windows and sketches are read with. */
interface Forms<T> {
  /** All windows of rows of one kind, joined. */
  decode(rows: Iterable<Uint8Array>, count: number): T
  join(parts: readonly T[]): T
  slice(windows: T, fromTs: number, toTs: number): T
  fold(span: Span): Promise<T>
}

type SeriesOf = readonly { readonly metric: string }[]

export class WindowReader {
  readonly #store: Store
  readonly #request: WindowsRequest
  readonly #unsealed: readonly Span[]
  readonly #parts: readonly ErasedPart[]
  /** Ranges that were folded from raw, in order of reading. */
  readonly folded: Span[] = []

  private constructor (store: Store, request: WindowsRequest, unsealed: readonly Span[], parts: readonly ErasedPart[]) {
    this.#store = store
    this.#request = request
    this.#unsealed = unsealed
    this.#parts = parts
  }

  /** Looks up what is not sealed and what is erased; rows are read after that. */
  static async open (store: Store, request: WindowsRequest): Promise<WindowReader> {
    const { tenant, device, metrics } = request
    const [parts, slabs] = await Promise.all([store.erasedParts(tenant, device), slabSpans(store, request)])
    const heads = await store.raw.listHeadSpans(request, Math.max(0, request.fromTs), request.toTs)
    const unsealed = [...slabs, ...heads.map(({ minTs, maxTs }) => ({ fromTs: minTs, toTs: maxTs + 1 }))]
    const relevant = parts.filter(({ metric = null, fromTs = -Infinity, toTs = Infinity }) =>
      (metric === null || metrics === null || metrics.has(metric)) && fromTs < request.toTs && toTs > request.fromTs)
    return new WindowReader(store, request, joinSpans(unsealed), relevant)
  }

  /**
   * Windows of the tier's width that begin in the ranges: ascending, disjoint, multiples of the width, inside the request's. Windows
   * that begin before the tier's retention are left out.
   */
  async readWindows (tier: Tier, ranges: readonly Span[]): Promise<TierWindows> {
    return await this.#read(tier, tier, ranges, {
      decode: (rows, count) => decodeTierRows(rows, this.#request.metrics ?? undefined, count),
      join: joinWindows,
      slice: sliceWindows,
      fold: async span => await this.#foldWindows(tier, span)
    })
  }

  /** Quantile sketches, as `readWindows`; a minute has none. */
  async readSketches (tier: '1h' | '1d', ranges: readonly Span[]): Promise<SketchWindows> {
    return await this.#read(tier, `q${tier}`, ranges, {
      decode: rows => decodeSketchRows(rows, this.#request.metrics ?? undefined),
      join: joinSketches,
      slice: sliceSketches,
      fold: async span => await this.#foldSketches(tierWidthUs[tier], span)
    })
  }

  /** The same windows from raw points alone. */
  async foldAll (tier: Tier, range: Span): Promise<TierWindows> {
    return await this.#foldWindows(tier, range)
  }

  /** Sketches of any width from raw points alone; for widths that have no row. */
  async foldSketches (widthUs: number, ranges: readonly Span[]): Promise<SketchWindows> {
    return joinSketches(await inParallel(ranges, async range => await this.#foldSketches(widthUs, range), 1))
  }

  async #read<T extends SeriesOf> (tier: Tier, kind: TierKind, wanted: readonly Span[], forms: Forms<T>): Promise<T> {
    const widthUs = tierWidthUs[tier]
    const oldestTs = Math.floor(this.#request.tierOldestTs[tier] / widthUs) * widthUs
    const ranges = wanted.map(({ fromTs, toTs }) => ({ fromTs: Math.max(fromTs, oldestTs), toTs })).filter(({ fromTs, toTs }) => fromTs < toTs)
    if (ranges.length === 0) return forms.join([])
    const rows = await this.#rows(kind, ranges)
    const stale = this.#staleOf(rows, widthUs, ranges)
    const needed = stale.all.length === 0 ? rows : rows.filter(row => !coversSpan(stale.all, row.start, row.start + rowSpanUs))
    const stored = forms.decode(bytesOf(needed, this.#request.checkpoint), needed.length)
    const raw = joinSpans([...stale.all, ...[...stale.byMetric.values()].flat()])
    const folded: T[] = []
    for (const span of raw) folded.push(await forms.fold(span))
    return combine(stored, forms.join(folded), stale, ranges, forms)
  }

  async #rows (kind: TierKind, ranges: readonly Span[]): Promise<readonly TierRow[]> {
    const { tenant, device, tierClasses, checkpoint } = this.#request
    const of = { tenant, device, retentionDays: tierClasses[tierOfKind(kind)] }
    const spanUs = kind === '1m' ? usPerHour : usPerDay
    const starts = coverOf(ranges, spanUs)
    // A day's minutes begin with the day, wherever in it the range does.
    if (kind === '1m') starts.push(...coverOf(ranges, usPerDay).flatMap(day => daysOf(day)))
    const scans = joinSpans(starts, rowsBetweenMax * spanUs).flatMap(span => piecesOf(span, rowsAtOnce * spanUs))
    const found = await inParallel(scans, async ({ fromTs, toTs }) => {
      checkpoint?.()
      return await this.#store.tiers.readTiers(of, kind, fromTs, toTs)
    }, rangesAtOnce)
    return found.length === 1 ? found[0] : found.flat()
  }

  /** Windows that rows do not know yet, or that know what is erased since: cut to the ranges. */
  #staleOf (rows: readonly TierRow[], widthUs: number, ranges: readonly Span[]): Stale {
    const all: Span[] = [...this.#unsealed]
    const byMetric = new Map<string, Span[]>()
    for (const { start, asOf } of rows) {
      for (const { stamp, metric = null, fromTs = -Infinity, toTs = Infinity } of this.#parts) {
        const span = { fromTs: Math.max(start, fromTs), toTs: Math.min(start + rowSpanUs, toTs) }
        if (stamp <= asOf || span.fromTs >= span.toTs) continue
        if (metric === null) all.push(span)
        else byMetric.set(metric, [...byMetric.get(metric) ?? [], span])
      }
    }
    const cut = (spans: readonly Span[]): Span[] => withinSpans(coverOf(spans, widthUs), ranges)
    return { all: cut(all), byMetric: new Map([...byMetric].map(([metric, spans]) => [metric, cut(spans)])) }
  }

  async * #raw ({ fromTs, toTs }: Span): AsyncGenerator<Chunk> {
    // A window at the border of the retention holds what has been there, as its row does.
    const oldestTs = Math.floor(this.#request.oldestTs / usPerDay) * usPerDay
    this.folded.push({ fromTs, toTs })
    yield * readReadings(this.#store, { ...this.#request, oldestTs, fromTs, toTs, order: 'asc' })
  }

  /** A day at a time: the minutes of a long range are never held at once, unless they are what is asked for. */
  async #foldWindows (tier: Tier, span: Span): Promise<TierWindows> {
    const parts: TierWindows[] = []
    let folder: TierFolder | null = null
    let dayEnds = 0
    const finish = (): void => {
      if (folder === null) return
      let windows = folder.finish()
      for (const step of tiers.slice(1, tiers.indexOf(tier) + 1)) windows = foldWindows(windows, tierWidthUs[step])
      parts.push(windows)
      folder = null
    }
    for await (const chunk of this.#raw(span)) {
      for (let rest = chunk; rest.ts.length > 0;) {
        if (folder !== null && rest.ts[0] >= dayEnds) finish()
        if (folder === null) {
          folder = new TierFolder(usPerMinute)
          dayEnds = (Math.floor(rest.ts[0] / usPerDay) + 1) * usPerDay
        }
        folder.add(cutChunk(rest, -Infinity, dayEnds))
        rest = cutChunk(rest, dayEnds, Infinity)
      }
    }
    finish()
    return joinWindows(parts)
  }

  async #foldSketches (widthUs: number, span: Span): Promise<SketchWindows> {
    const folder = new SketchFolder(widthUs)
    for await (const chunk of this.#raw(span)) folder.add(chunk)
    return folder.finish()
  }
}

function * bytesOf (rows: readonly TierRow[], checkpoint: (() => void) | undefined): Generator<Uint8Array> {
  for (const { bytes } of rows) {
    checkpoint?.()
    yield bytes
  }
}

/** The range in pieces of at most `lengthUs`. */
function piecesOf ({ fromTs, toTs }: Span, lengthUs: number): Span[] {
  const pieces: Span[] = []
  for (let from = fromTs; from < toTs; from += lengthUs) pieces.push({ fromTs: from, toTs: Math.min(from + lengthUs, toTs) })
  return pieces
}

/** The first instant of every day of a range. */
function daysOf ({ fromTs, toTs }: Span): Span[] {
  const days: Span[] = []
  for (let day = fromTs; day < toTs; day += usPerDay) days.push({ fromTs: day, toTs: day + 1 })
  return days
}

/** Stored windows where they are not stale, folded ones where they are. */
function combine<T extends SeriesOf> (stored: T, folded: T, stale: Stale, ranges: readonly Span[], { join, slice }: Pick<Forms<T>, 'join' | 'slice'>): T {
  const parts: { readonly fromTs: number, readonly windows: T }[] = []
  const take = (ofStale: readonly Span[], wanted: (metric: string) => boolean): void => {
    const some = (windows: T): T => windows.filter(({ metric }) => wanted(metric)) as unknown as T
    const [fresh, made] = [some(stored), some(folded)]
    for (const { fromTs, toTs } of withoutSpans(ranges, ofStale)) parts.push({ fromTs, windows: slice(fresh, fromTs, toTs) })
    for (const { fromTs, toTs } of ofStale) parts.push({ fromTs, windows: slice(made, fromTs, toTs) })
  }
  for (const [metric, spans] of stale.byMetric) take(joinSpans([...stale.all, ...spans]), name => name === metric)
  take(stale.all, name => !stale.byMetric.has(name))
  // In order of time, they are joined by putting one behind the other.
  const inOrder = parts.sort((a, b) => a.fromTs - b.fromTs).map(({ windows }) => windows).filter(({ length }) => length > 0)
  return inOrder.length === 1 ? inOrder[0] : join(inOrder)
}

function sliceSketches (windows: SketchWindows, fromTs: number, toTs: number): SketchWindows {
  return windows.map(({ metric, starts, sketches }) => {
    const from = lowerBound(starts, fromTs)
    const to = lowerBound(starts, toTs)
    return { metric, starts: starts.subarray(from, to), sketches: sketches.slice(from, to) }
  }).filter(({ sketches }) => sketches.length > 0)
}

/** When the device has points in slabs. */
async function slabSpans (store: Store, { tenant, device, retentionDays, fromTs, toTs, checkpoint }: WindowsRequest): Promise<Span[]> {
  const spans: Span[] = []
  const minuteOf = (ts: number): number => Math.floor(ts / usPerMinute) * usPerMinute
  for await (const slab of store.raw.scanSlabs(tenant, shardOf(device), retentionDays, minuteOf(fromTs), minuteOf(toTs - 1))) {
    checkpoint?.()
    const chunk = decodeSlabDevice(slab.bytes, device, noMetrics)
    if (chunk !== null && chunk.ts.length > 0) spans.push({ fromTs: slab.minute, toTs: slab.minute + usPerMinute })
  }
  return spans
}

/** Times are all that is asked for. */
const noMetrics: ReadonlySet<string> = new Set()
