/**
 * Thread entry of everything that brings data into analytics: outbox, store and analytics handles of its own. They are opened by the
 * first task and again after a failure, so that a thread that starts while a service is away works once it is back.
 */
import { workerData } from 'node:worker_threads'
import { ErasureLookup } from '../src/analytics/erasure-lookup.js'
import { projectTaskLimits, runProjectTask, type ProjectTaskOptions } from '../src/analytics/project-task.js'
import { runRebuildTask } from '../src/analytics/rebuild-task.js'
import { runUpkeepTask } from '../src/analytics/upkeep-task.js'
import { systemClock } from '../src/core/clock.js'
import { TwinfoldError } from '../src/core/errors.js'
import { silentLog } from '../src/core/log.js'
import { outcomeOf, type Outcome } from '../src/core/outcome.js'
import { openAnalytics } from '../src/store/open-analytics.js'
import { openStore } from '../src/store/open-store.js'
import type { Store } from '../src/store/store.js'
import type { ProjectWorkerData, RebuildResult, RebuildTask, UpkeepResult, UpkeepTask } from './project-protocol.js'
import type { ProjectResult, ProjectTask } from './protocol.js'

const { store: spec, clickHouse, leaseMs } = workerData as ProjectWorkerData
const { monotonicMs, nowUs } = systemClock
const analytics = openAnalytics(clickHouse, { clock: systemClock, log: silentLog, watch: false })
let opened: Promise<{ store: Store, project: ProjectTaskOptions }> | null = null

async function open (): Promise<{ store: Store, project: ProjectTaskOptions }> {
  const store = await openStore(spec, { clock: systemClock, log: silentLog, writer: false })
  if (store.outbox === null) throw new TwinfoldError('internal', 'this store keeps no outbox to project from')
  return { store, project: { outbox: store.outbox, store, analytics, erasures: new ErasureLookup({ store, leaseMs, erasuresMax: 10_000, monotonicMs }), monotonicMs } }
}

export default async function run (task: ProjectTask | RebuildTask | UpkeepTask): Promise<Outcome<ProjectResult | RebuildResult | UpkeepResult>> {
  return await outcomeOf(async () => {
    const opening = opened ??= open()
    let tools
    try {
      tools = await opening
    } catch (error) {
      if (opened === opening) opened = null
      throw error
    }
    const { insertPointsMax, insertTextCharsMax } = projectTaskLimits
    switch (task.kind) {
      case 'project': return await runProjectTask(task, tools.project)
      case 'rebuild': return await runRebuildTask(task, { store: tools.store, analytics, limits: { pointsMax: insertPointsMax, textCharsMax: insertTextCharsMax }, nowUs })
      case 'upkeep': return await runUpkeepTask(task, { store: tools.store, analytics })
    }
  })
}
