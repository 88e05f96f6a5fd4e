/**
 * Brings all of one tenant, or of all, into analytics anew from the store: `twinfold rebuild analytics`. Answers go on meanwhile, and so
 * does the projection. Everything in the store is written once more under the version that it has; what is in analytics and was
 * not written again has no point behind it and goes at the end. So nothing is missing or double at any time: a point that
 * comes meanwhile is brought over by the projection, and counts as written.
 *
 * What was written shortly before the start and not again may be an insert that was under way then and landed after the piece that wrote
 * its points again, so it does not go with the rest. Where there is any (after a store was brought back from a backup, hardly ever else),
 * the rebuild waits until no such insert can land any more, writes those devices once more, and what is still left goes too.
 *
 * A rebuild that was interrupted goes on where it was, within a day.
 */
import type { Clock } from '../core/clock.js'
import type { Log } from '../core/log.js'
import { usPerDay } from '../core/reading.js'
import type { AnalyticsStore, DeviceName } from '../store/analytics-store.js'
import type { Store } from '../store/store.js'
import type { RebuildResult, RebuildTask, UpkeepResult, UpkeepTask } from '../../workers/project-protocol.js'
import { rebuiltSetting } from './projector.js'

export interface RebuildOptions {
  readonly store: Pick<Store, 'listTenants' | 'getTenant' | 'listDevices' | 'getSetting' | 'putSetting'>
  readonly analytics: Pick<AnalyticsStore, 'dropWrittenBefore' | 'devicesWrittenBefore'>
  readonly pool: { rebuild (task: RebuildTask): Promise<RebuildResult>, upkeep (task: UpkeepTask): Promise<UpkeepResult> }
  readonly clock: Clock
  readonly log: Log
  /** An insert that is under way at the start has landed so much later, however slow, and clocks differ by less; µs. Default: five minutes. */
  readonly marginUs?: number
}

export interface RebuildProgress {
  readonly state: 'running' | 'done' | 'failed'
  /** null: all tenants. */
  readonly tenant: string | null
  /** µs */
  readonly startedUs: number
  readonly devices: number
  readonly points: number
  readonly hours: number
  readonly damaged: number
  /** For people: where it is, or why it failed. */
  readonly detail: string
}

interface Checkpoint { readonly scope: string, readonly startedUs: number, readonly tenant: string, readonly cursor: string | null }

const checkpointSetting = 'analytics-rebuild'
const marginUsDefault = 300e6
const devicesPerTask = 20
const attemptsMax = 20
const pauseMsMax = 15_000

export class Rebuild {
  readonly #options: RebuildOptions
  #stopped = false
  progress: RebuildProgress | null = null

  constructor (options: RebuildOptions) {
    this.#options = options
  }

  /** Ends a run at the next piece; it goes on with the next `run`. */
  stop (): void { this.#stopped = true }

  /**
   * @param tenant null: all.
   * @throws TwinfoldError `analytics_unavailable`, `store_unavailable`: after many attempts
   */
  async run (tenant: string | null, onProgress: (progress: RebuildProgress) => void = () => {}): Promise<RebuildProgress> {
    const { store, clock, pool, analytics, marginUs = marginUsDefault } = this.#options
    this.#stopped = false
    const scope = tenant ?? ''
    const from = await this.#checkpoint(scope)
    const startedUs = from?.startedUs ?? clock.nowUs()
    const tell = (change: Partial<RebuildProgress>): RebuildProgress => {
      this.progress = { ...this.progress as RebuildProgress, ...change }
      onProgress(this.progress)
      return this.progress
    }
    this.progress = { state: 'running', tenant, startedUs, devices: 0, points: 0, hours: 0, damaged: 0, detail: 'begins' }
    try {
      await this.#repeated(async () => await pool.upkeep({ kind: 'upkeep', nowUs: clock.nowUs(), erasuresFromUs: 0, devices: true }))
      for await (const id of this.#tenants(tenant, from)) {
        for (let cursor = from?.tenant === id ? from.cursor : null, first = true; first || cursor !== null; first = false) {
          if (this.#stopped) return tell({ state: 'failed', detail: 'stopped; the next rebuild goes on from here' })
          const page: Awaited<ReturnType<Store['listDevices']>> = await store.listDevices(id, cursor, devicesPerTask)
          const devices = page.items.map(device => device.id)
          const { points, hours, damaged } = await this.#piece(id, devices, startedUs)
          const { progress } = this
          tell({ devices: progress.devices + devices.length, points: progress.points + points, hours: progress.hours + hours, damaged: progress.damaged + damaged, detail: `tenant ${id}` })
          cursor = page.next
          await store.putSetting(checkpointSetting, JSON.stringify({ scope, startedUs, tenant: id, cursor } satisfies Checkpoint))
        }
      }
      tell({ detail: 'what has no point behind it goes' })
      await this.#repeated(async () => { await analytics.dropWrittenBefore(tenant, startedUs - marginUs) })
      if (tenant === null) await store.putSetting(rebuiltSetting, String(startedUs))
      // Hours that were read before an erasure and written after it was carried out.
      await this.#repeated(async () => await pool.upkeep({ kind: 'upkeep', nowUs: clock.nowUs(), erasuresFromUs: startedUs - marginUs, devices: false }))
      if (!await this.#dropDoubtful(tenant, startedUs, tell)) return tell({ state: 'failed', detail: 'stopped; the next rebuild goes on from here' })
      await store.putSetting(checkpointSetting, '')
      return tell({ state: 'done', detail: '' })
    } catch (error) {
      tell({ state: 'failed', detail: (error as Error).message })
      throw error
    }
  }

  async #piece (tenant: string, devices: readonly string[], startedUs: number): Promise<{ points: number, hours: number, damaged: number }> {
    const { points, hours, damaged } = await this.#repeated(async () => await this.#options.pool.rebuild({ kind: 'rebuild', tenant, devices, startedUs }))
    for (const row of damaged) this.#options.log.error({ row }, 'a damaged row was left out of analytics')
    return { points, hours, damaged: damaged.length }
  }

  /** What was written shortly before the start and not again since. false: stopped. */
  async #dropDoubtful (tenant: string | null, startedUs: number, tell: (change: Partial<RebuildProgress>) => void): Promise<boolean> {
    const { analytics, clock, marginUs = marginUsDefault } = this.#options
    const doubtful = async (after: DeviceName | null, limit: number): Promise<readonly DeviceName[]> =>
      await this.#repeated(async () => await analytics.devicesWrittenBefore(tenant, startedUs, after, limit))
    if ((await doubtful(null, 1)).length === 0) return true
    const landedUs = startedUs + marginUs
    tell({ detail: 'everything is in; what was written just before the rebuild is looked at once no insert of then can be under way' })
    while (clock.nowUs() < landedUs) {
      if (this.#stopped) return false
      await new Promise(resolve => { setTimeout(resolve, Math.min(500, (landedUs - clock.nowUs()) / 1000 + 1)) })
    }
    for (let page = await doubtful(null, devicesPerTask); page.length > 0; page = await doubtful(page[page.length - 1], devicesPerTask)) {
      for (const id of new Set(page.map(name => name.tenant))) {
        if (this.#stopped) return false
        await this.#piece(id, page.filter(name => name.tenant === id).map(name => name.device), startedUs)
      }
    }
    await this.#repeated(async () => { await analytics.dropWrittenBefore(tenant, startedUs) })
    return true
  }

  async * #tenants (tenant: string | null, from: Checkpoint | null): AsyncGenerator<string> {
    const { store } = this.#options
    if (tenant !== null) {
      yield tenant
      return
    }
    let passed = from === null
    for (let cursor: string | null = null, first = true; first || cursor !== null; first = false) {
      const page: Awaited<ReturnType<Store['listTenants']>> = await store.listTenants(cursor, 100)
      for (const { id } of page.items) {
        // Tenants come in one order; those before the one it stopped in are done.
        passed ||= id === from?.tenant
        if (passed) yield id
      }
      cursor = page.next
    }
  }

  async #checkpoint (scope: string): Promise<Checkpoint | null> {
    const { store, clock } = this.#options
    const text = await store.getSetting(checkpointSetting)
    if (text === null || text === '') return null
    const found = JSON.parse(text) as Checkpoint
    if (found.scope !== scope || clock.nowUs() - found.startedUs > usPerDay) return null
    return await store.getTenant(found.tenant) === null ? null : found
  }

  async #repeated<T> (work: () => Promise<T>): Promise<T> {
    for (let attempt = 0; ; attempt++) {
      try {
        return await work()
      } catch (error) {
        const { code, message } = error as { code?: string, message: string }
        if (attempt >= attemptsMax || this.#stopped || (code !== 'analytics_unavailable' && code !== 'store_unavailable')) throw error
        this.#options.log.warn({ error: message, attempt }, 'the rebuild of analytics waits')
        await new Promise(resolve => { setTimeout(resolve, Math.min(pauseMsMax, 250 * 2 ** attempt)) })
      }
    }
  }
}
