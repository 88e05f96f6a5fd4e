/**
 * Steps of a query: which windows a range falls into. A step is a fixed time, counted from the Unix epoch, or a number of calendar days,
 * weeks or months of a zone, counted from 1970 (weeks begin on Monday). Pure.
 */
import { usPerDay, usPerHour, usPerMinute, usPerMs, usPerSecond } from '../../core/reading.js'
import type { Zone } from './zone.js'

export type StepUnit = 'us' | 'day' | 'month'

export interface Step {
  readonly unit: StepUnit
  /** µs, days or months: at least 1. */
  readonly count: number
  /** Days are counted from this one (days since the epoch): weeks begin on Mondays. */
  readonly originDay: number
  /** As it is answered: `15m`, `1d`. */
  readonly text: string
}

const units: Readonly<Record<string, readonly [StepUnit, number]>> = {
  ms: ['us', usPerMs], s: ['us', usPerSecond], m: ['us', usPerMinute], h: ['us', usPerHour], d: ['day', 1], w: ['day', 7], mo: ['month', 1], y: ['month', 12]
}
const shortPattern = /^([1-9][0-9]{0,8})(ms|s|m|h|d|w|mo|y)$/
const isoPattern = /^P(?=.)(?:([0-9]{1,4})Y)?(?:([0-9]{1,4})M)?(?:([0-9]{1,4})W)?(?:([0-9]{1,5})D)?(?:T(?=.)(?:([0-9]{1,6})H)?(?:([0-9]{1,8})M)?(?:([0-9]{1,9})(?:\.([0-9]{1,3}))?S)?)?$/

/** Longest step: a hundred years. */
const countMax: Readonly<Record<StepUnit, number>> = { us: 36_525 * usPerDay, day: 36_525, month: 1200 }
/** 1970-01-05, a Monday. */
const firstMonday = 4

function stepOf (unit: StepUnit, count: number): Step | null {
  if (!(count >= 1) || count > countMax[unit]) return null
  return { unit, count, originDay: unit === 'day' && count % 7 === 0 ? firstMonday : 0, text: textOf(unit, count) }
}

function textOf (unit: StepUnit, count: number): string {
  if (unit === 'month') return count % 12 === 0 ? `${count / 12}y` : `${count}mo`
  if (unit === 'day') return count % 7 === 0 ? `${count / 7}w` : `${count}d`
  for (const [name, us] of [['h', usPerHour], ['m', usPerMinute], ['s', usPerSecond]] as const) if (count % us === 0) return `${count / us}${name}`
  return `${count / usPerMs}ms`
}

/** A step from `15m`, `1d`, `2w`, `1mo`, or an ISO 8601 duration (`PT15M`, `P1D`); null where it is none. Months and days do not mix with others. */
export function parseStep (text: string): Step | null {
  const short = shortPattern.exec(text)
  if (short !== null) {
    const [unit, factor] = units[short[2]]
    return stepOf(unit, Number(short[1]) * factor)
  }
  const iso = isoPattern.exec(text)
  if (iso === null) return null
  const [years, months, weeks, days, hours, minutes, seconds] = iso.slice(1, 8).map(part => Number(part ?? 0))
  const us = hours * usPerHour + minutes * usPerMinute + seconds * usPerSecond + Number((iso[8] ?? '').padEnd(3, '0')) * usPerMs
  const counts: readonly [StepUnit, number][] = [['month', years * 12 + months], ['day', weeks * 7 + days], ['us', us]]
  const given = counts.filter(([, count]) => count > 0)
  return given.length === 1 ? stepOf(...given[0]) : null
}

/** The shortest that a step's windows get, µs. */
export function stepUsMin (step: Step): number {
  if (step.unit === 'us') return step.count
  // A day on which clocks are put forward is shorter; a February has 28.
  return step.unit === 'day' ? step.count * usPerDay - usPerHour : step.count * 28 * usPerDay
}

const monthStart = (month: number): number => Date.UTC(1970, month) * usPerMs / usPerDay

function monthOf (day: number): number {
  const date = new Date(day * usPerDay / usPerMs)
  return (date.getUTCFullYear() - 1970) * 12 + date.getUTCMonth()
}

/** Number of the window that an instant lies in, counted from 1970. */
function windowOf (step: Step, zone: Zone, ts: number): number {
  if (step.unit === 'us') return Math.floor(ts / step.count)
  const day = zone.dayOf(ts)
  return Math.floor((step.unit === 'day' ? day - step.originDay : monthOf(day)) / step.count)
}

/** Where a window begins, µs. */
function startOf (step: Step, zone: Zone, window: number): number {
  if (step.unit === 'us') return window * step.count
  return zone.startOfDay(step.unit === 'day' ? window * step.count + step.originDay : monthStart(window * step.count))
}

/** Borders of the windows that meet [fromTs, toTs), ascending, µs: one more than windows. The first may lie before 1970. */
export function bordersOf (step: Step, zone: Zone, fromTs: number, toTs: number): Float64Array {
  const first = windowOf(step, zone, fromTs)
  const last = windowOf(step, zone, toTs - 1)
  const borders = new Float64Array(last - first + 2)
  let count = 0
  for (let window = first; window <= last + 1; window++) {
    const start = startOf(step, zone, window)
    // A calendar may pass over a day.
    if (count === 0 || start > borders[count - 1]) borders[count++] = start
  }
  return borders.subarray(0, count)
}

const niceSteps = ['1ms', '2ms', '5ms', '10ms', '20ms', '50ms', '100ms', '200ms', '500ms', '1s', '2s', '5s', '10s', '15s', '30s', '1m', '2m', '5m', '10m', '15m', '30m',
  '1h', '2h', '3h', '6h', '12h', '1d', '2d', '1w', '2w', '1mo', '3mo', '6mo', '1y', '5y', '10y', '50y', '100y'].map(text => parseStep(text) as Step)

/** The shortest round step that cuts the range into at most so many windows. */
export function stepFor (spanUs: number, windowsMax: number): Step {
  return niceSteps.find(step => windowsMost(step, spanUs) <= windowsMax) ?? niceSteps[niceSteps.length - 1]
}

/** The most windows that a range of that length can fall into. */
export function windowsMost (step: Step, spanUs: number): number {
  return Math.ceil(spanUs / stepUsMin(step)) + 1
}
