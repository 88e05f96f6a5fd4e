/**
 * What one connection was sent of one device's twins, and what it is to be sent next. For each twin at most one message of each topic is
 * under way; what changes meanwhile is looked at when it is through, so the newest state replaces whatever waited, and no older version
 * follows a newer one.
 */
import { isEmpty } from './json-merge.js'
import type { DeviceLink } from './device-link.js'
import { deltaJson, desiredJson } from './twin-json.js'
import type { TwinView } from './twin-model.js'

export interface LinkTwinsOptions {
  readonly link: DeviceLink
  /** The twin as it is; null: it is not there (any more). Throws where the store does not answer. */
  readonly read: (name: string) => Promise<TwinView | null>
  readonly onSent: (topic: 'desired' | 'delta') => void
  readonly onFault: (error: unknown) => void
}

interface Slot {
  /** Newest state known, null: to be read. */
  view: TwinView | null
  /** There is something to look at. */
  dirty: boolean
  running: boolean
  /** Version of the newest state that was looked at. */
  seen: number
  /** Desired version that was sent, and the delta as text ('' for none); null: nothing was yet. */
  desiredSent: number
  deltaSent: string
  deltaDesiredVersion: number
}

interface Granted { readonly desired: -1 | 0 | 1, readonly delta: -1 | 0 | 1 }

/** Above the names of one device; those of twins that are gone are among them. */
const grantedMax = 200

export class LinkTwins {
  readonly #options: LinkTwinsOptions
  readonly #slots = new Map<string, Slot>()
  /** By twin, since the filters were last offered; bounded by the names of the device's twins. */
  readonly #granted = new Map<string, Granted>()

  constructor (options: LinkTwinsOptions) {
    this.#options = options
  }

  get link (): DeviceLink { return this.#options.link }

  /** The twin may have changed. @param view as it is now, where it is known */
  look (name: string, view: TwinView | null): void {
    let slot = this.#slots.get(name)
    if (slot === undefined) {
      slot = { view: null, dirty: false, running: false, seen: 0, desiredSent: 0, deltaSent: '', deltaDesiredVersion: 0 }
      this.#slots.set(name, slot)
    }
    if (!slot.running && view !== null && this.#isNoNews(name, slot, view)) {
      slot.seen = view.version
      return
    }
    if (view !== null && (slot.view === null || slot.view.version < view.version)) slot.view = view
    // Somebody else changed it: what is known is old.
    if (view === null) slot.view = null
    slot.dirty = true
    if (slot.running) return
    slot.running = true
    void this.#run(name, slot)
  }

  /** What is not subscribed to any more is sent anew when it is again. */
  resubscribed (): void {
    this.#granted.clear()
    for (const [name, slot] of this.#slots) {
      if (this.#qos(name, 'desired') === -1) slot.desiredSent = 0
      if (this.#qos(name, 'delta') === -1) { slot.deltaSent = ''; slot.deltaDesiredVersion = 0 }
    }
  }

  isSubscribed (name: string): boolean {
    const { desired, delta } = this.#grantedTo(name)
    return desired !== -1 || delta !== -1
  }

  /** As most reports of a device that does what is desired: nothing would be sent. */
  #isNoNews (name: string, slot: Slot, view: TwinView): boolean {
    return view.version >= slot.seen && slot.deltaSent === '' && isEmpty(view.delta) && (view.desiredVersion <= slot.desiredSent || this.#grantedTo(name).desired === -1)
  }

  async #run (name: string, slot: Slot): Promise<void> {
    const { link, read, onFault } = this.#options
    try {
      while (slot.dirty && link.open) {
        slot.dirty = false
        const view = slot.view ?? await read(name)
        slot.view = null
        if (view !== null && view.version >= slot.seen && link.open) await this.#send(name, slot, view)
      }
    } catch (error) {
      onFault(error)
    } finally {
      slot.running = false
    }
  }

  async #send (name: string, slot: Slot, view: TwinView): Promise<void> {
    slot.seen = view.version
    const sends: Promise<unknown>[] = []
    const desiredQos = this.#qos(name, 'desired')
    if (desiredQos !== -1 && view.desiredVersion > slot.desiredSent) {
      slot.desiredSent = view.desiredVersion
      sends.push(this.#message(name, 'desired', desiredJson(view), desiredQos))
    }
    const deltaQos = this.#qos(name, 'delta')
    const delta = isEmpty(view.delta) ? '' : JSON.stringify(view.delta)
    // An empty one is told where somebody took back what the device was told before, not where the device did it.
    const takenBack = delta === '' && slot.deltaSent !== '' && view.desiredVersion > slot.deltaDesiredVersion
    if (deltaQos !== -1 && (takenBack || (delta !== '' && (delta !== slot.deltaSent || view.desiredVersion > slot.deltaDesiredVersion)))) {
      slot.deltaDesiredVersion = view.desiredVersion
      sends.push(this.#message(name, 'delta', deltaJson(view), deltaQos))
    }
    if (deltaQos !== -1) slot.deltaSent = delta
    await Promise.all(sends)
  }

  async #message (name: string, topic: 'desired' | 'delta', body: string, qos: 0 | 1): Promise<void> {
    const { link, onSent } = this.#options
    if (await link.send(this.#topic(name, topic), Buffer.from(body), qos) !== 'lost') onSent(topic)
  }

  #topic (name: string, topic: 'desired' | 'delta'): string {
    return `devices/${this.link.device}/twin/${name === '' ? '' : `${name}/`}${topic}`
  }

  #qos (name: string, topic: 'desired' | 'delta'): -1 | 0 | 1 {
    return this.#grantedTo(name)[topic]
  }

  #grantedTo (name: string): Granted {
    let granted = this.#granted.get(name)
    if (granted === undefined) {
      const { link } = this
      granted = { desired: link.grantedQos(this.#topic(name, 'desired')), delta: link.grantedQos(this.#topic(name, 'delta')) }
      if (this.#granted.size >= grantedMax) this.#granted.clear()
      this.#granted.set(name, granted)
    }
    return granted
  }
}
