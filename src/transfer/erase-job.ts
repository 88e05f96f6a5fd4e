/** What a job of kind `delete` holds. Pure. */
import type { Job } from '../store/job-store.js'
import type { ErasedPart, Erasure } from '../store/small-stores.js'

export type EraseStepState = 'waiting' | 'running' | 'done' | 'off'

export interface EraseBody {
  readonly device: string
  /** null: all. */
  readonly metrics: readonly string[] | null
  /** µs, [fromTs, toTs); null: no limit. */
  readonly fromTs: number | null
  readonly toTs: number | null
  /** Points with a lower accept stamp are erased. */
  readonly stamp: number
  /** The device itself was deleted. */
  readonly deviceDeleted: boolean
  /** Journals that may hold such points unpacked, and those that are known to hold none. */
  readonly journals: readonly string[]
  readonly passed: readonly string[]
  /** Stamp of the seal requests; 0: not made yet. */
  readonly requested: number
  /** The requests were made after all journals had passed: what they seal is the end of it. */
  readonly requestedLast: boolean
  readonly buckets: number
  readonly left: number
  readonly analytics: EraseStepState
}

/** A metric each has an erasure of its own. */
export function erasuresOf (tenant: string, { device, metrics, fromTs, toTs, stamp }: Pick<EraseBody, 'device' | 'metrics' | 'fromTs' | 'toTs' | 'stamp'>): Erasure[] {
  const part: ErasedPart = { stamp, ...(fromTs === null ? {} : { fromTs }), ...(toTs === null ? {} : { toTs }) }
  return (metrics ?? [null]).map(metric => ({ tenant, device, ...part, ...(metric === null ? {} : { metric }) }))
}

export function isWholeDevice ({ metrics, fromTs, toTs }: Pick<EraseBody, 'metrics' | 'fromTs' | 'toTs'>): boolean {
  return metrics === null && fromTs === null && toTs === null
}

export function eraseBodyOf (job: Job): EraseBody {
  return job.body as unknown as EraseBody
}

/** Seals have rewritten every touched bucket, of what was there when the last journal had passed. */
export function isSealed (body: EraseBody): boolean {
  return body.requestedLast && body.left === 0
}

export interface EraseSteps {
  readonly raw: EraseStepState
  readonly tiers: EraseStepState
  readonly analytics: EraseStepState
  readonly journal: EraseStepState
}

export function stepsOf (body: EraseBody): EraseSteps {
  const sealed: EraseStepState = isSealed(body) ? 'done' : body.requested === 0 ? 'waiting' : 'running'
  return { raw: sealed, tiers: sealed, analytics: body.analytics, journal: body.passed.length === body.journals.length ? 'done' : 'waiting' }
}

export function detailOf (body: EraseBody): string {
  const { raw, analytics, journal } = stepsOf(body)
  const open: string[] = []
  if (journal !== 'done') open.push(`in the journal until ${body.journals.filter(id => !body.passed.includes(id)).length} of ${body.journals.length} journals have passed ${body.stamp}`)
  if (raw !== 'done') open.push(body.requested === 0 ? 'buckets are not asked for yet' : `${body.left} of ${body.buckets} buckets are still to be sealed`)
  if (analytics === 'waiting') open.push('analytics still has them')
  return open.length === 0 ? 'gone from raw, tiers and analytics; answers had not shown them since the request. Dead letters of the device stay until they expire or are deleted' : `no answer shows them any more; ${open.join('; ')}`
}
