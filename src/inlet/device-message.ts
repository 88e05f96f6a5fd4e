/**
 * What a device says beside telemetry: reported state, answers to commands, events. It goes into the journal first, is acknowledged from
 * there (INVARIANTS 1), and is applied in the order of the journal by the applier, again after a crash.
 */

import type { EntityKey } from '../store/entity-store.js'

export interface DeviceMessage {
  readonly journalId: string
  /** Position of the message in the journal: byte position of its record plus its index in it; unique, ascending. */
  readonly position: number
  /** Accept stamp, µs. */
  readonly stamp: number
  readonly tenant: string
  readonly device: string
  /** Of the topic, after `devices/{id}/`: `twin/reported`, `twin/NAME/reported`, `commands/NAME/response/ID`, `events/TYPE`. */
  readonly path: string
  readonly payload: Uint8Array
  /** It may have been applied before the process started: what was committed may not have been told to the event log. */
  readonly replayed: boolean
}

/** What became of a message; a refused one goes to the tenant's dead letters. */
export type MessageOutcome =
  | { readonly kind: 'applied', readonly version?: number }
  /** Nothing to do: a repeat, or a state that was there already. */
  | { readonly kind: 'unchanged', readonly version?: number }
  | { readonly kind: 'refused', readonly code: string, readonly detail: string }

/** One of those that messages are for. Called with messages in order; resolves to an outcome for each. */
export interface MessageHandler {
  /** The path is this handler's business. */
  takes (path: string): boolean
  /**
   * Applies what can be applied and answers for each. What was applied before (a repeat after a crash) is told by position or id and
   * changes nothing. @throws TwinfoldError `store_unavailable`: the messages are given again
   */
  apply (messages: readonly DeviceMessage[]): Promise<readonly MessageOutcome[]>
}

/** What a device may say over HTTP: the same way as over MQTT. */
export interface DeviceInlet {
  /**
   * Resolves when it is applied; to null when it is durable and was not applied within `waitMs` (a store is away).
   * @throws TwinfoldError `journal_full`, `journal_unavailable`
   */
  submit (message: { readonly tenant: string, readonly device: string, readonly path: string, readonly payload: Uint8Array }, waitMs: number): Promise<MessageOutcome | null>
}

/**
 * Where commit and event log are not one write (cluster), a change that comes over HTTP is noted in the journal before it is committed,
 * so that a node that dies between the two tells its events after its restart. null where they are one write.
 */
export interface IntentLog {
  /** Durable when it resolves. @throws TwinfoldError `journal_full`, `journal_unavailable` */
  note (key: EntityKey): Promise<void>
}

/** Told after a restart of changes that may not have been told to the event log: tells the last commit again where this node made it. */
export interface IntentHandler {
  repeat (key: EntityKey): Promise<void>
}
