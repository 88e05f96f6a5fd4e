/**
 * Answers a question about windows: reads them from the tiers that its plan names (source-plan.ts), gathers them into the
 * windows asked for, and writes JSON in columns. Runs in a worker thread.
 */
import { TwinfoldError } from '../core/errors.js'
import { usPerHour, usPerMinute, usPerSecond, type Value } from '../core/reading.js'
import { looksBack, parseAggregate, type Aggregate } from '../series/steps/aggregates.js'
import { bordersOf, stepFor } from '../series/steps/step.js'
import { Zone } from '../series/steps/zone.js'
import { foldWindowsAt, joinWindows, relativeError, TierFolder, type SketchWindows, type TierWindows } from '../series/tiers/index.js'
import { readReadings } from '../store/read-readings.js'
import { tierWidthUs, WindowReader } from '../store/read-windows.js'
import type { Store } from '../store/store.js'
import type { Tier } from '../store/tier-store.js'
import type { QueryResult } from '../../workers/protocol.js'
import type { AggregateQuery, Source } from '../../workers/query-protocol.js'
import { numberCells, stateCells } from './cells.js'
import { ExactQuantiles, type QuantileRows } from './exact-quantiles.js'
import { fillGaps, type Cell } from './fill.js'
import { bytesOf, formatTime } from '../core/json-values.js'
import { formatCells } from './format-cells.js'
import { groupNumbers, type PointBefore } from './group-numbers.js'
import { groupBooleans, groupStrings } from './group-states.js'
import { pointsBefore, seriesKey, tierLookBackUs, type PointsBefore } from './points-before.js'
import { sketchQuantiles } from './sketch-quantiles.js'
import { coarsestFirst, fits, piecesOf, segmentsOf, type Segment } from './source-plan.js'

interface AnswerSeries { readonly metric: string, readonly type: string, readonly agg: string, readonly cells: Cell[], readonly approximate: boolean }

export class AggregateRunner {
  readonly #store: Store
  /** Zones asked for lately: their offsets are costly to look up. */
  readonly #zones = new Map<string, Zone>()

  constructor (store: Store) { this.#store = store }

  /** @throws TwinfoldError `invalid_field` where the answer would be too long or the source cannot give it. */
  async run (task: AggregateQuery, checkpoint: () => void): Promise<QueryResult> {
    const all = bordersOf(task.step, this.#zone(task.zone), task.fromTs, task.toTs)
    const more = task.limit !== undefined && all.length - 1 > task.limit
    const borders = more ? all.subarray(0, task.limit as number + 1) : all
    const answer = await new Aggregation(this.#store, task, borders, checkpoint).run()
    return { body: bytesOf(answer.text), readings: answer.windows, lastTs: borders[borders.length - 1], more }
  }

  #zone (name: string): Zone {
    let zone = this.#zones.get(name)
    if (zone === undefined) {
      if (this.#zones.size >= zonesMax) this.#zones.clear()
      this.#zones.set(name, zone = new Zone(name))
    }
    return zone
  }
}

const zonesMax = 64

class Aggregation {
  readonly #store: Store
  readonly #task: AggregateQuery
  readonly #borders: Float64Array
  readonly #checkpoint: () => void
  readonly #wanted = new Map<string | null, readonly Aggregate[]>()
  readonly #metrics: ReadonlySet<string> | null
  #reader: Promise<WindowReader> | null = null
  readonly #used: (Segment & { readonly edges?: Tier })[] = []

  constructor (store: Store, task: AggregateQuery, borders: Float64Array, checkpoint: () => void) {
    this.#store = store
    this.#task = task
    this.#borders = borders
    this.#checkpoint = checkpoint
    for (const { metric, aggs } of task.wanted) this.#wanted.set(metric, aggs.map(text => parseAggregate(text) as Aggregate))
    this.#metrics = this.#wanted.has(null) ? null : new Set([...this.#wanted.keys()] as string[])
  }

  async run (): Promise<{ text: string, windows: number }> {
    const every = [...this.#wanted.values()].flat()
    const windows = every.some(({ name }) => name !== 'quantile') ? await this.#windows() : []
    const quantiles = every.some(({ name }) => name === 'quantile') ? await this.#quantiles() : new Map<string, never>()
    const before = every.some(looksBack) ? await this.#before(windows) : new Map<string, PointBefore<Value>>()
    const series = [...this.#seriesOf(windows, before), ...this.#quantileSeries(quantiles)]
    this.#checkLength(series.length)
    series.sort((a, b) => a.metric < b.metric ? -1 : a.metric > b.metric ? 1 : 0)
    return this.#write(series)
  }

  #aggsOf (metric: string): readonly Aggregate[] {
    return this.#wanted.get(metric) ?? this.#wanted.get(null) ?? []
  }

  get #scope (): AggregateQuery & { readonly metrics: ReadonlySet<string> | null, readonly checkpoint: () => void } {
    return { ...this.#task, metrics: this.#metrics, checkpoint: this.#checkpoint }
  }

  async #open (): Promise<WindowReader> {
    return await (this.#reader ??= WindowReader.open(this.#store, { ...this.#scope, fromTs: this.#borders[0], toTs: this.#borders[this.#borders.length - 1] }))
  }

  #oldestOf (source: Source): number {
    return source === 'raw' ? this.#task.oldestTs : this.#task.tierOldestTs[source]
  }

  /** Windows of the coarsest tiers that fit. */
  async #windows (): Promise<TierWindows> {
    const { source } = this.#task
    const fitting = coarsestFirst.filter(name => name === 'raw' || fits(this.#borders, name, this.#task.step))
    if (source !== undefined && !fitting.includes(source)) throw cannotGive(source)
    const parts: TierWindows[] = []
    for (const segment of segmentsOf(this.#borders, source === undefined ? fitting : [source], name => this.#oldestOf(name))) {
      const borders = this.#borders.subarray(segment.from, segment.to + 1)
      parts.push(segment.source === 'raw' ? await this.#fold(borders) : await this.#pieces(borders, segment.source, segment))
      if (segment.source === 'raw') this.#used.push(segment)
    }
    const { step } = this.#task
    const [only] = this.#used
    if (parts.length === 1 && step.unit === 'us' && (only.source === 'raw' || tierWidthUs[only.source] === step.count)) return parts[0]
    // Sums of decimals stay exact (series/tiers/exact.ts), whatever the windows that they come from.
    return foldWindowsAt(joinWindows(parts), Array.from(this.#borders.subarray(0, -1)))
  }

  async #pieces (borders: Float64Array, top: Tier, segment: Segment): Promise<TierWindows> {
    const reader = await this.#open()
    const pieces = piecesOf(borders, top, this.#task.step)
    const parts: TierWindows[] = []
    for (const { tier, ranges } of pieces) parts.push(await reader.readWindows(tier, ranges))
    this.#used.push(pieces.length > 1 ? { ...segment, edges: pieces[pieces.length - 1].tier } : segment)
    return parts.length === 1 ? parts[0] : joinWindows(parts)
  }

  /** Raw points, along the tree where the windows consist of whole minutes. */
  async #fold (borders: Float64Array): Promise<TierWindows> {
    const { step } = this.#task
    const top = coarsestFirst.find(name => name !== 'raw' && fits(borders, name, step) && piecesOf(borders, name as Tier, step).length === 1) as Tier | undefined
    if (top !== undefined) return await (await this.#open()).foldAll(top, { fromTs: Math.max(0, borders[0]), toTs: borders[borders.length - 1] })
    const minutes = borders.every(border => border % usPerMinute === 0)
    const folder = new TierFolder(step.unit === 'us' ? step.count : minutes ? usPerMinute : usPerSecond)
    for await (const chunk of this.#raw(borders)) folder.add(chunk)
    return folder.finish()
  }

  #raw (borders: Float64Array): ReturnType<typeof readReadings> {
    return readReadings(this.#store, { ...this.#scope, fromTs: borders[0], toTs: borders[borders.length - 1], order: 'asc' })
  }

  /** From sketches where windows are at least an hour, else from the points themselves. */
  async #quantiles (): Promise<Map<string, { readonly rows: QuantileRows, readonly approximate: boolean }>> {
    const { source } = this.#task
    const hasQuantiles = ({ name }: Aggregate): boolean => name === 'quantile'
    const qsOf = (metric: string): number[] => this.#aggsOf(metric).filter(hasQuantiles).map(({ q }) => q as number)
    const fitting = coarsestFirst.filter(name => name === 'raw' || (name !== '1m' && fits(this.#borders, name, this.#task.step)))
    if (source !== undefined && !fitting.includes(source)) throw cannotGive(source)
    const found = new Map<string, { rows: QuantileRows, approximate: boolean }>()
    for (const segment of segmentsOf(this.#borders, source === undefined ? fitting : [source], name => this.#oldestOf(name))) {
      const borders = this.#borders.subarray(segment.from, segment.to + 1)
      if (segment.source === 'raw') {
        const exact = new ExactQuantiles(borders, qsOf)
        for await (const chunk of this.#raw(borders)) exact.add(chunk)
        found.set(`raw ${segment.from}`, { rows: shifted(exact.finish(), segment.from), approximate: false })
      } else {
        const sketches = await this.#sketches(borders, segment.source)
        found.set(`sketch ${segment.from}`, { rows: shifted(sketchQuantiles(sketches, borders, qsOf), segment.from), approximate: true })
      }
      if (!this.#used.some(({ source: used, from }) => used === segment.source && from === segment.from)) this.#used.push(segment)
    }
    return found
  }

  async #sketches (borders: Float64Array, top: Tier): Promise<readonly SketchWindows[]> {
    const reader = await this.#open()
    const parts: SketchWindows[] = []
    for (const { tier, ranges } of piecesOf(borders, top, this.#task.step)) {
      // The edges of a zone of half hours are sketched from raw; a quarter of an hour divides all of them.
      parts.push(tier === '1m' ? await reader.foldSketches(edgeWidthUs(borders), ranges) : await reader.readSketches(tier, ranges))
    }
    return parts
  }

  async #before (windows: TierWindows): Promise<PointsBefore> {
    const wanted = windows.filter(({ metric }) => this.#aggsOf(metric).some(looksBack))
    const beforeTs = this.#borders[0]
    return await pointsBefore(this.#store, this.#task, beforeTs, wanted, this.#checkpoint,
      async () => await WindowReader.open(this.#store, { ...this.#scope, fromTs: Math.max(0, beforeTs - tierLookBackUs - usPerHour), toTs: beforeTs }))
  }

  #seriesOf (windows: TierWindows, before: PointsBefore): AnswerSeries[] {
    const length = this.#borders.length - 1
    const { nowTs } = this.#task
    const answer: AnswerSeries[] = []
    for (const series of windows) {
      const aggs = this.#aggsOf(series.metric).filter(({ name }) => name !== 'quantile')
      if (aggs.length === 0) continue
      const point = before.get(seriesKey(series)) ?? null
      let cellsOf: (agg: Aggregate) => Cell[] | null
      if (series.type === 'number') {
        const groups = groupNumbers(series, this.#borders, point as PointBefore<number> | null, nowTs)
        cellsOf = ({ name }) => numberCells(groups, name, length)
      } else if (series.type === 'boolean') {
        const groups = groupBooleans(series, this.#borders, point as PointBefore<boolean> | null, nowTs)
        cellsOf = ({ name }) => stateCells('boolean', groups, name, length)
      } else {
        const groups = groupStrings(series, this.#borders, point as PointBefore<string> | null, nowTs)
        cellsOf = ({ name }) => stateCells('string', groups, name, length)
      }
      for (const agg of aggs) {
        const cells = cellsOf(agg)
        if (cells !== null) answer.push({ metric: series.metric, type: series.type, agg: agg.text, cells, approximate: false })
      }
    }
    return answer
  }

  #quantileSeries (found: ReadonlyMap<string, { readonly rows: QuantileRows, readonly approximate: boolean }>): AnswerSeries[] {
    const answer = new Map<string, AnswerSeries>()
    for (const { rows, approximate } of found.values()) {
      for (const [metric, { index, values }] of rows) {
        this.#aggsOf(metric).filter(({ name }) => name === 'quantile').forEach(({ text }, at) => {
          const key = `${text} ${metric}`
          const known = answer.get(key)
          const cells = known?.cells ?? new Array<Cell>(this.#borders.length - 1).fill(null)
          for (let i = 0; i < index.length; i++) cells[index[i]] = values[i][at]
          answer.set(key, { metric, type: 'number', agg: text, cells, approximate: approximate || known?.approximate === true })
        })
      }
    }
    return [...answer.values()]
  }

  #checkLength (series: number): void {
    const { valuesMax, step, zone } = this.#task
    const windows = this.#borders.length - 1
    if (windows * series <= valuesMax) return
    const spanUs = this.#borders[windows] - this.#borders[0]
    const allowed = Math.floor(valuesMax / series)
    const hint = allowed < 2 ? 'ask for fewer metrics' : `the smallest step for this range and as many series is ${stepFor(spanUs, allowed).text}`
    throw new TwinfoldError('invalid_field', `${windows} windows of '${step.text}' (${zone}) of ${series} series are more than ${valuesMax} values; ${hint}, or give a 'limit' and follow the cursor`, { field: 'step' })
  }

  #write (series: readonly AnswerSeries[]): { text: string, windows: number } {
    const { fill, times, step, zone } = this.#task
    const length = this.#borders.length - 1
    const shown: number[] = []
    for (let i = 0; i < length; i++) if (fill !== 'none' || series.some(({ cells }) => cells[i] !== null)) shown.push(i)
    const parts: string[] = []
    for (const { metric, type, agg, cells, approximate } of series) {
      fillGaps(cells, this.#borders, fill)
      parts.push(`{"metric":${JSON.stringify(metric)},"type":"${type}","agg":"${agg}",${approximate ? `"error":${relativeError},` : ''}"values":${formatCells(cells, shown)}}`)
    }
    const windows = shown.map(i => formatTime(this.#borders[i], times)).join(',')
    const text = `"step":"${step.text}","tz":${JSON.stringify(zone)},"align":"${step.unit === 'us' ? 'epoch' : 'calendar'}",` +
      `"from":${formatTime(this.#borders[0], times)},"to":${formatTime(this.#borders[length], times)},${this.#sources()},` +
      `"windows":[${windows}],"series":[${parts.join(',')}]`
    return { text, windows: shown.length }
  }

  /** The tier, or which part of the answer came from which. */
  #sources (): string {
    const { times } = this.#task
    const edgesOf = (edges: Tier | undefined): string => edges === undefined ? '' : `,"edges":"${edges}"`
    const whole = this.#used.filter(({ from, to }) => from === 0 && to === this.#borders.length - 1)
    if (this.#used.length === 1 && whole.length === 1) return `"tier":"${whole[0].source}"${edgesOf(whole[0].edges)}`
    const list = this.#used.map(({ source, from, to, edges }) =>
      `{"tier":"${source}","from":${formatTime(this.#borders[from], times)},"to":${formatTime(this.#borders[to], times)}${edgesOf(edges)}}`)
    const finest = coarsestFirst.findLast(name => this.#used.some(({ source }) => source === name)) as Source
    return `"tier":"${finest}","tiers":[${list.join(',')}]`
  }
}

/** A width that divides the distance of every border from the hour. */
function edgeWidthUs (borders: Float64Array): number {
  const quarter = usPerHour / 4
  return borders.every(border => border % quarter === 0) ? quarter : usPerMinute
}

function shifted (rows: QuantileRows, by: number): QuantileRows {
  if (by > 0) for (const { index } of rows.values()) for (let i = 0; i < index.length; i++) index[i] += by
  return rows
}

function cannotGive (source: Source): TwinfoldError {
  return new TwinfoldError('invalid_field', `tier '${source}' cannot give these windows and aggregates exactly; leave 'tier' away and the server chooses`, { field: 'tier' })
}
