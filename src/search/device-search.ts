/**
 * Fleet search as the edges ask it: filters over the projection, with its lag in every answer; or one device judged on the record itself,
 * so that what was just accepted is seen.
 */
import type { Clock } from '../core/clock.js'
import { TwinfoldError } from '../core/errors.js'
import { evaluateFilter } from '../core/filter/evaluate-filter.js'
import { fieldsOf, type Filter } from '../core/filter/filter.js'
import { parseFilter } from '../core/filter/parse-filter.js'
import { isoTime } from '../core/iso-time.js'
import { usPerDay, type Value } from '../core/reading.js'
import { searchMetricsMax, type FoundTwin, type SearchChoice, type SearchPosition, type TwinSearchStore } from '../store/twin-search.js'
import { retentionDaysAt, type Tenant } from '../tenancy/model.js'
import { fieldsDefault, parseShown, parseSort, showTwin } from './search-fields.js'
import type { TwinProjector } from './twin-projector.js'
import type { TwinReader } from './twin-reader.js'

export interface DeviceSearchOptions {
  readonly search: TwinSearchStore
  readonly projector: Pick<TwinProjector, 'status'>
  readonly reader: Pick<TwinReader, 'read'>
  /** Newest values by event time, of one device, from the store itself. */
  readonly latest: { read (tenant: string, device: string, metrics: readonly string[]): Promise<Readonly<Record<string, { readonly ts: number, readonly value: Value }>>> }
  readonly tenants: { get(id: string): Promise<Tenant | null> }
  /** Rejects where analytics cannot be had; turns it on where the first question does. */
  readonly ready: () => Promise<void>
  readonly clock: Clock
  /** How long the first question waits for search to be filled, ms. Default 20,000. */
  readonly fillWaitMs?: number
}

export interface SearchRequest {
  readonly tenant: string
  readonly filter?: string
  readonly sort?: string
  readonly fields?: string
  /** Only this device. */
  readonly device?: string
  /** On the record itself; takes `device`. */
  readonly fresh?: boolean
  readonly count?: boolean
  readonly limit: number
  readonly after: SearchPosition | null
}

export interface SearchAnswer {
  readonly devices: readonly object[]
  readonly next: SearchPosition | null
  readonly count?: number
  readonly lag: { readonly seconds: number }
  /** Everything that happened up to this time is in the answer. */
  readonly asOf: string
}

const fillLookMs = 100
/** Desired and reported state may be 32 KiB each. */
export const documentsPerPageMax = 250

export class DeviceSearch {
  readonly #options: DeviceSearchOptions
  readonly stats = { searches: 0, fresh: 0, refused: 0, failed: 0 }

  constructor (options: DeviceSearchOptions) { this.#options = options }

  /**
   * @throws TwinfoldError `invalid_field`; `analytics_unavailable` where it is away or not filled yet; `not_found` where analytics is off;
   * with `fresh` also `store_unavailable`
   */
  async search (request: SearchRequest): Promise<SearchAnswer> {
    this.stats.searches++
    try {
      return await this.#search(request)
    } catch (error) {
      const isRefused = error instanceof TwinfoldError && error.code === 'invalid_field'
      this.stats[isRefused ? 'refused' : 'failed']++
      throw error
    }
  }

  /** What a filter chooses, once search can be asked. @throws as `search` */
  async choice (tenant: string, filter: Filter | null): Promise<SearchChoice> {
    await this.#ready()
    return await this.#choice(tenant, filter, null)
  }

  async #search (request: SearchRequest): Promise<SearchAnswer> {
    const { search, clock } = this.#options
    const { tenant, limit, after, device = null } = request
    const filter = request.filter === undefined ? null : parseFilter(request.filter)
    const shown = parseShown(request.fields ?? fieldsDefault)
    const sort = request.sort === undefined ? [] : parseSort(request.sort)
    if (shown.documents && limit > documentsPerPageMax) throw new TwinfoldError('invalid_field', `'limit' is at most ${documentsPerPageMax} where desired or reported state is shown`, { field: 'limit' })
    const metrics = new Set([...shown.latest, ...metricsOf(filter), ...sort.filter(({ field }) => field.root === 'latest').map(({ field }) => field.path[0])])
    if (metrics.size > searchMetricsMax) throw new TwinfoldError('invalid_field', `a search looks at the latest values of at most ${searchMetricsMax} metrics`, { field: 'filter' })
    if (request.fresh === true) return await this.#fresh(request, filter)
    await this.#ready()
    // Before the search: what came in meanwhile makes the answer newer than it says, not older.
    const { upTo } = await this.#options.projector.status()
    const choice = await this.#choice(tenant, filter, device)
    const [{ twins, next }, count] = await Promise.all([
      search.findTwins({ ...choice, sort, after, limit, documents: shown.documents, latest: shown.latest }),
      request.count === true ? search.countTwins(choice) : undefined
    ])
    const lagUs = Math.max(0, clock.nowUs() - upTo)
    return { devices: twins.map(twin => showTwin(twin, shown)), next, ...(count === undefined ? {} : { count }), lag: { seconds: Math.round(lagUs / 1000) / 1000 }, asOf: isoTime(upTo) }
  }

  async #fresh ({ tenant, device, fields, count }: SearchRequest, filter: Filter | null): Promise<SearchAnswer> {
    const { clock } = this.#options
    if (device === undefined) throw new TwinfoldError('invalid_field', "'fresh' judges one device on its record: name it in 'device'", { field: 'fresh' })
    this.stats.fresh++
    const shown = parseShown(fields ?? fieldsDefault)
    const nowUs = clock.nowUs()
    const twin = await this.read(tenant, device, [...new Set([...shown.latest, ...metricsOf(filter)])])
    const isIn = twin !== null && (filter === null || evaluateFilter(filter, subjectOf(twin), nowUs))
    return { devices: isIn ? [showTwin(twin, shown)] : [], next: null, ...(count === true ? { count: isIn ? 1 : 0 } : {}), lag: { seconds: 0 }, asOf: isoTime(nowUs) }
  }

  /** A device on the record. null: there is none. @throws TwinfoldError `store_unavailable` */
  async read (tenant: string, id: string, metrics: readonly string[]): Promise<FoundTwin | null> {
    const { reader, latest } = this.#options
    const [[record], values] = await Promise.all([reader.read(tenant, [id]), metrics.length === 0 ? {} : latest.read(tenant, id, metrics)])
    if (record === null) return null
    const { device: { name, type, gatewayId, createdAt }, tags, desired, reported, connection, lastActivity, version, desiredVersion, reportedVersion, updatedAt } = record
    return { id, name, type, gateway: gatewayId, createdAt, tags, desired, reported, connection, lastActivity, version, desiredVersion, reportedVersion, updatedAt, latest: values }
  }

  async #choice (tenant: string, filter: Filter | null, device: string | null): Promise<SearchChoice> {
    const nowUs = this.#options.clock.nowUs()
    const found = await this.#options.tenants.get(tenant)
    return { tenant, filter, device, nowUs, oldestTs: found === null ? nowUs : Math.max(0, nowUs - retentionDaysAt(found, nowUs) * usPerDay) }
  }

  /** Embedded, the first question turns analytics on; a search of half the devices would look like one of all. */
  async #ready (): Promise<void> {
    const { ready, projector, clock, fillWaitMs = 20_000 } = this.#options
    await ready()
    for (const untilMs = clock.monotonicMs() + fillWaitMs; ;) {
      const { state, filledDevices } = await projector.status()
      if (state === 'up') return
      if (clock.monotonicMs() >= untilMs) throw new TwinfoldError('analytics_unavailable', `search is being filled from the store (${filledDevices} devices so far); ask again soon`, { retryAfterMs: 5000 })
      await new Promise(resolve => { setTimeout(resolve, fillLookMs) })
    }
  }
}

function metricsOf (filter: Filter | null): string[] {
  return filter === null ? [] : fieldsOf(filter).filter(({ root }) => root === 'latest').map(({ path }) => path[0])
}

/** What a filter sees of it. */
export function subjectOf (twin: FoundTwin): Parameters<typeof evaluateFilter>[1] {
  const latest: Record<string, Value> = {}
  for (const [metric, { value }] of Object.entries(twin.latest)) Object.defineProperty(latest, metric, { value, enumerable: true })
  return { ...twin, lastActivity: twin.lastActivity === 0 ? null : twin.lastActivity, latest }
}
