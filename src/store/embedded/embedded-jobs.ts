/** Jobs in `meta`: the job, a mark while it is open, a mark when it is asked to stop. Synced: what a tenant was told of survives. */
import { isOpen, type Job, type JobStore } from '../job-store.js'
import type { Page } from '../registry.js'
import { rangeOf } from './key-bytes.js'
import { del, put, type Operation } from './level.js'
import type { Meta } from './meta.js'
import { jsonValue, metaKey, metaTables, parseJson, textsOf } from './meta-keys.js'

const nothing = Buffer.alloc(0)

export class EmbeddedJobs implements JobStore {
  readonly #meta: Meta

  constructor (meta: Meta) {
    this.#meta = meta
  }

  async putJob (job: Job): Promise<void> {
    const { tenant, id, state } = job
    const mark = metaKey(metaTables.jobOpen, tenant, id)
    await this.#meta.writeSynced([put(metaKey(metaTables.job, tenant, id), jsonValue(job)), isOpen(state) ? put(mark, nothing) : del(mark)])
  }

  async getJob (tenant: string, id: string): Promise<Job | null> {
    const value = await this.#meta.get(metaKey(metaTables.job, tenant, id))
    return value === null ? null : parseJson<Job>(value)
  }

  async listJobs (tenant: string, cursor: string | null, limit: number): Promise<Page<Job>> {
    return await this.#meta.page(metaKey(metaTables.job, tenant), cursor, limit, ([, value]) => parseJson<Job>(value), true)
  }

  async * listOpenJobs (): AsyncGenerator<Job, void> {
    const open: string[][] = []
    await this.#meta.scan(rangeOf(metaKey(metaTables.jobOpen)), ([key]) => {
      open.push(textsOf(key))
      return true
    })
    for (const [tenant, id] of open) {
      const job = await this.getJob(tenant, id)
      if (job !== null && isOpen(job.state)) yield job
    }
  }

  async cancelJob (tenant: string, id: string): Promise<void> {
    await this.#meta.writeSynced([put(metaKey(metaTables.jobCancel, tenant, id), nothing)])
  }

  async isJobCancelled (tenant: string, id: string): Promise<boolean> {
    return await this.#meta.get(metaKey(metaTables.jobCancel, tenant, id)) !== null
  }

  async deleteJob (tenant: string, id: string): Promise<void> {
    const operations: Operation[] = [metaTables.job, metaTables.jobOpen, metaTables.jobCancel].map(table => del(metaKey(table, tenant, id)))
    await this.#meta.writeSynced(operations)
  }
}
