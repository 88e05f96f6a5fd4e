/** Jobs as they are answered (src/transfer/job-view.ts). */
import type { Schema } from './schema-check.js'

export const jobSchema: Schema = {
  type: 'object',
  properties: {
    id: { type: 'string' },
    kind: { type: 'string', enum: ['import', 'delete', 'twins'] },
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
    twins: {
      type: 'object',
      description: 'Of a bulk change of twins: how many devices were chosen, and what became of them; why of the first 20 that were refused or gone.',
      properties: {
        choice: { type: 'string' }, reason: { type: 'string' }, total: { type: ['integer', 'null'] }, done: { type: 'integer' }, changed: { type: 'integer' }, unchanged: { type: 'integer' }, conditionNotMet: { type: 'integer' },
        refused: { type: 'integer' }, missing: { type: 'integer' }, errors: { type: 'array', items: { type: 'object' } }
      }
    },
    delete: {
      type: 'object',
      description: 'Of a deletion: its scope, and how far each part is: waiting, running, done, off.',
      properties: { device: { type: 'string' }, metrics: { type: ['array', 'null'], items: { type: 'string' } }, from: { type: ['string', 'null'] }, to: { type: ['string', 'null'] }, erasedBefore: { type: 'integer' }, steps: { type: 'object' }, buckets: { type: 'integer' }, bucketsLeft: { type: 'integer' } }
    }
  }
}
