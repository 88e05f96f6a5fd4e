/**
 * Brings desired state and deltas to devices: first thing when they connect, and at once when a twin changes, on whichever node (DESIGN
 * 3.6). What could not be read because the store is away is looked at again until it could; what another node rang while it could not be
 * heard, when it can.
 */
import type { DeviceBell } from '../core/device-bell.js'
import type { Log } from '../core/log.js'
import type { DeviceLink, DeviceSessions } from './device-link.js'
import { isEmpty } from './json-merge.js'
import { LinkTwins } from './link-twins.js'
import type { TwinChanged, Twins } from './twin-model.js'

export interface TwinDeliveryOptions {
  readonly twins: Pick<Twins, 'get' | 'onChanged'>
  readonly bell: DeviceBell
  readonly log: Log
  /** Pause before the store is asked again, ms; default 500. */
  readonly againMs?: number
}

const againDefaultMs = 500
/** Connections that are looked at in one go after an outage. */
const looksPerTurn = 200
const turnPauseMs = 50

export class TwinDelivery implements DeviceSessions {
  readonly #options: TwinDeliveryOptions
  /** By device, then by connection. */
  readonly #links = new Map<string, Map<string, LinkTwins>>()
  readonly #stops: (() => void)[] = []
  readonly #timers = new Set<NodeJS.Timeout>()
  /** Connections whose twins could not be read. */
  readonly #failed = new Set<LinkTwins>()
  /** This process is ringing: it knows already. */
  #ringing = false
  #closed = false
  readonly stats = { links: 0, desired: 0, deltas: 0, faults: 0 }

  constructor (options: TwinDeliveryOptions) {
    this.#options = options
  }

  open (): void {
    const { twins, bell } = this.#options
    this.#stops.push(
      twins.onChanged(changed => { this.#changed(changed) }),
      bell.onRing((tenant, device, reason, name) => { if (reason === 'twin' && !this.#ringing) this.#look(tenant, device, name) }),
      bell.onRelinked(() => { this.#relinked() })
    )
  }

  close (): void {
    this.#closed = true
    for (const stop of this.#stops.splice(0)) stop()
    for (const timer of this.#timers) clearTimeout(timer)
    this.#timers.clear()
    this.#links.clear()
    this.#failed.clear()
    this.stats.links = 0
  }

  ready (link: DeviceLink): void {
    if (this.#closed || !link.open) return
    const key = keyOf(link.tenant, link.device)
    let links = this.#links.get(key)
    if (links === undefined) this.#links.set(key, links = new Map())
    let twins = links.get(link.connection)
    if (twins === undefined) {
      twins = this.#linkTwins(link)
      links.set(link.connection, twins)
      this.stats.links++
    }
    twins.resubscribed()
    this.#lookAll(twins)
  }

  ended (link: DeviceLink): void {
    const key = keyOf(link.tenant, link.device)
    const links = this.#links.get(key)
    if (links === undefined || !links.delete(link.connection)) return
    this.stats.links--
    if (links.size === 0) this.#links.delete(key)
  }

  #linkTwins (link: DeviceLink): LinkTwins {
    const { tenant, device } = link
    const twins: LinkTwins = new LinkTwins({
      link,
      read: async name => await this.#options.twins.get({ tenant, device, name }),
      onSent: topic => { if (topic === 'desired') this.stats.desired++; else this.stats.deltas++ },
      onFault: error => { this.#again(twins, error) }
    })
    return twins
  }

  /** The device's own twin, and the named ones that it names. */
  #lookAll (twins: LinkTwins): void {
    const { tenant, device } = twins.link
    twins.look('', null)
    this.#options.twins.get({ tenant, device, name: '' }).then(own => {
      for (const name of own?.names ?? []) if (twins.isSubscribed(name)) twins.look(name, null)
    }, (error: unknown) => { this.#again(twins, error) })
  }

  #again (twins: LinkTwins, error: unknown): void {
    this.stats.faults++
    this.#options.log.debug({ tenant: twins.link.tenant, device: twins.link.device, error: String(error) }, 'a twin could not be read for its device; it is tried again')
    // One look for all faults of a connection, and one timer for all connections: an outage must not make more questions than it found.
    this.#failed.add(twins)
    if (this.#failed.size === 1) this.#later(() => { this.#lookAtFailed() }, this.#options.againMs ?? againDefaultMs)
  }

  #lookAtFailed (): void {
    const failed = [...this.#failed]
    this.#failed.clear()
    this.#lookInTurns(failed)
  }

  #changed (changed: TwinChanged): void {
    const { id: { tenant, device, name }, desired, reported } = changed
    if (!desired && !reported) return
    for (const twins of this.#links.get(keyOf(tenant, device))?.values() ?? []) if (twins.isSubscribed(name)) twins.look(name, changed.twin)
    // A device that does what is desired has no news for itself.
    if (!desired && isEmpty(changed.twin.delta)) return
    this.#ringing = true
    try {
      this.#options.bell.ring(tenant, device, 'twin', name)
    } finally {
      this.#ringing = false
    }
  }

  #look (tenant: string, device: string, name: string): void {
    for (const twins of this.#links.get(keyOf(tenant, device))?.values() ?? []) if (twins.isSubscribed(name)) twins.look(name, null)
  }

  /** All of them, some at a time: thousands of devices must not ask the store at once. */
  #relinked (): void {
    this.#lookInTurns([...this.#links.values()].flatMap(links => [...links.values()]))
  }

  #lookInTurns (waiting: LinkTwins[]): void {
    const turn = (): void => {
      for (const twins of waiting.splice(0, looksPerTurn)) if (twins.link.open) this.#lookAll(twins)
      if (waiting.length > 0) this.#later(turn, turnPauseMs)
    }
    turn()
  }

  #later (action: () => void, ms: number): void {
    if (this.#closed) return
    const timer = setTimeout(() => {
      this.#timers.delete(timer)
      action()
    }, ms)
    timer.unref()
    this.#timers.add(timer)
  }
}

function keyOf (tenant: string, device: string): string {
  return `${tenant}\0${device}`
}
