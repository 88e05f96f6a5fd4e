/**
 * Keeps the hot state going while the store is away: slices that wait to be packed are decoded once, in order, for the hot state
 * alone, so that the latest values that are answered during an outage include what arrives during it (DESIGN 3.6). It writes
 * nothing else, and packing a slice later writes its newest values again, which changes nothing.
 *
 * Bounded: one slice at a time, and no list of its own; where it is more than `behindMax` slices behind it passes the older over.
 */
import type { Log } from '../core/log.js'
import type { Journal } from '../journal/journal-types.js'
import type { SliceMark } from '../journal/record.js'
import type { HotResult, HotTask } from '../../workers/protocol.js'

export interface HotFollowerOptions {
  readonly journal: Pick<Journal, 'journalId' | 'segmentsFor'>
  readonly packer: { readonly stuck: boolean, readonly cursor: number, unpackedAfter(position: number): readonly SliceMark[] }
  readonly pool: { packHot(task: HotTask): Promise<HotResult> }
  readonly log: Log
  /** Default 200. */
  readonly intervalMs?: number
  /** Default 64. */
  readonly behindMax?: number
}

export class HotFollower {
  readonly #options: HotFollowerOptions
  #followed = 0
  #timer: NodeJS.Timeout | null = null
  #busy: Promise<void> | null = null
  #closing = false
  readonly stats = { slices: 0, failed: 0, passedOver: 0 }

  constructor (options: HotFollowerOptions) {
    this.#options = options
  }

  open (): void {
    this.#timer = setInterval(() => { this.#busy ??= this.follow().finally(() => { this.#busy = null }) }, this.#options.intervalMs ?? 200)
  }

  /** Waits for the running slice. */
  async close (): Promise<void> {
    this.#closing = true
    if (this.#timer !== null) clearInterval(this.#timer)
    await this.#busy
  }

  /** Follows up to the last closed slice, or until the store is back or the hot state fails. Never rejects. */
  async follow (): Promise<void> {
    const { packer, behindMax = 64 } = this.#options
    if (!packer.stuck) return
    const marks = packer.unpackedAfter(Math.max(this.#followed, packer.cursor))
    this.stats.passedOver += Math.max(0, marks.length - behindMax)
    for (const mark of marks.slice(-behindMax)) {
      if (!packer.stuck || this.#closing || !await this.#one(mark)) return
      this.#followed = mark.to
    }
  }

  async #one (mark: SliceMark): Promise<boolean> {
    const { journal, pool, log } = this.#options
    try {
      const segments = journal.segmentsFor(mark.from, mark.to)
      const { put } = await pool.packHot({ kind: 'hot', journalId: journal.journalId, mark, segments })
      if (put) this.stats.slices++
      else this.stats.failed++
      return put
    } catch (error) {
      this.stats.failed++
      log.debug({ error: (error as Error).message, slice: mark.to }, 'a slice did not reach the hot state')
      return false
    }
  }
}
