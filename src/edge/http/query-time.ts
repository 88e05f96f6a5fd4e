/** Times as queries give them: ISO 8601, milliseconds since the epoch, or relative to now (`now-6h`). All in µs inside. */
import { TwinfoldError } from '../../core/errors.js'
import { parseIsoTime } from '../../core/iso-time.js'
import { timestampUsMax } from '../../core/limits.js'
import { usPerDay, usPerHour, usPerMinute, usPerMs, usPerSecond } from '../../core/reading.js'
import { bordersOf, parseStep, type Step } from '../../series/steps/step.js'
import { Zone } from '../../series/steps/zone.js'
import type { Schema } from './schema-check.js'

export { isoTime } from '../../core/iso-time.js'

const unitUs: Readonly<Record<string, number>> = { s: usPerSecond, m: usPerMinute, h: usPerHour, d: usPerDay, w: 7 * usPerDay }
const utc = new Zone('UTC')
const relativePattern = /^now(?:([+-])([0-9]{1,9})([smhdw]))?(?:\/(s|m|h|d|w|mo|y))?$/
const millisecondsPattern = /^[0-9]{1,13}(?:\.[0-9]{1,3})?$/

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
    us = parseIsoTime(text)
  }
  if (us === null || us < 0 || us > timestampUsMax) {
    throw new TwinfoldError('invalid_field', `'${field}' must be ISO 8601 (2026-01-31T12:00:00Z), milliseconds since the epoch, or relative (now-6h, now-1d/d) with s, m, h, d or w, between 1970 and 2255`, { field })
  }
  return us
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
