/** What subscribers are told of a command: `command.changed`, one for every state it comes to. Pure: the same commit gives the same event. */
import { isoTime } from '../core/iso-time.js'
import type { OutEvent } from '../store/event-log.js'
import { deliveryOf, type Answer, type Command } from './command.js'
import type { Told } from './reduce-command.js'

function answerData ({ at, outcome, status, payload, late }: Answer): object {
  return { time: isoTime(at), outcome, status, late, ...payload === undefined ? {} : { payload } }
}

/**
 * @param entry the number of the change in the device's book: events of a device's commands are told in its order
 * The command is shown as it is after the commit that the change was part of; `state` is what this change brought it to.
 */
export function commandEvent (tenant: string, device: string, command: Command, entry: { readonly number: number, readonly told: Told, readonly at: number }): OutEvent {
  const { id, name, attempts, answer, lateAnswers, requestedBy, reason, end } = command
  const saysAnswer = entry.told === 'succeeded' || entry.told === 'failed' || entry.told === 'answeredLate'
  const said = entry.told === 'answeredLate' ? lateAnswers.at(-1) ?? answer : answer
  const data = {
    deviceId: device,
    commandId: id,
    name,
    state: entry.told,
    time: isoTime(entry.at),
    attempts: attempts.length,
    delivery: deliveryOf(command),
    requestedBy,
    reason,
    ...end !== null && entry.told === end.kind ? { cause: end.cause } : {},
    ...saysAnswer && said !== null ? { answer: answerData(said) } : {}
  }
  return { id: `command-${id}-${entry.number}`, tenant, device, type: 'command.changed', stamp: entry.at, data: JSON.stringify(data), sequence: { of: 'commands', number: entry.number } }
}
