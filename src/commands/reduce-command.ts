/**
 * Every way a command may change; what is not legal is refused with a reason and changes nothing. Pure. The rules are INVARIANTS 6:
 * `expired` only if it was never handed to a socket, nothing handed over at or after the deadline, an answer never overwritten, and
 * whoever learns the truth later (an answer accepted in time by another node, an attempt that wrote nothing) corrects our own end,
 * never what the device said.
 */
import { isFinished, lateAnswerPayloadBytesMax, lateAnswersMax, type Answer, type Attempt, type Command, type EndCause, type EndKind } from './command.js'
import type { Json } from '../twin/twin-model.js'

export type CommandChange =
  /** About to be handed to a socket. */
  | { readonly kind: 'sent', readonly at: number, readonly connection: string, readonly via: 'mqtt' | 'http' }
  /** The client's PUBACK. */
  | { readonly kind: 'delivered', readonly at: number, readonly connection: string }
  /** `sent` was written down, and nothing was put on the socket. */
  | { readonly kind: 'withheld', readonly at: number, readonly connection: string }
  | { readonly kind: 'answered', readonly at: number, readonly outcome: 'succeeded' | 'failed', readonly status: Answer['status'], readonly payload?: Json, readonly payloadBytes: number }
  | { readonly kind: 'deadline', readonly at: number }
  | { readonly kind: 'cancelled', readonly at: number }
  /** Wanted only while connected, and it is not. */
  | { readonly kind: 'notConnected', readonly at: number }
  | { readonly kind: 'deviceDeleted', readonly at: number }

/** What subscribers are told: the new state, or that a further answer came. */
export type Told = 'queued' | 'sent' | 'delivered' | 'succeeded' | 'failed' | EndKind | 'answeredLate'

export type Reduced =
  | { readonly kind: 'changed', readonly command: Command, readonly told: readonly Told[] }
  | { readonly kind: 'refused', readonly why: string }

const refused = (why: string): Reduced => ({ kind: 'refused', why })

export function reduceCommand (command: Command, change: CommandChange): Reduced {
  switch (change.kind) {
    case 'sent': return sent(command, change)
    case 'delivered': return delivered(command, change)
    case 'withheld': return withheld(command, change)
    case 'answered': return answered(command, change)
    case 'deadline': return deadline(command, change.at)
    case 'cancelled': return cancelled(command, change.at)
    case 'notConnected': return notConnected(command, change.at)
    case 'deviceDeleted': return deviceDeleted(command, change.at)
  }
}

/** Clocks of nodes differ a little: a time is never before the one it follows. */
function lastAt ({ createdAt, attempts }: Command): number {
  return attempts.reduce((last, { at, deliveredAt }) => Math.max(last, at, deliveredAt ?? 0), createdAt)
}

function ended (command: Command, kind: EndKind, at: number, cause: EndCause): Reduced {
  return { kind: 'changed', command: { ...command, end: { kind, at: Math.max(at, lastAt(command)), cause } }, told: [kind] }
}

function sent (command: Command, { at: given, connection, via }: CommandChange & { kind: 'sent' }): Reduced {
  const at = Math.max(given, lastAt(command))
  if (isFinished(command)) return refused('it has ended')
  if (at >= command.expiresAt) return refused('its deadline has passed')
  if (command.attempts.some(attempt => attempt.deliveredAt !== null)) return refused('it was delivered')
  if (command.attempts.length > command.retries) return refused('no attempts are left')
  if (command.attempts.some(attempt => attempt.connection === connection)) return refused('it was sent on this connection')
  const attempts: Attempt[] = [...command.attempts, { at, via, connection, deliveredAt: null }]
  return { kind: 'changed', command: { ...command, attempts }, told: ['sent'] }
}

/** After the end as well: it is known then that the device got it. The state that is shown does not change by it. */
function delivered (command: Command, { at, connection }: CommandChange & { kind: 'delivered' }): Reduced {
  const index = command.attempts.findIndex(attempt => attempt.connection === connection)
  if (index === -1) return refused('it was not sent on this connection')
  if (command.attempts[index].deliveredAt !== null) return refused('it was acknowledged before')
  const attempts = command.attempts.with(index, { ...command.attempts[index], deliveredAt: Math.max(at, command.attempts[index].at) })
  const first = !command.attempts.some(attempt => attempt.deliveredAt !== null)
  return { kind: 'changed', command: { ...command, attempts }, told: first && !isFinished(command) ? ['delivered'] : [] }
}

/** Back to what it was before; where the deadline has called it unanswered meanwhile, it is expired: nothing was ever handed over. */
function withheld (command: Command, { at, connection }: CommandChange & { kind: 'withheld' }): Reduced {
  const attempt = command.attempts.find(candidate => candidate.connection === connection)
  if (attempt === undefined) return refused('it was not sent on this connection')
  if (attempt.deliveredAt !== null || command.answer !== null) return refused('the device got it')
  const attempts = command.attempts.filter(candidate => candidate !== attempt)
  const next: Command = { ...command, attempts, withheld: command.withheld + 1 }
  if (command.end === null) return { kind: 'changed', command: next, told: attempts.length === 0 ? ['queued'] : [] }
  if (attempts.length > 0) return { kind: 'changed', command: next, told: [] }
  if (command.end.cause === 'device_deleted') return ended(next, 'undeliverable', Math.max(at, command.end.at), 'device_deleted')
  return ended(next, 'expired', Math.max(at, command.end.at), 'deadline')
}

function answered (command: Command, change: CommandChange & { kind: 'answered' }): Reduced {
  if (command.attempts.length === 0) return refused('it was never sent')
  const late = change.at > command.expiresAt
  const at = Math.max(change.at, command.attempts[0].at)
  const answer: Answer = { at, outcome: change.outcome, status: change.status, late, ...payloadOf(change, command.answer === null ? Infinity : lateAnswerPayloadBytesMax) }
  if (command.answer !== null) {
    if (command.lateAnswers.length >= lateAnswersMax) return { kind: 'changed', command: { ...command, lateAnswersBeyond: command.lateAnswersBeyond + 1 }, told: [] }
    return { kind: 'changed', command: { ...command, lateAnswers: [...command.lateAnswers, answer] }, told: ['answeredLate'] }
  }
  // Accepted in time: that is the truth, whatever the deadline made of it before the answer was seen.
  if (!late) return { kind: 'changed', command: { ...command, answer, end: null }, told: [answer.outcome] }
  if (command.end !== null) return { kind: 'changed', command: { ...command, answer }, told: ['answeredLate'] }
  const end = { kind: 'unanswered', at: Math.max(command.expiresAt, lastAt(command)), cause: 'deadline' } as const
  return { kind: 'changed', command: { ...command, answer, end }, told: ['unanswered', 'answeredLate'] }
}

function payloadOf ({ payload, payloadBytes }: CommandChange & { kind: 'answered' }, bytesMax: number): Pick<Answer, 'payload' | 'payloadOmittedBytes'> {
  if (payload === undefined) return {}
  return payloadBytes <= bytesMax ? { payload } : { payloadOmittedBytes: payloadBytes }
}

function deadline (command: Command, at: number): Reduced {
  if (isFinished(command)) return refused('it has ended')
  if (at < command.expiresAt) return refused('its deadline has not come')
  return ended(command, command.attempts.length === 0 ? 'expired' : 'unanswered', at, 'deadline')
}

function cancelled (command: Command, at: number): Reduced {
  if (isFinished(command)) return refused('it has ended')
  if (command.attempts.length > 0) return refused('it was handed over')
  if (at >= command.expiresAt) return refused('its deadline has passed')
  return ended(command, 'cancelled', at, 'cancelled')
}

function notConnected (command: Command, at: number): Reduced {
  if (isFinished(command)) return refused('it has ended')
  if (command.delivery !== 'ifConnected') return refused('it waits for the device')
  if (command.attempts.length > 0) return refused('it was handed over')
  return ended(command, 'undeliverable', at, 'not_connected')
}

function deviceDeleted (command: Command, at: number): Reduced {
  if (isFinished(command)) return refused('it has ended')
  return ended(command, command.attempts.length === 0 ? 'undeliverable' : 'unanswered', at, 'device_deleted')
}
