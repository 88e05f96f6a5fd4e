/** The thread that projects (piscina, one). A task that throws or whose thread dies is the projector's to repeat. */
import { Piscina } from 'piscina'
import type { ClickHouseSettings, ProjectResult, ProjectTask, StoreSpec } from '../../workers/protocol.js'

export interface ProjectPoolOptions {
  readonly store: StoreSpec
  readonly clickHouse: ClickHouseSettings
  /** How long erasures may be remembered, milliseconds. */
  readonly leaseMs: number
}

export class ProjectPool {
  readonly #pool: Piscina<ProjectTask, ProjectResult>

  constructor (options: ProjectPoolOptions) {
    this.#pool = new Piscina({
      filename: new URL('../../workers/project.js', import.meta.url).href,
      workerData: options,
      minThreads: 1,
      maxThreads: 1,
      // The projector has one task in flight; the bound is for the day it is wrong.
      maxQueue: 2,
      atomics: 'disabled'
    })
  }

  async project (task: ProjectTask): Promise<ProjectResult> {
    return await this.#pool.run(task)
  }

  /** Ends the thread wherever it is: what it had not finished is projected again at the next start. */
  async close (): Promise<void> {
    await this.#pool.destroy()
  }
}
