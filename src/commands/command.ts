/**
 * A command and everything that is known of it (INVARIANTS 6). What the server knows (attempts, its own end) and what the device said
 * (answers) are kept apart, each with its time; nothing that was once written down is overwritten by what comes later.
 * Times are µs. Changes are made by reduce-command.ts alone.
 */
import type { Actor, Json } from '../twin/twin-model.js'

/** Request payload, UTF-8 bytes of its JSON; of an answer as well. A larger answer is refused (dead letter). */
export const commandPayloadBytesMax = 64 * 1024
/** Answers after the first keep their payload up to this; a larger one is left out and its size is told. */
export const lateAnswerPayloadBytesMax = 4 * 1024
/** Answers after the first that are kept; more are counted. */
export const lateAnswersMax = 5
export const commandPriorityMax = 9
export const commandPriorityDefault = 5
export const commandRetriesMax = 10
export const commandNameCharsMax = 64
export const commandReasonCharsMax = 256
export const commandTimeoutMsDefault = 3_600_000
export const commandTimeoutMsMax = 30 * 24 * 3_600_000

/** How a command may be named: one level of a topic. */
const namePattern = new RegExp(`^[A-Za-z0-9._:@-]{1,${commandNameCharsMax}}$`)

export function isCommandName (value: unknown): value is string {
  return typeof value === 'string' && namePattern.test(value)
}

/** Handed to a socket, or about to be: written down before the first byte leaves. */
export interface Attempt {
  /** µs */
  readonly at: number
  readonly via: 'mqtt' | 'http'
  /** The connection, or `http-…` for one answer to a device that polls. */
  readonly connection: string
  /** PUBACK; null: none came. */
  readonly deliveredAt: number | null
}

/** What the device said. */
export interface Answer {
  /** Accept stamp: when it was on stable storage, µs. */
  readonly at: number
  readonly outcome: 'succeeded' | 'failed'
  /** The device's own word for it. */
  readonly status: string | number | boolean | null
  /** Absent: it gave none, or it was left out (`payloadOmittedBytes`). */
  readonly payload?: Json
  readonly payloadOmittedBytes?: number
  /** Accepted after the command's deadline. */
  readonly late: boolean
}

export type EndKind = 'expired' | 'unanswered' | 'cancelled' | 'undeliverable'
export type EndCause = 'deadline' | 'device_deleted' | 'not_connected' | 'cancelled'

/** How it ended where the device did not end it. */
export interface CommandEnd {
  readonly kind: EndKind
  readonly at: number
  readonly cause: EndCause
}

export interface Command {
  readonly id: string
  readonly name: string
  /** Absent: an empty message is sent. */
  readonly payload?: Json
  /** Sent as `{"payload":…,"expiresAt":ms}` instead of the bare payload. */
  readonly envelope: boolean
  readonly priority: number
  readonly createdAt: number
  /** Nothing is handed over at or after it; an answer accepted after it is late. */
  readonly expiresAt: number
  readonly delivery: 'queued' | 'ifConnected'
  /** Further attempts on later connections where delivery was not confirmed. */
  readonly retries: number
  readonly requestedBy: Actor
  readonly reason: string
  /** Fingerprint of the caller's Idempotency-Key; '' where none. */
  readonly key: string
  /** Ascending; at most `retries + 1`. */
  readonly attempts: readonly Attempt[]
  /** Attempts that were written down and are known to have put nothing on a socket. */
  readonly withheld: number
  readonly end: CommandEnd | null
  /** The first answer. */
  readonly answer: Answer | null
  readonly lateAnswers: readonly Answer[]
  readonly lateAnswersBeyond: number
}

export type CommandState = 'queued' | 'sent' | 'delivered' | 'succeeded' | 'failed' | EndKind

/** What is shown: the device's answer where it came by the deadline, else our end, else how far it got. */
export function stateOf (command: Command): CommandState {
  const { answer, end, attempts } = command
  if (answer !== null && !answer.late) return answer.outcome
  if (end !== null) return end.kind
  if (attempts.length === 0) return 'queued'
  return attempts.some(attempt => attempt.deliveredAt !== null) ? 'delivered' : 'sent'
}

/** Nothing more is waited for. */
export function isFinished (command: Command): boolean {
  return command.end !== null || command.answer !== null
}

/** Whether the device got it, as far as is known; an answer is proof too. */
export function deliveryOf (command: Command): 'none' | 'unknown' | 'confirmed' {
  if (command.answer !== null || command.attempts.some(attempt => attempt.deliveredAt !== null)) return 'confirmed'
  return command.attempts.length === 0 ? 'none' : 'unknown'
}

/** When it came to its end, µs; null: it did not. */
export function finishedAt ({ answer, end }: Command): number | null {
  return answer !== null && !answer.late ? answer.at : end?.at ?? null
}
