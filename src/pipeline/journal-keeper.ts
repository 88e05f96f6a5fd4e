/**
 * Releases journal segments that are no longer needed: packed and applied, flushed to the store's stable storage, and `keepMs` past
 * that (DESIGN 3.1). Where the journal fills up, the waiting time is given up before acceptance is.
 */
import type { Clock } from '../core/clock.js'
import type { Log } from '../core/log.js'
import type { Journal } from '../journal/journal-types.js'
import type { CursorStore } from '../store/small-stores.js'

/** Name of the cursor that survives power loss. */
export const packedDurablyCursor = 'packed-durably'

export interface JournalKeeperOptions {
  readonly journal: Journal
  readonly cursors: CursorStore
  readonly packer: { readonly cursor: number }
  /** Applies what devices say beside telemetry; absent: nobody does. */
  readonly applier?: { readonly appliedTo: number, flushed(position: number): Promise<void> }
  readonly flush: () => Promise<void>
  readonly clock: Clock
  readonly log: Log
  readonly flushIntervalMs: number
  readonly keepMs: number
  /** Packed bytes that cause a flush before its time. */
  readonly flushBytes: number
}

export class JournalKeeper {
  readonly #options: JournalKeeperOptions
  #timer: NodeJS.Timeout | null = null
  #busy: Promise<void> | null = null
  #flushed = -1
  #flushedApplied = -1
  #flushedMs = 0
  readonly #waiting: { position: number, atMs: number }[] = []
  readonly stats = { flushes: 0, flushFailures: 0 }

  constructor (options: JournalKeeperOptions) {
    this.#options = options
    this.#flushedMs = options.clock.monotonicMs()
  }

  open (): void {
    this.#timer = setInterval(() => { this.#busy ??= this.#step().finally(() => { this.#busy = null }) }, 500)
  }

  async close (): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer)
    await this.#busy
  }

  async #step (): Promise<void> {
    const { packer, clock, flushIntervalMs, flushBytes, keepMs, journal, log } = this.#options
    const now = clock.monotonicMs()
    const unflushed = packer.cursor - Math.max(0, this.#flushed)
    const moved = packer.cursor !== this.#flushed || (this.#options.applier !== undefined && this.#options.applier.appliedTo !== this.#flushedApplied)
    try {
      if (moved && (now - this.#flushedMs >= flushIntervalMs || unflushed >= flushBytes || journal.state !== 'ok')) await this.flushNow()
      const keptMs = journal.state === 'ok' ? keepMs : 0
      let release = -1
      while (this.#waiting.length > 0 && now - this.#waiting[0].atMs >= keptMs) release = (this.#waiting.shift() as { position: number }).position
      if (release >= 0) await journal.releaseBefore(release)
    } catch (error) {
      this.stats.flushFailures++
      this.#flushedMs = now
      log.warn({ error: (error as Error).message }, 'the store could not be flushed; the journal keeps its segments')
    }
  }

  /** Everything packed and applied so far is on stable storage in the store when it returns, and the durable cursors say so. */
  async flushNow (): Promise<void> {
    const { packer, applier, cursors, journal, flush, clock } = this.#options
    const position = packer.cursor
    const applied = applier?.appliedTo ?? Infinity
    await flush()
    if (applier !== undefined) await applier.flushed(applied)
    this.#flushedApplied = applied
    await cursors.putCursor(journal.journalId, packedDurablyCursor, position, true)
    this.stats.flushes++
    this.#flushed = position
    this.#flushedMs = clock.monotonicMs()
    this.#waiting.push({ position: Math.min(position, applied), atMs: this.#flushedMs })
  }
}
