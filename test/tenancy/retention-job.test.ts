import t from 'tap'
import { silentLog } from '../../src/core/log.js'
import type { Page } from '../../src/store/registry.js'
import type { Tenant } from '../../src/tenancy/model.js'
import { RetentionJob } from '../../src/tenancy/retention-job.js'

const nowUs = 1_000_000

function tenantOf (id: string, ...retention: [sinceStamp: number, days: number][]): Tenant {
  return { id, name: id, createdAt: 0, disabled: false, retention: retention.map(([sinceStamp, days]) => ({ sinceStamp, days })) }
}

function harness (tenants: Tenant[]) {
  const dropped: { nowUs: number, keepDays: (days: number) => number }[] = []
  const ticks: (() => void)[] = []
  let stopped = 0
  const control = { fails: false, hold: null as Promise<void> | null }
  const job = new RetentionJob({
    store: {
      listTenants: async (cursor): Promise<Page<Tenant>> => {
        const at = Number(cursor ?? 0)
        return { items: tenants.slice(at, at + 2), next: at + 2 < tenants.length ? String(at + 2) : null }
      },
      raw: {
        dropExpired: async (now, keepDays) => {
          dropped.push({ nowUs: now, keepDays })
          await control.hold
          if (control.fails) throw new Error('the disk is gone')
          return 3
        }
      }
    },
    clock: { nowUs: () => nowUs, monotonicMs: () => 0 },
    log: silentLog,
    every: (intervalMs, action) => {
      t.equal(intervalMs, 3_600_000)
      ticks.push(action)
      return () => { stopped++ }
    }
  })
  return { job, dropped, ticks, control, stopped: () => stopped }
}

t.test('a class is kept for the longest retention now of any tenant that ever had it', async t => {
  const { job, dropped } = harness([
    tenantOf('shorter', [0, 365], [500, 30]),
    tenantOf('longer', [0, 90], [500, 400]),
    tenantOf('same', [0, 30]),
    tenantOf('later', [0, 7], [nowUs + 1, 9999]),
    tenantOf('both', [0, 365], [10, 90], [20, 100])
  ])
  t.equal(await job.run(), 3)
  t.equal(dropped[0].nowUs, nowUs)
  const kept = Object.fromEntries([7, 30, 90, 100, 365, 400, 9999, 12].map(days => [days, dropped[0].keepDays(days)]))
  t.strictSame(kept, { 7: 7, 30: 30, 90: 400, 100: 100, 365: 100, 400: 400, 9999: 7, 12: 12 })
})

t.test('it runs at the start and at every tick, survives a failure, and never runs twice at once', async t => {
  const { job, dropped, ticks, control, stopped } = harness([tenantOf('a', [0, 30])])
  let release = (): void => {}
  control.hold = new Promise(resolve => { release = resolve })
  control.fails = true
  job.start()
  ticks[0]()
  ticks[0]()
  while (dropped.length === 0) await new Promise(setImmediate)
  ticks[0]()
  release()
  while (job.stats.failures === 0) await new Promise(setImmediate)
  t.equal(dropped.length, 1)
  control.fails = false
  await new Promise(setImmediate)
  ticks[0]()
  await job.close()
  t.strictSame(job.stats, { runs: 1, failures: 1, windowsDropped: 3 })
  t.equal(stopped(), 1)
})
