/** The documents of the routes of twins: what OpenAPI says of them, and what is enforced of parameters and bodies. */
import { matchHeaders } from './entity-tag.js'
import { timesSchema } from './query-scope.js'
import { idParams, idSchema, routeDocs } from './route-docs.js'
import type { Schema } from './schema-check.js'
import { changeSchema, twinSchema } from './twin-view.js'

const nameSchema: Schema = { type: 'string', minLength: 1, maxLength: 64, description: 'Of the named twin.' }
const namedParams: Schema = { type: 'object', required: ['id', 'name'], properties: { id: idSchema, name: nameSchema } }
const paramsOf = (named: boolean): Schema => named ? namedParams : idParams
const which = (named: boolean): string => named ? 'a named twin' : 'the twin'
const mediaTypes = ['application/json', 'application/merge-patch+json']
const versionSchema: Schema = { type: 'integer', minimum: 1, maximum: Number.MAX_SAFE_INTEGER }
const reasonSchema: Schema = { type: 'string', maxLength: 256, description: 'For the history.' }
const tagsSchema = (type: Schema['type']): Schema => ({ type: 'object', additionalProperties: { type }, description: 'At most 32, together 8 KiB. Not on named twins.' })
const limitsText = 'Limits: 32 KiB each for desired and reported, depth 10, keys of 1 to 128 characters without control characters and not beginning with $, 64 named twins. A change that would break one is refused whole.'

const writeQuery: Schema = {
  type: 'object',
  additionalProperties: false,
  properties: {
    times: timesSchema,
    if: { type: 'string', maxLength: 2000, description: 'A filter (as in the search of devices) that must hold for the twin as it is when the change is made; else 412.' }
  }
}
const changed = { 200: { description: 'The twin as it is now. Header ETag: its version in quotes.', schema: twinSchema } }
const accepted = { 202: { description: 'A device\'s report that is on stable storage and will be applied when the store answers again.', schema: { type: 'object', properties: { accepted: { type: 'boolean' }, applied: { type: 'boolean' } } } as Schema } }

export const twinDocs = {
  get: (named: boolean) => routeDocs({
    summary: `Get ${which(named)}`,
    description: 'As it is, or with `at` or `version` as it was. Header ETag: the version in quotes; it says nothing about the connection.',
    tag: 'devices',
    params: paramsOf(named),
    headers: { type: 'object', properties: { 'if-none-match': { type: 'string', maxLength: 2000, description: 'Versions that are known; 304 where it is one of them.' } } },
    query: {
      type: 'object',
      additionalProperties: false,
      properties: { times: timesSchema, at: { type: 'string', maxLength: 40, description: 'As it was then: ISO 8601, milliseconds, or relative (now-6h).' }, version: { ...versionSchema, description: 'As it was at that version.' } }
    },
    answers: { 200: { description: 'The twin.', schema: twinSchema }, 304: { description: 'It is at a version that If-None-Match names.' } }
  }),
  patch: (named: boolean) => routeDocs({
    summary: `Change ${which(named)}`,
    description: `Desired and tags by operators and applications, reported by the device itself: merge patches (RFC 7396). In reported \`$version\` and \`$ts\` may stand as in the MQTT payload. ${limitsText}`,
    tag: 'devices',
    params: paramsOf(named),
    headers: matchHeaders,
    query: writeQuery,
    body: {
      type: 'object',
      minProperties: 1,
      additionalProperties: false,
      properties: { desired: { type: 'object' }, tags: tagsSchema(['string', 'null']), reported: { type: 'object', description: 'Of the device itself only.' }, reason: reasonSchema },
      examples: [{ desired: { interval: 10, led: null }, reason: 'ticket 4711' }]
    },
    consumes: mediaTypes,
    answers: { ...changed, ...accepted },
    errors: ['precondition_failed', 'limit_reached', 'journal_full', 'journal_unavailable', 'throttled']
  }),
  put: (named: boolean) => routeDocs({
    summary: `Replace desired or tags of ${which(named)}`,
    description: `Each part that is given is replaced as a whole. ${limitsText}`,
    tag: 'devices',
    params: paramsOf(named),
    headers: matchHeaders,
    query: writeQuery,
    body: { type: 'object', minProperties: 1, additionalProperties: false, properties: { desired: { type: 'object' }, tags: tagsSchema('string'), reason: reasonSchema } },
    consumes: mediaTypes,
    answers: changed,
    errors: ['precondition_failed', 'limit_reached', 'journal_full', 'journal_unavailable', 'throttled']
  }),
  names: routeDocs({
    summary: 'List the named twins of a device',
    tag: 'devices',
    params: idParams,
    answers: { 200: { description: 'Their names, in the order they were made.', schema: { type: 'object', properties: { names: { type: 'array', items: { type: 'string' } } } } } }
  }),
  delete: routeDocs({
    summary: 'Delete a named twin with its history',
    tag: 'devices',
    params: namedParams,
    answers: { 200: { description: 'Deleted.', schema: { type: 'object', properties: { deleted: { type: 'boolean' } } } } },
    errors: ['journal_full', 'journal_unavailable', 'throttled']
  }),
  getMany: routeDocs({
    summary: 'Get the twins of many devices',
    tag: 'devices',
    query: { type: 'object', additionalProperties: false, properties: { times: timesSchema } },
    body: { type: 'object', required: ['devices'], additionalProperties: false, properties: { devices: { type: 'array', items: { type: 'string', maxLength: 128 }, minItems: 1, maxItems: 1000 }, name: nameSchema } },
    answers: { 200: { description: 'In the order asked; null where there is no such device or twin.', schema: { type: 'object', properties: { twins: { type: 'array', items: { ...twinSchema, type: ['object', 'null'] } } } } } }
  }),
  changes: (named: boolean) => routeDocs({
    summary: `List the changes of ${which(named)}`,
    description: 'Newest first, as far back as history is kept (TWINFOLD_TWIN_HISTORY_DAYS).',
    tag: 'devices',
    params: paramsOf(named),
    query: {
      type: 'object',
      additionalProperties: false,
      properties: { before: { ...versionSchema, description: 'Only versions below this: `next` of the page before.' }, limit: { type: 'integer', minimum: 1, maximum: 1000, default: 100 }, times: timesSchema }
    },
    answers: { 200: { description: 'A page.', schema: { type: 'object', properties: { changes: { type: 'array', items: changeSchema }, next: { type: ['integer', 'null'] } } } } }
  }),
  diff: (named: boolean) => routeDocs({
    summary: `Compare two versions of ${which(named)}`,
    tag: 'devices',
    params: paramsOf(named),
    query: { type: 'object', required: ['from', 'to'], additionalProperties: false, properties: { from: versionSchema, to: versionSchema } },
    answers: { 200: { description: 'Merge patches that lead from one to the other.', schema: { type: 'object', properties: { from: { type: 'integer' }, to: { type: 'integer' }, desired: { type: 'object' }, reported: { type: 'object' }, tags: { type: 'object' } } } } }
  })
}
