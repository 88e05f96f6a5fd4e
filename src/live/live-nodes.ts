/**
 * Live readings of a cluster: this node tells the others what is watched through it, each of them sends what it packs of that, and
 * says when it has begun to. A node that was not heard for `silentMsMax` counts as gone.
 *
 * While the others cannot be heard, or one does not answer in time, that is a gap, and watchers are told so: nothing is kept.
 */
import type { Clock } from '../core/clock.js'
import type { Log } from '../core/log.js'
import type { LiveBus } from '../store/live-bus.js'
import type { LiveFilter, LiveGroup, LiveReadings, WantedReadings } from '../../workers/live-protocol.js'
import { WantTable } from './want-table.js'

/** `alive` is the heartbeat; `ask` wants the wants of a version that is not known; `seen` says that they are in force. */
type Message =
  | { readonly kind: 'alive', readonly from: string, readonly version: number }
  | { readonly kind: 'ask', readonly from: string }
  | { readonly kind: 'wants', readonly from: string, readonly version: number, readonly wanted: WantedReadings }
  | { readonly kind: 'seen', readonly from: string, readonly version: number }
  | { readonly kind: 'readings', readonly from: string, readonly readings: LiveReadings }
  | { readonly kind: 'gone', readonly from: string }

/** Another node, as a target of readings packed here. */
export class Peer {
  readonly id: string
  heardMs = 0
  /** Version of its wants that is in force here. */
  version = -1
  /** Version of our wants that it has confirmed. */
  seen = -1
  wants: readonly (readonly [tenant: string, device: string | null, filter: LiveFilter])[] = []
  groups: LiveGroup[] = []
  lossy: string[] = []

  constructor (id: string) { this.id = id }
}

export interface LiveNodesOptions {
  readonly bus: LiveBus
  readonly clock: Clock
  readonly log: Log
  /** What is watched through this node. */
  readonly own: { readonly version: number, wanted(devicesMax: number): WantedReadings }
  /** What the other nodes want has changed: resolves when every slice is looked through for it. */
  readonly changed: () => Promise<unknown>
  /** Readings packed elsewhere. */
  readonly received: (readings: LiveReadings) => void
  /** Readings of other nodes may be missing from here on, or are not missing any more. */
  readonly gap: (began: boolean) => void
  readonly heartbeatMs?: number
}

const heartbeatMsDefault = 2000
/** Heartbeats without hearing of a node (or of oneself) after which it is gone (the connection counts as broken). */
const heartbeatsMissedMax = 3
/** Devices of one tenant and filter that are announced by name. */
const devicesAnnouncedMax = 5000

export class LiveNodes {
  readonly #options: LiveNodesOptions
  readonly #peers = new Map<string, Peer>()
  /** What the other nodes want of this one. */
  readonly wants = new WantTable<Peer>()
  readonly #heartbeatMs: number
  #up = false
  /** The link has been up: before, nothing can be missing. */
  #wasUp = false
  #heardSelfMs = 0
  #timer: NodeJS.Timeout | null = null
  #waiters: (() => void)[] = []
  #announced = -1
  #announcing: Promise<void> | null = null
  readonly stats = { nodes: 0, sent: 0, received: 0, unsent: 0, links: 0 }

  constructor (options: LiveNodesOptions) {
    this.#options = options
    this.#heartbeatMs = options.heartbeatMs ?? heartbeatMsDefault
  }

  get up (): boolean { return this.#up }

  open (): void {
    const { bus, clock } = this.#options
    this.#heardSelfMs = clock.monotonicMs()
    this.#timer = setInterval(() => { this.#beat() }, this.#heartbeatMs)
    bus.open({ link: up => { this.#link(up) }, message: text => { this.#message(text) } })
  }

  #link (up: boolean): void {
    if (this.#up === up) return
    this.#up = up
    this.#heardSelfMs = this.#options.clock.monotonicMs()
    if (up) {
      this.stats.links++
      // What was announced before may have been heard by nobody.
      this.#announced = -1
      void this.#say(null, { kind: 'alive', from: this.#id, version: this.#options.own.version })
      void this.announce(0)
      if (this.#wasUp) this.#options.gap(false)
      this.#wasUp = true
    } else {
      for (const peer of this.#peers.values()) peer.seen = -1
      this.#options.gap(true)
    }
    this.#wake()
  }

  get #id (): string { return this.#options.bus.nodeId }

  async #say (to: string | null, message: Message): Promise<boolean> {
    const sent = await this.#options.bus.send(to, JSON.stringify(message))
    if (sent) this.stats.sent++
    else this.stats.unsent++
    return sent
  }

  #beat (): void {
    const { clock, own } = this.#options
    const nowMs = clock.monotonicMs()
    void this.#say(null, { kind: 'alive', from: this.#id, version: own.version })
    const silentMsMax = this.#heartbeatMs * heartbeatsMissedMax
    for (const peer of this.#peers.values()) if (this.#up && nowMs - peer.heardMs > silentMsMax) this.#forget(peer)
    // The connection is there and carries nothing.
    if (this.#up && nowMs - this.#heardSelfMs > silentMsMax) this.#link(false)
  }

  #forget (peer: Peer): void {
    this.#peers.delete(peer.id)
    this.#want(peer, [])
    this.stats.nodes = this.#peers.size
    void this.#options.changed()
    this.#wake()
  }

  #message (text: string): void {
    let message: Message
    try {
      message = JSON.parse(text) as Message
    } catch (error) {
      this.#options.log.error({ error: (error as Error).message }, 'a message of another node about live readings could not be read')
      return
    }
    if (message.from === this.#id) {
      this.#heardSelfMs = this.#options.clock.monotonicMs()
      if (!this.#up) this.#link(true)
      return
    }
    this.#fromPeer(message, this.#peer(message.from))
  }

  #peer (id: string): Peer {
    let peer = this.#peers.get(id)
    if (peer === undefined) {
      this.#peers.set(id, peer = new Peer(id))
      this.stats.nodes = this.#peers.size
      void this.#say(id, { kind: 'alive', from: this.#id, version: this.#options.own.version })
    }
    peer.heardMs = this.#options.clock.monotonicMs()
    return peer
  }

  #fromPeer (message: Message, peer: Peer): void {
    switch (message.kind) {
      case 'alive':
        if (message.version !== peer.version) void this.#say(peer.id, { kind: 'ask', from: this.#id })
        return
      case 'ask':
        void this.#say(peer.id, this.#ownWants())
        return
      case 'wants':
        void this.#peerWants(peer, message.version, message.wanted)
        return
      case 'seen':
        peer.seen = message.version
        this.#wake()
        return
      case 'readings':
        this.stats.received += message.readings.groups.length
        this.#options.received(message.readings)
        return
      case 'gone':
        this.#forget(peer)
    }
  }

  #ownWants (): Message {
    const { own } = this.#options
    return { kind: 'wants', from: this.#id, version: own.version, wanted: own.wanted(devicesAnnouncedMax) }
  }

  async #peerWants (peer: Peer, version: number, { filters, tenants }: WantedReadings): Promise<void> {
    if (version < peer.version) return
    const wants: (readonly [string, string | null, LiveFilter])[] = []
    for (const [tenant, all, devices] of tenants) {
      for (const filter of all) wants.push([tenant, null, filters[filter]])
      for (const [device, own] of devices) for (const filter of own) wants.push([tenant, device, filters[filter]])
    }
    this.#want(peer, wants)
    peer.version = version
    await this.#options.changed()
    if (peer.version === version) void this.#say(peer.id, { kind: 'seen', from: this.#id, version })
  }

  #want (peer: Peer, wants: Peer['wants']): void {
    const before = peer.wants
    // What stays is added first, so that it never counts as not wanted.
    for (const [tenant, device, filter] of wants) this.wants.add(tenant, device, filter, peer)
    const kept = new Set(wants.map(([tenant, device, filter]) => `${tenant}\0${device ?? ''}\0${filter.key}`))
    for (const [tenant, device, filter] of before) {
      if (!kept.has(`${tenant}\0${device ?? ''}\0${filter.key}`)) this.wants.remove(tenant, device, filter, peer)
    }
    peer.wants = wants
  }

  /** Tells the others what is watched here. True when all of them have it in force; false where one does not say so in time. */
  async announce (timeoutMs: number): Promise<boolean> {
    const { own, clock } = this.#options
    const { version } = own
    if (!this.#up) return false
    const deadlineMs = clock.monotonicMs() + timeoutMs
    // Announcements that gather while one is under way are the next one.
    do {
      this.#announcing ??= this.#announceNow().finally(() => { this.#announcing = null })
      await this.#announcing
    } while (this.#announced < version && this.#up && clock.monotonicMs() < deadlineMs)
    while (this.#up && [...this.#peers.values()].some(peer => peer.seen < version)) {
      const leftMs = deadlineMs - clock.monotonicMs()
      if (leftMs <= 0) return false
      await new Promise<void>(resolve => {
        const timer = setTimeout(resolve, leftMs)
        this.#waiters.push(() => { clearTimeout(timer); resolve() })
      })
    }
    return this.#up
  }

  async #announceNow (): Promise<void> {
    const message = this.#ownWants()
    if (this.#announced >= this.#options.own.version) return
    if (await this.#say(null, message)) this.#announced = Math.max(this.#announced, (message as { version: number }).version)
    else await new Promise<void>(resolve => { setTimeout(resolve, 50) })
  }

  #wake (): void {
    const waiters = this.#waiters
    this.#waiters = []
    for (const wake of waiters) wake()
  }

  /** Sends what was packed here to the nodes that want it. */
  forward ({ groups, lossy }: LiveReadings): void {
    if (this.wants.empty) return
    const wanting = new Set<Peer>()
    for (const group of groups) this.wants.eachTarget(group, peer => { peer.groups.push(group); wanting.add(peer) })
    for (const tenant of lossy) this.wants.eachTargetOfTenant(tenant, peer => { peer.lossy.push(tenant); wanting.add(peer) })
    for (const peer of wanting) this.#send(peer)
  }

  #send (peer: Peer): void {
    const readings: LiveReadings = { groups: peer.groups, lossy: peer.lossy }
    peer.groups = []
    peer.lossy = []
    void this.#say(peer.id, { kind: 'readings', from: this.#id, readings }).then(sent => {
      // The next message says what was lost with this one.
      if (!sent) peer.lossy = [...new Set([...peer.lossy, ...readings.lossy, ...readings.groups.map(group => group.tenant)])]
    })
  }

  async close (): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer)
    if (this.#up) await this.#say(null, { kind: 'gone', from: this.#id })
    this.#up = false
    this.#wake()
    await this.#options.bus.close()
  }
}
