/**
 * What a device says of a command: `{"status": …, "payload": …}`. The status is the device's own word and is kept as it is; whether it
 * means success is read from it: a number 0 or from 200 to 299 (as text too), true, `ok`, `done` or a text that begins with `succe`
 * (success, succeeded, successful); everything else is a failure. Pure.
 */
import type { Json } from '../twin/twin-model.js'
import { commandPayloadBytesMax, isCommandName, type Answer } from './command.js'
import { isCommandId } from './command-id.js'

const statusCharsMax = 256
/** Nesting of a payload, of requests and answers; deeper is refused. */
export const payloadDepthMax = 20

export interface AnswerAddress { readonly name: string, readonly id: string }

/** @param path of the topic after `devices/{id}/`. null: it is no answer to a command. */
export function parseAnswerPath (path: string): AnswerAddress | null {
  const parts = path.split('/')
  return parts.length === 4 && parts[0] === 'commands' && parts[2] === 'response' ? { name: parts[1], id: parts[3] } : null
}

export function isAnswerAddress ({ name, id }: AnswerAddress): boolean {
  return isCommandName(name) && isCommandId(id)
}

export type ParsedAnswer =
  | { readonly kind: 'answer', readonly outcome: Answer['outcome'], readonly status: Answer['status'], readonly payload?: Json, readonly payloadBytes: number }
  | { readonly kind: 'refused', readonly code: 'invalid_request' | 'invalid_field' | 'payload_too_large', readonly detail: string }

export function parseAnswer (bytes: Uint8Array): ParsedAnswer {
  let body: Json
  try {
    body = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)) as Json
  } catch {
    return { kind: 'refused', code: 'invalid_request', detail: 'an answer to a command must be JSON in UTF-8' }
  }
  if (typeof body !== 'object' || body === null || Array.isArray(body)) return { kind: 'refused', code: 'invalid_request', detail: 'an answer to a command must be an object {"status": …, "payload": …}' }
  const { status, payload } = body as Readonly<Record<string, Json | undefined>>
  if (typeof status === 'object' || status === undefined) return { kind: 'refused', code: 'invalid_field', detail: `'status' of the answer must be a text, a number or a boolean` }
  if (typeof status === 'string' && status.length > statusCharsMax) return { kind: 'refused', code: 'invalid_field', detail: `'status' of the answer is longer than ${statusCharsMax} characters` }
  const outcome = meansSuccess(status) ? 'succeeded' : 'failed'
  if (payload === undefined) return { kind: 'answer', outcome, status, payloadBytes: 0 }
  if (isDeeper(payload, payloadDepthMax)) return { kind: 'refused', code: 'invalid_field', detail: `'payload' of the answer is nested deeper than ${payloadDepthMax}` }
  const payloadBytes = Buffer.byteLength(JSON.stringify(payload))
  if (payloadBytes > commandPayloadBytesMax) return { kind: 'refused', code: 'payload_too_large', detail: `'payload' of the answer has ${payloadBytes} bytes; ${commandPayloadBytesMax} are allowed` }
  return { kind: 'answer', outcome, status, payload, payloadBytes }
}

function meansSuccess (status: string | number | boolean): boolean {
  if (typeof status === 'boolean') return status
  const number = typeof status === 'number' ? status : /^[0-9]{1,9}$/.test(status) ? Number(status) : null
  if (number !== null) return number === 0 || (number >= 200 && number < 300)
  return /^(ok|done|succe.*)$/is.test(status as string)
}

/** Objects and arrays inside one another, more than `depth` of them. */
export function isDeeper (value: Json, depth: number): boolean {
  if (typeof value !== 'object' || value === null) return false
  if (depth === 0) return true
  return Object.values(value as Readonly<Record<string, Json>>).some(inner => isDeeper(inner, depth - 1))
}
