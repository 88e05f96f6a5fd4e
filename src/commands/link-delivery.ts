/**
 * Hands commands to one connection: marks them as sent, durably, and only then gives them to the socket; looks at the clock again right
 * before (INVARIANTS 6: none is handed over at or after its deadline), and takes "sent" back where nothing was handed over. At most
 * `windowMax` are under way without the client's acknowledgement.
 */
import type { Clock } from '../core/clock.js'
import { TwinfoldError } from '../core/errors.js'
import type { Log } from '../core/log.js'
import type { DeviceLink } from '../twin/device-link.js'
import type { BookKeeper } from './book-keeper.js'
import type { Command } from './command.js'
import { markSent, messageOf, nextCommands, requestTopic, type HandOver } from './hand-over.js'

export const windowMax = 10
const retryMsMax = 5000
/** Made a moment before the connection was seen here (by another node's clock): it counts as made for it. */
const clockDifferenceUsMax = 1e6

export interface LinkDeliveryOptions {
  readonly link: DeviceLink
  readonly keeper: BookKeeper
  readonly clock: Clock
  readonly log: Log
  /** Another connection of this process that is open. */
  readonly isOpen: (connection: string) => boolean
  /** The device has a connection to this process. */
  readonly isConnected: () => boolean
  /** When the connection was accepted here, µs. */
  readonly readyAt: number
  /** The service is closing: nothing is tried again. */
  readonly stopped: () => boolean
  readonly stats: DeliveryStats
}

export interface DeliveryStats { links: number, handedOver: number, delivered: number, withheld: number, lost: number, failures: number }

function isForConnection ({ delivery, attempts }: Command): boolean {
  return delivery === 'ifConnected' && attempts.length === 0
}

export class LinkDelivery {
  readonly #options: LinkDeliveryOptions
  /** Under way without an acknowledgement. */
  #inFlight = 0
  #running = false
  #again = false
  #retryMs = 50
  #retry: NodeJS.Timeout | undefined
  /** Given to this socket; bounded by the pending commands of the device while the connection lasts. */
  readonly #handed = new Set<string>()
  /** Whether "sent" was written down is not known: when the connection ends before it is, it is looked up. */
  #unsure = false
  /** Something waits that is wanted only while the device is connected. */
  #whileConnected = false
  /** Sent before this connection, on ones that are gone; null: not looked yet. */
  #earlier: ReadonlySet<string> | null = null

  constructor (options: LinkDeliveryOptions) {
    this.#options = options
  }

  /** There may be something to hand over. Never waits, never throws. */
  wake (): void {
    this.#again = true
    if (!this.#running) void this.#run()
  }

  /** The connection has ended. */
  end (): void {
    if (!this.#running) void this.#run()
  }

  close (): void {
    clearTimeout(this.#retry)
  }

  async #run (): Promise<void> {
    const { link, log, stats, stopped } = this.#options
    this.#running = true
    clearTimeout(this.#retry)
    try {
      while (this.#again && link.open && !stopped()) {
        this.#again = false
        await this.#step()
        this.#retryMs = 50
      }
      if (!link.open && !stopped()) await this.#settle()
    } catch (error) {
      stats.failures++
      if (!(error instanceof TwinfoldError && error.code === 'store_unavailable')) log.error({ error, tenant: link.tenant, device: link.device }, 'commands could not be handed over; it is tried again')
      this.#retry = setTimeout(() => { this.wake() }, this.#retryMs).unref()
      this.#retryMs = Math.min(retryMsMax, this.#retryMs * 2)
    }
    this.#running = false
  }

  async #step (): Promise<void> {
    const { link, keeper, clock } = this.#options
    const book = await keeper.read(link.tenant, link.device, this.#earlier === null)
    if (this.#earlier === null) await this.#begin(book.pending.values())
    this.#whileConnected = [...book.pending.values()].some(isForConnection)
    if (this.#unsure) {
      await this.#handOver(await this.#marked())
      this.#unsure = false
    }
    const handOver: HandOver = {
      connection: link.connection,
      via: 'mqtt',
      limit: windowMax - this.#inFlight,
      wanted: command => link.grantedQos(requestTopic(link.device, command)) >= 0,
      again: id => this.#earlier?.has(id) === true
    }
    if (handOver.limit <= 0 || !link.open || nextCommands(book.pending.values(), handOver, clock.nowUs()).length === 0) return
    this.#unsure = true
    const commands = await keeper.apply(link.tenant, link.device, { sync: true, run: draft => markSent(draft, handOver) })
    this.#unsure = false
    await this.#handOver(commands)
    // There may be more than the window, or than this step saw.
    this.#again = true
  }

  /** Sent on this connection by a commit whose outcome was not known: nothing was handed over for it. */
  async #marked (): Promise<Command[]> {
    const { link, keeper } = this.#options
    const { pending } = await keeper.read(link.tenant, link.device, true)
    return [...pending.values()].filter(({ id, attempts }) => !this.#handed.has(id) && attempts.some(({ connection }) => connection === link.connection))
  }

  /** After the end of the connection. What cannot be done here is done at the next one's begin. */
  async #settle (): Promise<void> {
    const { link, keeper, isConnected } = this.#options
    if (this.#unsure) {
      const ids = (await this.#marked()).map(({ id }) => id)
      if (ids.length > 0) await this.#change(ids, 'withheld')
      this.#unsure = false
    }
    // Nothing was wanted only while it is connected, and nothing came up since that was looked at: no question to the store.
    if (!this.#whileConnected && !this.#again) return
    this.#again = false
    this.#whileConnected = false
    const waiting = [...(await keeper.read(link.tenant, link.device, true)).pending.values()].filter(isForConnection).map(({ id }) => id)
    if (waiting.length > 0 && !isConnected()) await this.#notConnected(waiting)
  }

  async #notConnected (ids: readonly string[]): Promise<void> {
    const { link, keeper } = this.#options
    await keeper.apply(link.tenant, link.device, { sync: true, run: draft => { for (const id of ids) draft.change(id, { kind: 'notConnected', at: draft.nowUs }) } })
  }

  /** What was sent on connections that are gone may be sent again; what was only for a connection that is gone is undeliverable. */
  async #begin (pending: Iterable<Command>): Promise<void> {
    const { link, isOpen, readyAt } = this.#options
    const earlier = new Set<string>()
    const missed: string[] = []
    for (const command of pending) {
      const { id, attempts, createdAt } = command
      if (attempts.length > 0 && !attempts.some(({ connection }) => connection === link.connection || isOpen(connection))) earlier.add(id)
      if (isForConnection(command) && createdAt < readyAt - clockDifferenceUsMax) missed.push(id)
    }
    if (missed.length > 0) await this.#notConnected(missed)
    this.#earlier = earlier
  }

  async #handOver (commands: readonly Command[]): Promise<void> {
    const { link, clock, stats } = this.#options
    const withheld: string[] = []
    for (const command of commands) {
      this.#handed.add(command.id)
      const topic = requestTopic(link.device, command)
      const qos = link.grantedQos(topic)
      const message = messageOf(command)
      if (!link.open || qos < 0 || clock.nowUs() >= command.expiresAt) {
        withheld.push(command.id)
        continue
      }
      stats.handedOver++
      this.#inFlight++
      void link.send(topic, message, qos === 1 ? 1 : 0).then(async outcome => { await this.#done(command.id, outcome) })
    }
    if (withheld.length > 0) await this.#change(withheld, 'withheld')
  }

  async #done (id: string, outcome: 'acked' | 'written' | 'lost'): Promise<void> {
    const { stats } = this.#options
    this.#inFlight--
    if (outcome === 'lost') stats.lost++
    if (outcome === 'acked') {
      stats.delivered++
      await this.#change([id], 'delivered')
    }
    this.wake()
  }

  /** Tried until the store takes it: what is known must not be lost while the process lives. */
  async #change (ids: readonly string[], kind: 'delivered' | 'withheld'): Promise<void> {
    const { link, keeper, clock, stats, log } = this.#options
    const at = clock.nowUs()
    if (kind === 'withheld') stats.withheld += ids.length
    for (let delayMs = 50; ; delayMs = Math.min(retryMsMax, delayMs * 2)) {
      try {
        await keeper.apply(link.tenant, link.device, {
          ids,
          sync: kind === 'withheld',
          run: draft => { for (const id of ids) draft.change(id, { kind, at, connection: link.connection }) }
        })
        return
      } catch (error) {
        stats.failures++
        if (this.#options.stopped()) return
        if (!(error instanceof TwinfoldError && error.code === 'store_unavailable')) {
          log.error({ error, tenant: link.tenant, device: link.device }, 'what became of a command could not be written')
          return
        }
        await new Promise(resolve => { setTimeout(resolve, delayMs).unref() })
      }
    }
  }
}
