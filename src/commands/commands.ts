/** What the edges and others ask of commands. Implementation: command-service.ts. Every method may throw `store_unavailable`. */
import type { Actor, Json } from '../twin/twin-model.js'
import type { Command, CommandState } from './command.js'

export interface CommandRequest {
  readonly name: string
  /** Absent: an empty message. At most `commandPayloadBytesMax` bytes of JSON. */
  readonly payload?: Json
  readonly envelope: boolean
  readonly priority: number
  /** µs, in the future, at most 30 days ahead. */
  readonly expiresAt: number
  readonly delivery: 'queued' | 'ifConnected'
  readonly retries: number
  readonly reason: string
  /** null: none. `fingerprint` is of the body: the same key with another one is refused. */
  readonly idempotency: { readonly key: string, readonly fingerprint: string } | null
}

export type CreateOutcome =
  | { readonly kind: 'created' | 'repeated', readonly command: Command }
  | { readonly kind: 'mismatch' }
  | { readonly kind: 'limit_reached', readonly detail: string }

export type CancelOutcome =
  | { readonly kind: 'cancelled', readonly command: Command }
  /** It was handed over, or has ended: nothing is changed. */
  | { readonly kind: 'too_late', readonly command: Command }
  | { readonly kind: 'not_found' }

export interface CommandQuery {
  readonly state: CommandState | null
  readonly name: string | null
  /** Id of the last one of the page before; null: the newest. */
  readonly before: string | null
  readonly limit: number
}

export interface CommandPage {
  /** Newest first. */
  readonly commands: readonly Command[]
  /** null: there are no more. */
  readonly next: string | null
}

/** A command as it is shown; times in µs. */
export interface CommandView {
  readonly command: Command
  readonly state: CommandState
  readonly finished: boolean
  readonly finishedAt: number | null
  readonly delivery: 'none' | 'unknown' | 'confirmed'
}

export interface Commands {
  create (tenant: string, device: string, request: CommandRequest, actor: Actor): Promise<CreateOutcome>
  get (tenant: string, device: string, id: string): Promise<Command | null>
  list (tenant: string, device: string, query: CommandQuery): Promise<CommandPage>
  cancel (tenant: string, device: string, id: string): Promise<CancelOutcome>
  /** The command when it has come to its end, or as it is after `waitMs`; null where it is not there. Ends at once when too many wait. */
  wait (tenant: string, device: string, id: string, waitMs: number): Promise<Command | null>
  /** Everybody who waits gets the command as it is: the server stops. */
  stopWaiting (): void
  /** For a device that asks over HTTP: marks them as sent, durably, before it answers. */
  poll (tenant: string, device: string, limit: number): Promise<readonly Command[]>
  /** Ends what is pending and takes everything of the device away. Call it when the device is gone from the registry. */
  deviceDeleted (tenant: string, device: string): Promise<void>
  view (command: Command): CommandView
}
