/** The servers of the installation, for platform admins: who lives, on which journal, and how right their clocks are. */
import type { FastifyInstance } from 'fastify'
import { authorizeHook } from './authorize.js'
import type { EdgeContext } from './edge-context.js'
import { isoTime } from './query-time.js'
import { routeDocs } from './route-docs.js'
import type { Schema } from './schema-check.js'

/** What the edge is told of a node. */
export interface NodeListing {
  list(): readonly {
    readonly name: string
    readonly journalId: string
    readonly state: string
    readonly lastSeenUs: number
    readonly clockOffsetMs: number | null
    readonly stampAheadMs: number
    readonly startedAtUs: number
    readonly self: boolean
  }[]
}

const nodeSchema: Schema = {
  type: 'object',
  properties: {
    name: { type: 'string' },
    journal: { type: 'string', description: 'Id of its journal, 16 hex digits.' },
    state: { type: 'string', enum: ['live', 'clock-off', 'gone'], description: 'clock-off: it runs, but its clock is further off than allowed, and it is not ready. gone: silent for longer than the lease of 5 seconds.' },
    lastSeen: { type: 'string', format: 'date-time', description: 'By its own clock.' },
    clockOffsetMs: { type: ['number', 'null'], description: 'Its clock minus the cluster\'s (Redis TIME); null where it was never measured.' },
    stampAheadMs: { type: 'number', description: 'How far its accept stamps run ahead of its own clock.' },
    startedAt: { type: 'string', format: 'date-time' },
    self: { type: 'boolean', description: 'The node that answers.' }
  }
}

/** Rounded to a microsecond. */
const milliseconds = (value: number): number => Math.round(value * 1000) / 1000

export function nodeRoutes (context: EdgeContext) {
  return async (app: FastifyInstance): Promise<void> => {
    app.get('/nodes', {
      ...routeDocs({
        summary: 'List the nodes of the installation',
        description: 'As of the last beat that this node exchanged with the others; beats are a second apart. One node with embedded storage has no others, and the list is empty.',
        tag: 'system',
        answers: { 200: { description: 'All nodes heard of within a day, in order of name.', schema: { type: 'object', properties: { nodes: { type: 'array', items: nodeSchema } } } } }
      }),
      onRequest: authorizeHook(context, [], 'platform')
    }, () => {
      const nodes = context.options.nodes?.list() ?? []
      return {
        nodes: nodes.map(({ name, journalId, state, lastSeenUs, clockOffsetMs, stampAheadMs, startedAtUs, self }) => ({
          name,
          journal: journalId,
          state,
          lastSeen: isoTime(lastSeenUs),
          clockOffsetMs: clockOffsetMs === null ? null : milliseconds(clockOffsetMs),
          stampAheadMs: milliseconds(stampAheadMs),
          startedAt: isoTime(startedAtUs),
          self
        }))
      }
    })
  }
}
