/**
 * What the edges ask of analytics: is it there, how far behind is it, and answers. Also who decides that it follows: in a cluster from
 * the start; embedded from the first request on (following costs CPU that nobody may want to spend), which is remembered.
 */
import type { Clock } from '../core/clock.js'
import { TwinfoldError } from '../core/errors.js'
import type { Log } from '../core/log.js'
import type { AnalyticsCount, AnalyticsStore } from '../store/analytics-store.js'
import type { Erasure, SettingsStore } from '../store/small-stores.js'
import type { Projector, ProjectionStatus } from './projector.js'
import type { Rebuild, RebuildProgress } from './rebuild.js'
import type { Upkeep } from './upkeep.js'

/** `off`: it cannot be had. `idle`: nobody has asked for it yet. */
export type AnalyticsState = 'up' | 'down' | 'gap' | 'off' | 'idle'

export interface AnalyticsStatus {
  readonly state: AnalyticsState
  /** For people; '' where there is nothing to say. Says nothing about any tenant. */
  readonly reason: string
  /** How far this node's projection of points is behind, and that of sealed hours. */
  readonly lagSeconds: number
  readonly hoursLagSeconds: number
  /** The last rebuild of this process; null: there was none. */
  readonly rebuild: RebuildProgress | null
}

/** The engine of the embedded profile (src/store/embedded/analytics). */
export interface AnalyticsEngine {
  readonly state: string
  readonly reason: string
  start (): void
  settled (timeoutMs: number): Promise<string>
}

export interface AnalyticsParts {
  readonly projector: Pick<Projector, 'open'> & { readonly status: ProjectionStatus, readonly stats: { readonly sealLagSeconds: number } }
  /** `status`: of the service itself, as seen by the calls of the main thread. */
  readonly analytics: Pick<AnalyticsStore, 'countPoints' | 'erase'> & { status(): { readonly state: string, readonly reason: string } }
  readonly upkeep: Pick<Upkeep, 'open' | 'noteDevice' | 'noteErasure'>
  readonly rebuild: Pick<Rebuild, 'run' | 'stop' | 'progress'>
  /** null: a ClickHouse server, which is followed from the start. */
  readonly embedded: {
    readonly engine: AnalyticsEngine
    /** The byte that lets writers keep an outbox. */
    readonly flag: Uint8Array
    readonly settings: SettingsStore
    /** `on`: from the start. `auto`: from the first request on. */
    readonly mode: 'auto' | 'on'
    /** Resolves once all that was accepted before the call is packed, or after a while. */
    readonly packed: () => Promise<void>
  } | null
  readonly clock: Clock
  readonly log: Log
}

/** Setting: analytics has followed without a break since it was last turned on. */
export const followingSetting = 'analytics-following'
const engineWaitMs = 30_000
/** A small store is read in a few seconds: the first question waits for it rather than be told to come again. */
const fillWaitMs = 20_000
const fillLookMs = 100
const fillAgainMs = 30_000
const healLookMs = 5000
/** A rebuild that did not close the gap is not repeated sooner. */
const healEveryMs = 600_000

export class AnalyticsService {
  readonly #parts: AnalyticsParts
  #closing = false
  #following = false
  #activating: Promise<void> | null = null
  #timer: NodeJS.Timeout | null = null
  #healAgainMs = 0
  #catchingUp = false
  #onRebuild: () => void = () => {}

  constructor (parts: AnalyticsParts) {
    this.#parts = parts
  }

  /** Before the packer packs anything: what it packs from now on must be in the outbox where analytics follows. */
  async open (): Promise<void> {
    const { embedded } = this.#parts
    if (embedded === null) {
      this.#follow()
      return
    }
    const following = await embedded.settings.getSetting(followingSetting)
    if (following === '1' || following === 'catching up') {
      Atomics.store(embedded.flag, 0, 1)
      embedded.engine.start()
      this.#follow()
      if (following !== '1') this.#catchUp()
    } else if (embedded.mode === 'on') {
      void this.#activate().catch((error: Error) => { this.#parts.log.warn({ error: error.message }, 'analytics could not be turned on') })
    }
  }

  close (): void {
    this.#closing = true
    if (this.#timer !== null) clearInterval(this.#timer)
    this.#parts.rebuild.stop()
  }

  /** Whether anything is brought over: not before the first question of an embedded server. */
  get following (): boolean { return this.#following && this.#parts.embedded?.engine.state !== 'off' }

  /** Told when a rebuild of everything is asked for. */
  onRebuild (listener: () => void): void { this.#onRebuild = listener }

  get status (): AnalyticsStatus {
    const { projector, rebuild, embedded } = this.#parts
    const { progress } = rebuild
    if (embedded?.engine.state === 'off') return { state: 'off', reason: embedded.engine.reason, lagSeconds: 0, hoursLagSeconds: 0, rebuild: progress }
    if (!this.#following) return { state: 'idle', reason: 'analytics begins with the first question', lagSeconds: 0, hoursLagSeconds: 0, rebuild: progress }
    if (this.#catchingUp) return { state: 'gap', reason: 'analytics was turned on and catches up from the store', lagSeconds: projector.status.lagSeconds, hoursLagSeconds: projector.stats.sealLagSeconds, rebuild: progress }
    return { ...this.#projected(), hoursLagSeconds: projector.stats.sealLagSeconds, rebuild: progress }
  }

  #projected (): ProjectionStatus {
    const projection = this.#parts.projector.status
    const service = this.#parts.analytics.status()
    if (service.state !== 'down' || projection.state === 'down') return projection
    return { state: 'down', reason: [service.reason, projection.reason].filter(text => text !== '').join('; '), lagSeconds: projection.lagSeconds }
  }

  /**
   * Before anything is asked: embedded, the first question turns analytics on.
   * @throws TwinfoldError `not_found` where it cannot be had, `analytics_unavailable` while the engine does not answer or has not caught up
   * with the store: half an answer would look like a whole one
   */
  async ready (): Promise<void> {
    const { embedded } = this.#parts
    if (embedded === null || (this.#following && !this.#catchingUp && embedded.engine.state === 'up')) return
    if (!this.#following) await this.#activate()
    const state = await embedded.engine.settled(engineWaitMs)
    if (state === 'off') throw new TwinfoldError('not_found', `analytics is off on this server: ${embedded.engine.reason}`)
    if (state !== 'up') throw new TwinfoldError('analytics_unavailable', `the analytics engine does not answer: ${embedded.engine.reason}`, { retryAfterMs: 5000 })
    const { clock, rebuild } = this.#parts
    for (const untilMs = clock.monotonicMs() + fillWaitMs; this.#catchingUp && clock.monotonicMs() < untilMs;) await new Promise(resolve => { setTimeout(resolve, fillLookMs) })
    if (!this.#catchingUp) return
    throw new TwinfoldError('analytics_unavailable', `analytics is being filled from the store (${rebuild.progress?.devices ?? 0} devices, ${rebuild.progress?.points ?? 0} points so far); ask again soon`, { retryAfterMs: 5000 })
  }

  /** @throws TwinfoldError `analytics_unavailable`, and as `ready` */
  async countPoints (tenant: string, fromTs: number, toTs: number): Promise<AnalyticsCount & { readonly lagSeconds: number }> {
    await this.ready()
    // Read before the count: what came in meanwhile makes the answer newer than it says, not older.
    const { lagSeconds } = this.status
    return { ...await this.#parts.analytics.countPoints(tenant, fromTs, toTs), lagSeconds }
  }

  /** The device was made, changed or deleted. */
  noteDevice (tenant: string, id: string): void {
    if (this.#following) this.#parts.upkeep.noteDevice(tenant, id)
  }

  /** An erasure was stored: it is carried out once every projection has heard of it, and again until it is done. */
  noteErasure (): void {
    if (this.#following) this.#parts.upkeep.noteErasure()
  }

  /** Carries erasures out now, and once more when projections have heard of them. @throws TwinfoldError `analytics_unavailable` */
  async erase (erasures: readonly Erasure[]): Promise<void> {
    if (!this.#following) return
    this.#parts.upkeep.noteErasure()
    await this.#parts.analytics.erase(erasures)
  }

  /** Begins a rebuild unless one runs. */
  startRebuild (tenant: string | null): RebuildProgress | null {
    const { rebuild, log } = this.#parts
    this.#onRebuild()
    if (rebuild.progress?.state !== 'running') rebuild.run(tenant).catch((error: Error) => { log.error({ error: error.message }, 'the rebuild of analytics failed') })
    return rebuild.progress
  }

  #follow (): void {
    this.#following = true
    this.#parts.projector.open()
    this.#parts.upkeep.open()
    if (this.#parts.embedded !== null) this.#timer = setInterval(() => { this.#heal() }, healLookMs)
  }

  async #activate (): Promise<void> {
    this.#activating ??= this.#turnOn().finally(() => { this.#activating = null })
    await this.#activating
  }

  /** From here on everything is in the outbox; what was packed before comes by a rebuild. */
  async #turnOn (): Promise<void> {
    const { embedded, log } = this.#parts
    if (embedded === null || this.#following) return
    embedded.engine.start()
    const state = await embedded.engine.settled(engineWaitMs)
    if (state === 'off') return
    Atomics.store(embedded.flag, 0, 1)
    await embedded.settings.putSetting(followingSetting, 'catching up')
    this.#catchingUp = true
    this.#follow()
    log.info({}, 'analytics is on; it catches up from the store')
    void embedded.packed().then(() => { this.#catchUp() })
  }

  #catchUp (): void {
    const { embedded, rebuild, log } = this.#parts
    this.#catchingUp = true
    const again = (): void => {
      if (!this.#closing) setTimeout(() => { this.#catchUp() }, fillAgainMs).unref()
    }
    rebuild.run(null).then(async ({ state }) => {
      if (state !== 'done') {
        again()
        return
      }
      await embedded?.settings.putSetting(followingSetting, '1')
      this.#catchingUp = false
    }).catch((error: Error) => {
      log.error({ error: error.message, againInMs: fillAgainMs }, 'analytics has not caught up with the store; it is tried again')
      again()
    })
  }

  /** Embedded, nobody else would rebuild what the engine has lost with its directory. */
  #heal (): void {
    const { projector, rebuild, embedded, clock } = this.#parts
    if (projector.status.state !== 'gap' || rebuild.progress?.state === 'running' || embedded?.engine.state !== 'up') return
    if (clock.monotonicMs() < this.#healAgainMs) return
    this.#healAgainMs = clock.monotonicMs() + healEveryMs
    this.#catchUp()
  }
}
