/** Reads devices as search shows them: the registry's record, the device's own twin, and its presence. */
import { inParallel } from '../core/in-parallel.js'
import type { PresenceSource, PresenceView } from '../presence/presence-sink.js'
import type { RegistryStore } from '../store/registry.js'
import type { ErasureStore } from '../store/small-stores.js'
import type { TwinConnection, TwinRecord } from '../store/twin-search.js'
import type { Twins, TwinView } from '../twin/twin-model.js'

export interface TwinReaderOptions {
  readonly store: Pick<RegistryStore, 'getDevice'> & Pick<ErasureStore, 'erasedBefore'>
  readonly twins: Pick<Twins, 'getMany'>
  /** null: nobody knows who is connected. */
  readonly presence: Pick<PresenceSource, 'view'> | null
}

export class TwinReader {
  readonly #options: TwinReaderOptions

  constructor (options: TwinReaderOptions) { this.#options = options }

  /** In the order asked; null: there is no such device. At most 1000. @throws TwinfoldError `store_unavailable` */
  async read (tenant: string, ids: readonly string[]): Promise<(TwinRecord | null)[]> {
    const { store, twins, presence } = this.#options
    const [devices, erased, views, presences] = await Promise.all([
      inParallel(ids, async id => await store.getDevice(tenant, id)),
      inParallel(ids, async id => await store.erasedBefore(tenant, id)),
      twins.getMany(ids.map(device => ({ tenant, device, name: '' }))),
      presence === null ? [] : presence.view(tenant, ids)
    ])
    return ids.map((_, i) => {
      const device = devices[i]
      return device === null ? null : { device, ...twinOf(views[i]), ...presenceOf(presences[i]), erasedBefore: erased[i] }
    })
  }
}

/** A device whose twin says nothing (it is being made, or deleted) has an empty one. */
function twinOf (view: TwinView | null): Pick<TwinRecord, 'tags' | 'desired' | 'reported' | 'version' | 'desiredVersion' | 'reportedVersion' | 'updatedAt'> {
  const { tags = {}, desired = {}, reported = {}, version = 0, desiredVersion = 0, reportedVersion = 0, updatedAt = 0 } = view ?? {}
  return { tags, desired, reported, version, desiredVersion, reportedVersion, updatedAt }
}

function presenceOf (view: PresenceView | undefined): { connection: TwinConnection | null, lastActivity: number } {
  if (view === undefined) return { connection: null, lastActivity: 0 }
  const { connected, since, reason, lastActivity } = view
  return { connection: since === 0 ? null : { state: connected ? 'connected' : 'disconnected', since, reason: connected ? null : reason }, lastActivity }
}
