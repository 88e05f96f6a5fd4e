/** Bulk changes of twins on the embedded store, run and interrupted as the runner does (src/transfer/job-runner.ts). */
import t, { type Test } from 'tap'
import { systemClock } from '../../src/core/clock.js'
import { silentLog } from '../../src/core/log.js'
import { TwinJobs, type TwinJobsOptions } from '../../src/search/twin-jobs.js'
import type { TwinJobRequest } from '../../src/search/twin-job.js'
import { isOpen, type Job } from '../../src/store/job-store.js'
import type { Store } from '../../src/store/store.js'
import { JobRunner } from '../../src/transfer/job-runner.js'
import { deviceOf, newTenantId } from '../store/store-fixtures.js'
import { embeddedStore, operator, service } from '../twin/twin-world.js'

t.setTimeout(120_000)

const request: TwinJobRequest = { filter: null, devices: Array.from({ length: 350 }, (_, i) => `d-${i}`), patch: { desired: { a: 1 } }, condition: null, reason: 'test', actor: operator }

async function world (t: Test, devices: number): Promise<{ store: Store, tenant: string, jobs: (more?: Partial<TwinJobsOptions>) => TwinJobs, ended: (id: string) => Promise<Job>, changesOf: (device: string) => Promise<number> }> {
  const store = await embeddedStore(t)
  const twins = service(t, store)
  const tenant = newTenantId()
  for (let i = 0; i < devices; i++) await store.createDevice(deviceOf(tenant, `d-${i}`))
  const maker: TwinJobsOptions['jobs'] = {
    createJob: async (tenant, kind, { detail, prepare }) => {
      const id = `job-${systemClock.nowUs()}`
      const job: Job = { tenant, id, kind, state: 'queued', createdAt: systemClock.nowUs(), updatedAt: 0, progress: 0, detail, body: await prepare(id) as Job['body'] }
      await store.putJob(job)
      return job
    }
  }
  return {
    store,
    tenant,
    jobs: (more = {}) => new TwinJobs({ store, jobs: maker, twins, search: null, owner: 'one', clock: systemClock, log: silentLog, ...more }),
    ended: async id => {
      for (let i = 0; i < 1000; i++) {
        const job = await store.getJob(tenant, id)
        if (job !== null && !isOpen(job.state)) return job
        await new Promise(resolve => { setTimeout(resolve, 10) })
      }
      throw new Error('it does not end')
    },
    changesOf: async device => (await twins.changes({ tenant, device, name: '' }, null, 100)).filter(({ patch }) => patch.desired !== undefined).length
  }
}

void t.test('a job that is stopped with its server goes on after what is stored, and every device is changed once', async t => {
  const { store, tenant, jobs, ended, changesOf } = await world(t, 349)
  const stop = new AbortController()
  let count = 0
  const twins = service(t, store)
  const first = jobs({ twins: { change: async (id, change, actor) => { if (++count === 130) stop.abort(); return await twins.change(id, change, actor) } } })
  const job = await first.create(tenant, request)
  await first.run(job, stop.signal)
  const stored = await store.getJob(tenant, job.id)
  t.match(stored, { state: 'running', body: { done: 200, changed: 200 } }, 'a page that was begun is finished')
  const runner = new JobRunner({ store, handlers: { twins: jobs() }, clock: systemClock, log: silentLog, intervalMs: 10 })
  runner.open()
  t.teardown(async () => { await runner.close() })
  t.match(await ended(job.id), { state: 'done', progress: 1, body: { total: 350, done: 350, changed: 349, unchanged: 0, missing: 1 } })
  for (const device of ['d-0', 'd-199', 'd-348']) t.equal(await changesOf(device), 1)
  t.equal(await store.getDocument('twin-job', tenant, job.id), null, 'what was asked goes with the end')
})

void t.test('a job is run by one server at a time, and ends where it is cancelled', async t => {
  const { store, tenant, jobs, ended } = await world(t, 350)
  const job = await jobs().create(tenant, request)
  t.equal(await jobs().mayRun(job), true)
  t.equal(await jobs({ owner: 'two' }).mayRun(job), false)
  await store.cancelJob(tenant, job.id)
  await jobs().run(job, new AbortController().signal)
  t.match(await ended(job.id), { state: 'cancelled', detail: 'cancelled; 0 of 350 devices, 0 changed' })
})

void t.test('a job waits while the store does not answer, and fails of what no waiting mends', async t => {
  const { store, tenant, jobs } = await world(t, 1)
  const one = { ...request, devices: ['d-0'] }
  const { TwinfoldError } = await import('../../src/core/errors.js')
  const job = await jobs().create(tenant, one)
  await jobs({ twins: { change: async () => { throw new TwinfoldError('store_unavailable', 'away') } } }).run(job, new AbortController().signal)
  t.match(await store.getJob(tenant, job.id), { state: 'waiting' })
  await jobs({ twins: { change: async () => { throw new TwinfoldError('corrupt_data', 'broken') } } }).run(job, new AbortController().signal)
  t.match(await store.getJob(tenant, job.id), { state: 'failed', detail: 'broken' })
})
