/**
 * Hands commands to one connection: marks them as sent, durably, and only then gives them to the socket; looks at the clock again right
 * before (INVARIANTS 6: none is handed over at or after its deadline), and takes "sent" back where nothing was handed over. At most
 * `windowMax` are under way without the client's acknowledgement.
 */
import type { Clock } from '../core/clock.js'
import { inParallel } from '../core/in-parallel.js'
import { TwinfoldError } from '../core/errors.js'
import type { Log } from '../core/log.js'
import type { DeviceLink } from '../twin/device-link.js'
import type { BookDraft } from './book.js'
import type { BookKeeper } from './book-keeper.js'
import type { Command } from './command.js'
import { markSent, messageOf, nextCommands, requestTopic, type HandOver } from './hand-over.js'

export const windowMax = 10
const retryMsMax = 5000
/** How long it may take until it is written down that the client has acknowledged: the answer, or the next command, shares the commit. */
const deliveredWaitMs = 30
/** Of more, those that are not pending are forgotten. */
const handedMax = 256
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

/** A command, and when it was written down as sent on this connection, µs. */
interface AttemptOf { readonly id: string, readonly at: number }

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
  /** Given to this socket, or withheld from it: the time of the attempt, by id. About as many as are pending of the device. */
  readonly #handed = new Map<string, number>()
  /** Whether "sent" was written down is not known: when the connection ends before it is, it is looked up. */
  #unsure = false
  /** Marked in drafts and not handed over yet; of one whose deadline comes before the look-up, this alone tells. */
  readonly #doubtful = new Set<string>()
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

  /**
   * In a draft of the device's book: marks as sent what goes out on this connection now, at most what its window has room for. They are
   * to be given to `handOver` when the draft is committed; where that is not known, `doubt` it. None before it is known what was sent earlier.
   */
  mark (draft: BookDraft): Command[] {
    if (this.#earlier === null || this.#unsure || !this.#options.link.open || this.#options.stopped()) return []
    const marked = markSent(draft, this.#next(draft.pending.values()))
    for (const { id } of marked) this.#doubtful.add(id)
    return marked
  }

  /** Whether what was marked was committed is not known: it is looked up. */
  doubt (): void {
    this.#unsure = true
    this.wake()
  }

  /** The connection has ended. */
  end (): void {
    const { keeper, link } = this.#options
    // The next connection may be at another node: it must know of what was acknowledged.
    keeper.hurry(link.tenant, link.device)
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
      const marked = await this.#marked()
      this.#unsure = false
      await this.handOver(marked)
    }
    if (!link.open || nextCommands(book.pending.values(), this.#next(book.pending.values()), clock.nowUs()).length === 0) return
    let commands: Command[]
    try {
      commands = await keeper.apply(link.tenant, link.device, { sync: true, run: draft => this.mark(draft) })
    } catch (error) {
      this.#unsure = true
      throw error
    }
    await this.handOver(commands)
    // There may be more than the window, or than this step saw.
    this.#again ||= commands.length > 0
  }

  /** What may go out now: what was marked and waits for its commit counts as under way. */
  #next (pending: Iterable<Command>): HandOver {
    const { link } = this.#options
    const marked = [...pending].filter(command => this.#isMarked(command)).length
    return {
      connection: link.connection,
      via: 'mqtt',
      limit: Math.max(0, windowMax - this.#inFlight - marked),
      wanted: command => link.grantedQos(requestTopic(link.device, command)) >= 0,
      again: id => this.#earlier?.has(id) === true
    }
  }

  /** Sent on this connection, as it is written down, and neither handed over nor withheld yet. */
  #isMarked ({ id, attempts }: Command): boolean {
    return attempts.some(({ connection, at }) => connection === this.#options.link.connection && this.#handed.get(id) !== at)
  }

  /** Sent on this connection by a commit whose outcome was not known: nothing was handed over for it. */
  async #marked (): Promise<Command[]> {
    const { link, keeper } = this.#options
    const { pending } = await keeper.read(link.tenant, link.device, true)
    const ended = await inParallel([...this.#doubtful].filter(id => !pending.has(id)), async id => await keeper.command(link.tenant, link.device, id))
    this.#doubtful.clear()
    return [...pending.values(), ...ended.filter(command => command !== null)].filter(command => this.#isMarked(command))
  }

  /** After the end of the connection. What cannot be done here is done at the next one's begin. */
  async #settle (): Promise<void> {
    const { link, keeper, isConnected } = this.#options
    if (this.#unsure) {
      await this.handOver(await this.#marked())
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

  /** Hands over what was marked and is committed; at once, in the order of the calls. Never rejects. */
  async handOver (commands: readonly Command[]): Promise<void> {
    const { link, clock, stats } = this.#options
    const withheld: AttemptOf[] = []
    for (const command of commands) {
      // A look after a commit in doubt may have found it first.
      if (!this.#isMarked(command)) continue
      const attempt = command.attempts.find(({ connection }) => connection === link.connection)
      const handed = { id: command.id, at: attempt?.at ?? 0 }
      this.#handed.set(handed.id, handed.at)
      this.#doubtful.delete(handed.id)
      const topic = requestTopic(link.device, command)
      const qos = link.grantedQos(topic)
      const message = messageOf(command)
      if (!link.open || qos < 0 || clock.nowUs() >= command.expiresAt) {
        withheld.push(handed)
        continue
      }
      stats.handedOver++
      this.#inFlight++
      void link.send(topic, message, qos === 1 ? 1 : 0).then(outcome => { this.#done(handed, outcome) })
    }
    if (this.#handed.size > handedMax) this.#forgetHanded()
    if (withheld.length === 0) return
    await this.#change(withheld, 'withheld')
    // Wanted while connected only, and nobody is: that is said by the next look.
    this.wake()
  }

  /** The book in memory has every command that this process has handed over and that is still pending. */
  #forgetHanded (): void {
    if (!this.#unsure && this.#doubtful.size > handedMax) this.#doubtful.clear()
    const book = this.#options.keeper.peek(this.#options.link.tenant, this.#options.link.device)
    if (book !== undefined) for (const id of this.#handed.keys()) if (!book.pending.has(id)) this.#handed.delete(id)
  }

  #done (handed: AttemptOf, outcome: 'acked' | 'written' | 'lost'): void {
    const { stats } = this.#options
    this.#inFlight--
    if (outcome === 'lost') stats.lost++
    if (outcome === 'acked') {
      stats.delivered++
      void this.#change([handed], 'delivered')
    }
    this.wake()
  }

  /** Tried until the store takes it: what is known must not be lost while the process lives. */
  async #change (handed: readonly AttemptOf[], kind: 'delivered' | 'withheld'): Promise<void> {
    const { link, keeper, clock, stats, log } = this.#options
    const at = clock.nowUs()
    if (kind === 'withheld') stats.withheld += handed.length
    for (let delayMs = 50; ; delayMs = Math.min(retryMsMax, delayMs * 2)) {
      try {
        await keeper.apply(link.tenant, link.device, {
          ids: handed.map(({ id }) => id),
          sync: kind === 'withheld',
          waitMs: kind === 'delivered' && link.open ? deliveredWaitMs : 0,
          run: draft => {
            // A try whose outcome was lost may have been made, and the command marked for this connection anew.
            const same = handed.filter(({ id, at }) => draft.command(id)?.attempts.some(attempt => attempt.connection === link.connection && attempt.at === at))
            for (const { id } of same) draft.change(id, { kind, at, connection: link.connection })
          }
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
