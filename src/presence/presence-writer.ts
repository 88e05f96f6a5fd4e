/**
 * Writes down, behind the connections' backs, what became of devices on this node: a flush takes what has gathered. One flush runs at a
 * time, so that what is written of a device keeps its order; a device that came and went meanwhile is written once.
 *
 * Order: the rows of connections that are open, then the events, then the ends. After a crash anywhere in between a connection is either
 * unknown, or found among those of the boot and told as lost, with `connected` told again first (lost-sweep.ts): an event may be there
 * twice, never one without its other.
 *
 * Bounded: `devicesPendingMax` devices wait, with `eventsPerDeviceMax` events each. Beyond, connections between the first and the last of
 * a device are left out, and devices that are not pending yet are not noted; both are counted.
 */
import type { Log } from '../core/log.js'
import { TwinfoldError } from '../core/errors.js'
import type { EventLog, OutEvent } from '../store/event-log.js'
import type { Connected, PresenceSlot, PresenceStore, SlotEnd } from '../store/presence-store.js'

/** What is not written yet of one device. */
interface Pending {
  /** The connection that stands for the device on this node, and how it ended; null: it is open. */
  slot: Connected
  slotEnd: SlotEnd | null
  putSlot: boolean
  /** By connection: opened and not written, ended and written. */
  readonly opened: Map<string, Connected>
  readonly ended: Map<string, SlotEnd>
  readonly events: OutEvent[]
  /** false: the device is gone, only its events are told. */
  rows: boolean
  /** A write of it failed: what was opened may be written. */
  tried: boolean
}

/** Before a flush, and between two. */
const gatherMs = 5
const retryMs = 1000
/** Few enough that a flush does not hold up the event loop, many enough that a hundred thousand are some hundred batches. */
const devicesPerFlush = 1000
const devicesPendingMax = 1_000_000
/** Even: connections are left out by pairs. */
const eventsPerDeviceMax = 32

export class PresenceWriter {
  readonly #store: Pick<PresenceStore, 'putConnected' | 'putDisconnected' | 'dropConnections'>
  readonly #events: Pick<EventLog, 'appendEvents'>
  readonly #log: Log
  #pending = new Map<string, Pending>()
  #flushing = new Map<string, Pending>()
  #timer: NodeJS.Timeout | null = null
  #running: Promise<void> | null = null
  #failing = false
  #closed = false
  readonly stats = { flushes: 0, flushFailures: 0, eventsTold: 0, eventsLeftOut: 0, devicesLeftOut: 0 }

  constructor (options: { readonly store: Pick<PresenceStore, 'putConnected' | 'putDisconnected' | 'dropConnections'>, readonly events: Pick<EventLog, 'appendEvents'>, readonly log: Log }) {
    this.#store = options.store
    this.#events = options.events
    this.#log = options.log
  }

  get pending (): number { return this.#pending.size + this.#flushing.size }

  /** Never waits, never throws. */
  opened (key: string, connected: Connected, event: OutEvent): void {
    const pending = this.#of(key, connected)
    if (pending === null) return
    if (pending.slotEnd !== null) gone(pending, pending.slotEnd)
    pending.slot = connected
    pending.slotEnd = null
    pending.putSlot = true
    pending.opened.set(connected.connection, connected)
    pending.rows = true
    this.#tell(pending, event)
  }

  /** @param standing what stands for the device from now on; null: nothing. Never waits, never throws. */
  closed (key: string, connected: Connected, end: SlotEnd, standing: Connected | null, event: OutEvent): void {
    const pending = this.#of(key, connected)
    if (pending === null) return
    if (standing !== null) {
      gone(pending, end)
      pending.slot = standing
      pending.putSlot = true
    } else {
      pending.slot = connected
      pending.slotEnd = end
    }
    this.#tell(pending, event)
  }

  /** What is not written yet of the device's slot, newest; null: nothing. */
  slotOf (key: string): PresenceSlot | null {
    const pending = this.#pending.get(key) ?? this.#flushing.get(key)
    return pending?.rows === true ? { connected: pending.slot, disconnected: pending.slotEnd } : null
  }

  /** The device goes: no row of it is written any more when this resolves, until it is opened again. */
  async dropRows (key: string): Promise<void> {
    for (const pending of [this.#pending.get(key), this.#flushing.get(key)]) if (pending !== undefined) pending.rows = false
    if (this.#flushing.has(key)) await this.#running
  }

  /** Writes what is pending, once, and waits for it at most so long. */
  async close (patienceMs: number): Promise<void> {
    this.#closed = true
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
    let expired = false
    const flushed = (async () => {
      await this.#running
      while (this.#pending.size > 0 && !expired && await this.#flush());
    })()
    let timer: NodeJS.Timeout | undefined
    await Promise.race([flushed, new Promise<void>(resolve => { timer = setTimeout(resolve, patienceMs) })])
    expired = true
    clearTimeout(timer)
    if (this.pending > 0) this.#log.warn({ devices: this.pending }, 'connections that ended are not written down; they count as lost with this server')
  }

  /** null where too many are pending. */
  #of (key: string, slot: Connected): Pending | null {
    const known = this.#pending.get(key)
    if (known !== undefined) return known
    if (this.#pending.size >= devicesPendingMax) {
      this.stats.devicesLeftOut++
      return null
    }
    const pending: Pending = { slot, slotEnd: null, putSlot: false, opened: new Map(), ended: new Map(), events: [], rows: this.#flushing.get(key)?.rows ?? true, tried: false }
    this.#pending.set(key, pending)
    return pending
  }

  #tell ({ events }: Pending, event: OutEvent): void {
    events.push(event)
    this.#shorten(events)
    this.#schedule(gatherMs)
  }

  /** Connections in the middle are left out in pairs: what they did is over. */
  #shorten (events: OutEvent[]): void {
    if (events.length <= eventsPerDeviceMax) return
    events.splice(1, 2)
    this.stats.eventsLeftOut += 2
  }

  #schedule (delayMs: number): void {
    if (this.#timer !== null || this.#running !== null || this.#closed) return
    this.#timer = setTimeout(() => {
      this.#timer = null
      this.#running = this.#flush().then(done => {
        this.#running = null
        if (this.#pending.size > 0) this.#schedule(done ? gatherMs : retryMs)
      })
    }, delayMs).unref()
  }

  /** False where the store did not answer; everything is pending again then. */
  async #flush (): Promise<boolean> {
    const taken = this.#flushing = this.#take()
    try {
      await this.#write([...taken.values()])
      this.stats.flushes++
      if (this.#failing) this.#log.info({ devices: taken.size }, 'connections are written down again')
      this.#failing = false
      return true
    } catch (error) {
      this.stats.flushFailures++
      if (!this.#failing) this.#log.warn({ error: (error as Error).message, devices: this.pending }, 'connections could not be written down; they are tried again')
      this.#failing = true
      // What cannot be written for another reason than that the store is away would stand in the way of all others.
      if (error instanceof TwinfoldError && error.code === 'store_unavailable') this.#putBack(taken)
      else this.#log.error({ error: String(error), devices: taken.size }, 'connections were not written down')
      return false
    } finally {
      this.#flushing = new Map()
    }
  }

  #take (): Map<string, Pending> {
    if (this.#pending.size <= devicesPerFlush) {
      const all = this.#pending
      this.#pending = new Map()
      return all
    }
    const some = new Map<string, Pending>()
    for (const [key, pending] of this.#pending) {
      some.set(key, pending)
      this.#pending.delete(key)
      if (some.size === devicesPerFlush) break
    }
    return some
  }

  /** In front of what came later. */
  #putBack (taken: Map<string, Pending>): void {
    for (const pending of taken.values()) pending.tried = true
    for (const [key, later] of this.#pending) {
      const earlier = taken.get(key)
      if (earlier === undefined) {
        taken.set(key, later)
        continue
      }
      merge(earlier, later)
      while (earlier.events.length > eventsPerDeviceMax) this.#shorten(earlier.events)
    }
    this.#pending = taken
  }

  async #write (all: readonly Pending[]): Promise<void> {
    await this.#store.putConnected(all.flatMap(putsOf))
    const events = all.flatMap(pending => pending.events)
    await this.#events.appendEvents(events)
    this.stats.eventsTold += events.length
    await this.#store.putDisconnected(all.flatMap(({ rows, slotEnd }) => rows && slotEnd !== null ? [slotEnd] : []))
    await this.#store.dropConnections(all.flatMap(({ rows, ended }) => rows ? [...ended.values()] : []))
  }
}

/** The slot comes last: it is what stands. */
function putsOf ({ slot, putSlot, opened, rows }: Pending): Connected[] {
  if (!rows) return []
  const others = [...opened.values()].filter(({ connection }) => connection !== slot.connection)
  return putSlot || others.length > 0 ? [...others, slot] : others
}

/** A connection that ended and stands in no slot: what was never written of it need not be taken back. */
function gone (pending: Pending, end: SlotEnd): void {
  if (pending.opened.delete(end.connection) && !pending.tried) return
  pending.ended.set(end.connection, end)
}

function merge (earlier: Pending, later: Pending): void {
  if (earlier.slotEnd !== null && earlier.slotEnd.connection !== later.slot.connection) gone(earlier, earlier.slotEnd)
  for (const end of later.ended.values()) gone(earlier, end)
  for (const [connection, connected] of later.opened) earlier.opened.set(connection, connected)
  earlier.slot = later.slot
  earlier.slotEnd = later.slotEnd
  earlier.putSlot ||= later.putSlot
  earlier.rows = later.rows
  earlier.events.push(...later.events)
}
