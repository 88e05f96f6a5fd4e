/**
 * Who is connected, where, since when, and when devices were last heard: told by the MQTT stage, asked by the edges, commands and search.
 *
 * Promises: telling costs the stage no wait; what is open on this node is answered from memory, at once; a device does not stay connected
 * for longer than the lease of the nodes when its node dies; `device.connected` and `device.disconnected` are told for every connection,
 * in their order (presence-writer.ts has the bound), also for those of a server that died (lost-sweep.ts).
 *
 * Bounded by the stage's connections: an entry for each.
 */
import type { Clock } from '../core/clock.js'
import type { Log } from '../core/log.js'
import type { ClaimStore } from '../store/claim-store.js'
import type { EventLog } from '../store/event-log.js'
import type { Connected, DisconnectReason, PresenceRow, PresenceStore, SlotEnd } from '../store/presence-store.js'
import { ActivityWriter, keyOf, type Heard } from './activity-writer.js'
import { BootWatch, type PresenceMembership } from './boot-watch.js'
import { LostSweep } from './lost-sweep.js'
import { connectedEvent, disconnectedEvent } from './presence-events.js'
import type { PresenceSession, PresenceSink, PresenceSource, PresenceView } from './presence-sink.js'
import { presenceState } from './presence-state.js'
import { PresenceWriter } from './presence-writer.js'

export interface PresenceServiceOptions {
  readonly store: PresenceStore & Pick<EventLog, 'appendEvents'> & Pick<ClaimStore, 'takeClaim' | 'releaseClaim'>
  /** null: this server is the only one. */
  readonly membership: PresenceMembership | null
  /** '' where this server is the only one: names a place in every device's row, so it must come back at the next start. */
  readonly node: string
  /** Random, new at every start; the membership's where there is one. */
  readonly bootId: string
  /** A device that was not heard of for longer is stale, seconds. */
  readonly staleAfterS: number
  readonly clock: Clock
  readonly log: Log
  /** How often servers say that they live, ms. Default 3,000. */
  readonly bootEveryMs?: number
}

interface OpenSession {
  readonly session: PresenceSession
  connected: Connected
}

interface OpenDevice {
  /** The last one stands for the device. Few. */
  readonly sessions: OpenSession[]
  /** What was written of its activity, µs. */
  activityAt: number
  /** false: the device was deleted, and nothing is written of it until it connects again. */
  rows: boolean
}

/** A connected device's activity is written this often at most, µs; more often where staleness needs it. */
const activityEveryUsMax = 120e6
const devicesPerStep = 2000
const closePatienceMs = 10_000

export class PresenceService implements PresenceSink, PresenceSource {
  readonly #options: PresenceServiceOptions
  readonly #writer: PresenceWriter
  readonly #activity: ActivityWriter
  readonly #boots: BootWatch
  readonly #sweep: LostSweep
  readonly #open = new Map<string, OpenDevice>()
  readonly #tenants = new Map<string, number>()
  readonly #staleAfterUs: number
  readonly #activityListeners = new Set<(rows: readonly Heard[]) => void>()
  #lastUs = 0
  #generation = 0
  #opened = 0
  #closed = 0

  constructor (options: PresenceServiceOptions) {
    const { store, node, bootId, membership, clock, log } = options
    this.#options = options
    this.#staleAfterUs = options.staleAfterS * 1e6
    this.#writer = new PresenceWriter({ store, events: store, log })
    this.#activity = new ActivityWriter({ store, node, log, written: rows => { for (const listener of this.#activityListeners) listener(rows) } })
    this.#boots = new BootWatch({ store, membership, node, bootId, clock, log, ...(options.bootEveryMs === undefined ? {} : { everyMs: options.bootEveryMs }) })
    this.#sweep = new LostSweep({ store, events: store, bootId, clock, log, isOpenHere: (tenant, device) => this.isConnectedHere(tenant, device), verdictOf: (boot, name) => this.#boots.verdict(boot, name), alone: membership === null })
  }

  get stats (): Readonly<Record<'devicesConnected' | 'pending' | 'opened' | 'closed' | keyof PresenceWriter['stats'] | keyof ActivityWriter['stats'] | keyof LostSweep['stats'], number>> {
    return { devicesConnected: this.#open.size, pending: this.#writer.pending, opened: this.#opened, closed: this.#closed, ...this.#writer.stats, ...this.#activity.stats, ...this.#sweep.stats }
  }

  /** Devices that are connected to this node, by tenant. */
  get connectedByTenant (): ReadonlyMap<string, number> { return this.#tenants }

  /** Before the edges: nobody finds this server unknown when its first device connects. A store that is away holds up no start. */
  async open (): Promise<void> {
    await this.#boots.open((dead, wasSwept) => {
      if (wasSwept) this.#openAgain()
      this.#sweep.start(dead)
    })
    this.#activity.open(async () => { await this.#gatherActivity() })
  }

  /** After the MQTT edge, which has told of all connections by then. */
  async close (): Promise<void> {
    await this.#sweep.close()
    await this.#writer.close(closePatienceMs)
    await this.#activity.close()
    await this.#boots.close(this.#open.size === 0 && this.#writer.pending === 0)
  }

  opened (session: PresenceSession): void {
    const key = keyOf(session)
    let device = this.#open.get(key)
    if (device === undefined) {
      this.#open.set(key, device = { sessions: [], activityAt: 0, rows: true })
      this.#tenants.set(session.tenant, (this.#tenants.get(session.tenant) ?? 0) + 1)
    }
    this.#opened++
    device.rows = true
    const connected = this.#connectedOf(session)
    device.activityAt = connected.at
    device.sessions.push({ session, connected })
    this.#writer.opened(key, connected, connectedEvent(connected, connected.at))
  }

  closed (session: PresenceSession, reason: DisconnectReason, lastHeardUs: number): void {
    const key = keyOf(session)
    const device = this.#open.get(key)
    const at = device?.sessions.findIndex(open => open.session === session) ?? -1
    if (device === undefined || at < 0) return
    this.#closed++
    const [{ connected }] = device.sessions.splice(at, 1)
    const { tenant, device: id } = session
    const { node, bootId } = this.#options
    const end: SlotEnd = { tenant, device: id, connection: connected.connection, at: this.#nowUs(), reason, node, bootId }
    const standing = device.sessions.at(-1)
    if (standing === undefined) {
      this.#open.delete(key)
      const left = (this.#tenants.get(tenant) ?? 1) - 1
      if (left === 0) this.#tenants.delete(tenant)
      else this.#tenants.set(tenant, left)
    }
    if (lastHeardUs > 0 && device.rows) this.#activity.note(key, tenant, id, lastHeardUs)
    this.#writer.closed(key, connected, end, standing?.connected ?? null, disconnectedEvent(end, connected, standing !== undefined, end.at))
    if (!device.rows) void this.#writer.dropRows(key)
  }

  noteActivity (tenant: string, device: string, atUs: number): void {
    this.#activity.note(keyOf({ tenant, device }), tenant, device, atUs)
  }

  /** Told when devices were last heard, as it is written: every half minute for those that were. Must not throw. Returns how to stop. */
  onActivity (listener: (rows: readonly Heard[]) => void): () => void {
    this.#activityListeners.add(listener)
    return () => { this.#activityListeners.delete(listener) }
  }

  isConnectedHere (tenant: string, device: string): boolean { return this.#open.has(keyOf({ tenant, device })) }

  async view (tenant: string, devices: readonly string[]): Promise<readonly PresenceView[]> {
    const rows = await this.#options.store.getPresence(tenant, devices)
    const nowUs = this.#options.clock.nowUs()
    return rows.map(row => this.#viewOf(this.#withOwn(row), nowUs))
  }

  async forget (tenant: string, device: string): Promise<void> {
    const key = keyOf({ tenant, device })
    this.#activity.forget(key)
    const open = this.#open.get(key)
    if (open !== undefined) open.rows = false
    await this.#writer.dropRows(key)
    await this.#options.store.deletePresence(tenant, device)
  }

  /** What this node knows of its own slot is newer than what it has written. */
  #withOwn (row: PresenceRow): PresenceRow {
    const key = keyOf(row)
    const device = this.#open.get(key)
    const unwritten = this.#writer.slotOf(key)
    const connected = device?.sessions.at(-1)?.connected ?? unwritten?.connected
    const heardAt = device?.sessions.reduce((latest, { session }) => Math.max(latest, session.lastHeardUs), 0) ?? 0
    const activityAt = Math.max(row.activityAt, this.#activity.lastOf(key), heardAt)
    if (connected === undefined) return { ...row, activityAt }
    const others = row.slots.filter(slot => slot.connected.node !== connected.node)
    return { ...row, activityAt, slots: [{ connected, disconnected: device === undefined ? unwritten?.disconnected ?? null : null }, ...others] }
  }

  #viewOf (row: PresenceRow, nowUs: number): PresenceView {
    const { connected, since, reason, connection } = presenceState(row, (bootId, node) => this.#boots.verdict(bootId, node))
    const lastActivity = row.slots.reduce((latest, slot) => Math.max(latest, slot.connected.at), row.activityAt)
    return {
      connected, since, reason, lastActivity,
      stale: lastActivity > 0 && nowUs - lastActivity > this.#staleAfterUs,
      node: connection === null || connection.node === '' ? null : connection.node,
      via: connection === null || connection.via === '' ? null : connection.via,
      connection: connection?.connection ?? null
    }
  }

  /** Others took this server for dead and told so; its connections get new names, and are told again. */
  #openAgain (): void {
    this.#generation++
    this.#options.log.warn({ devices: this.#open.size }, 'other nodes took this one for dead; its connections are told again')
    for (const [key, { sessions, rows }] of this.#open) {
      for (const open of sessions) {
        open.connected = this.#connectedOf(open.session)
        if (rows) this.#writer.opened(key, open.connected, connectedEvent(open.connected, open.connected.at))
      }
    }
  }

  /** In steps, so that many devices do not hold up the event loop. */
  async #gatherActivity (): Promise<void> {
    const everyUs = Math.min(activityEveryUsMax, this.#staleAfterUs / 3)
    let looked = 0
    for (const [key, device] of this.#open) {
      if (++looked % devicesPerStep === 0) await new Promise(resolve => { setImmediate(resolve) })
      for (const { session } of device.sessions) {
        const heardUs = session.lastHeardUs
        if (heardUs - device.activityAt < everyUs) continue
        device.activityAt = heardUs
        this.#activity.note(key, session.tenant, session.device, heardUs)
      }
    }
  }

  #connectedOf ({ tenant, device, connection, via, keepAliveSeconds }: PresenceSession): Connected {
    const { node, bootId } = this.#options
    const name = this.#generation === 0 ? connection : `${connection}~${this.#generation}`
    return { tenant, device, connection: name, node, bootId, at: this.#nowUs(), via, keepAliveSeconds }
  }

  /** No two at the same time, so that what happened to one device has an order. */
  #nowUs (): number {
    this.#lastUs = Math.max(this.#options.clock.nowUs(), this.#lastUs + 1)
    return this.#lastUs
  }
}
