/**
 * Which devices of a tenant are registered, as telemetry requests need it: remembered with a lease, bounded (the least
 * recently used go first), together with the encoded identity of their journal records, so that neither is made per request.
 * A change on this node is seen at once, one made elsewhere after the lease at the latest; while the registry is away, known
 * devices stay known (src/gate/lease-cache.ts).
 */
import type { Clock } from '../../core/clock.js'
import { registryStaleMsMax } from '../../core/limits.js'
import { LeaseCache } from '../../gate/lease-cache.js'
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
  readonly #answers: LeaseCache<DeviceEntry>
  /** Counts `forget`, so that a look-up that was under way meanwhile is made again. */
  #epoch = 0

  constructor (registry: Pick<RegistryStore, 'getDevice'>, { leaseMs, cachedMax, clock }: { readonly leaseMs: number, readonly cachedMax: number, readonly clock: Clock }) {
    this.#registry = registry
    this.#answers = new LeaseCache({
      leaseMs, rememberedMax: cachedMax, monotonicMs: () => clock.monotonicMs(), staleMsMax: registryStaleMsMax, isUnknown: entry => !entry.known
    })
  }

  /** undefined: the registry must be asked. */
  cached (tenant: string, id: string): DeviceEntry | undefined {
    return this.#answers.peek(`${tenant}\0${id}`)
  }

  async find (tenant: string, id: string): Promise<DeviceEntry> {
    for (;;) {
      const epoch = this.#epoch
      const entry = await this.#answers.get(`${tenant}\0${id}`, async () => await this.#ask(tenant, id))
      if (epoch === this.#epoch) return entry
    }
  }

  /** After a device was created, changed or deleted on this node. */
  forget (tenant: string, id: string): void {
    this.#epoch++
    const entry = this.#answers.last(`${tenant}\0${id}`)
    if (entry !== undefined) entry.known = false
    this.#answers.forget(`${tenant}\0${id}`)
  }

  get size (): number { return this.#answers.size }

  async #ask (tenant: string, id: string): Promise<DeviceEntry> {
    const device = await this.#registry.getDevice(tenant, id)
    return {
      id,
      known: device !== null,
      gateway: device?.gateway ?? false,
      gatewayId: device?.gatewayId ?? null,
      identity: encodeIdentity({ tenant, device: id, idempotencyKey: '', fingerprint: '' })
    }
  }
}
