/**
 * Runs the jobs of all tenants that this node may run: finds open ones in the store, so that what a restart or another node left is
 * taken up, and hands each to the part that knows its kind. Several may run side by side, one of each job.
 */
import type { Clock } from '../core/clock.js'
import type { Log } from '../core/log.js'
import { isOpen, jobsKeptMax, type Job, type JobKind, type JobStore } from '../store/job-store.js'

export interface JobHandler {
  /** Whether this node may run it now; asked at every look. */
  mayRun(job: Job): Promise<boolean>
  /** Brings the job forward, and returns when it is finished, has to wait for the next look, or `signal` says so. Writes the job itself. */
  run(job: Job, signal: AbortSignal): Promise<void>
}

export interface JobRunnerOptions {
  readonly store: JobStore
  /** Looked at anew each time: kinds may be added. A job of a kind without one waits. */
  readonly handlers: Readonly<Partial<Record<JobKind, JobHandler>>>
  readonly clock: Clock
  readonly log: Log
  /** Between two looks. Default 1,000. */
  readonly intervalMs?: number
}

export class JobRunner {
  readonly #options: JobRunnerOptions
  readonly #running = new Map<string, Promise<void>>()
  readonly #stop = new AbortController()
  #timer: NodeJS.Timeout | null = null
  #looking: Promise<void> | null = null
  readonly stats = { looks: 0, failures: 0, running: 0 }

  constructor (options: JobRunnerOptions) {
    this.#options = options
  }

  open (): void {
    this.#timer = setInterval(() => { this.look() }, this.#options.intervalMs ?? 1000)
    this.look()
  }

  /** Waits for what runs to come to a place where it can go on later. */
  async close (): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer)
    this.#stop.abort()
    await this.#looking
    await Promise.allSettled(this.#running.values())
  }

  /** Looks for work now: something was asked for. */
  look (): void {
    if (this.#stop.signal.aborted) return
    this.#looking ??= this.#look().finally(() => { this.#looking = null })
  }

  async #look (): Promise<void> {
    const { store, handlers, log } = this.#options
    this.stats.looks++
    try {
      for await (const job of store.listOpenJobs()) {
        if (this.#stop.signal.aborted) return
        const key = `${job.tenant}\0${job.id}`
        if (this.#running.has(key) || await handlers[job.kind]?.mayRun(job) !== true) continue
        this.#running.set(key, this.#run(job).finally(() => {
          this.#running.delete(key)
          this.stats.running = this.#running.size
        }))
        this.stats.running = this.#running.size
      }
    } catch (error) {
      this.stats.failures++
      log.debug({ error: (error as Error).message }, 'open jobs cannot be listed now')
    }
  }

  async #run (job: Job): Promise<void> {
    const { handlers, log, store } = this.#options
    try {
      await handlers[job.kind]?.run(job, this.#stop.signal)
      const now = await store.getJob(job.tenant, job.id)
      if (now !== null && !isOpen(now.state)) await this.#trim(job.tenant)
    } catch (error) {
      this.stats.failures++
      log.warn({ tenant: job.tenant, job: job.id, error: (error as Error).message }, 'a job waits; it is tried again')
    }
  }

  /** Finished jobs beyond the bound go, the oldest first. */
  async #trim (tenant: string): Promise<void> {
    const { store } = this.#options
    let cursor: string | null = null
    let kept = 0
    do {
      const page = await store.listJobs(tenant, cursor, 100)
      for (const job of page.items) {
        if (isOpen(job.state)) continue
        if (++kept > jobsKeptMax) await store.deleteJob(tenant, job.id)
      }
      cursor = page.next
    } while (cursor !== null)
  }
}
