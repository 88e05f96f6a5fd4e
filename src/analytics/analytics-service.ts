/** What the edges ask of analytics: is it there, how far behind is it, and answers. */
import type { AnalyticsCount, AnalyticsStore } from '../store/analytics-store.js'
import type { ProjectionStatus } from './projector.js'

export interface AnalyticsStatus {
  readonly state: 'up' | 'down' | 'gap'
  /** For people; '' where there is nothing to say. Says nothing about any tenant. */
  readonly reason: string
  /** How far this node's projection is behind. */
  readonly lagSeconds: number
}

export interface AnalyticsParts {
  readonly projector: { readonly status: ProjectionStatus }
  /** `status`: of the service itself, as seen by the calls of the main thread. */
  readonly analytics: Pick<AnalyticsStore, 'countPoints'> & { status(): { readonly state: string, readonly reason: string } }
}

export class AnalyticsService {
  readonly #parts: AnalyticsParts

  constructor (parts: AnalyticsParts) {
    this.#parts = parts
  }

  get status (): AnalyticsStatus {
    const projection = this.#parts.projector.status
    const service = this.#parts.analytics.status()
    if (service.state !== 'down' || projection.state === 'down') return projection
    return { state: 'down', reason: [service.reason, projection.reason].filter(text => text !== '').join('; '), lagSeconds: projection.lagSeconds }
  }

  /** @throws TwinfoldError `analytics_unavailable` */
  async countPoints (tenant: string, fromTs: number, toTs: number): Promise<AnalyticsCount & { readonly lagSeconds: number }> {
    // Read before the count: what came in meanwhile makes the answer newer than it says, not older.
    const { lagSeconds } = this.status
    return { ...await this.#parts.analytics.countPoints(tenant, fromTs, toTs), lagSeconds }
  }
}
