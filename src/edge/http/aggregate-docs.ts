/** What OpenAPI says of questions about windows, and what is enforced of their parameters. */
import { metricsPerReadingMax } from '../../core/limits.js'
import { aggregateNames, aggregatesMax } from '../../series/steps/aggregates.js'
import { tiers } from '../../store/tier-store.js'
import { maxPointsMax, windowsMax } from './aggregate-parameters.js'
import { anyTime, metricsSchema, timesSchema } from './query-scope.js'
import { spanSchemas } from './query-time.js'
import type { Schema } from './schema-check.js'

const aggNames: Schema = {
  type: 'array',
  items: { type: 'string', maxLength: 400 },
  maxItems: aggregatesMax,
  description: `With commas between: ${aggregateNames} (any pNN, pNN.N). Default: avg. Of numbers: all but trues, timeIn and changes; stddev is that of the population; delta and rate ` +
    '(per second) are a counter\'s growth since the last point before the window, after a fall the new value counts whole; twa is the average over time, each value held until the next point. Of booleans: ' +
    'count, first, last, trues, timeIn (seconds true), changes. Of strings: count, first, last, changes, timeIn (seconds by value). An aggregate that does not fit a metric\'s type gives no series. ' +
    'Alone: lttb or minmax, points that keep the shape of the curve.'
}
const seriesKnobs: Readonly<Record<string, Schema>> = {
  step: { type: 'string', maxLength: 40, description: 'Width of the windows: 10s, 5m, 1h (counted from the epoch), 1d, 1w (Monday), 1mo, 1y (calendar of `tz`), or ISO 8601 (PT5M, P1D).' },
  maxPoints: { type: 'integer', minimum: 1, maximum: maxPointsMax, description: 'Instead of `step`: the shortest round step that gives at most so many windows; with lttb and minmax the points of a series. Default where no step is given: 500.' },
  tz: { type: 'string', maxLength: 64, default: 'UTC', description: 'IANA time zone of calendar steps and of now/d.' },
  times: timesSchema,
  tier: { type: 'string', enum: ['raw', ...tiers], description: 'Read this tier alone. Default: the coarsest that gives the answer exactly.' }
}
const fillText = 'What stands in windows without a point: none (they are left out; default), null, previous, linear, or a number.'

const commonQuery: Readonly<Record<string, Schema>> = { ...spanSchemas, metrics: metricsSchema, agg: aggNames, ...seriesKnobs, fill: { type: 'string', maxLength: 40, description: fillText } }

export const aggregateQuery: Schema = {
  type: 'object',
  additionalProperties: false,
  properties: {
    ...commonQuery,
    limit: { type: 'integer', minimum: 1, maximum: windowsMax, description: 'Windows of a page; further ones under `next`. Default: all, if they are not too many.' },
    cursor: { type: 'string', maxLength: 2048, description: '`next` of the page before.' }
  }
}

const devices: Schema = { type: 'array', minItems: 1, maxItems: 100, items: { type: 'string', minLength: 1, maxLength: 12_900 }, description: 'Ids; in a query with commas between.' }

export const severalQuery: Schema = { type: 'object', additionalProperties: false, required: ['devices'], properties: { devices, ...commonQuery } }

const bodyTime: Schema = { type: ['string', 'number'] }
export const severalBody: Schema = {
  type: 'object',
  additionalProperties: false,
  required: ['devices'],
  properties: {
    devices: { ...devices, items: { type: 'string', minLength: 1, maxLength: 128 } },
    from: { ...bodyTime, description: spanSchemas.from.description as string },
    to: { ...bodyTime, description: spanSchemas.to.description as string },
    metrics: {
      type: 'array',
      maxItems: metricsPerReadingMax,
      minItems: 1,
      items: {
        type: ['string', 'object'],
        additionalProperties: false,
        required: ['metric'],
        properties: { metric: { type: 'string' }, agg: { ...aggNames, minItems: 1, description: 'Of this metric; default: `agg`.' } }
      },
      description: 'Names, or names with their own aggregates. Default: all.'
    },
    agg: { ...aggNames, minItems: 1 },
    ...seriesKnobs,
    fill: { type: ['string', 'number'], description: fillText }
  }
}

const seriesSchema: Schema = {
  type: 'object',
  properties: {
    metric: { type: 'string' },
    type: { type: 'string', enum: ['number', 'boolean', 'string'] },
    agg: { type: 'string' },
    error: { type: 'number', description: 'Relative error of the values at most, where quantiles come from sketches. Absent: exact.' },
    times: { type: 'array', items: anyTime, description: 'lttb and minmax: the times of the values.' },
    values: { type: 'array', description: 'One a window, null where nothing is. NaN and infinities are strings.' }
  }
}
const windowsProperties: Readonly<Record<string, Schema>> = {
  device: { type: 'string' },
  step: { type: 'string' },
  tz: { type: 'string' },
  align: { type: 'string', enum: ['epoch', 'calendar'], description: 'What windows are counted from. `from` and `to` are rounded outwards to whole windows.' },
  from: anyTime,
  to: anyTime,
  tier: { type: 'string', enum: ['raw', ...tiers], description: 'What was read; the finest, where `tiers` says which part came from which.' },
  edges: { type: 'string', enum: [...tiers], description: 'Finer tier that was read where windows begin inside the hours of `tier`.' },
  tiers: { type: 'array', items: { type: 'object', properties: { tier: { type: 'string' }, from: anyTime, to: anyTime } } },
  windows: { type: 'array', items: anyTime, description: 'Begin of each window.' },
  series: { type: 'array', items: seriesSchema }
}
const description = 'Points that have not been sealed yet, late ones too, are in every answer. Quantiles of windows of an hour and more come from sketches with a relative error of 1 %, shorter ones are exact.'

export const aggregateAnswer = {
  description,
  answers: { 200: { description: 'Windows in columns.', schema: { type: 'object', properties: { ...windowsProperties, next: { type: ['string', 'null'] } } } as Schema } }
}
export const severalAnswer = {
  description,
  answers: { 200: { description: 'By device, in the order asked for.', schema: { type: 'object', properties: { results: { type: 'array', items: { type: 'object', properties: windowsProperties } } } } as Schema } }
}
