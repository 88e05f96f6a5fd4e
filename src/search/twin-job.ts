/** What a job of kind `twins` holds, and how outcomes add up in it. Pure. */
import type { Job } from '../store/job-store.js'
import type { Actor, ChangeOutcome, JsonObject } from '../twin/twin-model.js'

/** What was asked, in a document beside the job: it may be larger than a job's row. */
export interface TwinJobRequest {
  /** One of the two. Devices: sorted, each once. */
  readonly filter: string | null
  readonly devices: readonly string[] | null
  readonly patch: { readonly desired?: JsonObject, readonly tags?: Readonly<Record<string, string | null>> }
  /** Must hold for the twin when it is changed, atomically with the change. */
  readonly condition: string | null
  readonly reason: string
  readonly actor: Actor
}

export interface TwinJobBody {
  /** The device that was done last, in order of id; '' before the first. */
  readonly after: string
  /** Devices that were chosen when it began; null: not counted yet. */
  readonly total: number | null
  readonly done: number
  readonly changed: number
  readonly unchanged: number
  /** The condition did not hold. */
  readonly notMet: number
  readonly refused: number
  /** Deleted since, or never there. */
  readonly missing: number
  readonly errors: readonly { readonly device: string, readonly code: string, readonly detail: string }[]
  /** For people and lists: the filter, or how many devices were named. */
  readonly choice: string
  readonly reason: string
}

const errorsMax = 20
const detailCharsMax = 200
const choiceCharsMax = 2000

export const devicesPerJobMax = 1000
export const openTwinJobsPerTenantMax = 5

export function newTwinJob ({ filter, devices, reason }: TwinJobRequest): TwinJobBody {
  const choice = filter ?? `${devices?.length ?? 0} devices by name`
  return { after: '', total: devices?.length ?? null, done: 0, changed: 0, unchanged: 0, notMet: 0, refused: 0, missing: 0, errors: [], choice: choice.slice(0, choiceCharsMax), reason }
}

export function twinJobOf (job: Job): TwinJobBody { return job.body as unknown as TwinJobBody }

/** After devices in order; of the first that failed it keeps why. */
export function afterDevices (body: TwinJobBody, outcomes: readonly { readonly device: string, readonly outcome: ChangeOutcome }[]): TwinJobBody {
  let { changed, unchanged, notMet, refused, missing } = body
  const errors = [...body.errors]
  for (const { device, outcome } of outcomes) {
    switch (outcome.kind) {
      case 'changed': changed++; break
      case 'unchanged': unchanged++; break
      case 'precondition_failed': notMet++; break
      case 'refused':
        if (outcome.code === 'not_found') missing++
        else refused++
        if (errors.length < errorsMax) errors.push({ device, code: outcome.code, detail: outcome.detail.slice(0, detailCharsMax) })
    }
  }
  return { ...body, after: outcomes.at(-1)?.device ?? body.after, done: body.done + outcomes.length, changed, unchanged, notMet, refused, missing, errors }
}

export function progressOf ({ total, done }: TwinJobBody): number | null {
  return total === null ? null : total === 0 ? 1 : Math.min(1, done / total)
}

export function twinJobDetail ({ done, total, changed, refused, notMet, missing }: TwinJobBody): string {
  const parts = [`${done}${total === null ? '' : ` of ${Math.max(total, done)}`} devices`, `${changed} changed`]
  if (notMet > 0) parts.push(`${notMet} did not meet the condition`)
  if (refused > 0) parts.push(`${refused} refused`)
  if (missing > 0) parts.push(`${missing} gone`)
  return parts.join(', ')
}

export function twinJobView (job: Job): object {
  const { total, done, changed, unchanged, notMet, refused, missing, errors, choice, reason } = twinJobOf(job)
  return { twins: { choice, reason, total, done, changed, unchanged, conditionNotMet: notMet, refused, missing, errors } }
}
