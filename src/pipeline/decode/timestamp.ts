/**
 * Timestamps as devices send them: milliseconds since the epoch, fractions allowed, or ISO 8601 text. Promise: a value
 * is taken exactly (rounded to the nearest microsecond) or refused; it is never bent into range, and no clock or time
 * zone of this machine has a say.
 */
import { timestampUsMax } from '../../core/limits.js'
import { usPerDay, usPerHour, usPerMinute, usPerMs, usPerSecond } from '../../core/reading.js'

/** Longest accepted text: date, time, nine decimals, offset. */
const isoCharsMax = 40
/** Nanoseconds are common in the field; they are rounded to microseconds. */
const fractionDigitsMax = 9

/** Milliseconds to microseconds; NaN where out of the range of timestamps at all (1970 to 2255). */
export function timestampFromMs (ms: number): number {
  const us = Math.round(ms * usPerMs)
  return us >= 0 && us <= timestampUsMax ? us : NaN
}

/** Seconds to microseconds; NaN where out of the range of timestamps at all (1970 to 2255). */
export function timestampFromSeconds (seconds: number): number {
  const us = Math.round(seconds * usPerSecond)
  return us >= 0 && us <= timestampUsMax ? us : NaN
}

/** Days from 1970-01-01 of a proleptic Gregorian date (Howard Hinnant, "chrono-compatible low-level date algorithms"). */
function daysFromCivil (year: number, month: number, day: number): number {
  const shifted = month <= 2 ? year - 1 : year
  const era = Math.floor(shifted / 400)
  const yearOfEra = shifted - era * 400
  const dayOfYear = Math.floor((153 * (month + (month > 2 ? -3 : 9)) + 2) / 5) + day - 1
  const dayOfEra = yearOfEra * 365 + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100) + dayOfYear
  return era * 146097 + dayOfEra - 719468
}

function daysInMonth (year: number, month: number): number {
  if (month === 2) return year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0) ? 29 : 28
  return month === 4 || month === 6 || month === 9 || month === 11 ? 30 : 31
}

/** `count` digits at `at` as a number, or -1. */
function digits (bytes: Uint8Array, at: number, end: number, count: number): number {
  if (at + count > end) return -1
  let value = 0
  for (let i = at; i < at + count; i++) {
    const digit = bytes[i] - 48
    if (digit < 0 || digit > 9) return -1
    value = value * 10 + digit
  }
  return value
}

/**
 * ISO 8601 in bytes[from, to): `2026-03-01`, `2026-03-01T12:30`, `…T12:30:15`, `…T12:30:15.123456`, each time with `Z`,
 * `+hh:mm`, `+hhmm`, `+hh` or no offset, which means UTC. A space may stand for the `T`; letters may be lower case. Up to
 * nine decimals, rounded to the microsecond. Leap seconds (`:60`) and `24:00` are refused.
 *
 * @returns microseconds since the epoch, NaN where the text is no such timestamp or before 1970.
 */
export function timestampFromIso (bytes: Uint8Array, from: number, to: number): number {
  if (to - from > isoCharsMax) return NaN
  const year = digits(bytes, from, to, 4)
  const month = digits(bytes, from + 5, to, 2)
  const day = digits(bytes, from + 8, to, 2)
  if (year < 0 || month < 1 || month > 12 || day < 1 || day > daysInMonth(year, month)) return NaN
  if (bytes[from + 4] !== 45 || bytes[from + 7] !== 45) return NaN
  const dayUs = daysFromCivil(year, month, day) * usPerDay
  if (to === from + 10) return inRange(dayUs)
  const separator = bytes[from + 10]
  if ((separator | 32) !== 116 && separator !== 32) return NaN
  const timeUs = timeOfDay(bytes, from + 11, to)
  return inRange(dayUs + timeUs)
}

function inRange (us: number): number {
  return us >= 0 && us <= timestampUsMax ? us : NaN
}

/** Microseconds since midnight UTC of `hh:mm[:ss[.f]][offset]`; may be negative or past a day because of the offset. */
function timeOfDay (bytes: Uint8Array, from: number, to: number): number {
  const hour = digits(bytes, from, to, 2)
  const minute = digits(bytes, from + 3, to, 2)
  if (hour < 0 || hour > 23 || minute < 0 || minute > 59 || bytes[from + 2] !== 58) return NaN
  let us = hour * usPerHour + minute * usPerMinute
  let at = from + 5
  if (at < to && bytes[at] === 58) {
    const second = digits(bytes, at + 1, to, 2)
    if (second < 0 || second > 59) return NaN
    us += second * usPerSecond
    at += 3
    if (at < to && (bytes[at] === 46 || bytes[at] === 44)) {
      const start = ++at
      let nanoseconds = 0
      let unit = 1e8
      for (; at < to && bytes[at] >= 48 && bytes[at] <= 57; at++, unit /= 10) nanoseconds += (bytes[at] - 48) * unit
      if (at === start || at - start > fractionDigitsMax) return NaN
      us += Math.round(nanoseconds / 1000)
    }
  }
  return us - offsetUs(bytes, at, to)
}

/** Offset from UTC in microseconds; nothing means UTC. */
function offsetUs (bytes: Uint8Array, at: number, to: number): number {
  if (at === to) return 0
  if ((bytes[at] | 32) === 122) return at + 1 === to ? 0 : NaN
  const sign = bytes[at] === 43 ? 1 : bytes[at] === 45 ? -1 : NaN
  const hours = digits(bytes, at + 1, to, 2)
  if (hours < 0 || hours > 23) return NaN
  if (at + 3 === to) return sign * hours * usPerHour
  const minutesAt = bytes[at + 3] === 58 ? at + 4 : at + 3
  const minutes = digits(bytes, minutesAt, to, 2)
  if (minutes < 0 || minutes > 59 || minutesAt + 2 !== to) return NaN
  return sign * (hours * usPerHour + minutes * usPerMinute)
}
