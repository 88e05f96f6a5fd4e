/** What every implementation of the port of jobs keeps. */
import type { Test } from 'tap'
import type { Job } from '../../src/store/job-store.js'
import { gather, newTenantId, type OpenStore } from './store-fixtures.js'

function jobOf (tenant: string, id: string, more: Partial<Job> = {}): Job {
  return { tenant, id, kind: 'import', state: 'queued', createdAt: 1, updatedAt: 2, progress: 0, detail: 'grün "x"\n', body: { nested: { a: [1, 2] }, text: 'ü' }, ...more }
}

export function jobStoreContract (t: Test, open: OpenStore): void {
  void t.test('jobs: what was put is read, the last state of it, in its own tenant alone', async t => {
    const store = await open()
    const tenant = newTenantId()
    const job = jobOf(tenant, '0000000000000001-aaaaaaaa')
    t.equal(await store.getJob(tenant, job.id), null)
    await store.putJob(job)
    t.strictSame(await store.getJob(tenant, job.id), job)
    t.equal(await store.getJob(`${tenant}x`, job.id), null)
    const later = { ...job, state: 'running' as const, progress: 0.5 }
    await store.putJob(later)
    t.strictSame(await store.getJob(tenant, job.id), later)
  })

  void t.test('jobs: listed newest first, page by page, each tenant its own', async t => {
    const store = await open()
    const tenant = newTenantId()
    const ids = Array.from({ length: 9 }, (_, i) => `000000000000010${i}-0000000${i % 3}`)
    for (const id of [...ids].sort((a, b) => a.slice(-1) < b.slice(-1) ? -1 : 1)) for (const name of [tenant, `${tenant}-`]) await store.putJob(jobOf(name, id, { state: 'done' }))
    for (const limit of [1, 4, 9, 100]) {
      const listed: string[] = []
      let cursor: string | null = null
      do {
        const page = await store.listJobs(tenant, cursor, limit)
        t.ok(page.items.length <= limit)
        listed.push(...page.items.map(({ id }) => id))
        cursor = page.next
      } while (cursor !== null)
      t.strictSame(listed, [...ids].reverse(), `limit ${limit}`)
    }
  })

  void t.test('jobs: those that are not finished are found over all tenants', async t => {
    const store = await open()
    const [one, two] = [newTenantId(), newTenantId()]
    for (const state of ['queued', 'running', 'waiting', 'done', 'failed', 'cancelled'] as const) await store.putJob(jobOf(one, `0000000000000002-${state}`, { state }))
    await store.putJob(jobOf(two, '0000000000000003-x'))
    const openOf = async (): Promise<string[]> => (await gather(store.listOpenJobs())).filter(job => job.tenant === one || job.tenant === two).map(job => `${job.tenant === one ? 1 : 2} ${job.id.slice(17)}`).sort()
    t.strictSame(await openOf(), ['1 queued', '1 running', '1 waiting', '2 x'])
    await store.putJob(jobOf(one, '0000000000000002-running', { state: 'done' }))
    await store.deleteJob(two, '0000000000000003-x')
    t.strictSame(await openOf(), ['1 queued', '1 waiting'])
    t.equal(await store.getJob(two, '0000000000000003-x'), null)
  })

  void t.test('jobs: asked to stop, a job stays so whatever its runner writes', async t => {
    const store = await open()
    const tenant = newTenantId()
    const job = jobOf(tenant, '0000000000000004-a')
    await store.putJob(job)
    t.equal(await store.isJobCancelled(tenant, job.id), false)
    await store.cancelJob(tenant, job.id)
    await store.putJob({ ...job, progress: 0.7, state: 'running' })
    t.equal(await store.isJobCancelled(tenant, job.id), true)
    t.equal(await store.isJobCancelled(tenant, `${job.id}b`), false)
    await store.deleteJob(tenant, job.id)
    t.equal(await store.isJobCancelled(tenant, job.id), false)
  })
}
