/** Jobs, newest first, and the list of those that are not finished. One node at a time runs a job and writes its row. */
import { isOpen, type Job, type JobStore } from '../../job-store.js'
import type { Page } from '../../registry.js'
import type { CassandraClient } from './cassandra-client.js'
import { decodeCursor } from './salted.js'
import { tidyUp } from './settled-write.js'

/** All open jobs stand on it: they are few. */
const shelf = 0
const openPageRows = 500

export class CassandraJobs implements JobStore {
  readonly #client: CassandraClient

  constructor (client: CassandraClient) {
    this.#client = client
  }

  /** The open mark comes before an open job and goes after a finished one: a crash leaves a mark too many, never one too few. */
  async putJob (job: Job): Promise<void> {
    const { tenant, id } = job
    if (isOpen(job.state)) await this.#client.write('INSERT INTO job_open (shelf, tenant, id) VALUES (?, ?, ?)', [shelf, tenant, id])
    await this.#client.write('INSERT INTO job (tenant, id, body) VALUES (?, ?, ?)', [tenant, id, JSON.stringify(job)])
    if (!isOpen(job.state)) await tidyUp(this.#removeMark(tenant, id))
  }

  async getJob (tenant: string, id: string): Promise<Job | null> {
    const [row] = await this.#client.read('SELECT body FROM job WHERE tenant = ? AND id = ?', [tenant, id])
    return row === undefined ? null : JSON.parse(row.body as string) as Job
  }

  async listJobs (tenant: string, cursor: string | null, limit: number): Promise<Page<Job>> {
    const after = decodeCursor(cursor)
    const rows = after === null
      ? await this.#client.read('SELECT body FROM job WHERE tenant = ? LIMIT ?', [tenant, limit + 1])
      : await this.#client.read('SELECT body FROM job WHERE tenant = ? AND id < ? LIMIT ?', [tenant, after, limit + 1])
    const items = rows.slice(0, limit).map(row => JSON.parse(row.body as string) as Job)
    return { items, next: rows.length > limit ? Buffer.from(items[limit - 1].id).toString('base64url') : null }
  }

  async * listOpenJobs (): AsyncGenerator<Job, void> {
    for await (const row of this.#client.stream('SELECT tenant, id FROM job_open WHERE shelf = ?', [shelf], openPageRows)) {
      const [tenant, id] = [row.tenant as string, row.id as string]
      const job = await this.getJob(tenant, id)
      if (job === null) continue
      if (isOpen(job.state)) yield job
      else await tidyUp(this.#removeMark(tenant, id))
    }
  }

  async cancelJob (tenant: string, id: string): Promise<void> {
    await this.#client.write('INSERT INTO job_cancel (tenant, id) VALUES (?, ?)', [tenant, id])
  }

  async isJobCancelled (tenant: string, id: string): Promise<boolean> {
    return (await this.#client.read('SELECT id FROM job_cancel WHERE tenant = ? AND id = ?', [tenant, id])).length > 0
  }

  async deleteJob (tenant: string, id: string): Promise<void> {
    await this.#removeMark(tenant, id)
    await this.#client.write('DELETE FROM job WHERE tenant = ? AND id = ?', [tenant, id])
    await this.#client.write('DELETE FROM job_cancel WHERE tenant = ? AND id = ?', [tenant, id])
  }

  async #removeMark (tenant: string, id: string): Promise<void> {
    await this.#client.write('DELETE FROM job_open WHERE shelf = ? AND tenant = ? AND id = ?', [shelf, tenant, id])
  }
}
