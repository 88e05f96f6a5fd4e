/**
 * The bell of this process, and of the other nodes where there are some (core/device-bell.ts): a ring goes to the listeners here at once,
 * and with those of the next milliseconds to all other nodes in one message.
 *
 * Bounded: `ringsMax` different rings wait to be sent. What is beyond, or could not be sent, is not kept: the others are told that rings
 * were lost, and look again, as this node does when it hears them again.
 */
import type { BellReason, DeviceBell } from '../core/device-bell.js'
import type { LiveBus } from '../store/live-bus.js'

type Listener = Parameters<DeviceBell['onRing']>[0]
type Ring = readonly [tenant: string, device: string, reason: BellReason, name: string]

interface BellMessage {
  readonly from: string
  readonly rings: readonly Ring[]
  /** Rings before these were lost. */
  readonly lost?: boolean
}

/** Rings of one message. */
const ringsMax = 10_000
const gatherMs = 2
const retryMs = 1000

export class DeviceBells implements DeviceBell {
  readonly #bus: LiveBus | null
  readonly #listeners = new Set<Listener>()
  readonly #relinked = new Set<() => void>()
  #waiting = new Map<string, Ring>()
  #lost = false
  #timer: NodeJS.Timeout | null = null
  #sending = false
  #closed = false
  readonly stats = { rung: 0, sent: 0, heard: 0, lost: 0, relinked: 0 }

  /** @param options.bus null: there are no other nodes. */
  constructor (options: { readonly bus: LiveBus | null }) {
    this.#bus = options.bus
  }

  open (): void {
    this.#bus?.open({
      link: up => { if (up) this.#tellRelinked() },
      message: text => { this.#heard(text) }
    })
  }

  async close (): Promise<void> {
    this.#closed = true
    if (this.#timer !== null) clearTimeout(this.#timer)
    await this.#bus?.close()
  }

  ring (tenant: string, device: string, reason: BellReason, name = ''): void {
    this.stats.rung++
    for (const listener of this.#listeners) listener(tenant, device, reason, name)
    if (this.#bus === null || this.#closed) return
    if (this.#waiting.size < ringsMax) {
      this.#waiting.set(`${tenant}\0${device}\0${reason}\0${name}`, [tenant, device, reason, name])
    } else {
      this.#lost = true
      this.stats.lost++
    }
    this.#schedule(gatherMs)
  }

  onRing (listener: Listener): () => void {
    this.#listeners.add(listener)
    return () => { this.#listeners.delete(listener) }
  }

  onRelinked (listener: () => void): () => void {
    this.#relinked.add(listener)
    return () => { this.#relinked.delete(listener) }
  }

  #schedule (delayMs: number): void {
    if (this.#timer !== null || this.#sending || this.#closed) return
    this.#timer = setTimeout(() => {
      this.#timer = null
      void this.#send()
    }, delayMs).unref()
  }

  async #send (): Promise<void> {
    const bus = this.#bus as LiveBus
    const rings = [...this.#waiting.values()]
    const lost = this.#lost
    this.#waiting = new Map()
    this.#lost = false
    this.#sending = true
    const sent = await bus.send(null, JSON.stringify({ from: bus.nodeId, rings, ...(lost ? { lost } : {}) } satisfies BellMessage))
    this.#sending = false
    if (sent) {
      this.stats.sent += rings.length
      if (this.#waiting.size > 0 || this.#lost) this.#schedule(gatherMs)
    } else {
      this.#lost = true
      this.stats.lost += rings.length
      this.#schedule(retryMs)
    }
  }

  #heard (text: string): void {
    const { from, rings, lost } = parseMessage(text)
    if (from === this.#bus?.nodeId) return
    if (lost === true) this.#tellRelinked()
    this.stats.heard += rings.length
    for (const [tenant, device, reason, name] of rings) for (const listener of this.#listeners) listener(tenant, device, reason, name)
  }

  #tellRelinked (): void {
    this.stats.relinked++
    for (const listener of this.#relinked) listener()
  }
}

/** What cannot be read is what a newer server says: look again. */
function parseMessage (text: string): BellMessage {
  try {
    const { from, rings, lost } = JSON.parse(text) as BellMessage
    return { from, rings: rings.filter(ring => ring.length === 4), lost }
  } catch {
    return { from: '', rings: [], lost: true }
  }
}
