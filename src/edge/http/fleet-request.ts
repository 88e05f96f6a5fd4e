/** What a fleet query asks for: the request's fields, checked and turned into the port's words. Each error names its field. */
import { TwinfoldError } from '../../core/errors.js'
import { isDeviceId } from '../../core/ids.js'
import { metricNameBytesMax } from '../../core/limits.js'
import { usPerDay, usPerHour, usPerMinute, usPerSecond } from '../../core/reading.js'
import type { FleetAgg, FleetHaving, FleetKey, FleetMeasure, FleetStep, FleetWhere, HistogramQuery } from '../../store/fleet-store.js'
import { tagNamePattern } from './device-tags.js'
import { parseSpan, type Span } from './query-time.js'

export const metricsMax = 20
export const aggsMax = 10
export const keysMax = 4
export const devicesMax = 1000
export const choicesMax = 100
export const topKMax = 1000
export const bucketsMax = 1000

type OneOrMore = string | readonly string[]

export interface FleetBody {
  readonly from?: string | number
  readonly to?: string | number
  readonly metrics?: OneOrMore
  readonly agg?: OneOrMore
  readonly step?: string
  readonly tz?: string
  readonly where?: { readonly devices?: readonly string[], readonly type?: OneOrMore, readonly gateway?: OneOrMore, readonly tags?: Readonly<Record<string, OneOrMore>> }
  readonly groupBy?: OneOrMore
  readonly having?: readonly { readonly by: string, readonly op: FleetHaving['op'], readonly value: number }[]
  readonly topk?: { readonly by: string, readonly k: number, readonly order?: 'desc' | 'asc' }
  readonly histogram?: { readonly metric: string, readonly buckets?: number, readonly width?: number }
}

/** A query without its tenant and time. */
export interface FleetAsked {
  readonly metrics: readonly string[]
  readonly aggs: readonly FleetAgg[]
  readonly groupBy: readonly FleetKey[]
  readonly step: FleetStep | null
  readonly having: readonly FleetHaving[]
  readonly topK: (FleetMeasure & { readonly k: number, readonly order: 'desc' | 'asc' }) | null
}

const plainAggs: readonly string[] = ['avg', 'min', 'max', 'sum', 'count', 'stddev', 'first', 'last', 'devices']
const percentilePattern = /^p[0-9]{1,2}(?:\.[0-9]{1,3})?$/
const stepPattern = /^([1-9][0-9]{0,5})([smhdw])$/
const stepUnitUs: Readonly<Record<string, number>> = { s: usPerSecond, m: usPerMinute, h: usPerHour, d: usPerDay, w: 7 * usPerDay }
const daysMax = 3660

function refuse (field: string, what: string): never {
  throw new TwinfoldError('invalid_field', `'${field}' ${what}`, { field })
}

/** Names with commas between, or a list; without repetition. */
function listOf (given: OneOrMore | undefined, field: string, max: number): string[] {
  if (given === undefined) return []
  const items = [...new Set(typeof given === 'string' ? given.split(',') : given)]
  if (items.length > max || items.includes('')) refuse(field, `must be 1 to ${max} names`)
  return items
}

function metricOf (name: string, field: string): string {
  if (name === '' || Buffer.byteLength(name) > metricNameBytesMax) refuse(field, `must name metrics of 1 to ${metricNameBytesMax} bytes`)
  return name
}

function aggOf (name: string, field: string): FleetAgg {
  if (!plainAggs.includes(name) && !percentilePattern.test(name)) refuse(field, `must be one of ${plainAggs.join(', ')} or a percentile such as p95`)
  return name as FleetAgg
}

/** `avg(temperature)` */
function measureOf (text: string, field: string): FleetMeasure {
  const match = /^([a-z0-9.]+)\((.+)\)$/s.exec(text)
  if (match === null) refuse(field, 'must be an aggregate of a metric, as in avg(temperature)')
  return { agg: aggOf(match[1], field), metric: metricOf(match[2], field) }
}

function isTimeZone (name: string): boolean {
  try {
    // Names alone: offsets such as +02:00 are known to Intl, not to the engine.
    return /^[A-Za-z][A-Za-z0-9_+/-]*$/.test(name) && new Intl.DateTimeFormat('en', { timeZone: name }).format(0) !== ''
  } catch {
    return false
  }
}

function stepOf (text: string | undefined, zone: string | undefined): FleetStep | null {
  if (zone !== undefined && !isTimeZone(zone)) refuse('tz', 'must be a time zone such as Europe/Berlin')
  if (text === undefined) {
    if (zone !== undefined) refuse('tz', 'needs a step of whole days')
    return null
  }
  const match = stepPattern.exec(text)
  if (match === null) refuse('step', 'must be a number with s, m, h, d or w, as in 15m')
  const us = Number(match[1]) * stepUnitUs[match[2]]
  if (us > daysMax * usPerDay) refuse('step', `must not be longer than ${daysMax} days`)
  if (zone === undefined || zone === 'UTC') return { kind: 'fixed', us }
  if (us % usPerDay !== 0) refuse('tz', 'goes with a step of whole days: shorter steps are counted from the epoch')
  return { kind: 'days', days: us / usPerDay, timeZone: zone }
}

export function isTagName (name: string): boolean {
  return tagNamePattern.test(name)
}

function keyOf (name: string): FleetKey {
  if (name === 'device' || name === 'type' || name === 'gateway') return name
  if (name.startsWith('tag:') && isTagName(name.slice(4))) return name as FleetKey
  return refuse('groupBy', 'must be of device, type, gateway, time, and tag:NAME')
}

/** @throws TwinfoldError `invalid_field` naming the field */
export function askedOf (body: FleetBody): FleetAsked {
  const metrics = listOf(body.metrics, 'metrics', metricsMax).map(name => metricOf(name, 'metrics'))
  if (metrics.length === 0) refuse('metrics', 'is required')
  const given = listOf(body.agg, 'agg', aggsMax)
  const aggs = (given.length === 0 ? ['avg'] : given).map(name => aggOf(name, 'agg'))
  const step = stepOf(body.step, body.tz)
  const names = listOf(body.groupBy, 'groupBy', keysMax + 1)
  if (names.includes('time') && step === null) refuse('step', 'is required where groupBy has time')
  const groupBy = names.filter(name => name !== 'time').map(keyOf)
  if (groupBy.length > keysMax) refuse('groupBy', `must be at most ${keysMax} beside time`)
  const having = (body.having ?? []).map(({ by, op, value }, index) => ({ ...measureOf(by, `having[${index}].by`), op, value }))
  const topK = body.topk === undefined ? null : { ...measureOf(body.topk.by, 'topk.by'), k: body.topk.k, order: body.topk.order ?? 'desc' as const }
  // The k first of what, if not of devices.
  const grouped = groupBy.length === 0 && (topK !== null || having.length > 0) ? ['device' as const] : groupBy
  return { metrics, aggs, groupBy: grouped, step, having, topK }
}

/** @throws TwinfoldError `invalid_field` naming the field */
export function whereOf (where: FleetBody['where']): FleetWhere {
  if (where === undefined) return {}
  const { devices, type, gateway, tags } = where
  if (devices?.some(id => !isDeviceId(id)) === true) refuse('where.devices', 'must hold ids of devices')
  const byTag = Object.entries(tags ?? {}).map(([name, values]): [string, string[]] => {
    if (!isTagName(name)) refuse(`where.tags.${name.slice(0, 64)}`, 'is no name of a tag')
    return [name, typeof values === 'string' ? [values] : [...values]]
  })
  const several = (given: OneOrMore): readonly string[] => typeof given === 'string' ? [given] : given
  return {
    ...devices === undefined ? {} : { devices },
    ...type === undefined ? {} : { types: several(type) },
    ...gateway === undefined ? {} : { gateways: several(gateway) },
    ...byTag.length === 0 ? {} : { tags: new Map(byTag) }
  }
}

/** @throws TwinfoldError `invalid_field` naming the field */
export function histogramOf (body: FleetBody): Pick<HistogramQuery, 'metric' | 'buckets'> {
  const { metric, buckets, width } = body.histogram as NonNullable<FleetBody['histogram']>
  for (const name of ['metrics', 'agg', 'step', 'groupBy', 'having', 'topk'] as const) if (body[name] !== undefined) refuse(name, 'does not go with a histogram')
  if (buckets !== undefined && width !== undefined) refuse('histogram.width', 'does not go with buckets')
  if (width !== undefined && !(width > 0)) refuse('histogram.width', 'must be above 0')
  return { metric: metricOf(metric, 'histogram.metric'), buckets: width === undefined ? { kind: 'count', count: buckets ?? 20 } : { kind: 'width', width } }
}

/** @throws TwinfoldError `invalid_field` naming the field */
export function spanOf (body: FleetBody, nowUs: number): Span {
  const text = (value: string | number | undefined): string | undefined => typeof value === 'number' ? String(value) : value
  return parseSpan({ from: text(body.from), to: text(body.to) }, nowUs)
}
