/** Jobs as they are answered. */
import type { Job } from '../store/job-store.js'
import { eraseBodyOf, stepsOf } from './erase-job.js'
import { bodyOf, refusedRows } from './import-job.js'
import { isoOf } from './text-writers.js'

/** @param more what kinds of other parts show of theirs */
export function jobView (job: Job, more: (job: Job) => object | null = () => null): object {
  const { id, kind, state, createdAt, updatedAt, progress, detail } = job
  const common = { id, kind, state, createdAt: isoOf(createdAt), updatedAt: isoOf(updatedAt), progress, detail }
  if (kind === 'import') {
    const body = bodyOf(job)
    const { bytes, rows, points, types, refused, samples, letters, settings } = body
    return { ...common, import: { bytes, rows, points, types, refusedRows: refusedRows(body), refused, samples, deadLetters: letters, settings } }
  }
  const other = more(job)
  if (other !== null) return { ...common, ...other }
  if (kind !== 'delete') return common
  const body = eraseBodyOf(job)
  const { device, metrics, fromTs, toTs, stamp, buckets, left, deviceDeleted } = body
  const time = (us: number | null): string | null => us === null ? null : isoOf(us)
  return { ...common, delete: { device, deviceDeleted, metrics, from: time(fromTs), to: time(toTs), erasedBefore: stamp, steps: stepsOf(body), buckets, bucketsLeft: left } }
}
