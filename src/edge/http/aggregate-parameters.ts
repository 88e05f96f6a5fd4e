/** Parameters of questions about windows: from text to a checked request, every refusal with the name of the parameter. */
import { TwinfoldError } from '../../core/errors.js'
import { metricNameBytesMax, metricsPerReadingMax } from '../../core/limits.js'
import { aggregateNames, aggregatesMax, parseAggregate } from '../../series/steps/aggregates.js'
import { parseStep, stepFor, windowsMost, type Step } from '../../series/steps/step.js'
import { Zone } from '../../series/steps/zone.js'
import type { TimeFormat } from '../../../workers/protocol.js'
import type { AggregateQuery, DeviceScope, Fill, ShapeQuery, Source } from '../../../workers/query-protocol.js'
import { parseMetrics } from './query-scope.js'
import { parseSpan, type Span } from './query-time.js'

/** Windows of a series in one answer or page. */
export const windowsMax = 11_000
/** Values of an answer, over all series and devices. */
export const valuesMax = 200_000
export const maxPointsMax = 5000
const maxPointsDefault = 500
const aggDefault = 'avg'

export interface AggregateParameters {
  readonly from?: string | number
  readonly to?: string | number
  readonly metrics?: readonly (string | { readonly metric: string, readonly agg?: readonly string[] })[]
  readonly agg?: readonly string[]
  readonly step?: string
  readonly maxPoints?: number
  readonly fill?: string | number
  readonly tz?: string
  readonly times?: TimeFormat
  readonly tier?: Source
  readonly limit?: number
}

/** A checked question, without the device that it goes to. */
export type WindowQuestion = { readonly span: Span } & (Omit<AggregateQuery, keyof DeviceScope> | Omit<ShapeQuery, keyof DeviceScope>)

const invalid = (field: string, detail: string): TwinfoldError => new TwinfoldError('invalid_field', detail, { field })

function parseZone (name: string): Zone {
  // Offsets such as +02:00 are no zones: they know no summer.
  if (/^[A-Za-z][A-Za-z0-9_+/-]{0,63}$/.test(name)) {
    try {
      return new Zone(name)
    } catch { /* said below */ }
  }
  throw invalid('tz', `'tz' must be an IANA time zone such as Europe/Berlin`)
}

function parseFill (given: string | number): Fill {
  if (typeof given === 'number') return given
  if (['none', 'null', 'previous', 'linear'].includes(given)) return given as Fill
  if (/^-?[0-9]{1,15}(?:\.[0-9]{1,15})?$/.test(given)) return Number(given)
  throw invalid('fill', `'fill' must be none, null, previous, linear or a number`)
}

/** Names, in the order given and without repetition. */
function parseAggs (given: readonly string[], field: string): string[] {
  const names = [...new Set(given.flatMap(text => text.split(',')))]
  const unknown = names.find(name => parseAggregate(name) === null && name !== 'lttb' && name !== 'minmax')
  if (unknown !== undefined) throw invalid(field, `'${field}' knows ${aggregateNames} and other pNN, and alone: lttb, minmax; not '${unknown.slice(0, 40)}'`)
  if (names.length > aggregatesMax) throw invalid(field, `'${field}' are at most ${aggregatesMax}`)
  return names
}

function parseWanted (metrics: AggregateParameters['metrics'], aggs: readonly string[]): AggregateQuery['wanted'] {
  if (metrics === undefined) return [{ metric: null, aggs }]
  if (metrics.every(one => typeof one === 'string')) return (parseMetrics(metrics) ?? []).map(metric => ({ metric, aggs }))
  const wanted = new Map<string, readonly string[]>()
  metrics.forEach((one, i) => {
    const metric = typeof one === 'string' ? one : one.metric
    if (metric === '' || Buffer.byteLength(metric) > metricNameBytesMax) throw invalid('metrics', `'metrics' are at most ${metricsPerReadingMax} names of 1 to ${metricNameBytesMax} bytes`)
    if (wanted.has(metric)) throw invalid(`metrics[${i}]`, `'metrics' names '${metric}' twice`)
    wanted.set(metric, typeof one === 'string' || one.agg === undefined ? aggs : parseAggs(one.agg, `metrics[${i}].agg`))
  })
  return [...wanted].map(([metric, own]) => ({ metric, aggs: own }))
}

/** @param share of the answer's values that the device may have. @throws TwinfoldError `invalid_field` naming the parameter */
export function parseQuestion (parameters: AggregateParameters, nowTs: number, share = valuesMax): WindowQuestion {
  const { tz = 'UTC', times = 'iso', tier: source, limit } = parameters
  const zone = parseZone(tz)
  const textOf = (time: string | number | undefined): string | undefined => time === undefined ? undefined : String(time)
  const span = parseSpan({ from: textOf(parameters.from), to: textOf(parameters.to) }, nowTs, zone)
  const wanted = parseWanted(parameters.metrics, parseAggs(parameters.agg ?? [aggDefault], 'agg'))
  const every = wanted.flatMap(({ aggs }) => aggs)
  const shape = every.find(name => name === 'lttb' || name === 'minmax') as ShapeQuery['shape'] | undefined
  const common = { span, ...span, times, ...source === undefined ? {} : { source }, valuesMax: share }
  if (shape !== undefined) {
    if (every.some(name => name !== shape)) throw invalid('agg', `'${shape}' stands alone: it answers with points, not with windows`)
    for (const field of ['step', 'fill', 'limit'] as const) if (parameters[field] !== undefined) throw invalid(field, `'${field}' does not go with '${shape}', which takes 'maxPoints'`)
    const metrics = wanted[0].metric === null ? null : wanted.map(({ metric }) => metric as string)
    return { kind: 'shape', shape, metrics, maxPoints: parameters.maxPoints ?? maxPointsDefault, ...common }
  }
  const fill = parseFill(parameters.fill ?? 'none')
  if (limit !== undefined && (fill === 'previous' || fill === 'linear')) throw invalid('fill', `'${fill}' needs the neighbours of a window, which pages cut off; leave 'limit' away or take another 'fill'`)
  const step = parseStepOf(parameters, span, limit !== undefined)
  return { kind: 'aggregate', wanted, step, zone: zone.name, nowTs, fill, ...limit === undefined ? {} : { limit }, ...common }
}

function parseStepOf ({ step: text, maxPoints }: AggregateParameters, { fromTs, toTs }: Span, paged: boolean): Step {
  if (text === undefined) return stepFor(toTs - fromTs, maxPoints ?? maxPointsDefault)
  if (maxPoints !== undefined) throw invalid('maxPoints', `give 'step' or 'maxPoints', not both`)
  const step = parseStep(text)
  if (step === null) throw invalid('step', `'step' must be a duration such as 10s, 5m, 1h, 1d, 1w, 1mo, 1y, or ISO 8601 (PT5M, P1D) of one of: time, days or weeks, months or years`)
  if (!paged && windowsMost(step, toTs - fromTs) > windowsMax) {
    throw invalid('step', `'step' of ${step.text} makes more than ${windowsMax} windows of this range; the smallest allowed is ${stepFor(toTs - fromTs, windowsMax).text}, or give a 'limit' and follow the cursor`)
  }
  return step
}
