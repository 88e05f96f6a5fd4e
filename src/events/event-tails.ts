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
  /** Positions never fall; of events that the log put into their order several may have one, and come again to who goes on from there. */
  readonly events: readonly LoggedEvent[]
  /** Where to go on. */
  readonly position: string
  /** There may be more now. */
  readonly more: boolean
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
/** A page that is asked for again, as it led nowhere, is larger by so much each time. */
const widerBy = 4
const widestMax = 65_536

/** `displaced`: its place in the log is behind its position (store/in-sequence.ts): who stands at that position has not got it. */
interface Kept { readonly logged: LoggedEvent, readonly displaced: boolean }

class Tail {
  followers = 0
  opened = false
  /** Everything in (from, end] is in `events`. */
  from = ''
  end = ''
  /** Where it ended when listeners were last told. */
  told = ''
  events: Kept[] = []
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
      for (const lane of lanes) if (this.#tails[lane].followers > 0) this.#pull(lane)
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

  /** As `EventLog.readEvents`, from memory where it is there. Always gets on where there are events. */
  async read (lane: number, after: string, limit: number): Promise<EventPage> {
    for (let wide = limit; ; wide *= widerBy) {
      const page = await this.#read(lane, after, wide)
      if (page.position > after || page.events.length < wide || wide >= widestMax) return page
    }
  }

  async #read (lane: number, after: string, limit: number): Promise<EventPage> {
    const tail = this.#tails[lane]
    if (tail.opened && after >= tail.from) {
      this.stats.fromTail++
      if (after >= tail.end && tail.events.at(-1)?.displaced !== true) return { events: [], position: after, more: false }
      const first = firstFor(tail.events, after)
      const events = tail.events.slice(first, first + limit).map(({ logged }) => logged)
      return events.length === limit ? { events, position: events[limit - 1].position, more: true } : { events, position: after > tail.end ? after : tail.end, more: false }
    }
    const key = `${lane}/${limit}/${after}`
    let reading = this.#reading.get(key)
    if (reading === undefined) {
      this.stats.fromLog++
      reading = this.#readLog(lane, after, limit).finally(() => { this.#reading.delete(key) })
      this.#reading.set(key, reading)
    }
    return await reading
  }

  async #readLog (lane: number, after: string, limit: number): Promise<EventPage> {
    const { events, position } = await this.#options.log.readEvents(lane, after, limit)
    const tail = this.#tails[lane]
    // A page may be short, and a long stretch empty, though there is more behind it.
    return { events, position, more: events.length > 0 || (tail.opened && position < tail.end) }
  }

  async end (lane: number): Promise<string> { return await this.#options.log.endOfEvents(lane) }

  positionAt (lane: number, stampUs: number): string { return this.#options.log.positionAt(lane, stampUs) }

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
        let before = after
        for (const logged of page.events) {
          tail.events.push({ logged, displaced: logged.position <= before })
          tail.chars += logged.event.data.length
          before = logged.position
        }
        this.#cut(tail)
        this.#tell({ lane, tenants: new Set(page.events.map(({ event }) => event.tenant)), since: tail.told, end: tail.end })
        tail.told = tail.end
      }
      if (page.events.length === 0) return
    }
  }

  #cut (tail: Tail): void {
    const { eventsMax, charsMax } = this.#options
    let drop = 0
    while (tail.events.length - drop > eventsMax || (tail.chars > charsMax && drop < tail.events.length)) tail.chars -= tail.events[drop++].logged.event.data.length
    if (drop === 0) return
    // Of displaced events none without the one that they stand before: who comes with its position gets all of them, or reads the log.
    while (drop < tail.events.length && tail.events[drop - 1].displaced) tail.chars -= tail.events[drop++].logged.event.data.length
    tail.from = tail.events[drop - 1].logged.position
    tail.events = tail.events.slice(drop)
  }

  #tell (news: LaneNews): void {
    for (const listener of this.#listeners) listener(news)
  }
}

/** Stands for all: who is told so looks for himself. */
const everyTenant: ReadonlySet<string> = Object.assign(new Set<string>(), { has: () => true })

/** The first event that who stands at the position has not got, or may not have got. */
function firstFor (events: readonly Kept[], position: string): number {
  let low = 0
  let high = events.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (events[middle].logged.position > position) high = middle
    else low = middle + 1
  }
  // Some may come again. Who read the log itself may stand between two positions of these.
  while (low > 0 && events[low - 1].displaced) low--
  return low
}
