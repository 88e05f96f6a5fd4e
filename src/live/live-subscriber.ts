/**
 * One watcher: a queue of readings between the packers and a socket. It never grows beyond its bound: a watcher that does not keep up
 * gets, when it reads again, the newest value of each (device, metric) that it missed and how many readings were left out. Time never
 * goes back in that: a late point does not replace a newer one.
 */
import type { Principal } from '../tenancy/model.js'
import type { LiveFilter, LiveGroup, NewestValue } from '../../workers/live-protocol.js'

export type LiveEventName = 'ready' | 'gap' | 'dropped' | 'revoked' | 'closing'

/** Where a watcher's readings go. */
export interface LiveSink {
  /** It takes more now; when it is false, `LiveSubscriber.drained` is called once it is true again. */
  readonly writable: boolean
  /** Text of readings, in the form of the filter. */
  readings(device: string, text: string): void
  /** @param latest JSON by metric: `{"m":{"ts":…,"value":…}}` */
  latest(device: string, latest: string): void
  event(name: LiveEventName, data: Readonly<Record<string, string | number | boolean>>): void
  /** Says nothing, so that nobody takes the connection for dead. */
  keepAlive(): void
  /** Sends what was given since the last time. */
  flush(): void
  /** Ends the connection after what was flushed; `hard`: at once. */
  end(hard: boolean): void
}

export interface LiveBounds {
  /** Characters of readings that wait for the socket. */
  readonly queueCharsMax: number
  /** Readings that wait for the socket. */
  readonly queueReadingsMax: number
  /** Characters of newest values that are kept of what was left out. */
  readonly newestCharsMax: number
}

/** What all watchers of a node may keep together, and count. */
export interface LiveShared {
  queuedChars: number
  readonly queuedCharsMax: number
  readonly stats: { delivered: number, dropped: number, gaps: number }
  nowMs(): number
}

/** Handed to the sink between two looks at `writable`. */
const flushCharsMax = 64 * 1024
/** Cost of an entry of the newest values beside its text. */
const entryChars = 100

export class LiveSubscriber {
  readonly principal: Principal
  readonly tenant: string
  /** null: every device of the tenant. */
  readonly devices: readonly string[] | null
  readonly filter: LiveFilter
  readonly sink: LiveSink
  readonly #bounds: LiveBounds
  readonly #shared: LiveShared
  #state: 'starting' | 'live' | 'ended' = 'starting'
  #queue: LiveGroup[] = []
  #queuedChars = 0
  #queuedReadings = 0
  /** By device and metric. */
  readonly #newest = new Map<string, Map<string, NewestValue>>()
  #newestChars = 0
  #dropped = 0
  #gap: string | null = null
  #roomWaiters: (() => void)[] = []
  /** When the sink last took something, monotonic. */
  progressMs: number
  /** In the hub's list of those that a delivery touched. */
  touched = false

  constructor (of: { principal: Principal, tenant: string, devices: readonly string[] | null, filter: LiveFilter, sink: LiveSink }, bounds: LiveBounds, shared: LiveShared) {
    this.principal = of.principal
    this.tenant = of.tenant
    this.devices = of.devices
    this.filter = of.filter
    this.sink = of.sink
    this.#bounds = bounds
    this.#shared = shared
    this.progressMs = shared.nowMs()
  }

  get ended (): boolean { return this.#state === 'ended' }

  /** Something waits for the sink. */
  get waiting (): boolean { return this.#queue.length > 0 || this.#dropped > 0 || this.#gap !== null }

  get #lagging (): boolean { return this.#dropped > 0 }

  /** Queues readings; `flush` sends them. */
  deliver (group: LiveGroup): void {
    if (this.#state === 'ended') return
    const { queueCharsMax, queueReadingsMax } = this.#bounds
    const chars = group.text.length
    const full = this.#queuedChars + chars > queueCharsMax || this.#queuedReadings + group.readings > queueReadingsMax || this.#shared.queuedChars + chars > this.#shared.queuedCharsMax
    if (this.#lagging || full) return this.#leaveOut(group, group.readings + group.omitted)
    if (group.readings > 0) {
      this.#queue.push(group)
      this.#count(chars, group.readings)
    }
    if (group.omitted > 0) this.#leaveOut(group, group.omitted)
  }

  #count (chars: number, readings: number): void {
    this.#queuedChars += chars
    this.#queuedReadings += readings
    this.#shared.queuedChars += chars
  }

  #leaveOut (group: LiveGroup, readings: number): void {
    this.#dropped += readings
    this.#shared.stats.dropped += readings
    let newest = this.#newest.get(group.device)
    if (newest === undefined) this.#newest.set(group.device, newest = new Map())
    for (const value of JSON.parse(group.newest) as NewestValue[]) {
      const [metric, ts, text] = value
      const known = newest.get(metric)
      if (known !== undefined && known[1] > ts) continue
      this.#newestChars += text.length - (known === undefined ? -entryChars : known[2].length)
      newest.set(metric, value)
    }
    if (this.#newestChars <= this.#bounds.newestCharsMax) return
    this.#newest.clear()
    this.#newestChars = 0
    this.gap('more was left out than is kept')
  }

  /** Readings may be missing before what is delivered next. */
  gap (reason: string): void {
    if (this.#state === 'ended') return
    if (this.#gap === null) this.#shared.stats.gaps++
    this.#gap = reason
  }

  /** The latest values of a device, before the readings begin. Waits until the sink takes it. */
  async sendLatest (device: string, latest: string): Promise<void> {
    while (!this.ended && !this.sink.writable) await new Promise<void>(resolve => { this.#roomWaiters.push(resolve) })
    if (this.ended) return
    this.sink.latest(device, latest)
    this.#flushed()
  }

  /** From now on readings are sent; what was delivered before is first. */
  begin (): void {
    if (this.#state !== 'starting') return
    this.#state = 'live'
    this.#sayGap()
    this.sink.event('ready', this.devices === null ? { all: true } : { devices: this.devices.length })
    this.#flushed()
    this.flush()
  }

  flush (): void {
    if (this.#state !== 'live') return
    while (this.#queue.length > 0 && this.sink.writable) this.#flushSome()
    if (this.#queue.length > 0 || !this.sink.writable) return
    if (this.#gap === null && !this.#lagging) return
    this.#sayGap()
    this.#sayDropped()
    this.#flushed()
  }

  #flushSome (): void {
    let chars = 0
    let readings = 0
    let count = 0
    while (count < this.#queue.length && (count === 0 || chars + this.#queue[count].text.length <= flushCharsMax)) {
      const group = this.#queue[count++]
      chars += group.text.length
      readings += group.readings
      this.sink.readings(group.device, group.text)
    }
    this.#queue = count === this.#queue.length ? [] : this.#queue.slice(count)
    this.#count(-chars, -readings)
    this.#shared.stats.delivered += readings
    this.#flushed()
  }

  #sayGap (): void {
    if (this.#gap === null) return
    this.sink.event('gap', { reason: this.#gap })
    this.#gap = null
  }

  /** Bounded by `newestCharsMax`, so it is given in one piece. */
  #sayDropped (): void {
    if (!this.#lagging) return
    this.sink.event('dropped', { readings: this.#dropped })
    for (const [device, newest] of this.#newest) this.sink.latest(device, `{${[...newest.values()].map(([,, text]) => text).join(',')}}`)
    this.#newest.clear()
    this.#newestChars = 0
    this.#dropped = 0
  }

  #flushed (): void {
    this.sink.flush()
    this.progressMs = this.#shared.nowMs()
  }

  /** The sink takes more. */
  drained (): void {
    this.progressMs = this.#shared.nowMs()
    const waiters = this.#roomWaiters
    this.#roomWaiters = []
    for (const wake of waiters) wake()
    this.flush()
  }

  keepAlive (): void {
    this.sink.keepAlive()
    this.#flushed()
  }

  /** Ends it: what waits is let go, the reason is said where there is one. */
  end (last: LiveEventName | null, hard = false): void {
    if (this.#state === 'ended') return
    this.#state = 'ended'
    this.#count(-this.#queuedChars, -this.#queuedReadings)
    this.#queue = []
    this.#newest.clear()
    for (const wake of this.#roomWaiters) wake()
    if (last !== null) this.sink.event(last, {})
    this.sink.flush()
    this.sink.end(hard)
  }
}
