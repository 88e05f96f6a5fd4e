/**
 * The connections of this process that commands may go out on. A device may have several (its own and its gateway's): a command goes out
 * on one of them. Bounded by the connections that the MQTT stage accepts.
 */
import type { DeviceLink, DeviceSessions } from '../twin/device-link.js'
import type { Clock } from '../core/clock.js'
import type { Log } from '../core/log.js'
import type { BookDraft } from './book.js'
import type { BookKeeper } from './book-keeper.js'
import type { Command } from './command.js'
import { LinkDelivery, type DeliveryStats } from './link-delivery.js'

export interface CommandDeliveryOptions {
  readonly keeper: BookKeeper
  readonly clock: Clock
  readonly log: Log
}

/** Marked as sent in a draft, by the connection that it goes out on. */
export type Marked = readonly { readonly on: LinkDelivery, readonly commands: readonly Command[] }[]

export class CommandDelivery implements DeviceSessions {
  readonly stats: DeliveryStats = { links: 0, handedOver: 0, delivered: 0, withheld: 0, lost: 0, failures: 0 }
  readonly #options: CommandDeliveryOptions
  /** By device, then by connection. */
  readonly #devices = new Map<string, Map<string, LinkDelivery>>()
  #stopped = false

  constructor (options: CommandDeliveryOptions) {
    this.#options = options
  }

  ready (link: DeviceLink): void {
    if (this.#stopped || !link.open) return
    const id = `${link.tenant}\0${link.device}`
    const links = this.#devices.get(id) ?? new Map<string, LinkDelivery>()
    this.#devices.set(id, links)
    let delivery = links.get(link.connection)
    if (delivery === undefined) {
      const { keeper, clock, log } = this.#options
      delivery = new LinkDelivery({ link, keeper, clock, log, isOpen: connection => links.has(connection), isConnected: () => this.has(link.tenant, link.device), readyAt: clock.nowUs(), stopped: () => this.#stopped, stats: this.stats })
      links.set(link.connection, delivery)
      this.stats.links++
    }
    delivery.wake()
  }

  ended (link: DeviceLink): void {
    const id = `${link.tenant}\0${link.device}`
    const links = this.#devices.get(id)
    const delivery = links?.get(link.connection)
    if (links === undefined || delivery === undefined) return
    links.delete(link.connection)
    this.stats.links--
    if (links.size === 0) this.#devices.delete(id)
    delivery.end()
    // What went out on the one that ended may go out on another.
    for (const other of links.values()) other.wake()
  }

  has (tenant: string, device: string): boolean {
    return this.#devices.has(`${tenant}\0${device}`)
  }

  isOpen (tenant: string, device: string, connection: string): boolean {
    return this.#devices.get(`${tenant}\0${device}`)?.has(connection) === true
  }

  wake (tenant: string, device: string): void {
    const links = this.#devices.get(`${tenant}\0${device}`)
    if (links !== undefined) for (const delivery of links.values()) delivery.wake()
  }

  /**
   * In a draft that adds a command: marks what goes out at once, so that "queued" and "sent" are one commit. What has more priority or is
   * older goes first, and what the windows have no room for stays queued.
   */
  mark (tenant: string, device: string, draft: BookDraft): Marked {
    const links = this.#devices.get(`${tenant}\0${device}`)
    if (links === undefined) return []
    return [...links.values()].flatMap(on => {
      const commands = on.mark(draft)
      return commands.length === 0 ? [] : [{ on, commands }]
    })
  }

  /** The draft is committed (INVARIANTS 6): to the sockets. */
  handOver (marked: Marked): void {
    for (const { on, commands } of marked) void on.handOver(commands)
  }

  /** Whether the draft was committed is not known. */
  doubt (marked: Marked): void {
    for (const { on } of marked) on.doubt()
  }

  /** Rings may have been missed. */
  wakeAll (forget: (tenant: string, device: string) => void): void {
    for (const [id, links] of this.#devices) {
      const [tenant, device] = id.split('\0')
      forget(tenant, device)
      for (const delivery of links.values()) delivery.wake()
    }
  }

  stop (): void {
    this.#stopped = true
    for (const links of this.#devices.values()) for (const delivery of links.values()) delivery.close()
    this.#devices.clear()
  }
}
