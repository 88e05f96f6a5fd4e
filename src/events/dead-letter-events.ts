/**
 * Refused messages as events: `deadletter.added`, one a tenant, reason and second, with how many. Gathered in memory, so a crash loses at
 * most the last second's events (never the letters); while the log does not answer, the counts wait and grow.
 */
import type { Clock } from '../core/clock.js'
import { isoTime } from '../core/iso-time.js'
import type { Log } from '../core/log.js'
import type { EventLog, OutEvent } from '../store/event-log.js'

export interface DeadLetterEventsOptions {
  readonly log: Pick<EventLog, 'appendEvents'>
  /** Never the same for two servers, or two starts of one. */
  readonly owner: string
  readonly clock: Clock
  readonly logger: Log
  readonly everyMs?: number
  /** Tenants and reasons that are counted apart; of further ones there is no event (they are counted in `stats`). */
  readonly countsMax?: number
}

interface Count {
  readonly tenant: string
  readonly reason: string
  count: number
  readonly firstUs: number
}

export class DeadLetterEvents {
  readonly #options: Required<DeadLetterEventsOptions>
  #counts = new Map<string, Count>()
  /** What is being told; kept until it is. */
  #telling: OutEvent[] = []
  #running: Promise<void> | null = null
  #timer: NodeJS.Timeout | null = null
  #number = 0
  readonly stats = { told: 0, uncounted: 0, failures: 0 }

  constructor (options: DeadLetterEventsOptions) { this.#options = { everyMs: 1000, countsMax: 10_000, ...options } }

  open (): void { this.#timer = setInterval(() => { void this.flush() }, this.#options.everyMs).unref() }

  /** So many letters of a tenant were added. Cheap. */
  note (tenant: string, reason: string | undefined, count: number): void {
    const key = `${tenant}\0${reason ?? ''}`
    const known = this.#counts.get(key)
    if (known !== undefined) known.count += count
    else if (this.#counts.size < this.#options.countsMax) this.#counts.set(key, { tenant, reason: reason ?? 'other', count, firstUs: this.#options.clock.nowUs() })
    else this.stats.uncounted += count
  }

  /** Never rejects. */
  async flush (): Promise<void> {
    this.#running ??= this.#flush().catch((error: Error) => {
      this.stats.failures++
      this.#options.logger.debug({ error: error.message }, 'events about dead letters wait')
    }).finally(() => { this.#running = null })
    await this.#running
  }

  async close (): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer)
    await this.#running
    await this.flush()
  }

  async #flush (): Promise<void> {
    const { log, owner, clock } = this.#options
    if (this.#telling.length === 0) {
      const stamp = clock.nowUs()
      this.#telling = [...this.#counts.values()].map(({ tenant, reason, count, firstUs }) => ({
        id: `deadletter/${owner}/${++this.#number}`, tenant, device: '', type: 'deadletter.added' as const, stamp, data: JSON.stringify({ reason, count, since: isoTime(firstUs) })
      }))
      this.#counts = new Map()
    }
    if (this.#telling.length === 0) return
    await log.appendEvents(this.#telling)
    this.stats.told += this.#telling.length
    this.#telling = []
  }
}
