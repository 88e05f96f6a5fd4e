/**
 * Brings all of one tenant, or of all, into analytics anew from the store: `twinfold rebuild analytics`. Answers go on meanwhile, and so
 * does the projection. Everything in the store is written once more under the version that it has; what is in analytics and was
 * not written again has no point behind it and goes at the end. So nothing is missing or double at any time: a point that
 * comes meanwhile is brought over by the projection, and counts as written.
 *
 * A rebuild that was interrupted goes on where it was, within a day.
 */
import type { Clock } from '../core/clock.js'
import type { Log } from '../core/log.js'
import { usPerDay } from '../core/reading.js'
import type { AnalyticsStore } from '../store/analytics-store.js'
import type { Store } from '../store/store.js'
import type { RebuildResult, RebuildTask, UpkeepResult, UpkeepTask } from '../../workers/project-protocol.js'
import { rebuiltSetting } from './projector.js'

export interface RebuildOptions {
  readonly store: Pick<Store, 'listTenants' | 'getTenant' | 'listDevices' | 'getSetting' | 'putSetting'>
  readonly analytics: Pick<AnalyticsStore, 'dropWrittenBefore' | 'ping'>
  readonly pool: { rebuild (task: RebuildTask): Promise<RebuildResult>, upkeep (task: UpkeepTask): Promise<UpkeepResult> }
  readonly clock: Clock
  readonly log: Log
  /** Room between the start and what counts as old, µs: an insert under way may be as old, and clocks differ. Default: five minutes. */
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
    const { store, clock, pool, analytics, marginUs = marginUsDefault, log } = this.#options
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
          const { points, hours, damaged } = await this.#repeated(async () => await pool.rebuild({ kind: 'rebuild', tenant: id, devices, startedUs }))
          for (const row of damaged) log.error({ row }, 'a damaged row was left out of analytics')
          const { progress } = this
          tell({ devices: progress.devices + devices.length, points: progress.points + points, hours: progress.hours + hours, damaged: progress.damaged + damaged.length, detail: `tenant ${id}` })
          cursor = page.next
          await store.putSetting(checkpointSetting, JSON.stringify({ scope, startedUs, tenant: id, cursor } satisfies Checkpoint))
        }
      }
      tell({ detail: 'what has no point behind it goes' })
      await this.#repeated(async () => { await analytics.dropWrittenBefore(tenant, startedUs - marginUs) })
      if (tenant === null) await store.putSetting(rebuiltSetting, String(startedUs))
      await store.putSetting(checkpointSetting, '')
      return tell({ state: 'done', detail: '' })
    } catch (error) {
      tell({ state: 'failed', detail: (error as Error).message })
      throw error
    }
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
