/** Texts of a file as values and times. Pure. Types as in telemetry: numbers, booleans, strings. */
import { timestampUsMax } from '../core/limits.js'
import { usPerMs, usPerSecond, type Value } from '../core/reading.js'
import type { ImportTimes } from '../../workers/transfer-protocol.js'

/** Names of the first two columns of an export where a metric has theirs. */
export const reservedColumns = { device: 'twinfold:device', ts: 'twinfold:ts' } as const

const numberPattern = /^[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?$/

/** The value that an unquoted text stands for; undefined for a number that no double can hold. */
export function valueOfText (text: string): Value | undefined {
  const first = text.charCodeAt(0)
  // 0-9 + - .
  if ((first >= 48 && first <= 57) || first === 43 || first === 45 || first === 46) {
    if (numberPattern.test(text)) {
      const value = Number(text)
      return Number.isFinite(value) ? value : undefined
    }
    if (text === '-Infinity') return -Infinity
    return text
  }
  if (text === 'NaN') return NaN
  if (text === 'Infinity') return Infinity
  if (text.length === 4 && text.toLowerCase() === 'true') return true
  if (text.length === 5 && text.toLowerCase() === 'false') return false
  return text
}

/** The text of a value that `valueOfText` reads as the same value; strings for quoting by the caller. Every double comes back bit for bit, NaN as NaN. */
export function textOfValue (value: Value): string {
  return Object.is(value, -0) ? '-0' : String(value)
}

const unitUs: Readonly<Record<'s' | 'ms' | 'us', number>> = { s: usPerSecond, ms: usPerMs, us: 1 }
const decimalPattern = /^([0-9]{1,16})(?:\.([0-9]+))?$/

/** µs of a text; NaN where it is none. @param isoUs reads ISO 8601 */
export function timeOfText (text: string, times: ImportTimes, isoUs: (text: string) => number): number {
  if (times === 'iso') return isoUs(text)
  const decimal = decimalPattern.exec(text)
  if (decimal === null) return times === 'auto' ? isoUs(text) : NaN
  const unit = unitUs[times === 'auto' ? 'ms' : times]
  // Whole and fraction apart: their sum would round where seconds carry microseconds.
  const fraction = decimal[2] === undefined ? 0 : Math.round(Number(`0.${decimal[2]}`) * unit)
  return inRange(Number(decimal[1]) * unit + fraction)
}

/** µs of a number of a file; NaN where it is none. */
export function timeOfNumber (value: number, times: ImportTimes): number {
  if (times === 'iso') return NaN
  return inRange(Math.round(value * unitUs[times === 'auto' ? 'ms' : times]))
}

function inRange (us: number): number {
  return us >= 0 && us <= timestampUsMax ? us : NaN
}
