/**
 * Which devices of a tenant are registered, as telemetry requests need it: remembered with a lease, bounded (the least
 * recently used go first), together with the encoded identity of their journal records, so that neither is made per request.
 * A change on this node is seen at once, one made elsewhere after the lease at the latest.
 */
import { LRUCache } from 'lru-cache'
import type { Clock } from '../../core/clock.js'
import { encodeIdentity } from '../../journal/record.js'
import type { RegistryStore } from '../../store/registry.js'

export interface DeviceEntry {
  readonly id: string
  /** Registered. Turns false when the device is deleted while requests for it are under way. */
  known: boolean
  readonly gateway: boolean
  readonly gatewayId: string | null
  /** Identity of journal records of this device without an idempotency key. */
  readonly identity: Buffer
}

export class DeviceDirectory {
  readonly #registry: Pick<RegistryStore, 'getDevice'>
  readonly #entries: LRUCache<string, DeviceEntry>
  /** Counts `forget`, so that a look-up that was under way meanwhile is not remembered. */
  #epoch = 0

  constructor (registry: Pick<RegistryStore, 'getDevice'>, options: { readonly leaseMs: number, readonly cachedMax: number, readonly clock: Clock }) {
    this.#registry = registry
    this.#entries = new LRUCache({
      max: options.cachedMax,
      ttl: options.leaseMs,
      // Ask the clock every time: the cache's own memory of the time knows only the real one.
      ttlResolution: 0,
      // Zero would mean "no time yet" to the cache.
      perf: { now: () => options.clock.monotonicMs() + 1 }
    })
  }

  /** undefined: the registry must be asked. */
  cached (tenant: string, id: string): DeviceEntry | undefined {
    return this.#entries.get(`${tenant}\0${id}`)
  }

  async find (tenant: string, id: string): Promise<DeviceEntry> {
    const cached = this.cached(tenant, id)
    if (cached !== undefined) return cached
    for (;;) {
      const epoch = this.#epoch
      const device = await this.#registry.getDevice(tenant, id)
      if (epoch !== this.#epoch) continue
      const entry: DeviceEntry = {
        id,
        known: device !== null,
        gateway: device?.gateway ?? false,
        gatewayId: device?.gatewayId ?? null,
        identity: encodeIdentity({ tenant, device: id, idempotencyKey: '', fingerprint: '' })
      }
      this.#entries.set(`${tenant}\0${id}`, entry)
      return entry
    }
  }

  /** After a device was created, changed or deleted on this node. */
  forget (tenant: string, id: string): void {
    this.#epoch++
    const key = `${tenant}\0${id}`
    const entry = this.#entries.peek(key)
    if (entry !== undefined) entry.known = false
    this.#entries.delete(key)
  }

  get size (): number { return this.#entries.size }
}
