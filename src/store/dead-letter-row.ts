/** The row of a refused message: what the gate and the packers hand to the dead-letter store (INVARIANTS 9). */
import { deadLetterPayloadBytesMax } from '../core/limits.js'
import type { DeadLetter, DeadLetterReason } from './dead-letter-store.js'

/** What is known of a refused message. */
export interface Refused {
  readonly tenant: string
  /** Arrival stamp, µs. */
  readonly stamp: number
  /** Tells apart refusals of one stamp in the journal. */
  readonly index: number | string
  /** Nodes give out stamps of their own, so a stamp alone says nothing about which of them refused. */
  readonly journalId: string
  readonly reason: DeadLetterReason
  readonly detail: string
  /** '' where none could be told. */
  readonly device: string
  readonly source: 'mqtt' | 'http'
  /** Body format as the journal names it. */
  readonly format: number
  /** The payload names its device itself. */
  readonly multiDevice?: boolean
  /** May be part of a buffer that is used again: what is kept is copied. */
  readonly payload: Uint8Array
}

/** Digits of a stamp in a dead letter's id: enough for every stamp, so that ids sort by time. */
const stampDigits = 16
/** Of the journal's id, enough to tell nodes apart that refuse something in the same microsecond. */
const journalDigits = 8

/** The row of a refused message, its payload cut at `deadLetterPayloadBytesMax`. */
export function refusedToDeadLetter (refused: Refused): DeadLetter {
  const { tenant, stamp, index, journalId, reason, detail, device, source, format, payload, multiDevice } = refused
  return {
    tenant,
    id: `${String(stamp).padStart(stampDigits, '0')}-${index}-${journalId.slice(0, journalDigits)}`,
    stamp,
    reason,
    detail,
    device,
    source,
    format,
    ...(multiDevice === true ? { multiDevice } as const : {}),
    payload: Uint8Array.prototype.slice.call(payload, 0, deadLetterPayloadBytesMax),
    payloadBytes: payload.length
  }
}
