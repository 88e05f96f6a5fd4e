/**
 * Notices that ClickHouse has lost what it had. How far a journal was brought over is written there and, afterwards, in the store; a mark
 * in ClickHouse that is missing or behind the store's was lost, and with it the points around it.
 */
import type { Clock } from '../core/clock.js'
import type { AnalyticsStore } from '../store/analytics-store.js'
import type { CursorStore } from '../store/small-stores.js'

export interface ProjectionMarkOptions {
  readonly journalId: string
  readonly cursors: CursorStore
  readonly cursorName: string
  readonly marks: Pick<AnalyticsStore, 'getMark' | 'putMark'>
  readonly clock: Clock
}

/** Between two looks, and between two marks. */
const lookEveryMs = 10_000

export class ProjectionMark {
  readonly #options: ProjectionMarkOptions
  /** null: not read yet. */
  #marked: number | null = null
  #lookedMs = -Infinity
  #advancedMs = -Infinity

  constructor (options: ProjectionMarkOptions) {
    this.#options = options
  }

  /** @throws TwinfoldError `analytics_unavailable`, or as the store does */
  async isLost (): Promise<boolean> {
    const { clock, marks, journalId } = this.#options
    if (clock.monotonicMs() - this.#lookedMs < lookEveryMs) return false
    this.#marked ??= await this.#read()
    if (this.#marked > 0 && (await marks.getMark(journalId) ?? 0) < this.#marked) return true
    this.#lookedMs = clock.monotonicMs()
    return false
  }

  /** Everything up to the position is in analytics. Positions start at 1, so that a mark is never 0. */
  async advance (position: number): Promise<void> {
    const { clock } = this.#options
    this.#marked ??= await this.#read()
    if (position + 1 <= this.#marked || clock.monotonicMs() - this.#advancedMs < lookEveryMs) return
    this.#advancedMs = clock.monotonicMs()
    await this.restart(position)
  }

  /** As `advance`, at once and even if nothing is new: after a rebuild. */
  async restart (position: number): Promise<void> {
    const { marks, cursors, cursorName, journalId } = this.#options
    await marks.putMark(journalId, position + 1)
    await cursors.putCursor(journalId, cursorName, position + 1, false)
    this.#marked = position + 1
  }

  async #read (): Promise<number> {
    const { cursors, cursorName, journalId } = this.#options
    return await cursors.getCursor(journalId, cursorName) ?? 0
  }
}
