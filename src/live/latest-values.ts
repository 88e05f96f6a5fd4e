/** The latest values of a device as a watcher gets them first: from the query threads, so that they are what a query answers. */
import { TwinfoldError } from '../core/errors.js'
import { usPerDay } from '../core/reading.js'
import { retentionDaysAt, type Tenant } from '../tenancy/model.js'
import type { LiveFilter } from '../../workers/live-protocol.js'
import type { LatestQuery, QueryResult } from '../../workers/protocol.js'

export interface LatestValuesOptions {
  readonly queries: { run(task: LatestQuery): Promise<QueryResult> }
  readonly tenants: { get(id: string): Promise<Tenant | null> }
  readonly nowUs: () => number
  /** Before a query that was refused is made again. Default 500. */
  readonly retryMs?: number
}

const attemptsMax = 4

export class LatestValues {
  readonly #options: LatestValuesOptions

  constructor (options: LatestValuesOptions) { this.#options = options }

  /** JSON by metric, `{"m":{"ts":…,"value":…}}`. @throws TwinfoldError `store_unavailable`, `throttled`, `not_found` */
  async read (tenant: string, device: string, filter: LiveFilter): Promise<string> {
    const { queries, tenants, nowUs, retryMs = 500 } = this.#options
    const found = await tenants.get(tenant)
    if (found === null) throw new TwinfoldError('not_found', 'the tenant is gone')
    const now = nowUs()
    const task: LatestQuery = {
      kind: 'latest',
      tenant,
      retentionDays: [...new Set(found.retention.map(entry => entry.days))],
      oldestTs: Math.max(0, now - retentionDaysAt(found, now) * usPerDay),
      device,
      metrics: filter.metrics,
      times: filter.times
    }
    for (let attempt = 1; ; attempt++) {
      try {
        const { body } = await queries.run(task)
        return Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString()
      } catch (error) {
        if (!(error instanceof TwinfoldError) || error.code !== 'throttled' || attempt === attemptsMax) throw error
        await new Promise(resolve => { setTimeout(resolve, retryMs) })
      }
    }
  }
}
