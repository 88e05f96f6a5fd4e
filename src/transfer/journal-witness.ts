/**
 * Says how far a journal is packed, as an accept stamp: all that this node accepted up to it is in the store (DESIGN 3.8: an
 * erasure is complete when every journal has passed it). Kept in the store as a cursor, so that any node can tell; moved only while
 * somebody waits for it.
 */
import type { CursorStore } from '../store/small-stores.js'

export const passedConsumer = 'passed-stamp'

export interface JournalWitnessOptions {
  readonly journal: {
    readonly journalId: string
    readonly stampLast: number
    /** Appended and not durable yet. */
    readonly waitingBytes: number
  }
  readonly packer: {
    /** Stamp of the last mark that the packer has passed: what lies before it has no greater one. */
    readonly cursorStamp: number
    /** Durable records that are not packed. */
    readonly backlogBytes: number
  }
  readonly cursors: CursorStore
}

export class JournalWitness {
  readonly #options: JournalWitnessOptions
  #written = 0

  constructor (options: JournalWitnessOptions) {
    this.#options = options
  }

  /** Moves the cursor to what is packed now. */
  async look (): Promise<void> {
    const { journal, packer, cursors } = this.#options
    // Nothing waits, durable or not: whatever comes next is stamped above the last stamp.
    const isIdle = packer.backlogBytes === 0 && journal.waitingBytes === 0
    const stamp = isIdle ? Math.max(journal.stampLast, packer.cursorStamp) : packer.cursorStamp
    if (stamp <= this.#written) return
    await cursors.putCursor(journal.journalId, passedConsumer, stamp, false)
    this.#written = stamp
  }
}

/** Of the journals those that have passed the stamp. */
export async function journalsPassed (cursors: Pick<CursorStore, 'getCursor'>, journals: readonly string[], stamp: number): Promise<string[]> {
  const positions = await Promise.all(journals.map(async journal => await cursors.getCursor(journal, passedConsumer)))
  return journals.filter((_, i) => (positions[i] ?? 0) >= stamp)
}
