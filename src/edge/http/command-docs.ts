/** The documents of the command routes, and a command as JSON. */
import type { Answer } from '../../commands/command.js'
import type { CommandView } from '../../commands/commands.js'
import { usPerMs } from '../../core/reading.js'
import { isoTime } from './query-time.js'
import { idSchema } from './route-docs.js'
import type { Schema } from './schema-check.js'

export const commandStates = ['queued', 'sent', 'delivered', 'succeeded', 'failed', 'expired', 'unanswered', 'cancelled', 'undeliverable'] as const
export const waitMsMax = 60_000
export const pollMax = 100

const timeSchema: Schema = { type: 'string', format: 'date-time' }
const timeOrNull: Schema = { type: ['string', 'null'], format: 'date-time' }
const answerSchema: Schema = {
  type: 'object',
  properties: {
    time: { ...timeSchema, description: 'When the server had it on stable storage.' },
    outcome: { type: 'string', enum: ['succeeded', 'failed'] },
    status: { type: ['string', 'number', 'boolean', 'null'], description: 'The device\'s own word.' },
    payload: {},
    payloadOmittedBytes: { type: 'integer', description: 'The payload was too large to keep beside the first answer.' },
    late: { type: 'boolean', description: 'It came after the deadline.' }
  }
}

export const commandSchema: Schema = {
  type: 'object',
  properties: {
    id: { type: 'string' },
    deviceId: { type: 'string' },
    name: { type: 'string' },
    payload: {},
    envelope: { type: 'boolean' },
    priority: { type: 'integer' },
    delivery: { type: 'string', enum: ['queued', 'ifConnected'] },
    retries: { type: 'integer' },
    reason: { type: 'string' },
    requestedBy: { type: 'object', properties: { kind: { type: 'string' }, id: { type: 'string' }, via: { type: 'string' } } },
    createdAt: timeSchema,
    expiresAt: timeSchema,
    state: { type: 'string', enum: commandStates, description: 'The device\'s answer where it came by the deadline, else our end, else how far it got.' },
    finished: { type: 'boolean' },
    finishedAt: timeOrNull,
    known: {
      type: 'object',
      description: 'What the server knows.',
      properties: {
        delivery: { type: 'string', enum: ['none', 'unknown', 'confirmed'], description: 'none: it was never handed to a socket. unknown: it was, and nothing says that the device got it.' },
        sentAt: timeOrNull,
        deliveredAt: timeOrNull,
        attempts: { type: 'array', items: { type: 'object', properties: { sentAt: timeSchema, via: { type: 'string', enum: ['mqtt', 'http'] }, deliveredAt: timeOrNull } } },
        end: { type: ['object', 'null'], properties: { state: { type: 'string' }, time: timeSchema, cause: { type: 'string', enum: ['deadline', 'device_deleted', 'not_connected', 'cancelled'] } } }
      }
    },
    said: {
      type: 'object',
      description: 'What the device said.',
      properties: {
        answer: { ...answerSchema, type: ['object', 'null'], description: 'Its first answer.' },
        lateAnswers: { type: 'array', items: answerSchema, description: 'Further ones, the first five.' },
        lateAnswersBeyond: { type: 'integer', description: 'How many more there were.' }
      }
    }
  }
}

export const requestSchema: Schema = {
  type: 'object',
  required: ['name'],
  additionalProperties: false,
  properties: {
    name: { type: 'string', pattern: '^[A-Za-z0-9._:@\\-]{1,64}$', description: 'A level of the topic: `devices/{id}/commands/{name}/request/{commandId}`.' },
    payload: { description: 'Any JSON of at most 64 KiB; absent: an empty message.' },
    envelope: { type: 'boolean', description: 'Send `{"payload":…,"expiresAt":ms}` instead of the bare payload. Default false.' },
    priority: { type: 'integer', minimum: 0, maximum: 9, description: 'Higher first; of the same, the older first. Default 5.' },
    expiresAt: { type: ['string', 'number'], description: 'The deadline: ISO 8601 or milliseconds since the epoch, at most 30 days ahead.' },
    timeoutMs: { type: 'integer', minimum: 1, maximum: 30 * 24 * 3_600_000, description: 'The deadline from now on. Default one hour.' },
    delivery: { type: 'string', enum: ['queued', 'ifConnected'], description: 'ifConnected: undeliverable where the device is not connected. Default queued.' },
    retries: { type: 'integer', minimum: 0, maximum: 10, description: 'How often it may be sent again, on a later connection, where delivery was not confirmed. Default 0.' },
    reason: { type: 'string', maxLength: 256 }
  }
}

export const commandParams: Schema = { type: 'object', required: ['id', 'commandId'], properties: { id: idSchema, commandId: { type: 'string', minLength: 1, maxLength: 64 } } }

export const pendingSchema: Schema = {
  type: 'object',
  properties: {
    commands: {
      type: 'array',
      items: { type: 'object', properties: { id: { type: 'string' }, name: { type: 'string' }, payload: {}, priority: { type: 'integer' }, createdAt: timeSchema, expiresAt: timeSchema, expiresAtMs: { type: 'integer' }, attempts: { type: 'integer' } } }
    }
  }
}

export const outcomeSchema: Schema = { type: 'object', properties: { outcome: { type: 'string', enum: ['applied', 'accepted'] } } }

const timeOf = (us: number | null): string | null => us === null ? null : isoTime(us)

function answerJson ({ at, outcome, status, payload, payloadOmittedBytes, late }: Answer): object {
  return { time: isoTime(at), outcome, status, ...payload === undefined ? {} : { payload }, ...payloadOmittedBytes === undefined ? {} : { payloadOmittedBytes }, late }
}

export function commandJson (deviceId: string, view: CommandView): object {
  const { command, state, finished, finishedAt, delivery } = view
  const { id, name, payload, envelope, priority, retries, reason, requestedBy, createdAt, expiresAt, attempts, end, answer, lateAnswers, lateAnswersBeyond } = command
  return {
    id,
    deviceId,
    name,
    ...payload === undefined ? {} : { payload },
    envelope,
    priority,
    delivery: command.delivery,
    retries,
    reason,
    requestedBy,
    createdAt: isoTime(createdAt),
    expiresAt: isoTime(expiresAt),
    state,
    finished,
    finishedAt: timeOf(finishedAt),
    known: {
      delivery,
      sentAt: timeOf(attempts[0]?.at ?? null),
      deliveredAt: timeOf(attempts.find(attempt => attempt.deliveredAt !== null)?.deliveredAt ?? null),
      attempts: attempts.map(({ at, via, deliveredAt }) => ({ sentAt: isoTime(at), via, deliveredAt: timeOf(deliveredAt) })),
      end: end === null ? null : { state: end.kind, time: isoTime(end.at), cause: end.cause }
    },
    said: { answer: answer === null ? null : answerJson(answer), lateAnswers: lateAnswers.map(answerJson), lateAnswersBeyond }
  }
}

/** A command as a device that polls is given it. */
export function pendingJson ({ command: { id, name, payload, priority, createdAt, expiresAt, attempts } }: CommandView): object {
  return { id, name, ...payload === undefined ? {} : { payload }, priority, createdAt: isoTime(createdAt), expiresAt: isoTime(expiresAt), expiresAtMs: Math.floor(expiresAt / usPerMs), attempts: attempts.length }
}
