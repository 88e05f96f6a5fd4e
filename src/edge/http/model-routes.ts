/** Models of device types: written with versions, read, and asked what is wrong with a state. */
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { TwinfoldError } from '../../core/errors.js'
import type { CurrentModel, Model, ModelBody, ModelVersion } from '../../models/model.js'
import type { ModelService } from '../../models/model-service.js'
import type { JsonObject, Twins } from '../../twin/twin-model.js'
import { authorizeHook, tenantOf } from './authorize.js'
import { nextCursor, storeCursor } from './cursor.js'
import { requireVisible } from './device-access.js'
import type { EdgeContext } from './edge-context.js'
import { expectedTag, matchHeaders, sendTag } from './entity-tag.js'
import { isoTime } from './query-time.js'
import { idSchema, pageQuery, pageSchema, routeDocs } from './route-docs.js'
import type { Schema } from './schema-check.js'

export interface ModelSource {
  readonly service: Pick<ModelService, 'get' | 'list' | 'versions' | 'version' | 'put' | 'delete' | 'validate' | 'violations'>
  /** Absent: a device's twin cannot be validated by its id. */
  readonly twins?: Pick<Twins, 'get'>
}

const typeSchema: Schema = { type: 'string', minLength: 1, maxLength: 128, description: 'The type as devices have it.' }
const typeParams: Schema = { type: 'object', required: ['type'], properties: { type: typeSchema } }
const versionParams: Schema = { type: 'object', required: ['type', 'version'], properties: { type: typeSchema, version: { type: 'integer', minimum: 1 } } }
const timeSchema: Schema = { type: 'string', format: 'date-time' }
const jsonSchema: Schema = { type: 'object', description: 'JSON Schema, draft 2020-12 (or 07 where $schema says so), of at most 64 KiB; references within it only; formats are not checked.' }
const metricSchema: Schema = {
  type: 'object',
  required: ['type'],
  additionalProperties: false,
  properties: {
    type: { type: 'string', enum: ['number', 'boolean', 'string'] },
    unit: { type: 'string', maxLength: 64 },
    min: { type: 'number' },
    max: { type: 'number' },
    description: { type: 'string', maxLength: 1024 }
  }
}
const bodyProperties: Readonly<Record<string, Schema>> = {
  description: { type: 'string', maxLength: 4096 },
  conflicts: { type: 'string', enum: ['cloud', 'device', 'newest'], description: 'Which value a desired leaf takes when the device reports another one. Default cloud: it stays.' },
  reported: jsonSchema,
  desired: jsonSchema,
  metrics: { type: 'object', additionalProperties: metricSchema, description: 'By name, as flattened (a.b).' },
  onUnknownMetric: { type: 'string', enum: ['accept', 'flag'], description: 'Metrics that the table does not name. Default accept.' },
  onMetricViolation: { type: 'string', enum: ['accept', 'flag'], description: 'Values of a wrong type or out of range: flagged ones are counted and listed; they are stored all the same. Default flag.' },
  onTwinViolation: { type: 'string', enum: ['refuse', 'flag'], description: 'Changes after which desired or reported would not fit its schema. Default refuse.' }
}
const bodySchema: Schema = { type: 'object', additionalProperties: false, properties: bodyProperties }
const modelSchema: Schema = { type: 'object', properties: { type: typeSchema, version: { type: 'integer' }, createdAt: timeSchema, createdBy: { type: 'string' }, ...bodyProperties } }
const versionSchema: Schema = { type: 'object', properties: { version: { type: 'integer' }, createdAt: timeSchema, createdBy: { type: 'string' }, description: { type: 'string' } } }
const listedSchema: Schema = { type: 'object', properties: { type: typeSchema, version: { type: 'integer' }, createdAt: timeSchema, description: { type: 'string' }, metrics: { type: 'object' } } }
const violationSchema: Schema = { type: 'object', properties: { part: { type: 'string', enum: ['desired', 'reported'] }, detail: { type: 'string' } } }
const countSchema: Schema = {
  type: 'object',
  properties: {
    metric: { type: 'string', description: 'Empty for twins, and for metrics beyond those that are counted by name.' },
    kind: { type: 'string', enum: ['type', 'range', 'unknown', 'desired', 'reported'] },
    total: { type: 'integer' },
    hours: { type: 'array', items: { type: 'object', properties: { hour: timeSchema, count: { type: 'integer' } } } },
    examples: { type: 'array', items: { type: 'object', properties: { device: { type: 'string' }, value: { description: 'The value, or what is wrong with the twin.' }, ts: timeSchema, seenAt: timeSchema } } }
  }
}

function modelView ({ createdAt, ...model }: Model): object {
  return { ...model, createdAt: isoTime(createdAt) }
}

function versionView ({ version, createdAt, createdBy, description }: ModelVersion): object {
  return { version, createdAt: isoTime(createdAt), createdBy, description }
}

function listedView ({ type, versions, metrics }: CurrentModel): object {
  const { version, createdAt, description } = versions[versions.length - 1]
  return { type, version, createdAt: isoTime(createdAt), description, metrics }
}

const modelNotFound = (type: string): TwinfoldError => new TwinfoldError('not_found', `there is no model of type '${type.slice(0, 128)}' in this tenant`)

function sourceOf (context: EdgeContext): ModelSource {
  const { models } = context.options
  if (models === undefined) throw new TwinfoldError('not_ready', 'models are not available on this server')
  return models
}

interface ValidateBody { readonly device?: string, readonly desired?: JsonObject, readonly reported?: JsonObject }

async function stateOf (context: EdgeContext, request: FastifyRequest, { device, desired, reported }: ValidateBody): Promise<ValidateBody> {
  if (device === undefined) return { desired, reported }
  if (desired !== undefined || reported !== undefined) throw new TwinfoldError('invalid_field', `give a state or a 'device', not both`, { field: 'device' })
  await requireVisible(context, request, device)
  const twin = await sourceOf(context).twins?.get({ tenant: tenantOf(request), device, name: '' })
  if (twin === null || twin === undefined) throw new TwinfoldError('not_found', `device '${device}' has no twin here`)
  return { desired: twin.desired, reported: twin.reported }
}

export function modelRoutes (context: EdgeContext) {
  return async (app: FastifyInstance): Promise<void> => {
    const readers = authorizeHook(context, ['operator', 'application', 'viewer'])
    const operator = authorizeHook(context, ['operator'])
    registerReads(app, context, readers)
    registerWrites(app, context, operator)

    app.post('/models/:type/validate', {
      ...routeDocs({
        summary: 'Check a state, or the twin of a device, against a model',
        description: 'At most one fault of each part is told. A change of a model touches no twin: here it is found out which do not fit any more.',
        tag: 'models',
        params: typeParams,
        body: { type: 'object', minProperties: 1, additionalProperties: false, properties: { device: idSchema, desired: { type: 'object' }, reported: { type: 'object' } } },
        answers: { 200: { description: 'What was found.', schema: { type: 'object', properties: { valid: { type: 'boolean' }, version: { type: 'integer' }, violations: { type: 'array', items: violationSchema } } } } }
      }),
      onRequest: readers
    }, async request => {
      const { type } = request.params as { type: string }
      const found = await sourceOf(context).service.validate(tenantOf(request), type, await stateOf(context, request, request.body as ValidateBody))
      if (found === null) throw modelNotFound(type)
      return { valid: found.violations.length === 0, ...found }
    })

    app.get('/models/:type/violations', {
      ...routeDocs({
        summary: 'Violations of a model that this node has seen',
        description: 'Since the start of this node, by metric and kind, with the newest examples. Flagged points are stored all the same.',
        tag: 'models',
        params: typeParams,
        answers: { 200: { description: 'Most first.', schema: { type: 'object', properties: { since: timeSchema, violations: { type: 'array', items: countSchema } } } } }
      }),
      onRequest: readers
    }, async request => {
      const { type } = request.params as { type: string }
      const found = await sourceOf(context).service.violations(tenantOf(request), type)
      if (found === null) throw modelNotFound(type)
      return {
        since: isoTime(found.sinceUs),
        violations: found.counts.map(({ hours, examples, ...count }) => ({
          ...count,
          hours: hours.map(entry => ({ hour: isoTime(entry.hour), count: entry.count })),
          examples: examples.map(({ device, value, ts, at }) => ({ device, value, ts: isoTime(ts), seenAt: isoTime(at) }))
        }))
      }
    })
  }
}

type Hook = ReturnType<typeof authorizeHook>

function registerReads (app: FastifyInstance, context: EdgeContext, readers: Hook): void {
  app.get('/models', {
    ...routeDocs({ summary: 'List models', tag: 'models', query: pageQuery(), answers: { 200: { description: 'A page, in order of type, without schemas.', schema: pageSchema('models', listedSchema) } } }),
    onRequest: readers
  }, async request => {
    const tenant = tenantOf(request)
    const { limit = 100, cursor } = request.query as { limit?: number, cursor?: string }
    const query = ['models', tenant]
    const page = await sourceOf(context).service.list(tenant, storeCursor(query, cursor), limit)
    return { models: page.items.map(listedView), next: nextCursor(query, page.next) }
  })

  app.get('/models/:type', {
    ...routeDocs({ summary: 'Get a model', tag: 'models', params: typeParams, answers: { 200: { description: 'The version in force. Header ETag.', schema: modelSchema } } }),
    onRequest: readers
  }, async (request, reply) => {
    const { type } = request.params as { type: string }
    const found = await sourceOf(context).service.get(tenantOf(request), type)
    if (found === null) throw modelNotFound(type)
    return await sendTag(reply, found.tag).send(modelView(found.model))
  })

  app.get('/models/:type/versions', {
    ...routeDocs({
      summary: 'List the versions of a model',
      tag: 'models',
      params: typeParams,
      answers: { 200: { description: 'Newest first; the newest 50 are kept.', schema: { type: 'object', properties: { versions: { type: 'array', items: versionSchema } } } } }
    }),
    onRequest: readers
  }, async request => {
    const { type } = request.params as { type: string }
    const versions = await sourceOf(context).service.versions(tenantOf(request), type)
    if (versions === null) throw modelNotFound(type)
    return { versions: versions.map(versionView) }
  })

  app.get('/models/:type/versions/:version', {
    ...routeDocs({ summary: 'Get a version of a model', tag: 'models', params: versionParams, answers: { 200: { description: 'As it was written.', schema: modelSchema } } }),
    onRequest: readers
  }, async request => {
    const { type, version } = request.params as { type: string, version: number }
    const model = await sourceOf(context).service.version(tenantOf(request), type, version)
    if (model === null) throw new TwinfoldError('not_found', `there is no version ${version} of a model of type '${type.slice(0, 128)}'`)
    return modelView(model)
  })
}

function registerWrites (app: FastifyInstance, context: EdgeContext, operator: Hook): void {
  app.put('/models/:type', {
    ...routeDocs({
      summary: 'Write a model',
      description: 'Every write makes a new version. Twins are not touched; packers follow within seconds.',
      tag: 'models',
      params: typeParams,
      headers: matchHeaders,
      body: bodySchema,
      answers: { 200: { description: 'The new version. Header ETag.', schema: modelSchema }, 201: { description: 'The first version. Header ETag.', schema: modelSchema } },
      errors: ['precondition_failed', 'limit_reached']
    }),
    onRequest: operator
  }, async (request, reply) => {
    const { type } = request.params as { type: string }
    const { model, tag, created } = await sourceOf(context).service.put(tenantOf(request), type, request.body as ModelBody, expectedTag(request), request.caller?.principal.credentialId ?? '')
    return await sendTag(reply, tag).code(created ? 201 : 200).send(modelView(model))
  })

  app.delete('/models/:type', {
    ...routeDocs({
      summary: 'Delete a model with its versions',
      description: 'Twins are not touched; they are not checked any more. A model written later begins at version 1.',
      tag: 'models',
      params: typeParams,
      headers: matchHeaders,
      answers: { 204: { description: 'Deleted.' } },
      errors: ['precondition_failed']
    }),
    onRequest: operator
  }, async (request, reply) => {
    const { type } = request.params as { type: string }
    if (!await sourceOf(context).service.delete(tenantOf(request), type, expectedTag(request))) throw modelNotFound(type)
    return await reply.code(204).send()
  })
}
