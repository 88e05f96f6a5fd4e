/**
 * The newest events of each lane in memory, read from the log once for all who follow it: webhooks, streams, MQTT. Whoever lags further
 * behind reads the log itself, page by page; readers of the same page share one read.
 *
 * Bounded: events and characters per lane; the oldest go first, and are in the log still. A lane that nobody follows is not read.
 */
import type { Clock } from '../core/clock.js'
import type { Log } from '../core/log.js'
import { eventLanes, type EventLog, type LoggedEvent } from '../store/event-log.js'

export interface EventPage {
  readonly events: readonly LoggedEvent[]
  readonly position: string
}

/** What a lane has brought: whose reader stood at `since` or after and is of another tenant, may go on from `end`. */
export interface LaneNews {
  readonly lane: number
  readonly tenants: ReadonlySet<string>
  readonly since: string
  readonly end: string
}

export interface EventTailsOptions {
  readonly log: EventLog
  readonly clock: Clock
  readonly logger: Log
  /** How often lanes are looked at that other nodes may have written to. Default 1000 where every event is of this process, else 200. */
  readonly pollMs?: number
  readonly eventsMax?: number
  readonly charsMax?: number
}

const pageMax = 500

class Tail {
  followers = 0
  opened = false
  /** Everything in (from, end] is in `events`. */
  from = ''
  end = ''
  /** Where it ended when listeners were last told. */
  told = ''
  events: LoggedEvent[] = []
  chars = 0
  pulling: Promise<void> | null = null
  again = false
}

export class EventTails {
  readonly #options: Required<EventTailsOptions>
  readonly #tails = Array.from({ length: eventLanes }, () => new Tail())
  readonly #listeners = new Set<(news: LaneNews) => void>()
  readonly #reading = new Map<string, Promise<EventPage>>()
  #timer: NodeJS.Timeout | null = null
  #stopListening: (() => void) | null = null
  #closed = false
  readonly stats = { pulled: 0, fromLog: 0, fromTail: 0, failures: 0 }

  constructor (options: EventTailsOptions) {
    this.#options = { pollMs: options.log.settleMs === 0 ? 1000 : 200, eventsMax: 2048, charsMax: 4 * 1024 * 1024, ...options }
  }

  open (): void {
    const { log, pollMs } = this.#options
    this.#stopListening = log.onAppended(lanes => {
      for (const lane of lanes) this.#pullSoon(lane)
    })
    this.#timer = setInterval(() => {
      for (let lane = 0; lane < eventLanes; lane++) if (this.#tails[lane].followers > 0) this.#pull(lane)
    }, pollMs).unref()
  }

  async close (): Promise<void> {
    this.#closed = true
    this.#stopListening?.()
    if (this.#timer !== null) clearInterval(this.#timer)
    await Promise.all(this.#tails.map(async tail => { await tail.pulling }))
  }

  /** Keeps the lane in memory until the returned function is called. */
  follow (lane: number): () => void {
    const tail = this.#tails[lane]
    if (tail.followers++ === 0) this.#pull(lane)
    let stopped = false
    return () => {
      if (stopped) return
      stopped = true
      if (--tail.followers > 0) return
      // A next follower begins anew: what came meanwhile was not pulled.
      Object.assign(tail, { opened: false, events: [], chars: 0 })
    }
  }

  /** Called when a followed lane has brought events. Must not throw. Returns how to stop. */
  onNews (listener: (news: LaneNews) => void): () => void {
    this.#listeners.add(listener)
    return () => { this.#listeners.delete(listener) }
  }

  /** As `EventLog.readEvents`, from memory where it is there. */
  async read (lane: number, after: string, limit: number): Promise<EventPage> {
    const tail = this.#tails[lane]
    if (tail.opened && after >= tail.from) {
      this.stats.fromTail++
      if (after >= tail.end) return { events: [], position: after }
      const first = firstAfter(tail.events, after)
      const events = tail.events.slice(first, first + limit)
      return { events, position: events.length === limit ? events[limit - 1].position : tail.end }
    }
    const key = `${lane}/${limit}/${after}`
    let reading = this.#reading.get(key)
    if (reading === undefined) {
      this.stats.fromLog++
      reading = this.#options.log.readEvents(lane, after, limit).finally(() => { this.#reading.delete(key) })
      this.#reading.set(key, reading)
    }
    return await reading
  }

  async end (lane: number): Promise<string> { return await this.#options.log.endOfEvents(lane) }

  positionAt (lane: number, stampUs: number): string { return this.#options.log.positionAt(lane, stampUs) }

  /** In a cluster an event is there for readers a little after it was appended. */
  #pullSoon (lane: number): void {
    if (this.#tails[lane].followers === 0) return
    const { settleMs } = this.#options.log
    if (settleMs === 0) this.#pull(lane)
    else setTimeout(() => { this.#pull(lane) }, settleMs).unref()
  }

  #pull (lane: number): void {
    const tail = this.#tails[lane]
    if (this.#closed) return
    if (tail.pulling !== null) { tail.again = true; return }
    tail.pulling = this.#pullAll(lane, tail).catch((error: Error) => {
      this.stats.failures++
      this.#options.logger.debug({ lane, error: error.message }, 'events could not be read; it is tried again')
    }).finally(() => {
      tail.pulling = null
      if (!tail.again) return
      tail.again = false
      if (tail.followers > 0) this.#pull(lane)
    })
  }

  async #pullAll (lane: number, tail: Tail): Promise<void> {
    const { log } = this.#options
    if (!tail.opened) {
      const end = await log.endOfEvents(lane)
      Object.assign(tail, { opened: true, from: end, end, told: end, events: [], chars: 0 })
      // Who began to follow while it was not read may have events to come before the end.
      this.#tell({ lane, tenants: everyTenant, since: end, end })
    }
    for (;;) {
      const after = tail.end
      const page = await log.readEvents(lane, after, pageMax)
      // Given up and taken up again meanwhile.
      if (!tail.opened || tail.end !== after) return
      tail.end = page.position
      if (page.events.length > 0) {
        this.stats.pulled += page.events.length
        for (const logged of page.events) {
          tail.events.push(logged)
          tail.chars += logged.event.data.length
        }
        this.#cut(tail)
        this.#tell({ lane, tenants: new Set(page.events.map(({ event }) => event.tenant)), since: tail.told, end: tail.end })
        tail.told = tail.end
      }
      if (page.events.length < pageMax) return
    }
  }

  #cut (tail: Tail): void {
    const { eventsMax, charsMax } = this.#options
    let drop = 0
    while (tail.events.length - drop > eventsMax || (tail.chars > charsMax && drop < tail.events.length)) tail.chars -= tail.events[drop++].event.data.length
    if (drop === 0) return
    tail.from = tail.events[drop - 1].position
    tail.events = tail.events.slice(drop)
  }

  #tell (news: LaneNews): void {
    for (const listener of this.#listeners) listener(news)
  }
}

/** Stands for all: who is told so looks for himself. */
const everyTenant: ReadonlySet<string> = Object.assign(new Set<string>(), { has: () => true })

function firstAfter (events: readonly LoggedEvent[], position: string): number {
  let low = 0
  let high = events.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (events[middle].position > position) high = middle
    else low = middle + 1
  }
  return low
}
