/**
 * The registry's copy of a device's tags, which fleet queries and the live choice read. The truth is the device's own twin; the copy is
 * written after the commit and made right where it is seen to differ.
 */
import type { KeyedLock } from '../core/keyed-lock.js'
import type { Log } from '../core/log.js'
import type { Device } from '../tenancy/model.js'
import { sameJson } from './json-merge.js'

export interface RegistryTagsOptions {
  readonly registry: { getDevice (tenant: string, id: string): Promise<Device | null>, updateDevice (device: Device): Promise<void> }
  /** The edge's lock of changes by `device\0tenant\0id`: the registry's updates replace whole records. */
  readonly lock: KeyedLock
  /** The tags that are true now; null: the twin says nothing about them. */
  readonly tagsOf: (tenant: string, device: string) => Promise<Readonly<Record<string, string>> | null>
  /** After the copy was changed: what remembers the device forgets it. */
  readonly onCopied: (tenant: string, device: string) => void
  readonly log: Log
}

export class RegistryTags {
  readonly #options: RegistryTagsOptions
  /** Copies that are under way without anybody waiting. */
  readonly #repairs = new Map<string, Promise<void>>()
  readonly stats = { copies: 0, repairs: 0, failed: 0 }

  constructor (options: RegistryTagsOptions) {
    this.#options = options
  }

  /** Brings the copy up to date. Must not be called by who holds the device's lock. @throws TwinfoldError `store_unavailable` */
  async copy (tenant: string, id: string): Promise<void> {
    const { registry, lock, tagsOf, onCopied } = this.#options
    await lock.run(`device\0${tenant}\0${id}`, async () => {
      const tags = await tagsOf(tenant, id)
      const device = tags === null ? null : await registry.getDevice(tenant, id)
      if (tags === null || device === null || sameJson(device.tags ?? {}, tags)) return
      await registry.updateDevice({ ...device, tags })
      this.stats.copies++
      onCopied(tenant, id)
    })
  }

  /** In the background; at most one at a time for a device. */
  repair (tenant: string, id: string): void {
    const key = `${tenant}\0${id}`
    if (this.#repairs.has(key) || this.#repairs.size >= repairsMax) return
    this.stats.repairs++
    const repair = this.copy(tenant, id).catch((error: unknown) => {
      this.stats.failed++
      this.#options.log.debug({ tenant, device: id, error: String(error) }, 'the tags of a device were not copied')
    }).finally(() => { this.#repairs.delete(key) })
    this.#repairs.set(key, repair)
  }

  async close (): Promise<void> {
    await Promise.all(this.#repairs.values())
  }
}

/** Of more, the next that is seen to differ is made right. */
const repairsMax = 1000
