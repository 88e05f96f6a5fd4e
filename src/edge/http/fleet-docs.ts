/** The documents of fleet queries: what OpenAPI says of them, and what of a request is checked before it is read. */
import { deviceIdCharsMax, metricNameBytesMax } from '../../core/limits.js'
import { tagsMax } from './device-tags.js'
import { aggsMax, bucketsMax, choicesMax, devicesMax, keysMax, metricsMax, topKMax } from './fleet-request.js'
import { spanSchemas } from './query-time.js'
import { routeDocs } from './route-docs.js'
import type { Schema } from './schema-check.js'

export interface SimpleParameters {
  readonly from?: string
  readonly to?: string
  readonly metrics?: string
  readonly agg?: string
  readonly step?: string
  readonly tz?: string
  readonly groupBy?: string
  readonly devices?: string
  readonly type?: string
  readonly gateway?: string
  readonly tag?: readonly string[]
  readonly by?: string
  readonly k?: number
  readonly order?: 'desc' | 'asc'
}

const nameSchema: Schema = { type: 'string', minLength: 1, maxLength: 256 }
const time = (schema: Schema): Schema => ({ ...schema, type: ['string', 'number'] })
const oneOrMore = (max: number, description: string): Schema => ({ type: ['string', 'array'], items: nameSchema, minItems: 1, maxItems: max, minLength: 1, maxLength: 8192, description })
const choice = (description: string): Schema => ({ type: ['string', 'array'], items: { type: 'string', maxLength: 256 }, minItems: 1, maxItems: choicesMax, maxLength: 256, description })
const measureSchema: Schema = { type: 'string', maxLength: metricNameBytesMax + 16, description: 'An aggregate of a metric over the whole range.', examples: ['avg(temperature)'] }
const aggText = 'avg, min, max, sum, count, stddev (of the whole population), first, last, devices (how many), or a percentile such as p95 (1 % relative error). Default: avg.'
const stepText = 'Length of a window: a number with s, m, h, d or w. Windows are counted from the epoch, in a zone from its midnights. Default: one window for the whole range.'
const zoneText = 'Time zone of a step of whole days, as in Europe/Berlin.'
const groupText = `What is kept apart: device, type, gateway, tag:NAME (at most ${keysMax}), and time (as step does).`

export const fleetBodySchema: Schema = {
  type: 'object',
  additionalProperties: false,
  properties: {
    from: time(spanSchemas.from),
    to: time(spanSchemas.to),
    metrics: oneOrMore(metricsMax, 'Names, in a list or with commas between.'),
    agg: oneOrMore(aggsMax, aggText),
    step: { type: 'string', maxLength: 10, description: stepText },
    tz: { type: 'string', maxLength: 64, description: zoneText },
    where: {
      type: 'object',
      additionalProperties: false,
      description: 'Devices that count; they have to meet all that is given. Default: all.',
      properties: {
        devices: { type: 'array', items: { type: 'string', maxLength: deviceIdCharsMax }, minItems: 1, maxItems: devicesMax },
        type: choice('One of these types.'),
        gateway: choice('Behind one of these gateways.'),
        tags: { type: 'object', maxProperties: tagsMax, additionalProperties: choice('One of these values; "" stands for devices without the tag.'), examples: [{ site: 'berlin' }] }
      }
    },
    groupBy: oneOrMore(keysMax + 1, groupText),
    having: {
      type: 'array',
      maxItems: 5,
      description: 'Groups that count, by their aggregates over the whole range.',
      items: { type: 'object', required: ['by', 'op', 'value'], additionalProperties: false, properties: { by: measureSchema, op: { type: 'string', enum: ['<', '<=', '>', '>='] }, value: { type: 'number' } } }
    },
    topk: {
      type: 'object',
      required: ['by', 'k'],
      additionalProperties: false,
      description: 'Only the k groups (default: devices) whose aggregate over the whole range is largest, or with order asc smallest; in that order.',
      properties: { by: measureSchema, k: { type: 'integer', minimum: 1, maximum: topKMax }, order: { type: 'string', enum: ['desc', 'asc'], default: 'desc' } }
    },
    histogram: {
      type: 'object',
      required: ['metric'],
      additionalProperties: false,
      description: 'How often values lie where, instead of aggregates: so many buckets between the least and the greatest value, or buckets of a width.',
      properties: { metric: nameSchema, buckets: { type: 'integer', minimum: 1, maximum: bucketsMax, default: 20 }, width: { type: 'number' } }
    }
  },
  examples: [{ from: 'now-30d', metrics: ['temperature'], agg: ['avg', 'p95'], step: '1d', tz: 'Europe/Berlin', where: { type: 'pump' }, groupBy: ['tag:site'] }]
}

const querySchema: Schema = {
  type: 'object',
  required: ['metrics'],
  additionalProperties: false,
  properties: {
    ...spanSchemas,
    metrics: { type: 'string', maxLength: 4096, description: 'Names with commas between.' },
    agg: { type: 'string', maxLength: 256, description: `With commas between: ${aggText}` },
    step: { type: 'string', maxLength: 10, description: stepText },
    tz: { type: 'string', maxLength: 64, description: zoneText },
    groupBy: { type: 'string', maxLength: 512, description: groupText },
    devices: { type: 'string', maxLength: 8192, description: 'Ids with commas between.' },
    type: { type: 'string', maxLength: 256 },
    gateway: { type: 'string', maxLength: deviceIdCharsMax },
    tag: { type: 'array', items: { type: 'string', maxLength: 400 }, maxItems: tagsMax, description: 'NAME=VALUE; several times for several tags.' },
    by: { ...measureSchema, description: 'Only the k groups whose aggregate is largest, as in by=avg(temperature).' },
    k: { type: 'integer', minimum: 1, maximum: topKMax, description: 'Default with by: 10.' },
    order: { type: 'string', enum: ['desc', 'asc'] }
  }
}

const valueSchema: Schema = { type: ['number', 'string', 'boolean', 'null'] }
const answers = {
  200: {
    description: 'The state of `lagSeconds` ago, each point once. A histogram has `buckets` [from, to) and `notFinite` instead of `rows`. NaN and infinities are the strings "NaN", "Infinity" and "-Infinity".',
    schema: {
      type: 'object',
      required: ['from', 'to', 'tier', 'lagSeconds'],
      properties: {
        from: { type: 'string', format: 'date-time' },
        to: { type: 'string', format: 'date-time' },
        tier: { type: 'string', enum: ['points', '1h'], description: 'What was read.' },
        lagSeconds: { type: 'number', description: 'How long points of this node have waited to be in analytics.' },
        gap: { type: 'string', description: 'Only where points are missing until analytics is rebuilt: why.' },
        rows: {
          type: 'array',
          description: 'In order of group (topk: of rank), metric, time.',
          items: {
            type: 'object',
            required: ['metric', 'values'],
            properties: { metric: { type: 'string' }, time: { type: 'string', format: 'date-time' }, group: { type: 'object', additionalProperties: { type: 'string' } }, values: { type: 'object', additionalProperties: valueSchema } }
          }
        },
        metric: { type: 'string' },
        buckets: { type: 'array', items: { type: 'object', properties: { from: { type: 'number' }, to: { type: 'number' }, count: { type: 'integer' } } } },
        notFinite: { type: 'integer' }
      }
    } as Schema
  }
}

const limitsText = 'Numbers count for all aggregates but count, devices, first and last. At most 10,000 rows, 200,000 groups, 25 s and 1 GiB of memory; beyond, 409 `limit_reached` names the field to change. Only the caller\'s tenant, within its retention. 404 where analytics is off.'

export const fleetDocs = {
  post: routeDocs({ summary: 'Aggregates over many devices', description: limitsText, tag: 'analytics', body: fleetBodySchema, answers, errors: ['analytics_unavailable', 'limit_reached'] }),
  get: routeDocs({ summary: 'Aggregates over many devices, in a URL', description: `What POST answers, for simple questions. ${limitsText}`, tag: 'analytics', query: querySchema, answers, errors: ['analytics_unavailable', 'limit_reached'] })
}
