/** Rows of sketches to bytes and back. Equal sketches are equal bytes, in whatever order they were made. Pure. FORMAT.md, "Sketches". */
import { chunkPointsMax, corrupt, tooLarge } from '../columns/bounds.js'
import { ByteWriter, type ByteReader } from '../columns/bytes.js'
import { EncodeScratch, type EncodeSettings } from '../columns/sequence.js'
import { readNumbers, writeNumbers } from '../columns/numbers.js'
import { seriesMax } from './directory.js'
import { ColumnScratch, ColumnsWriter, mapRows } from './integer-columns.js'
import { RowKind, writeRow } from './row-frame.js'
import { assertRead, RowReader, writeParts } from './row-parts.js'
import { binsMax, Sketch, type Bins } from './sketch.js'
import { joinSketches, type SeriesSketches, type SketchWindows } from './sketch-fold.js'
import { windowsMax } from './time-columns.js'

/** All sketches of a row; as `encodeTierRow`. */
export function encodeSketchRow (windows: SketchWindows, widthUs: number, rowStart: number): Uint8Array {
  const series = windows.filter(({ starts }) => starts.length > 0).sort((a, b) => a.metric < b.metric ? -1 : 1)
  if (series.length > seriesMax) throw tooLarge(`a row of ${series.length} sketched series; ${seriesMax} is the most`)
  return writeRow(RowKind.sketches, series.reduce((sum, { starts }) => sum + starts.length, 0), widthUs, (writer, settings) => {
    const bodies = series.map(own => {
      const body = new ByteWriter(256)
      writeSketches(body, own, widthUs, rowStart, settings)
      return body
    })
    writeParts(writer, widthUs, rowStart, series.map(({ metric }) => ({ metric, type: 'number', group: 0 })), [], bodies)
  })
}

function writeSketches (writer: ByteWriter, { starts, sketches }: SeriesSketches, widthUs: number, rowStart: number, settings: EncodeSettings): void {
  const count = starts.length
  if (count > windowsMax) throw tooLarge(`${count} sketches of a series in a row; ${windowsMax} is the most`)
  const all = sketches.flatMap(({ positive, negative }) => [...binCounts(positive), ...binCounts(negative)])
  const scratch = new EncodeScratch(Math.max(count, all.length))
  const out = new ColumnsWriter()
  const column = (valueOf: (sketch: Sketch) => number): void => {
    if (!out.integers(mapRows(sketches, valueOf))) throw tooLarge('a sketch of too many values')
  }
  const numbers = starts.map(start => (start - rowStart) / widthUs)
  if (!(numbers.every(Number.isSafeInteger) && out.integers(mapRows(numbers, (number, i) => i === 0 ? number : number - numbers[i - 1] - 1)))) throw tooLarge('sketches that begin at no multiple of their width')
  column(({ positive }) => sizeOf(positive))
  column(({ positive }) => sizeOf(positive) === 0 ? 0 : positive.greatest)
  column(({ negative }) => sizeOf(negative))
  column(({ negative }) => sizeOf(negative) === 0 ? 0 : negative.greatest)
  column(({ zeros }) => zeros)
  column(({ positiveInfinities }) => positiveInfinities)
  column(({ negativeInfinities }) => negativeInfinities)
  column(({ nans }) => nans)
  writer.varint(count)
  out.finish(writer, scratch, settings)
  if (all.length > 0) {
    const bins = new ColumnsWriter()
    if (!bins.integers(Float64Array.from(all))) throw tooLarge('a sketch of too many values')
    bins.finish(writer, scratch, settings)
  }
  writeNumbers(writer, scratch, mapRows(sketches, ({ min }) => min), count, settings)
  writeNumbers(writer, scratch, mapRows(sketches, ({ max }) => max), count, settings)
}

const sizeOf = ({ least, greatest }: Bins): number => greatest < least ? 0 : greatest - least + 1

/** From the greatest key down. */
function binCounts (bins: Bins): number[] {
  const counts: number[] = []
  for (let key = bins.greatest; key >= bins.least; key--) counts.push(bins.counts[key - bins.firstKey])
  return counts
}

/** The sketches in a row; with `metrics`, those only. Throws `corrupt_data` and `format_newer`. */
export function decodeSketchRow (bytes: Uint8Array, metrics?: ReadonlySet<string>): SketchWindows {
  return decodeSketchRows([bytes], metrics)
}

/** The sketches in all rows of one kind of a device, as `joinSketches` of each row's would give them. Throws `corrupt_data` and `format_newer`. */
export function decodeSketchRows (rows: Iterable<Uint8Array>, metrics?: ReadonlySet<string>): SketchWindows {
  const row = new RowReader(RowKind.sketches, metrics)
  const scratch = new SketchScratch()
  const parts: SeriesSketches[] = []
  for (const bytes of rows) {
    row.open(bytes)
    if (row.shared !== 0) throw corrupt('times in a row of sketches')
    const budget = { bins: chunkPointsMax }
    for (const series of row.wanted) {
      const part = row.series(series)
      parts.push(readSketches(part, row.entries[series].metric, row, budget, scratch))
      assertRead(part)
    }
  }
  return joinSketches([parts])
}

class SketchScratch {
  readonly columns = new ColumnScratch()
  readonly bins = new ColumnScratch()
  mins = new Float64Array(0)
  maxs = new Float64Array(0)

  reserve (count: number): void {
    if (this.mins.length >= count) return
    this.mins = new Float64Array(2 * count)
    this.maxs = new Float64Array(2 * count)
  }
}

const noCounts = new Float64Array(0)

function readSketches (reader: ByteReader, metric: string, { widthUs, rowStart, state }: RowReader, budget: { bins: number }, scratch: SketchScratch): SeriesSketches {
  const count = reader.varint()
  if (count === 0 || count > windowsMax) throw corrupt(`${count} sketches at byte ${reader.at}`)
  const columns = scratch.columns.read(reader, 9, count, state).map(({ values }) => values)
  const starts = columns[0].slice(0, count)
  const [, positives, positiveKeys, negatives, negativeKeys, zeros, positiveInfinities, negativeInfinities, nans] = columns
  let total = 0
  for (let i = 0; i < count; i++) {
    starts[i] = i === 0 ? rowStart + starts[i] * widthUs : starts[i - 1] + (1 + starts[i]) * widthUs
    if (i > 0 && !(starts[i] > starts[i - 1])) throw corrupt(`sketches do not ascend at byte ${reader.at}`)
    if (!(positives[i] >= 0 && positives[i] <= binsMax && negatives[i] >= 0 && negatives[i] <= binsMax)) throw corrupt(`a sketch of too many bins at byte ${reader.at}`)
    if (!(zeros[i] >= 0 && positiveInfinities[i] >= 0 && negativeInfinities[i] >= 0 && nans[i] >= 0)) throw corrupt(`a negative count at byte ${reader.at}`)
    total += positives[i] + negatives[i]
  }
  if ((budget.bins -= total) < 0) throw corrupt(`sketches of more than ${chunkPointsMax} bins`)
  const counts = total === 0 ? noCounts : scratch.bins.read(reader, 1, total, state)[0].values
  scratch.reserve(count)
  const { mins, maxs } = scratch
  readNumbers(reader, count, 0, count, state, mins, 0)
  readNumbers(reader, count, 0, count, state, maxs, 0)
  let next = 0
  const sketches: Sketch[] = []
  for (let i = 0; i < count; i++) {
    const sketch = new Sketch()
    next = fillBins(sketch.positive, counts, next, positives[i], positiveKeys[i])
    next = fillBins(sketch.negative, counts, next, negatives[i], negativeKeys[i])
    sketch.zeros = zeros[i]
    sketch.positiveInfinities = positiveInfinities[i]
    sketch.negativeInfinities = negativeInfinities[i]
    sketch.nans = nans[i]
    sketch.min = mins[i]
    sketch.max = maxs[i]
    sketch.count = sketch.positive.total() + sketch.negative.total() + zeros[i] + positiveInfinities[i] + negativeInfinities[i]
    sketches.push(sketch)
  }
  return { metric, starts, sketches }
}

function fillBins (bins: Bins, counts: Float64Array, at: number, size: number, greatest: number): number {
  if (size === 0) return at
  bins.counts = new Float64Array(size)
  bins.firstKey = bins.least = greatest - size + 1
  bins.greatest = greatest
  for (let i = 0; i < size; i++) {
    const count = counts[at + i]
    if (!(count >= 0) || !Number.isSafeInteger(greatest)) throw corrupt('a sketch with a negative count')
    bins.counts[size - 1 - i] = count
  }
  return at + size
}
