/** Times and values as every answer writes them in JSON: queries, live readings, exports. Pure. */
import { usPerMs, type Value } from './reading.js'

export function bytesOf (text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(text)
}

/** ISO 8601 with as many digits as needed (ms or µs), or milliseconds with a fraction. */
export function formatTime (ts: number, times: 'iso' | 'ms'): string {
  if (times === 'ms') return String(ts / usPerMs)
  const micros = ((ts % usPerMs) + usPerMs) % usPerMs
  const iso = new Date(Math.floor(ts / usPerMs)).toISOString()
  return micros === 0 ? `"${iso}"` : `"${iso.slice(0, -1)}${String(micros).padStart(3, '0')}Z"`
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
