/** Alarms: listed, acknowledged, cleared by hand. */
import type { FastifyInstance } from 'fastify'
import { TwinfoldError } from '../../core/errors.js'
import { severities } from '../../core/threshold.js'
import type { AlarmDocument } from '../../alarms/alarm-document.js'
import type { AlarmFilter, AlarmService } from '../../alarms/alarm-service.js'
import { authorizeHook, tenantOf } from './authorize.js'
import { nextCursor, storeCursor } from './cursor.js'
import { requireVisible } from './device-access.js'
import type { EdgeContext } from './edge-context.js'
import { isoTime } from './query-time.js'
import { idParams, idSchema, pageQuery, pageSchema, routeDocs } from './route-docs.js'
import type { Schema } from './schema-check.js'

export type AlarmSource = Pick<AlarmService, 'rules' | 'putRule' | 'deleteRule' | 'list' | 'ofDevice' | 'counts' | 'get' | 'acknowledge' | 'clear' | 'deviceDeleted'>

const timeSchema: Schema = { type: ['string', 'null'], format: 'date-time' }
const alarmIdParams: Schema = { type: 'object', required: ['id'], properties: { id: { type: 'string', minLength: 1, maxLength: 200, description: 'RULE~DEVICE' } } }
const valueSchema: Schema = { type: ['number', 'boolean', 'string'] }
const alarmSchema: Schema = {
  type: 'object',
  properties: {
    id: { type: 'string', description: 'RULE~DEVICE' },
    rule: { type: 'string' },
    device: { type: 'string' },
    name: { type: 'string' },
    severity: { type: 'string', enum: severities },
    message: { type: 'string' },
    state: { type: 'string', enum: ['active', 'cleared'] },
    causeId: { type: 'string', description: 'One for every time that the condition came true: events of it are told once, or again with the same id.' },
    value: { ...valueSchema, description: 'That raised it.' },
    count: { type: 'integer', description: 'How often it was raised.' },
    raisedAt: { ...timeSchema, description: 'Event time at which the condition had held long enough.' },
    clearedAt: timeSchema,
    clearReason: { type: ['string', 'null'], enum: ['condition', 'manual', 'rule_changed', 'device_deleted', null] },
    acknowledged: { type: 'boolean' },
    ackedAt: timeSchema,
    ackedBy: { type: ['string', 'null'] },
    ackComment: { type: ['string', 'null'] }
  }
}

export function alarmAnswer (alarm: AlarmDocument): object {
  const { rule, device, name, severity, message, state, causeId, value, count, raisedAt, clearedAt, clearReason, acknowledged, ackedAt, ackedBy, ackComment } = alarm
  const time = (us: number): string | null => us === 0 ? null : isoTime(us)
  const text = (given: string): string | null => given === '' ? null : given
  return {
    id: `${rule}~${device}`, rule, device, name, severity, message, state, causeId, value, count, raisedAt: time(raisedAt), clearedAt: time(clearedAt), clearReason: text(clearReason),
    acknowledged, ackedAt: time(ackedAt), ackedBy: text(ackedBy), ackComment: text(ackComment)
  }
}

export function alarmSourceOf (context: EdgeContext): AlarmSource {
  const { alarms } = context.options
  if (alarms === undefined) throw new TwinfoldError('not_ready', 'alarms are not available on this server')
  return alarms
}

const alarmNotFound = (id: string): TwinfoldError => new TwinfoldError('not_found', `there is no alarm '${id.slice(0, 200)}' in this tenant`)

export function alarmRoutes (context: EdgeContext) {
  return async (app: FastifyInstance): Promise<void> => {
    const readers = authorizeHook(context, ['operator', 'application', 'viewer'])
    const workers = authorizeHook(context, ['operator', 'application'])

    app.get('/alarms', {
      ...routeDocs({
        summary: 'List alarms',
        description: 'In order of rule and device. A page may be short, or empty, though there are more: go on while `next` is not null. `active` and `notRaised` are as this node knows them: at most 100,000 alarms of a tenant are active, and those beyond are not raised but counted.',
        tag: 'alarms',
        query: pageQuery({
          state: { type: 'string', enum: ['active', 'cleared'] },
          severity: { type: 'string', enum: severities },
          device: idSchema,
          rule: { type: 'string', minLength: 1, maxLength: 64 },
          acked: { type: 'boolean' }
        }),
        answers: { 200: { description: 'A page.', schema: { type: 'object', properties: { ...pageSchema('alarms', alarmSchema).properties, active: { type: 'integer' }, notRaised: { type: 'integer' } } } } }
      }),
      onRequest: readers
    }, async request => {
      const tenant = tenantOf(request)
      const { limit = 100, cursor, ...filter } = request.query as AlarmFilter & { limit?: number, cursor?: string }
      const query = ['alarms', tenant, filter.state ?? '', filter.severity ?? '', filter.device ?? '', filter.rule ?? '', String(filter.acked ?? '')]
      const page = await alarmSourceOf(context).list(tenant, filter, storeCursor(query, cursor), limit)
      return { alarms: page.items.map(alarmAnswer), next: nextCursor(query, page.next), ...alarmSourceOf(context).counts(tenant) }
    })

    app.get('/alarms/:id', {
      ...routeDocs({ summary: 'Get an alarm', tag: 'alarms', params: alarmIdParams, answers: { 200: { description: 'The alarm.', schema: alarmSchema } } }),
      onRequest: readers
    }, async request => {
      const { id } = request.params as { id: string }
      const alarm = await alarmSourceOf(context).get(tenantOf(request), id)
      if (alarm === null) throw alarmNotFound(id)
      return alarmAnswer(alarm)
    })

    app.post('/alarms/:id/ack', {
      ...routeDocs({
        summary: 'Acknowledge an alarm',
        description: 'Once for every time it is raised; one that is acknowledged stays as it is.',
        tag: 'alarms',
        params: alarmIdParams,
        body: { type: 'object', additionalProperties: false, properties: { comment: { type: 'string', maxLength: 1024 } } },
        answers: { 200: { description: 'The alarm as it is now.', schema: alarmSchema } }
      }),
      onRequest: workers
    }, async request => {
      const { id } = request.params as { id: string }
      const { comment = '' } = request.body as { comment?: string }
      const alarm = await alarmSourceOf(context).acknowledge(tenantOf(request), id, request.caller?.principal.credentialId ?? '', comment)
      if (alarm === null) throw alarmNotFound(id)
      return alarmAnswer(alarm)
    })

    app.post('/alarms/:id/clear', {
      ...routeDocs({
        summary: 'Clear an alarm by hand',
        description: 'It is raised again when the condition has been over and comes true anew; not for the streak that raised it.',
        tag: 'alarms',
        params: alarmIdParams,
        answers: { 200: { description: 'The alarm as it is now.', schema: alarmSchema } }
      }),
      onRequest: workers
    }, async request => {
      const { id } = request.params as { id: string }
      const alarm = await alarmSourceOf(context).clear(tenantOf(request), id)
      if (alarm === null) throw alarmNotFound(id)
      return alarmAnswer(alarm)
    })

    app.get('/devices/:id/alarms', {
      ...routeDocs({
        summary: 'Alarms of a device',
        description: 'By the rules that there are; those of deleted rules are in the list of all alarms.',
        tag: 'alarms',
        params: idParams,
        answers: { 200: { description: 'Active and cleared ones.', schema: { type: 'object', properties: { alarms: { type: 'array', items: alarmSchema } } } } }
      }),
      onRequest: authorizeHook(context, ['operator', 'application', 'viewer', 'device'])
    }, async request => {
      const { id } = request.params as { id: string }
      await requireVisible(context, request, id)
      return { alarms: (await alarmSourceOf(context).ofDevice(tenantOf(request), id)).map(alarmAnswer) }
    })
  }
}
