/** Times as queries give them: ISO 8601, milliseconds since the epoch, or relative to now (`now-6h`). All in µs inside. */
import { TwinfoldError } from '../../core/errors.js'
import { timestampUsMax } from '../../core/limits.js'
import { usPerDay, usPerHour, usPerMinute, usPerMs, usPerSecond } from '../../core/reading.js'
import { bordersOf, parseStep, type Step } from '../../series/steps/step.js'
import { Zone } from '../../series/steps/zone.js'
import type { Schema } from './schema-check.js'

const unitUs: Readonly<Record<string, number>> = { s: usPerSecond, m: usPerMinute, h: usPerHour, d: usPerDay, w: 7 * usPerDay }
const utc = new Zone('UTC')
const relativePattern = /^now(?:([+-])([0-9]{1,9})([smhdw]))?(?:\/(s|m|h|d|w|mo|y))?$/
const millisecondsPattern = /^[0-9]{1,13}(?:\.[0-9]{1,3})?$/
// A '+' that was not escaped in the URL arrives as a space.
const isoPattern = /^([0-9]{4})-([0-9]{2})-([0-9]{2})(?:T([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]{1,9}))?)?(?:Z|([+ -])([0-9]{2}):?([0-9]{2}))?)?$/

function parseIso (text: string): number | null {
  const match = isoPattern.exec(text)
  if (match === null) return null
  const [year, month, day, hour, minute, second] = match.slice(1, 7).map(part => Number(part ?? 0))
  const micros = Number((match[7] ?? '').slice(0, 6).padEnd(6, '0'))
  const ms = Date.UTC(year, month - 1, day, hour, minute, second)
  const date = new Date(ms)
  // 31 February and 25 o'clock would roll over silently.
  if (date.getUTCMonth() !== month - 1 || date.getUTCDate() !== day || date.getUTCHours() !== hour || date.getUTCMinutes() !== minute || date.getUTCSeconds() !== second) return null
  const sign = match[8] === undefined ? 0 : match[8] === '-' ? -1 : 1
  return ms * usPerMs + micros - sign * (Number(match[9] ?? 0) * usPerHour + Number(match[10] ?? 0) * usPerMinute)
}

/**
 * µs. Without a zone it is UTC; digits beyond microseconds are cut. `now-1d/d` is cut to the begin of its unit, of days and longer
 * ones in the zone.
 * @throws TwinfoldError `invalid_field` naming the parameter.
 */
export function parseQueryTime (text: string, nowUs: number, field: string, zone = utc): number {
  let us: number | null = null
  const relative = relativePattern.exec(text)
  if (relative !== null) {
    us = nowUs + (relative[1] === undefined ? 0 : (relative[1] === '-' ? -1 : 1) * Number(relative[2]) * unitUs[relative[3]])
    if (relative[4] !== undefined && us <= timestampUsMax) [us] = bordersOf(parseStep(`1${relative[4]}`) as Step, zone, Math.max(0, us), Math.max(0, us) + 1)
    us = Math.max(0, us)
  } else if (millisecondsPattern.test(text)) {
    us = Math.round(Number(text) * usPerMs)
  } else {
    us = parseIso(text)
  }
  if (us === null || us < 0 || us > timestampUsMax) {
    throw new TwinfoldError('invalid_field', `'${field}' must be ISO 8601 (2026-01-31T12:00:00Z), milliseconds since the epoch, or relative (now-6h, now-1d/d) with s, m, h, d or w, between 1970 and 2255`, { field })
  }
  return us
}

/** ISO 8601 with milliseconds, and microseconds where there are any. */
export function isoTime (us: number): string {
  const micros = us % usPerMs
  const iso = new Date(Math.floor(us / usPerMs)).toISOString()
  return micros === 0 ? iso : `${iso.slice(0, -1)}${String(micros).padStart(3, '0')}Z`
}

const spanDefaultUs = usPerDay
const timeSchema: Schema = { type: 'string', maxLength: 40, description: 'ISO 8601 (UTC where no zone is given), milliseconds since the epoch, or relative: now-6h (s, m, h, d, w), also cut to a whole unit: now-1d/d.' }

/** The parameters `from` and `to` of a query, for its description. */
export const spanSchemas: Readonly<Record<'from' | 'to', Schema>> = { from: timeSchema, to: { ...timeSchema, description: `Exclusive. ${timeSchema.description as string}` } }

export interface SpanParameters { readonly from?: string, readonly to?: string }

/** µs, [fromTs, toTs) */
export interface Span { readonly fromTs: number, readonly toTs: number }

/** The last 24 hours unless said otherwise. @throws TwinfoldError `invalid_field` naming the parameter */
export function parseSpan (parameters: SpanParameters, nowUs: number, zone = utc): Span {
  // Half open: the default end lies past what devices may send ahead of time only if they ask for it.
  const toTs = parameters.to === undefined ? nowUs + 1 : parseQueryTime(parameters.to, nowUs, 'to', zone)
  const fromTs = parameters.from === undefined ? Math.max(0, toTs - spanDefaultUs) : parseQueryTime(parameters.from, nowUs, 'from', zone)
  if (fromTs >= toTs) throw new TwinfoldError('invalid_field', `'from' must lie before 'to'`, { field: 'from' })
  return { fromTs, toTs }
}
