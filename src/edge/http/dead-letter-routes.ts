/** The dead-letter log of a tenant (INVARIANTS 9): read, corrected and replayed, or deleted. */
import type { FastifyInstance } from 'fastify'
import { TwinfoldError } from '../../core/errors.js'
import { deadLetterPayloadBytesMax } from '../../core/limits.js'
import { deadLetterReasons, type DeadLetter, type DeadLetterReason } from '../../store/dead-letter-store.js'
import { authorizeHook, tenantOf } from './authorize.js'
import { nextCursor, storeCursor } from './cursor.js'
import { replayLetters, type Correction } from './dead-letter-replay.js'
import type { EdgeContext } from './edge-context.js'
import { letterMessage } from './message-letter.js'
import { isoTime } from './query-time.js'
import { idParams, idSchema, pageQuery, pageSchema, routeDocs } from './route-docs.js'
import type { Schema } from './schema-check.js'

const MIB = 1024 * 1024
/** Letters in one replay or deletion. */
const lettersPerRequestMax = 100

const letterProperties: Readonly<Record<string, Schema>> = {
  id: { type: 'string' },
  receivedAt: { type: 'string', format: 'date-time' },
  reason: { type: 'string', enum: deadLetterReasons },
  detail: { type: 'string' },
  device: { type: 'string', description: 'Empty where none could be told.' },
  source: { type: 'string' },
  payloadBytes: { type: 'integer', description: 'Of the payload as it was sent.' },
  truncated: { type: 'boolean', description: 'The end of the payload was not kept: it can only be replayed corrected.' }
}
const letterSchema: Schema = { type: 'object', properties: letterProperties }
const wholeLetterSchema: Schema = {
  type: 'object',
  properties: { ...letterProperties, payload: { type: 'string', description: 'Base64.' }, text: { type: ['string', 'null'], description: 'The payload as text, where it is UTF-8.' } }
}
const idsSchema: Schema = { type: 'array', items: idSchema, minItems: 1, maxItems: lettersPerRequestMax, uniqueItems: true }
const correctionSchema: Schema = {
  type: 'object',
  minProperties: 1,
  maxProperties: 1,
  additionalProperties: false,
  properties: {
    text: { type: 'string', minLength: 1, maxLength: deadLetterPayloadBytesMax },
    base64: { type: 'string', pattern: '^[A-Za-z0-9+\\/]+={0,2}$', maxLength: Math.ceil(deadLetterPayloadBytesMax / 3) * 4 }
  }
}

function letterView (letter: DeadLetter): object {
  const { id, stamp, reason, detail, device, source, payloadBytes, payload } = letter
  const headerBytes = letterMessage(letter)?.payloadAt ?? 0
  return { id, receivedAt: isoTime(stamp), reason, detail, device, source, payloadBytes: payloadBytes - headerBytes, truncated: payloadBytes > payload.length }
}

function textOf (payload: Uint8Array): string | null {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(payload)
  } catch {
    return null
  }
}

export function deadLetterRoutes (context: EdgeContext) {
  return async (app: FastifyInstance): Promise<void> => {
    const { store } = context.options
    const readers = authorizeHook(context, ['operator', 'application', 'viewer'])
    const operator = authorizeHook(context, ['operator'])

    app.get('/dead-letters', {
      ...routeDocs({
        summary: 'List dead letters, newest first',
        tag: 'dead letters',
        query: pageQuery({ reason: { type: 'string', enum: deadLetterReasons }, device: { type: 'string', maxLength: 128 } }),
        answers: { 200: { description: 'A page, without payloads.', schema: pageSchema('deadLetters', letterSchema) } }
      }),
      onRequest: readers
    }, async request => {
      const tenant = tenantOf(request)
      const { limit = 100, cursor, reason, device } = request.query as { limit?: number, cursor?: string, reason?: DeadLetterReason, device?: string }
      const query = ['dead-letters', tenant, reason ?? '', device ?? '']
      const page = await store.listDeadLetters(tenant, { reason, device }, storeCursor(query, cursor), limit)
      return { deadLetters: page.items.map(letterView), next: nextCursor(query, page.next) }
    })

    app.get('/dead-letters/:id', {
      ...routeDocs({ summary: 'Get a dead letter with its payload', tag: 'dead letters', params: idParams, answers: { 200: { description: 'The letter.', schema: wholeLetterSchema } } }),
      onRequest: readers
    }, async request => {
      const { id } = request.params as { id: string }
      const letter = await store.getDeadLetter(tenantOf(request), id)
      if (letter === null) throw new TwinfoldError('not_found', `there is no dead letter '${id}'`)
      const payload = letter.payload.subarray(letterMessage(letter)?.payloadAt ?? 0)
      return { ...letterView(letter), payload: Buffer.from(payload).toString('base64'), text: textOf(payload) }
    })

    app.post('/dead-letters/replay', {
      ...routeDocs({
        summary: 'Send dead letters through the pipeline again',
        description: 'Each keeps its arrival stamp. A letter is deleted once its replay is durable; what is wrong still, comes back as a letter.',
        tag: 'dead letters',
        body: {
          type: 'object',
          required: ['ids'],
          additionalProperties: false,
          properties: { ids: idsSchema, corrections: { type: 'object', maxProperties: lettersPerRequestMax, additionalProperties: correctionSchema, description: 'Payloads to send instead, by id.' } }
        },
        bodyBytesMax: 12 * MIB,
        answers: {
          200: {
            description: 'What became of each.',
            schema: { type: 'object', properties: { replayed: { type: 'integer' }, results: { type: 'array', items: { type: 'object', properties: { id: { type: 'string' }, result: { type: 'string', enum: ['replayed', 'not_found', 'truncated', 'device_unknown'] } } } } } }
          }
        },
        errors: ['throttled', 'journal_unavailable', 'journal_full']
      }),
      onRequest: operator
    }, async request => {
      const { ids, corrections = {} } = request.body as { ids: readonly string[], corrections?: Readonly<Record<string, Correction>> }
      for (const id of Object.keys(corrections)) {
        if (!ids.includes(id)) throw new TwinfoldError('invalid_field', `'corrections' names '${id.slice(0, 128)}', which is not among 'ids'`, { field: 'corrections' })
      }
      const results = await replayLetters(context, tenantOf(request), ids, corrections)
      return { replayed: results.filter(({ result }) => result === 'replayed').length, results }
    })

    app.delete('/dead-letters', {
      ...routeDocs({
        summary: 'Delete dead letters',
        tag: 'dead letters',
        body: { type: 'object', required: ['ids'], additionalProperties: false, properties: { ids: idsSchema } },
        answers: { 200: { description: 'How many there were.', schema: { type: 'object', properties: { deleted: { type: 'integer' } } } } }
      }),
      onRequest: operator
    }, async request => ({ deleted: await store.deleteDeadLetters(tenantOf(request), (request.body as { ids: readonly string[] }).ids) }))

    app.delete('/dead-letters/:id', {
      ...routeDocs({ summary: 'Delete a dead letter', tag: 'dead letters', params: idParams, answers: { 204: { description: 'Deleted.' } } }),
      onRequest: operator
    }, async (request, reply) => {
      const { id } = request.params as { id: string }
      if (await store.deleteDeadLetters(tenantOf(request), [id]) === 0) throw new TwinfoldError('not_found', `there is no dead letter '${id}'`)
      return await reply.code(204).send()
    })
  }
}
