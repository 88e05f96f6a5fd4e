/** The values of boolean and string windows as bytes. FORMAT.md, "Booleans" and "Strings". */
import { corrupt } from '../columns/bounds.js'
import type { ByteReader } from '../columns/bytes.js'
import { EncodeScratch, type DecodeState } from '../columns/sequence.js'
import { readStrings, writeStrings } from '../columns/strings.js'
import { ColumnsWriter, Kind, mapRows, readColumnsOf, type ReadColumn, type WriteColumns } from './integer-columns.js'
import type { WindowTimes } from './time-columns.js'
import { statesMax, type BooleanWindows, type StringWindows } from './windows.js'

/** The value before the first window of a row counts as false. */
export function planBooleanColumns (w: BooleanWindows): WriteColumns {
  const out = new ColumnsWriter()
  // A window's last value follows from its first and the number of changes.
  addColumn(out, w.firsts, i => i === 0 ? 0 : w.lasts[i - 1])
  addColumn(out, w.lasts, i => lastOf(w.firsts[i], w.changes[i]))
  addColumn(out, w.changes, () => 0)
  addColumn(out, w.trues, i => truesGuess(w.firsts[i], w.changes[i], w.counts[i]))
  addColumn(out, w.trueUs, i => trueUsGuess(w.trues[i], w.counts[i], w.lastTs[i] - w.firstTs[i]))
  return (writer, scratch, settings) => { out.finish(writer, scratch, settings) }
}

function addColumn (out: ColumnsWriter, values: Float64Array | Uint8Array, guess: (i: number) => number): void {
  const all = mapRows(values, value => value)
  if (!all.every(Number.isSafeInteger) || !out.integers(mapRows(all, (value, i) => value - guess(i)))) out.doubles(all)
}

const lastOf = (first: number, changes: number): number => changes % 2 === 0 ? first : 1 - first
const truesGuess = (first: number, changes: number, count: number): number => changes === 0 ? first * count : Math.floor(count / 2)
const trueUsGuess = (trues: number, count: number, spanUs: number): number => Math.round(trues / count * spanUs)

export function readBooleanColumns (reader: ByteReader, metric: string, times: WindowTimes, state: DecodeState): BooleanWindows {
  const count = times.starts.length
  const [firsts, lasts, changes, trues, trueUs] = readColumnsOf(reader, 5, count, state)
  const out = { firsts: new Uint8Array(count), lasts: new Uint8Array(count) }
  for (let i = 0; i < count; i++) {
    const first = valueOf(firsts, i, i === 0 ? 0 : out.lasts[i - 1])
    const ownChanges = valueOf(changes, i, 0)
    const last = valueOf(lasts, i, lastOf(first, ownChanges))
    if ((first !== 0 && first !== 1) || (last !== 0 && last !== 1)) throw corrupt(`a boolean that is none at byte ${reader.at}`)
    out.firsts[i] = first
    out.lasts[i] = last
    changes.values[i] = ownChanges
    trues.values[i] = valueOf(trues, i, truesGuess(first, ownChanges, times.counts[i]))
    trueUs.values[i] = valueOf(trueUs, i, trueUsGuess(trues.values[i], times.counts[i], times.lastTs[i] - times.firstTs[i]))
  }
  return { metric, type: 'boolean', ...times, ...out, trues: trues.values, changes: changes.values, trueUs: trueUs.values }
}

const valueOf = ({ kind, values }: ReadColumn, i: number, guess: number): number => kind === Kind.doubles ? values[i] : values[i] + guess

/** Is the time in state what a window without a change has? */
function isSteady (w: StringWindows, i: number): boolean {
  const spanUs = w.lastTs[i] - w.firstTs[i]
  const states = w.states[i]
  return spanUs > 0 ? states.size === 1 && states.get(w.firsts[i]) === spanUs : states.size === 0
}

export function planStringColumns (w: StringWindows): WriteColumns {
  const explicit = w.states.map((states, i) => isSteady(w, i) ? null : [...states])
  const entries = explicit.flatMap(states => states ?? [])
  const texts = [...w.firsts, ...w.lasts, ...entries.map(([value]) => value)]
  const out = new ColumnsWriter()
  addColumn(out, w.changes, () => 0)
  out.integers(mapRows(explicit, states => states === null ? 0 : states.length + 1))
  const held = new ColumnsWriter()
  if (entries.length > 0) addColumn(held, mapRows(entries, ([, heldUs]) => heldUs), () => 0)
  return (writer, _, settings) => {
    const scratch = new EncodeScratch(texts.length)
    out.finish(writer, scratch, settings)
    writeStrings(writer, scratch, texts, texts.length, settings)
    if (entries.length > 0) held.finish(writer, scratch, settings)
  }
}

export function readStringColumns (reader: ByteReader, metric: string, times: WindowTimes, state: DecodeState): StringWindows {
  const count = times.starts.length
  const [changes, sizes] = readColumnsOf(reader, 2, count, state)
  let total = 0
  for (const size of sizes.values) {
    if (!(size >= 0 && size <= statesMax + 2)) throw corrupt(`a window of ${size - 1} states at byte ${reader.at}`)
    if (size > 0) total += size - 1
  }
  const texts = readStrings(reader, 2 * count + total, 0, 2 * count + total, state)
  const held = total === 0 ? new Float64Array(0) : readColumnsOf(reader, 1, total, state)[0].values
  const states: ReadonlyMap<string, number>[] = []
  let next = 0
  for (let i = 0; i < count; i++) {
    const spanUs = times.lastTs[i] - times.firstTs[i]
    const size = sizes.values[i]
    if (size === 0) {
      states.push(new Map(spanUs > 0 ? [[texts[i], spanUs]] : []))
      continue
    }
    const own = new Map<string, number>()
    for (let k = 1; k < size; k++, next++) own.set(texts[2 * count + next], held[next])
    states.push(own)
  }
  return { metric, type: 'string', ...times, firsts: texts.slice(0, count), lasts: texts.slice(count, 2 * count), changes: changes.values, states }
}
