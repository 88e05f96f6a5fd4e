/** Port: messages that were acknowledged or refused but could not be stored as readings, with the reason (promise 9). */
import type { Page } from './registry.js'

/** Stable reasons; a new one is an addition to docs/DEAD-LETTERS.md. */
export const deadLetterReasons = [
  'json_invalid', 'cbor_invalid', 'senml_invalid', 'not_a_reading', 'empty', 'too_deep', 'too_many_metrics',
  'metric_name_invalid', 'value_invalid', 'string_too_long', 'ts_invalid', 'ts_future', 'ts_expired',
  'device_unknown', 'device_forbidden', 'packet_invalid', 'topic_invalid', 'worker_failed', 'twin_refused', 'command_refused', 'event_refused'
] as const
export type DeadLetterReason = typeof deadLetterReasons[number]

export interface DeadLetter {
  readonly tenant: string
  /** `{stamp}-{index}-{journal}`, unique in the tenant, ascending with time. */
  readonly id: string
  /** Arrival stamp, µs. */
  readonly stamp: number
  readonly reason: DeadLetterReason
  /** What is wrong, for people: names the field or rule. */
  readonly detail: string
  /** The device it was sent for, '' where none could be told. */
  readonly device: string
  /** 'mqtt' or 'http'. */
  readonly source: string
  /** The payload names its device itself (a batch of an application); a replay must read it the same way. */
  readonly multiDevice?: true
  /** Body format as the journal names it (journal/record.ts). */
  readonly format: number
  /** The payload as sent, cut at `deadLetterPayloadBytesMax`. */
  readonly payload: Uint8Array
  /** Bytes of the whole payload; more than `payload.length` where it was cut (such a letter cannot be replayed). */
  readonly payloadBytes: number
}

export interface DeadLetterStore {
  /** Idempotent by (tenant, id). Not bounded by itself: `trim` is called by the keeper. */
  putDeadLetters(letters: readonly DeadLetter[]): Promise<void>
  /** Newest first. */
  listDeadLetters(tenant: string, filter: { reason?: DeadLetterReason, device?: string }, cursor: string | null, limit: number): Promise<Page<DeadLetter>>
  getDeadLetter(tenant: string, id: string): Promise<DeadLetter | null>
  deleteDeadLetters(tenant: string, ids: readonly string[]): Promise<number>
  /** Removes the oldest until at most that many letters and payload bytes are left. Returns the number removed. */
  trimDeadLetters(tenant: string, countMax: number, bytesMax: number): Promise<number>
  /** Tenants that have letters. */
  deadLetterTenants(): Promise<readonly string[]>
}
