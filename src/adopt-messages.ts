/**
 * What devices had said beside telemetry (reported state, answers to commands, events) and the server had acknowledged, out of an
 * adopted journal to its handlers; and the changes that the dead node had noted and may not have told (INVARIANTS 1). Safe to repeat:
 * what was applied is known by its place in the journal.
 */
import type { Clock } from './core/clock.js'
import type { Log } from './core/log.js'
import { appliedStart } from './inlet/applied-start.js'
import { Applier } from './inlet/applier.js'
import type { IntentHandler, MessageHandler } from './inlet/device-message.js'
import type { JournalFiles } from './journal/journal.js'
import { readBootId } from './pipeline/start-cursor.js'
import type { Store } from './store/store.js'

/** Those that apply; made for the adoption, without edges. */
export interface AppliedBy {
  readonly handlers: readonly MessageHandler[]
  readonly intents: IntentHandler | null
  close(): Promise<void>
}

export interface ApplyAdoptedOptions {
  readonly store: Store
  readonly journal: JournalFiles
  readonly appliedBy: AppliedBy
  readonly clock: Clock
  readonly log: Log
}

/** Resolves to the number of messages when all of them are applied or in the dead letters. A store that does not answer is waited for. */
export async function applyAdopted ({ store, journal, appliedBy, clock, log }: ApplyAdoptedOptions): Promise<number> {
  const { handlers, intents } = appliedBy
  const applier = new Applier({
    journal,
    cursors: store,
    from: await appliedStart(store, journal.journalId, readBootId()),
    handlers,
    intents,
    deadLetters: { add: async letters => { await store.putDeadLetters(letters) } },
    clock,
    log
  })
  applier.open()
  while (!await applier.drain(10_000)) log.info({ waiting: applier.waiting }, 'messages of devices are being applied')
  await store.raw.flush()
  await applier.flushed(applier.appliedTo)
  await applier.close()
  const { applied, unchanged, refused } = applier.stats
  return applied + unchanged + refused
}
