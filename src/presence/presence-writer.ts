/**
 * Writes down, behind the connections' backs, what became of devices on this node: a flush takes what has gathered, a unit a device. One
 * flush runs at a time, so that what is written of a device keeps its order; a device that came and went meanwhile is written once.
 *
 * Order within a unit: the row of an open connection, then the events, then the row of its end. After a crash anywhere in between the
 * connection is either unknown, or found among those of the boot and told as lost, with `connected` told again first (lost-sweep.ts): an
 * event may be there twice, never one without its other.
 *
 * Bounded: `devicesPendingMax` devices wait, with `eventsPerDeviceMax` events each. Beyond, connections between the first and the last of
 * a device are left out, and devices that are not pending yet are not noted; both are counted.
 */
import type { Log } from '../core/log.js'
import { TwinfoldError } from '../core/errors.js'
import type { EventLog, OutEvent } from '../store/event-log.js'
import type { Connected, PresenceStore, SlotEnd } from '../store/presence-store.js'

export interface DeviceUnit {
  /** The connection that stands for the device on this node. */
  readonly connected: Connected
  /** How it ended; null: it is open. */
  readonly ended: SlotEnd | null
  /** The row of `connected` is not written yet. */
  readonly put: boolean
  /** false: the device is gone, only its events are told. */
  readonly rows: boolean
}

interface Pending { unit: DeviceUnit, readonly events: OutEvent[] }

const gatherMs = 10
const retryMs = 1000
const devicesPerFlush = 5000
const devicesPendingMax = 1_000_000
/** Even: connections are left out by pairs. */
const eventsPerDeviceMax = 32

export class PresenceWriter {
  readonly #store: Pick<PresenceStore, 'putConnected' | 'putDisconnected'>
  readonly #events: Pick<EventLog, 'appendEvents'>
  readonly #log: Log
  #pending = new Map<string, Pending>()
  #flushing = new Map<string, Pending>()
  #timer: NodeJS.Timeout | null = null
  #running: Promise<void> | null = null
  #failing = false
  #closed = false
  readonly stats = { flushes: 0, flushFailures: 0, eventsTold: 0, eventsLeftOut: 0, devicesLeftOut: 0 }

  constructor (options: { readonly store: Pick<PresenceStore, 'putConnected' | 'putDisconnected'>, readonly events: Pick<EventLog, 'appendEvents'>, readonly log: Log }) {
    this.#store = options.store
    this.#events = options.events
    this.#log = options.log
  }

  get pending (): number { return this.#pending.size + this.#flushing.size }

  /** The state that the device has here, and what happened. Never waits, never throws. */
  note (key: string, unit: DeviceUnit, event: OutEvent): void {
    const known = this.#pending.get(key)
    if (known === undefined) {
      if (this.#pending.size >= devicesPendingMax) {
        this.stats.devicesLeftOut++
        return
      }
      this.#pending.set(key, { unit, events: [event] })
    } else {
      known.unit = { ...unit, put: unit.put || known.unit.put }
      known.events.push(event)
      this.#shorten(known.events)
    }
    this.#schedule(gatherMs)
  }

  /** What is not written yet of the device, newest; null: nothing. */
  unitOf (key: string): DeviceUnit | null {
    return (this.#pending.get(key) ?? this.#flushing.get(key))?.unit ?? null
  }

  /** The device goes: no row of it is written any more when this resolves. */
  async dropRows (key: string): Promise<void> {
    const known = this.#pending.get(key)
    if (known !== undefined) known.unit = { ...known.unit, rows: false }
    const flushing = this.#flushing.get(key)
    if (flushing === undefined) return
    flushing.unit = { ...flushing.unit, rows: false }
    await this.#running
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
    for (const [key, later] of this.#pending) {
      const earlier = taken.get(key)
      if (earlier === undefined) {
        taken.set(key, later)
        continue
      }
      earlier.unit = { ...later.unit, put: later.unit.put || earlier.unit.put }
      earlier.events.push(...later.events)
      while (earlier.events.length > eventsPerDeviceMax) this.#shorten(earlier.events)
    }
    this.#pending = taken
  }

  async #write (all: readonly Pending[]): Promise<void> {
    await this.#store.putConnected(all.filter(({ unit }) => unit.rows && unit.put).map(({ unit }) => unit.connected))
    const events = all.flatMap(pending => pending.events)
    await this.#events.appendEvents(events)
    this.stats.eventsTold += events.length
    await this.#store.putDisconnected(all.flatMap(({ unit }) => unit.rows && unit.ended !== null ? [unit.ended] : []))
  }
}
