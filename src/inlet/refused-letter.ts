/**
 * The dead letter of a message that was acknowledged and could not be applied. Its id comes from the message's stamp and place in the
 * journal, so a repeat after a crash writes the same letter, and a replay that is refused again another one. The payload is the message as a record of kind 7 holds it (topic and body), so that a replay
 * can put it back where it came from.
 */
import { RecordKind } from '../journal/record.js'
import { refusedToDeadLetter } from '../store/dead-letter-row.js'
import type { DeadLetter, DeadLetterReason } from '../store/dead-letter-store.js'
import type { Refused } from './apply-batch.js'
import { encodeMessage } from './message-record.js'

function reasonOf ({ code, message: { path } }: Refused): DeadLetterReason {
  if (code === 'internal') return 'worker_failed'
  if (path.startsWith('twin/')) return 'twin_refused'
  return path.startsWith('commands/') ? 'command_refused' : 'event_refused'
}

export function refusedLetter (refused: Refused): DeadLetter {
  const { message, code, detail } = refused
  const { tenant, device, path, stamp, journalId, position, payload } = message
  const topic = `devices/${device}/${path}`
  return refusedToDeadLetter({
    // `d`: refused by the applier; letters of packers have plain numbers here, those of the gate a `g`.
    tenant, stamp, index: `d${position}`, journalId, reason: reasonOf(refused), detail: `${code}: ${detail} (topic '${topic}')`, device, source: 'mqtt', format: RecordKind.deviceMessages, payload: encodeMessage(topic, payload)
  })
}
