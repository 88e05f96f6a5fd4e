/**
 * When devices were last heard, gathered and written every half minute: a device that reports every second costs one row in that time.
 * Bounded: `devicesMax` wait; beyond they are written at once, and what cannot be written then is dropped and counted.
 */
import type { Log } from '../core/log.js'
import type { PresenceStore } from '../store/presence-store.js'

export interface Heard { readonly tenant: string, readonly device: string, at: number }

const everyMs = 30_000
const devicesMax = 100_000
const rowsPerWrite = 1000

export class ActivityWriter {
  readonly #store: Pick<PresenceStore, 'putActivity'>
  readonly #node: string
  readonly #log: Log
  #heard = new Map<string, Heard>()
  #writing = new Map<string, Heard>()
  #running: Promise<void> | null = null
  #timer: NodeJS.Timeout | null = null
  readonly #written: (rows: readonly Heard[]) => void
  readonly stats = { activityWritten: 0, activityDropped: 0 }

  /** @param options.written told of what was written; must not throw */
  constructor (options: { readonly store: Pick<PresenceStore, 'putActivity'>, readonly node: string, readonly log: Log, readonly written: (rows: readonly Heard[]) => void }) {
    this.#written = options.written
    this.#store = options.store
    this.#node = options.node
    this.#log = options.log
  }

  /** @param beforeWrite adds what is to be written with the rest; must not reject */
  open (beforeWrite: () => Promise<void>): void {
    this.#timer = setInterval(() => { void beforeWrite().then(() => { this.write() }) }, everyMs).unref()
  }

  note (key: string, tenant: string, device: string, at: number): void {
    const known = this.#heard.get(key)
    if (known !== undefined) {
      if (at > known.at) known.at = at
      return
    }
    if (this.#heard.size >= devicesMax) {
      this.write()
      // A write is under way, and as many wait again.
      if (this.#heard.size >= devicesMax) {
        this.stats.activityDropped++
        return
      }
    }
    this.#heard.set(key, { tenant, device, at })
  }

  /** What is not written yet, µs; 0: nothing. */
  lastOf (key: string): number { return Math.max(this.#heard.get(key)?.at ?? 0, this.#writing.get(key)?.at ?? 0) }

  forget (key: string): void {
    this.#heard.delete(key)
    this.#writing.delete(key)
  }

  /** Writes what has gathered; nothing while a write is under way. */
  write (): void {
    if (this.#running !== null || this.#heard.size === 0) return
    this.#running = this.#write().finally(() => { this.#running = null })
  }

  async close (): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer)
    await this.#running
    this.write()
    await this.#running
  }

  async #write (): Promise<void> {
    const writing = this.#writing = this.#heard
    this.#heard = new Map()
    try {
      const rows = [...writing.values()]
      for (let from = 0; from < rows.length; from += rowsPerWrite) {
        const some = rows.slice(from, from + rowsPerWrite).filter(row => writing.has(keyOf(row)))
        await this.#store.putActivity(this.#node, some)
        this.#written(some)
      }
      this.stats.activityWritten += rows.length
    } catch (error) {
      this.#log.warn({ error: (error as Error).message, devices: writing.size }, 'when devices were last heard could not be written; it is tried again')
      for (const [key, { tenant, device, at }] of writing) {
        if (this.#heard.size < devicesMax || this.#heard.has(key)) this.note(key, tenant, device, at)
        else this.stats.activityDropped++
      }
    } finally {
      this.#writing = new Map()
    }
  }
}

/** Neither id holds a slash. */
export function keyOf ({ tenant, device }: { readonly tenant: string, readonly device: string }): string {
  return `${tenant}/${device}`
}
