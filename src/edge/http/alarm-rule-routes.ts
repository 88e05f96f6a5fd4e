/** Alarm rules: written, read, deleted. */
import type { FastifyInstance } from 'fastify'
import { TwinfoldError } from '../../core/errors.js'
import { operators, severities } from '../../core/threshold.js'
import type { RuleBody } from '../../alarms/rule.js'
import type { AlarmRule } from '../../../workers/watch-protocol.js'
import { alarmSourceOf } from './alarm-routes.js'
import { authorizeHook, tenantOf } from './authorize.js'
import { nextCursor, storeCursor } from './cursor.js'
import type { EdgeContext } from './edge-context.js'
import { expectedTag, matchHeaders, sendTag } from './entity-tag.js'
import { isoTime } from './query-time.js'
import { pageQuery, pageSchema, routeDocs } from './route-docs.js'
import type { Schema } from './schema-check.js'

const valueSchema: Schema = { type: ['number', 'boolean', 'string'] }
const ruleParams: Schema = { type: 'object', required: ['id'], properties: { id: { type: 'string', minLength: 1, maxLength: 64, description: '1 to 64 characters of A-Z a-z 0-9 . _ : -' } } }
const opSchema: Schema = { type: 'string', enum: operators }
const bodyProperties: Readonly<Record<string, Schema>> = {
  name: { type: 'string', maxLength: 256 },
  severity: { type: 'string', enum: severities, description: 'Default major.' },
  enabled: { type: 'boolean', description: 'Default true.' },
  message: { type: 'string', maxLength: 1024 },
  scope: {
    type: ['object', 'null'],
    additionalProperties: false,
    properties: { model: { type: 'string', maxLength: 256 }, device: { type: 'string', maxLength: 128 }, tag: { type: 'string', maxLength: 330 } },
    description: 'One of: devices of a type, one device, devices with a tag NAME=VALUE. Default: all.'
  },
  source: {
    type: 'object',
    additionalProperties: false,
    properties: { metric: { type: 'string', maxLength: 128 }, reported: { type: 'string', maxLength: 1024 }, presence: { type: 'boolean' } },
    description: 'One of: a metric (* for any, with noData), a path of the reported state (a.b), presence (connected or disconnected).'
  },
  condition: {
    type: ['object', 'null'],
    required: ['op', 'value'],
    additionalProperties: false,
    properties: {
      op: opSchema,
      value: valueSchema,
      clear: { type: ['object', 'null'], required: ['value'], additionalProperties: false, properties: { op: opSchema, value: valueSchema }, description: 'Where it is over again (hysteresis). Default: as soon as the condition does not hold.' }
    },
    description: 'A value of another type than the limit says nothing.'
  },
  durationSeconds: { type: 'number', minimum: 0, maximum: 2_592_000, description: 'The condition must hold so long, by event time; a value holds until the next one. Default 0.' },
  noData: { type: ['object', 'null'], required: ['seconds'], additionalProperties: false, properties: { seconds: { type: 'number' } }, description: 'Instead of a condition: no point arrived for so long. At least 5.' }
}
const ruleSchema: Schema = { type: 'object', properties: { id: { type: 'string' }, ...bodyProperties, changedAt: { type: 'string', format: 'date-time' } } }

function ruleView ({ stamp, ...rule }: AlarmRule): object {
  return { ...rule, changedAt: isoTime(stamp) }
}

const ruleNotFound = (id: string): TwinfoldError => new TwinfoldError('not_found', `there is no alarm rule '${id.slice(0, 64)}' in this tenant`)

export function alarmRuleRoutes (context: EdgeContext) {
  return async (app: FastifyInstance): Promise<void> => {
    const readers = authorizeHook(context, ['operator', 'application', 'viewer'])
    const operator = authorizeHook(context, ['operator'])

    app.get('/alarm-rules', {
      ...routeDocs({ summary: 'List alarm rules', tag: 'alarms', query: pageQuery(), answers: { 200: { description: 'A page, in order of id.', schema: pageSchema('rules', ruleSchema) } } }),
      onRequest: readers
    }, async request => {
      const tenant = tenantOf(request)
      const { limit = 100, cursor } = request.query as { limit?: number, cursor?: string }
      const query = ['alarm-rules', tenant]
      const page = await alarmSourceOf(context).rules.list(tenant, storeCursor(query, cursor), limit)
      return { rules: page.items.map(ruleView), next: nextCursor(query, page.next) }
    })

    app.get('/alarm-rules/:id', {
      ...routeDocs({ summary: 'Get an alarm rule', tag: 'alarms', params: ruleParams, answers: { 200: { description: 'The rule. Header ETag.', schema: ruleSchema } } }),
      onRequest: readers
    }, async (request, reply) => {
      const { id } = request.params as { id: string }
      const rule = await alarmSourceOf(context).rules.get(tenantOf(request), id)
      if (rule === null) throw ruleNotFound(id)
      return await sendTag(reply, String(rule.stamp)).send(ruleView(rule))
    })

    app.put('/alarm-rules/:id', {
      ...routeDocs({
        summary: 'Write an alarm rule',
        description: 'At most 200 of a tenant. Every write begins anew: active alarms of the rule as it was are cleared (rule_changed). Packers follow within 5 seconds.',
        tag: 'alarms',
        params: ruleParams,
        headers: matchHeaders,
        body: { type: 'object', required: ['source'], additionalProperties: false, properties: bodyProperties },
        answers: { 200: { description: 'Changed. Header ETag.', schema: ruleSchema }, 201: { description: 'Made. Header ETag.', schema: ruleSchema } },
        errors: ['precondition_failed', 'limit_reached']
      }),
      onRequest: operator
    }, async (request, reply) => {
      const { id } = request.params as { id: string }
      const { rule, created } = await alarmSourceOf(context).putRule(tenantOf(request), id, request.body as RuleBody, expectedTag(request))
      return await sendTag(reply, String(rule.stamp)).code(created ? 201 : 200).send(ruleView(rule))
    })

    app.delete('/alarm-rules/:id', {
      ...routeDocs({
        summary: 'Delete an alarm rule',
        description: 'Its active alarms are cleared (rule_changed).',
        tag: 'alarms',
        params: ruleParams,
        headers: matchHeaders,
        answers: { 204: { description: 'Deleted.' } },
        errors: ['precondition_failed']
      }),
      onRequest: operator
    }, async (request, reply) => {
      const { id } = request.params as { id: string }
      if (!await alarmSourceOf(context).deleteRule(tenantOf(request), id, expectedTag(request))) throw ruleNotFound(id)
      return await reply.code(204).send()
    })
  }
}
