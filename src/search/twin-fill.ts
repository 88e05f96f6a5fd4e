/**
 * Fills search from the registry, device by device in order: at the first start, after the tables were lost, and when asked for. What was
 * read before the fill began and not again is taken away at the end. Goes on where it stopped.
 */
import type { RegistryStore } from '../store/registry.js'
import type { TwinSearchStore } from '../store/twin-search.js'
import type { FillState } from './projection-state.js'

export interface TwinFillOptions {
  readonly store: Pick<RegistryStore, 'getTenant' | 'listTenants' | 'listDevices'>
  readonly search: Pick<TwinSearchStore, 'dropTwinsBefore'>
  readonly project: (tenant: string, ids: readonly string[]) => Promise<void>
  readonly stampNow: () => number
}

const devicesPerPage = 500

export class TwinFill {
  readonly #options: TwinFillOptions
  #stopped = false
  running: Promise<void> | null = null
  /** Written by the last run, and by those it went on from. */
  devices = 0

  constructor (options: TwinFillOptions) { this.#options = options }

  /** Its stamp is below that of every row it will write, and above those written before. */
  begin (): FillState {
    return { stamp: this.#options.stampNow(), tenant: '', cursor: null, devices: 0 }
  }

  stop (): void { this.#stopped = true }

  /** @param onPage told where it would go on. Rejects where it stopped, and as the stores do. */
  async run (from: FillState, onPage: (fill: FillState) => void): Promise<void> {
    this.running = this.#run(from, onPage).finally(() => { this.running = null })
    await this.running
  }

  async #run (from: FillState, onPage: (fill: FillState) => void): Promise<void> {
    const { store, search, project } = this.#options
    this.devices = from.devices
    for await (const tenant of this.#tenants(from.tenant)) {
      for (let cursor = tenant === from.tenant ? from.cursor : null, first = true; first || cursor !== null; first = false) {
        if (this.#stopped) throw new Error('stopped; the fill goes on at the next start')
        const page: Awaited<ReturnType<RegistryStore['listDevices']>> = await store.listDevices(tenant, cursor, devicesPerPage)
        if (page.items.length > 0) await project(tenant, page.items.map(({ id }) => id))
        this.devices += page.items.length
        cursor = page.next
        // The last page of a tenant is read again by who goes on: it does no harm.
        if (cursor !== null) onPage({ ...from, tenant, cursor, devices: this.devices })
      }
    }
    await search.dropTwinsBefore(null, from.stamp)
  }

  /** From the given one on; tenants come in one order. */
  async * #tenants (from: string): AsyncGenerator<string> {
    let passed = from === '' || await this.#options.store.getTenant(from) === null
    for (let cursor: string | null = null, first = true; first || cursor !== null; first = false) {
      const page: Awaited<ReturnType<RegistryStore['listTenants']>> = await this.#options.store.listTenants(cursor, 100)
      for (const { id } of page.items) {
        passed ||= id === from
        if (passed) yield id
      }
      cursor = page.next
    }
  }
}
