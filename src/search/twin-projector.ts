/**
 * Brings devices into search: follows the event log, reads every device that changed (twin-reader.ts) and writes its row. One node at a
 * time does it, by a claim; another goes on from the stored positions, which are stored after what lies before them was written, so a
 * crash repeats and never leaves out.
 *
 * Which row stands: a row carries a stamp taken before its device was read. Every change is followed by a projection whose stamp was taken
 * after it; a row with a greater stamp was read later still, so it has the change as well, and one with a lower stamp loses. So rows
 * may be written in any order and any number of times. Stamps of one node only grow; a node that takes over first waits for longer than
 * the clocks of nodes may differ.
 *
 * Changes of the registry alone (name, type, gateway) are no events: they are noted, rung to the node that projects, and whatever was not
 * heard of is found by comparing with the registry's own projection every ten minutes.
 */
import type { Clock } from '../core/clock.js'
import type { DeviceBell } from '../core/device-bell.js'
import type { Log } from '../core/log.js'
import { usPerHour, usPerMs, usPerSecond } from '../core/reading.js'
import type { ClaimStore } from '../store/claim-store.js'
import { eventLanes, eventsKeptUs, type EventLog } from '../store/event-log.js'
import type { RegistryStore } from '../store/registry.js'
import type { SettingsStore } from '../store/small-stores.js'
import type { TwinSearchStore } from '../store/twin-search.js'
import { ActivityBuffer } from './activity-buffer.js'
import { DirtyDevices } from './dirty-devices.js'
import { readState, wantedFill, wantFill, writeState, type FillState, type ProjectionState } from './projection-state.js'
import { TwinFill } from './twin-fill.js'
import type { TwinReader } from './twin-reader.js'

export interface TwinProjectorOptions {
  readonly store: Pick<RegistryStore, 'getTenant' | 'listTenants' | 'listDevices'> & SettingsStore & ClaimStore & Pick<EventLog, 'readEvents' | 'endOfEvents' | 'onAppended' | 'settleMs'>
  readonly reader: Pick<TwinReader, 'read'>
  readonly search: TwinSearchStore
  /** null: there are no other nodes. */
  readonly bell: Pick<DeviceBell, 'ring' | 'onRing' | 'onRelinked'> | null
  /** Whether analytics is on: nothing is read or written before. */
  readonly following: () => boolean
  /** Never the same for two servers that may run at once. */
  readonly owner: string
  /** A fresh stamp, µs. */
  readonly stampNow: () => number
  readonly clock: Clock
  readonly log: Log
  /** Between two looks at the event log. Default 250. */
  readonly intervalMs?: number
  /** Of the claim. Default 10,000. */
  readonly leaseMs?: number
}

export interface ProjectionStatus {
  readonly state: 'off' | 'filling' | 'up'
  /** Every event up to this time is in search, µs. */
  readonly upTo: number
  /** Devices that the fill has written so far. */
  readonly filledDevices: number
}

const claimName = 'search'
/** Clocks of nodes differ by 250 ms at most (DESIGN 3.8). */
const clocksDifferMs = 500
const eventsPerRead = 1000
const devicesPerWrite = 500
/** Devices that wait; beyond, no more events are read until they are written. */
const dirtyMax = 20_000
const saveEveryMs = 2000
const checkEveryMs = 10_000
const strayEveryMs = 600_000
const strayMax = 10_000
/** After this node took over, or rings were lost: the registry's own projection has the change by then. */
const straySoonMs = 30_000
const retryMs = 1000
/** A look that took longer is followed by a pause of three times its length, or this. */
const longLookMs = 50
const pauseMsMax = 1500
/** A lane that nobody told of is read now and then all the same. */
const allLanesEveryMs = 5000

export class TwinProjector {
  readonly #options: TwinProjectorOptions
  readonly #dirty = new DirtyDevices()
  readonly #told = new Set<number>()
  readonly #stops: (() => void)[] = []
  readonly #activity: ActivityBuffer
  readonly #fill: TwinFill
  #state: ProjectionState = { positions: null, upTo: 0, filled: 0, fill: null }
  #timer: NodeJS.Timeout | null = null
  #running: Promise<void> | null = null
  #closed = false
  /** Monotonic ms: until when the claim is this node's, when it may be used, and when things are due. */
  #heldUntilMs = 0
  #usableMs = 0
  #renewMs = 0
  #saveMs = 0
  #checkMs = 0
  #strayMs = 0
  #allLanesMs = 0
  #waitUntilMs = 0
  #saved = ''
  #epoch = -1
  #seen: { readonly atMs: number, readonly state: ProjectionState } | null = null
  readonly stats = { events: 0, rows: 0, writes: 0, failures: 0, strays: 0, activity: 0, fills: 0 }

  constructor (options: TwinProjectorOptions) {
    this.#options = options
    this.#activity = new ActivityBuffer(options.search)
    this.#fill = new TwinFill({ store: options.store, search: options.search, project: async (tenant, ids) => { await this.#fillPage(tenant, ids) }, stampNow: options.stampNow })
  }

  open (): void {
    const { store, bell, intervalMs = 250 } = this.#options
    this.#stops.push(store.onAppended(lanes => { for (const lane of lanes) this.#told.add(lane) }))
    if (bell !== null) {
      this.#stops.push(bell.onRing((tenant, device, reason) => { if (reason === 'registry') this.#mark(tenant, device) }))
      this.#stops.push(bell.onRelinked(() => { this.#strayMs = Math.min(this.#strayMs, this.#options.clock.monotonicMs() + straySoonMs) }))
    }
    this.#timer = setInterval(() => { this.look() }, intervalMs)
    this.#timer.unref()
  }

  async close (): Promise<void> {
    this.#closed = true
    if (this.#timer !== null) clearInterval(this.#timer)
    for (const stop of this.#stops) stop()
    this.#fill.stop()
    const patience = new Promise<void>(resolve => { setTimeout(resolve, 5000).unref() })
    await Promise.race([Promise.allSettled([this.#running, this.#fill.running]), patience])
    if (this.#heldUntilMs > 0) await this.#options.store.releaseClaim(claimName, this.#options.owner).catch(() => {})
  }

  /** The device was made, changed or deleted in the registry. */
  noteDevice (tenant: string, id: string): void {
    const { bell } = this.#options
    if (bell === null) this.#mark(tenant, id)
    else bell.ring(tenant, id, 'registry')
  }

  /** When devices were heard, µs, gathered: written within some seconds, by whichever node knows it. */
  noteActivity (rows: readonly { readonly tenant: string, readonly device: string, readonly at: number }[]): void {
    if (this.#options.following()) this.#activity.add(rows)
  }

  /** Everything anew, by whichever node projects. @throws TwinfoldError `store_unavailable` */
  async refill (): Promise<void> {
    await wantFill(this.#options.store, this.#options.clock.nowUs())
    this.#checkMs = 0
  }

  /** What this node knows, or of another that projects what it stored last. @throws TwinfoldError `store_unavailable` */
  async status (): Promise<ProjectionStatus> {
    const { following, store, clock } = this.#options
    if (!following()) return { state: 'off', upTo: 0, filledDevices: 0 }
    if (!this.#holds) {
      const nowMs = clock.monotonicMs()
      if (this.#seen === null || nowMs - this.#seen.atMs > 1000) this.#seen = { atMs: nowMs, state: await readState(store) }
    }
    const state = this.#holds ? this.#state : this.#seen?.state ?? this.#state
    return { state: state.filled === 0 ? 'filling' : 'up', upTo: state.upTo, filledDevices: state.fill?.devices ?? 0 }
  }

  /** Devices that wait to be written. */
  get waiting (): number { return this.#dirty.size }

  /** Seconds that search is behind, on the node that projects; 0 elsewhere and while it is off. */
  get lagSeconds (): number {
    return this.#holds && this.#state.upTo > 0 ? Math.max(0, this.#options.clock.nowUs() - this.#state.upTo) / usPerSecond : 0
  }

  get #holds (): boolean { return this.#options.clock.monotonicMs() < this.#heldUntilMs }

  /** Looks now. */
  look (): void {
    if (this.#closed || this.#running !== null) return
    this.#running = this.#look().catch((error: Error) => {
      this.stats.failures++
      this.#waitUntilMs = this.#options.clock.monotonicMs() + retryMs
      // What the tables lost with the service is found out before anything else.
      this.#checkMs = 0
      this.#options.log.debug({ error: error.message }, 'search is not brought up to date now; it is tried again')
    }).finally(() => { this.#running = null })
  }

  #mark (tenant: string, id: string): void {
    const { bell, following } = this.#options
    // Of more, the comparison with the registry finds the rest. Before it follows, the fill is still to come.
    if ((bell === null || this.#holds) && following() && this.#dirty.size < 2 * dirtyMax) this.#dirty.add(tenant, id)
  }

  async #look (): Promise<void> {
    const { following, clock } = this.#options
    if (!following() || clock.monotonicMs() < this.#waitUntilMs) return
    await this.#activity.write(clock.monotonicMs())
    this.stats.activity = this.#activity.written
    if (!await this.#claim()) return
    if (clock.monotonicMs() >= this.#checkMs) await this.#check()
    if (this.#state.positions === null) return
    const begunMs = clock.monotonicMs()
    await this.#follow()
    // The stores belong first to those who change what is read here: the longer a look took, the more changes share the next one.
    const tookMs = clock.monotonicMs() - begunMs
    if (tookMs > longLookMs) this.#waitUntilMs = clock.monotonicMs() + Math.min(pauseMsMax, 3 * tookMs)
    await this.#findStrays()
    await this.#save(false)
  }

  /** Whether this node projects. */
  async #claim (): Promise<boolean> {
    const { store, owner, clock, leaseMs = 10_000 } = this.#options
    const nowMs = clock.monotonicMs()
    if (nowMs >= this.#renewMs) {
      const claim = await store.takeClaim(claimName, owner, leaseMs)
      this.#renewMs = nowMs + leaseMs / 4
      if (claim === null) {
        this.#heldUntilMs = 0
        return false
      }
      if (claim.epoch !== this.#epoch || this.#heldUntilMs === 0) {
        this.#epoch = claim.epoch
        this.#usableMs = this.#options.bell === null ? nowMs : nowMs + clocksDifferMs
        this.#checkMs = 0
        this.#strayMs = nowMs + straySoonMs
        this.#state = await readState(store)
        this.#saved = JSON.stringify(this.#state)
      }
      this.#heldUntilMs = nowMs + leaseMs
    }
    return this.#holds && clock.monotonicMs() >= this.#usableMs
  }

  /** Whether what is in the tables is what this installation filled them with, and nothing was missed since; else they are filled anew. */
  async #check (): Promise<void> {
    const { store, search, clock, log } = this.#options
    const wanted = await wantedFill(store)
    const inTables = await search.getFilled()
    this.#checkMs = clock.monotonicMs() + checkEveryMs
    const { filled, upTo, positions, fill } = this.#state
    const missed = upTo < clock.nowUs() - eventsKeptUs + usPerHour
    const whole = positions !== null && !missed && filled > 0 && inTables !== null && inTables >= filled
    if (whole && fill === null && wanted <= filled) return
    if (this.#fill.running !== null) return
    const goesOn = positions !== null && !missed && fill !== null && wanted <= fill.stamp ? fill : null
    if (goesOn === null) {
      // From here on events are followed; what was before them comes by the fill.
      const ends = await Promise.all(Array.from({ length: eventLanes }, async (_, lane) => await store.endOfEvents(lane)))
      const kept = positions !== null && !missed
      this.#state = { ...this.#state, positions: kept ? positions : ends, upTo: kept ? upTo : clock.nowUs() - store.settleMs * usPerMs, filled: whole ? filled : 0, fill: this.#fill.begin() }
      await this.#save(true)
    }
    const from = this.#state.fill as FillState
    this.stats.fills++
    log.info({ from: from.devices }, 'search is filled from the store')
    this.#fill.run(from, fill => { this.#state = { ...this.#state, fill } })
      .then(async () => {
        await search.putFilled(from.stamp)
        this.#state = { ...this.#state, filled: from.stamp, fill: null }
        await this.#save(true)
        log.info({ devices: this.#fill.devices }, 'search is filled')
      })
      .catch((error: Error) => {
        this.#checkMs = clock.monotonicMs() + retryMs
        log.debug({ error: error.message }, 'filling search waits; it goes on')
      })
  }

  async #follow (): Promise<void> {
    const { store, clock } = this.#options
    const nowMs = clock.monotonicMs()
    const startedUs = clock.nowUs()
    const lanes = store.settleMs > 0 || nowMs >= this.#allLanesMs ? Array.from({ length: eventLanes }, (_, lane) => lane) : [...this.#told]
    if (nowMs >= this.#allLanesMs) this.#allLanesMs = nowMs + allLanesEveryMs
    for (const lane of lanes) this.#told.delete(lane)
    const positions = [...this.#state.positions as readonly string[]]
    let atEnd = true
    try {
      await Promise.all(lanes.map(async lane => {
        while (this.#dirty.size < dirtyMax) {
          const { events, position } = await store.readEvents(lane, positions[lane], eventsPerRead)
          positions[lane] = position
          this.stats.events += events.length
          for (const { event } of events) if (event.device !== '' && concerns(event.type)) this.#dirty.add(event.tenant, event.device)
          if (events.length < eventsPerRead) return
        }
        atEnd = false
        this.#told.add(lane)
      }))
      await this.#flush()
    } catch (error) {
      // Read again from the positions of before.
      for (const lane of lanes) this.#told.add(lane)
      throw error
    }
    this.#state = { ...this.#state, positions, upTo: atEnd ? Math.max(this.#state.upTo, startedUs - store.settleMs * usPerMs) : this.#state.upTo }
  }

  async #flush (): Promise<void> {
    for (let some = this.#dirty.take(devicesPerWrite); some !== null; some = this.#dirty.take(devicesPerWrite)) {
      try {
        await this.#project(some.tenant, some.ids)
      } catch (error) {
        for (const id of some.ids) this.#dirty.add(some.tenant, id)
        throw error
      }
      // The claim is renewed by the next look: a long backlog is written in parts.
      if (this.#options.clock.monotonicMs() >= this.#renewMs && !await this.#claim()) throw new Error('another node projects now')
    }
  }

  async #project (tenant: string, ids: readonly string[]): Promise<void> {
    const { reader, search, stampNow } = this.#options
    const readAt = stampNow()
    const records = await reader.read(tenant, ids)
    await search.putTwins(ids.map((id, i) => ({ tenant, id, readAt, record: records[i] })))
    this.stats.rows += ids.length
    this.stats.writes++
  }

  async #fillPage (tenant: string, ids: readonly string[]): Promise<void> {
    if (!this.#holds) throw new Error('another node projects now')
    await this.#project(tenant, ids)
  }

  async #findStrays (): Promise<void> {
    const nowMs = this.#options.clock.monotonicMs()
    if (nowMs < this.#strayMs || this.#state.filled === 0) return
    this.#strayMs = nowMs + strayEveryMs
    const strays = await this.#options.search.strayTwins(strayMax)
    this.stats.strays += strays.length
    for (const { tenant, device } of strays) this.#mark(tenant, device)
  }

  async #save (now: boolean): Promise<void> {
    const nowMs = this.#options.clock.monotonicMs()
    if (!now && nowMs < this.#saveMs) return
    this.#saveMs = nowMs + saveEveryMs
    // Where nobody else looks, that time went by is worth a write once an hour.
    const text = JSON.stringify(this.#options.bell === null ? { ...this.#state, upTo: Math.floor(this.#state.upTo / usPerHour) } : this.#state)
    if (!now && text === this.#saved) return
    await writeState(this.#options.store, this.#state)
    this.#saved = text
  }
}

function concerns (type: string): boolean {
  return type.startsWith('twin.') || type === 'device.connected' || type === 'device.disconnected'
}
