/**
 * Streams of events (SSE) of this node: who reads, within which bounds, and when they end. A stream begins at the end of the log, at a
 * time, or where it was when it was cut off; within the seven days that the log keeps nothing is lost (an event may come twice).
 */
import type { Clock } from '../core/clock.js'
import { TwinfoldError } from '../core/errors.js'
import type { Filter } from '../core/filter/filter.js'
import type { Log } from '../core/log.js'
import { eventLanes, eventsKeptUs, laneOf } from '../store/event-log.js'
import type { Principal } from '../tenancy/model.js'
import { chooses, type DeviceFacts } from './device-facts.js'
import { EventStreamReader, type EventSink } from './event-stream-reader.js'
import type { EventTails } from './event-tails.js'
import { decodePosition } from './stream-position.js'

export interface EventStreamLimits {
  readonly perTenantMax: number
  readonly perNodeMax: number
  readonly devicesMax: number
  /** Something is sent at least this often. */
  readonly keepAliveMs: number
  /** A client that takes nothing for so long is cut. */
  readonly stalledMsMax: number
}

export const eventStreamLimits: EventStreamLimits = { perTenantMax: 100, perNodeMax: 1000, devicesMax: 1000, keepAliveMs: 15_000, stalledMsMax: 60_000 }

export interface EventStreamRequest {
  readonly principal: Principal
  readonly tenant: string
  readonly types: ReadonlySet<string>
  /** null: every device, and events of none. */
  readonly devices: ReadonlySet<string> | null
  readonly filter: Filter | null
  /** Last-Event-ID; goes before `fromUs`. */
  readonly lastId?: string
  /** µs; absent: from now on. */
  readonly fromUs?: number
}

export interface EventStreamsOptions {
  readonly tails: EventTails
  readonly facts: DeviceFacts
  readonly clock: Clock
  readonly log: Log
  readonly limits?: Partial<EventStreamLimits>
}

interface Watching {
  readonly reader: EventStreamReader
  readonly unfollow: readonly (() => void)[]
}

/** Where a request begins, before anything is sent. */
export interface EventStreamStart {
  readonly request: EventStreamRequest
  readonly positions: Map<number, string>
  readonly fromUs: number
  /** Events may be missing: the place is older than what the log keeps. */
  readonly gap: boolean
}

export class EventStreams {
  readonly #options: EventStreamsOptions
  readonly limits: EventStreamLimits
  readonly #watching = new Map<EventStreamReader, Watching>()
  #stopNews: (() => void) | null = null
  #timer: NodeJS.Timeout | null = null
  #closing = false
  readonly stats = { streams: 0, opened: 0, refused: 0, resumed: 0, delivered: 0, revoked: 0, stalled: 0, failures: 0 }

  constructor (options: EventStreamsOptions) {
    this.#options = options
    this.limits = { ...eventStreamLimits, ...options.limits }
  }

  open (): void {
    this.#stopNews = this.#options.tails.onNews(news => { for (const reader of this.#watching.keys()) reader.news(news) })
    this.#timer = setInterval(() => { this.#tick() }, Math.min(1000, this.limits.keepAliveMs / 3)).unref()
  }

  /** Finds where a stream begins. @throws TwinfoldError `throttled` at a bound, `not_ready` when it closes, `invalid_field` */
  async prepare (request: EventStreamRequest): Promise<EventStreamStart> {
    this.#admit(request.tenant)
    const { tails, clock } = this.#options
    const { devices, tenant, lastId, fromUs } = request
    const lanes = devices === null ? Array.from({ length: eventLanes }, (_, lane) => lane) : [...new Set([...devices].map(device => laneOf(tenant, device)))]
    const last = lastId === undefined ? null : decodePosition(lastId)
    const oldestUs = clock.nowUs() - eventsKeptUs
    const positions = new Map(await Promise.all(lanes.map(async lane => {
      // A lane that it did not read before (other devices are asked for now) begins when that stream ended.
      if (last !== null) return [lane, last.lanes.get(lane) ?? tails.positionAt(lane, last.atMs * 1000)] as const
      return [lane, fromUs === undefined ? await tails.end(lane) : tails.positionAt(lane, fromUs)] as const
    })))
    return { request, positions, fromUs: last === null ? fromUs ?? 0 : 0, gap: last === null ? (fromUs ?? Infinity) < oldestUs : last.atMs * 1000 < oldestUs }
  }

  /** @throws TwinfoldError as `prepare`, at bounds reached meanwhile */
  watch ({ request, positions, fromUs, gap }: EventStreamStart, sink: EventSink): EventStreamReader {
    this.#admit(request.tenant)
    const { tails, clock, facts, log } = this.#options
    const reader = new EventStreamReader({
      principal: request.principal,
      tenant: request.tenant,
      sink,
      tails,
      wants: event => chooses(request, event, facts),
      positions,
      fromUs,
      nowMs: () => clock.nowUs() / 1000,
      monotonicMs: () => clock.monotonicMs(),
      delivered: count => { this.stats.delivered += count },
      failed: error => {
        this.stats.failures++
        log.debug({ tenant: request.tenant, error: error.message }, 'a stream of events waits')
      }
    })
    this.#watching.set(reader, { reader, unfollow: [...positions.keys()].map(lane => tails.follow(lane)) })
    this.stats.opened++
    if (request.lastId !== undefined) this.stats.resumed++
    this.stats.streams = this.#watching.size
    if (gap) reader.tell('gap', { reason: 'events are kept for 7 days; older ones are not there any more' })
    // The first word: from here on nothing is missed, wherever the connection breaks.
    reader.keepAlive()
    reader.run()
    return reader
  }

  end (reader: EventStreamReader, hard = false): void {
    const watching = this.#watching.get(reader)
    if (watching === undefined) return
    this.#watching.delete(reader)
    this.stats.streams = this.#watching.size
    for (const stop of watching.unfollow) stop()
    reader.end(hard)
  }

  /** Ends the streams whose principal the predicate names; returns how many. */
  disconnect (wanted: (principal: Principal) => boolean): number {
    let count = 0
    for (const reader of [...this.#watching.keys()]) {
      if (!wanted(reader.principal)) continue
      reader.tell('revoked', {})
      this.end(reader)
      count++
    }
    this.stats.revoked += count
    return count
  }

  /** Tells the clients that the server stops, and ends them. */
  endAll (): void {
    this.#closing = true
    for (const reader of [...this.#watching.keys()]) {
      reader.tell('closing', {})
      this.end(reader)
    }
  }

  close (): void {
    this.endAll()
    this.#stopNews?.()
    if (this.#timer !== null) clearInterval(this.#timer)
  }

  #admit (tenant: string): void {
    if (this.#closing) throw new TwinfoldError('not_ready', 'the server is stopping')
    let mine = 0
    for (const reader of this.#watching.keys()) if (reader.tenant === tenant) mine++
    const { perTenantMax, perNodeMax } = this.limits
    if (mine < perTenantMax && this.#watching.size < perNodeMax) return
    this.stats.refused++
    throw new TwinfoldError('throttled', mine >= perTenantMax ? `the tenant has ${perTenantMax} streams of events on this node already` : 'this node has as many streams of events as it takes', { retryAfterMs: 5000 })
  }

  #tick (): void {
    const nowMs = this.#options.clock.monotonicMs()
    for (const reader of [...this.#watching.keys()]) {
      if (!reader.sink.writable) {
        if (nowMs - reader.progressMs < this.limits.stalledMsMax) continue
        this.stats.stalled++
        this.end(reader, true)
        continue
      }
      if (nowMs - reader.wroteMs >= this.limits.keepAliveMs) reader.keepAlive()
      // What could not be read is tried again.
      reader.run()
    }
  }
}
