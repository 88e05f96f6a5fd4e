/**
 * Lines of JSON into rows: `{"device":"pump-1","ts":1700000000000,"values":{…}}` as in telemetry; nested objects flatten with dots.
 * JSON has no NaN and no infinities: an export writes them beside, as `"nonFinite":{"temperature":"NaN"}`, and they are read here.
 */
import { isUtf8 } from 'node:buffer'
import { readingDepthMax } from '../core/limits.js'
import type { Value } from '../core/reading.js'
import type { DeadLetterReason } from '../store/dead-letter-store.js'
import type { ImportSettings } from '../../workers/transfer-protocol.js'
import { timeOfNumber, timeOfText } from './cells.js'
import type { PieceSink } from './piece-sink.js'
import type { SplitPiece } from './record-splitter.js'

type Problem = readonly [DeadLetterReason, string]
const nonFinite: Readonly<Record<string, number>> = { NaN, Infinity, '-Infinity': -Infinity }

export function parseNdjson (piece: SplitPiece, sink: PieceSink, { settings, isoUs }: { readonly settings: ImportSettings, readonly isoUs: (text: string) => number }): void {
  for (const record of piece.records) {
    const bytes = piece.buffer.subarray(record.from, record.to)
    const refuse = ([reason, detail]: Problem): void => { sink.refuse(record.line, reason, detail, () => bytes) }
    const parsed = parseLine(bytes)
    if (Array.isArray(parsed)) { refuse(parsed as unknown as Problem); continue }
    const reading = parsed as Readonly<Record<string, unknown>>
    const values: [string, Value][] = []
    const problem = flatten(reading.values, '', 1, values) ?? addNonFinite(reading.nonFinite, values)
    if (problem !== null) { refuse(problem); continue }
    const device = reading[settings.deviceColumn] ?? null
    if (device !== null && typeof device !== 'string') { refuse(['not_a_reading', `'${settings.deviceColumn}' is no text`]); continue }
    sink.add(record.line, device, timeOf(reading[settings.tsColumn], settings, isoUs), values, () => bytes)
  }
}

function parseLine (bytes: Buffer): object {
  const problem = (detail: string): Problem => ['json_invalid', detail]
  if (!isUtf8(bytes)) return problem('the line is not UTF-8')
  let parsed: unknown
  try {
    parsed = JSON.parse(bytes.toString('utf8'))
  } catch {
    return problem('the line is no JSON')
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) return ['not_a_reading', 'the line is no object'] satisfies Problem
  return parsed
}

function timeOf (value: unknown, settings: ImportSettings, isoUs: (text: string) => number): number {
  if (typeof value === 'number') return timeOfNumber(value, settings.times)
  return typeof value === 'string' ? timeOfText(value, settings.times, isoUs) : NaN
}

function flatten (value: unknown, prefix: string, depth: number, values: [string, Value][]): Problem | null {
  if (value === undefined && depth === 1) return null
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return ['not_a_reading', `'values' is no object`]
  if (depth > readingDepthMax) return ['too_deep', `objects are nested deeper than ${readingDepthMax}`]
  for (const [name, inner] of Object.entries(value)) {
    const metric = prefix + name
    if (typeof inner === 'number') {
      if (!Number.isFinite(inner)) return ['value_invalid', 'a number is beyond the range of a double']
      values.push([metric, inner])
    } else if (typeof inner === 'boolean' || typeof inner === 'string') {
      values.push([metric, inner])
    } else if (inner !== null) {
      if (Array.isArray(inner)) return ['value_invalid', 'a value is an array; a value is a number, a boolean or a string']
      const problem = flatten(inner, `${metric}.`, depth + 1, values)
      if (problem !== null) return problem
    }
  }
  return null
}

function addNonFinite (given: unknown, values: [string, Value][]): Problem | null {
  if (given === undefined) return null
  if (typeof given !== 'object' || given === null) return ['value_invalid', `'nonFinite' is no object`]
  for (const [metric, name] of Object.entries(given)) {
    const value = nonFinite[String(name)]
    if (value === undefined) return ['value_invalid', `'nonFinite' holds "NaN", "Infinity" and "-Infinity"`]
    values.push([metric, value])
  }
  return null
}
