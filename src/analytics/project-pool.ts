/** The thread that brings data into analytics (piscina, one). A task that throws or whose thread dies is the caller's to repeat. */
import { Piscina } from 'piscina'
import type { ProjectResult, ProjectTask } from '../../workers/protocol.js'
import type { ProjectWorkerData, RebuildResult, RebuildTask, UpkeepResult, UpkeepTask } from '../../workers/project-protocol.js'
import { resultOf, type Outcome } from '../core/outcome.js'

export type ProjectPoolOptions = ProjectWorkerData

type AnyTask = ProjectTask | RebuildTask | UpkeepTask
type AnyResult = ProjectResult | RebuildResult | UpkeepResult

export class ProjectPool {
  readonly #pool: Piscina<AnyTask, Outcome<AnyResult>>

  constructor (options: ProjectPoolOptions) {
    this.#pool = new Piscina({
      filename: new URL('../../workers/project.js', import.meta.url).href,
      workerData: options,
      minThreads: 0,
      maxThreads: 1,
      // The store and connections stay open between tasks.
      idleTimeout: 3_600_000,
      // One projection, one piece of a rebuild and one upkeep are in flight at most; the bound is for the day that is wrong.
      maxQueue: 8,
      // Tasks wait for a database and for ClickHouse most of their time: a piece of a rebuild does not hold up the projection.
      concurrentTasksPerWorker: 3,
      atomics: 'disabled'
    })
  }

  async project (task: ProjectTask): Promise<ProjectResult> {
    return resultOf(await this.#pool.run(task)) as ProjectResult
  }

  async rebuild (task: RebuildTask): Promise<RebuildResult> {
    return resultOf(await this.#pool.run(task)) as RebuildResult
  }

  async upkeep (task: UpkeepTask): Promise<UpkeepResult> {
    return resultOf(await this.#pool.run(task)) as UpkeepResult
  }

  /** Ends the thread wherever it is: what it had not finished is projected again at the next start. */
  async close (): Promise<void> {
    await this.#pool.destroy()
  }
}
