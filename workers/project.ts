/**
 * Thread entry of the projection into analytics: outbox, store and analytics handles of its own. They are opened by the first
 * task and again after a failure, so that a thread that starts while a service is away works once it is back.
 */
import { workerData } from 'node:worker_threads'
import { ErasureLookup } from '../src/analytics/erasure-lookup.js'
import { runProjectTask, type ProjectTaskOptions } from '../src/analytics/project-task.js'
import { systemClock } from '../src/core/clock.js'
import { TwinfoldError } from '../src/core/errors.js'
import { silentLog } from '../src/core/log.js'
import { openAnalytics } from '../src/store/open-analytics.js'
import { openStore } from '../src/store/open-store.js'
import type { ClickHouseSettings, ProjectResult, ProjectTask, StoreSpec } from './protocol.js'

const { store: spec, clickHouse, leaseMs } = workerData as { store: StoreSpec, clickHouse: ClickHouseSettings, leaseMs: number }
const { monotonicMs } = systemClock
const analytics = openAnalytics(clickHouse, { clock: systemClock, log: silentLog, watch: false })
let opened: Promise<ProjectTaskOptions> | null = null

async function open (): Promise<ProjectTaskOptions> {
  const store = await openStore(spec, { clock: systemClock, log: silentLog, writer: false })
  if (store.outbox === null) throw new TwinfoldError('internal', 'this store keeps no outbox to project from')
  return { outbox: store.outbox, store, analytics, erasures: new ErasureLookup({ store, leaseMs, erasuresMax: 10_000, monotonicMs }), monotonicMs }
}

export default async function run (task: ProjectTask): Promise<ProjectResult> {
  opened ??= open()
  let options: ProjectTaskOptions
  try {
    options = await opened
  } catch (error) {
    opened = null
    throw error
  }
  return await runProjectTask(task, options)
}
