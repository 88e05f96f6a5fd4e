/** Jobs as they are answered. */
import type { Job } from '../../store/job-store.js'
import { eraseBodyOf, stepsOf } from '../../transfer/erase-job.js'
import { bodyOf, refusedRows } from '../../transfer/import-job.js'
import { isoTime } from './query-time.js'
import type { Schema } from './schema-check.js'

export const jobSchema: Schema = {
  type: 'object',
  properties: {
    id: { type: 'string' },
    kind: { type: 'string', enum: ['import', 'delete'] },
    state: { type: 'string', enum: ['queued', 'running', 'waiting', 'done', 'failed', 'cancelled'] },
    createdAt: { type: 'string', format: 'date-time' },
    updatedAt: { type: 'string', format: 'date-time' },
    progress: { type: ['number', 'null'], description: '0 to 1.' },
    detail: { type: 'string' },
    import: {
      type: 'object',
      description: 'Of an import: what was read and written, and which rows were refused why, with line numbers of the first; up to 1,000 are kept as dead letters.',
      properties: {
        bytes: { type: 'integer' }, rows: { type: 'integer' }, points: { type: 'integer' }, types: { type: 'object' },
        refusedRows: { type: 'integer' }, refused: { type: 'object' }, samples: { type: 'array', items: { type: 'object' } }, deadLetters: { type: 'integer' }, settings: { type: 'object' }
      }
    },
    delete: {
      type: 'object',
      description: 'Of a deletion: its scope, and how far each part is: waiting, running, done, off.',
      properties: { device: { type: 'string' }, metrics: { type: ['array', 'null'], items: { type: 'string' } }, from: { type: ['string', 'null'] }, to: { type: ['string', 'null'] }, erasedBefore: { type: 'integer' }, steps: { type: 'object' }, buckets: { type: 'integer' }, bucketsLeft: { type: 'integer' } }
    }
  }
}

export function jobView (job: Job): object {
  const { id, kind, state, createdAt, updatedAt, progress, detail } = job
  const common = { id, kind, state, createdAt: isoTime(createdAt), updatedAt: isoTime(updatedAt), progress, detail }
  if (kind === 'import') {
    const body = bodyOf(job)
    const { bytes, rows, points, types, refused, samples, letters, settings } = body
    return { ...common, import: { bytes, rows, points, types, refusedRows: refusedRows(body), refused, samples, deadLetters: letters, settings } }
  }
  const body = eraseBodyOf(job)
  const { device, metrics, fromTs, toTs, stamp, buckets, left, deviceDeleted } = body
  const time = (us: number | null): string | null => us === null ? null : isoTime(us)
  return { ...common, delete: { device, deviceDeleted, metrics, from: time(fromTs), to: time(toTs), erasedBefore: stamp, steps: stepsOf(body), buckets, bucketsLeft: left } }
}
