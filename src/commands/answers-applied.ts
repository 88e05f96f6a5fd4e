/**
 * Waits until what devices have said up to now is applied: before a command is called unanswered, the answers that were accepted in time
 * must have been looked at, those too that a killed process left in the journal (INVARIANTS 6).
 */
import type { Clock } from '../core/clock.js'
import type { Journal } from '../journal/journal-types.js'

const lookEveryMs = 5
/** What was appended by then and is not durable was not acknowledged, or never will be. */
const durableMsMax = 2000

/** @param passedTo everything of the journal before this position is applied */
export async function answersApplied (journal: Pick<Journal, 'appendedEnd' | 'durableEnd'>, passedTo: () => number, clock: Clock, closing: () => boolean): Promise<void> {
  const mark = journal.appendedEnd
  const untilMs = clock.monotonicMs() + durableMsMax
  while (passedTo() < (clock.monotonicMs() > untilMs ? Math.min(mark, journal.durableEnd) : mark) && !closing()) {
    // Keeps no process alive that has closed everything else.
    await new Promise(resolve => { setTimeout(resolve, lookEveryMs).unref() })
  }
}
