/**
 * Notes in the journal of changes that are about to be committed (kind 8), where commit and event log are two writes. After a crash the
 * applier has them repeated. Its cursor stays behind the notes of the last minute: a change may take as long to be committed and told.
 */
import type { Clock } from '../core/clock.js'
import { TwinfoldError } from '../core/errors.js'
import type { Journal } from '../journal/journal-types.js'
import { encodeIdentity, RecordKind } from '../journal/record.js'
import type { EntityKey, EntityKind } from '../store/entity-store.js'
import type { IntentLog } from './device-message.js'
import type { InletRecord } from './message-record.js'

/** A change is given up long before. */
const heldMs = 60_000
/** Notes of one such time share an entry. */
const sharedMs = 1000

/** Positions of recent notes. */
export class IntentHold {
  readonly #clock: Clock
  /** At most `heldMs / sharedMs` and one. */
  #held: { readonly position: number, readonly untilMs: number }[] = []

  constructor (clock: Clock) { this.#clock = clock }

  noted (position: number): void {
    const nowMs = this.#clock.monotonicMs()
    this.#forget(nowMs)
    const last = this.#held.at(-1)
    if (last === undefined || last.untilMs - heldMs <= nowMs) this.#held.push({ position, untilMs: nowMs + heldMs + sharedMs })
  }

  /** The cursor may not pass this. */
  get position (): number {
    this.#forget(this.#clock.monotonicMs())
    return this.#held.length === 0 ? Infinity : this.#held[0].position
  }

  #forget (nowMs: number): void {
    while (this.#held.length > 0 && this.#held[0].untilMs <= nowMs) this.#held.shift()
  }
}

export function intentKeyOf (record: InletRecord): EntityKey | null {
  try {
    const { kind, name } = JSON.parse(record.body.toString()) as { kind: EntityKind, name: string }
    return { tenant: record.identity.tenant, device: record.identity.device, kind, name }
  } catch {
    return null
  }
}

/** `IntentLog` on the journal. */
export class JournalIntents implements IntentLog {
  readonly #journal: Journal

  constructor (journal: Journal) { this.#journal = journal }

  async note ({ tenant, device, kind, name }: EntityKey): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#journal.append({
        kind: RecordKind.intent, flags: 0, identity: encodeIdentity({ tenant, device, idempotencyKey: '', fingerprint: '' }), body: Buffer.from(JSON.stringify({ kind, name })), messages: 1
      }, {
        committed: () => { resolve() },
        failed: (_token, error) => { reject(error instanceof TwinfoldError ? error : new TwinfoldError('journal_unavailable', 'the journal could not be written; nothing was changed', { cause: error })) }
      }, 0)
    })
  }
}
