/** Trims the event log: what is older than it keeps goes, hourly, by one node at a time. */
import type { Clock } from '../core/clock.js'
import type { Log } from '../core/log.js'
import type { ClaimStore } from '../store/claim-store.js'
import type { EventLog } from '../store/event-log.js'

export interface EventUpkeepOptions {
  readonly store: ClaimStore & EventLog
  readonly owner: string
  readonly clock: Clock
  readonly log: Log
  readonly everyMs?: number
  /** The first time after the start: sinks give up first what is about to go. */
  readonly firstMs?: number
}

const claim = 'events/trim'

export class EventUpkeep {
  readonly #options: Required<EventUpkeepOptions>
  #timer: NodeJS.Timeout | null = null
  #running: Promise<void> | null = null
  readonly stats = { trims: 0, failures: 0 }

  constructor (options: EventUpkeepOptions) { this.#options = { everyMs: 3_600_000, firstMs: 300_000, ...options } }

  open (): void {
    const { firstMs, everyMs } = this.#options
    this.#timer = setTimeout(() => {
      this.#timer = setInterval(() => { void this.trim() }, everyMs).unref()
      void this.trim()
    }, firstMs).unref()
  }

  /** Never rejects: a failure is logged, and it is tried again an hour later. */
  async trim (): Promise<void> {
    this.#running ??= this.#trim().catch((error: Error) => {
      this.stats.failures++
      this.#options.log.warn({ error: error.message }, 'the event log could not be trimmed')
    }).finally(() => { this.#running = null })
    await this.#running
  }

  async close (): Promise<void> {
    if (this.#timer !== null) clearTimeout(this.#timer)
    await this.#running
  }

  async #trim (): Promise<void> {
    const { store, owner, clock, everyMs } = this.#options
    if (await store.takeClaim(claim, owner, everyMs / 2) === null) return
    await store.trimEvents(clock.nowUs())
    this.stats.trims++
  }
}
