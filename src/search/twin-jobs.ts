/**
 * Bulk changes of twins as jobs: devices by filter or by name, in order of id, a few at once, each through the twin service like any other
 * change. A job that was interrupted goes on after the device that was stored last; what was done since then is done again, which changes
 * nothing where nobody changed the twin meanwhile. Devices are chosen by search as it is when their turn comes.
 */
import type { Clock } from '../core/clock.js'
import { TwinfoldError } from '../core/errors.js'
import { evaluateFilter } from '../core/filter/evaluate-filter.js'
import { fieldsOf, type Filter } from '../core/filter/filter.js'
import { parseFilter } from '../core/filter/parse-filter.js'
import { isDeviceId } from '../core/ids.js'
import { inParallel } from '../core/in-parallel.js'
import type { Log } from '../core/log.js'
import type { ClaimStore } from '../store/claim-store.js'
import { documentBytesMax, type DocumentStore } from '../store/document-store.js'
import type { Job, JobState, JobStore } from '../store/job-store.js'
import type { TwinSearchStore } from '../store/twin-search.js'
import type { ChangeOutcome, TwinChange, Twins, TwinView } from '../twin/twin-model.js'
import type { DeviceSearch } from './device-search.js'
import { afterDevices, devicesPerJobMax, newTwinJob, openTwinJobsPerTenantMax, progressOf, twinJobDetail, twinJobOf, twinJobView, type TwinJobBody, type TwinJobRequest } from './twin-job.js'

/** Where jobs are kept and run (src/transfer). */
export interface JobMaker {
  /** @throws TwinfoldError `limit_reached`: so many are open already */
  createJob (tenant: string, kind: 'twins', options: { readonly openMax: number, readonly detail: string, readonly prepare: (id: string) => Promise<object> }): Promise<Job>
}

export interface TwinJobsOptions {
  readonly store: JobStore & ClaimStore & DocumentStore
  readonly jobs: JobMaker
  readonly twins: Pick<Twins, 'change'>
  /** null: analytics is off; jobs name their devices. */
  readonly search: { readonly asked: Pick<DeviceSearch, 'choice'>, readonly store: TwinSearchStore } | null
  /** Never the same for two servers that may run at once. */
  readonly owner: string
  readonly clock: Clock
  readonly log: Log
  /** Changes at once. Default 8. */
  readonly atOnce?: number
}

const collection = 'twin-job'
const leaseMs = 30_000
const devicesPerPage = 100
const sampleMax = 20
const waitMs = 2000
/** What a twin alone can answer. */
const conditionRoots: ReadonlySet<string> = new Set(['id', 'tags', 'desired', 'reported'])
const awayCodes: ReadonlySet<string> = new Set(['store_unavailable', 'analytics_unavailable', 'journal_unavailable', 'journal_full'])

export class TwinJobs {
  readonly #options: TwinJobsOptions
  readonly stats = { created: 0, devices: 0, changed: 0, failures: 0 }

  constructor (options: TwinJobsOptions) { this.#options = options }

  /** @throws TwinfoldError `invalid_field`, `limit_reached`, `analytics_unavailable`, `store_unavailable` */
  async create (tenant: string, request: TwinJobRequest): Promise<Job> {
    const checked = this.#checked(request)
    const text = JSON.stringify(checked)
    if (Buffer.byteLength(text) > documentBytesMax) throw new TwinfoldError('limit_reached', `the request is larger than ${documentBytesMax / 1024} KiB`)
    if (checked.filter !== null) await this.#searched().asked.choice(tenant, parseFilter(checked.filter))
    this.stats.created++
    return await this.#options.jobs.createJob(tenant, 'twins', {
      openMax: openTwinJobsPerTenantMax,
      detail: 'waits for its turn',
      prepare: async id => {
        await this.#options.store.putDocument(collection, tenant, id, text, 0)
        return newTwinJob(checked)
      }
    })
  }

  /** How many devices it would take, and some of them; changes nothing. @throws as `create` */
  async dryRun (tenant: string, request: TwinJobRequest): Promise<{ readonly count: number, readonly sample: readonly string[] }> {
    const { filter, devices } = this.#checked(request)
    if (filter === null) return { count: devices?.length ?? 0, sample: (devices ?? []).slice(0, sampleMax) }
    const { asked, store } = this.#searched()
    const choice = await asked.choice(tenant, parseFilter(filter))
    const [count, sample] = await Promise.all([store.countTwins(choice), store.findIds(choice, '', sampleMax)])
    return { count, sample }
  }

  view (job: Job): object { return twinJobView(job) }

  /** One node at a time. */
  async mayRun (job: Job): Promise<boolean> {
    const { store, owner, clock } = this.#options
    if (job.state === 'waiting' && clock.nowUs() - job.updatedAt < waitMs * 1000) return false
    return await store.takeClaim(claimOf(job), owner, leaseMs) !== null
  }

  async run (job: Job, signal: AbortSignal): Promise<void> {
    const { store, owner } = this.#options
    try {
      // Another node may have brought it further between the look and the claim.
      const now = await store.getJob(job.tenant, job.id)
      if (now !== null) await this.#run(now, signal)
    } finally {
      await store.releaseClaim(claimOf(job), owner).catch(() => {})
    }
  }

  async #run (from: Job, signal: AbortSignal): Promise<void> {
    const { store, clock, log } = this.#options
    const { tenant, id } = from
    let job = from
    const put = async (state: JobState, body: TwinJobBody, detail = twinJobDetail(body)): Promise<void> => {
      job = { ...job, state, detail, progress: state === 'done' ? 1 : progressOf(body), body: body as unknown as Job['body'], updatedAt: clock.nowUs() }
      await store.putJob(job)
      if (state === 'done' || state === 'failed' || state === 'cancelled') await store.deleteDocument(collection, tenant, id, 1)
    }
    try {
      const document = await store.getDocument(collection, tenant, id)
      if (document === null) { await put('failed', twinJobOf(job), 'what was asked for is gone'); return }
      const request = JSON.parse(document.body) as TwinJobRequest
      const ids = await this.#chooser(tenant, request)
      if (twinJobOf(job).total === null) await put('running', { ...twinJobOf(job), total: await ids.count() })
      while (!signal.aborted) {
        if (await store.isJobCancelled(tenant, id)) { await put('cancelled', twinJobOf(job), `cancelled; ${twinJobDetail(twinJobOf(job))}`); return }
        if (!await this.mayRun({ ...job, state: 'running' })) return
        const page = await ids.page(twinJobOf(job).after)
        if (page.length === 0) { await put('done', twinJobOf(job)); return }
        await put('running', afterDevices(twinJobOf(job), await this.#changeAll(tenant, page, request)))
      }
    } catch (error) {
      this.stats.failures++
      const { code, message } = error as TwinfoldError
      if (!(error instanceof TwinfoldError) || !awayCodes.has(code)) log.warn({ tenant, job: id, error: message }, 'a bulk change of twins failed')
      if (error instanceof TwinfoldError && !awayCodes.has(code)) { await put('failed', twinJobOf(job), message); return }
      await put('waiting', twinJobOf(job), 'a service does not answer; it goes on by itself')
    }
  }

  async #changeAll (tenant: string, ids: readonly string[], request: TwinJobRequest): Promise<{ readonly device: string, readonly outcome: ChangeOutcome }[]> {
    const { twins, atOnce = 8 } = this.#options
    const change: TwinChange = { ...request.patch, reason: request.reason, ...(request.condition === null ? {} : { condition: conditionOf(parseFilter(request.condition, 'condition'), this.#options.clock.nowUs()) }) }
    const outcomes = await inParallel(ids, async device => ({ device, outcome: await twins.change({ tenant, device, name: '' }, change, request.actor) }), atOnce)
    this.stats.devices += outcomes.length
    for (const { outcome } of outcomes) if (outcome.kind === 'changed') this.stats.changed++
    return outcomes
  }

  async #chooser (tenant: string, { filter, devices }: TwinJobRequest): Promise<{ count: () => Promise<number>, page: (after: string) => Promise<readonly string[]> }> {
    if (filter === null) {
      const named = devices ?? []
      return { count: async () => named.length, page: async after => named.filter(id => id > after).slice(0, devicesPerPage) }
    }
    const { asked, store } = this.#searched()
    const choice = await asked.choice(tenant, parseFilter(filter))
    return { count: async () => await store.countTwins(choice), page: async after => await store.findIds(choice, after, devicesPerPage) }
  }

  #searched (): NonNullable<TwinJobsOptions['search']> {
    const { search } = this.#options
    if (search === null) throw new TwinfoldError('not_found', 'a filter needs analytics, which is off on this server; name the devices')
    return search
  }

  #checked (request: TwinJobRequest): TwinJobRequest {
    const { filter, devices, condition, patch } = request
    const wrong = (field: string, what: string): TwinfoldError => new TwinfoldError('invalid_field', what, { field })
    if ((filter === null) === (devices === null)) throw wrong('filter', "choose by 'filter' or name 'devices': one of the two")
    if (patch.desired === undefined && patch.tags === undefined) throw wrong('patch', "'patch' has neither desired nor tags: nothing would change")
    if (filter !== null) parseFilter(filter)
    if (condition !== null) {
      for (const { root } of fieldsOf(parseFilter(condition, 'condition'))) {
        if (!conditionRoots.has(root)) throw wrong('condition', `'condition' is judged on the twin alone: ${[...conditionRoots].join(', ')}; not ${root}`)
      }
    }
    const named = devices === null ? null : [...new Set(devices)].sort()
    if (named !== null && (named.length === 0 || named.length > devicesPerJobMax)) throw wrong('devices', `1 to ${devicesPerJobMax} devices by name; more by 'filter'`)
    const bad = named?.find((id): boolean => !isDeviceId(id))
    if (bad !== undefined) throw wrong('devices', `'${bad.slice(0, 200)}' is no device id`)
    return { ...request, devices: named }
  }
}

/** A filter on the twin as it is when the change is made. */
export function conditionOf (filter: Filter, nowUs: number): (twin: TwinView) => boolean {
  return ({ deviceId, tags, desired, reported }) => evaluateFilter(filter, { id: deviceId, tags, desired, reported }, nowUs)
}

function claimOf ({ tenant, id }: Job): string { return `job/${tenant}/${id}` }
