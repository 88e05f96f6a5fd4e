/** Times as ISO 8601 text: read strictly (no 31 February), written with microseconds where there are any. Pure. */
import { usPerHour, usPerMinute, usPerMs } from './reading.js'

// A '+' that was not escaped in a URL arrives as a space.
const isoPattern = /^([0-9]{4})-([0-9]{2})-([0-9]{2})(?:T([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]{1,9}))?)?(?:Z|([+ -])([0-9]{2}):?([0-9]{2}))?)?$/

/** µs since the epoch; without a zone it is UTC, digits beyond microseconds are cut. null: it is no such time. */
export function parseIsoTime (text: string): number | null {
  const match = isoPattern.exec(text)
  if (match === null) return null
  const [year, month, day, hour, minute, second] = match.slice(1, 7).map(part => Number(part ?? 0))
  const micros = Number((match[7] ?? '').slice(0, 6).padEnd(6, '0'))
  const ms = Date.UTC(year, month - 1, day, hour, minute, second)
  const date = new Date(ms)
  // 31 February and 25 o'clock would roll over silently.
  if (date.getUTCFullYear() !== year || date.getUTCMonth() !== month - 1 || date.getUTCDate() !== day || date.getUTCHours() !== hour || date.getUTCMinutes() !== minute || date.getUTCSeconds() !== second) return null
  const sign = match[8] === undefined ? 0 : match[8] === '-' ? -1 : 1
  return ms * usPerMs + micros - sign * (Number(match[9] ?? 0) * usPerHour + Number(match[10] ?? 0) * usPerMinute)
}

/** ISO 8601 with milliseconds, and microseconds where there are any. */
export function isoTime (us: number): string {
  const micros = us % usPerMs
  const iso = new Date(Math.floor(us / usPerMs)).toISOString()
  return micros === 0 ? iso : `${iso.slice(0, -1)}${String(micros).padStart(3, '0')}Z`
}
