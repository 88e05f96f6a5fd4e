/** Times and values as every answer writes them in JSON: queries, live readings, exports. Pure. */
import { usPerDay, usPerMs, type Value } from './reading.js'

export function bytesOf (text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(text)
}

const twoDigits = Array.from({ length: 100 }, (_, i) => String(i).padStart(2, '0'))
const threeDigits = Array.from({ length: 1000 }, (_, i) => String(i).padStart(3, '0'))

/**
 * ISO 8601 with as many digits as needed (ms or µs), or milliseconds with a fraction. By hand, because answers hold thousands of them: the
 * date is made of the days since 1 March of year 0, as every era of 400 years has the same 146,097 days.
 * @param ts µs since the epoch, from 1970 to 9999
 */
export function formatTime (ts: number, times: 'iso' | 'ms'): string {
  if (times === 'ms') return String(ts / usPerMs)
  const day = Math.floor(ts / usPerDay)
  const us = ts - day * usPerDay
  const ms = Math.floor(us / usPerMs)
  const micros = us - ms * usPerMs
  const seconds = Math.floor(ms / 1000)
  const minutes = Math.floor(seconds / 60)
  return `"${dateOf(day)}T${twoDigits[Math.floor(minutes / 60)]}:${twoDigits[minutes % 60]}:${twoDigits[seconds % 60]}.${threeDigits[ms % 1000]}${micros === 0 ? '' : threeDigits[Math.floor(micros)]}Z"`
}

function dateOf (daysSinceEpoch: number): string {
  const days = daysSinceEpoch + 719_468
  const era = Math.floor(days / 146_097)
  const dayOfEra = days - era * 146_097
  const yearOfEra = Math.floor((dayOfEra - Math.floor(dayOfEra / 1460) + Math.floor(dayOfEra / 36_524) - Math.floor(dayOfEra / 146_096)) / 365)
  const dayOfYear = dayOfEra - (365 * yearOfEra + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100))
  const monthFromMarch = Math.floor((5 * dayOfYear + 2) / 153)
  const month = monthFromMarch < 10 ? monthFromMarch + 3 : monthFromMarch - 9
  const year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
  return `${String(year).padStart(4, '0')}-${twoDigits[month]}-${twoDigits[dayOfYear - Math.floor((153 * monthFromMarch + 2) / 5) + 1]}`
}

/**
 * JSON has no NaN and no infinities: they are given as the strings "NaN", "Infinity" and "-Infinity" (docs/API.md).
 * -0 keeps its sign.
 */
export function formatValue (value: Value): string {
  if (typeof value === 'number') {
    if (Number.isFinite(value)) return Object.is(value, -0) ? '-0' : String(value)
    return `"${value}"`
  }
  return typeof value === 'boolean' ? String(value) : JSON.stringify(value)
}

export function formatValues (values: Iterable<readonly [string, Value]>): string {
  const parts: string[] = []
  for (const [metric, value] of values) parts.push(`${JSON.stringify(metric)}:${formatValue(value)}`)
  return `{${parts.join(',')}}`
}
