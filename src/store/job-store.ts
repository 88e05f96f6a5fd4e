/** Port: long work that a tenant asked for and can follow: imports, deletions. Durable; survives a restart of the server. */
import type { Page } from './registry.js'

export type JobKind = 'import' | 'delete' | 'twins'
/** `waiting`: for another node or a dependency; it goes on by itself. */
export type JobState = 'queued' | 'running' | 'waiting' | 'done' | 'failed' | 'cancelled'

export interface Job {
  readonly tenant: string
  /** Sorts by creation. */
  readonly id: string
  readonly kind: JobKind
  readonly state: JobState
  /** µs */
  readonly createdAt: number
  readonly updatedAt: number
  /** 0 to 1; null where it cannot be said. */
  readonly progress: number | null
  /** For people: what it does now, or why it failed. */
  readonly detail: string
  /** What was asked, what is done: JSON of the kind's own shape, 16 KiB at most. */
  readonly body: Readonly<Record<string, unknown>>
}

/** Finished jobs of a tenant that are kept; the oldest go first. */
export const jobsKeptMax = 500
/** JSON of a job's body. */
export const jobBodyBytesMax = 16 * 1024

export interface JobStore {
  putJob(job: Job): Promise<void>
  getJob(tenant: string, id: string): Promise<Job | null>
  /** Newest first. */
  listJobs(tenant: string, cursor: string | null, limit: number): Promise<Page<Job>>
  /** Jobs of all tenants that are not done, failed or cancelled. */
  listOpenJobs(): AsyncIterable<Job>
  /** Asks whoever runs the job to stop it, on whatever node; durable, and not undone by `putJob`. */
  cancelJob(tenant: string, id: string): Promise<void>
  isJobCancelled(tenant: string, id: string): Promise<boolean>
  deleteJob(tenant: string, id: string): Promise<void>
}

export function isOpen (state: JobState): boolean {
  return state === 'queued' || state === 'running' || state === 'waiting'
}
